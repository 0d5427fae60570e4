// From scores to masses, tau and probabilities: the parts that one block does in shared memory for
// a presample, and many blocks do in stages for any number of items.
#pragma once

#include "../core/distribution.h"
#include "block.cuh"

namespace isample::cuda {

// Scores as integers that order them; a score that is none is above all others. The maximum then is
// exact and atomic-free.
constexpr uint32_t kInvalidKey = 0xffffffffu;

struct ScoreKey {
  uint32_t bits = 0;
};
struct Larger {
  __device__ ScoreKey operator()(ScoreKey a, ScoreKey b) const { return a.bits > b.bits ? a : b; }
};

__device__ __forceinline__ ScoreKey score_key(float g) {
  if (!is_score(g)) return {kInvalidKey};
  return {g > 0.f ? __float_as_uint(g) : 0u};  // -0 is a score, too
}

__device__ inline ScoreKey key_span(const float* score, int64_t begin, int64_t end) {
  ScoreKey key;
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x)
    key = Larger()(key, score_key(__ldcg(score + i)));
  return key;
}

// The total is 0 where a score is not valid, and only there.
struct MassTotals {
  MassSums sums;
  int64_t positives = 0;  // items with mass

  __device__ void add(int32_t mass) {
    sums.add(mass);
    positives += mass > 0;
  }
  __device__ void add(const MassTotals& other) {
    sums.add(other.sums);
    positives += other.positives;
  }
};

__device__ inline MassTotals mass_span(const float* score, ScoreKey max, int bits, int32_t* mass,
                                       int64_t begin, int64_t end) {
  const double scale = mass_scale(__uint_as_float(max.bits), bits);
  MassTotals totals;
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    mass[i] = score_mass(__ldcg(score + i), scale);
    totals.add(mass[i]);
  }
  return totals;
}

// Applies the floor in place. `total` is the total of all masses before it.
__device__ inline MassTotals floor_span(int32_t* mass, double floor, int64_t total, int64_t n,
                                        int64_t begin, int64_t end) {
  MassTotals totals;
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    mass[i] = floored_mass(mass[i], floor, total, n);
    totals.add(mass[i]);
  }
  return totals;
}

// One thread of a launch writes these.
__device__ inline void store_tau(const DistributionTask& task, const MassTotals& totals) {
  const bool valid = totals.sums.total != 0;
  const float value = valid ? tau(totals.sums, task.n) : NAN;
  if (task.tau != nullptr) *task.tau = value;
  if (task.tau_ema != nullptr && valid)
    *task.tau_ema = update_tau_ema(*task.tau_ema, value, task.momentum);
}

// All of it by one block, whose memory holds fewer than 2^16 items: their masses have as many bits
// for every kind of draw. Afterwards any thread may read any mass.
__device__ inline MassTotals block_distribution(const DistributionTask& task, int32_t* mass) {
  const ScoreKey max = block_reduce(key_span(task.score, 0, task.n), Larger());
  MassTotals totals;
  if (max.bits != kInvalidKey) {
    totals = block_sum(mass_span(task.score, max, kSumBits, mass, 0, task.n));
    if (task.floor != 0.0)
      totals = block_sum(floor_span(mass, task.floor, totals.sums.total, task.n, 0, task.n));
  }
  if (threadIdx.x == 0) store_tau(task, totals);
  return totals;
}

// Shared memory of a block that holds n items: scratch, then the line (n + 1), the masses and a
// list of items.
struct BlockItems {
  int64_t* line;
  int32_t* mass;
  int32_t* items;

  __device__ explicit BlockItems(int64_t n)
      : line(reinterpret_cast<int64_t*>(shared_memory() + kScratchBytes)),
        mass(reinterpret_cast<int32_t*>(line + n + 1)),
        items(mass + n) {}

  static size_t bytes(int64_t n) { return kScratchBytes + static_cast<size_t>(16 * n + 8); }
};

inline bool fits_one_block(int64_t n, const Launcher& launcher) {
  return BlockItems::bytes(n) <= launcher.shared_bytes;
}
inline int one_block_threads(int64_t n) { return n <= 1024 ? 256 : 1024; }

}  // namespace isample::cuda
