// What a block of threads does together: reductions, scans, and finding out which block of a launch
// is the last.
//
// All sums here are sums of integers, so neither the order of threads nor the shape of a launch
// shows in a result.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "kernels.h"

// One array for all kernels; each says in its launcher how it is divided.
extern __shared__ uint4 isample_shared_memory[];

namespace isample::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr size_t kScratchBytes = 32 * 48;  // one value of up to 48 bytes for each warp of a block

__device__ inline unsigned char* shared_memory() {
  return reinterpret_cast<unsigned char*>(isample_shared_memory);
}

__device__ inline int lane_index() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ inline int warp_index() { return static_cast<int>(threadIdx.x) / kWarp; }
__device__ inline int warps_in_block() { return static_cast<int>(blockDim.x) / kWarp; }

// Applies `word` to every 32-bit word of a value.
template <class T, class Word>
__device__ __forceinline__ T by_words(const T& value, const Word& word) {
  static_assert(sizeof(T) % 4 == 0);
  uint32_t words[sizeof(T) / 4];
  memcpy(words, &value, sizeof(T));
  for (uint32_t& w : words) w = word(w);
  T result;
  memcpy(&result, words, sizeof(T));
  return result;
}

template <class T> __device__ __forceinline__ T shuffle_xor(const T& value, int lanes) {
  return by_words(value, [lanes](uint32_t w) { return __shfl_xor_sync(kAllLanes, w, lanes); });
}
template <class T> __device__ __forceinline__ T shuffle_up(const T& value, int lanes) {
  return by_words(value, [lanes](uint32_t w) { return __shfl_up_sync(kAllLanes, w, lanes); });
}
template <class T> __device__ __forceinline__ T shuffle_from(const T& value, int lane) {
  return by_words(value, [lane](uint32_t w) { return __shfl_sync(kAllLanes, w, lane); });
}

// What another block wrote in this launch: read past the L1 cache.
template <class T> __device__ __forceinline__ T load_fresh(const T* address) {
  static_assert(sizeof(T) % 4 == 0);
  uint32_t words[sizeof(T) / 4];
  for (size_t i = 0; i < sizeof(T) / 4; ++i)
    words[i] = __ldcg(reinterpret_cast<const uint32_t*>(address) + i);
  T result;
  memcpy(&result, words, sizeof(T));
  return result;
}

struct Sum {
  template <class T> __device__ T operator()(T a, const T& b) const {
    a.add(b);
    return a;
  }
};

struct Plus {
  __device__ double operator()(double a, double b) const { return a + b; }
};

struct Count {
  int64_t value = 0;
  __device__ void add(const Count& other) { value += other.value; }
};

template <class T, class Op> __device__ __forceinline__ T warp_reduce(T value, const Op& op) {
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) value = op(value, shuffle_xor(value, lanes));
  return value;
}

// Combines one value a thread, of which T{} is the neutral one. Every thread receives the result.
template <class T, class Op> __device__ T block_reduce(T value, const Op& op) {
  static_assert(sizeof(T) * 32 <= kScratchBytes);
  T* scratch = reinterpret_cast<T*>(shared_memory());
  value = warp_reduce(value, op);
  if (lane_index() == 0) scratch[warp_index()] = value;
  __syncthreads();
  value = warp_reduce(lane_index() < warps_in_block() ? scratch[lane_index()] : T{}, op);
  __syncthreads();  // the scratch is free again
  return value;
}

template <class T> __device__ T block_sum(const T& value) { return block_reduce(value, Sum()); }

template <class T> __device__ __forceinline__ T warp_inclusive_sum(T value) {
  for (int lanes = 1; lanes < kWarp; lanes *= 2) {
    const T below = shuffle_up(value, lanes);
    if (lane_index() >= lanes) value.add(below);
  }
  return value;
}

template <class T> struct BlockScan {
  T before, all;  // the sum over the threads before this one, and over all
};

template <class T> __device__ BlockScan<T> block_exclusive_sum(const T& value) {
  T* scratch = reinterpret_cast<T*>(shared_memory());
  const T inclusive = warp_inclusive_sum(value);
  if (lane_index() == kWarp - 1) scratch[warp_index()] = inclusive;
  __syncthreads();
  const T warps = warp_inclusive_sum(lane_index() < warps_in_block() ? scratch[lane_index()] : T{});
  __syncthreads();  // the scratch is free again
  const T warps_before = shuffle_from(warps, warp_index() > 0 ? warp_index() - 1 : 0);
  const T lanes_before = shuffle_up(inclusive, 1);
  BlockScan<T> result = {T{}, shuffle_from(warps, warps_in_block() - 1)};
  if (warp_index() > 0) result.before.add(warps_before);
  if (lane_index() > 0) result.before.add(lanes_before);
  return result;
}

// Walks items [begin, end) in order: `term(i)` is the value of item i, and `term.emit(i, before,
// value)` receives it with the sum of all that came before. A thread takes four neighbours, so that
// a block needs few steps.
template <class Term>
__device__ void scan_span(const Term& term, int64_t begin, int64_t end,
                          typename Term::Value before) {
  using Value = typename Term::Value;
  constexpr int kNeighbours = 4;
  for (; begin < end; begin += kNeighbours * static_cast<int64_t>(blockDim.x)) {
    const int64_t first = begin + kNeighbours * static_cast<int64_t>(threadIdx.x);
    Value values[kNeighbours], own{};
#pragma unroll
    for (int j = 0; j < kNeighbours; ++j) {
      values[j] = first + j < end ? term(first + j) : Value{};
      own.add(values[j]);
    }
    const BlockScan<Value> scan = block_exclusive_sum(own);
    Value running = before;
    running.add(scan.before);
#pragma unroll
    for (int j = 0; j < kNeighbours; ++j) {
      if (first + j < end) term.emit(first + j, running, values[j]);
      running.add(values[j]);
    }
    before.add(scan.all);
  }
}

// The same values, one thread's share of their sum.
template <class Term>
__device__ typename Term::Value sum_span(const Term& term, int64_t begin, int64_t end) {
  typename Term::Value own{};
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) own.add(term(i));
  return own;
}

// Until the launch before this one has ended, where this one may begin earlier (Shape::overlaps).
__device__ __forceinline__ void wait_for_launch_before() {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
}

// From here on the launch after this one may begin, if it overlaps.
__device__ __forceinline__ void let_next_launch_begin() {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}

// The counters of this file's launches. atomicInc wraps to 0 at the last block, so they need no
// host to reset them.
static __device__ uint32_t arrivals[kSlots];

// True in the block that arrives last; it then sees what all others wrote before they arrived.
__device__ inline bool is_last_block(int slot) {
  uint32_t* last = reinterpret_cast<uint32_t*>(shared_memory());
  __syncthreads();
  if (threadIdx.x == 0) {
    const uint32_t blocks = gridDim.x * gridDim.y;
    __threadfence();
    *last = atomicInc(&arrivals[slot], blocks - 1) == blocks - 1;
    __threadfence();
  }
  __syncthreads();
  const bool result = *last != 0;
  __syncthreads();  // the scratch is free again
  return result;
}

}  // namespace isample::cuda
