// Alias tables in exact integers: reconstruction, and the walk of the CPU loop against core's
// closed form.
#include <random>
#include <vector>

#include "check.h"
#include "cpu/sampling.h"

namespace {

using namespace isample;

__extension__ typedef __int128 Wide;

std::vector<AliasBucket> closed_form(const std::vector<int32_t>& mass, int64_t total) {
  const auto n = static_cast<int64_t>(mass.size());
  std::vector<int64_t> heavy_excess, light_deficit = {0};
  std::vector<int32_t> heavy_item;
  AliasScan scan;
  for (int64_t i = 0; i < n; ++i) {
    const int32_t k = mass[static_cast<size_t>(i)];
    scan.add(alias_term(k, total, n));
    if (is_heavy(k, total, n)) {
      heavy_excess.push_back(scan.excess);
      heavy_item.push_back(static_cast<int32_t>(i));
    } else {
      light_deficit.push_back(scan.deficit);
    }
  }
  const auto heavies = static_cast<int64_t>(heavy_item.size());
  std::vector<AliasBucket> buckets;
  size_t heavy = 0, light = 0;
  for (const int32_t k : mass) {
    if (is_heavy(k, total, n))
      buckets.push_back(heavy_bucket(static_cast<int64_t>(heavy++), total, heavy_excess.data(),
                                     heavy_item.data(), heavies, light_deficit.data(),
                                     n - heavies));
    else
      buckets.push_back(light_bucket(k, n, light_deficit[light++], heavy_excess.data(),
                                     heavy_item.data(), heavies));
  }
  return buckets;
}

void test_table(const std::vector<int32_t>& mass) {
  const auto n = static_cast<int64_t>(mass.size());
  int64_t total = 0;
  for (const int32_t k : mass) total += k;
  std::vector<int64_t> threshold(mass.size());
  std::vector<int32_t> alias(mass.size());
  cpu::build_alias_table(mass.data(), n, total, threshold.data(), alias.data());
  const std::vector<AliasBucket> expected = closed_form(mass, total);
  std::vector<Wide> share(mass.size());
  for (size_t i = 0; i < mass.size(); ++i) {
    CHECK(threshold[i] == expected[i].threshold && alias[i] == expected[i].alias);
    CHECK(threshold[i] >= 0 && threshold[i] <= total);
    share[i] += threshold[i];
    share[static_cast<size_t>(alias[i])] += total - threshold[i];
  }
  for (size_t i = 0; i < mass.size(); ++i) CHECK(share[i] == static_cast<Wide>(n) * mass[i]);
}

}  // namespace

int main() {
  std::mt19937 random(3);
  for (const size_t n : {1, 2, 3, 5, 64, 127, 1000, 5000}) {
    const int32_t largest = 1 << 30;
    std::vector<int32_t> equal(n, largest), one(n, 1), mixed(n), small(n);
    one[n / 2] = largest;
    for (size_t i = 0; i < n; ++i) {
      mixed[i] =
          random() % 3 == 0 ? static_cast<int32_t>(random() % static_cast<uint32_t>(largest)) : 0;
      small[i] = static_cast<int32_t>(random() % 4);
    }
    mixed[0] = small[0] = 3;
    for (const auto& mass : {equal, one, mixed, small}) test_table(mass);
  }
  // every total fits: n * K may reach 2^63 and is never formed
  test_table(std::vector<int32_t>(size_t{1} << 20, 1 << 23));
  return failures() != 0;
}
