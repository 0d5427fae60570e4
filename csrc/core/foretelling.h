// What remembered scores foretell: by experience, lowered where labels are contradicted, and
// flattened where less noise is of no use.
#pragma once

#include "host_device.h"

namespace isample {

// ---- Experience: how remembered scores compare with fresh ones, by octaves of the remembered ----

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

// ---- How far expected scores are lowered, and flattened -----------------------------------------

// Expected scores, and their squares, of samples whose label is contradicted and of the others.
struct ExpectedSums {
  double theirs = 0.0, others = 0.0, their_squares = 0.0, other_squares = 0.0;
  int64_t count = 0;  // of the contradicted

  ISAMPLE_HD void add(float expected, bool contradicted) {
    const double e = expected;
    (contradicted ? theirs : others) += e;
    (contradicted ? their_squares : other_squares) += e * e;
    count += contradicted;
  }
  ISAMPLE_HD void add(const ExpectedSums& other) {
    theirs += other.theirs;
    others += other.others;
    their_squares += other.their_squares;
    other_squares += other.other_squares;
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

// What becomes of an expected score e: lowered where it is contradicted; then, in units of the
// mean, mixed with the uniform distribution until a draw gains `gain_cap`, if that is finite.
//
// kappa is the share of draws in proportion to e, and tau^2 = E[e^2] / E[e]^2. The gain is
// kappa tau^2 + 1 - kappa where equals carry all of the noise, and more otherwise. (Jensen:
// 1 / (N p) is concave in E[e] / e, whose mean weighted by e^2 is 1 / tau^2.) Hence
// kappa = min(1 - floor, (gain_cap - 1) / (tau^2 - 1)). Whoever draws mixes in `floor` anyway, so
// what is kept here is kappa / (1 - floor).
struct Ending {
  float factor;
  bool flattens;
  double scale, rest;

  ISAMPLE_HD Ending(const ExpectedSums& sums, int64_t size, double share, double gain_cap,
                    double floor)
      : factor(sums.factor(size, share)),
        flattens(gain_cap < static_cast<double>(INFINITY)),
        scale(1.0),
        rest(0.0) {
    if (!flattens) return;
    const double n = static_cast<double>(size), f = factor;
    const double mean = at_least_tiny((sums.others + f * sums.theirs) / n);
    const double square = (sums.other_squares + f * f * sums.their_squares) / n;
    const double surplus = square / (mean * mean) - 1.0;
    const double wanted = (gain_cap - 1.0) / at_least_tiny((1.0 - floor) * surplus);
    const double kept = wanted > 1.0 ? 1.0 : wanted;  // NaN stays: it shows in the draws
    scale = kept / mean;
    rest = 1.0 - kept;
  }
  ISAMPLE_HD bool lowers() const { return factor < 1.f; }
  ISAMPLE_HD float operator()(float expected, bool contradicted) const {
    const float own = expected * (contradicted ? factor : 1.f);
    return flattens ? static_cast<float>(static_cast<double>(own) * scale + rest) : own;
  }
};

}  // namespace isample
