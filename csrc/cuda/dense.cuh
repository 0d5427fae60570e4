// softmax_score for soft targets and label smoothing, where every class has a target mass: two
// passes over a row, of which the second finds it in a cache for all but the longest rows.
//
// Bytes: logits and soft targets once from memory, once more from a cache. Operations: two exps an
// element.
#pragma once

#include "score.cuh"

namespace isample::cuda {

// What a lane needs to know of the masses a_k of its row.
template <class V> struct TargetRow {
  const V* soft;    // or null: all of q is at `label`
  const V* weight;  // or null
  int64_t label;
  V one_minus_smoothing, smoothing_per_class;

  __device__ __forceinline__ V mass(int64_t column) const {
    const V q = soft != nullptr ? soft[column] : static_cast<V>(column == label ? 1 : 0);
    return target_mass<V>(weight != nullptr ? weight[column] : V{1}, q, one_minus_smoothing,
                          smoothing_per_class);
  }
};

// Combines over all lanes of a row, which may span warps. Every lane receives the result.
template <class T, class Op>
__device__ __forceinline__ T row_reduce(T value, int lanes, const Op& op) {
  const int slice = lanes < kWarp ? lanes : kWarp;
  for (int apart = slice / 2; apart > 0; apart /= 2) value = op(value, shuffle_xor(value, apart));
  if (lanes <= kWarp) return value;
  T* const scratch = reinterpret_cast<T*>(shared_memory());
  if (lane_index() == 0) scratch[warp_index()] = value;
  __syncthreads();
  const int slices = lanes / kWarp, first = warp_index() / slices * slices;
  value = scratch[first];
  for (int i = 1; i < slices; ++i) value = op(value, scratch[first + i]);
  __syncthreads();  // the scratch is free again
  return value;
}

template <class T> struct MassedTriple {
  TripleOf<T> triple;
  ValueOf<T> mass;
};

// Classes `lane`, `lane + lanes`, ... of a row.
template <class T>
__device__ __forceinline__ MassedTriple<T> dense_triple(const T* logits, int64_t classes, int lane,
                                                        int lanes,
                                                        const TargetRow<ValueOf<T>>& targets) {
  using V = ValueOf<T>;
  constexpr int kChunk = 4;
  MassedTriple<T> result = {empty_triple<V>(), V{0}};
  for (int64_t first = lane; first < classes; first += kChunk * lanes) {
    V chunk[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const int64_t column = first + i * lanes;
      chunk[i] = column < classes ? widen(logits[column]) : minus_infinity<V>();
      result.mass += column < classes ? targets.mass(column) : V{0};
    }
    add_chunk<MathOf<T>>(result.triple, chunk);
  }
  return result;
}

// Of a score whose gradient nobody wants.
struct NoGradient {
  __device__ __forceinline__ NoGradient operator()(int64_t) const { return {}; }
  template <class V> __device__ __forceinline__ void store(int64_t, V) const {}
};

// What a row came to, in its first lane; zeros in the others. `gradient` gives a row to write
// every element to: 0 where a row is ignored, NaN where its label is out of range.
template <class T, class Gradient>
__device__ __forceinline__ ScoreLoss dense_score_rows(const ScoreTask& task, const RowShape& shape,
                                                      const Gradient& gradient) {
  using V = ValueOf<T>;
  using Math = MathOf<T>;
  const int lanes = shape.lanes(), lane = static_cast<int>(threadIdx.x) & (lanes - 1);
  const int64_t row =
      static_cast<int64_t>(blockIdx.x) * shape.rows_per_block() + (threadIdx.x >> shape.lane_bits);
  const bool exists = row < task.rows;
  const int64_t label = exists && task.labels != nullptr ? task.labels[row] : 0;
  const bool ignored = task.labels != nullptr && label == task.ignore_index;
  const bool wrong = !ignored && (label < 0 || label >= task.classes);
  const int64_t classes = exists && !ignored && !wrong ? task.classes : 0;
  const T* const logits = static_cast<const T*>(task.logits) + (exists ? row : 0) * task.row_stride;
  const V* const soft = static_cast<const V*>(task.soft);
  const TargetRow<V> targets = {soft == nullptr ? nullptr : soft + row * task.classes,
                                static_cast<const V*>(task.weight), label,
                                static_cast<V>(1.0 - task.smoothing),
                                static_cast<V>(task.smoothing / static_cast<double>(task.classes))};

  const MassedTriple<T> whole =
      row_reduce(dense_triple<T>(logits, classes, lane, lanes, targets), lanes,
                 [](const MassedTriple<T>& a, const MassedTriple<T>& b) {
                   return MassedTriple<T>{merge<Math>(a.triple, b.triple), a.mass + b.mass};
                 });
  DenseSums<V> sums = {V{0}, V{0}};
  const V scale = whole.mass / whole.triple.sum;
  const auto gradient_row = gradient(exists ? row : 0);
  constexpr int kChunk = 4;  // loads in flight: none passes a store
  for (int64_t first = lane; first < classes; first += kChunk * lanes) {
    V of_logit[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const int64_t column = first + i * lanes;
      if (column >= classes) break;
      of_logit[i] = add_dense<Math>(sums, static_cast<V>(widen(logits[column])),
                                    targets.mass(column), whole.triple.max, scale);
    }
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const int64_t column = first + i * lanes;
      if (column < classes) gradient_row.store(column, of_logit[i]);
    }
  }
  for (int64_t column = lane; exists && classes == 0 && column < task.classes; column += lanes)
    gradient_row.store(column, ignored ? V{0} : static_cast<V>(NAN));
  sums = row_reduce(sums, lanes, [](const DenseSums<V>& a, const DenseSums<V>& b) {
    return DenseSums<V>{a.gradient_sq + b.gradient_sq, a.loss + b.loss};
  });

  ScoreLoss result = {0.f, 0.f};
  if (lane != 0 || !exists) return result;
  if (wrong) result = {NAN, NAN};
  else if (!ignored) result = finish_dense_target<V>(sums, whole.triple.sum, whole.mass);
  task.score[row] = result.score;
  task.loss[row] = result.loss;
  return result;
}

}  // namespace isample::cuda
