// Quantisation, systematic points, pps plans and the permutation, each against plain counting.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "check.h"
#include "cpu/sampling.h"

namespace {

using namespace isample;

__extension__ typedef __int128 Wide;

void test_masses_leave_room() {
  for (const int64_t n : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{65536}, int64_t{65537},
                          kMaxTableItems, kMaxTableItems + 1, kMaxItems}) {
    const Wide sum_mass = score_mass(3.f, mass_scale(3.f, kSumBits));
    CHECK(sum_mass == Wide{1} << std::min(30, 62 - ceil_log2(n)));
    CHECK(n * sum_mass <= Wide{1} << 62);
    CHECK(score_mass(0.f, mass_scale(3.f, kSumBits)) == 0);
    CHECK(score_mass(1e-40f, mass_scale(3.f, kSumBits)) == 1);
    if (n > kMaxTableItems) continue;
    const Wide table_mass = score_mass(3.f, mass_scale(3.f, product_bits(n)));
    CHECK(n * n * table_mass <= Wide{1} << 63 && table_mass >= Wide{1} << 15);
  }
  CHECK(score_mass(0.f, mass_scale(0.f, 10)) == 1);
  CHECK(product_bits(65536) == kSumBits);  // so one block's masses serve every kind of draw
  for (const DrawMethod method : {DrawMethod::alias, DrawMethod::systematic, DrawMethod::pps})
    CHECK(draw_bits(method, 65536) == kSumBits);
  CHECK(draw_bits(DrawMethod::systematic, kMaxTableItems) == kSumBits);
  CHECK(draw_bits(DrawMethod::pps, kMaxTableItems) == 15);
  CHECK(draw_bits(DrawMethod::pps, kMaxTableItems + 1) == kSumBits);
}

// With the most items there may be, each of the largest mass: what no machine here could hold.
void test_the_largest_sums_fit() {
  const Wide mass = Wide{1} << kSumBits, n = kMaxItems, total = n * mass;
  const Wide most = INT64_MAX, words = UINT64_MAX;
  CHECK(total <= most);
  CHECK(n * ((mass * mass) & 0xffffffffu) <= words && n * 0xffffffffu <= words);
  CHECK(n * ((mass * mass) >> 32) <= words);
  // systematic_point: start + draw * (total % count), with start < total
  CHECK(total + Wide{kMaxDraws} * kMaxDraws <= most);
  // pps: mass * room, and rounds * step + length, where rounds * positives + remaining = count
  CHECK(mass * kMaxDraws <= most && kMaxDraws * mass + total <= most);
  CHECK(ceil_log2(kMaxItems) == 32 && random_permutation(1, 2, kMaxItems).half_bits == 16);

  MassSums block, sums;
  for (int i = 0; i < 1024; ++i) block.add(1 << kSumBits);
  for (int64_t doubled = 1024; doubled < kMaxItems; doubled *= 2) {
    const MassSums once = block;
    block.add(once);
  }
  CHECK(block.total == static_cast<int64_t>(total));
  const Wide squares = (static_cast<Wide>(block.square_high) << 32) + block.square_low;
  CHECK(squares == n * mass * mass);
  CHECK(tau(block, kMaxItems) == 1.f);
}

void test_places_beyond_32_bits_are_permuted() {
  const Permutation permutation = random_permutation(7, 9, kMaxItems);
  std::vector<int64_t> items;
  for (int64_t place = kMaxItems - 5000; place < kMaxItems; ++place)
    items.push_back(permutation(place));
  std::sort(items.begin(), items.end());
  CHECK(items.front() >= 0 && items.back() < kMaxItems);
  CHECK(items.front() < kMaxItems / 100 && items.back() > kMaxItems - kMaxItems / 100);
  CHECK(std::adjacent_find(items.begin(), items.end()) == items.end());
}

void test_sums_are_exact() {
  const std::vector<int32_t> masses(1000, (1 << 30) - 1);
  MassSums all, parts;
  for (const int32_t k : masses) all.add(k);
  for (const int32_t k : masses) {
    MassSums one;
    one.add(k);
    parts.add(one);
  }
  const Wide k = masses[0];
  CHECK(all.total == 1000 * static_cast<int64_t>(masses[0]) && parts.total == all.total);
  CHECK((static_cast<Wide>(all.square_high) << 32) + all.square_low == 1000 * k * k);
  CHECK(parts.square_low == all.square_low && parts.square_high == all.square_high);
  CHECK(std::fabs(tau(all, 1000) - 1.f) < 1e-7f);
}

void test_systematic_points_are_exact() {
  std::mt19937_64 random(4);
  for (int trial = 0; trial < 2000; ++trial) {
    const int64_t total = 1 + static_cast<int64_t>(random() % (uint64_t{1} << (1 + trial % 62)));
    const int64_t count = 1 + static_cast<int64_t>(random() % kMaxDraws);
    const int64_t start = random_start(random(), total);
    CHECK(start >= 0 && start < total);
    for (const int64_t draw : {int64_t{0}, count / 3, count - 1})
      CHECK(systematic_point(draw, count, start, total) ==
            static_cast<int64_t>((start + static_cast<Wide>(draw) * total) / count));
    CHECK(systematic_point(count - 1, count, start, total) < total);
  }
}

void test_permutations_are_permutations() {
  for (const int64_t n : {1, 2, 3, 4, 5, 63, 64, 65, 1000, 4097}) {
    const Permutation permutation = random_permutation(7, 9, n);
    std::vector<int> seen(static_cast<size_t>(n));
    for (int64_t place = 0; place < n; ++place) {
      const int64_t item = permutation(place);
      CHECK(item >= 0 && item < n);
      ++seen[static_cast<size_t>(item)];
    }
    for (const int times : seen) CHECK(times == 1);
  }
}

void test_pps_lengths_fill_the_line() {
  std::mt19937 random(5);
  for (int trial = 0; trial < 300; ++trial) {
    const auto n = static_cast<int64_t>(2 + random() % 60);
    std::vector<int32_t> mass(static_cast<size_t>(n));
    for (int32_t& k : mass)
      k = static_cast<int32_t>(std::exp(20.0 * (random() % 1000) / 1000.0)) - 1;
    mass[0] = 1;
    int64_t total = 0;
    for (const int32_t k : mass) total += k;
    const int64_t count = 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(n));
    std::vector<int64_t> indices(static_cast<size_t>(count));
    std::vector<float> weights(static_cast<size_t>(count));
    cpu::draw_pps({mass.data(), n, total}, count, {3, static_cast<uint64_t>(trial)}, indices.data(),
                  weights.data());

    int64_t positives = 0;
    for (const int32_t k : mass) positives += k > 0;
    std::vector<int64_t> times(mass.size());
    for (const int64_t i : indices) {
      CHECK(mass[static_cast<size_t>(i)] > 0);
      ++times[static_cast<size_t>(i)];
    }
    for (size_t i = 0; i < mass.size(); ++i)
      if (mass[i] > 0) CHECK(times[i] == count / positives || times[i] == count / positives + 1);
  }
}

int looks = 0;
int most_looks = 0;
void count_looks() {
  if (++looks > most_looks) throw 0;
}

// One item has all of the mass: as many rounds as draws, none of which may walk over all items.
void test_work_does_not_grow_with_rounds_times_items() {
  const int64_t n = cpu::kPlacesBetweenLooks + 1, count = n;
  std::vector<int32_t> mass(static_cast<size_t>(n));
  mass.back() = 5;
  std::vector<int64_t> indices(static_cast<size_t>(count));
  std::vector<float> weights(static_cast<size_t>(count));
  looks = 0, most_looks = 1;  // of the walk along the line
  cpu::draw_pps({mass.data(), n, 5}, count, {3, 4}, indices.data(), weights.data(), count_looks);
  CHECK(looks == 1);
  for (const int64_t i : indices) CHECK(i == n - 1);
  for (const float w : weights) CHECK(w == 1.f / static_cast<float>(n));
}

// Masses that halve make one more item certain each round, at most; and those that nearly agree do
// so as long as rest / room still falls.
void test_rounds_of_capping_are_few() {
  for (const double factor : {0.5, 0.9, 0.999, 0.999999}) {
    std::vector<int32_t> mass;
    int64_t total = 0;
    for (double k = 1 << 30; mass.size() < 100000; k = std::max(1.0, k * factor)) {
      mass.push_back(static_cast<int32_t>(k));
      total += mass.back();
    }
    const int64_t n = static_cast<int64_t>(mass.size());
    for (const int64_t count : {n / 100, n / 2, n - 1}) {
      PpsPlan plan = first_pps_plan(count, n, total);
      int rounds = 0;
      for (int64_t known = -1, certain = 0; known != certain; ++rounds) {
        known = certain, certain = 0;
        int64_t certain_mass = 0;
        for (const int32_t k : mass)
          if (is_certain(k, plan)) ++certain, certain_mass += k;
        plan = next_pps_plan(plan, certain, certain_mass, total);
      }
      CHECK(rounds <= 40);
    }
  }
}

template <class Draw> void expect_left_at_look(int at, int64_t untouched, const Draw& draw) {
  std::vector<int64_t> indices(static_cast<size_t>(untouched) + 1, -7);
  std::vector<float> weights(indices.size());
  looks = 0, most_looks = at - 1;
  bool thrown = false;
  try {
    draw(indices.data(), weights.data());
  } catch (int) {
    thrown = true;
  }
  CHECK(thrown && looks == at);
  CHECK(indices.back() == -7);
}

void test_a_look_ends_the_work() {
  const int64_t n = 2 * cpu::kItemsBetweenLooks, count = 2 * cpu::kPlacesBetweenLooks;
  const std::vector<int32_t> mass(static_cast<size_t>(n), 1);
  const cpu::Items items = {mass.data(), n, n};
  std::vector<int64_t> sums(mass.size());
  expect_left_at_look(
      1, n - 1, [&](int64_t* into, float*) { cpu::sum_masses(mass.data(), n, into, count_looks); });
  cpu::sum_masses(mass.data(), n, sums.data());
  CHECK(sums[0] == 1 && sums.back() == n);
  for (const bool stratified : {false, true})
    expect_left_at_look(1, cpu::kPlacesBetweenLooks, [&](int64_t* indices, float* weights) {
      cpu::draw_spread(sums.data(), n, count, stratified, {1, 2}, indices, weights, count_looks);
    });
  expect_left_at_look(1, count - 1, [&](int64_t* indices, float* weights) {
    cpu::draw_systematic(items, count, {1, 2}, indices, weights, count_looks);
  });
  // one in the count of items with mass, one in the plan's, one in the walk
  expect_left_at_look(3, count - 1, [&](int64_t* indices, float* weights) {
    cpu::draw_pps(items, count, {1, 2}, indices, weights, count_looks);
  });
}

// The masses lie where the last sums will.
void test_sums_in_place() {
  for (const int64_t n : {1, 2, 3, 4, 5, 8, 63, 64, 1001}) {
    std::vector<int64_t> sums(static_cast<size_t>(n));
    int32_t* const mass = reinterpret_cast<int32_t*>(sums.data()) + n;
    for (int64_t i = 0; i < n; ++i) {
      const int32_t k = static_cast<int32_t>(i * i % 97);
      std::memcpy(mass + i, &k, sizeof k);
    }
    cpu::sum_masses(mass, n, sums.data());
    int64_t end = 0;
    for (int64_t i = 0; i < n; ++i) CHECK(sums[static_cast<size_t>(i)] == (end += i * i % 97));
  }
}

}  // namespace

int main() {
  test_masses_leave_room();
  test_sums_are_exact();
  test_systematic_points_are_exact();
  test_permutations_are_permutations();
  test_pps_lengths_fill_the_line();
  test_the_largest_sums_fit();
  test_places_beyond_32_bits_are_permuted();
  test_work_does_not_grow_with_rounds_times_items();
  test_rounds_of_capping_are_few();
  test_a_look_ends_the_work();
  test_sums_in_place();
  return failures() != 0;
}
