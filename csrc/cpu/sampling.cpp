#include "sampling.h"

#include <cstring>

namespace isample::cpu {

namespace {

// Memory that holds a score here and a mass there is read and written as bytes.
template <class T> T load(const T* address) {
  T value;
  std::memcpy(&value, address, sizeof(T));
  return value;
}
template <class T> void store(T* address, T value) { std::memcpy(address, &value, sizeof(T)); }

}  // namespace

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
    const int32_t k = score_mass(load(score + i), scale);
    store(mass + i, k);
    sums.add(k);
  }
  return sums;
}

MassSums floor_masses(int32_t* mass, double floor, int64_t total, int64_t n, int64_t begin,
                      int64_t end) {
  MassSums sums;
  for (int64_t i = begin; i < end; ++i) {
    const int32_t k = floored_mass(load(mass + i), floor, total, n);
    store(mass + i, k);
    sums.add(k);
  }
  return sums;
}

// In the upper half of the sums a mass i lies at bytes [4 n + 4 i, 4 n + 4 i + 4). Sums up to
// number i end at byte 8 i + 8, which is not beyond the next mass: a walk forwards never overwrites
// what it has still to read.
void sum_masses(const int32_t* mass, int64_t n, int64_t* sums, Look look) {
  int64_t end = 0;
  in_chunks(n, kItemsBetweenLooks, look, [&](int64_t begin, int64_t stop) {
    for (int64_t i = begin; i < stop; ++i) {
      end += load(mass + i);
      store(sums + i, end);
    }
  });
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
                     float* weights, Look look) {
  const int64_t start = random_start(philox(random.seed, random.offset, 0).x, items.total);
  int64_t j = 0, end = 0;  // the item at hand ends there
  int64_t point = systematic_point(0, count, start, items.total);
  in_chunks(items.n, kItemsBetweenLooks, look, [&](int64_t begin, int64_t stop) {
    for (int64_t item = begin; item < stop && j < count; ++item) {
      end += items.mass[item];
      while (point < end && j < count) {
        indices[j] = item;
        weights[j] = importance_weight(items.mass[item], items.total, items.n);
        point = systematic_point(++j, count, start, items.total);
      }
    }
  });
}

void draw_spread(const int64_t* sums, int64_t n, int64_t count, bool stratified,
                 RandomStream random, int64_t* indices, float* weights, Look look) {
  const int64_t total = sums[n - 1];
  in_chunks(count, kPlacesBetweenLooks, look, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      const int64_t point = spread_point(j, count, total, stratified, random.seed, random.offset);
      const int64_t item = first_above(sums, n, point);
      indices[j] = item;
      weights[j] = importance_weight(mass_by_sums(sums, item), total, n);
    }
  });
}

void permute(const int64_t* places, int64_t count, int64_t n, RandomStream random, int64_t* items) {
  const Permutation permutation = random_permutation(random.seed, random.offset, n);
  for (int64_t i = 0; i < count; ++i) items[i] = permutation(places[i]);
}

// ---- pps ----------------------------------------------------------------------------------------

namespace {

struct Certain {
  int64_t items = 0, mass = 0;
};

Certain count_certain(const Items& items, const PpsPlan& plan, Look look) {
  Certain certain;
  in_chunks(items.n, kItemsBetweenLooks, look, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (!is_certain(items.mass[i], plan)) continue;
      ++certain.items;
      certain.mass += items.mass[i];
    }
  });
  return certain;
}

PpsPlan make_pps_plan(const Items& items, int64_t count, Look look) {
  int64_t positives = 0;
  in_chunks(items.n, kItemsBetweenLooks, look, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) positives += items.mass[i] > 0;
  });
  PpsPlan plan = first_pps_plan(count, positives, items.total);
  for (int64_t known = 0; plan.remaining > 0;) {
    const Certain certain = count_certain(items, plan, look);
    if (certain.items == known) break;
    known = certain.items;
    plan = next_pps_plan(plan, certain.items, certain.mass, items.total);
  }
  return plan;
}

struct PpsDraws {
  const Items& items;
  const PpsPlan& plan;
  int64_t count;
  int64_t* indices;
  float* weights;
  int64_t drawn = 0;

  void take(int64_t item) {
    indices[drawn] = item;
    weights[drawn++] = pps_weight(items.mass[item], plan, count, items.n);
  }

  // The first round meets the items with mass; the others repeat it.
  void take_sure(Look look) {
    if (plan.rounds == 0) return;
    in_chunks(items.n, kItemsBetweenLooks, look, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        if (items.mass[i] > 0) take(i);
    });
    for (; drawn < plan.rounds * plan.positives; ++drawn) {
      indices[drawn] = indices[drawn - plan.positives];
      weights[drawn] = weights[drawn - plan.positives];
    }
  }

  // No length exceeds the step, so at most one point falls on an item. The line may be longer than
  // an int64 holds; the way from the item at hand to the next point is not.
  void take_along_line(RandomStream random, Look look) {
    const Permutation permutation = random_permutation(random.seed, random.offset, items.n);
    int64_t ahead = random_start(philox(random.seed, random.offset, 0).x, plan.step());
    in_chunks(items.n, kPlacesBetweenLooks, look, [&](int64_t begin, int64_t end) {
      for (int64_t place = begin; place < end && drawn < count; ++place) {
        const int64_t item = permutation(place);
        ahead -= pps_length(items.mass[item], plan);
        if (ahead >= 0) continue;
        take(item);
        ahead += plan.step();
      }
    });
  }
};

}  // namespace

void draw_pps(const Items& items, int64_t count, RandomStream random, int64_t* indices,
              float* weights, Look look) {
  const PpsPlan plan = make_pps_plan(items, count, look);
  PpsDraws draws = {items, plan, count, indices, weights};
  draws.take_sure(look);
  draws.take_along_line(random, look);
}

}  // namespace isample::cpu
