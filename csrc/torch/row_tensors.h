// What the CPU and CUDA adaptors of the ops behind `rows` share.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "checks.h"

namespace isample {

// Rows of all dtypes but float64 are multiplied in float32.
inline void check_scale(double scale) {
  TORCH_CHECK_VALUE(std::abs(scale) <= std::numeric_limits<float>::max(),
                    "scale must be finite, as a float32 too, got ", scale);
}

inline void check_row_pass(const at::Tensor& gradient, const std::optional<at::Tensor>& factors,
                           const std::optional<at::Tensor>& squares, double scale) {
  check_scale(scale);
  check_float("gradient", gradient);
  TORCH_CHECK_VALUE(gradient.dim() >= 1, "gradient must be [B, ...], got shape ", gradient.sizes());
  if (factors.has_value()) check_row_numbers("factors", *factors, "gradient", gradient);
  if (squares.has_value()) {
    check_row_numbers("squares", *squares, "gradient", gradient);
    check_written("squares", *squares, {{"gradient", gradient}, {"factors", factors}});
  }
}

inline int64_t row_size(const at::Tensor& gradient) {
  return gradient.numel() / std::max<int64_t>(1, gradient.size(0));
}

// The gradient with its rows one behind the other, the elements of each in any order; a copy where
// it is not so already.
inline at::Tensor dense_rows(const at::Tensor& gradient) {
  const bool channels_last = gradient.is_contiguous(at::MemoryFormat::ChannelsLast) ||
                             gradient.is_contiguous(at::MemoryFormat::ChannelsLast3d);
  return channels_last ? gradient : gradient.contiguous();
}

}  // namespace isample
