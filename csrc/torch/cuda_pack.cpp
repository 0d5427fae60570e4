// _pack on CUDA: one launch, whatever the values' number and types.
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "cuda_launcher.h"
#include "pack.h"

namespace isample::cuda {
namespace {

NumberType number_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat: return NumberType::float32;
    case at::kLong: return NumberType::int64;
    case at::kBool: return NumberType::boolean;
    default: return NumberType::float64;
  }
}

// As the kernel reads it; a copy where the type is none of its own.
at::Tensor readable(const at::Tensor& value) {
  const bool known = number_type(value.scalar_type()) != NumberType::float64;
  return (known ? value : value.to(at::kDouble)).contiguous();
}

at::Tensor pack_cuda(at::TensorList values) {
  const int64_t size = check_packed(values);
  const c10::cuda::OptionalCUDAGuard guard(values[0].device());
  at::Tensor packed = empty({size}, values[0], at::kDouble);
  std::vector<at::Tensor> read;
  read.reserve(values.size());
  double* next = packed.mutable_data_ptr<double>();
  for (size_t first = 0; first < values.size(); first += kMostPacked) {
    PackTask task = {};
    task.packed = next;
    for (size_t i = first; i < std::min<size_t>(values.size(), first + kMostPacked); ++i) {
      const at::Tensor& value = read.emplace_back(readable(values[i]));
      task.parts[task.count++] = {value.const_data_ptr(), number_type(value.scalar_type()),
                                  task.size};
      task.size += value.numel();
    }
    check_launch(launch_pack(task, launcher()));
    next += task.size;
  }
  return packed;
}

}  // namespace

TORCH_LIBRARY_IMPL(isample, CUDA, m) { m.impl("_pack", &pack_cuda); }

}  // namespace isample::cuda
