// distribution, alias_table and draw against serial loops, by one block and in stages, over kinds
// of scores and sizes.
#include <algorithm>

#include "cuda_sampling_reference.h"

namespace testing {
namespace {

using namespace isample::cuda;
using isample::DrawMethod;

std::mt19937_64 random_engine(11);
double uniform() { return std::uniform_real_distribution<double>()(random_engine); }

enum Kind {
  kUniform,
  kLognormal,
  kEqual,
  kOneHeavy,
  kZeros,
  kSparse,
  kTiny,
  kNegativeZeros,
  kHugeFirst,
  kLast,
  kMixed,
  kNan,
  kInfinite,
  kNegative,
  kKinds
};
constexpr const char* kNames[kKinds] = {
    "uniform",        "lognormal",  "equal",         "one heavy", "zeros", "sparse",   "tiny",
    "negative zeros", "huge first", "only the last", "mixed",     "nan",   "infinite", "negative"};

void fill(Fenced<float>& score, int kind) {
  for (size_t i = 0; i < score.size(); ++i) {
    const double u = uniform();
    switch (kind) {
      case kLognormal:
        score[i] =
            static_cast<float>(std::exp(3 * std::normal_distribution<double>()(random_engine)));
        break;
      case kEqual: score[i] = 0.7f; break;
      case kOneHeavy: score[i] = i == score.size() / 2 ? 1e6f : static_cast<float>(u); break;
      case kZeros: score[i] = 0.f; break;
      case kSparse: score[i] = u < 0.1 || i == 0 ? static_cast<float>(u + 0.01) : 0.f; break;
      case kTiny: score[i] = static_cast<float>(u) * 1e-40f; break;
      case kNegativeZeros: score[i] = u < 0.5 ? -0.f : static_cast<float>(u); break;
      case kHugeFirst: score[i] = i < 3 ? 3e38f : 1e30f; break;
      // What a small score comes to depends on how many bits a mass has.
      case kMixed:
        score[i] = i == score.size() / 2 ? 1.f : static_cast<float>(u < 0.5 ? 1e-12 : 1e-5 * u);
        break;
      case kLast: score[i] = i + 1 == score.size() ? 1.f : 0.f; break;
      default: score[i] = static_cast<float>(u);
    }
  }
  const size_t place = static_cast<size_t>(random_engine() % score.size());
  if (kind == kNan) score[place] = NAN;
  if (kind == kInfinite) score[place] = INFINITY;
  if (kind == kNegative) score[place] = -1e-30f;
}

struct Stages {  // the scratch of a call, fenced
  Fenced<uint64_t> memory;
  Stages(int64_t n, int64_t count, const Launcher& launcher)
      : memory((workspace_bytes(n, count, launcher) + 7) / 8, 0xfafafafafafafafau) {}
  void* data() { return memory.size() == 0 ? nullptr : memory.data(); }
  void expect_fences() const { memory.expect_fences("the workspace"); }
};

constexpr double kMomentum = 0.9;

void check_distribution(const Fenced<float>& score, double floor, const Launcher& launcher,
                        const SerialDistribution& serial) {
  const int64_t n = serial.n();
  Fenced<float> probabilities(score.size(), kUnwritten), tau(1, kUnwritten), tau_ema(1, 1.5f);
  Stages stages(n, 1, launcher);
  const DistributionTask task = {score.data(),   n,        floor, probabilities.data(), tau.data(),
                                 tau_ema.data(), kMomentum};
  expect_runs(kAnyNumber, launch_distribution, task, stages.data(), launcher);
  for (size_t i = 0; i < score.size(); ++i) {
    const float wanted =
        serial.sums.total == 0 ? NAN : isample::probability(serial.mass[i], serial.sums.total);
    if (!same_bits(probabilities[i], wanted)) {
      expect(false, "probability %zu is %g, expected %g", i, probabilities[i], wanted);
      break;
    }
  }
  expect_tau(tau[0], serial);
  expect_tau_ema(tau_ema[0], 1.5f, kMomentum, serial);
  probabilities.expect_fences("probabilities");
  stages.expect_fences();
}

void check_table(const Fenced<float>& score, double floor, const Launcher& launcher) {
  const int64_t n = static_cast<int64_t>(score.size());
  const SerialDistribution serial(score.data(), n, floor, isample::product_bits(n));
  Fenced<int64_t> threshold(score.size(), -77), total(1, -77);
  Fenced<int32_t> alias(score.size(), -77), mass(score.size(), -77);
  Stages stages(n, 1, launcher);
  const AliasTable table = {threshold.data(), alias.data(), mass.data(), total.data(), n};
  const DistributionTask task = {score.data(), n, floor, nullptr, nullptr, nullptr, 0};
  expect_runs(kAnyNumber, launch_alias_table, task, table, stages.data(), launcher);
  const SerialTable wanted(serial);
  expect(total[0] == serial.sums.total, "total is %ld, expected %ld", static_cast<long>(total[0]),
         static_cast<long>(serial.sums.total));
  for (size_t i = 0; i < score.size(); ++i) {
    const int32_t wanted_mass = serial.sums.total == 0 ? 0 : serial.mass[i];
    if (threshold[i] != wanted.threshold[i] || alias[i] != wanted.alias[i] ||
        mass[i] != wanted_mass) {
      expect(false, "bucket %zu is (%ld, %d, mass %d), expected (%ld, %d, mass %d)", i,
             static_cast<long>(threshold[i]), alias[i], mass[i],
             static_cast<long>(wanted.threshold[i]), wanted.alias[i], wanted_mass);
      break;
    }
  }
  threshold.expect_fences("threshold");
  alias.expect_fences("alias");
  mass.expect_fences("mass");
  stages.expect_fences();

  const int64_t count = std::min<int64_t>(300, 2 * n);
  DrawnInto drawn(count);
  const DrawTask draw = {DrawMethod::alias,
                         count,
                         {5, 9, nullptr, nullptr, 0},
                         drawn.indices.data(),
                         drawn.weights.data()};
  expect_runs(1, launch_draw_table, {table.threshold, table.alias, table.mass, table.total, n},
              draw, launcher);
  drawn.expect_equal(SerialDraws(serial, DrawMethod::alias, count, {5, 9}));

  // A stored table may be anyone's: aliases outside, an item of no mass or less, no total.
  struct Fault {
    int64_t alias;
    int32_t mass;
    int64_t total;
  };
  for (const Fault& fault : {Fault{INT32_MAX, 1, 9}, Fault{-1, 1, 9}, Fault{n, 1, 9},
                             Fault{0, 0, 9}, Fault{0, -3, 9}, Fault{0, 1, 0}, Fault{0, 1, -9}}) {
    for (size_t i = 0; i < score.size(); ++i) {
      threshold[i] = 0;
      alias[i] = static_cast<int32_t>(fault.alias);
      mass[i] = fault.mass;
    }
    total[0] = fault.total;
    expect_runs(1, launch_draw_table, {table.threshold, table.alias, table.mass, table.total, n},
                draw, launcher);
    drawn.expect_nothing();
  }
}

void check_prefix_sum(const Fenced<float>& score, double floor, const Launcher& launcher,
                      const SerialDistribution& serial) {
  const int64_t n = serial.n();
  Fenced<int64_t> sums(score.size(), -77);
  Fenced<float> tau(1, kUnwritten);
  Stages stages(n, 1, launcher);
  const DistributionTask task = {score.data(), n, floor, nullptr, tau.data(), nullptr, 0};
  const int mass_launches = floor != 0.0 ? 3 : 2;  // the scan takes two, what was not valid one
  expect_runs(stages.data() == nullptr ? 1 : mass_launches + 3, launch_prefix_sum, task,
              sums.data(), stages.data(), launcher);
  int64_t sum = 0;
  for (size_t i = 0; i < score.size(); ++i) {
    sum += serial.sums.total == 0 ? 0 : serial.mass[i];
    if (sums[i] != sum) {
      expect(false, "sum %zu is %ld, expected %ld", i, static_cast<long>(sums[i]),
             static_cast<long>(sum));
      break;
    }
  }
  sums.expect_fences("sums");
  expect_tau(tau[0], serial);
  stages.expect_fences();
  for (const bool stratified : {false, true}) {
    const int64_t count = std::min<int64_t>(300, 2 * n);
    DrawnInto drawn(count);
    const DrawTask draw = {DrawMethod::systematic,
                           count,
                           {5, 9, nullptr, nullptr, 0},
                           drawn.indices.data(),
                           drawn.weights.data()};
    expect_runs(1, launch_draw_prefix_sum, sums.data(), n, stratified, draw, launcher);
    drawn.expect_equal(SerialDraws(serial, stratified, count, {5, 9}));
    const int64_t whole = sums[score.size() - 1];
    sums[score.size() - 1] = -3;
    expect_runs(1, launch_draw_prefix_sum, sums.data(), n, stratified, draw, launcher);
    drawn.expect_nothing();
    sums[score.size() - 1] = whole;
  }
}

void check_draws(const Fenced<float>& score, double floor, DrawMethod method, int64_t count,
                 const Launcher& launcher, const SerialDistribution& serial) {
  const int64_t n = serial.n();
  // As in a captured graph: seed and offset lie on the device, the offset in words, four to a
  // block.
  Fenced<int64_t> seed(1, 0), offset(1, 0);
  seed[0] = static_cast<int64_t>(random_engine());
  offset[0] = 4 * 1000 + 8;
  const bool captured = count % 2 == 0;
  const RandomSource random =
      captured ? RandomSource{1, 1, seed.data(), offset.data(), 12}
               : RandomSource{static_cast<uint64_t>(seed[0]), 1005, nullptr, nullptr, 99};
  Fenced<float> tau(1, kUnwritten), tau_ema(1, 1.5f);
  const bool averages = method == DrawMethod::pps;  // or gives tau itself
  DrawnInto drawn(count);
  Stages stages(n, count, launcher);
  const DistributionTask task = {score.data(),
                                 n,
                                 floor,
                                 nullptr,
                                 averages ? nullptr : tau.data(),
                                 averages ? tau_ema.data() : nullptr,
                                 kMomentum};
  const DrawTask draw = {method, count, random, drawn.indices.data(), drawn.weights.data()};
  expect_runs(stages.data() == nullptr ? 1 : kAnyNumber, launch_draw, task, draw, stages.data(),
              launcher, count % 2 == 0);
  const SerialDistribution drawn_from(score.data(), n, floor, isample::draw_bits(method, n));
  drawn.expect_equal(
      SerialDraws(drawn_from, method, count, {static_cast<uint64_t>(seed[0]), 1005}));
  if (averages) expect_tau_ema(tau_ema[0], 1.5f, kMomentum, serial);
  else expect_tau(tau[0], serial);
  stages.expect_fences();
}

void check_everything(int kind, int64_t n, const Launcher& launcher) {
  Fenced<float> score(static_cast<size_t>(n), NAN);
  fill(score, kind);
  for (const double floor : {0.0, 0.25}) {
    if (floor > 0 && kind > kSparse && kind != kNan) continue;
    if (floor > 0 && n > 50000) continue;  // it takes its time
    const SerialDistribution serial(score.data(), n, floor);
    std::snprintf(context, sizeof context,
                  "%s, n = %ld, floor %g, %zu KB of shared memory, distribution", kNames[kind],
                  static_cast<long>(n), floor, launcher.shared_bytes / 1024);
    check_distribution(score, floor, launcher, serial);
    std::snprintf(context, sizeof context, "%s, n = %ld, floor %g, %zu KB of shared memory, table",
                  kNames[kind], static_cast<long>(n), floor, launcher.shared_bytes / 1024);
    check_table(score, floor, launcher);
    std::snprintf(context, sizeof context,
                  "%s, n = %ld, floor %g, %zu KB of shared memory, prefix sum", kNames[kind],
                  static_cast<long>(n), floor, launcher.shared_bytes / 1024);
    check_prefix_sum(score, floor, launcher, serial);
    for (const DrawMethod method : {DrawMethod::alias, DrawMethod::systematic, DrawMethod::pps})
      for (const int64_t count : {int64_t{1}, (n + 4) / 5, n - n / 8, 2 * n + 1}) {
        if (method == DrawMethod::pps && count > n) continue;
        if (n > 200 && count == 1) continue;
        if (n > 10000 && method != DrawMethod::pps && count > 20000) continue;
        std::snprintf(context, sizeof context,
                      "%s, n = %ld, floor %g, %zu KB of shared memory, method %d, %ld draws",
                      kNames[kind], static_cast<long>(n), floor, launcher.shared_bytes / 1024,
                      static_cast<int>(method), static_cast<long>(count));
        check_draws(score, floor, method, count, launcher, serial);
      }
  }
}

}  // namespace

void test_sampling() {
  for (int kind = 0; kind < kKinds; ++kind)
    for (const int64_t n : {1, 2, 3, 128, 333}) check_everything(kind, n, small_chip(227));
  check_everything(kSparse, 1500, small_chip(227));  // 1024 threads
  check_everything(kLognormal, 4096, small_chip(99));
}

void test_stages() {
  for (int kind = 0; kind < kKinds; ++kind) check_everything(kind, 33, small_chip(1));  // one block
  for (const int kind : {kLognormal, kEqual, kSparse, kLast, kNan})
    check_everything(kind, 5003, small_chip(20));      // several blocks
  check_everything(kOneHeavy, 40011, small_chip(99));  // more than one tile a block
  check_everything(kMixed, 70001, small_chip(20));     // draws of fewer bits than tau has
}

// More items than float32 and alias tables can number: minutes on the stand-in.
void test_large() {
  const int64_t n = (int64_t{1} << 24) + 1;
  Fenced<float> score(static_cast<size_t>(n), NAN);
  fill(score, kLognormal);
  score[score.size() - 1] = 1e6f;
  const SerialDistribution serial(score.data(), n, 0.0);
  std::snprintf(context, sizeof context, "n = %ld", static_cast<long>(n));
  check_distribution(score, 0.0, small_chip(227), serial);
  check_prefix_sum(score, 0.0, small_chip(227), serial);
  check_draws(score, 0.0, DrawMethod::systematic, 999, small_chip(227), serial);

  Fenced<float> most(static_cast<size_t>(isample::kMaxTableItems), NAN);
  fill(most, kLognormal);
  check_draws(most, 0.0, DrawMethod::pps, 999, small_chip(227),
              SerialDistribution(most.data(), isample::kMaxTableItems, 0.0));
}

}  // namespace testing
