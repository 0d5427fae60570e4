// The ops that remember scores, for torch on CUDA. An index that is out of range shows as NaN.
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>
#include <utility>

#include "cuda_launcher.h"
#include "memory_checks.h"

namespace isample::cuda {
namespace {

using Given = std::optional<at::Tensor>;

Fractions fractions_of(at::ArrayRef<double> values) {
  Fractions fractions = {{}, static_cast<int>(values.size())};
  std::copy(values.begin(), values.end(), fractions.values);
  return fractions;
}

at::Tensor draw_weights(const at::Tensor& sums, const at::Tensor& indices) {
  check_places(sums, indices);
  const c10::cuda::OptionalCUDAGuard guard(sums.device());
  const at::Tensor ends = sums.contiguous(), places = indices.contiguous();
  const int64_t count = places.size(0);
  at::Tensor weights = empty({count}, indices, at::kFloat);
  check_launch(launch_draw_weights(ends.const_data_ptr<int64_t>(), ends.size(0),
                                   places.const_data_ptr<int64_t>(), count,
                                   weights.mutable_data_ptr<float>(), launcher()));
  return weights;
}

at::Tensor draw_moments(const at::Tensor& score, const at::Tensor& weights, bool drawn,
                        at::ArrayRef<double> fractions) {
  check_moments(score, weights, fractions);
  const c10::cuda::OptionalCUDAGuard guard(score.device());
  const BatchTensors tensors(score, drawn, weights, std::nullopt, std::nullopt);
  at::Tensor numbers = empty({moment_count(fractions)}, score, at::kDouble);
  check_launch(launch_draw_moments(tensors.batch, fractions_of(fractions),
                                   numbers.mutable_data_ptr<double>(), launcher()));
  return numbers;
}

at::Tensor remember(at::Tensor& memory, const at::Tensor& indices, const at::Tensor& score,
                    double rate) {
  check_remember(memory, indices, score, rate);
  const c10::cuda::OptionalCUDAGuard guard(score.device());
  const at::Tensor places = indices.contiguous(), fresh = score.contiguous();
  at::Tensor before = at::empty_like(fresh);
  count_write(memory);
  check_launch(launch_remember(
      {memory.mutable_data_ptr<float>(), memory.size(0), places.const_data_ptr<int64_t>(),
       fresh.const_data_ptr<float>(), fresh.size(0), rate, before.mutable_data_ptr<float>()},
      launcher()));
  return before;
}

void meet(at::Tensor& met, const at::Tensor& remembered, const at::Tensor& fresh) {
  check_meet(met, remembered, fresh);
  const c10::cuda::OptionalCUDAGuard guard(met.device());
  const at::Tensor before = remembered.contiguous(), after = fresh.contiguous();
  count_write(met);
  check_launch(launch_meet({met.mutable_data_ptr<float>(), before.const_data_ptr<float>(),
                            after.const_data_ptr<float>(), after.size(0)},
                           launcher()));
}

at::Tensor recall(at::Tensor& memory, at::Tensor& met, const at::Tensor& score,
                  const at::Tensor& indices, const Given& weights, const Given& sums,
                  at::ArrayRef<double> fractions, double rate) {
  check_recall(memory, met, score, indices, weights, sums, fractions, rate);
  const c10::cuda::OptionalCUDAGuard guard(score.device());
  const BatchTensors tensors(score, weights.has_value(), weights, sums, indices);
  const ScoredBatch& batch = tensors.batch;
  at::Tensor numbers = empty({moment_count(fractions)}, score, at::kDouble),
             before = at::empty_like(tensors.score);
  count_write(memory);
  count_write(met);
  const RememberTask task = {
      memory.mutable_data_ptr<float>(), memory.size(0), batch.places, batch.score, batch.size, rate,
      before.mutable_data_ptr<float>()};
  check_launch(launch_recall(batch, fractions_of(fractions), numbers.mutable_data_ptr<double>(),
                             task, met.mutable_data_ptr<float>(), launcher()));
  return numbers;
}

at::Tensor expected_scores_into(at::Tensor& expected, const at::Tensor& score,
                                const at::Tensor& experience, double prior,
                                std::optional<double> contradicted, double share,
                                std::optional<double> gain_cap, double floor) {
  check_expected(score, experience, prior, contradicted, share, gain_cap, floor);
  check_receiver("expected", expected, score);
  const c10::cuda::OptionalCUDAGuard guard(score.device());
  const at::Tensor scores = score.contiguous();
  at::Tensor bounded = empty({}, score, at::kFloat);
  const at::Tensor workspace = scratch(expected_workspace_bytes(), score);
  const ExpectedTask task = {scores.const_data_ptr<float>(),
                             scores.size(0),
                             experience.const_data_ptr<float>(),
                             prior,
                             contradicted ? static_cast<float>(*contradicted) : INFINITY,
                             share,
                             gain_cap.value_or(INFINITY),
                             floor,
                             expected.mutable_data_ptr<float>(),
                             bounded.mutable_data_ptr<float>()};
  count_write(expected);
  check_launch(launch_expected_scores(task, workspace.mutable_data_ptr(), launcher()));
  return bounded;
}

std::tuple<at::Tensor, at::Tensor> expected_scores(const at::Tensor& score,
                                                   const at::Tensor& experience, double prior,
                                                   std::optional<double> contradicted, double share,
                                                   std::optional<double> gain_cap, double floor) {
  check_tensor("score", score);
  at::Tensor expected = at::empty_like(score, at::MemoryFormat::Contiguous);
  at::Tensor bounded = expected_scores_into(expected, score, experience, prior, contradicted, share,
                                            gain_cap, floor);
  return {std::move(expected), std::move(bounded)};
}

at::Tensor permuted(const at::Tensor& places, int64_t size, int64_t seed) {
  check_permuted(places, size);
  const c10::cuda::OptionalCUDAGuard guard(places.device());
  const at::Tensor from = places.contiguous();
  at::Tensor items = at::empty_like(from);
  check_launch(launch_permuted({from.const_data_ptr<int64_t>(), from.size(0), size,
                                static_cast<uint64_t>(seed), items.mutable_data_ptr<int64_t>()},
                               launcher()));
  return items;
}

}  // namespace

TORCH_LIBRARY_IMPL(isample, CUDA, m) {
  m.impl("draw_weights", &draw_weights);
  m.impl("draw_moments", &draw_moments);
  m.impl("remember", &remember);
  m.impl("meet", &meet);
  m.impl("recall", &recall);
  m.impl("expected_scores", &expected_scores);
  m.impl("_expected_scores_into", &expected_scores_into);
  m.impl("permuted", &permuted);
}

}  // namespace isample::cuda
