// importance_sample: logits to draws and weights. For a presample of usual size in one launch: all
// blocks score their rows, and the last one to finish, which sees all scores, samples from them.
//
// Bytes: those of softmax_score (score.cuh), 4 bytes a row read again from L2, 12 bytes a draw. The
// one block that samples takes some ten barriers and 12 to 36 steps of search a draw in shared
// memory: a few us, the same for any number of classes.
#include "launch.cuh"
#include "sampler.cuh"
#include "score.cuh"

namespace isample::cuda {

template <class T>
__global__ void __launch_bounds__(kScoreThreads, kScoreBlocks)
    importance_sample_kernel(ScoreTask score, RowShape shape, DistributionTask task, DrawTask draw,
                             int slot) {
  score_rows<T>(score, shape);
  if (!is_last_block(slot)) return;
  // No barrier between the two: a thread reads back only the scores that it has stored itself (row
  // i, thread i % 256).
  if (shape.parts > 1) finish_split_rows<T>(score, shape);
  sample_block(task, draw);
}

// Beyond these the shared memory of the sampler, which every block has to hold, would slow the
// reading of the logits.
static bool one_launch(const ScoreTask& score, const DrawTask& draw, const Launcher& launcher) {
  constexpr int64_t kMostRows = 4096, kMostDraws = 4096, kMostBytes = 20 << 20;
  const int64_t element = score.type == LogitType::float64   ? 8
                          : score.type == LogitType::float32 ? 4
                                                             : 2;
  return has_hard_targets(score) && score.rows <= kMostRows && draw.count <= kMostDraws &&
         score.rows * score.classes * element <= kMostBytes && fits_one_block(score.rows, launcher);
}

cudaError_t launch_importance_sample(const ScoreTask& score, const DistributionTask& task,
                                     const DrawTask& draw, void* workspace,
                                     const Launcher& launcher) {
  if (one_launch(score, draw, launcher)) {
    const RowShape rows = row_shape(score, launcher);
    const Shape shape = {row_grid(score, rows), kScoreThreads, BlockItems::bytes(score.rows)};
    return with_logit_type(score.type, [&](auto element) {
      return launch(importance_sample_kernel<decltype(element)>, shape, launcher.stream, score,
                    rows, task, draw, launcher.slot);
    });
  }
  const cudaError_t error = launch_softmax_score(score, launcher);
  return error == cudaSuccess ? launch_draw(task, draw, workspace, launcher, true) : error;
}

}  // namespace isample::cuda
