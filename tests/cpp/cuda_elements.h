// Rows of numbers of the four types that kernels read, in watched memory.
#pragma once

#include <algorithm>

#include "cuda_testing.h"

namespace testing {

using Real = long double;

struct Format {
  isample::cuda::LogitType type;
  const char* name;
  size_t bytes;
};
inline constexpr Format kFormats[] = {{isample::cuda::LogitType::float32, "float32", 4},
                                      {isample::cuda::LogitType::bfloat16, "bfloat16", 2},
                                      {isample::cuda::LogitType::float16, "float16", 2},
                                      {isample::cuda::LogitType::float64, "float64", 8}};

inline uint16_t to_half(
    double value,
    bool brain) {  // truncates: any nearby value will do, as long as it is read back below
  if (std::isnan(value)) return brain ? 0x7fc0 : 0x7e00;
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isinf(value)) return static_cast<uint16_t>(sign | (brain ? 0x7f80 : 0x7c00));
  if (brain) {
    const float narrow = static_cast<float>(value);
    uint32_t bits;
    std::memcpy(&bits, &narrow, 4);
    return static_cast<uint16_t>(bits >> 16);
  }
  int exponent;
  const double fraction = std::frexp(std::fabs(value), &exponent);
  if (value == 0 || exponent < -13) return sign;
  return static_cast<uint16_t>(sign | ((exponent + 14) << 10) |
                               (static_cast<int>(fraction * 2048) & 1023));
}

inline Real from_half(uint16_t bits, bool brain) {
  const int width = brain ? 7 : 10, top = brain ? 255 : 31, bias = brain ? 127 : 15;
  const int exponent = bits >> width & top, fraction = bits & ((1 << width) - 1);
  Real value = exponent == top ? (fraction ? Real(NAN) : Real(INFINITY))
                               : std::ldexp(Real(fraction + (exponent ? 1 << width : 0)),
                                            std::max(exponent, 1) - bias - width);
  return bits & 0x8000 ? -value : value;
}

// The nearest to it, ties to even.
inline uint16_t nearest_half(double value, bool brain) {
  const int width = brain ? 7 : 10, bias = brain ? 127 : 15;
  const int exponent = std::max(value == 0 ? -bias : std::ilogb(value), 1 - bias);
  const int units =
      static_cast<int>(std::nearbyint(std::ldexp(std::fabs(value), width - exponent)));
  return static_cast<uint16_t>((std::signbit(value) ? 0x8000 : 0) |
                               (((exponent + bias - 1) << width) + units));
}

// Rows of numbers of any type, with poison around them and between them.
struct Elements {
  Format format;
  int64_t rows, columns, stride;
  size_t offset;
  Fenced<unsigned char> bytes;

  Elements(Format f, int64_t b, int64_t c, int64_t gap, size_t offset_elements)
      : format(f),
        rows(b),
        columns(c),
        stride(c + gap),
        offset(offset_elements),
        bytes(static_cast<size_t>(rows * stride) * f.bytes, 0xff, offset_elements * f.bytes) {
  }  // 0xff...: a NaN

  unsigned char* at(int64_t row, int64_t column) {
    return bytes.data() + static_cast<size_t>(row * stride + column) * format.bytes;
  }
  void set(int64_t row, int64_t column, double value) {
    const float narrow = static_cast<float>(value);
    const uint16_t half = to_half(value, format.type == isample::cuda::LogitType::bfloat16);
    const void* source = format.bytes == 8   ? static_cast<const void*>(&value)
                         : format.bytes == 4 ? static_cast<const void*>(&narrow)
                                             : &half;
    std::memcpy(at(row, column), source, format.bytes);
  }
  Real get(int64_t row, int64_t column) {
    double wide;
    float narrow;
    uint16_t half;
    if (format.bytes == 8) return std::memcpy(&wide, at(row, column), 8), wide;
    if (format.bytes == 4) return std::memcpy(&narrow, at(row, column), 4), narrow;
    return std::memcpy(&half, at(row, column), 2),
           from_half(half, format.type == isample::cuda::LogitType::bfloat16);
  }
  void set_nearest(int64_t row, int64_t column, double value) {
    if (format.bytes != 2) return set(row, column, value);
    const uint16_t half = nearest_half(value, format.type == isample::cuda::LogitType::bfloat16);
    std::memcpy(at(row, column), &half, 2);
  }
};

}  // namespace testing
