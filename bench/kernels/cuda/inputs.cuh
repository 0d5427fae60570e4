// Device memory, what the benchmark fills it with, and a kernel that only reads.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

static void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}
#define CHECK(call) check(call, #call)

template <class T> static T* device_memory(size_t n) {
  void* memory = nullptr;
  CHECK(cudaMalloc(&memory, std::max<size_t>(n, 1) * sizeof(T)));
  return static_cast<T*>(memory);
}

// ---- Inputs -------------------------------------------------------------------------------------

__device__ static float noise(uint64_t i) {  // roughly normal, different everywhere
  uint64_t z = i * 0x9E3779B97F4A7C15u + 0x632BE59BD9B4E019u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  const float a = static_cast<float>(z & 0xffff), b = static_cast<float>(z >> 16 & 0xffff),
              c = static_cast<float>(z >> 32 & 0xffff);
  return (a + b + c - 98302.5f) / 32768.f * 2.f;
}
__global__ static void fill_float(float* out, size_t n) {
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < n;
       i += size_t{gridDim.x} * blockDim.x)
    out[i] = noise(i);
}
__global__ static void fill_bfloat16(uint16_t* out, size_t n) {
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < n;
       i += size_t{gridDim.x} * blockDim.x)
    out[i] = static_cast<uint16_t>(__float_as_uint(noise(i)) >> 16);
}
__global__ static void fill_labels(int64_t* out, size_t n, int64_t classes) {
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < n;
       i += size_t{gridDim.x} * blockDim.x)
    out[i] = static_cast<int64_t>((i * 0x9E3779B97F4A7C15u >> 20) % static_cast<uint64_t>(classes));
}
__global__ static void fill_scores(float* out, size_t n) {  // lognormal
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < n;
       i += size_t{gridDim.x} * blockDim.x)
    out[i] = expf(noise(i));
}

// Reads all of it and writes next to nothing: the ceiling of whatever only reads.
__global__ static void read_only(const uint4* data, size_t n, unsigned* out) {
  unsigned sum = 0;
  const size_t stride = size_t{gridDim.x} * blockDim.x;
  size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x;
  for (; i + 3 * stride < n; i += 4 * stride) {
    const uint4 a = __ldg(data + i), b = __ldg(data + i + stride), c = __ldg(data + i + 2 * stride),
                d = __ldg(data + i + 3 * stride);
    sum ^= a.x ^ a.y ^ a.z ^ a.w ^ b.x ^ b.y ^ b.z ^ b.w ^ c.x ^ c.y ^ c.z ^ c.w ^ d.x ^ d.y ^ d.z ^
           d.w;
  }
  for (; i < n; i += stride) sum ^= __ldg(data + i).x;
  if (sum == 0x12345678u) *out = sum;
}
