// What remembered scores foretell: the experience of how they compare with fresh ones, gathered by octaves, and the scores
// that it expects of a whole data set. isample/sources/calibration.py and isample/scoring/contradicted.py have the formulas and why. A pass
// over the memory belongs to every table, so on a CPU it is one loop; elsewhere torch's own ops do.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <optional>
#include <tuple>

#include "calibration_ops.h"
#include "checks.h"

namespace isample {
namespace {

constexpr int kOctaves = 256;  // a float32 has as many exponents
constexpr int kSquares = 0, kRemembered = 1, kCount = 2;  // squares of fresh and of remembered scores, and how many there were
constexpr std::array<int64_t, 2> kShape = {kOctaves, 3};

// The exponent bits, the sign's cut off; 0 and what is nearly 0 share the first octave.
int octave(float score) { return static_cast<int>(std::bit_cast<uint32_t>(score) >> 23) & (kOctaves - 1); }

at::Tensor octaves(const at::Tensor& score) {
  return score.view(at::kInt).bitwise_right_shift(23).bitwise_and(kOctaves - 1);
}

void check_scores(const char* argument, const at::Tensor& scores) {
  check_dtype(argument, scores, at::kFloat);
  TORCH_CHECK_VALUE(scores.dim() == 1, argument, " must be one-dimensional, got shape ", scores.sizes());
}

void check_by_octave(const char* argument, const at::Tensor& values, const at::Tensor& score) {
  const at::IntArrayRef shape = kShape;
  check_dtype(argument, values, at::kFloat);
  TORCH_CHECK_VALUE(values.sizes() == shape && values.is_contiguous(), argument, " must be contiguous of shape ", shape,
                    ", got ", values.sizes());
  check_device(argument, values, "score", score.device());
}

void check_meet(const at::Tensor& met, const at::Tensor& remembered, const at::Tensor& fresh) {
  check_scores("fresh", fresh);
  check_scores("remembered", remembered);
  TORCH_CHECK_VALUE(remembered.sizes() == fresh.sizes(), "remembered must have the shape of fresh, ", fresh.sizes(),
                    ", got ", remembered.sizes());
  check_device("remembered", remembered, "fresh", fresh.device());
  check_met(met, fresh);
}

}  // namespace

void check_met(const at::Tensor& met, const at::Tensor& fresh) { check_by_octave("met", met, fresh); }

void meet_cpu(at::Tensor& met, const at::Tensor& remembered, const at::Tensor& fresh) {
  check_meet(met, remembered, fresh);
  const at::Tensor before = remembered.contiguous(), after = fresh.contiguous();
  const float* old = before.const_data_ptr<float>();
  const float* now = after.const_data_ptr<float>();
  float* sums = met.mutable_data_ptr<float>();
  for (int64_t i = 0; i < after.size(0); ++i) {
    if (!(old[i] >= 0) || !std::isfinite(now[i])) continue;
    float* sum = sums + kShape[1] * octave(old[i]);
    sum[kSquares] += now[i] * now[i];
    sum[kRemembered] += old[i] * old[i];
    sum[kCount] += 1;
  }
}

namespace {

void meet_composite(at::Tensor& met, const at::Tensor& remembered, const at::Tensor& fresh) {
  check_meet(met, remembered, fresh);
  const at::Tensor again = remembered.ge(0).logical_and(fresh.isfinite());
  const at::Tensor ones = at::ones_like(fresh);
  const at::Tensor values = at::stack({fresh.square(), remembered.square(), ones}, 1).where(again.unsqueeze(1), 0.0);
  met.index_put_({octaves(remembered.contiguous()).to(at::kLong)}, values, /*accumulate=*/true);  // in a fixed order
}

void check_expected(const at::Tensor& score, const at::Tensor& experience, double prior, double share) {
  check_scores("score", score);
  check_by_octave("experience", experience, score);
  TORCH_CHECK_VALUE(prior > 0.0, "prior must be > 0, got ", prior);
  TORCH_CHECK_VALUE(share >= 0.0 && share < 1.0, "share must lie in [0, 1), got ", share);
}

// Fresh scores over remembered ones, straight between a point an octave: the root mean squares of both, the remembered one kept
// within its octave, since what has faded or underflowed would leave it. Constant below the first point and beyond the last.
struct Curve {
  std::array<double, kOctaves> points;
  std::array<double, kOctaves + 1> base, slope;  // of the line that ends in each point, and of the last

  float at(float score) const {
    const int place = octave(score), line = place + (score >= points[place]);
    return static_cast<float>(base[line] + slope[line] * score);
  }
};

// Where nothing is known of an octave its middle foretells itself, or in the first octave 0 does.
Curve curve_of(const float* sums, double prior) {
  Curve curve;
  std::array<double, kOctaves> fresh;
  for (int i = 0; i < kOctaves; ++i, sums += kShape[1]) {
    const double begin = i > 0 ? std::ldexp(1.0, i - 127) : 0.0, end = std::ldexp(1.0, i - 126);
    const double mean = std::sqrt(sums[kRemembered] / sums[kCount]);
    const double point = sums[kCount] > 0 ? std::clamp(mean, begin, end) : 1.5 * begin;
    curve.points[i] = point;
    fresh[i] = std::sqrt((sums[kSquares] + prior * point * point) / (sums[kCount] + prior));
  }
  for (int i = 0; i <= kOctaves; ++i) {
    const int at = std::min(i, kOctaves - 1);
    const double length = i > 0 && i < kOctaves ? curve.points[i] - curve.points[i - 1] : 0.0;
    curve.slope[i] = length > 0 ? (fresh[i] - fresh[i - 1]) / length : 0.0;
    curve.base[i] = fresh[at] - curve.slope[i] * curve.points[at];
  }
  return curve;
}

// The same without a loop.
at::Tensor on_curve(const at::Tensor& score, const at::Tensor& experience, double prior) {
  const at::Tensor sums = experience.to(at::kDouble), count = sums.select(1, kCount);
  const at::Tensor end = at::arange(-126, kOctaves - 126, sums.options()).exp2();
  const at::Tensor begin = at::cat({at::zeros({1}, sums.options()), end.slice(0, 0, -1)});
  const at::Tensor mean = (sums.select(1, kRemembered) / count).sqrt();
  const at::Tensor points = at::where(count > 0, at::clamp(mean, begin, end), 1.5 * begin);
  const at::Tensor fresh = ((sums.select(1, kSquares) + prior * points.square()) / (count + prior)).sqrt();
  const at::Tensor length = points.diff(), none = at::zeros({1}, sums.options());
  const at::Tensor slope = at::cat({none, at::where(length > 0, fresh.diff() / length, 0.0), none});
  const at::Tensor base = at::cat({fresh, fresh.slice(0, -1)}) - slope * at::cat({points, points.slice(0, -1)});
  const at::Tensor place = octaves(score).to(at::kLong), wide = score.to(at::kDouble);
  const at::Tensor line = place + wide.ge(points.index_select(0, place));
  return (base.index_select(0, line) + slope.index_select(0, line) * wide).to(at::kFloat);
}

// Of the samples that are contradicted and of the others.
struct Sums {
  double theirs = 0.0, others = 0.0;
  int64_t count = 0;
};

// What brings the contradicted down to their share of `size` samples' draws; 1 where all or none is.
float lowered(const Sums& sums, int64_t size, double share) {
  if (sums.count == 0) return 1.0f;
  const double most = std::max(share, static_cast<double>(sums.count) / static_cast<double>(size));
  const double factor = most * sums.others / ((1.0 - most) * sums.theirs);
  return factor < 1.0 ? static_cast<float>(factor) : 1.0f;
}

float mean_of_seen(const float* score, int64_t size) {
  double total = 0.0;
  int64_t seen = 0;
  for (int64_t i = 0; i < size; ++i)
    if (score[i] >= 0) total += score[i], ++seen;
  return seen > 0 ? static_cast<float>(total / static_cast<double>(seen)) : 0.0f;
}

std::tuple<at::Tensor, at::Tensor> expected_scores_cpu(const at::Tensor& score, const at::Tensor& experience, double prior,
                                                       std::optional<double> contradicted, double share) {
  check_expected(score, experience, prior, share);
  const at::Tensor scores = score.contiguous();
  const float* s = scores.const_data_ptr<float>();
  const Curve curve = curve_of(experience.const_data_ptr<float>(), prior);
  const int64_t size = scores.size(0);
  const float mean = mean_of_seen(s, size), above = contradicted ? static_cast<float>(*contradicted) : INFINITY;
  at::Tensor result = at::empty_like(scores);
  float* expected = result.mutable_data_ptr<float>();
  Sums found;
  for (int64_t i = 0; i < size; ++i) {
    const float filled = s[i] >= 0 ? s[i] : mean;
    expected[i] = curve.at(filled);
    const bool is_contradicted = s[i] > above;
    (is_contradicted ? found.theirs : found.others) += expected[i];
    found.count += is_contradicted;
  }
  const float factor = lowered(found, size, share);
  const bool bounded = factor < 1.0f;
  const float factors[] = {1.0f, factor};
  for (int64_t i = 0; bounded && i < size; ++i)
    expected[i] *= factors[s[i] > above];  // no branch, which would be a coin's toss
  return {result, at::full({}, static_cast<double>(bounded), score.options())};
}

std::tuple<at::Tensor, at::Tensor> expected_scores_composite(const at::Tensor& score, const at::Tensor& experience,
                                                             double prior, std::optional<double> contradicted,
                                                             double share) {
  check_expected(score, experience, prior, share);
  const at::Tensor seen = score.ge(0), positive = score.clamp_min(0);
  const at::Tensor filled = at::where(seen, positive, positive.sum() / seen.sum().clamp_min(1));
  const at::Tensor expected = on_curve(filled, experience, prior);
  if (!contradicted) return {expected, at::zeros({}, score.options())};
  const at::Tensor is_contradicted = score.gt(*contradicted);
  const at::Tensor theirs = at::where(is_contradicted, expected, 0.0).sum(at::kDouble);
  const at::Tensor others = expected.sum(at::kDouble) - theirs;
  const at::Tensor most = is_contradicted.to(at::kDouble).mean().clamp_min(share);
  const at::Tensor factor = (most * others / ((1.0 - most) * theirs)).clamp_max(1.0).nan_to_num(1.0);
  return {at::where(is_contradicted, (factor * expected).to(at::kFloat), expected), factor.lt(1.0).to(at::kFloat)};
}

}  // namespace

TORCH_LIBRARY_IMPL(isample, CPU, m) {
  m.impl("meet", &meet_cpu);
  m.impl("expected_scores", &expected_scores_cpu);
}

TORCH_LIBRARY_IMPL(isample, CUDA, m) {
  m.impl("meet", &meet_composite);
  m.impl("expected_scores", &expected_scores_composite);
}

}  // namespace isample
