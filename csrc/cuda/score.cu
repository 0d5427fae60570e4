// softmax_score: the kernel for hard targets (score.cuh) and the one for soft targets and label
// smoothing (dense.cuh).
#include "score.cuh"

#include <algorithm>

#include "dense.cuh"
#include "launch.cuh"

namespace isample::cuda {

// A row keeps its lanes whatever the batch, so its score does not depend on its neighbours. Fewer
// lanes mean fewer merges, more lanes mean that a row is not a long wait; a lane should have four
// vectors or more.
RowShape row_shape(const ScoreTask& task, const Launcher& launcher) {
  const int64_t width = task.type == LogitType::float64   ? 2
                        : task.type == LogitType::float32 ? 4
                                                          : 8;
  const int64_t vectors = ceil_div(task.classes, width);
  RowShape shape = {8, 1, task.classes};
  if (vectors <= 32) shape.lane_bits = 3;
  else if (vectors <= 64) shape.lane_bits = 4;
  else if (vectors <= 256) shape.lane_bits = 5;
  else if (vectors <= 1024) shape.lane_bits = 6;
  else if (vectors <= 2048) shape.lane_bits = 7;
  if (shape.lane_bits < 8 || !has_hard_targets(task)) return shape;

  // Too few rows to fill the chip: split them, into parts of at least one step of a block. And a
  // lane adds at most 2^9 chunks, so that the rounding of a very long sum stays below that of an
  // exp.
  constexpr int64_t kStep = 4 * kScoreThreads, kLongest = kStep << 9;
  const int64_t wanted = std::max(4 * launcher.multiprocessors / std::max<int64_t>(task.rows, 1),
                                  ceil_div(vectors, kLongest));
  const int64_t parts = std::max<int64_t>(1, std::min(wanted, vectors / kStep));
  shape.part_size = ceil_div(ceil_div(vectors, parts), kScoreThreads) * kScoreThreads * width;
  shape.parts = static_cast<int>(ceil_div(task.classes, shape.part_size));
  return shape;
}

size_t partials_bytes(const ScoreTask& task, const Launcher& launcher) {
  const RowShape shape = row_shape(task, launcher);
  const size_t triple =
      task.type == LogitType::float64 ? sizeof(TripleOf<double>) : sizeof(TripleOf<float>);
  return shape.parts == 1
             ? 0
             : triple * static_cast<size_t>(task.rows) * static_cast<size_t>(shape.parts);
}

template <class T>
__global__ void __launch_bounds__(kScoreThreads, kScoreBlocks)
    softmax_score_kernel(ScoreTask task, RowShape shape, int slot) {
  score_rows<T>(task, shape);
  if (shape.parts > 1 && is_last_block(slot)) finish_split_rows<T>(task, shape);
}

template <class T>
__global__ void __launch_bounds__(kScoreThreads, kGradientBlocks<T>)
    dense_score_kernel(ScoreTask task, RowShape shape) {
  dense_score_rows<T>(task, shape, NoGradient());
}

cudaError_t launch_softmax_score(const ScoreTask& task, const Launcher& launcher) {
  if (task.rows == 0) return cudaSuccess;
  const RowShape shape = row_shape(task, launcher);
  const Shape launch_shape = {row_grid(task, shape), kScoreThreads, kScratchBytes};
  return with_logit_type(task.type, [&](auto element) {
    using T = decltype(element);
    if (has_hard_targets(task))
      return launch(softmax_score_kernel<T>, launch_shape, launcher.stream, task, shape,
                    launcher.slot);
    return launch(dense_score_kernel<T>, launch_shape, launcher.stream, task, shape);
  });
}

}  // namespace isample::cuda
