// float16 on the stand-in: one conversion.
#pragma once

#include <cmath>
#include <cstdint>

struct __half {
  uint16_t bits;
};

inline __half __ushort_as_half(uint16_t bits) { return {bits}; }

inline float __half2float(__half half) {
  const int exponent = half.bits >> 10 & 31, fraction = half.bits & 1023;
  float value;
  if (exponent == 31) value = fraction == 0 ? INFINITY : NAN;
  else if (exponent == 0) value = std::ldexp(static_cast<float>(fraction), -24);
  else value = std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  return half.bits & 0x8000 ? -value : value;
}
