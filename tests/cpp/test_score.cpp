// The triple, its merging and its end against long double; the vector loops of every instruction
// set against the triple.
#include <cmath>
#include <random>
#include <vector>

#include "check.h"
#include "core/score.h"
#include "cpu/score.h"

namespace {

using namespace isample;

struct FloatMath {
  using V = float;
  static float exp(float x) { return std::exp(x); }
  static float max(float a, float b) { return a > b ? a : b; }
};

struct Truth {
  long double score, loss;
};

Truth truth(const std::vector<float>& row, size_t label) {
  long double rest = 0, squares = 0;
  for (size_t k = 0; k < row.size(); ++k) {
    if (k == label) continue;
    const long double e = std::exp(static_cast<long double>(row[k]) - row[label]);
    rest += e;
    squares += e * e;
  }
  return {std::sqrt(rest * rest + squares) / (1 + rest), std::log1p(rest)};
}

bool near(float got, long double expected) {
  return std::fabs(got - expected) <= 5e-6L * std::fabs(expected);
}

std::vector<float> random_row(std::mt19937& random, size_t classes, size_t label, float margin) {
  std::normal_distribution<float> normal(0.f, 3.f);
  std::vector<float> row(classes);
  float max = -INFINITY;
  for (size_t k = 0; k < classes; ++k) {
    row[k] = normal(random);
    if (k != label && row[k] > max) max = row[k];
  }
  if (classes > 1) row[label] = max + margin;
  return row;
}

void test_triples_merge_in_any_split() {
  std::mt19937 random(1);
  for (const float margin : {-20.f, 0.f, 30.f, 85.f}) {
    const std::vector<float> row = random_row(random, 64, 0, margin);
    for (size_t split = 1; split <= row.size(); ++split) {
      SoftmaxTriple<float> a = {Lowest<float>::value, 0, 0}, b = a;
      for (size_t k = 1; k < row.size(); ++k) {
        const float logits[1] = {row[k]};
        add_chunk<FloatMath>(k < split ? a : b, logits);
      }
      const ScoreLoss result = finish_hard_target(merge<FloatMath>(a, b), row[0], 1.0);
      CHECK(near(result.score, truth(row, 0).score));
      CHECK(near(result.loss, truth(row, 0).loss));
    }
  }
}

void test_loops_of_every_instruction_set() {
  std::mt19937 random(2);
  for (const cpu::ScoreLoops* loops : cpu::supported_loops()) {
    for (const size_t classes : {1, 2, 7, 10, 31, 32, 33, 48, 100, 1000, 2050, 4097}) {
      const float margins[] = {-20.f, -3.f, 0.f, 3.f, 20.f, 50.f, 85.f};
      std::vector<float> logits;
      std::vector<int64_t> labels;
      std::vector<Truth> expected;
      for (size_t i = 0; i < 21; ++i) {
        const size_t label = random() % classes;
        const std::vector<float> row = random_row(random, classes, label, margins[i % 7]);
        logits.insert(logits.end(), row.begin(), row.end());
        labels.push_back(static_cast<int64_t>(label));
        expected.push_back(truth(row, label));
      }
      std::vector<float> score(labels.size()), loss(labels.size());
      const auto c = static_cast<int64_t>(classes);
      loops->rows({logits.data(), cpu::LogitType::float32, c, c, labels.data(), nullptr, nullptr,
                   static_cast<double>(classes), -100, 0.0, score.data(), loss.data()},
                  0, static_cast<int64_t>(labels.size()));
      for (size_t i = 0; i < labels.size(); ++i) {
        CHECK(near(score[i], expected[i].score));
        CHECK(near(loss[i], expected[i].loss));
      }
    }
  }
}

void test_ends_of_the_range() {
  const auto score = [](float max, float sum, float target) {
    return finish_hard_target<float>({max, sum, sum}, target, 1.0);
  };
  CHECK(score(Lowest<float>::value, 0.f, 1.f).score == 0.f);             // one class
  CHECK(std::isnan(score(Lowest<float>::value, 0.f, -INFINITY).score));  // no class at all
  CHECK(std::isnan(score(0.f, 1.f, NAN).score) && std::isnan(score(0.f, NAN, 1.f).loss));
  CHECK(std::isnan(score(0.f, 1.f, INFINITY).loss));
  CHECK(score(0.f, 1.f, -INFINITY).loss == INFINITY &&
        near(score(0.f, 1.f, -INFINITY).score, std::sqrt(2.0L)));
}

// The end in floats, for what a GPU ends in them: no digit is lost where max - target is no float,
// and none where e^-|x| is too small for one and the result is not.
void test_the_end_in_floats() {
  for (int step = -1700; step <= 2000; ++step)
    for (const float sum : {1.f, 1.7f, 25.f, 999.f, 386260.f, 3e6f}) {
      const float max = 0.1f * static_cast<float>(step % 37), target = max - 0.1003f * step;
      const float sum_sq = 0.5f * (1.f + sum);
      const long double x = static_cast<long double>(max) - target;
      const long double theirs = sum * std::exp(x);  // over e^target
      const long double spread = std::sqrt(1.L + static_cast<long double>(sum_sq) / sum / sum);
      const long double score = theirs / (1 + theirs) * spread, loss = std::log1p(theirs);
      for (const float weight : {1.f, -3.f}) {
        const ScoreLoss got = finish_hard_target_in_float({max, sum, sum_sq}, target, weight);
        const auto near = [](float value, long double wanted) {
          return std::fabs(value - wanted) <= 1e-6L * std::fabs(wanted) + 1e-44L;
        };
        CHECK(near(got.score, std::fabs(weight) * score));
        CHECK(near(got.loss, weight * loss));
      }
    }
  const float none = Lowest<float>::value;
  const auto end = [](float max, float sum, float target) {
    return finish_hard_target_in_float({max, sum, sum}, target, 1.f);
  };
  CHECK(end(none, 0.f, 1.f).score == 0.f && end(none, 0.f, 1.f).loss == 0.f);  // one class
  CHECK(std::isnan(end(none, 0.f, -INFINITY).score));                          // no class at all
  CHECK(std::isnan(end(0.f, 1.f, NAN).score) && std::isnan(end(0.f, NAN, 1.f).loss));
  CHECK(std::isnan(end(0.f, 1.f, INFINITY).loss) && std::isnan(end(INFINITY, NAN, 0.f).score));
  CHECK(end(0.f, 1.f, -INFINITY).loss == INFINITY);
}

}  // namespace

int main() {
  test_the_end_in_floats();
  test_triples_merge_in_any_split();
  test_loops_of_every_instruction_set();
  test_ends_of_the_range();
  return failures() != 0;
}
