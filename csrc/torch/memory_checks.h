// Checks of the ops that remember scores, which the CPU and CUDA adaptors share.
#pragma once

#include <array>
#include <cmath>
#include <optional>

#include "../core/foretelling.h"
#include "../core/memory.h"
#include "checks.h"
#include "written.h"

namespace isample {

inline void check_batch(const at::Tensor& score, const char* other_name, const at::Tensor& other) {
  check_score(score);
  TORCH_CHECK_VALUE(score.size(0) <= kMaxDraws,
                    "score must be of a batch of at most 2^24 = ", kMaxDraws, ", got ",
                    score.size(0));
  check_device(other_name, other, "score", score.device());
  TORCH_CHECK_VALUE(other.sizes() == score.sizes(), other_name, " must have the shape of score, ",
                    score.sizes(), ", got ", other.sizes());
}

inline void check_moments(const at::Tensor& score, const at::Tensor& weights,
                          at::ArrayRef<double> fractions) {
  check_batch(score, "weights", weights);
  check_dtype("weights", weights, at::kFloat);
  TORCH_CHECK_VALUE(fractions.size() <= kMaxFractions, "fractions must be at most ", kMaxFractions,
                    ", got ", fractions.size());
  for (const double fraction : fractions)
    TORCH_CHECK_VALUE(fraction > 0.0 && fraction <= 1.0, "fractions must lie in (0, 1], got ",
                      fraction);
}

inline void check_places(const at::Tensor& sums, const at::Tensor& indices) {
  check_prefix_sums(sums);
  check_dtype("indices", indices, at::kLong);
  TORCH_CHECK_VALUE(indices.dim() == 1, "indices must be one-dimensional, got shape ",
                    indices.sizes());
  check_device("indices", indices, "sums", sums.device());
}

inline void check_remember(const at::Tensor& memory, const at::Tensor& indices,
                           const at::Tensor& score, double rate) {
  TORCH_CHECK_VALUE(rate > 0 && rate <= 1, "rate must be in (0, 1], got ", rate);
  check_dtype("memory", memory, at::kFloat);
  TORCH_CHECK_VALUE(memory.dim() == 1 && memory.is_contiguous(),
                    "memory must be one-dimensional and contiguous, got shape ", memory.sizes());
  check_batch(score, "indices", indices);
  check_dtype("indices", indices, at::kLong);
  check_device("memory", memory, "score", score.device());
  check_written("memory", memory, {{"indices", indices}, {"score", score}});
}

inline void check_scores(const char* argument, const at::Tensor& scores) {
  check_dtype(argument, scores, at::kFloat);
  TORCH_CHECK_VALUE(scores.dim() == 1, argument, " must be one-dimensional, got shape ",
                    scores.sizes());
}

inline void check_by_octave(const char* argument, const at::Tensor& values,
                            const at::Tensor& score) {
  constexpr std::array<int64_t, 2> kShape = {kOctaves, kOctaveSums};
  const at::IntArrayRef shape = kShape;
  check_dtype(argument, values, at::kFloat);
  TORCH_CHECK_VALUE(values.sizes() == shape && values.is_contiguous(), argument,
                    " must be contiguous of shape ", shape, ", got ", values.sizes());
  check_device(argument, values, "score", score.device());
}

inline void check_meet(const at::Tensor& met, const at::Tensor& remembered,
                       const at::Tensor& fresh) {
  check_scores("fresh", fresh);
  check_scores("remembered", remembered);
  TORCH_CHECK_VALUE(remembered.sizes() == fresh.sizes(),
                    "remembered must have the shape of fresh, ", fresh.sizes(), ", got ",
                    remembered.sizes());
  check_device("remembered", remembered, "fresh", fresh.device());
  check_by_octave("met", met, fresh);
  check_written("met", met, {{"remembered", remembered}, {"fresh", fresh}});
}

inline void check_expected(const at::Tensor& score, const at::Tensor& experience, double prior,
                           std::optional<double> contradicted, double share,
                           std::optional<double> gain_cap, double floor) {
  check_scores("score", score);
  check_by_octave("experience", experience, score);
  TORCH_CHECK_VALUE(prior > 0.0, "prior must be > 0, got ", prior);
  TORCH_CHECK_VALUE(std::isfinite(prior), "prior must be finite, got ", prior);
  TORCH_CHECK_VALUE(!contradicted || !std::isnan(*contradicted), "contradicted must not be NaN");
  TORCH_CHECK_VALUE(share >= 0.0 && share < 1.0, "share must lie in [0, 1), got ", share);
  TORCH_CHECK_VALUE(!gain_cap || *gain_cap >= 1.0, "gain_cap must be >= 1; got ", *gain_cap);
  check_share("floor", floor);
}

// What receives a number for each of `score`; it may be the upper half of a table to be.
inline void check_receiver(const char* argument, const at::Tensor& receiver,
                           const at::Tensor& score) {
  check_dtype(argument, receiver, at::kFloat);
  TORCH_CHECK_VALUE(receiver.sizes() == score.sizes() && receiver.is_contiguous(), argument,
                    " must be contiguous and have the shape of score, ", score.sizes(), ", got ",
                    receiver.sizes());
  check_device(argument, receiver, "score", score.device());
  check_written(argument, receiver, {{"score", score}});
}

inline void check_permuted(const at::Tensor& places, int64_t size) {
  check_dtype("places", places, at::kLong);
  TORCH_CHECK_VALUE(places.dim() == 1, "places must be one-dimensional, got shape ",
                    places.sizes());
  TORCH_CHECK_VALUE(size >= 1 && size <= kMaxItems, "size must lie in [1, 2^32 = ", kMaxItems,
                    "], got ", size);
}

// Everything that recall takes.
inline void check_recall(const at::Tensor& memory, const at::Tensor& met, const at::Tensor& score,
                         const at::Tensor& indices, const std::optional<at::Tensor>& weights,
                         const std::optional<at::Tensor>& sums, at::ArrayRef<double> fractions,
                         double rate) {
  check_remember(memory, indices, score, rate);
  check_by_octave("met", met, score);
  check_moments(score, weights.has_value() ? *weights : score, fractions);
  if (sums.has_value()) check_places(*sums, indices);
  check_written("memory", memory, {{"weights", weights}, {"sums", sums}});
  check_written("met", met,
                {{"memory", memory},
                 {"score", score},
                 {"indices", indices},
                 {"weights", weights},
                 {"sums", sums}});
}

// The contiguous tensors of a batch, and what core makes of them. At most one of `weights` and
// `sums` is looked at.
struct BatchTensors {
  at::Tensor score, weights, sums, places;
  ScoredBatch batch;

  BatchTensors(const at::Tensor& fresh, bool drawn, const std::optional<at::Tensor>& given_weights,
               const std::optional<at::Tensor>& given_sums,
               const std::optional<at::Tensor>& indices)
      : score(fresh.contiguous()) {
    batch = {score.const_data_ptr<float>(), score.size(0), drawn, nullptr, nullptr, 0, nullptr};
    if (indices.has_value()) {
      places = indices->contiguous();
      batch.places = places.const_data_ptr<int64_t>();
    }
    if (given_weights.has_value()) {
      weights = given_weights->contiguous();
      batch.weights = weights.const_data_ptr<float>();
    } else if (given_sums.has_value()) {
      sums = given_sums->contiguous();
      batch.sums = sums.const_data_ptr<int64_t>();
      batch.items = sums.size(0);
    }
  }
};

inline int64_t moment_count(at::ArrayRef<double> fractions) {
  return kDrawNumbers + 1 + static_cast<int64_t>(fractions.size());
}

}  // namespace isample
