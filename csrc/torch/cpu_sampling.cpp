// distribution, alias_table, draw and importance_sample for torch on the CPU.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cmath>
#include <memory>
#include <mutex>
#include <string_view>
#include <tuple>

#include "../cpu/sampling.h"
#include "checks.h"
#include "cpu_rows.h"

namespace isample::cpu {
namespace {

constexpr int64_t kItemsPerThread = 32768;

MassSums operator+(MassSums a, const MassSums& b) {
  a.add(b);
  return a;
}

ScoreRange operator+(const ScoreRange& a, const ScoreRange& b) {
  return {a.max > b.max ? a.max : b.max, a.valid && b.valid};
}

// `part(begin, end)` over the items, on as many threads as pay, added up. The sums are exact, so
// their order is free.
template <class Sum, class Part> Sum over_items(int64_t n, const Part& part) {
  if (n <= kItemsPerThread) return part(0, n);
  return at::parallel_reduce(
      0, n, kItemsPerThread, Sum{},
      [&](int64_t begin, int64_t end, Sum so_far) { return so_far + part(begin, end); },
      [](const Sum& a, const Sum& b) { return a + b; });
}

// Fills `mass`. The sums are 0 where a score is not valid.
MassSums quantise(const float* score, int64_t n, double floor, int32_t* mass) {
  const ScoreRange range = over_items<ScoreRange>(
      n, [&](int64_t begin, int64_t end) { return scan_scores(score, begin, end); });
  if (!range.valid) return {};
  const double scale = mass_scale(range.max, n);
  const MassSums sums = over_items<MassSums>(
      n, [&](int64_t begin, int64_t end) { return set_masses(score, scale, mass, begin, end); });
  if (floor == 0.0) return sums;
  return over_items<MassSums>(n, [&](int64_t begin, int64_t end) {
    return floor_masses(mass, floor, sums.total, n, begin, end);
  });
}

float tau_of(const MassSums& sums, int64_t n) { return sums.total == 0 ? NAN : tau(sums, n); }

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
  at::parallel_for(0, draws.indices.size(0), kItemsPerThread / 4, [&](int64_t begin, int64_t end) {
    draw_alias(items, threshold, alias, random, indices, weights, begin, end);
  });
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
    return draw_systematic(items, count, random, indices, weights);
  if (method == DrawMethod::pps) return draw_pps(items, count, random, indices, weights);
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
  const MassSums sums = quantise(scores.const_data_ptr<float>(), n, floor, mass.get());
  const float tau = tau_of(sums, n);
  if (tau_ema.has_value()) feed_tau_ema(*tau_ema, tau, momentum);

  at::Tensor probabilities = empty({n}, scores, at::kFloat);
  float* p = probabilities.mutable_data_ptr<float>();
  at::parallel_for(0, n, kItemsPerThread, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      p[i] = sums.total == 0 ? NAN : probability(mass[i], sums.total);
  });
  return {std::move(probabilities), scalar(tau, scores)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> alias_table(const at::Tensor& score,
                                                                       double floor) {
  check_score(score);
  check_share("floor", floor);
  const at::Tensor scores = score.contiguous();
  const int64_t n = scores.size(0);
  at::Tensor threshold = empty({n}, scores, at::kLong), alias = empty({n}, scores, at::kInt);
  at::Tensor mass = empty({n}, scores, at::kInt), total = empty({}, scores, at::kLong);
  const MassSums sums =
      quantise(scores.const_data_ptr<float>(), n, floor, mass.mutable_data_ptr<int32_t>());
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
  check_count("count", count, kind, n);
  const RandomStream random = random_stream(seed, offset, generator);
  const at::Tensor scores = score.contiguous();
  const auto mass = uninitialised<int32_t>(n);
  const MassSums sums = quantise(scores.const_data_ptr<float>(), n, floor, mass.get());
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

std::tuple<at::Tensor, at::Tensor> prefix_sum(const at::Tensor& score, double floor) {
  check_score(score);
  check_share("floor", floor);
  const at::Tensor scores = score.contiguous();
  const int64_t n = scores.size(0);
  const auto mass = uninitialised<int32_t>(n);
  const MassSums sums = quantise(scores.const_data_ptr<float>(), n, floor, mass.get());
  at::Tensor result = empty({n}, scores, at::kLong);
  int64_t* ends = result.mutable_data_ptr<int64_t>();
  int64_t end = 0;
  for (int64_t i = 0; i < n; ++i) ends[i] = end += sums.total == 0 ? 0 : mass[i];
  return {std::move(result), scalar(tau_of(sums, n), scores)};
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
                draws.weights.mutable_data_ptr<float>());
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
  check_count("batch_size", batch_size, method, n);
  ScoreLossTensors scored = softmax_score(logits, targets, weight, ignore_index, label_smoothing);

  const RandomStream random = random_stream(seed, offset, generator);
  const auto mass = uninitialised<int32_t>(n);
  const MassSums sums = quantise(scored.score.const_data_ptr<float>(), n, floor, mass.get());
  const float tau = tau_of(sums, n);
  feed_tau_ema(tau_ema, tau, momentum);
  Draws drawn = empty_draws(batch_size, logits);
  draw_items({mass.get(), n, sums.total}, method, random, drawn);
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
  m.impl("draw.prefix_sum", &draw_prefix_sum);
  m.impl("importance_sample", &importance_sample);
}

}  // namespace isample::cpu
