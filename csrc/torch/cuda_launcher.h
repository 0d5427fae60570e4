// What the CUDA adaptors share: torch's stream and allocator, as the launchers take them.
#pragma once

#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/util/StringUtil.h>
#include <cuda_runtime_api.h>

#include <string>

#include "../cuda/kernels.h"
#include "../cuda/slots.h"
#include "architectures.h"
#include "build_info.h"

namespace isample::cuda {

inline std::string no_code_for(const cudaDeviceProp& device) {
  return c10::str("isample was built for compute capability ", ISAMPLE_CUDA_ARCHITECTURES, ", ",
                  device.name, " has ", device.major, ".", device.minor,
                  ": build isample again with TORCH_CUDA_ARCH_LIST=", device.major, ".",
                  device.minor, ", or move the tensors to the CPU");
}

// In place of C10_CUDA_CHECK for a launch: what a user can mend is said in a sentence.
inline void check_launch(cudaError_t error) {
  const bool no_code =
      error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction;
  const bool old_driver =
      error == cudaErrorInsufficientDriver || error == cudaErrorUnsupportedPtxVersion;
  if (no_code || old_driver) (void)cudaGetLastError();  // or the next check finds it again
  TORCH_CHECK(!no_code, no_code_for(*at::cuda::getCurrentDeviceProperties()));
  TORCH_CHECK(!old_driver, "isample's CUDA kernels need a newer NVIDIA driver, ",
              cudaGetErrorString(error), ": install one for CUDA ", CUDART_VERSION / 1000, ".",
              CUDART_VERSION / 10 % 100, " or later, or move the tensors to the CPU");
  C10_CUDA_CHECK(error);
}

// The current device must be that of the tensors.
inline Launcher launcher() {
  const cudaDeviceProp* device = at::cuda::getCurrentDeviceProperties();
  TORCH_CHECK(device->major >= 8,
              "isample's CUDA kernels need a GPU of compute capability 8.0 or higher, ",
              device->name, " has ", device->major, ".", device->minor,
              ": move the tensors to the CPU or to a newer GPU");
  static thread_local const cudaDeviceProp* known = nullptr;  // there is code for it
  static thread_local bool can_overlap = false;
  if (device != known) {
    const auto has = [&](int least) {
      return has_code(ISAMPLE_CUDA_ARCHITECTURES, device->major, device->minor, least);
    };
    TORCH_CHECK(has(0), no_code_for(*device));
    can_overlap = has(9);  // else the kernels were compiled without their wait
    known = device;
  }
  Launcher result = {device->multiProcessorCount, device->sharedMemPerBlockOptin, 0,
                     at::cuda::getCurrentCUDAStream().stream(), can_overlap};
  check_launch(take_slot(at::cuda::current_device(), result.stream, &result.slot));
  return result;
}

inline at::Tensor empty(at::IntArrayRef shape, const at::Tensor& like, at::ScalarType type) {
  return at::empty(shape, like.options().dtype(type));
}

inline at::Tensor scratch(size_t bytes, const at::Tensor& like) {
  return empty({static_cast<int64_t>(bytes)}, like, at::kByte);
}

inline LogitType logit_type(at::ScalarType type) {
  switch (type) {
    case at::kBFloat16: return LogitType::bfloat16;
    case at::kHalf: return LogitType::float16;
    case at::kDouble: return LogitType::float64;
    default: return LogitType::float32;
  }
}

}  // namespace isample::cuda
