// Scores to draws for torch on CUDA: checks, tensors to raw pointers, torch's stream, allocator and
// generator. Nothing here waits for the device: what can only be seen there (a label out of range,
// a score that is NaN) shows in tau.
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <mutex>
#include <optional>
#include <string_view>
#include <tuple>
#include <utility>

#include "checks.h"
#include "cuda_scoring.h"

namespace isample::cuda {
namespace {

// Draws need four 32-bit words each of a stream of their own; the generator is moved on by one
// block of four for a call.
RandomSource random_source(std::optional<int64_t> seed, int64_t offset,
                           const std::optional<at::Generator>& generator, at::Device device) {
  TORCH_CHECK_VALUE(offset >= 0, "offset must not be negative, got ", offset);
  if (seed.has_value())
    return {static_cast<uint64_t>(*seed), static_cast<uint64_t>(offset), nullptr, nullptr, 0};
  auto* source = at::get_generator_or_default<at::CUDAGeneratorImpl>(
      generator, at::cuda::detail::getDefaultCUDAGenerator(device.index()));
  TORCH_CHECK_VALUE(source->device() == device, "generator must be on the device of the scores, ",
                    device, ", got ", source->device());
  const std::lock_guard<std::mutex> lock(source->mutex_);
  const at::PhiloxCudaState state = source->philox_cuda_state(4);
  if (state.captured_) return {0, 0, state.seed_.ptr, state.offset_.ptr, state.offset_intragraph_};
  return {state.seed_.val, state.offset_.val / 4, nullptr, nullptr, 0};
}

struct Drawn {
  at::Tensor indices, weights;
  DrawTask task;
};

Drawn drawing(DrawMethod method, int64_t count, const RandomSource& random,
              const at::Tensor& like) {
  Drawn d = {empty({count}, like, at::kLong), empty({count}, like, at::kFloat), {}};
  d.task = {method, count, random, d.indices.mutable_data_ptr<int64_t>(),
            d.weights.mutable_data_ptr<float>()};
  return d;
}

// ---- Ops ----------------------------------------------------------------------------------------

std::tuple<at::Tensor, at::Tensor> softmax_score_cuda(const at::Tensor& logits,
                                                      const at::Tensor& targets,
                                                      const std::optional<at::Tensor>& weight,
                                                      int64_t ignore_index,
                                                      double label_smoothing) {
  check_softmax_score(logits, targets, weight, ignore_index, label_smoothing);
  const c10::cuda::OptionalCUDAGuard guard(logits.device());
  const Launcher on = launcher();
  Scoring s = scoring(logits, targets, weight, ignore_index, label_smoothing, on);
  check_launch(launch_softmax_score(s.task, on));
  return {std::move(s.score), std::move(s.loss)};
}

std::tuple<at::Tensor, at::Tensor> distribution_cuda(const at::Tensor& score, double floor,
                                                     const std::optional<at::Tensor>& tau_ema,
                                                     double momentum) {
  check_score(score);
  check_share("floor", floor);
  check_share("momentum", momentum);
  if (tau_ema.has_value()) check_tau_ema(*tau_ema, "score", score.device(), {{"score", score}});
  const c10::cuda::OptionalCUDAGuard guard(score.device());
  const Launcher on = launcher();
  const at::Tensor scores = score.contiguous();
  const int64_t n = scores.size(0);
  at::Tensor probabilities = empty({n}, scores, at::kFloat), tau = empty({}, scores, at::kFloat);
  const at::Tensor workspace = scratch(workspace_bytes(n, 1, on), scores);
  const DistributionTask task = {scores.const_data_ptr<float>(),
                                 n,
                                 floor,
                                 probabilities.mutable_data_ptr<float>(),
                                 tau.mutable_data_ptr<float>(),
                                 tau_ema.has_value() ? tau_ema->mutable_data_ptr<float>() : nullptr,
                                 momentum};
  if (tau_ema.has_value()) count_write(*tau_ema);
  check_launch(launch_distribution(task, workspace.mutable_data_ptr(), on));
  return {std::move(probabilities), std::move(tau)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> alias_table_cuda(const at::Tensor& score,
                                                                            double floor) {
  check_score(score);
  check_table_items("score", score.size(0));
  check_share("floor", floor);
  const c10::cuda::OptionalCUDAGuard guard(score.device());
  const Launcher on = launcher();
  const at::Tensor scores = score.contiguous();
  const int64_t n = scores.size(0);
  at::Tensor threshold = empty({n}, scores, at::kLong), alias = empty({n}, scores, at::kInt);
  at::Tensor mass = empty({n}, scores, at::kInt), total = empty({}, scores, at::kLong);
  const at::Tensor workspace = scratch(workspace_bytes(n, 1, on), scores);
  const DistributionTask task = {
      scores.const_data_ptr<float>(), n, floor, nullptr, nullptr, nullptr, 0.0};
  const AliasTable table = {threshold.mutable_data_ptr<int64_t>(),
                            alias.mutable_data_ptr<int32_t>(), mass.mutable_data_ptr<int32_t>(),
                            total.mutable_data_ptr<int64_t>(), n};
  check_launch(launch_alias_table(task, table, workspace.mutable_data_ptr(), on));
  return {std::move(threshold), std::move(alias), std::move(mass), std::move(total)};
}

std::tuple<at::Tensor, at::Tensor> draw_cuda(const at::Tensor& score, int64_t count,
                                             std::string_view method, double floor,
                                             std::optional<int64_t> seed, int64_t offset,
                                             const std::optional<at::Generator>& generator) {
  check_score(score);
  check_share("floor", floor);
  const int64_t n = score.size(0);
  const DrawMethod kind = parse_method("method", method);
  check_draw_items("score", kind, n, true);
  check_count("count", count, kind, n);
  const c10::cuda::OptionalCUDAGuard guard(score.device());
  const Launcher on = launcher();
  const RandomSource random = random_source(seed, offset, generator, score.device());
  const at::Tensor scores = score.contiguous();
  Drawn d = drawing(kind, count, random, scores);
  const at::Tensor workspace = scratch(workspace_bytes(n, count, on), scores);
  const DistributionTask task = {
      scores.const_data_ptr<float>(), n, floor, nullptr, nullptr, nullptr, 0.0};
  check_launch(launch_draw(task, d.task, workspace.mutable_data_ptr(), on, /*follows=*/false));
  return {std::move(d.indices), std::move(d.weights)};
}

std::tuple<at::Tensor, at::Tensor> draw_table_cuda(const at::Tensor& threshold,
                                                   const at::Tensor& alias, const at::Tensor& mass,
                                                   const at::Tensor& total, int64_t count,
                                                   std::optional<int64_t> seed, int64_t offset,
                                                   const std::optional<at::Generator>& generator) {
  check_table(threshold, alias, mass, total);
  const int64_t n = threshold.size(0);
  check_count("count", count, DrawMethod::alias, n);
  const c10::cuda::OptionalCUDAGuard guard(threshold.device());
  const Launcher on = launcher();
  const RandomSource random = random_source(seed, offset, generator, threshold.device());
  const at::Tensor thresholds = threshold.contiguous(), aliases = alias.contiguous(),
                   masses = mass.contiguous();
  const ConstAliasTable table = {
      thresholds.const_data_ptr<int64_t>(), aliases.const_data_ptr<int32_t>(),
      masses.const_data_ptr<int32_t>(), total.const_data_ptr<int64_t>(), n};
  Drawn d = drawing(DrawMethod::alias, count, random, threshold);
  check_launch(launch_draw_table(table, d.task, on));
  return {std::move(d.indices), std::move(d.weights)};
}

// Blocks come in any order, so scores that lie in `sums` are copied before they are overwritten.
at::Tensor prefix_sum_into_cuda(at::Tensor& sums, const at::Tensor& score, double floor) {
  check_score(score);
  check_share("floor", floor);
  check_sums_of(sums, score);
  const c10::cuda::OptionalCUDAGuard guard(score.device());
  const Launcher on = launcher();
  const at::Tensor scores = score.is_alias_of(sums) ? score.clone() : score.contiguous();
  const int64_t n = scores.size(0);
  at::Tensor tau = empty({}, scores, at::kFloat);
  count_write(sums);
  const at::Tensor workspace = scratch(workspace_bytes(n, 1, on), scores);
  const DistributionTask task = {scores.const_data_ptr<float>(), n,       floor, nullptr,
                                 tau.mutable_data_ptr<float>(),  nullptr, 0.0};
  check_launch(
      launch_prefix_sum(task, sums.mutable_data_ptr<int64_t>(), workspace.mutable_data_ptr(), on));
  return tau;
}

std::tuple<at::Tensor, at::Tensor> prefix_sum_cuda(const at::Tensor& score, double floor) {
  check_score(score);
  at::Tensor sums = empty({score.size(0)}, score, at::kLong);
  at::Tensor tau = prefix_sum_into_cuda(sums, score, floor);
  return {std::move(sums), std::move(tau)};
}

std::tuple<at::Tensor, at::Tensor> draw_prefix_sum_cuda(
    const at::Tensor& sums, int64_t count, std::string_view method, std::optional<int64_t> seed,
    int64_t offset, const std::optional<at::Generator>& generator) {
  check_prefix_sums(sums);
  const int64_t n = sums.size(0);
  const bool stratified = parse_spread(method);
  check_count("count", count, DrawMethod::systematic, n);
  const c10::cuda::OptionalCUDAGuard guard(sums.device());
  const Launcher on = launcher();
  const RandomSource random = random_source(seed, offset, generator, sums.device());
  const at::Tensor ends = sums.contiguous();
  Drawn d = drawing(DrawMethod::systematic, count, random, sums);
  check_launch(launch_draw_prefix_sum(ends.const_data_ptr<int64_t>(), n, stratified, d.task, on));
  return {std::move(d.indices), std::move(d.weights)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> importance_sample_cuda(
    const at::Tensor& logits, const at::Tensor& targets, int64_t batch_size,
    const at::Tensor& tau_ema, double momentum, std::string_view draws, double floor,
    const std::optional<at::Tensor>& weight, int64_t ignore_index, double label_smoothing,
    std::optional<int64_t> seed, int64_t offset, const std::optional<at::Generator>& generator) {
  check_softmax_score(logits, targets, weight, ignore_index, label_smoothing);
  check_tau_ema(tau_ema, "logits", logits.device(),
                {{"logits", logits}, {"targets", targets}, {"weight", weight}});
  check_share("momentum", momentum);
  check_share("floor", floor);
  const int64_t n = logits.size(0);
  check_item_count("logits", n);
  const DrawMethod method = parse_method("draws", draws);
  check_draw_items("logits", method, n, true);
  check_count("batch_size", batch_size, method, n);
  const c10::cuda::OptionalCUDAGuard guard(logits.device());
  const Launcher on = launcher();
  const RandomSource random = random_source(seed, offset, generator, logits.device());
  Scoring s = scoring(logits, targets, weight, ignore_index, label_smoothing, on);
  Drawn d = drawing(method, batch_size, random, logits);
  at::Tensor tau = empty({}, logits, at::kFloat);
  const at::Tensor workspace = scratch(workspace_bytes(n, batch_size, on), logits);
  const DistributionTask task = {s.task.score,
                                 n,
                                 floor,
                                 nullptr,
                                 tau.mutable_data_ptr<float>(),
                                 tau_ema.mutable_data_ptr<float>(),
                                 momentum};
  count_write(tau_ema);
  check_launch(launch_importance_sample(s.task, task, d.task, workspace.mutable_data_ptr(), on));
  return {std::move(d.indices), std::move(d.weights), std::move(s.score), std::move(s.loss),
          std::move(tau)};
}

}  // namespace

TORCH_LIBRARY_IMPL(isample, CUDA, m) {
  m.impl("softmax_score", &softmax_score_cuda);
  m.impl("distribution", &distribution_cuda);
  m.impl("alias_table", &alias_table_cuda);
  m.impl("draw", &draw_cuda);
  m.impl("draw.table", &draw_table_cuda);
  m.impl("prefix_sum", &prefix_sum_cuda);
  m.impl("_prefix_sum_into", &prefix_sum_into_cuda);
  m.impl("draw.prefix_sum", &draw_prefix_sum_cuda);
  m.impl("importance_sample", &importance_sample_cuda);
}

}  // namespace isample::cuda
