// The polynomials against long double, over their whole range, with the accuracy that their
// comments claim.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "check.h"

#define ISAMPLE_VECTOR_BYTES 16

namespace {

#include "cpu/vector_math.inc"

// In units of the last place of a T at the true value.
template <class T> double ulps(T got, long double expected) {
  const T rounded = static_cast<T>(expected);
  const T ulp = std::nextafter(rounded, static_cast<T>(INFINITY)) - rounded;
  return static_cast<double>(std::fabs((static_cast<long double>(got) - expected) / ulp));
}

template <class M> double worst_exp(double lowest, int steps) {
  using T = typename M::T;
  double worst = 0;
  for (int i = 0; i <= steps; ++i) {
    const T x = static_cast<T>(lowest * i / steps);
    const double error = ulps<T>(M::exp(M::all(x))[0], std::exp(static_cast<long double>(x)));
    worst = error > worst ? error : worst;
  }
  return worst;
}

template <class M> void test_exp_at_its_ends(double underflow) {
  using T = typename M::T;
  const auto exp = [](double x) { return M::exp(M::all(static_cast<T>(x)))[0]; };
  CHECK(exp(0.0) == T{1} && exp(-0.0) == T{1});
  CHECK(exp(underflow) == T{0} && exp(-1e30) == T{0} &&
        exp(-static_cast<double>(INFINITY)) == T{0});
  CHECK(std::isnan(exp(static_cast<double>(NAN))) && std::isnan(exp(-static_cast<double>(NAN))));
}

double relative(double got, long double expected) {
  return static_cast<double>(std::fabs((got - expected) / expected));
}

void test_logarithms() {
  using M = Math<double>;
  for (double x = 1e-30; x <= 1.0; x *= 1.003)
    CHECK(relative(M::log1p(M::all(x))[0], std::log1p(static_cast<long double>(x))) < 2.6e-12);
  for (double x = 1.0001; x < 1e9; x *= 1.003)
    CHECK(relative(M::log(M::all(x))[0], std::log(static_cast<long double>(x))) < 2.6e-12);
  CHECK(M::log1p(M::all(0.0))[0] == 0.0 && M::log(M::all(1.0))[0] == 0.0);
  CHECK(std::isnan(M::log(M::all(static_cast<double>(NAN)))[0]));
}

void test_float16() {
  for (int bits = 0; bits < 1 << 16; ++bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float got = widen_one(Float16{static_cast<uint16_t>(bits)});
    if (exponent == 31) {
      CHECK(fraction == 0 ? std::isinf(got) : std::isnan(got));
    } else {
      const double size =
          exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
      CHECK(got == static_cast<float>(bits >> 15 ? -size : size));
    }
  }
}

}  // namespace

int main() {
  CHECK(worst_exp<Math<float>>(-87.6, 2'000'000) < 1.5);
  CHECK(worst_exp<Math<double>>(-708.0, 500'000) < 3.5);  // 3e-16 of the polynomial, and rounding
  test_exp_at_its_ends<Math<float>>(-88.0);
  test_exp_at_its_ends<Math<double>>(-709.0);
  test_logarithms();
  test_float16();
  return failures() != 0;
}
