// What the CUDA adaptors share: torch's stream and allocator, as the launchers take them.
#pragma once

#include <ATen/cuda/CUDAContext.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>

#include "../cuda/kernels.h"
#include "../cuda/slots.h"

namespace isample::cuda {

// The current device must be that of the tensors.
inline Launcher launcher() {
  const cudaDeviceProp* device = at::cuda::getCurrentDeviceProperties();
  TORCH_CHECK(device->major >= 8,
              "isample's CUDA kernels need a GPU of compute capability 8.0 or higher, ",
              device->name, " has ", device->major, ".", device->minor,
              ": move the tensors to the CPU or to a newer GPU");
  Launcher result = {device->multiProcessorCount, device->sharedMemPerBlockOptin, 0,
                     at::cuda::getCurrentCUDAStream().stream(), device->major >= 9};
  C10_CUDA_CHECK(take_slot(at::cuda::current_device(), result.stream, &result.slot));
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
