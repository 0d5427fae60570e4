// What a step does with its fresh scores beside drawing, and what remembered scores foretell. Each
// formula stands here once; the CPU loops and the CUDA kernels walk over the items.
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

// ---- Experience: how remembered scores compare with fresh ones, by octaves of the remembered one

constexpr int kOctaves = 256;  // a float32 has as many exponents
// Of an octave: the squares of fresh and of remembered scores, and how many there were.
constexpr int kSquares = 0, kRemembered = 1, kCount = 2, kOctaveSums = 3;

// The exponent bits, the sign's cut off; 0 and what is nearly 0 share the first octave.
ISAMPLE_HD int octave(float score) {
  return static_cast<int>(float_bits(score) >> 23) & (kOctaves - 1);
}

// A remembered score below 0 is none.
ISAMPLE_HD bool meets(float remembered, float fresh) {
  return remembered >= 0 && std::isfinite(fresh);
}

ISAMPLE_HD void add_meeting(float* sums, float remembered, float fresh) {
  sums[kSquares] += fresh * fresh;
  sums[kRemembered] += remembered * remembered;
  sums[kCount] += 1;
}

// Root mean squares of the remembered and of the fresh scores of an octave.
struct CurvePoint {
  double remembered, fresh;
};

// The remembered one is kept within its octave, since what has faded or underflowed would leave it.
// Where nothing is known of an octave its middle foretells itself, or in the first octave 0 does.
ISAMPLE_HD CurvePoint curve_point(const float* sums, int octave, double prior) {
  const double begin = octave > 0 ? std::ldexp(1.0, octave - 127) : 0.0;
  const double end = std::ldexp(1.0, octave - 126);
  const double count = static_cast<double>(sums[kCount]);
  const double mean = static_cast<double>(std::sqrt(sums[kRemembered] / sums[kCount]));
  const double inside = mean < begin ? begin : end < mean ? end : mean;
  const double point = count > 0 ? inside : 1.5 * begin;
  return {point, std::sqrt((static_cast<double>(sums[kSquares]) + prior * point * point) /
                           (count + prior))};
}

// Fresh scores over remembered ones, straight between a point an octave; constant below the first
// point and beyond the last.
struct Curve {
  double points[kOctaves], fresh[kOctaves];
  // Of the line that ends in each point, and of the last.
  double base[kOctaves + 1], slope[kOctaves + 1];

  ISAMPLE_HD void set_point(const float* experience, int octave, double prior) {
    const CurvePoint point = curve_point(experience + octave * kOctaveSums, octave, prior);
    points[octave] = point.remembered;
    fresh[octave] = point.fresh;
  }
  // Once all points are set.
  ISAMPLE_HD void set_line(int i) {
    const int end = i < kOctaves ? i : kOctaves - 1;
    const double length = i > 0 && i < kOctaves ? points[i] - points[i - 1] : 0.0;
    slope[i] = length > 0 ? (fresh[i] - fresh[i - 1]) / length : 0.0;
    base[i] = fresh[end] - slope[i] * points[end];
  }
  ISAMPLE_HD float at(float score) const {
    const int place = octave(score), line = place + (static_cast<double>(score) >= points[place]);
    return static_cast<float>(base[line] + slope[line] * static_cast<double>(score));
  }
};

// The mean of the scores that were seen, for those that were not.
struct SeenSums {
  double total = 0.0;
  int64_t count = 0;

  ISAMPLE_HD void add(float score) {
    if (score >= 0) total += static_cast<double>(score), ++count;
  }
  ISAMPLE_HD void add(const SeenSums& other) {
    total += other.total;
    count += other.count;
  }
  ISAMPLE_HD float mean() const {
    return count > 0 ? static_cast<float>(total / static_cast<double>(count)) : 0.f;
  }
};

// ---- The bound on what samples whose label is contradicted may draw -----------------------------

// Expected scores of those and of the others.
struct BoundSums {
  double theirs = 0.0, others = 0.0;
  int64_t count = 0;

  ISAMPLE_HD void add(float expected, bool contradicted) {
    (contradicted ? theirs : others) += static_cast<double>(expected);
    count += contradicted;
  }
  ISAMPLE_HD void add(const BoundSums& other) {
    theirs += other.theirs;
    others += other.others;
    count += other.count;
  }
  // What brings the contradicted down to their share of `size` samples' draws; 1 where all or none
  // is.
  ISAMPLE_HD float factor(int64_t size, double share) const {
    if (count == 0) return 1.f;
    const double of_samples = static_cast<double>(count) / static_cast<double>(size);
    const double most = share < of_samples ? of_samples : share;
    const double factor = most * others / ((1.0 - most) * theirs);
    return factor < 1.0 ? static_cast<float>(factor) : 1.f;
  }
};

}  // namespace isample
