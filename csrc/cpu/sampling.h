// From scores to draws on the CPU: loops over core's integer arithmetic. All sizes and pointers are
// raw, the caller has checked them. What takes a range [begin, end) may run on several threads, in
// any order, with the same result. What takes a Look calls it between chunks of long work.
#pragma once

#include <cstdint>

#include "../core/alias.h"
#include "../core/distribution.h"
#include "../core/draws.h"
#include "look.h"

namespace isample::cpu {

struct ScoreRange {
  float max = 0.f;
  bool valid = true;  // no score is NaN, infinite or negative
};

// Scores and masses may share their memory: an item's mass then takes the place of its score.
ScoreRange scan_scores(const float* score, int64_t begin, int64_t end);
MassSums set_masses(const float* score, double scale, int32_t* mass, int64_t begin, int64_t end);
// Applies the floor in place. `total` is the total of all masses before it.
MassSums floor_masses(int32_t* mass, double floor, int64_t total, int64_t n, int64_t begin,
                      int64_t end);

// The inclusive prefix sums of n masses, which may lie in the upper half of `sums`.
void sum_masses(const int32_t* mass, int64_t n, int64_t* sums, Look look = look_at_nothing);

void build_alias_table(const int32_t* mass, int64_t n, int64_t total, int64_t* threshold,
                       int32_t* alias);

struct RandomStream {
  uint64_t seed, offset;
};

// The distribution that is drawn from.
struct Items {
  const int32_t* mass;
  int64_t n, total;
};

void draw_alias(const Items& items, const int64_t* threshold, const int32_t* alias,
                RandomStream random, int64_t* indices, float* weights, int64_t begin, int64_t end);
void draw_systematic(const Items& items, int64_t count, RandomStream random, int64_t* indices,
                     float* weights, Look look = look_at_nothing);
void draw_pps(const Items& items, int64_t count, RandomStream random, int64_t* indices,
              float* weights, Look look = look_at_nothing);

// `sums` are the inclusive prefix sums of the masses of n items, the last of them > 0.
void draw_spread(const int64_t* sums, int64_t n, int64_t count, bool stratified,
                 RandomStream random, int64_t* indices, float* weights,
                 Look look = look_at_nothing);

// The items at `places`, all in [0, n), of the permutation of [0, n) that the stream selects.
void permute(const int64_t* places, int64_t count, int64_t n, RandomStream random, int64_t* items);

}  // namespace isample::cpu
