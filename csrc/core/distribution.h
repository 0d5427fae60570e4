// From scores to the distribution that is sampled, in integers.
//
// Scores are quantised once, to masses k_i, and every later stage (tau, table, draws, weights) is
// exact arithmetic on those. Integer sums do not depend on their order, so every processor and
// every launch shape gives the same bits, and a weight is that of the distribution that was really
// sampled: rounding never biases the estimate.
//
//     k_i = g_i > 0 ? max(1, rint(g_i * 2^s / max g)) : 0
//     K   = S k_i              p_i = k_i / K
//
// s = 30 keeps a mass in an int32 and n * 2^s <= 2^62, so that sums stay in an int64. What
// multiplies sums by counts (the alias table, the line of pps) needs n * n * 2^s <= 2^63:
// s = min(30, 63 - 2 ceil(log2 n)), which is less than 30 above 2^16 items.
#pragma once

#include "host_device.h"

namespace isample {

constexpr int kSumBits = 30;  // s = min(30, 62 - ceil(log2 n)), for every n that is allowed
constexpr int64_t kMaxItems = int64_t{1} << (62 - kSumBits);
constexpr int64_t kMaxTableItems = int64_t{1} << 24;  // below, 15 bits are left and more

// Bits of the largest mass, for sums that are multiplied by up to n.
ISAMPLE_HD int product_bits(int64_t n) {
  const int room = 63 - 2 * ceil_log2(n);
  return room < kSumBits ? room : kSumBits;
}

ISAMPLE_HD bool is_score(float g) { return g >= 0.f && g < INFINITY; }  // false for NaN

// Masses per unit of score. 0 stands for "all scores are 0", where every mass is 1: the uniform
// distribution.
ISAMPLE_HD double mass_scale(float max_score, int bits) {
  if (max_score == 0.f) return 0.0;
  return std::ldexp(1.0, bits) / static_cast<double>(max_score);
}

ISAMPLE_HD int32_t score_mass(float g, double scale) {
  if (scale == 0.0) return 1;
  if (!(g > 0.f)) return 0;
  const double k = std::rint(static_cast<double>(g) * scale);
  return k < 1.0 ? 1 : static_cast<int32_t>(k);
}

// A floor lambda mixes in the uniform distribution, p_i = (1 - lambda) g_i / S g + lambda / n,
// which bounds every weight by 1 / lambda. One fused multiply-add, written out: contraction is not
// left to a compiler's taste.
ISAMPLE_HD int32_t floored_mass(int32_t mass, double floor, int64_t total, int64_t n) {
  const double share = floor * (static_cast<double>(total) / static_cast<double>(n));
  const double k = std::rint(std::fma(1.0 - floor, static_cast<double>(mass), share));
  return k < 1.0 ? 1 : static_cast<int32_t>(k);
}

// K and S k^2, the latter in two words of which neither can overflow for n <= 2^32: exact, in any
// order.
struct MassSums {
  int64_t total = 0;
  uint64_t square_low = 0, square_high = 0;

  ISAMPLE_HD void add(int32_t mass) {
    const uint64_t square = static_cast<uint64_t>(static_cast<int64_t>(mass) * mass);
    total += mass;
    square_low += square & 0xffffffffu;
    square_high += square >> 32;
  }
  ISAMPLE_HD void add(const MassSums& other) {
    total += other.total;
    square_low += other.square_low;
    square_high += other.square_high;
  }
};

// tau (eq. 29) in its closed form, sqrt(n * S p^2): between 1 (uniform) and sqrt(n) (one item has
// it all).
ISAMPLE_HD float tau(const MassSums& sums, int64_t n) {
  const double squares = std::fma(static_cast<double>(sums.square_high), 4294967296.0,
                                  static_cast<double>(sums.square_low));
  return static_cast<float>(std::sqrt(static_cast<double>(n) * squares) /
                            static_cast<double>(sums.total));
}

// Algorithm 1, line 17: the exponential moving average of tau, which starts at 0.
ISAMPLE_HD float update_tau_ema(float tau_ema, float tau, double momentum) {
  return static_cast<float>(std::fma(momentum, static_cast<double>(tau_ema),
                                     (1.0 - momentum) * static_cast<double>(tau)));
}

ISAMPLE_HD float probability(int32_t mass, int64_t total) {
  return static_cast<float>(static_cast<double>(mass) / static_cast<double>(total));
}

// The mass of an item, from the inclusive prefix sums of the masses. The difference wraps, so that
// sums that nobody looked at give some mass and nothing worse.
ISAMPLE_HD int32_t mass_by_sums(const int64_t* sums, int64_t item) {
  const uint64_t before = item > 0 ? static_cast<uint64_t>(sums[item - 1]) : 0;
  return static_cast<int32_t>(static_cast<uint64_t>(sums[item]) - before);
}

// w_i = 1 / (n p_i): the loss mean_b(w * loss) is then unbiased (eq. 4).
ISAMPLE_HD float importance_weight(int32_t mass, int64_t total, int64_t n) {
  return static_cast<float>(static_cast<double>(total) /
                            (static_cast<double>(n) * static_cast<double>(mass)));
}

}  // namespace isample
