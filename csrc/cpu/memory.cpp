#include "memory.h"

#include <memory>

namespace isample::cpu {

void draw_weights(const int64_t* sums, int64_t items, const int64_t* places, int64_t count,
                  float* weights) {
  for (int64_t i = 0; i < count; ++i) weights[i] = weight_by_sums(sums, items, places[i]);
}

namespace {

constexpr int kLanes = 4;

// Several sums side by side, which is what lets a compiler use its vectors. x is padded with zeros
// to whole steps.
DividedSums divide(const double* x, int64_t size, double bound) {
  double rest[kLanes] = {}, squares[kLanes] = {}, certain[kLanes] = {};
  for (int64_t i = 0; i < size; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) {
      const double value = x[i + lane];
      const bool is_certain = value >= bound;
      rest[lane] += is_certain ? 0.0 : value;
      squares[lane] += is_certain ? value * value : 0.0;
      certain[lane] += is_certain ? 1.0 : 0.0;
    }
  DividedSums sums;
  for (int lane = 0; lane < kLanes; ++lane)
    sums.add({rest[lane], squares[lane], static_cast<int64_t>(certain[lane])});
  return sums;
}

}  // namespace

void draw_moments(const ScoredBatch& batch, const double* fractions, int count, double* numbers) {
  const int64_t n = batch.size;
  const std::unique_ptr<double[]> x(new double[static_cast<size_t>(n + kLanes)]());
  DrawSums draws;
  NormSums norms;
  for (int64_t i = 0; i < n; ++i) {
    draws.add(batch.score[i], batch.weight(i), batch.drawn);
    x[i] = batch.norm(i);
    norms.add(x[i]);
  }
  draws.store(numbers, n);
  const double size = static_cast<double>(n);
  numbers[kDrawNumbers] = norms.squares / size;
  for (int k = 0; k < count; ++k)
    numbers[kDrawNumbers + 1 + k] =
        thinned_squares(norms, fractions[k] * size,
                        [&](double bound) { return divide(x.get(), n, bound); }) /
        size;
}

void remember(float* memory, const int64_t* places, const float* fresh, int64_t count, double rate,
              float* before) {
  for (int64_t i = 0; i < count; ++i) before[i] = memory[places[i]];
  for (int64_t i = 0; i < count; ++i) memory[places[i]] = blend(before[i], fresh[i], rate);
}

void meet(float* met, const float* remembered, const float* fresh, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    if (meets(remembered[i], fresh[i]))
      add_meeting(met + kOctaveSums * octave(remembered[i]), remembered[i], fresh[i]);
}

bool expected_scores(const ExpectedTask& task, Look look) {
  const auto for_all = [&](const auto& part) {
    in_chunks(task.size, kItemsBetweenLooks, look, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) part(i);
    });
  };
  Curve curve;
  for (int i = 0; i < kOctaves; ++i) curve.set_point(task.experience, i, task.prior);
  for (int i = 0; i <= kOctaves; ++i) curve.set_line(i);
  SeenSums seen;
  for_all([&](int64_t i) { seen.add(task.score[i]); });
  const float mean = seen.mean();
  ExpectedSums sums;
  for_all([&](int64_t i) {
    const float score = task.score[i];
    task.expected[i] = curve.at(score >= 0 ? score : mean);
    sums.add(task.expected[i], score > task.above);
  });
  const Ending ending(sums, task.size, task.share, task.gain_cap, task.floor);
  if (ending.lowers() || ending.flattens)
    for_all([&](int64_t i) {
      task.expected[i] = ending(task.expected[i], task.score[i] > task.above);
    });
  return ending.lowers();
}

}  // namespace isample::cpu
