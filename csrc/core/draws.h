// Draws that spread b points evenly instead of independently. Both are exact in integers: the
// expected number of times an item is drawn is what the weight says, whatever the order of the
// items.
//
// systematic  b equal steps through the prefix sum of the masses, from one random start. Item i
// comes up
//             floor or ceil of b p_i times.
// stratified  as systematic, but each of the b steps has a random start of its own: even, and no
// two items are tied. pps         probability proportional to size, without replacement: item i is
// included with probability
//             pi_i = min(1, c k_i), S pi = b. Systematic steps over a random permutation of the
//             items.
#pragma once

#include "distribution.h"
#include "host_device.h"
#include "philox.h"

namespace isample {

enum class DrawMethod { alias, systematic, pps };

constexpr int64_t kMaxDraws = int64_t{1} << 24;  // in one call

// Bits of the largest mass that draws from scores take. Above the items of a table pps walks its
// line by differences, which need no more room than sums do.
ISAMPLE_HD int draw_bits(DrawMethod method, int64_t n) {
  return method == DrawMethod::systematic || n > kMaxTableItems ? kSumBits : product_bits(n);
}

// Point number `draw` of `count` on [0, total): floor((start + draw * total) / count), without
// leaving 64 bits. `start` is uniform on [0, total), so item i holds (count * k_i / total) points
// in expectation, exactly.
ISAMPLE_HD int64_t systematic_point(int64_t draw, int64_t count, int64_t start, int64_t total) {
  return draw * (total / count) + (start + draw * (total % count)) / count;
}

ISAMPLE_HD int64_t random_start(uint64_t x, int64_t total) {
  return static_cast<int64_t>(mulhi(x, static_cast<uint64_t>(total)));
}

// Draw number j of a systematic (one start for all) or stratified (one each) walk.
ISAMPLE_HD int64_t spread_point(int64_t draw, int64_t count, int64_t total, bool stratified,
                                uint64_t seed, uint64_t offset) {
  const RandomWords words = philox(seed, offset, stratified ? static_cast<uint64_t>(draw) : 0);
  return systematic_point(draw, count, random_start(words.x, total), total);
}

// The inclusion probabilities of pps as lengths on a line that is walked in equal steps: pi_i =
// length_i / step(). Items with k * room >= rest are certain (a whole step long); the others share
// the `room` draws that are left.
//
// Where fewer than `count` items have any mass, each of them is first taken `rounds` times for
// sure, and the plan is for the draws that remain: the expected number of draws is then rounds +
// pi_i, and zero scores stay undrawn.
struct PpsPlan {
  int64_t rounds;     // sure draws of every item with mass
  int64_t positives;  // items with mass
  int64_t remaining;  // draws that the line makes: count - rounds * positives
  int64_t room;       // of which not taken by certain items
  int64_t rest;       // mass of the items that are not certain

  ISAMPLE_HD int64_t step() const { return rest > 0 ? rest : 1; }
};

ISAMPLE_HD PpsPlan first_pps_plan(int64_t count, int64_t positives, int64_t total) {
  const int64_t rounds = count / positives;
  const int64_t remaining = count - rounds * positives;
  return {rounds, positives, remaining, remaining, total};
}

ISAMPLE_HD bool is_certain(int32_t mass, const PpsPlan& plan) {
  return mass > 0 && mass * plan.room >= plan.rest;
}

// One round of capping: given how many items the present plan makes certain and their mass, the
// next plan. Certain items stay certain (rest / room only falls), so the rounds end when the count
// no longer changes. A round that makes few items certain lowers rest / room by a fraction of what
// the round before did; the others use up the room. So the rounds are as many as masses have bits,
// not as many as there are draws.
ISAMPLE_HD PpsPlan next_pps_plan(const PpsPlan& plan, int64_t certain, int64_t certain_mass,
                                 int64_t total) {
  return {plan.rounds, plan.positives, plan.remaining, plan.remaining - certain,
          total - certain_mass};
}

ISAMPLE_HD int64_t pps_length(int32_t mass, const PpsPlan& plan) {
  if (plan.remaining == 0) return 0;
  return is_certain(mass, plan) ? plan.step() : mass * plan.room;
}

// w_i = b / (n * expected number of draws of i).
ISAMPLE_HD float pps_weight(int32_t mass, const PpsPlan& plan, int64_t count, int64_t n) {
  const int64_t expected_steps = plan.rounds * plan.step() + pps_length(mass, plan);
  return static_cast<float>(static_cast<double>(count) * static_cast<double>(plan.step()) /
                            (static_cast<double>(n) * static_cast<double>(expected_steps)));
}

// A keyed permutation of [0, n) that any thread evaluates at any place: a four-round Feistel
// network on the next even number of bits, walked until it lands inside (fewer than four steps on
// average). Inclusion probabilities are exact under every permutation; the random one only
// decorrelates neighbours.
struct Permutation {
  uint32_t keys[4];
  int half_bits;
  int64_t n;

  ISAMPLE_HD int64_t operator()(int64_t position) const {
    const uint32_t mask = (uint32_t{1} << half_bits) - 1;
    uint64_t word = static_cast<uint64_t>(position);
    do {
      uint32_t left = static_cast<uint32_t>(word >> half_bits),
               right = static_cast<uint32_t>(word) & mask;
      for (int round = 0; round < 4; ++round) {
        uint32_t h = (right ^ keys[round]) * 0x85EBCA6Bu;
        h = (h ^ (h >> 13)) * 0xC2B2AE35u;
        const uint32_t mixed = left ^ ((h ^ (h >> 16)) & mask);
        left = right;
        right = mixed;
      }
      word = (uint64_t{left} << half_bits) | right;
    } while (word >= static_cast<uint64_t>(n));
    return static_cast<int64_t>(word);
  }
};

// Word 0 of the stream places the start, word 1 holds the keys.
ISAMPLE_HD Permutation random_permutation(uint64_t seed, uint64_t offset, int64_t n) {
  const RandomWords words = philox(seed, offset, 1);
  return {{static_cast<uint32_t>(words.x), static_cast<uint32_t>(words.x >> 32),
           static_cast<uint32_t>(words.y), static_cast<uint32_t>(words.y >> 32)},
          (ceil_log2(n) + 1) / 2,
          n};
}

}  // namespace isample
