// softmax_score for hard targets: one read of the logits, nothing written but 8 bytes a row.
//
// Bytes: rows * classes * sizeof(T) read (and 8 for a label, 8 written, a row). Operations: per
// element one ex2, a max, two additions, a product and a fused multiply-add, and for 16-bit logits
// one conversion: about 7 issue slots. At 4.4 TB/s an H200 reads 2.2e12 bfloat16 a second; its ex2
// units give 3.7e12 (60 % busy), its issue slots 4.2e12 elements (52 %). So long rows hit memory,
// float32 with room to spare, and short rows (under some 100 classes) hit the hundred operations
// that end a row; those are done for all rows of a block by neighbouring threads at once.
#pragma once

#include "block.cuh"
#include "row.cuh"

namespace isample::cuda {

constexpr int kScoreThreads = 256;
constexpr int kScoreBlocks =
    3;  // at least so many on a multiprocessor: 80 registers a thread, which none has to spill
// Of kernels with several doubles in flight: 128 registers.
template <class T> constexpr int kGradientBlocks = sizeof(T) == 8 ? 2 : kScoreBlocks;

// How rows lie on threads: 2^lane_bits threads a row, or `parts` blocks a row of which each takes
// `part_size` classes.
struct RowShape {
  int lane_bits;
  int parts;
  int64_t part_size;

  __host__ __device__ int lanes() const { return 1 << lane_bits; }
  __host__ __device__ int rows_per_block() const { return kScoreThreads >> lane_bits; }
};

__device__ __forceinline__ ScoreLoss finish_target(const SoftmaxTriple<float>& others, float target,
                                                   float weight) {
  return finish_hard_target_in_float(others, target, weight);
}
__device__ __forceinline__ ScoreLoss finish_target(const SoftmaxTriple<double>& others,
                                                   double target, double weight) {
  return finish_hard_target(others, target, weight);
}

// Gives what it stores.
template <class T>
__device__ __forceinline__ ScoreLoss finish_row(const ScoreTask& task, int64_t row,
                                                const TripleOf<T>& others) {
  using V = ValueOf<T>;
  const int64_t label = task.labels[row];
  ScoreLoss result = {0.f, 0.f};
  if (label != task.ignore_index) {
    if (label < 0 || label >= task.classes) {
      result = {NAN, NAN};  // shows as tau = NaN; nothing was read through it
    } else {
      const V target = widen(static_cast<const T*>(task.logits)[row * task.row_stride + label]);
      const V weight = task.weight == nullptr ? V{1} : static_cast<const V*>(task.weight)[label];
      result = finish_target(others, target, weight);
    }
  }
  task.score[row] = result.score;
  task.loss[row] = result.loss;
  return result;
}

// Merges over the lanes of a row (at most a warp of them). The first lane has the result.
template <class T>
__device__ __forceinline__ TripleOf<T> merge_lanes(TripleOf<T> triple, int lanes) {
  for (int apart = (lanes < kWarp ? lanes : kWarp) / 2; apart > 0; apart /= 2)
    triple = merge<MathOf<T>>(triple, shuffle_xor(triple, apart));
  return triple;
}

// Each row of this block, or this block's part of it, in the thread of that number:
// rows_per_block() threads. Shared memory: one triple a warp, or one a row where a warp holds
// several.
template <class T>
__device__ __forceinline__ TripleOf<T> row_triple(const ScoreTask& task, const RowShape& shape) {
  static_assert(sizeof(TripleOf<T>) * (kScoreThreads / 8) <= kScratchBytes);
  TripleOf<T>* const triples = reinterpret_cast<TripleOf<T>*>(shared_memory());
  const int lanes = shape.lanes(), thread = static_cast<int>(threadIdx.x);
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * shape.rows_per_block();
  const int64_t row = first_row + (thread >> shape.lane_bits);

  TripleOf<T> triple = empty_triple<ValueOf<T>>();
  if (row < task.rows) {
    const int64_t label = task.labels[row], begin = blockIdx.y * shape.part_size;
    const int64_t size =
        task.classes - begin < shape.part_size ? task.classes - begin : shape.part_size;
    const T* const part = static_cast<const T*>(task.logits) + row * task.row_stride + begin;
    const bool counted = label != task.ignore_index && label >= 0 && label < task.classes;
    triple = RowPart<T>(part, size, label - begin).triple(thread & (lanes - 1), lanes, counted);
  }
  triple = merge_lanes<T>(triple, lanes);
  const int slice = lanes < kWarp ? lanes : kWarp;
  if (thread % slice == 0) triples[thread / slice] = triple;
  __syncthreads();

  if (thread < shape.rows_per_block()) {
    const int slices = lanes / slice;
    triple = triples[thread * slices];
    for (int i = 1; i < slices; ++i)
      triple = merge<MathOf<T>>(triple, triples[thread * slices + i]);
  }
  return triple;
}

// The row that this thread ends, or one past all.
__device__ __forceinline__ int64_t own_row(const ScoreTask& task, const RowShape& shape) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * shape.rows_per_block() + threadIdx.x;
  return static_cast<int>(threadIdx.x) < shape.rows_per_block() && row < task.rows ? row
                                                                                   : task.rows;
}

template <class T>
__device__ __forceinline__ void score_rows(const ScoreTask& task, const RowShape& shape) {
  const TripleOf<T> triple = row_triple<T>(task, shape);
  let_next_launch_begin();  // not sooner: a block that waits keeps a multiprocessor from reading
  const int64_t row = own_row(task, shape);
  if (row == task.rows) return;
  if (shape.parts == 1) finish_row<T>(task, row, triple);
  else static_cast<TripleOf<T>*>(task.partials)[row * shape.parts + blockIdx.y] = triple;
}

// Ends the rows that were split over blocks, in the last block of the launch.
template <class T>
__device__ __forceinline__ void finish_split_rows(const ScoreTask& task, const RowShape& shape) {
  const TripleOf<T>* const partials = static_cast<const TripleOf<T>*>(task.partials);
  for (int64_t row = threadIdx.x; row < task.rows; row += blockDim.x) {
    TripleOf<T> triple = load_fresh(partials + row * shape.parts);
    for (int i = 1; i < shape.parts; ++i)
      triple = merge<MathOf<T>>(triple, load_fresh(partials + row * shape.parts + i));
    finish_row<T>(task, row, triple);
  }
}

// Host side: the shape for a task, and its grid.
RowShape row_shape(const ScoreTask& task, const Launcher& launcher);
inline dim3 row_grid(const ScoreTask& task, const RowShape& shape) {
  const int64_t blocks = (task.rows + shape.rows_per_block() - 1) / shape.rows_per_block();
  return dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(shape.parts));
}

inline bool has_hard_targets(const ScoreTask& task) {
  return task.labels != nullptr && task.smoothing == 0.0;
}

}  // namespace isample::cuda
