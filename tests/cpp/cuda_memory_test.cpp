// Remembering on the device against the CPU loops. What is summed in the CPU's order, or not at
// all, must be equal bit for bit; sums over threads are compared to long double or to the CPU's
// double.
//
// Tolerance of such a sum of n terms of one sign: n roundings of 1.1e-16 on either side, so 1e-12
// up to 4,000 terms. Of a float that is made from it: one rounding more, 1e-7.
#include "../../csrc/cpu/memory.h"

#include "../../csrc/cpu/sampling.h"

#include <algorithm>
#include <string>

#include "cuda_testing.h"

namespace testing {
namespace {

using namespace isample::cuda;
using isample::ScoredBatch;

std::mt19937_64 random_engine(23);
double uniform() { return std::uniform_real_distribution<double>()(random_engine); }
int64_t below(int64_t n) {
  return static_cast<int64_t>(random_engine() % static_cast<uint64_t>(n));
}

void expect_near(const char* what, double got, double wanted, double tolerance) {
  const bool same = got == wanted || (std::isnan(got) && std::isnan(wanted));
  expect(same || std::fabs(got - wanted) <= tolerance * std::fabs(wanted),
         "%s is %.17g, expected %.17g", what, got, wanted);
}

template <class T> std::vector<T> copy_of(const Fenced<T>& values) {
  return std::vector<T>(values.data(), values.data() + values.size());
}

void expect_bits(const char* what, const Fenced<float>& got, const std::vector<float>& wanted) {
  got.expect_fences(what);
  for (size_t i = 0; i < wanted.size(); ++i)
    if (!same_bits(got[i], wanted[i]))
      return expect(false, "%s[%zu] is %.9g, expected %.9g", what, i, got[i], wanted[i]);
}

// A batch of a memory whose scores are unknown, 0, tiny or ordinary.
struct Batch {
  Fenced<float> score, weights, memory, met, before;
  Fenced<int64_t> places, sums;
  Fractions fractions = {
      {1.0 / 16, 1.0 / 8, 3.0 / 16, 1.0 / 4, 3.0 / 8, 1.0 / 2, 3.0 / 4, 1.0, 0.3}, 9};
  Fenced<double> numbers;

  Batch(size_t n, size_t items)
      : score(n, NAN, 1),
        weights(n, NAN),
        memory(items, -9.f, 1),
        met(isample::kOctaves * isample::kOctaveSums, -9.f),
        before(n, kUnwritten),
        places(n, int64_t{1} << 60),
        sums(items, 0),
        numbers(6 + 9, -77.0) {
    int64_t total = 0;
    for (size_t i = 0; i < items; ++i) {
      const double kind = uniform();
      memory[i] = static_cast<float>(kind < 0.1   ? -1
                                     : kind < 0.2 ? 0
                                     : kind < 0.3 ? 1e-41
                                                  : std::exp(8 * kind - 6));
      sums[i] = total += below(1000);
    }
    for (size_t i = 0; i < met.size(); ++i) met[i] = static_cast<float>(uniform());
    for (size_t i = 0; i < n; ++i) {
      const double kind = uniform();
      score[i] = static_cast<float>(kind < 0.1   ? 0
                                    : kind < 0.3 ? 1 + uniform()
                                                 : std::pow(uniform(), 6));
      weights[i] = static_cast<float>(0.2 + 3 * uniform());
      places[i] = below(static_cast<int64_t>(items));
    }
  }

  ScoredBatch scored(bool drawn, bool by_sums) const {
    return {score.data(),
            static_cast<int64_t>(score.size()),
            drawn,
            drawn ? weights.data() : nullptr,
            by_sums ? sums.data() : nullptr,
            static_cast<int64_t>(sums.size()),
            places.data()};
  }
  RememberTask remembering() {
    return {memory.data(), static_cast<int64_t>(memory.size()), places.data(),
            score.data(),  static_cast<int64_t>(score.size()),  0.3,
            before.data()};
  }
};

void expect_numbers(const Batch& batch, const ScoredBatch& scored) {
  batch.numbers.expect_fences("numbers");
  std::vector<double> wanted(batch.numbers.size());
  isample::cpu::draw_moments(scored, batch.fractions.values, batch.fractions.count, wanted.data());
  for (size_t i = 0; i < wanted.size(); ++i)
    expect_near(("number " + std::to_string(i)).c_str(), batch.numbers[i], wanted[i], 1e-12);
}

void batches(size_t n, size_t items) {
  std::snprintf(context, sizeof context, "a batch of %zu of %zu", n, items);
  for (const auto& [drawn, by_sums] :
       std::vector<std::pair<bool, bool>>{{true, false}, {false, false}, {false, true}}) {
    Batch batch(n, items);
    const ScoredBatch scored = batch.scored(drawn, by_sums);
    std::vector<float> memory = copy_of(batch.memory), met = copy_of(batch.met), before(n);
    const RememberTask task = batch.remembering();
    isample::cpu::remember(memory.data(), task.places, task.fresh, task.count, task.rate,
                           before.data());
    isample::cpu::meet(met.data(), before.data(), task.fresh, task.count);
    expect_runs(1, launch_recall, scored, batch.fractions, batch.numbers.data(), task,
                batch.met.data(), small_chip(99));
    expect_numbers(batch, scored);
    expect_bits("before", batch.before, before);
    expect_bits("the memory", batch.memory, memory);
    expect_bits("met", batch.met, met);
  }
  Batch batch(n, items);  // the parts on their own
  ScoredBatch scored = batch.scored(true, false);
  scored.places = nullptr;
  expect_runs(1, launch_draw_moments, scored, batch.fractions, batch.numbers.data(),
              small_chip(99));
  expect_numbers(batch, scored);
  std::vector<float> memory = copy_of(batch.memory), met = copy_of(batch.met), before(n),
                     weights(n);
  const RememberTask task = batch.remembering();
  isample::cpu::remember(memory.data(), task.places, task.fresh, task.count, task.rate,
                         before.data());
  expect_runs(1, launch_remember, task, small_chip(99));
  expect_bits("the memory", batch.memory, memory);
  isample::cpu::meet(met.data(), before.data(), task.fresh, task.count);
  Fenced<float> remembered(n, 3.f), fresh(n, 5.f);  // beside them are scores like theirs
  for (size_t i = 0; i < n; ++i) remembered[i] = before[i], fresh[i] = task.fresh[i];
  expect_runs(1, launch_meet, {batch.met.data(), remembered.data(), fresh.data(), task.count},
              small_chip(99));
  expect_bits("met", batch.met, met);
  isample::cpu::draw_weights(batch.sums.data(), scored.items, task.places, task.count,
                             weights.data());
  Fenced<float> drawn(n, kUnwritten);
  expect_runs(1, launch_draw_weights, batch.sums.data(), scored.items, task.places, task.count,
              drawn.data(), small_chip(99));
  expect_bits("weights", drawn, weights);
  expect_runs(0, launch_draw_weights, batch.sums.data(), scored.items, task.places, 0, drawn.data(),
              small_chip(99));
}

// What is out of range is passed over and shows as NaN, what is not a score is not remembered.
void faults() {
  std::snprintf(context, sizeof context, "a batch with faults");
  Batch batch(40, 100);
  batch.places[3] = -1;
  batch.places[7] = 100;
  batch.score[11] = NAN;
  batch.score[12] = INFINITY;
  batch.score[13] = -1.f;
  for (size_t i = 11; i < 14; ++i) batch.places[i] = static_cast<int64_t>(i);
  for (size_t i = 14; i < 40; ++i) batch.places[i] = 20 + below(80);
  const std::vector<float> memory = copy_of(batch.memory);
  expect_runs(1, launch_recall, batch.scored(false, true), batch.fractions, batch.numbers.data(),
              batch.remembering(), batch.met.data(), small_chip(99));
  expect(std::isnan(batch.numbers[0]), "the mean is %g, expected NaN", batch.numbers[0]);
  for (const size_t i : {3, 7})
    expect(std::isnan(batch.before[i]), "before %zu is %g", i, batch.before[i]);
  batch.memory.expect_fences("the memory");
  for (const size_t i : {11, 12, 13})
    expect(same_bits(batch.memory[i], memory[i]), "score %zu was remembered", i);
  for (const float fault : {NAN, -1.f}) {
    Batch spoilt(40, 100);
    spoilt.score[11] = fault;
    ScoredBatch scored = spoilt.scored(true, false);
    scored.places = nullptr;
    expect_runs(1, launch_draw_moments, scored, spoilt.fractions, spoilt.numbers.data(),
                small_chip(99));
    expect_numbers(spoilt, scored);
  }
  Batch few(64, 100);  // as many are certain as an eighth keeps, and a rest that no sum shows
  for (size_t i = 0; i < 64; ++i) few.score[i] = i % 8 == 3 ? 1.f : 1e-30f;
  ScoredBatch unweighted = few.scored(false, false);
  unweighted.places = nullptr;
  expect_runs(1, launch_draw_moments, unweighted, few.fractions, few.numbers.data(),
              small_chip(99));
  expect_numbers(few, unweighted);
  Batch bad(5, 10);
  bad.places[2] = 10;
  expect_runs(1, launch_draw_weights, bad.sums.data(), 10, bad.places.data(), 5, bad.weights.data(),
              small_chip(99));
  expect(std::isnan(bad.weights[2]) && !std::isnan(bad.weights[1]), "the weight of no item is %g",
         bad.weights[2]);
  Batch out(5, 10);
  out.places[2] = 10;
  expect_runs(1, launch_recall, out.scored(true, false), out.fractions, out.numbers.data(),
              out.remembering(), out.met.data(), small_chip(99));
  expect(std::isnan(out.numbers[0]), "the mean is %g, expected NaN", out.numbers[0]);
}

void foretelling(int64_t n, float above, double gain_cap) {
  std::snprintf(context, sizeof context, "what %ld scores foretell, bound at %g, flattened to %g",
                static_cast<long>(n), above, gain_cap);
  const size_t size = static_cast<size_t>(n);
  Fenced<float> score(size, 7.f, 1), expected(size, kUnwritten, 3), bounded(1, kUnwritten);
  Fenced<float> experience(isample::kOctaves * isample::kOctaveSums, NAN);
  std::vector<float> pairs(2000), fresh(2000);
  for (size_t i = 0; i < pairs.size(); ++i) {
    pairs[i] = static_cast<float>(std::exp(-12 * uniform()));
    fresh[i] = static_cast<float>(0.1 * uniform());
  }
  std::fill(experience.data(), experience.data() + experience.size(), 0.f);
  isample::cpu::meet(experience.data(), pairs.data(), fresh.data(), 2000);
  for (size_t octave = 1; octave < isample::kOctaves; ++octave)  // means that left their octave
    experience[octave * isample::kOctaveSums + isample::kRemembered] *= octave % 5 == 1   ? 100.f
                                                                        : octave % 5 == 2 ? 0.01f
                                                                                          : 1.f;
  for (size_t i = 0; i < size; ++i)
    score[i] = static_cast<float>(i % 7 == 3    ? -1
                                  : i % 50 == 1 ? 1.4
                                  : i % 50 == 2 ? 0
                                  : i == 54     ? 1  // at the bound, not above it
                                                : 0.9 * std::pow(uniform(), 5));
  Fenced<uint64_t> workspace((expected_workspace_bytes() + 7) / 8, ~uint64_t{0});
  const ExpectedTask task = {score.data(), n,   experience.data(), 2.0,           above, 0.25,
                             gain_cap,     0.2, expected.data(),   bounded.data()};
  expect_runs(above < INFINITY || gain_cap < INFINITY ? 3 : 2, launch_expected_scores, task,
              workspace.data(), small_chip(99));

  std::vector<float> wanted(size);
  const bool lowered = isample::cpu::expected_scores(
      {score.data(), n, experience.data(), 2.0, above, 0.25, gain_cap, 0.2, wanted.data()});
  expect(bounded[0] == (lowered ? 1.f : 0.f), "bounded is %g, expected %d", bounded[0], lowered);
  expect(lowered == (above < 1.1f && n > 50), "the test's own bound");
  expected.expect_fences("the expected scores");
  bounded.expect_fences("bounded");
  workspace.expect_fences("the workspace");
  for (size_t i = 0; i < size; ++i) {
    if (score[i] >= 0 && !(score[i] > above) && !(gain_cap < INFINITY))
      expect(same_bits(expected[i], wanted[i]), "score %zu differs", i);
    expect_near("an expected score", expected[i], wanted[i], 2e-7);
  }
}

// An infinite score finds the curve's last line, and foretells what the CPU says.
void foretelling_of_infinity() {
  std::snprintf(context, sizeof context, "what an infinite score foretells");
  Fenced<float> score(2, 7.f), expected(2, kUnwritten), bounded(1, kUnwritten);
  Fenced<float> experience(isample::kOctaves * isample::kOctaveSums, NAN);
  std::fill(experience.data(), experience.data() + experience.size(), 0.f);
  score[0] = 0.5f;
  score[1] = INFINITY;
  Fenced<double> workspace(expected_workspace_bytes() / 8, 1.0);
  float wanted[2];
  const ExpectedTask task = {score.data(), 2,   experience.data(), 2.0,           INFINITY, 0.25,
                             INFINITY,     0.0, expected.data(),   bounded.data()};
  expect_runs(2, launch_expected_scores, task, workspace.data(), small_chip(99));
  isample::cpu::expected_scores(
      {score.data(), 2, experience.data(), 2.0, INFINITY, 0.25, INFINITY, 0.0, wanted});
  for (size_t i = 0; i < 2; ++i)
    expect(same_bits(expected[i], wanted[i]), "%g, expected %g", expected[i], wanted[i]);
}

void check_permuted(int64_t count, int64_t size) {
  Fenced<int64_t> places(static_cast<size_t>(count), 0), items(static_cast<size_t>(count), -77);
  for (int64_t i = 0; i < count; ++i)
    places[static_cast<size_t>(i)] = i % 7 ? below(size) : i % 2 ? -1 : size;
  expect_runs(count > 0 ? 1 : 0, launch_permuted, {places.data(), count, size, 5, items.data()},
              small_chip(99));
  items.expect_fences("items");
  for (size_t i = 0; i < items.size(); ++i) {
    int64_t wanted = -1;
    if (places[i] >= 0 && places[i] < size)
      isample::cpu::permute(&places[i], 1, size, {5, 0}, &wanted);
    if (items[i] != wanted)
      return expect(false, "item %zu is %ld, expected %ld", i, static_cast<long>(items[i]),
                    static_cast<long>(wanted));
  }
}

}  // namespace

void test_memory() {
  for (const int64_t size : {int64_t{1}, int64_t{3}, int64_t{70001}, isample::kMaxItems})
    for (const int64_t count : {0, 1, 1000, 30000}) check_permuted(count, size);
  for (const auto& [n, items] : std::vector<std::pair<size_t, size_t>>{
           {1, 1}, {2, 1}, {5, 100}, {64, 40}, {64, 5000}, {300, 200}, {1000, 60}, {4096, 50000}})
    batches(n, items);
  faults();
  for (const float above : {INFINITY, 1.f, 5.f})
    for (const double gain_cap : {double{INFINITY}, 1.0, 1.2, 3.0})
      for (const int64_t n : {0, 1, 70, 1500, 30000}) foretelling(n, above, gain_cap);
  foretelling_of_infinity();
}

}  // namespace testing
