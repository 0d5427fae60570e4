// What a training step does with its fresh scores beside drawing: tell how noisy the draws were, and remember. The
// arithmetic is over one batch, so on a CPU one loop each saves a dozen small ops; elsewhere torch's own ops do.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "calibration_ops.h"
#include "checks.h"
#include "../core/distribution.h"

namespace isample {
namespace {

void check_batch(const at::Tensor& score, const char* other_name, const at::Tensor& other) {
  check_score(score);
  TORCH_CHECK_VALUE(other.sizes() == score.sizes(), other_name, " must have the shape of score, ", score.sizes(),
                    ", got ", other.sizes());
  check_device(other_name, other, "score", score.device());
}

// What each element of the result of draw_moments is.
enum Moment { kMean, kUniform, kImportance, kLeastWeight, kLargestWeight, kMoments };

at::Tensor draw_moments_cpu(const at::Tensor& score, const at::Tensor& weights, bool drawn) {
  check_batch(score, "weights", weights);
  check_dtype("weights", weights, at::kFloat);
  const at::Tensor scores = score.contiguous(), all_weights = weights.contiguous();
  const float* g = scores.const_data_ptr<float>();
  const float* w = all_weights.const_data_ptr<float>();
  const int64_t n = scores.size(0);
  at::Tensor result = at::zeros({kMoments}, scores.options().dtype(at::kDouble));
  double* moment = result.mutable_data_ptr<double>();
  moment[kLeastWeight] = moment[kLargestWeight] = w[0];
  for (int64_t i = 0; i < n; ++i) {
    const double square = double{g[i]} * g[i], weighted = square * w[i];
    moment[kMean] += g[i] >= 0 ? double{g[i]} * (drawn ? w[i] : 1.0) : NAN;
    moment[kUniform] += drawn ? weighted : square;
    moment[kImportance] += weighted * (drawn ? w[i] : 1.0);
    moment[kLeastWeight] = std::min<double>(moment[kLeastWeight], w[i]);
    moment[kLargestWeight] = std::max<double>(moment[kLargestWeight], w[i]);
  }
  for (const Moment mean : {kMean, kUniform, kImportance}) moment[mean] /= static_cast<double>(n);
  return result;
}

at::Tensor draw_moments_composite(const at::Tensor& score, const at::Tensor& weights, bool drawn) {
  check_batch(score, "weights", weights);
  check_dtype("weights", weights, at::kFloat);
  const at::Tensor g = score.to(at::kDouble), w = weights.to(at::kDouble);
  const at::Tensor square = g * g, weighted = square * w;
  const auto [least, largest] = at::aminmax(w);
  return at::stack({at::where(g.ge(0), drawn ? g * w : g, NAN).mean(), (drawn ? weighted : square).mean(),
                    (drawn ? weighted * w : weighted).mean(), least, largest});
}

void check_places(const at::Tensor& sums, const at::Tensor& indices) {
  check_prefix_sums(sums);
  check_dtype("indices", indices, at::kLong);
  TORCH_CHECK_VALUE(indices.dim() == 1, "indices must be one-dimensional, got shape ", indices.sizes());
  check_device("indices", indices, "sums", sums.device());
}

at::Tensor draw_weights_cpu(const at::Tensor& sums, const at::Tensor& indices) {
  check_places(sums, indices);
  const at::Tensor ends = sums.contiguous(), places = indices.contiguous();
  const int64_t* end = ends.const_data_ptr<int64_t>();
  const int64_t* place = places.const_data_ptr<int64_t>();
  const int64_t n = ends.size(0), count = places.size(0);
  at::Tensor result = at::empty({count}, indices.options().dtype(at::kFloat));
  float* weights = result.mutable_data_ptr<float>();
  for (int64_t i = 0; i < count; ++i) {
    TORCH_CHECK_INDEX(place[i] >= 0 && place[i] < n, "indices must lie in [0, ", n, "), got ", place[i]);
    const int64_t mass = end[place[i]] - (place[i] > 0 ? end[place[i] - 1] : 0);
    weights[i] = importance_weight(static_cast<int32_t>(mass), end[n - 1], n);
  }
  return result;
}

at::Tensor draw_weights_composite(const at::Tensor& sums, const at::Tensor& indices) {
  check_places(sums, indices);
  const at::Tensor before = at::where(indices.gt(0), sums.index_select(0, (indices - 1).clamp_min(0)), 0);
  const at::Tensor mass = sums.index_select(0, indices) - before;
  return (sums[-1].to(at::kDouble) / (mass.to(at::kDouble) * sums.size(0))).to(at::kFloat);
}

// What is remembered of a sample: the geometric mean of what was and the fresh score, in which the latter counts for `rate`,
// as far as both are above 0, so that a score's chance ups and downs average out. A fresh score that is negative or not finite
// is not remembered.
float blend(float before, float fresh, double rate) {
  if (!std::isfinite(fresh) || fresh < 0) return before;
  if (!(before > 0 && fresh > 0)) return fresh;
  return static_cast<float>(std::pow(double{before}, 1 - rate) * std::pow(double{fresh}, rate));
}

void check_remember(const at::Tensor& memory, const at::Tensor& indices, const at::Tensor& score, double rate) {
  TORCH_CHECK_VALUE(rate > 0 && rate <= 1, "rate must be in (0, 1], got ", rate);
  check_dtype("memory", memory, at::kFloat);
  TORCH_CHECK_VALUE(memory.dim() == 1 && memory.is_contiguous(), "memory must be one-dimensional and contiguous, got shape ",
                    memory.sizes());
  check_batch(score, "indices", indices);
  check_dtype("indices", indices, at::kLong);
  check_device("memory", memory, "score", score.device());
}

at::Tensor remember_cpu(at::Tensor& memory, const at::Tensor& indices, const at::Tensor& score, double rate) {
  check_remember(memory, indices, score, rate);
  const at::Tensor places = indices.contiguous(), scores = score.contiguous();
  const int64_t* place = places.const_data_ptr<int64_t>();
  const float* fresh = scores.const_data_ptr<float>();
  const int64_t n = scores.size(0), size = memory.size(0);
  for (int64_t i = 0; i < n; ++i)
    TORCH_CHECK_INDEX(place[i] >= 0 && place[i] < size, "indices must lie in [0, ", size, "), got ", place[i]);
  at::Tensor before = at::empty_like(scores);
  float* old = before.mutable_data_ptr<float>();
  float* remembered = memory.mutable_data_ptr<float>();
  for (int64_t i = 0; i < n; ++i) old[i] = remembered[place[i]];
  for (int64_t i = 0; i < n; ++i) remembered[place[i]] = blend(old[i], fresh[i], rate);
  return before;
}

at::Tensor remember_composite(at::Tensor& memory, const at::Tensor& indices, const at::Tensor& score, double rate) {
  check_remember(memory, indices, score, rate);
  at::Tensor before = memory.index_select(0, indices);
  const at::Tensor mean = at::where(before.gt(0).logical_and(score.gt(0)), before.pow(1 - rate) * score.pow(rate), score);
  memory.index_copy_(0, indices, at::where(score.isfinite().logical_and(score.ge(0)), mean, before));
  return before;
}

// All of the above for a batch, in one call: a step's handful of small ones, cold in the caches after the network's own, take ten
// times as long as their arithmetic.
at::Tensor recall_cpu(at::Tensor& memory, at::Tensor& met, const at::Tensor& score, const at::Tensor& indices,
                      const std::optional<at::Tensor>& weights, const std::optional<at::Tensor>& sums, double rate) {
  check_remember(memory, indices, score, rate);
  check_met(met, score);
  const at::Tensor importance = weights.has_value() ? *weights
                                : sums.has_value()  ? draw_weights_cpu(*sums, indices)
                                                    : at::ones_like(score);
  at::Tensor moments = draw_moments_cpu(score, importance, weights.has_value());
  meet_cpu(met, remember_cpu(memory, indices, score, rate), score);
  return moments;
}

}  // namespace

TORCH_LIBRARY_IMPL(isample, CPU, m) {
  m.impl("recall", &recall_cpu);
  m.impl("draw_weights", &draw_weights_cpu);
  m.impl("draw_moments", &draw_moments_cpu);
  m.impl("remember", &remember_cpu);
}

TORCH_LIBRARY_IMPL(isample, CUDA, m) {
  m.impl("draw_weights", &draw_weights_composite);
  m.impl("draw_moments", &draw_moments_composite);
  m.impl("remember", &remember_composite);
}

}  // namespace isample
