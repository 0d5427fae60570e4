// From scores to masses on as many threads as pay, with a look for signals between chunks.
#pragma once

#include <ATen/Parallel.h>

#include <cmath>

#include "../cpu/sampling.h"
#include "interrupt.h"

namespace isample::cpu {

constexpr int64_t kItemsPerThread = 32768;

inline MassSums operator+(MassSums a, const MassSums& b) {
  a.add(b);
  return a;
}

inline ScoreRange operator+(const ScoreRange& a, const ScoreRange& b) {
  return {a.max > b.max ? a.max : b.max, a.valid && b.valid};
}

// `part(begin, end)` over the items, added up. The sums are exact, so their order is free.
template <class Sum, class Part> Sum over_items(int64_t n, const Part& part) {
  if (n <= kItemsPerThread) return part(0, n);
  Sum sum{};
  in_chunks(n, kItemsBetweenLooks, look_for_signals, [&](int64_t first, int64_t last) {
    sum =
        sum + at::parallel_reduce(
                  first, last, kItemsPerThread, Sum{},
                  [&](int64_t begin, int64_t end, Sum so_far) { return so_far + part(begin, end); },
                  [](const Sum& a, const Sum& b) { return a + b; });
  });
  return sum;
}

// Fills `mass`, which may be the memory of `score`. The sums are 0 where a score is not valid, and
// then nothing was filled in.
inline MassSums quantise(const float* score, int64_t n, int bits, double floor, int32_t* mass) {
  const ScoreRange range = over_items<ScoreRange>(
      n, [&](int64_t begin, int64_t end) { return scan_scores(score, begin, end); });
  if (!range.valid) return {};
  const double scale = mass_scale(range.max, bits);
  const MassSums sums = over_items<MassSums>(
      n, [&](int64_t begin, int64_t end) { return set_masses(score, scale, mass, begin, end); });
  if (floor == 0.0) return sums;
  return over_items<MassSums>(n, [&](int64_t begin, int64_t end) {
    return floor_masses(mass, floor, sums.total, n, begin, end);
  });
}

inline float tau_of(const MassSums& sums, int64_t n) {
  return sums.total == 0 ? NAN : tau(sums, n);
}

}  // namespace isample::cpu
