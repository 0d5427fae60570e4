// What _pack takes, on each device.
#pragma once

#include <ATen/core/Tensor.h>

#include "checks.h"

namespace isample {

// How many numbers `values` hold in all.
inline int64_t check_packed(at::TensorList values) {
  TORCH_CHECK_VALUE(!values.empty(), "values must hold at least one tensor, got none");
  int64_t size = 0;
  for (const at::Tensor& value : values) {
    check_tensor("values", value);
    check_device("values", value, "values[0]", values[0].device());
    size += value.numel();
  }
  return size;
}

}  // namespace isample
