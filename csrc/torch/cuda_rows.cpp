// The ops behind `rows`, on CUDA.
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <optional>

#include "cuda_launcher.h"
#include "row_tensors.h"

namespace isample::cuda {
namespace {

using Given = std::optional<at::Tensor>;

void pass_rows(const at::Tensor& gradient, const Given& factors, const Given& squares, double scale,
               void* result) {
  const Launcher on = launcher();
  if (squares.has_value()) count_write(*squares);
  const at::Tensor sums = squares.has_value() ? squares->contiguous() : at::Tensor();
  RowsTask task = {gradient.const_data_ptr(),
                   logit_type(gradient.scalar_type()),
                   gradient.size(0),
                   row_size(gradient),
                   scale,
                   squares.has_value() ? sums.mutable_data_ptr<float>() : nullptr,
                   factors.has_value() ? factors->const_data_ptr<float>() : nullptr,
                   result,
                   nullptr};
  at::Tensor partials;
  if (const size_t bytes = row_partials_bytes(task, on); bytes > 0) {
    partials = scratch(bytes, gradient);
    task.partials = static_cast<double*>(partials.mutable_data_ptr());
  }
  check_launch(launch_rows(task, on));
  if (squares.has_value() && !squares->is_same(sums)) squares->copy_(sums);
}

void add_row_squares(const at::Tensor& squares, const at::Tensor& gradient, double scale) {
  check_row_pass(gradient, std::nullopt, squares, scale);
  const c10::cuda::OptionalCUDAGuard guard(gradient.device());
  pass_rows(dense_rows(gradient), std::nullopt, squares, scale, nullptr);
}

at::Tensor scale_rows(const at::Tensor& gradient, const at::Tensor& factors, const Given& squares,
                      double scale) {
  check_row_pass(gradient, factors, squares, scale);
  const c10::cuda::OptionalCUDAGuard guard(gradient.device());
  const at::Tensor rows = dense_rows(gradient);
  at::Tensor result = at::empty_like(rows);
  pass_rows(rows, factors.contiguous(), squares, scale, result.mutable_data_ptr());
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(isample, CUDA, m) {
  m.impl("_add_row_squares", &add_row_squares);
  m.impl("_scale_rows", &scale_rows);
}

}  // namespace isample::cuda
