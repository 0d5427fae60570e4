// Reading a row of logits: element types, 16-byte vectors, and the arithmetic that core/score.h is
// run with.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "../core/score.h"
#include "kernels.h"

namespace isample::cuda {

struct bfloat16 {
  uint16_t bits;
};
struct float16 {
  uint16_t bits;
};

// The policies `Math` of core/score.h. fmaxf and fmax pass over a NaN, exp keeps it: it reaches the
// sums.
struct FloatMath {
  using V = float;
  static __device__ __forceinline__ V max(V a, V b) { return fmaxf(a, b); }
  static __device__ __forceinline__ V where_nonzero(V mass, V value) {
    return mass != 0.f ? value : 0.f;
  }
  // Two instructions, within 2 ulp of 2^x. Results below 2^-126 become 0; beside a sum of at least
  // 1 they are nothing.
  static __device__ __forceinline__ V exp(V x) {
    const float power = x * 1.4426950408889634f;
#if defined(__CUDA_ARCH__)
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(power));
    return result;
#else
    return ::exp2f(power);
#endif
  }
};

struct DoubleMath {
  using V = double;
  static __device__ __forceinline__ V max(V a, V b) { return ::fmax(a, b); }
  static __device__ __forceinline__ V where_nonzero(V mass, V value) {
    return mass != 0.0 ? value : 0.0;
  }
  static __device__ __forceinline__ V exp(V x) { return ::exp(x); }
};

template <class T> struct Arithmetic {
  using Math = FloatMath;
};
template <> struct Arithmetic<double> {
  using Math = DoubleMath;
};
template <class T> using MathOf = typename Arithmetic<T>::Math;
template <class T> using ValueOf = typename MathOf<T>::V;
template <class T> using TripleOf = SoftmaxTriple<ValueOf<T>>;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(bfloat16 x) {
  return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
}
__device__ __forceinline__ float widen(float16 x) { return __half2float(__ushort_as_half(x.bits)); }

// Calls `act(T{})` with the element type that `type` names.
template <class Act> cudaError_t with_logit_type(LogitType type, const Act& act) {
  switch (type) {
    case LogitType::float32: return act(float{});
    case LogitType::bfloat16: return act(bfloat16{});
    case LogitType::float16: return act(float16{});
    case LogitType::float64: return act(double{});
  }
  return cudaErrorInvalidValue;
}

// The nearest number of the type, ties to even.
__device__ __forceinline__ void narrow(float x, float* to) { *to = x; }
__device__ __forceinline__ void narrow(double x, double* to) { *to = x; }
__device__ __forceinline__ void narrow(float x, float16* to) {
  to->bits = __half_as_ushort(__float2half_rn(x));
}
__device__ __forceinline__ void narrow(float x, bfloat16* to) {
  const uint32_t bits = __float_as_uint(x);
  to->bits =
      x == x ? static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) : uint16_t{0x7fc0};
}

template <class T> constexpr int kWidth = 16 / static_cast<int>(sizeof(T));

// The elements of 16 bytes.
__device__ __forceinline__ void unpack(const uint4& raw, float* out, float) {
  out[0] = __uint_as_float(raw.x);
  out[1] = __uint_as_float(raw.y);
  out[2] = __uint_as_float(raw.z);
  out[3] = __uint_as_float(raw.w);
}
__device__ __forceinline__ void unpack(const uint4& raw, double* out, double) {
  out[0] = __hiloint2double(static_cast<int>(raw.y), static_cast<int>(raw.x));
  out[1] = __hiloint2double(static_cast<int>(raw.w), static_cast<int>(raw.z));
}
template <class Half> __device__ __forceinline__ void unpack(const uint4& raw, float* out, Half) {
  const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    out[2 * i] = widen(Half{static_cast<uint16_t>(words[i])});
    out[2 * i + 1] = widen(Half{static_cast<uint16_t>(words[i] >> 16)});
  }
}

template <class V> __device__ __forceinline__ V minus_infinity() {
  return -static_cast<V>(INFINITY);
}

template <class V> __device__ __forceinline__ SoftmaxTriple<V> empty_triple() {
  return {Lowest<V>::value, V{0}, V{0}};
}

// A part of a row, [0, size) from `data` on, as `lanes` threads see it: a few elements up to the
// first 16-byte boundary, whole vectors, and a few elements more. Vector numbers fit 32 bits, since
// a row has at most 2^31 classes.
template <class T> struct RowPart {
  const T* data;
  int64_t size;
  int64_t target;  // a column that is left out, or one that is not here
  int head;        // elements before the first vector, fewer than kWidth
  int32_t vectors;
  int32_t target_vector;
  int target_place;

  __device__ __forceinline__ RowPart(const T* part, int64_t n, int64_t left_out)
      : data(part), size(n), target(left_out) {
    const int misaligned =
        static_cast<int>(reinterpret_cast<uintptr_t>(part) / sizeof(T) % kWidth<T>);
    const int wanted = (kWidth<T> - misaligned) % kWidth<T>;
    head = n < wanted ? static_cast<int>(n) : wanted;
    vectors = static_cast<int32_t>((n - head) / kWidth<T>);
    const int64_t place = target - head;
    target_vector = place >= 0 && place < int64_t{vectors} * kWidth<T>
                        ? static_cast<int32_t>(place / kWidth<T>)
                        : -1;
    target_place = static_cast<int>(place % kWidth<T>);
  }

  // Both ends: at most one element of each for a thread, so there must be at least kWidth - 1
  // lanes.
  __device__ __forceinline__ void add_ends(TripleOf<T>& triple, int lane) const {
    const int64_t tail = head + int64_t{vectors} * kWidth<T> + lane;
    ValueOf<T> ends[2] = {minus_infinity<ValueOf<T>>(), minus_infinity<ValueOf<T>>()};
    if (lane < head && lane != target) ends[0] = widen(data[lane]);
    if (tail < size && tail != target) ends[1] = widen(data[tail]);
    add_chunk<MathOf<T>>(triple, ends);
  }

  // `count` vectors, `lanes` apart. All loads are in flight before the first is used.
  template <int count>
  __device__ __forceinline__ void add_vectors(TripleOf<T>& triple, int32_t first, int lanes) const {
    using V = ValueOf<T>;
    const uint4* source = reinterpret_cast<const uint4*>(data + head);
    uint4 raw[count];
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const int32_t vector = first + i * lanes;
      raw[i] = vector < vectors ? __ldg(source + vector) : uint4{};
    }
    V logits[count * kWidth<T>];
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const int32_t vector = first + i * lanes;
      V* const out = logits + i * kWidth<T>;
      unpack(raw[i], out, T{});
      if (vector >= vectors || vector == target_vector) {
        const int left_out = vector == target_vector ? target_place : -1;
#pragma unroll
        for (int j = 0; j < kWidth<T>; ++j)
          if (left_out == j || left_out < 0) out[j] = minus_infinity<V>();
      }
    }
    add_chunk<MathOf<T>>(triple, logits);
  }

  // One read of the part. Four vectors a step; the last one or two of a row cost half a step.
  // `counted` false: the row does not count, and is left as soon as its first vectors are there
  // (the label is not waited for before they are asked for).
  __device__ __forceinline__ TripleOf<T> triple(int lane, int lanes, bool counted) const {
    TripleOf<T> result = empty_triple<ValueOf<T>>();
    int32_t step = 0;
    for (; step + 2 * lanes < vectors; step += 4 * lanes) {
      add_vectors<4>(result, step + lane, lanes);
      if (!counted) return result;
    }
    if (step < vectors) add_vectors<2>(result, step + lane, lanes);
    if (head > 0 || head + int64_t{vectors} * kWidth<T> < size) add_ends(result, lane);
    return result;
  }
};

}  // namespace isample::cuda
