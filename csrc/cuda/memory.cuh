// What one block does with a batch's fresh scores. Its threads are as many as there are octaves.
#pragma once

#include "../core/foretelling.h"
#include "../core/memory.h"
#include "block.cuh"

namespace isample::cuda {

constexpr int kMemoryThreads = kOctaves;

__device__ __forceinline__ bool is_place(int64_t place, int64_t size) {
  return place >= 0 && place < size;
}

// S x^2 / pi for a fraction of the batch, by one warp.
__device__ inline double warp_thinned_squares(const ScoredBatch& batch, const NormSums& norms,
                                              double keep) {
  return thinned_squares(norms, keep, [&](double bound) {
    DividedSums own;
    for (int64_t i = lane_index(); i < batch.size; i += kWarp) own.add(batch.norm(i), bound);
    return warp_reduce(own, Sum());
  });
}

// A warp each for the fractions: their rounds need no barrier. A place outside the memory makes the
// mean NaN.
__device__ inline void block_moments(const ScoredBatch& batch, const Fractions& fractions,
                                     int64_t memory_size, double* numbers) {
  DrawSums draws;
  NormSums norms;
  for (int64_t i = threadIdx.x; i < batch.size; i += blockDim.x) {
    const bool known = batch.places == nullptr || is_place(batch.places[i], memory_size);
    draws.add(known ? batch.score[i] : NAN, batch.weight(i), batch.drawn);
    norms.add(batch.norm(i));
  }
  draws = block_sum(draws);
  norms = block_sum(norms);
  const double size = static_cast<double>(batch.size);
  if (threadIdx.x == 0) {
    draws.store(numbers, batch.size);
    numbers[kDrawNumbers] = norms.squares / size;
  }
  for (int k = warp_index(); k < fractions.count; k += warps_in_block()) {
    const double squares = warp_thinned_squares(batch, norms, fractions.values[k] * size);
    if (lane_index() == 0) numbers[kDrawNumbers + 1 + k] = squares / size;
  }
}

// Where a place comes up twice the last one counts, as on the CPU. Which one that is the memory
// itself holds for a while, as a position in place of the score. `before` is complete in all
// threads afterwards.
__device__ inline void block_remember(const RememberTask& task) {
  int32_t* const last = reinterpret_cast<int32_t*>(task.memory);
  for (int64_t i = threadIdx.x; i < task.count; i += blockDim.x)
    task.before[i] = is_place(task.places[i], task.size) ? task.memory[task.places[i]] : NAN;
  __syncthreads();
  for (int64_t i = threadIdx.x; i < task.count; i += blockDim.x)
    if (is_place(task.places[i], task.size)) last[task.places[i]] = -1;
  __syncthreads();
  for (int64_t i = threadIdx.x; i < task.count; i += blockDim.x)
    if (is_place(task.places[i], task.size))
      atomicMax(last + task.places[i], static_cast<int32_t>(i));
  __syncthreads();
  // In order: what is written belongs to the last of a place, so nobody after it looks there for a
  // position.
  for (int64_t first = 0; first < task.count; first += blockDim.x) {
    const int64_t i = first + threadIdx.x;
    const bool is_last =
        i < task.count && is_place(task.places[i], task.size) && last[task.places[i]] == i;
    __syncthreads();
    if (is_last) task.memory[task.places[i]] = blend(task.before[i], task.fresh[i], task.rate);
  }
}

// A thread an octave, each in the order of the batch: the CPU's sums.
__device__ inline void block_meet(const MeetTask& task) {
  float* const met = task.met + threadIdx.x * kOctaveSums;
  float sums[kOctaveSums] = {met[0], met[1], met[2]};
  for (int64_t i = 0; i < task.count; ++i) {
    const float remembered = task.remembered[i];
    if (octave(remembered) == static_cast<int>(threadIdx.x) && meets(remembered, task.fresh[i]))
      add_meeting(sums, remembered, task.fresh[i]);
  }
  for (int k = 0; k < kOctaveSums; ++k) met[k] = sums[k];
}

}  // namespace isample::cuda
