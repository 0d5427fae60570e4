// Microbenchmarks of the CPU loops on one thread, without torch or Python.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "cpu/sampling.h"
#include "cpu/score.h"

namespace {

using namespace isample;
using namespace isample::cpu;

void score(benchmark::State& state, const ScoreLoops* loops) {
  const int64_t rows = state.range(0), classes = state.range(1);
  std::mt19937 random(0);
  std::normal_distribution<float> normal(0.f, 2.f);
  std::vector<float> logits(static_cast<size_t>(rows * classes)), score(static_cast<size_t>(rows)),
      loss(score);
  std::vector<int64_t> labels(static_cast<size_t>(rows));
  for (float& z : logits) z = normal(random);
  for (int64_t& label : labels)
    label = static_cast<int64_t>(random() % static_cast<uint64_t>(classes));
  const ScoreTask task = {
      logits.data(), LogitType::float32,           classes, classes, labels.data(), nullptr,
      nullptr,       static_cast<double>(classes), -100,    0.0,     score.data(),  loss.data()};
  for (auto _ : state) {
    loops->rows(task, 0, rows);
    benchmark::DoNotOptimize(score.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * rows * classes * 4);
}

struct Drawn {
  std::vector<float> score;
  std::vector<int32_t> mass;
  MassSums sums;

  explicit Drawn(int64_t n) : score(static_cast<size_t>(n)), mass(static_cast<size_t>(n)) {
    std::mt19937 random(0);
    std::lognormal_distribution<float> lognormal(0.f, 1.f);
    for (float& g : score) g = lognormal(random);
    sums = quantise();
  }
  MassSums quantise() {
    const auto n = static_cast<int64_t>(score.size());
    return set_masses(score.data(),
                      mass_scale(scan_scores(score.data(), 0, n).max, product_bits(n)), mass.data(),
                      0, n);
  }
  Items items() const { return {mass.data(), static_cast<int64_t>(mass.size()), sums.total}; }
};

void quantise(benchmark::State& state) {
  Drawn drawn(state.range(0));
  for (auto _ : state) {
    benchmark::DoNotOptimize(drawn.quantise());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

void table(benchmark::State& state) {
  const Drawn drawn(state.range(0));
  std::vector<int64_t> threshold(drawn.mass.size());
  std::vector<int32_t> alias(drawn.mass.size());
  for (auto _ : state) {
    build_alias_table(drawn.mass.data(), drawn.items().n, drawn.sums.total, threshold.data(),
                      alias.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

void alias_draws(benchmark::State& state) {
  const Drawn drawn(state.range(0));
  std::vector<int64_t> threshold(drawn.mass.size());
  std::vector<int32_t> alias(drawn.mass.size());
  build_alias_table(drawn.mass.data(), drawn.items().n, drawn.sums.total, threshold.data(),
                    alias.data());
  const int64_t count = state.range(0) / 5;
  std::vector<int64_t> indices(static_cast<size_t>(count));
  std::vector<float> weights(static_cast<size_t>(count));
  uint64_t offset = 0;
  for (auto _ : state) {
    draw_alias(drawn.items(), threshold.data(), alias.data(), {1, offset++}, indices.data(),
               weights.data(), 0, count);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * count);
}

template <auto draw> void ordered_draws(benchmark::State& state) {
  const Drawn drawn(state.range(0));
  const int64_t count = state.range(0) / 5;
  std::vector<int64_t> indices(static_cast<size_t>(count));
  std::vector<float> weights(static_cast<size_t>(count));
  uint64_t offset = 0;
  for (auto _ : state) {
    draw(drawn.items(), count, {1, offset++}, indices.data(), weights.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * count);
}

}  // namespace

int main(int argc, char** argv) {
  for (const ScoreLoops* loops : supported_loops())
    benchmark::RegisterBenchmark((std::string("score/") + loops->name).c_str(), score, loops)
        ->Args({128, 10})
        ->Args({640, 100})
        ->Args({1024, 1000})
        ->Args({256, 32000});
  for (const int64_t n : {128, 1024, 1 << 20}) {
    benchmark::RegisterBenchmark("quantise", quantise)->Arg(n);
    benchmark::RegisterBenchmark("alias_table", table)->Arg(n);
    benchmark::RegisterBenchmark("draw/alias", alias_draws)->Arg(n);
    benchmark::RegisterBenchmark("draw/systematic", ordered_draws<draw_systematic>)->Arg(n);
    benchmark::RegisterBenchmark("draw/pps", ordered_draws<draw_pps>)->Arg(n);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
