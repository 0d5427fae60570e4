// softmax_score against a plain evaluation in long double, and against the CPU op's loops, over all
// types, alignments, row shapes and odd rows.
//
// Tolerance 2e-6 relative for hard targets: an exp is good to 2e-7, a lane's sum adds a few
// rounding errors of 6e-8.
#include <algorithm>
#include <functional>

#include "../../csrc/cpu/score.h"
#include "cuda_elements.h"

namespace testing {
namespace {

using namespace isample::cuda;
using Logits = Elements;

struct Expected {
  Real score, loss;
};

// -S a_k ln p_k and the norm of its gradient A p - a, with the target kept out of the sums where it
// is one class.
Expected expected(Logits& logits, int64_t row, const std::function<Real(int64_t)>& mass,
                  int64_t label) {
  Real max = -INFINITY, sum = 0, total = 0;
  for (int64_t k = 0; k < logits.columns; ++k)
    max = std::max(max, logits.get(row, k)), total += mass(k);
  for (int64_t k = 0; k < logits.columns; ++k) sum += std::exp(logits.get(row, k) - max);
  Real squares = 0, loss = 0;
  for (int64_t k = 0; k < logits.columns; ++k) {
    const Real p = std::exp(logits.get(row, k) - max) / sum;
    Real gradient = total * p - mass(k);
    if (k == label) {  // 1 - p_y as the sum of the others
      gradient = 0;
      for (int64_t j = 0; j < logits.columns; ++j)
        if (j != k) gradient += total * std::exp(logits.get(row, j) - max) / sum;
    }
    squares += gradient * gradient;
    if (mass(k) > 0 && k != label) loss -= mass(k) * (logits.get(row, k) - max - std::log(sum));
  }
  if (label >= 0) {
    Real others = 0;
    for (int64_t j = 0; j < logits.columns; ++j)
      if (j != label) others += std::exp(logits.get(row, j) - logits.get(row, label));
    loss = total * std::log1p(others);
  }
  return {std::sqrt(squares), loss};
}

std::mt19937_64 random_engine(7);
double normal() { return std::normal_distribution<double>()(random_engine); }
int64_t below(int64_t n) {
  return static_cast<int64_t>(random_engine() % static_cast<uint64_t>(n));
}

void fill(Logits& logits) {
  for (int64_t row = 0; row < logits.rows; ++row) {
    const int kind = static_cast<int>(row % 4);  // spread, narrow, equal, one far above
    const double shift = kind == 2 ? 1.7 : 0.0;
    for (int64_t k = 0; k < logits.columns; ++k)
      logits.set(row, k,
                 kind == 2 ? shift : normal() * (kind == 1 ? 0.1 : 4.0) + (kind == 3 ? -9.3 : 0));
  }
}

struct Results {
  Fenced<float> score, loss;
  explicit Results(int64_t rows)
      : score(static_cast<size_t>(rows), kUnwritten), loss(static_cast<size_t>(rows), kUnwritten) {}
};

void run(ScoreTask task, Results& results, const Launcher& launcher = small_chip(227)) {
  task.score = results.score.data();
  task.loss = results.loss.data();
  Fenced<uint64_t> partials((partials_bytes(task, launcher) + 7) / 8, ~uint64_t{0});
  task.partials = partials.size() == 0 ? nullptr : partials.data();
  expect_runs(task.rows > 0 ? 1 : 0, launch_softmax_score, task, launcher);
  results.score.expect_fences("score");
  results.loss.expect_fences("loss");
  partials.expect_fences("partials");
}

void expect_near(const char* what, int64_t row, float got, Real wanted, Real tolerance) {
  expect(std::fabs(got - wanted) <= tolerance * std::fabs(wanted) + 1e-37L,
         "%s of row %ld: got %.9g, expected %.9g (%.2g off)", what, static_cast<long>(row), got,
         static_cast<double>(wanted),
         static_cast<double>(std::fabs(got - wanted) / std::fabs(wanted)));
}

ScoreTask task_of(Logits& logits, const int64_t* labels) {
  return {logits.bytes.data(),
          logits.format.type,
          logits.rows,
          logits.columns,
          logits.stride,
          labels,
          nullptr,
          nullptr,
          -100,
          0.0,
          nullptr,
          nullptr,
          nullptr};
}

// The CPU op on the same task.
void expect_near_cpu(const ScoreTask& task, const Results& results) {
  std::vector<float> score(results.score.size()), loss(results.loss.size());
  const isample::cpu::ScoreTask same = {
      task.logits,       static_cast<isample::cpu::LogitType>(task.type),
      task.row_stride,   task.classes,
      task.labels,       nullptr,
      nullptr,           0.0,
      task.ignore_index, 0.0,
      score.data(),      loss.data()};
  isample::cpu::score_loops().rows(same, 0, task.rows);
  for (size_t row = 0; row < score.size(); ++row) {
    expect_near("score beside the CPU's,", static_cast<int64_t>(row), results.score[row],
                score[row], 2e-6L);
    expect_near("loss beside the CPU's,", static_cast<int64_t>(row), results.loss[row], loss[row],
                2e-6L);
  }
}

constexpr int64_t kNoLabel = int64_t{1} << 60;  // a label read past the end addresses nothing

void hard_targets(const Format& format, int64_t rows, int64_t classes, int64_t gap, size_t offset) {
  std::snprintf(context, sizeof context, "hard targets (%ld, %ld) %s, gap %ld, offset %zu",
                static_cast<long>(rows), static_cast<long>(classes), format.name,
                static_cast<long>(gap), offset);
  Logits logits(format, rows, classes, gap, offset);
  fill(logits);
  Fenced<int64_t> labels(static_cast<size_t>(rows), kNoLabel);
  for (int64_t row = 0; row < rows; ++row) {
    // Both ends of the row, all places of a vector, and anywhere.
    labels[static_cast<size_t>(row)] = row == 0   ? classes - 1
                                       : row < 20 ? std::min(row - 1, classes - 1)
                                                  : below(classes);
    if (row % 4 == 3) logits.set(row, labels[static_cast<size_t>(row)], row % 8 == 3 ? 20.0 : 4.0);
  }
  Results results(rows);
  run(task_of(logits, labels.data()), results);
  expect_near_cpu(task_of(logits, labels.data()), results);
  for (int64_t row = 0; row < rows; ++row) {
    if (classes > 3000 && row % 4 == 2 && row > 2) continue;  // long double takes its time
    const int64_t label = labels[static_cast<size_t>(row)];
    const Expected wanted =
        expected(logits, row, [&](int64_t k) { return Real(k == label); }, label);
    expect_near("score", row, results.score[static_cast<size_t>(row)], wanted.score, 2e-6L);
    expect_near("loss", row, results.loss[static_cast<size_t>(row)], wanted.loss, 2e-6L);
  }
}

// Rows that need a rule of their own, among rows that do not.
void odd_rows(const Format& format, int64_t classes) {
  std::snprintf(context, sizeof context, "odd rows of %ld classes, %s", static_cast<long>(classes),
                format.name);
  constexpr int64_t kRows = 13;
  Logits logits(format, kRows, classes, 1, 1);
  fill(logits);
  Fenced<int64_t> labels(kRows, kNoLabel);
  for (size_t row = 0; row < kRows; ++row) labels[row] = classes / 2;
  const int64_t other = classes / 2 + 1;
  logits.set(0, other, NAN);
  logits.set(1, other, INFINITY);
  logits.set(2, classes - 1, NAN);
  logits.set(3, classes / 2, NAN);
  labels[4] = -100;
  for (int64_t k = 0; k < classes; ++k) logits.set(4, k, NAN);  // ignored all the same
  labels[5] = classes + 1;                                      // a finite logit of the next row
  labels[6] = -2;                                               // and one of the row before
  for (int64_t k = 0; k < classes; ++k) logits.set(7, k, k == classes / 2 ? 2.0 : -INFINITY);
  for (int64_t k = 0; k < classes; ++k) logits.set(8, k, k < 2 ? 1.0 : -INFINITY);
  labels[8] = 1;
  logits.set(10, classes / 2, INFINITY);
  for (int64_t k = 0; k < classes; ++k) logits.set(11, k, -INFINITY);
  logits.set(12, classes / 2, -INFINITY);
  Results results(kRows);
  run(task_of(logits, labels.data()), results);
  for (const size_t row : {0, 1, 2, 3, 5, 6, 10, 11})
    expect(std::isnan(results.score[row]) && std::isnan(results.loss[row]),
           "row %zu must be NaN, got %g and %g", row, results.score[row], results.loss[row]);
  for (const size_t row : {4, 7})
    expect(results.score[row] == 0 && results.loss[row] == 0, "row %zu must be 0, got %g and %g",
           row, results.score[row], results.loss[row]);
  expect_near("score", 8, results.score[8], std::sqrt(Real(0.5)), 2e-6L);
  expect_near("loss", 8, results.loss[8], std::log(Real(2)), 2e-6L);
  expect(std::isinf(results.loss[12]), "a target of probability 0 loses %g", results.loss[12]);
  for (const int64_t row : {9, 12}) {
    const int64_t label = labels[static_cast<size_t>(row)];
    const Expected wanted =
        expected(logits, row, [&](int64_t k) { return Real(k == label); }, label);
    expect_near("score", row, results.score[static_cast<size_t>(row)], wanted.score, 2e-6L);
  }
}

// Soft targets, label smoothing and class weights. The gradient is a difference here, A p - a,
// whose parts are up to a few times larger than itself: 1e-5.
template <class V>
void dense_targets(const Format& format, int64_t rows, int64_t classes, bool soft, double smoothing,
                   bool weighted) {
  std::snprintf(context, sizeof context, "(%ld, %ld) %s, %s, smoothing %g, %s",
                static_cast<long>(rows), static_cast<long>(classes), format.name,
                soft ? "soft" : "hard", smoothing, weighted ? "weighted" : "equal");
  Logits logits(format, rows, classes, 3, 1);
  fill(logits);
  Fenced<int64_t> labels(static_cast<size_t>(rows), kNoLabel);
  Fenced<V> q(static_cast<size_t>(rows * classes), NAN), weight(static_cast<size_t>(classes), NAN);
  for (int64_t k = 0; k < classes; ++k)
    weight[static_cast<size_t>(k)] = static_cast<V>(0.25 * static_cast<double>(1 + k % 7));
  for (int64_t row = 0; row < rows; ++row) {
    labels[static_cast<size_t>(row)] = row == 1 && rows > 2   ? -100
                                       : row == 2 && rows > 3 ? classes
                                                              : below(classes);
    Real sum = 0;
    std::vector<Real> raw(static_cast<size_t>(classes));
    for (Real& x : raw) sum += x = std::exp(normal());
    for (int64_t k = 0; k < classes; ++k)
      q[static_cast<size_t>(row * classes + k)] = static_cast<V>(raw[static_cast<size_t>(k)] / sum);
  }
  ScoreTask task = task_of(logits, soft ? nullptr : labels.data());
  task.soft = soft ? q.data() : nullptr;
  task.weight = weighted ? weight.data() : nullptr;
  task.smoothing = smoothing;
  Results results(rows);
  run(task, results);
  for (int64_t row = 0; row < rows; ++row) {
    const size_t i = static_cast<size_t>(row);
    const int64_t label = labels[i];
    if (!soft && label == -100) {
      expect(results.score[i] == 0 && results.loss[i] == 0, "an ignored row must be 0");
      continue;
    }
    if (!soft && label == classes) {
      expect(std::isnan(results.score[i]) && std::isnan(results.loss[i]),
             "a label out of range must be NaN");
      continue;
    }
    const auto mass = [&](int64_t k) {
      const Real own = soft ? Real(q[static_cast<size_t>(row * classes + k)]) : Real(k == label);
      return (weighted ? Real(weight[static_cast<size_t>(k)]) : Real(1)) *
             ((1 - smoothing) * own + smoothing / classes);
    };
    const bool one_class = !soft && smoothing == 0;
    const Expected wanted = expected(logits, row, mass, one_class ? label : -1);
    expect_near("score", row, results.score[i], wanted.score, one_class ? 2e-6L : 1e-5L);
    expect_near("loss", row, results.loss[i], wanted.loss, one_class ? 2e-6L : 1e-5L);
  }
}

}  // namespace

void test_scores() {
  for (const Format& format : kFormats) {
    for (const auto& [rows, classes] : std::vector<std::pair<int64_t, int64_t>>{{1, 1},
                                                                                {5, 1},
                                                                                {35, 2},
                                                                                {40, 10},
                                                                                {33, 100},
                                                                                {20, 127},
                                                                                {17, 257},
                                                                                {9, 1000},
                                                                                {5, 1003},
                                                                                {8, 2049},
                                                                                {5, 4100},
                                                                                {3, 9001}})
      hard_targets(format, rows, classes, rows % 2 * 3,
                   static_cast<size_t>(below(16 / static_cast<int64_t>(format.bytes))));
    for (size_t offset = 0; offset < 16 / format.bytes; ++offset)
      hard_targets(format, 21, 29, 0, offset);
    hard_targets(format, 1, 70001, 0, 1);  // split over blocks
    hard_targets(format, 3, 34000, 5, 3);
    for (const int64_t classes : {5, 300, 20000}) odd_rows(format, classes);
  }
  for (const Format& format : kFormats)
    for (const auto& [rows, classes] :
         std::vector<std::pair<int64_t, int64_t>>{{5, 1}, {37, 10}, {7, 300}, {3, 1100}, {4, 9001}})
      for (const bool soft : {false, true})
        for (const double smoothing : {0.0, 0.1})
          for (const bool weighted : {false, true}) {
            if (classes == 1 && !(soft && weighted)) continue;
            if (format.type == LogitType::float64)
              dense_targets<double>(format, rows, classes, soft, smoothing, weighted);
            else dense_targets<float>(format, rows, classes, soft, smoothing, weighted);
          }
  std::snprintf(context, sizeof context, "no rows");
  Logits none(kFormats[0], 0, 10, 0, 0);
  Results results(0);
  const int64_t no_labels[1] = {0};
  run(task_of(none, no_labels), results);
}

}  // namespace testing
