// _pack on the CPU.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "pack.h"

namespace isample {
namespace {

at::Tensor pack_cpu(at::TensorList values) {
  const int64_t size = check_packed(values);
  at::Tensor packed = at::empty({size}, at::TensorOptions().dtype(at::kDouble));
  int64_t begin = 0;
  for (const at::Tensor& value : values) {
    packed.narrow(0, begin, value.numel()).copy_(value.reshape(-1));
    begin += value.numel();
  }
  return packed;
}

}  // namespace

TORCH_LIBRARY_IMPL(isample, CPU, m) { m.impl("_pack", &pack_cpu); }

}  // namespace isample
