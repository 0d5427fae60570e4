// Squared norms and products of rows, to the last bit: a product is one rounding, and so is a
// square's sum, which is made in double. That the order of this sum shows in its float has a chance
// of some 1e-6 a row.
#include "cuda_elements.h"

namespace testing {
namespace {

using namespace isample::cuda;

std::mt19937_64 random_engine(17);

struct Case {
  int64_t rows, size;
  bool squares, factors;
};

void check(const Case& c, const Format& format, const Launcher& launcher) {
  std::snprintf(context, sizeof context, "rows %s (%ld, %ld)%s%s", format.name,
                static_cast<long>(c.rows), static_cast<long>(c.size), c.squares ? " squares" : "",
                c.factors ? " factors" : "");
  const size_t rows = static_cast<size_t>(c.rows);
  Elements gradient(format, c.rows, c.size, 0, 3), result(format, c.rows, c.size, 0, 1);
  Fenced<float> squares(rows, 0.5f), factors(rows, NAN);
  std::normal_distribution<double> normal(0, 2);
  for (int64_t i = 0; i < c.rows; ++i) {
    factors[static_cast<size_t>(i)] = static_cast<float>(std::fabs(normal(random_engine)));
    for (int64_t j = 0; j < c.size; ++j) gradient.set(i, j, normal(random_engine));
  }
  if (c.rows * c.size > 0) {  // half way between two of bfloat16, of which the even one is nearer 0
    factors[0] = 1.00390625f;
    gradient.set(0, 0, 1.0);
  }
  if (c.rows > 2) factors[2] = NAN;
  RowsTask task = {gradient.bytes.data(),
                   format.type,
                   c.rows,
                   c.size,
                   1.5,
                   c.squares ? squares.data() : nullptr,
                   c.factors ? factors.data() : nullptr,
                   result.bytes.data(),
                   nullptr};
  const size_t bytes = row_partials_bytes(task, launcher);
  expect((bytes > 0) == (c.size >= 16384), "%zu bytes of partials", bytes);
  Fenced<double> partials(bytes / 8, NAN);
  task.partials = bytes > 0 ? partials.data() : nullptr;
  expect_runs(c.rows * c.size > 0 ? 1 : 0, launch_rows, task, launcher);
  if (c.size == 0) return;

  for (int64_t i = 0; i < c.rows; ++i) {
    double square = 0;
    const float factor = factors[static_cast<size_t>(i)];
    for (int64_t j = 0; j < c.size; ++j) {
      const Real value = gradient.get(i, j);
      const float scaled = 1.5f * static_cast<float>(value);
      const double wide_scaled = 1.5 * static_cast<double>(value);
      Elements product(format, 1, 1, 0, 0);
      const bool wide = format.bytes == 8;
      square += wide ? wide_scaled * wide_scaled : static_cast<double>(scaled * scaled);
      product.set_nearest(
          0, 0, wide ? static_cast<double>(value) * factor : static_cast<float>(value) * factor);
      const bool both_nan = std::isnan(factor) && std::isnan(result.get(i, j));
      if (c.factors && !both_nan &&
          std::memcmp(result.at(i, j), product.at(0, 0), format.bytes) != 0)
        return expect(false, "product (%ld, %ld) is %Lg, expected %Lg", static_cast<long>(i),
                      static_cast<long>(j), result.get(i, j), product.get(0, 0));
    }
    const float got = squares[static_cast<size_t>(i)];
    const float wanted = c.squares ? 0.5f + static_cast<float>(square) : 0.5f;
    expect(got == wanted, "square %ld is %.9g, expected %.9g", static_cast<long>(i), got, wanted);
  }
  squares.expect_fences("squares");
  result.bytes.expect_fences("the result");
  partials.expect_fences("partials");
}

}  // namespace

void test_rows() {
  for (const Format& format : kFormats)
    for (const bool squares : {true, false})
      for (const bool factors : {true, false}) {
        if (!squares && !factors) continue;
        check({5, 10, squares, factors}, format, small_chip(99));
        check({1, 1, squares, factors}, format, small_chip(99));
        check({3, 1000, squares, factors}, format, small_chip(99));
        check({2, 20011, squares, factors}, format, small_chip(99));  // two blocks a row
        check({0, 10, squares, factors}, format, small_chip(99));
        check({4, 0, squares, factors}, format, small_chip(99));
      }
  // More split rows than a block has threads, which a large chip alone has.
  check({260, 16384, true, false}, kFormats[1], {130, 99 * 1024, 5, nullptr, true});
}

}  // namespace testing
