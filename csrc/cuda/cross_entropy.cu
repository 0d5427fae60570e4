// The mean of a batch's weighted losses, its scores and its gradient, in one launch: a row's
// probabilities are at hand when its sum is, so the gradient is written by the threads that have
// just read the row.
//
// Bytes: the logits read twice, of which the second time from a cache (a block's rows are at most
// some 100 KB, and a multiprocessor has few blocks), and the gradient written, past the caches.
// Operations: two exps an element.
#include <algorithm>

#include "dense.cuh"
#include "launch.cuh"

namespace isample::cuda {

// Few rows are not split over blocks here: what is saved in reading them would be lost in waiting.
static RowShape whole_rows(const ScoreTask& rows, const Launcher& launcher) {
  RowShape shape = row_shape(rows, launcher);
  shape.parts = 1;
  shape.part_size = rows.classes;
  return shape;
}

__device__ __forceinline__ double row_weight(const CrossEntropyTask& task, int64_t row) {
  return task.weights == nullptr ? 1.0 : static_cast<double>(task.weights[row]);
}

// Writes w_i / B times what it is given to a row of the gradient.
template <class T> struct GradientRow {
  ValueOf<T>* row;  // or null
  ValueOf<T> share;

  __device__ __forceinline__ void store(int64_t column, ValueOf<T> value) const {
    if (row != nullptr) __stcs(row + column, share * value);
  }
};

template <class T> struct Gradient {
  const CrossEntropyTask& task;

  __device__ __forceinline__ GradientRow<T> operator()(int64_t row) const {
    if (task.gradient == nullptr) return {nullptr, 0};
    const double share = row_weight(task, row) / static_cast<double>(task.rows.rows);
    return {static_cast<ValueOf<T>*>(task.gradient) + row * task.rows.classes,
            static_cast<ValueOf<T>>(share)};
  }
};

// The gradient of a row with one target: e^(z_k - max) times `scale`, but for the target's own,
// where 1 - p would lose its digits near 1 and the others' sum does not.
template <class V> struct HardRow {
  V max, scale, of_target;
};

template <class T>
__device__ __forceinline__ HardRow<ValueOf<T>> hard_row(const CrossEntropyTask& task, int64_t row,
                                                        const TripleOf<T>& others) {
  using V = ValueOf<T>;
  using Math = MathOf<T>;
  const ScoreTask& rows = task.rows;
  const int64_t label = rows.labels[row];
  if (label == rows.ignore_index) return {V{0}, V{0}, V{0}};
  if (label < 0 || label >= rows.classes) return {V{0}, static_cast<V>(NAN), static_cast<V>(NAN)};
  const V target = widen(static_cast<const T*>(rows.logits)[row * rows.row_stride + label]);
  const V weight = rows.weight == nullptr ? V{1} : static_cast<const V*>(rows.weight)[label];
  const double share = row_weight(task, row) / static_cast<double>(rows.rows);
  const V factor = static_cast<V>(share * static_cast<double>(weight));
  const V max = Math::max(others.max, target);
  const V theirs = others.sum * Math::exp(others.max - max);
  const V scale = factor / (theirs + Math::exp(target - max));
  return {max, scale, -theirs * scale};
}

// Shared memory: the scratch, then a HardRow for each row of the block.
constexpr size_t kHardRowBytes = sizeof(HardRow<double>) * (kScoreThreads / 8);

template <class T>
__device__ __forceinline__ void store_hard_gradient(const CrossEntropyTask& task,
                                                    const RowShape& shape,
                                                    const HardRow<ValueOf<T>>* hard_rows) {
  using V = ValueOf<T>;
  const int lanes = shape.lanes(), place = static_cast<int>(threadIdx.x) >> shape.lane_bits;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * shape.rows_per_block() + place;
  if (row >= task.rows.rows) return;
  const HardRow<V> hard = hard_rows[place];
  const int64_t label = task.rows.labels[row], classes = task.rows.classes;
  const bool ignored = label == task.rows.ignore_index;
  const T* const logits = static_cast<const T*>(task.rows.logits) + row * task.rows.row_stride;
  V* const gradient = static_cast<V*>(task.gradient) + row * classes;
  constexpr int kLoads = sizeof(T) == 2 ? 8 : 4;  // in flight: no load passes a store
  const int lane = static_cast<int>(threadIdx.x) & (lanes - 1);
  for (int64_t first = lane; first < classes; first += kLoads * lanes) {
    T loaded[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int64_t k = first + i * lanes;
      if (k < classes) loaded[i] = logits[k];
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int64_t k = first + i * lanes;
      if (k >= classes) break;
      const V others = ignored ? V{0} : MathOf<T>::exp(widen(loaded[i]) - hard.max) * hard.scale;
      __stcs(gradient + k, k == label ? hard.of_target : others);
    }
  }
}

// What a row that ended as `loss` adds to the sums.
template <class V>
__device__ __forceinline__ MeanSums row_sums(const CrossEntropyTask& task, int64_t row,
                                             float loss) {
  const ScoreTask& rows = task.rows;
  MeanSums sums = {row_weight(task, row) * static_cast<double>(loss), 1.0};
  if (rows.labels == nullptr) return sums;
  const int64_t label = rows.labels[row];
  const bool counts = label != rows.ignore_index && label >= 0 && label < rows.classes;
  if (!counts) sums.count = 0.0;
  else if (rows.weight != nullptr)
    sums.count = static_cast<double>(static_cast<const V*>(rows.weight)[label]);
  return sums;
}

// By the last block, in the order of the blocks.
__device__ __forceinline__ void store_mean(const CrossEntropyTask& task, const MeanSums& own,
                                           int slot) {
  const MeanSums of_block = block_sum(own);
  if (threadIdx.x == 0) task.partials[blockIdx.x] = of_block;
  if (!is_last_block(slot)) return;
  MeanSums sums;
  for (int64_t i = threadIdx.x; i < gridDim.x; i += blockDim.x)
    sums.add(load_fresh(task.partials + i));
  sums = block_sum(sums);
  if (threadIdx.x != 0) return;
  double mean = sums.mean(task.rows.rows);
  if (task.ratio != nullptr) {
    *task.count = sums.count;
    *task.ratio = sums.ratio(task.rows.rows);
    mean *= *task.ratio;
  }
  *task.mean = static_cast<float>(mean);
}

template <class T>
__global__ void __launch_bounds__(kScoreThreads, kGradientBlocks<T>)
    cross_entropy_kernel(CrossEntropyTask task, RowShape shape, int slot) {
  auto* const hard_rows = reinterpret_cast<HardRow<ValueOf<T>>*>(shared_memory() + kScratchBytes);
  const TripleOf<T> triple = row_triple<T>(task.rows, shape);
  const int64_t row = own_row(task.rows, shape);
  MeanSums sums;
  if (row < task.rows.rows) {
    sums = row_sums<ValueOf<T>>(task, row, finish_row<T>(task.rows, row, triple).loss);
    hard_rows[threadIdx.x] = hard_row<T>(task, row, triple);
  }
  __syncthreads();  // all triples have been read, and all rows of the gradient may begin
  if (task.gradient != nullptr) store_hard_gradient<T>(task, shape, hard_rows);
  store_mean(task, sums, slot);
}

template <class T>
__global__ void __launch_bounds__(kScoreThreads, kGradientBlocks<T>)
    dense_cross_entropy_kernel(CrossEntropyTask task, RowShape shape, int slot) {
  const ScoreLoss ended = dense_score_rows<T>(task.rows, shape, Gradient<T>{task});
  const int64_t row =
      static_cast<int64_t>(blockIdx.x) * shape.rows_per_block() + (threadIdx.x >> shape.lane_bits);
  const bool ends_row = (static_cast<int>(threadIdx.x) & (shape.lanes() - 1)) == 0;
  MeanSums sums;
  if (ends_row && row < task.rows.rows) sums = row_sums<ValueOf<T>>(task, row, ended.loss);
  store_mean(task, sums, slot);
}

static dim3 grid_of(const ScoreTask& rows, const RowShape& shape) {
  const dim3 grid = row_grid(rows, shape);
  return dim3(std::max(grid.x, 1u));  // of no rows a block tells the mean
}

size_t cross_entropy_partials(const ScoreTask& rows, const Launcher& launcher) {
  return grid_of(rows, whole_rows(rows, launcher)).x;
}

cudaError_t launch_cross_entropy(const CrossEntropyTask& task, const Launcher& launcher) {
  const RowShape rows = whole_rows(task.rows, launcher);
  const Shape shape = {grid_of(task.rows, rows), kScoreThreads, kScratchBytes + kHardRowBytes};
  return with_logit_type(task.rows.type, [&](auto element) {
    using T = decltype(element);
    const auto kernel =
        has_hard_targets(task.rows) ? &cross_entropy_kernel<T> : &dense_cross_entropy_kernel<T>;
    return launch(kernel, shape, launcher.stream, task, rows, launcher.slot);
  });
}

}  // namespace isample::cuda
