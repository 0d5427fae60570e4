// importance_sample: its scores are softmax_score's, bit for bit, and its draws those of serial
// loops over these scores.
#include "cuda_sampling_reference.h"

namespace testing {
namespace {

using namespace isample::cuda;
using isample::DrawMethod;

std::mt19937_64 random_engine(13);

struct Case {
  int64_t rows, classes, count;
  DrawMethod method;
  double floor;
  long launches;
  int64_t bad_row = -1;  // whose label is out of range
  double smoothing = 0;
};

void check(const Case& c, const Launcher& launcher) {
  std::snprintf(context, sizeof context,
                "importance_sample (%ld, %ld), %ld draws, method %d, floor %g",
                static_cast<long>(c.rows), static_cast<long>(c.classes), static_cast<long>(c.count),
                static_cast<int>(c.method), c.floor);
  const size_t rows = static_cast<size_t>(c.rows);
  Fenced<float> logits(rows * static_cast<size_t>(c.classes), NAN, 1);
  std::normal_distribution<float> normal(0.f, 3.f);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = normal(random_engine);
  Fenced<int64_t> labels(rows, int64_t{1} << 60);
  for (size_t i = 0; i < rows; ++i)
    labels[i] = static_cast<int64_t>(random_engine() % static_cast<uint64_t>(c.classes));
  if (c.bad_row >= 0) labels[static_cast<size_t>(c.bad_row)] = c.classes;

  Fenced<float> score(rows, kUnwritten), loss(rows, kUnwritten), tau(1, kUnwritten),
      tau_ema(1, 1.25f);
  ScoreTask task = {logits.data(), LogitType::float32, c.rows,       c.classes,
                    c.classes,     labels.data(),      nullptr,      nullptr,
                    -100,          c.smoothing,        score.data(), loss.data(),
                    nullptr};
  Fenced<uint64_t> partials((partials_bytes(task, launcher) + 7) / 8, ~uint64_t{0});
  task.partials = partials.data();
  const DistributionTask distribution = {score.data(), c.rows,         c.floor, nullptr,
                                         tau.data(),   tau_ema.data(), 0.9};
  DrawnInto drawn(c.count);
  const DrawTask draw = {
      c.method, c.count, {3, 4, nullptr, nullptr, 0}, drawn.indices.data(), drawn.weights.data()};
  Fenced<uint64_t> workspace((workspace_bytes(c.rows, c.count, launcher) + 7) / 8, ~uint64_t{0});
  expect_runs(c.launches, launch_importance_sample, task, distribution, draw, workspace.data(),
              launcher);

  Fenced<float> alone(rows, kUnwritten), alone_loss(rows, kUnwritten);
  task.score = alone.data();
  task.loss = alone_loss.data();
  expect_runs(1, launch_softmax_score, task, launcher);
  for (size_t i = 0; i < rows; ++i)
    if (!same_bits(score[i], alone[i]) || !same_bits(loss[i], alone_loss[i])) {
      expect(false, "row %zu scores %g, alone %g", i, score[i], alone[i]);
      break;
    }
  const SerialDistribution serial(alone.data(), c.rows, c.floor);
  expect((c.bad_row >= 0) == (serial.sums.total == 0), "a label out of range shows in tau");
  expect_tau(tau[0], serial);
  expect_tau_ema(tau_ema[0], 1.25f, 0.9, serial);
  drawn.expect_equal(SerialDraws(serial, c.method, c.count, {3, 4}));
  score.expect_fences("score");
  loss.expect_fences("loss");
  partials.expect_fences("partials");
  workspace.expect_fences("the workspace");
}

// A launch begins early only after one that it follows, on a chip that can.
void check_overlap() {
  std::snprintf(context, sizeof context, "overlapping launches");
  for (const bool follows : {false, true})
    for (const bool can : {false, true}) {
      const Launcher launcher = {2, 99 * 1024, 5, nullptr, can};
      Fenced<float> score(10, NAN);
      for (size_t i = 0; i < 10; ++i) score[i] = static_cast<float>(i);
      DrawnInto drawn(5);
      const DistributionTask task = {score.data(), 10, 0.0, nullptr, nullptr, nullptr, 0};
      const DrawTask draw = {DrawMethod::alias,
                             5,
                             {3, 4, nullptr, nullptr, 0},
                             drawn.indices.data(),
                             drawn.weights.data()};
#if !defined(__CUDACC__)
      const long before = standin::overlapping;
#endif
      expect_runs(1, launch_draw, task, draw, nullptr, launcher, follows);
#if !defined(__CUDACC__)
      expect(standin::overlapping - before == (follows && can), "follows %d, can overlap %d",
             follows, can);
#endif
      drawn.expect_equal(
          SerialDraws(SerialDistribution(score.data(), 10, 0.0), DrawMethod::alias, 5, {3, 4}));
    }
}

}  // namespace

void test_importance_sample() {
  check_overlap();
  for (const DrawMethod method : {DrawMethod::alias, DrawMethod::systematic, DrawMethod::pps})
    for (const double floor : {0.0, 0.1}) {
      check({1, 1, 1, method, floor, 1}, small_chip(99));
      check({1, 7, 1, method, floor, 1}, small_chip(99));
      check({128, 10, 25, method, floor, 1}, small_chip(99));
      check({640, 100, 128, method, floor, 1}, small_chip(99));
      check({64, 1000, 64, method, floor, 1}, small_chip(227));
      check({3, 20001, 2, method, floor, 1}, small_chip(227));            // rows split over blocks
      check({300, 12, 100, method, floor, 1, 299}, small_chip(99));       // not valid
      check({300, 12, 100, method, floor, 2, -1, 0.1}, small_chip(99));   // two kernels: smoothing
      check({4100, 9, 700, method, floor, 2}, small_chip(227));           // and many rows
      check({2500, 6, 1200, method, floor, kAnyNumber}, small_chip(20));  // in stages
    }
  check({4096, 5, 4096, DrawMethod::alias, 0.0, 1}, small_chip(99));
  check({11, 500000, 5, DrawMethod::alias, 0.0, 2}, small_chip(99));  // more than 20 MB
}

}  // namespace testing
