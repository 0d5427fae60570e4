#include "sampling.h"

namespace isample::cpu {

ScoreRange scan_scores(const float* score, int64_t begin, int64_t end) {
  ScoreRange range;
  for (int64_t i = begin; i < end; ++i) {
    range.valid &= is_score(score[i]);
    range.max = score[i] > range.max ? score[i] : range.max;
  }
  return range;
}

MassSums set_masses(const float* score, double scale, int32_t* mass, int64_t begin, int64_t end) {
  MassSums sums;
  for (int64_t i = begin; i < end; ++i) {
    mass[i] = score_mass(score[i], scale);
    sums.add(mass[i]);
  }
  return sums;
}

MassSums floor_masses(int32_t* mass, double floor, int64_t total, int64_t n, int64_t begin,
                      int64_t end) {
  MassSums sums;
  for (int64_t i = begin; i < end; ++i) {
    mass[i] = floored_mass(mass[i], floor, total, n);
    sums.add(mass[i]);
  }
  return sums;
}

// core/alias.h gives each bucket by two searches in the sorted excesses and deficits. In order both
// searches only move forward, so one walk over the heavies, with a second one over the lights
// behind it, meets the same answers.
void build_alias_table(const int32_t* mass, int64_t n, int64_t total, int64_t* threshold,
                       int32_t* alias) {
  int64_t excess = 0, deficit = 0;  // E[r] of the heavy at hand, D[l] of the next light
  int64_t light = 0, last_heavy = -1;
  for (int64_t heavy = 0; heavy < n; ++heavy) {
    if (!is_heavy(mass[heavy], total, n)) continue;
    excess += alias_term(mass[heavy], total, n).excess;
    for (; deficit < excess; ++light) {
      if (is_heavy(mass[light], total, n)) continue;
      threshold[light] = n * mass[light];
      alias[light] = static_cast<int32_t>(heavy);
      deficit += alias_term(mass[light], total, n).deficit;
    }
    threshold[heavy] = total + (excess - deficit);
    alias[heavy] = static_cast<int32_t>(heavy);
    if (last_heavy >= 0) alias[last_heavy] = static_cast<int32_t>(heavy);
    last_heavy = heavy;
  }
}

void draw_alias(const Items& items, const int64_t* threshold, const int32_t* alias,
                RandomStream random, int64_t* indices, float* weights, int64_t begin, int64_t end) {
  for (int64_t j = begin; j < end; ++j) {
    const RandomWords words = philox(random.seed, random.offset, static_cast<uint64_t>(j));
    const int64_t bucket = pick_bucket(words.x, items.n);
    const WeighedItem drawn = weighed(
        items.mass, pick_side(words.y, bucket, {threshold[bucket], alias[bucket]}, items.total),
        items.total, items.n);
    indices[j] = drawn.item;
    weights[j] = drawn.weight;
  }
}

void draw_systematic(const Items& items, int64_t count, RandomStream random, int64_t* indices,
                     float* weights) {
  const int64_t start = random_start(philox(random.seed, random.offset, 0).x, items.total);
  int64_t item = 0, end = items.mass[0];  // the item at hand lies on [end - mass, end)
  for (int64_t j = 0; j < count; ++j) {
    const int64_t point = systematic_point(j, count, start, items.total);
    while (end <= point) end += items.mass[++item];
    indices[j] = item;
    weights[j] = importance_weight(items.mass[item], items.total, items.n);
  }
}

void draw_spread(const int64_t* sums, int64_t n, int64_t count, bool stratified,
                 RandomStream random, int64_t* indices, float* weights) {
  const int64_t total = sums[n - 1];
  for (int64_t j = 0; j < count; ++j) {
    const int64_t point = spread_point(j, count, total, stratified, random.seed, random.offset);
    const int64_t item = first_above(sums, n, point);
    const int64_t mass = sums[item] - (item > 0 ? sums[item - 1] : 0);
    indices[j] = item;
    weights[j] = importance_weight(static_cast<int32_t>(mass), total, n);
  }
}

namespace {

PpsPlan make_pps_plan(const Items& items, int64_t count) {
  int64_t positives = 0;
  for (int64_t i = 0; i < items.n; ++i) positives += items.mass[i] > 0;
  PpsPlan plan = first_pps_plan(count, positives, items.total);
  for (int64_t known = 0; plan.remaining > 0;) {
    int64_t certain = 0, certain_mass = 0;
    for (int64_t i = 0; i < items.n; ++i) {
      if (!is_certain(items.mass[i], plan)) continue;
      ++certain;
      certain_mass += items.mass[i];
    }
    if (certain == known) break;
    known = certain;
    plan = next_pps_plan(plan, certain, certain_mass, items.total);
  }
  return plan;
}

}  // namespace

void draw_pps(const Items& items, int64_t count, RandomStream random, int64_t* indices,
              float* weights) {
  const PpsPlan plan = make_pps_plan(items, count);
  int64_t drawn = 0;
  const auto take = [&](int64_t item) {
    indices[drawn] = item;
    weights[drawn++] = pps_weight(items.mass[item], plan, count, items.n);
  };
  for (int64_t round = 0; round < plan.rounds; ++round)
    for (int64_t i = 0; i < items.n; ++i)
      if (items.mass[i] > 0) take(i);

  const Permutation permutation = random_permutation(random.seed, random.offset, items.n);
  int64_t point = random_start(philox(random.seed, random.offset, 0).x, plan.step());
  int64_t end = 0;
  for (int64_t place = 0; drawn < count; ++place) {
    const int64_t item = permutation(place);
    end += pps_length(items.mass[item], plan);
    if (end > point) {  // no length exceeds the step, so at most one point falls on an item
      take(item);
      point += plan.step();
    }
  }
}

}  // namespace isample::cpu
