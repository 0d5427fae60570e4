// What a step does with its fresh scores beside drawing. Each formula stands here once; the CPU
// loops and the CUDA kernels walk over the items.
#pragma once

#include "distribution.h"
#include "host_device.h"

namespace isample {

// ---- How noisy a batch's draws were -------------------------------------------------------------

// The weight that a draw from inclusive prefix sums of masses would give an item; NaN for one that
// is not there.
ISAMPLE_HD float weight_by_sums(const int64_t* sums, int64_t items, int64_t place) {
  if (place < 0 || place >= items) return NAN;
  return importance_weight(mass_by_sums(sums, place), sums[items - 1], items);
}

// Fresh scores g and weights w of a batch. The weights are those of importance draws, also of a
// batch that was dealt.
struct ScoredBatch {
  const float* score;
  int64_t size;
  bool drawn;            // by importance
  const float* weights;  // or null:
  const int64_t* sums;   // [items], by which to weigh `places`; or null: all weights are 1
  int64_t items;
  const int64_t* places;

  ISAMPLE_HD float weight(int64_t i) const {
    if (weights != nullptr) return weights[i];
    return sums != nullptr ? weight_by_sums(sums, items, places[i]) : 1.f;
  }
  // The norm that a sample's gradient has in the batch.
  ISAMPLE_HD double norm(int64_t i) const {
    const double g = score[i] >= 0 ? static_cast<double>(score[i]) : static_cast<double>(NAN);
    return drawn ? g * static_cast<double>(weight(i)) : g;
  }
};

// Sums over a batch: of unbiased estimates of E[g], of E[g^2] under uniform draws, of E[(w g)^2]
// under importance draws.
struct DrawSums {
  double mean = 0.0, uniform = 0.0, importance = 0.0;
  float least = INFINITY, largest = -INFINITY;  // weights

  ISAMPLE_HD void add(float g, float w, bool drawn) {
    const double score = g, weight = w, square = score * score, weighted = square * weight;
    mean += g >= 0 ? score * (drawn ? weight : 1.0) : static_cast<double>(NAN);
    uniform += drawn ? weighted : square;
    importance += weighted * (drawn ? weight : 1.0);
    least = w < least ? w : least;
    largest = w > largest ? w : largest;
  }
  ISAMPLE_HD void add(const DrawSums& other) {
    mean += other.mean;
    uniform += other.uniform;
    importance += other.importance;
    least = other.least < least ? other.least : least;
    largest = other.largest > largest ? other.largest : largest;
  }
  ISAMPLE_HD void store(double* numbers, int64_t size) const {
    const double n = static_cast<double>(size);
    numbers[0] = mean / n;
    numbers[1] = uniform / n;
    numbers[2] = importance / n;
    numbers[3] = static_cast<double>(least);
    numbers[4] = static_cast<double>(largest);
  }
};
constexpr int kDrawNumbers = 5;

// ---- What it costs in noise to keep a part of a batch -------------------------------------------

constexpr int kMaxFractions = 16;

struct NormSums {
  double sum = 0.0, squares = 0.0;
  int64_t positive = 0;

  ISAMPLE_HD void add(double x) {
    sum += x;
    squares += x * x;
    positive += x > 0;
  }
  ISAMPLE_HD void add(const NormSums& other) {
    sum += other.sum;
    squares += other.squares;
    positive += other.positive;
  }
};

// Of the norms x that a bound divides: those at or above it are kept for certain, the rest with
// probability x / bound.
struct DividedSums {
  double rest = 0.0, certain_squares = 0.0;
  int64_t certain = 0;

  ISAMPLE_HD void add(double x, double bound) {
    const bool is_certain = x >= bound;
    rest += is_certain ? 0.0 : x;
    certain_squares += is_certain ? x * x : 0.0;
    certain += is_certain;
  }
  ISAMPLE_HD void add(const DividedSums& other) {
    rest += other.rest;
    certain_squares += other.certain_squares;
    certain += other.certain;
  }
};

// S x^2 / pi over the positive norms, where pi_i = min(1, x_i / bound) and S pi = keep.
// `divided(bound)` gives DividedSums.
//
// Certain items stay certain, since the bound only falls: so the rounds end when their number no
// longer changes, and without a sort. Where rounding makes as many certain as are kept, the bound
// before is as good.
template <class Divided>
ISAMPLE_HD double thinned_squares(const NormSums& all, double keep, const Divided& divided) {
  if (static_cast<double>(all.positive) <= keep) return all.squares;
  constexpr int kMostRounds = 64;
  double bound = all.sum / keep;
  DividedSums sums = divided(bound);
  int64_t known = 0;
  for (int round = 0; round < kMostRounds && sums.certain != known; ++round) {
    const double room = keep - static_cast<double>(sums.certain);
    if (!(room > 0.0)) break;
    known = sums.certain;
    bound = sums.rest / room;
    sums = divided(bound);
  }
  return sums.certain_squares + sums.rest * bound;
}

// ---- Remembering --------------------------------------------------------------------------------

// What is remembered of a sample: the geometric mean of what was and the fresh score, in which the
// latter counts for `rate`, as far as both are above 0, so that a score's chance ups and downs
// average out. A fresh score that is negative or not finite is not remembered.
ISAMPLE_HD float blend(float before, float fresh, double rate) {
  if (!is_score(fresh)) return before;
  if (!(before > 0 && fresh > 0)) return fresh;
  return static_cast<float>(std::pow(static_cast<double>(before), 1 - rate) *
                            std::pow(static_cast<double>(fresh), rate));
}

}  // namespace isample
