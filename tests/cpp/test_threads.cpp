// The CPU loops on several threads at once, as the adaptors share them out: every range must give
// what one thread gives for all of it, and no two threads may meet in memory. Built with
// -fsanitize=thread, this is where a race shows (make sanitize).
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "check.h"
#include "cpu/memory.h"
#include "cpu/sampling.h"
#include "cpu/score.h"

namespace {

using namespace isample;
using namespace isample::cpu;

constexpr int kThreads = 4;
using Range = std::function<void(int64_t, int64_t)>;

// Neighbouring ranges of [0, n), one a thread, whose ends fall anywhere in a cache line.
void share_out(int64_t n, const Range& range) {
  std::vector<std::thread> threads;
  for (int64_t i = 0; i < kThreads; ++i)
    threads.emplace_back([&, i] { range(i * n / kThreads, (i + 1) * n / kThreads); });
  for (std::thread& thread : threads) thread.join();
}

template <class T> bool same(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

std::vector<float> random_scores(int64_t n, unsigned seed) {
  std::mt19937 words(seed);
  std::exponential_distribution<float> score;
  std::vector<float> values(static_cast<size_t>(n));
  for (float& value : values) value = words() % 8 == 0 ? 0.f : score(words);
  return values;
}

struct Masses {
  std::vector<int32_t> mass;
  MassSums sums;
};

// What the adaptor does for scores and a floor, in `share` of ranges.
template <class Share> Masses masses_of(const std::vector<float>& score, const Share& share) {
  const int64_t n = static_cast<int64_t>(score.size());
  std::vector<ScoreRange> ranges(kThreads);
  std::vector<MassSums> parts(kThreads);
  const auto slot = [&](int64_t begin) { return static_cast<size_t>(begin * kThreads / n); };
  share(n, [&](int64_t begin, int64_t end) {
    ranges[slot(begin + 1)] = scan_scores(score.data(), begin, end);
  });
  float max = 0.f;
  for (const ScoreRange& range : ranges) max = range.max > max ? range.max : max;
  Masses result = {std::vector<int32_t>(score.size()), {}};
  const double scale = mass_scale(max, product_bits(n));
  share(n, [&](int64_t begin, int64_t end) {
    parts[slot(begin + 1)] = set_masses(score.data(), scale, result.mass.data(), begin, end);
  });
  MassSums before;
  for (MassSums& part : parts) before.add(part), part = {};
  share(n, [&](int64_t begin, int64_t end) {
    parts[slot(begin + 1)] = floor_masses(result.mass.data(), 0.1, before.total, n, begin, end);
  });
  for (const MassSums& part : parts) result.sums.add(part);
  return result;
}

void test_masses_and_draws() {
  const int64_t n = 1003, count = 777;
  const auto alone = [](int64_t all, const Range& range) { range(0, all); };
  const std::vector<float> score = random_scores(n, 1);
  const Masses serial = masses_of(score, alone), shared = masses_of(score, share_out);
  CHECK(same(serial.mass, shared.mass) && serial.sums.total == shared.sums.total);
  CHECK(serial.sums.square_low == shared.sums.square_low);

  const Items items = {serial.mass.data(), n, serial.sums.total};
  std::vector<int64_t> threshold(n);
  std::vector<int32_t> alias(n);
  build_alias_table(items.mass, n, items.total, threshold.data(), alias.data());
  const auto drawn = [&](const auto& share, std::vector<float>& weights) {
    std::vector<int64_t> indices(count);
    share(count, [&](int64_t begin, int64_t end) {
      draw_alias(items, threshold.data(), alias.data(), {7, 3}, indices.data(), weights.data(),
                 begin, end);
    });
    return indices;
  };
  std::vector<float> weights(count), shared_weights(count);
  CHECK(same(drawn(alone, weights), drawn(share_out, shared_weights)));
  CHECK(same(weights, shared_weights));
}

// Several callers at once, each with results of its own, on the same scores and the same table.
void test_callers_at_once() {
  const int64_t n = 500, count = 200;
  const std::vector<float> score = random_scores(n, 2);
  std::vector<int32_t> mass(n);
  const MassSums sums = set_masses(score.data(), mass_scale(100.f, 30), mass.data(), 0, n);
  std::vector<int64_t> ends(n);
  int64_t end = 0;
  for (size_t i = 0; i < mass.size(); ++i) ends[i] = end += mass[i];
  std::vector<std::vector<int64_t>> indices(kThreads, std::vector<int64_t>(count * 3));
  std::vector<std::vector<double>> numbers(kThreads, std::vector<double>(7));
  share_out(kThreads, [&](int64_t caller, int64_t) {
    int64_t* to = indices[static_cast<size_t>(caller)].data();
    std::vector<float> weights(count), memory(score), before(count);
    draw_systematic({mass.data(), n, sums.total}, count, {1, 2}, to, weights.data());
    draw_pps({mass.data(), n, sums.total}, count, {1, 2}, to + count, weights.data());
    draw_spread(ends.data(), n, count, true, {1, 2}, to + 2 * count, weights.data());
    const double fraction = 0.5;
    draw_moments({score.data(), count, true, weights.data(), nullptr, 0, nullptr}, &fraction, 1,
                 numbers[static_cast<size_t>(caller)].data());
    remember(memory.data(), to, score.data(), count, 0.5, before.data());
  });
  for (size_t i = 1; i < kThreads; ++i)
    CHECK(same(indices[0], indices[i]) && same(numbers[0], numbers[i]));
}

// The choice of loops is made once, by whoever comes first.
void test_scores(int64_t classes, double smoothing) {
  const int64_t rows = 61;
  const std::vector<float> logits = random_scores(rows * classes, 3);
  std::vector<int64_t> labels(rows);
  for (int64_t i = 0; i < rows; ++i) labels[static_cast<size_t>(i)] = i % classes;
  const auto scored = [&](const auto& share) {
    std::vector<float> results(2 * rows);
    const ScoreTask task = {logits.data(),  LogitType::float32,
                            classes,        classes,
                            labels.data(),  nullptr,
                            nullptr,        static_cast<double>(classes),
                            -100,           smoothing,
                            results.data(), results.data() + rows};
    share(rows, [&](int64_t begin, int64_t end) { score_loops().rows(task, begin, end); });
    return results;
  };
  CHECK(same(scored(share_out), scored([](int64_t all, const Range& range) { range(0, all); })));
}

void test_rows() {
  const int64_t rows = 61, size = 37;
  const std::vector<float> gradient = random_scores(rows * size, 4), factors(rows, 0.5f);
  const auto passed = [&](const auto& share) {
    std::vector<float> results(rows + rows * size);
    const RowsTask task = {gradient.data(), LogitType::float32,   size, 2.0, results.data(),
                           factors.data(),  results.data() + rows};
    share(rows, [&](int64_t begin, int64_t end) { score_loops().pass_rows(task, begin, end); });
    return results;
  };
  CHECK(same(passed(share_out), passed([](int64_t all, const Range& range) { range(0, all); })));
}

}  // namespace

int main() {
  for (const int64_t classes : {int64_t{3}, int64_t{32}, int64_t{100}, int64_t{3000}})
    for (const double smoothing : {0.0, 0.1}) test_scores(classes, smoothing);
  test_rows();
  test_masses_and_draws();
  test_callers_at_once();
  return failures();
}
