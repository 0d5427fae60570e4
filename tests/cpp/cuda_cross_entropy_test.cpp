// cross_entropy against a plain evaluation in long double: the gradient at the logits, the mean
// over rows or over what the labels count. Its scores and losses are those of softmax_score, bit
// for bit where that does not split rows. And pack.
//
// Tolerance for one target 2e-6 relative, as for the scores, and 1e-7 |x| for the rounding of an
// exponent x, which e^x turns into one of itself. For other targets the gradient is a difference,
// A p - a: so much of its larger part.
#include <functional>

#include "cuda_elements.h"

namespace testing {
namespace {

using namespace isample::cuda;

std::mt19937_64 random_engine(11);
double normal() { return std::normal_distribution<double>()(random_engine); }
int64_t below(int64_t n) {
  return static_cast<int64_t>(random_engine() % static_cast<uint64_t>(n));
}

struct Case {
  Format format;
  int64_t rows, classes;
  bool soft, weighted, class_weighted, counted;
  double smoothing;
  int64_t gap = 1;
  size_t offset = 1;
  int64_t ignored = -100;

  bool one_class() const { return !soft && smoothing == 0; }
};

// Everything that a launch takes and gives.
template <class V> struct Batch {
  Case which;
  Elements logits;
  Fenced<int64_t> labels;
  Fenced<V> soft, class_weight;
  Fenced<float> weights, score, loss, mean;
  Fenced<V> gradient;
  Fenced<double> count, ratio;

  explicit Batch(const Case& c)
      : which(c),
        logits(c.format, c.rows, c.classes, c.gap, c.offset),
        labels(size(c.rows), int64_t{1} << 60),
        soft(size(c.soft ? c.rows * c.classes : 0), NAN),
        class_weight(size(c.classes), NAN),
        weights(size(c.rows), NAN),
        score(size(c.rows), kUnwritten),
        loss(size(c.rows), kUnwritten),
        mean(1, kUnwritten),
        gradient(size(c.rows * c.classes), static_cast<V>(kUnwritten), 1),
        count(1, -1.0),
        ratio(1, -1.0) {
    for (int64_t row = 0; row < c.rows; ++row) {
      for (int64_t k = 0; k < c.classes; ++k) logits.set(row, k, 3 * normal());
      labels[size(row)] = below(c.classes);
      if (row % 3 == 1) logits.set(row, labels[size(row)], 15.0);
      weights[size(row)] = static_cast<float>(std::exp(normal()));
      Real sum = 0;
      std::vector<Real> raw(c.soft ? size(c.classes) : 0);
      for (Real& x : raw) sum += x = std::exp(normal());
      for (size_t k = 0; k < raw.size(); ++k)
        soft[size(row * c.classes) + k] = static_cast<V>(raw[k] / sum);
    }
    for (int64_t k = 0; k < c.classes; ++k)
      class_weight[size(k)] = static_cast<V>(0.25 * static_cast<double>(1 + k % 7));
  }
  static size_t size(int64_t n) { return static_cast<size_t>(n); }

  ScoreTask rows_task() {
    return {logits.bytes.data(),
            which.format.type,
            which.rows,
            which.classes,
            logits.stride,
            which.soft ? nullptr : labels.data(),
            which.soft ? soft.data() : nullptr,
            which.class_weighted ? class_weight.data() : nullptr,
            which.ignored,
            which.smoothing,
            score.data(),
            loss.data(),
            nullptr};
  }

  void run(bool with_gradient = true) {
    const Launcher launcher = small_chip(227);
    CrossEntropyTask task = {};
    task.rows = rows_task();
    if (which.weighted) task.weights = weights.data();
    if (with_gradient) task.gradient = gradient.data();
    task.mean = mean.data();
    if (which.counted) task.count = count.data(), task.ratio = ratio.data();
    Fenced<double> partials(2 * cross_entropy_partials(task.rows, launcher), NAN);
    task.partials = reinterpret_cast<isample::MeanSums*>(partials.data());
    expect_runs(1, launch_cross_entropy, task, launcher);
    score.expect_fences("score");
    loss.expect_fences("loss");
    mean.expect_fences("mean");
    ratio.expect_fences("ratio");
    count.expect_fences("count");
    gradient.expect_fences("gradient");
    partials.expect_fences("partials");
  }

  double weight(int64_t row) const {
    return which.weighted ? static_cast<double>(weights[size(row)]) : 1.0;
  }
  bool counts(int64_t row) const { return which.soft || labels[size(row)] != which.ignored; }
  Real mass(int64_t row, int64_t k) const {
    const Real q =
        which.soft ? Real(soft[size(row * which.classes + k)]) : Real(k == labels[size(row)]);
    return (which.class_weighted ? Real(class_weight[size(k)]) : 1) *
           ((1 - which.smoothing) * q + Real(which.smoothing) / which.classes);
  }

  void expect_gradient_row(int64_t row) {
    Real max = -INFINITY, sum = 0, total = 0;
    std::vector<Real> z(size(which.classes));
    for (int64_t k = 0; k < which.classes; ++k) {
      z[size(k)] = logits.get(row, k);
      max = std::max(max, z[size(k)]);
      total += mass(row, k);
    }
    for (const Real logit : z) sum += std::exp(logit - max);
    const Real share = Real(weight(row)) / which.rows;
    for (int64_t k = 0; k < which.classes; ++k) {
      const Real p = std::exp(z[size(k)] - max) / sum;
      Real wanted = total * p - mass(row, k), larger = std::max(total * p, mass(row, k));
      if (which.one_class()) {
        if (k == labels[size(row)]) {
          wanted = 0;
          for (int64_t j = 0; j < which.classes; ++j)
            if (j != k) wanted -= total * std::exp(z[size(j)] - max) / sum;
        }
        larger = std::fabs(wanted);
      }
      if (!counts(row)) wanted = larger = 0;
      const Real got = gradient[size(row * which.classes + k)];
      const Real tolerance = 2e-6L + 1e-7L * (max - z[size(k)]);
      expect(std::fabs(got - share * wanted) <= tolerance * share * larger + 1e-37L,
             "gradient of row %ld, class %ld: got %.9g, expected %.9g", static_cast<long>(row),
             static_cast<long>(k), static_cast<double>(got), static_cast<double>(share * wanted));
    }
  }

  // The means, of the losses that were written.
  void expect_means() {
    double sum = 0, counted = 0;
    for (int64_t row = 0; row < which.rows; ++row) {
      sum += weight(row) * static_cast<double>(loss[size(row)]);
      if (counts(row))
        counted += which.class_weighted && !which.soft
                       ? static_cast<double>(class_weight[size(labels[size(row)])])
                       : 1.0;
    }
    const double rows = static_cast<double>(which.rows);
    const double wanted = sum / (which.counted ? counted : rows);
    expect(std::fabs(mean[0] - wanted) <= 2e-7 * std::fabs(wanted), "the mean is %.9g, not %.9g",
           static_cast<double>(mean[0]), wanted);
    if (!which.counted) return;
    expect(std::fabs(count[0] - counted) <= 1e-12 * counted, "the count is %.9g, not %.9g",
           count[0], counted);
    expect(std::fabs(ratio[0] - rows / counted) <= 1e-12 * rows / counted, "the ratio is %.9g",
           ratio[0]);
  }

  void expect_scores() {
    Fenced<float> own_score(score.size(), kUnwritten), own_loss(loss.size(), kUnwritten);
    ScoreTask task = rows_task();
    task.score = own_score.data();
    task.loss = own_loss.data();
    const Launcher launcher = small_chip(227);
    Fenced<uint64_t> partials((partials_bytes(task, launcher) + 7) / 8, ~uint64_t{0});
    task.partials = partials.size() == 0 ? nullptr : partials.data();
    expect_runs(1, launch_softmax_score, task, launcher);
    for (size_t i = 0; i < score.size(); ++i) {
      const auto near = [&](float a, float b) {
        return partials.size() == 0 ? same_bits(a, b) : std::fabs(a - b) <= 2e-6f * std::fabs(b);
      };
      expect(near(score[i], own_score[i]) && near(loss[i], own_loss[i]),
             "row %zu: score %.9g and loss %.9g beside softmax_score's %.9g and %.9g", i,
             static_cast<double>(score[i]), static_cast<double>(loss[i]),
             static_cast<double>(own_score[i]), static_cast<double>(own_loss[i]));
    }
  }
};

void describe(const char* what, const Case& c) {
  std::snprintf(context, sizeof context,
                "%s (%ld, %ld) %s, soft %d, smoothing %g, weighted %d and %d, counted %d", what,
                static_cast<long>(c.rows), static_cast<long>(c.classes), c.format.name, c.soft,
                c.smoothing, c.weighted, c.class_weighted, c.counted);
}

template <class V> void check_case(const Case& c) {
  describe("cross-entropy", c);
  Batch<V> batch(c);
  if (c.rows > 2) batch.labels[1] = c.ignored;
  batch.run();
  for (int64_t row = 0; row < c.rows; ++row) batch.expect_gradient_row(row);
  batch.expect_means();
  batch.expect_scores();
  Batch<V> alone(c);
  alone.run(false);
  for (const V value : std::vector<V>(alone.gradient.data(), alone.gradient.data() + 1))
    expect(c.rows * c.classes == 0 || value == static_cast<V>(kUnwritten), "no gradient is wanted");
  alone.expect_means();
}

void check(const Case& c) {
  if (c.format.type == LogitType::float64) check_case<double>(c);
  else check_case<float>(c);
}

// Rows that need a rule of their own.
template <class V> void odd_rows(const Case& c) {
  describe("odd rows", c);
  Batch<V> batch(c);
  for (int64_t k = 0; k < c.classes; ++k) batch.logits.set(0, k, NAN);
  batch.labels[0] = c.ignored;  // says nothing, whatever it holds
  batch.labels[1] = c.classes;
  batch.labels[2] = -1;
  batch.logits.set(3, 0, NAN);
  batch.logits.set(4, c.classes - 1, INFINITY);
  batch.logits.set(5, batch.labels[5], -INFINITY);
  batch.logits.set(7, batch.labels[7], INFINITY);
  batch.run();
  for (int64_t k = 0; k < c.classes; ++k) {
    const auto at = [&](int64_t row) { return batch.gradient[batch.size(row * c.classes + k)]; };
    expect(at(0) == 0, "an ignored row has no gradient");
    for (const int64_t row : {1, 2, 3, 4, 7})
      expect(std::isnan(at(row)), "row %ld must be NaN, got %g", static_cast<long>(row),
             static_cast<double>(at(row)));
  }
  expect(std::isnan(batch.mean[0]), "the mean must show it");
  expect(batch.count[0] == 6, "%g rows count, not 6", batch.count[0]);
  batch.expect_gradient_row(6);
  if (!c.one_class()) return;
  batch.expect_gradient_row(5);
  expect(std::isinf(batch.loss[5]), "a target of probability 0");
}

void no_rows() {
  const Case c = {kFormats[0], 0, 10, false, false, false, true, 0.0};
  describe("no rows", c);
  Batch<float> batch(c);
  batch.run();
  expect(std::isnan(batch.mean[0]) && batch.count[0] == 0, "the mean of no rows is NaN");
}

void nothing_counts() {
  const Case c = {kFormats[0], 3, 10, false, false, false, true, 0.0};
  describe("nothing counts", c);
  Batch<float> batch(c);
  for (size_t row = 0; row < 3; ++row) batch.labels[row] = c.ignored;
  batch.run();
  expect(batch.mean[0] == 0 && batch.count[0] == 0, "the mean of nothing is 0");
}

}  // namespace

void test_cross_entropy() {
  const std::vector<std::pair<int64_t, int64_t>> shapes = {{1, 1},   {5, 2},    {70, 10}, {33, 100},
                                                           {9, 300}, {5, 1003}, {3, 5000}};
  for (const Format& format : kFormats) {
    int turn = 0;
    for (const auto& [rows, classes] : shapes)
      for (const double smoothing : {0.0, 0.2})
        for (const bool soft : {false, true}) {
          const int bits = turn++;
          const bool alone = classes == 1 && !soft;
          check({format, rows, classes, soft, (bits + bits / 4) % 2 == 0, !alone && bits % 3 == 0,
                 (bits / 2 + bits / 4) % 2 == 1, smoothing, bits % 4,
                 static_cast<size_t>(bits % 3)});
        }
    for (const double smoothing : {0.0, 0.2})  // one of the classes says that a row is ignored
      check({format, 37, 6, false, true, true, true, smoothing, 1, 1, 3});
    check({format, 2, 40000, false, true, false, false, 0.0});  // softmax_score would split them
    for (const double smoothing : {0.0, 0.1}) {
      // No gap: a label out of range would find the next row's logit, or the one before's.
      const Case odd = {format, 9, 40, false, false, false, true, smoothing, 0};
      if (format.type == LogitType::float64) odd_rows<double>(odd);
      else odd_rows<float>(odd);
    }
  }
  no_rows();
  nothing_counts();
}

}  // namespace testing
