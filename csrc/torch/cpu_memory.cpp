// The ops that remember scores, for torch on the CPU.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <torch/library.h>

#include <cmath>
#include <optional>
#include <tuple>
#include <utility>

#include "../cpu/memory.h"
#include "memory_checks.h"

namespace isample::cpu {
namespace {

using Given = std::optional<at::Tensor>;

void check_range(const int64_t* places, int64_t count, int64_t size) {
  for (int64_t i = 0; i < count; ++i)
    TORCH_CHECK_INDEX(places[i] >= 0 && places[i] < size, "indices must lie in [0, ", size,
                      "), got ", places[i]);
}

at::Tensor draw_weights_op(const at::Tensor& sums, const at::Tensor& indices) {
  check_places(sums, indices);
  const at::Tensor ends = sums.contiguous(), places = indices.contiguous();
  const int64_t* place = places.const_data_ptr<int64_t>();
  check_range(place, places.size(0), ends.size(0));
  at::Tensor weights = at::empty({places.size(0)}, indices.options().dtype(at::kFloat));
  draw_weights(ends.const_data_ptr<int64_t>(), ends.size(0), place, places.size(0),
               weights.mutable_data_ptr<float>());
  return weights;
}

at::Tensor moments_of(const ScoredBatch& batch, at::ArrayRef<double> fractions,
                      const at::Tensor& score) {
  at::Tensor numbers = at::empty({moment_count(fractions)}, score.options().dtype(at::kDouble));
  draw_moments(batch, fractions.data(), static_cast<int>(fractions.size()),
               numbers.mutable_data_ptr<double>());
  return numbers;
}

at::Tensor draw_moments_op(const at::Tensor& score, const at::Tensor& weights, bool drawn,
                           at::ArrayRef<double> fractions) {
  check_moments(score, weights, fractions);
  const BatchTensors tensors(score, drawn, weights, std::nullopt, std::nullopt);
  return moments_of(tensors.batch, fractions, score);
}

at::Tensor remember_op(at::Tensor& memory, const at::Tensor& indices, const at::Tensor& score,
                       double rate) {
  check_remember(memory, indices, score, rate);
  const at::Tensor places = indices.contiguous(), fresh = score.contiguous();
  const int64_t* place = places.const_data_ptr<int64_t>();
  check_range(place, places.size(0), memory.size(0));
  at::Tensor before = at::empty_like(fresh);
  count_write(memory);
  remember(memory.mutable_data_ptr<float>(), place, fresh.const_data_ptr<float>(), fresh.size(0),
           rate, before.mutable_data_ptr<float>());
  return before;
}

void meet_op(at::Tensor& met, const at::Tensor& remembered, const at::Tensor& fresh) {
  check_meet(met, remembered, fresh);
  const at::Tensor before = remembered.contiguous(), after = fresh.contiguous();
  count_write(met);
  meet(met.mutable_data_ptr<float>(), before.const_data_ptr<float>(), after.const_data_ptr<float>(),
       after.size(0));
}

// In one call, since a step's handful of small ones, cold in the caches after the network's own,
// take ten times as long as their arithmetic.
at::Tensor recall_op(at::Tensor& memory, at::Tensor& met, const at::Tensor& score,
                     const at::Tensor& indices, const Given& weights, const Given& sums,
                     at::ArrayRef<double> fractions, double rate) {
  check_recall(memory, met, score, indices, weights, sums, fractions, rate);
  const BatchTensors tensors(score, weights.has_value(), weights, sums, indices);
  const ScoredBatch& batch = tensors.batch;
  check_range(batch.places, batch.size, memory.size(0));
  if (batch.sums != nullptr) check_range(batch.places, batch.size, batch.items);
  at::Tensor numbers = moments_of(batch, fractions, score), before = at::empty_like(tensors.score);
  float* was = before.mutable_data_ptr<float>();
  count_write(memory);
  count_write(met);
  remember(memory.mutable_data_ptr<float>(), batch.places, batch.score, batch.size, rate, was);
  meet(met.mutable_data_ptr<float>(), was, batch.score, batch.size);
  return numbers;
}

std::tuple<at::Tensor, at::Tensor> expected_scores_op(const at::Tensor& score,
                                                      const at::Tensor& experience, double prior,
                                                      std::optional<double> contradicted,
                                                      double share) {
  check_expected(score, experience, prior, contradicted, share);
  const at::Tensor scores = score.contiguous();
  at::Tensor expected = at::empty_like(scores);
  const bool bounded = expected_scores({scores.const_data_ptr<float>(), scores.size(0),
                                        experience.const_data_ptr<float>(), prior,
                                        contradicted ? static_cast<float>(*contradicted) : INFINITY,
                                        share, expected.mutable_data_ptr<float>()});
  return {std::move(expected), at::full({}, static_cast<double>(bounded), score.options())};
}

}  // namespace

TORCH_LIBRARY_IMPL(isample, CPU, m) {
  m.impl("draw_weights", &draw_weights_op);
  m.impl("draw_moments", &draw_moments_op);
  m.impl("remember", &remember_op);
  m.impl("meet", &meet_op);
  m.impl("recall", &recall_op);
  m.impl("expected_scores", &expected_scores_op);
}

}  // namespace isample::cpu
