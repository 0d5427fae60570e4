// What the kernels' sources use of CUDA, on the stand-in.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <utility>

#include "cuda_runtime_api.h"
#include "standin.h"

#define __host__
#define __device__
#define __global__
#define __shared__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

inline void __syncthreads() { standin::barrier(); }
inline void __threadfence() { standin::fence(); }
inline void cudaTriggerProgrammaticLaunchCompletion() {}
inline void cudaGridDependencySynchronize() { standin::await_launch_before(); }
inline uint32_t __shfl_sync(unsigned mask, uint32_t value, int lane) {
  return standin::shuffle(mask, value, lane & 31);
}
inline uint32_t __shfl_xor_sync(unsigned mask, uint32_t value, int lanes) {
  return standin::shuffle(mask, value,
                          static_cast<int>((threadIdx.x % 32) ^ static_cast<unsigned>(lanes)));
}
inline uint32_t __shfl_up_sync(unsigned mask, uint32_t value, int lanes) {
  return standin::shuffle(mask, value, static_cast<int>(threadIdx.x % 32) - lanes);
}
inline uint32_t atomicInc(uint32_t* counter, uint32_t last) {
  return standin::arrive(counter, last);
}
inline int32_t atomicMax(int32_t* address, int32_t value) {
  const int32_t before = *address;
  if (value > before) *address = value;
  return before;
}

// A load from an address that is not a multiple of its width would fault on a device.
template <class T> T __ldg(const T* address) {
  if (reinterpret_cast<uintptr_t>(address) % sizeof(T) != 0) __builtin_trap();
  standin::check_read(address, sizeof(T));
  return *address;
}
template <class T> T __ldcg(const T* address) { return __ldg(address); }
template <class T> void __stcs(T* address, T value) { *address = value; }

template <class To, class From> To standin_bits(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  std::memcpy(&result, &value, sizeof(To));
  return result;
}
inline float __uint_as_float(uint32_t bits) { return standin_bits<float>(bits); }
inline uint32_t __float_as_uint(float value) { return standin_bits<uint32_t>(value); }
inline double __hiloint2double(int high, int low) {
  return standin_bits<double>((uint64_t{static_cast<uint32_t>(high)} << 32) |
                              static_cast<uint32_t>(low));
}

// ---- Launches -----------------------------------------------------------------------------------

enum cudaLaunchAttributeID { cudaLaunchAttributeProgrammaticStreamSerialization };
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    int programmaticStreamSerializationAllowed;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };

inline std::map<const void*, size_t> standin_shared_limits;

inline cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int bytes) {
  standin_shared_limits[kernel] = static_cast<size_t>(bytes);
  return cudaSuccess;
}

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  const auto limit = standin_shared_limits.find(reinterpret_cast<const void*>(kernel));
  const size_t allowed = limit == standin_shared_limits.end() ? 48 * 1024 : limit->second;
  if (config->dynamicSmemBytes > allowed) return cudaErrorInvalidConfiguration;
  standin::run({config->gridDim.x, config->gridDim.y, 1}, config->blockDim.x,
               config->dynamicSmemBytes, config->numAttrs > 0,
               [&] { kernel(static_cast<Parameters>(arguments)...); });
  return cudaSuccess;
}
