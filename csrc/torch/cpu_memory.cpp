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
#include "../cpu/sampling.h"
#include "interrupt.h"
#include "memory_checks.h"

namespace isample::cpu {
namespace {

using Given = std::optional<at::Tensor>;

void check_range(const char* argument, const int64_t* places, int64_t count, int64_t size) {
  for (int64_t i = 0; i < count; ++i)
    TORCH_CHECK_INDEX(places[i] >= 0 && places[i] < size, argument, " must lie in [0, ", size,
                      "), got ", places[i]);
}

at::Tensor draw_weights_op(const at::Tensor& sums, const at::Tensor& indices) {
  check_places(sums, indices);
  const at::Tensor ends = sums.contiguous(), places = indices.contiguous();
  const int64_t* place = places.const_data_ptr<int64_t>();
  check_range("indices", place, places.size(0), ends.size(0));
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
  check_range("indices", place, places.size(0), memory.size(0));
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
  check_range("indices", batch.places, batch.size, memory.size(0));
  if (batch.sums != nullptr) check_range("indices", batch.places, batch.size, batch.items);
  at::Tensor numbers = moments_of(batch, fractions, score), before = at::empty_like(tensors.score);
  float* was = before.mutable_data_ptr<float>();
  count_write(memory);
  count_write(met);
  remember(memory.mutable_data_ptr<float>(), batch.places, batch.score, batch.size, rate, was);
  meet(met.mutable_data_ptr<float>(), was, batch.score, batch.size);
  return numbers;
}

at::Tensor expected_scores_into_op(at::Tensor& expected, const at::Tensor& score,
                                   const at::Tensor& experience, double prior,
                                   std::optional<double> contradicted, double share,
                                   std::optional<double> gain_cap, double floor) {
  check_expected(score, experience, prior, contradicted, share, gain_cap, floor);
  check_receiver("expected", expected, score);
  const at::Tensor scores = score.contiguous();
  count_write(expected);
  const bool bounded = expected_scores(
      {scores.const_data_ptr<float>(), scores.size(0), experience.const_data_ptr<float>(), prior,
       contradicted ? static_cast<float>(*contradicted) : INFINITY, share,
       gain_cap.value_or(INFINITY), floor, expected.mutable_data_ptr<float>()},
      look_for_signals);
  return at::full({}, static_cast<double>(bounded), score.options());
}

std::tuple<at::Tensor, at::Tensor> expected_scores_op(const at::Tensor& score,
                                                      const at::Tensor& experience, double prior,
                                                      std::optional<double> contradicted,
                                                      double share, std::optional<double> gain_cap,
                                                      double floor) {
  check_tensor("score", score);
  at::Tensor expected = at::empty_like(score, at::MemoryFormat::Contiguous);
  at::Tensor bounded = expected_scores_into_op(expected, score, experience, prior, contradicted,
                                               share, gain_cap, floor);
  return {std::move(expected), std::move(bounded)};
}

at::Tensor permuted_op(const at::Tensor& places, int64_t size, int64_t seed) {
  check_permuted(places, size);
  const at::Tensor from = places.contiguous();
  const int64_t* place = from.const_data_ptr<int64_t>();
  check_range("places", place, from.size(0), size);
  at::Tensor items = at::empty_like(from);
  permute(place, from.size(0), size, {static_cast<uint64_t>(seed), 0},
          items.mutable_data_ptr<int64_t>());
  return items;
}

}  // namespace

TORCH_LIBRARY_IMPL(isample, CPU, m) {
  m.impl("draw_weights", &draw_weights_op);
  m.impl("draw_moments", &draw_moments_op);
  m.impl("remember", &remember_op);
  m.impl("meet", &meet_op);
  m.impl("recall", &recall_op);
  m.impl("expected_scores", &expected_scores_op);
  m.impl("_expected_scores_into", &expected_scores_into_op);
  m.impl("permuted", &permuted_op);
}

}  // namespace isample::cpu
