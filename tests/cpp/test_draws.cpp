// Quantisation, systematic points, pps plans and the permutation, each against plain counting.
#include <cmath>
#include <random>
#include <vector>

#include "check.h"
#include "cpu/sampling.h"

namespace {

using namespace isample;

__extension__ typedef __int128 Wide;

void test_masses_leave_room() {
  for (const int64_t n :
       {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{65536}, int64_t{65537}, kMaxItems}) {
    const double scale = mass_scale(3.f, n);
    const int64_t largest = score_mass(3.f, scale);
    CHECK(largest <= int64_t{1} << 30);
    CHECK(static_cast<Wide>(n) * n * largest <= static_cast<Wide>(1) << 63);
    CHECK(score_mass(0.f, scale) == 0 && score_mass(1e-40f, scale) == 1);
  }
  CHECK(score_mass(0.f, mass_scale(0.f, 10)) == 1);
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
    const int64_t total = 1 + static_cast<int64_t>(random() % (uint64_t{1} << (1 + trial % 54)));
    const int64_t count = 1 + static_cast<int64_t>(random() % kMaxItems);
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

}  // namespace

int main() {
  test_masses_leave_room();
  test_sums_are_exact();
  test_systematic_points_are_exact();
  test_permutations_are_permutations();
  test_pps_lengths_fill_the_line();
  return failures() != 0;
}
