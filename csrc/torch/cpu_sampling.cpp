// distribution, alias_table, draw and importance_sample for torch on the CPU.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cmath>
#include <memory>
#include <mutex>
#include <string_view>
#include <tuple>

#include "checks.h"
#include "cpu_quantise.h"
#include "cpu_rows.h"

namespace isample::cpu {
namespace {

void feed_tau_ema(const at::Tensor& tau_ema, float tau, double momentum) {
  if (std::isnan(tau)) return;
  count_write(tau_ema);
  float* value = tau_ema.mutable_data_ptr<float>();
  *value = update_tau_ema(*value, tau, momentum);
}

template <class T> std::unique_ptr<T[]> uninitialised(int64_t n) {
  return std::unique_ptr<T[]>(new T[n]);
}

at::Tensor empty(at::IntArrayRef shape, const at::Tensor& like, at::ScalarType type) {
  return at::empty(shape, like.options().dtype(type));
}

at::Tensor scalar(float value, const at::Tensor& like) {
  at::Tensor result = empty({}, like, at::kFloat);
  *result.mutable_data_ptr<float>() = value;
  return result;
}

// ---- Draws --------------------------------------------------------------------------------------

RandomStream random_stream(std::optional<int64_t> seed, int64_t offset,
                           const std::optional<at::Generator>& generator) {
  TORCH_CHECK_VALUE(offset >= 0, "offset must not be negative, got ", offset);
  if (seed.has_value()) return {static_cast<uint64_t>(*seed), static_cast<uint64_t>(offset)};
  auto* source = at::get_generator_or_default<at::CPUGeneratorImpl>(
      generator, at::detail::getDefaultCPUGenerator());
  const std::lock_guard<std::mutex> lock(source->mutex_);
  return {source->random64(), static_cast<uint64_t>(offset)};
}

struct Draws {
  at::Tensor indices, weights;
};

Draws empty_draws(int64_t count, const at::Tensor& like) {
  return {empty({count}, like, at::kLong), empty({count}, like, at::kFloat)};
}

void draw_from_table(const Items& items, const int64_t* threshold, const int32_t* alias,
                     RandomStream random, const Draws& draws) {
  int64_t* indices = draws.indices.mutable_data_ptr<int64_t>();
  float* weights = draws.weights.mutable_data_ptr<float>();
  const auto draw = [&](int64_t begin, int64_t end) {
    draw_alias(items, threshold, alias, random, indices, weights, begin, end);
  };
  in_chunks(
      draws.indices.size(0), kPlacesBetweenLooks, look_for_signals,
      [&](int64_t begin, int64_t end) { at::parallel_for(begin, end, kItemsPerThread / 4, draw); });
}

// The scores were not valid: what is drawn must show it.
void draw_nothing(const Draws& draws) {
  draws.indices.zero_();
  draws.weights.fill_(NAN);
}

void draw_items(const Items& items, DrawMethod method, RandomStream random, const Draws& draws) {
  if (items.total == 0) return draw_nothing(draws);
  const int64_t count = draws.indices.size(0);
  int64_t* indices = draws.indices.mutable_data_ptr<int64_t>();
  float* weights = draws.weights.mutable_data_ptr<float>();
  if (method == DrawMethod::systematic)
    return draw_systematic(items, count, random, indices, weights, look_for_signals);
  if (method == DrawMethod::pps)
    return draw_pps(items, count, random, indices, weights, look_for_signals);
  const auto threshold = uninitialised<int64_t>(items.n);
  const auto alias = uninitialised<int32_t>(items.n);
  build_alias_table(items.mass, items.n, items.total, threshold.get(), alias.get());
  draw_from_table(items, threshold.get(), alias.get(), random, draws);
}

// ---- Ops ----------------------------------------------------------------------------------------

std::tuple<at::Tensor, at::Tensor> distribution(const at::Tensor& score, double floor,
                                                const std::optional<at::Tensor>& tau_ema,
                                                double momentum) {
  check_score(score);
  check_share("floor", floor);
  check_share("momentum", momentum);
  if (tau_ema.has_value()) check_tau_ema(*tau_ema, "score", score.device(), {{"score", score}});
  const at::Tensor scores = score.contiguous();
  const int64_t n = scores.size(0);
  const auto mass = uninitialised<int32_t>(n);
  const MassSums sums = quantise(scores.const_data_ptr<float>(), n, kSumBits, floor, mass.get());
  at::Tensor probabilities = empty({n}, scores, at::kFloat);
  float* p = probabilities.mutable_data_ptr<float>();
  at::parallel_for(0, n, kItemsPerThread, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      p[i] = sums.total == 0 ? NAN : probability(mass[i], sums.total);
  });
  const float tau = tau_of(sums, n);
  if (tau_ema.has_value()) feed_tau_ema(*tau_ema, tau, momentum);
  return {std::move(probabilities), scalar(tau, scores)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> alias_table(const at::Tensor& score,
                                                                       double floor) {
  check_score(score);
  check_table_items("score", score.size(0));
  check_share("floor", floor);
  const at::Tensor scores = score.contiguous();
  const int64_t n = scores.size(0);
  at::Tensor threshold = empty({n}, scores, at::kLong), alias = empty({n}, scores, at::kInt);
  at::Tensor mass = empty({n}, scores, at::kInt), total = empty({}, scores, at::kLong);
  const MassSums sums = quantise(scores.const_data_ptr<float>(), n, product_bits(n), floor,
                                 mass.mutable_data_ptr<int32_t>());
  *total.mutable_data_ptr<int64_t>() = sums.total;
  if (sums.total == 0) {
    threshold.zero_();
    alias.zero_();
    mass.zero_();
  } else {
    build_alias_table(mass.const_data_ptr<int32_t>(), n, sums.total,
                      threshold.mutable_data_ptr<int64_t>(), alias.mutable_data_ptr<int32_t>());
  }
  return {std::move(threshold), std::move(alias), std::move(mass), std::move(total)};
}

std::tuple<at::Tensor, at::Tensor> draw(const at::Tensor& score, int64_t count,
                                        std::string_view method, double floor,
                                        std::optional<int64_t> seed, int64_t offset,
                                        const std::optional<at::Generator>& generator) {
  check_score(score);
  check_share("floor", floor);
  const int64_t n = score.size(0);
  const DrawMethod kind = parse_method("method", method);
  check_draw_items("score", kind, n);
  check_count("count", count, kind, n);
  const RandomStream random = random_stream(seed, offset, generator);
  const at::Tensor scores = score.contiguous();
  const auto mass = uninitialised<int32_t>(n);
  const MassSums sums =
      quantise(scores.const_data_ptr<float>(), n, draw_bits(kind, n), floor, mass.get());
  Draws draws = empty_draws(count, scores);
  draw_items({mass.get(), n, sums.total}, kind, random, draws);
  return {std::move(draws.indices), std::move(draws.weights)};
}

std::tuple<at::Tensor, at::Tensor> draw_table(const at::Tensor& threshold, const at::Tensor& alias,
                                              const at::Tensor& mass, const at::Tensor& total,
                                              int64_t count, std::optional<int64_t> seed,
                                              int64_t offset,
                                              const std::optional<at::Generator>& generator) {
  check_table(threshold, alias, mass, total);
  const int64_t n = threshold.size(0);
  check_count("count", count, DrawMethod::alias, n);
  const RandomStream random = random_stream(seed, offset, generator);
  const at::Tensor thresholds = threshold.contiguous(), aliases = alias.contiguous(),
                   masses = mass.contiguous();
  const Items items = {masses.const_data_ptr<int32_t>(), n, *total.const_data_ptr<int64_t>()};
  Draws draws = empty_draws(count, threshold);
  if (items.total <= 0) draw_nothing(draws);
  else
    draw_from_table(items, thresholds.const_data_ptr<int64_t>(), aliases.const_data_ptr<int32_t>(),
                    random, draws);
  return {std::move(draws.indices), std::move(draws.weights)};
}

// Returns tau; where a score is not valid the sums stay as they are. The masses need no memory of
// their own: the sums have room for them.
float set_prefix_sums(const at::Tensor& score, double floor, const at::Tensor& sums) {
  const int64_t n = score.size(0);
  int64_t* ends = sums.mutable_data_ptr<int64_t>();
  int32_t* mass = reinterpret_cast<int32_t*>(ends) + n;
  const MassSums totals = quantise(score.const_data_ptr<float>(), n, kSumBits, floor, mass);
  if (totals.total != 0) sum_masses(mass, n, ends, look_for_signals);
  return tau_of(totals, n);
}

std::tuple<at::Tensor, at::Tensor> prefix_sum(const at::Tensor& score, double floor) {
  check_score(score);
  check_share("floor", floor);
  at::Tensor sums = empty({score.size(0)}, score, at::kLong);
  const float tau = set_prefix_sums(score.contiguous(), floor, sums);
  if (std::isnan(tau)) sums.zero_();
  return {std::move(sums), scalar(tau, score)};
}

at::Tensor prefix_sum_into(at::Tensor& sums, const at::Tensor& score, double floor) {
  check_score(score);
  check_share("floor", floor);
  check_sums_of(sums, score);
  count_write(sums);
  return scalar(set_prefix_sums(score.contiguous(), floor, sums), score);
}

std::tuple<at::Tensor, at::Tensor> draw_prefix_sum(const at::Tensor& sums, int64_t count,
                                                   c10::string_view method,
                                                   std::optional<int64_t> seed, int64_t offset,
                                                   const std::optional<at::Generator>& generator) {
  check_prefix_sums(sums);
  const int64_t n = sums.size(0);
  const bool stratified = parse_spread(method);
  check_count("count", count, DrawMethod::systematic, n);
  const RandomStream random = random_stream(seed, offset, generator);
  const at::Tensor ends = sums.contiguous();
  const int64_t* data = ends.const_data_ptr<int64_t>();
  Draws draws = empty_draws(count, sums);
  if (data[n - 1] <= 0) draw_nothing(draws);
  else
    draw_spread(data, n, count, stratified, random, draws.indices.mutable_data_ptr<int64_t>(),
                draws.weights.mutable_data_ptr<float>(), look_for_signals);
  return {std::move(draws.indices), std::move(draws.weights)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> importance_sample(
    const at::Tensor& logits, const at::Tensor& targets, int64_t batch_size,
    const at::Tensor& tau_ema, double momentum, std::string_view draws, double floor,
    const std::optional<at::Tensor>& weight, int64_t ignore_index, double label_smoothing,
    std::optional<int64_t> seed, int64_t offset, const std::optional<at::Generator>& generator) {
  check_logits(logits);
  check_tau_ema(tau_ema, "logits", logits.device(),
                {{"logits", logits}, {"targets", targets}, {"weight", weight}});
  check_share("momentum", momentum);
  check_share("floor", floor);
  const int64_t n = logits.size(0);
  check_item_count("logits", n);
  const DrawMethod method = parse_method("draws", draws);
  check_draw_items("logits", method, n);
  check_count("batch_size", batch_size, method, n);
  ScoreLossTensors scored = softmax_score(logits, targets, weight, ignore_index, label_smoothing);

  const RandomStream random = random_stream(seed, offset, generator);
  const auto mass = uninitialised<int32_t>(n);
  const float* score = scored.score.const_data_ptr<float>();
  MassSums sums = quantise(score, n, kSumBits, floor, mass.get());
  const float tau = tau_of(sums, n);
  if (const int bits = draw_bits(method, n); bits != kSumBits)
    sums = quantise(score, n, bits, floor, mass.get());
  Draws drawn = empty_draws(batch_size, logits);
  draw_items({mass.get(), n, sums.total}, method, random, drawn);
  feed_tau_ema(tau_ema, tau, momentum);
  return {std::move(drawn.indices), std::move(drawn.weights), std::move(scored.score),
          std::move(scored.loss), scalar(tau, logits)};
}

}  // namespace

TORCH_LIBRARY_IMPL(isample, CPU, m) {
  m.impl("distribution", &distribution);
  m.impl("alias_table", &alias_table);
  m.impl("draw", &draw);
  m.impl("draw.table", &draw_table);
  m.impl("prefix_sum", &prefix_sum);
  m.impl("_prefix_sum_into", &prefix_sum_into);
  m.impl("draw.prefix_sum", &draw_prefix_sum);
  m.impl("importance_sample", &importance_sample);
}

}  // namespace isample::cpu
