// float16 on the stand-in: its conversions.
#pragma once

#include <algorithm>
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

inline uint16_t __half_as_ushort(__half half) { return half.bits; }

inline __half __float2half_rn(float value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(static_cast<double>(value));
  if (std::isnan(value)) return {0x7fff};
  if (magnitude >= 65520) return {static_cast<uint16_t>(sign | 0x7c00)};
  if (magnitude == 0) return {sign};
  const int exponent = std::max(std::ilogb(magnitude), -14);
  const int units =
      static_cast<int>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));  // may reach 2^11
  return {static_cast<uint16_t>(sign | (((exponent + 14) << 10) + units))};
}
