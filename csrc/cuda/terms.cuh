// What is summed along the items for each kind of draw. A term says its value for an item, and
// where it stores the sums.
#pragma once

#include "../core/alias.h"
#include "../core/draws.h"
#include "block.cuh"
#include "distribution.cuh"

namespace isample::cuda {

// Lays the excesses E of the heavies at the front of the line and the deficits D of the lights
// after them, n + 1 in all.
struct AliasTerm {
  using Value = AliasScan;
  const int32_t* mass;
  int64_t n, total, heavies;
  int64_t* line;
  int32_t* heavy_item;

  __device__ Value operator()(int64_t i) const { return alias_term(mass[i], total, n); }
  __device__ void emit(int64_t i, const Value& before, const Value& own) const {
    if (own.heavies > 0) {
      line[before.heavies] = before.excess + own.excess;
      heavy_item[before.heavies] = static_cast<int32_t>(i);
    } else {
      line[heavies + (i - before.heavies) + 1] = before.deficit + own.deficit;
    }
    if (i == 0) line[heavies] = 0;
  }
};

struct HeavyTerm {
  using Value = Count;
  const int32_t* mass;
  int64_t n, total;
  __device__ Value operator()(int64_t i) const { return {is_heavy(mass[i], total, n)}; }
};

// Systematic draws: the inclusive prefix sum of the masses.
struct MassTerm {
  using Value = Count;
  const int32_t* mass;
  int64_t* line;

  __device__ Value operator()(int64_t i) const { return {mass[i]}; }
  __device__ void emit(int64_t i, const Value& before, const Value& own) const {
    line[i] = before.value + own.value;
  }
};

// Draws without replacement: the inclusive prefix sum of the lengths, in permuted order.
struct PpsTerm {
  using Value = Count;
  const int32_t* mass;
  PpsPlan plan;
  Permutation permutation;
  int64_t* line;

  __device__ Value operator()(int64_t place) const {
    return {pps_length(mass[permutation(place)], plan)};
  }
  __device__ void emit(int64_t place, const Value& before, const Value& own) const {
    line[place] = before.value + own.value;
  }
};

// The items with mass, in order.
struct PositiveTerm {
  using Value = Count;
  const int32_t* mass;
  int32_t* items;

  __device__ Value operator()(int64_t i) const { return {mass[i] > 0}; }
  __device__ void emit(int64_t i, const Value& before, const Value& own) const {
    if (own.value > 0) items[before.value] = static_cast<int32_t>(i);
  }
};

}  // namespace isample::cuda
