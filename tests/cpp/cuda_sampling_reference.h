// From scores to draws by plain serial loops: those of the CPU ops, which walk where the kernels
// search. Integers and weights must be equal bit for bit.
#pragma once

#include <limits>
#include <string>

#include "../../csrc/cpu/sampling.h"
#include "cuda_testing.h"

namespace testing {

struct SerialDistribution {
  std::vector<int32_t> mass;
  isample::MassSums sums;  // 0 where a score is not valid

  SerialDistribution(const float* score, int64_t n, double floor, int bits = isample::kSumBits)
      : mass(static_cast<size_t>(n)) {
    const auto range = isample::cpu::scan_scores(score, 0, n);
    if (!range.valid) return;
    sums = isample::cpu::set_masses(score, isample::mass_scale(range.max, bits), mass.data(), 0, n);
    if (floor > 0) sums = isample::cpu::floor_masses(mass.data(), floor, sums.total, n, 0, n);
  }
  int64_t n() const { return static_cast<int64_t>(mass.size()); }
  float tau() const { return sums.total == 0 ? NAN : isample::tau(sums, n()); }
  isample::cpu::Items items() const { return {mass.data(), n(), sums.total}; }
};

struct SerialTable {
  std::vector<int64_t> threshold;
  std::vector<int32_t> alias;

  explicit SerialTable(const SerialDistribution& p)
      : threshold(p.mass.size()), alias(p.mass.size()) {
    if (p.sums.total != 0)
      isample::cpu::build_alias_table(p.mass.data(), p.n(), p.sums.total, threshold.data(),
                                      alias.data());
  }
};

struct SerialDraws {
  std::vector<int64_t> indices;
  std::vector<float> weights;

  SerialDraws(const SerialDistribution& p, isample::DrawMethod method, int64_t count,
              isample::cpu::RandomStream random)
      : indices(static_cast<size_t>(count), 0), weights(static_cast<size_t>(count), NAN) {
    if (p.sums.total == 0) return;
    if (method == isample::DrawMethod::systematic) {
      isample::cpu::draw_systematic(p.items(), count, random, indices.data(), weights.data());
    } else if (method == isample::DrawMethod::pps) {
      isample::cpu::draw_pps(p.items(), count, random, indices.data(), weights.data());
    } else {
      const SerialTable table(p);
      isample::cpu::draw_alias(p.items(), table.threshold.data(), table.alias.data(), random,
                               indices.data(), weights.data(), 0, count);
    }
  }

  // From prefix sums: a walk along the points in order of the draws, each from the first item on.
  SerialDraws(const SerialDistribution& p, bool stratified, int64_t count,
              isample::cpu::RandomStream random)
      : indices(static_cast<size_t>(count), 0), weights(static_cast<size_t>(count), NAN) {
    if (p.sums.total == 0) return;
    for (int64_t j = 0; j < count; ++j) {
      int64_t rest =
          isample::spread_point(j, count, p.sums.total, stratified, random.seed, random.offset);
      size_t item = 0;
      while (rest >= p.mass[item]) rest -= p.mass[item++];
      indices[static_cast<size_t>(j)] = static_cast<int64_t>(item);
      weights[static_cast<size_t>(j)] =
          isample::importance_weight(p.mass[item], p.sums.total, p.n());
    }
  }
};

// What a draw is written into, and what it must then hold.
struct DrawnInto {
  Fenced<int64_t> indices;
  Fenced<float> weights;
  explicit DrawnInto(int64_t count)
      : indices(static_cast<size_t>(count), -77), weights(static_cast<size_t>(count), kUnwritten) {}

  void expect_equal(const SerialDraws& serial) const {
    indices.expect_fences("indices");
    weights.expect_fences("weights");
    for (size_t j = 0; j < serial.indices.size(); ++j)
      if (indices[j] != serial.indices[j] || !same_bits(weights[j], serial.weights[j]))
        return expect(false, "draw %zu is %ld of weight %g, expected %ld of weight %g", j,
                      static_cast<long>(indices[j]), weights[j],
                      static_cast<long>(serial.indices[j]), serial.weights[j]);
  }
  // Item 0 with weight NaN, for every draw.
  void expect_nothing() const {
    for (size_t j = 0; j < indices.size(); ++j)
      expect(indices[j] == 0 && std::isnan(weights[j]), "draw %zu is %ld of weight %g", j,
             static_cast<long>(indices[j]), weights[j]);
  }
};

inline void expect_tau(float tau, const SerialDistribution& p) {
  expect(same_bits(tau, p.tau()), "tau is %.9g, expected %.9g", tau, p.tau());
}
inline void expect_tau_ema(float tau_ema, float before, double momentum,
                           const SerialDistribution& p) {
  const float wanted =
      p.sums.total == 0 ? before : isample::update_tau_ema(before, p.tau(), momentum);
  expect(same_bits(tau_ema, wanted), "tau_ema is %.9g, expected %.9g", tau_ema, wanted);
}

}  // namespace testing
