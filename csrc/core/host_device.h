// What lets one header serve g++, nvcc's host pass and nvcc's device pass.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define ISAMPLE_HD __host__ __device__ __forceinline__
#else
#define ISAMPLE_HD inline __attribute__((always_inline))
#endif
#if defined(__CUDA_ARCH__)
#define ISAMPLE_UNROLL _Pragma("unroll")
#elif defined(__CUDACC__)
#define ISAMPLE_UNROLL  // nvcc's host pass knows neither pragma
#else
#define ISAMPLE_UNROLL _Pragma("GCC unroll 16")
#endif

namespace isample {

// Upper 64 bits of a 64 x 64 bit product: maps a random word x onto [0, n) without a division.
ISAMPLE_HD uint64_t mulhi(uint64_t a, uint64_t b) {
#if defined(__CUDA_ARCH__)
  return __umul64hi(a, b);
#else
  return static_cast<uint64_t>((static_cast<unsigned __int128>(a) * b) >> 64);
#endif
}

ISAMPLE_HD uint32_t float_bits(float value) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(value);
#else
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
#endif
}

// What a number is divided by: 1e-30 in place of 0 and less. NaN stays.
ISAMPLE_HD double at_least_tiny(double value) {
  constexpr double kTiny = 1e-30;
  return value < kTiny ? kTiny : value;
}

// Smallest e with 2^e >= n, for n >= 1.
ISAMPLE_HD int ceil_log2(int64_t n) {
  int e = 0;
  while ((int64_t{1} << e) < n) ++e;
  return e;
}

// First position in ascending values[0, n) whose value is > key; n if there is none.
template <class T> ISAMPLE_HD int64_t first_above(const T* values, int64_t n, int64_t key) {
  int64_t low = 0, high = n;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (values[middle] > key) high = middle;
    else low = middle + 1;
  }
  return low;
}

}  // namespace isample
