// rows: the identity on z, whose node in the autograd graph sees the rows of dL/dz and may weigh
// them.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <optional>
#include <utility>

#include "checks.h"
#include "cpu_rows.h"
#include "row_tensors.h"

namespace isample {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Given = std::optional<at::Tensor>;

// ---- Autograd -----------------------------------------------------------------------------------

void add_row_squares(const at::Tensor& squares, const at::Tensor& gradient, double scale) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("isample::_add_row_squares", "")
                             .typed<void(const at::Tensor&, const at::Tensor&, double)>();
  op.call(squares, gradient, scale);
}

at::Tensor scale_rows(const at::Tensor& gradient, const at::Tensor& factors, const Given& squares,
                      double scale) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("isample::_scale_rows", "")
          .typed<at::Tensor(const at::Tensor&, const at::Tensor&, const Given&, double)>();
  return op.call(gradient, factors, squares, scale);
}

// By torch's own ops, which autograd records.
at::Tensor recorded_scale_rows(const at::Tensor& gradient, const at::Tensor& factors) {
  at::DimVector shape(static_cast<size_t>(gradient.dim()), 1);
  shape[0] = -1;
  return gradient.mul(factors.view(shape)).to(gradient.scalar_type());
}

struct Rows : torch::autograd::Function<Rows> {
  // Not a view of z in autograd's eyes, so that what is changed in place afterwards keeps this node
  // behind it; but with z's version counter, so that whoever saved z notices.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& z, const Given& factors,
                            const Given& squares, double scale) {
    context->saved_data["factors"] = factors;
    context->saved_data["squares"] = squares;
    context->saved_data["scale"] = scale;
    const at::AutoDispatchBelowADInplaceOrView guard;
    at::Tensor result = z.alias();
    if (!z.is_inference())
      result.unsafeGetTensorImpl()->set_version_counter(z.unsafeGetTensorImpl()->version_counter());
    return result;
  }

  static variable_list backward(AutogradContext* context, const variable_list& upstream) {
    variable_list result(4);
    if (!upstream[0].defined()) return result;
    const Given factors = context->saved_data["factors"].toOptional<at::Tensor>();
    const Given squares = context->saved_data["squares"].toOptional<at::Tensor>();
    const double scale = context->saved_data["scale"].toDouble();
    const at::Tensor& gradient = upstream[0];
    if (!factors.has_value() || at::GradMode::is_enabled()) {
      if (squares.has_value()) add_row_squares(*squares, gradient.detach(), scale);
      result[0] = factors.has_value() ? recorded_scale_rows(gradient, *factors) : gradient;
    } else {
      result[0] = scale_rows(gradient, *factors, squares, scale);
    }
    return result;
  }
};

at::Tensor rows(const at::Tensor& z, const Given& factors, const Given& squares, double scale) {
  check_float("z", z);
  TORCH_CHECK_VALUE(z.dim() >= 1, "z must have a row for each sample, [B, ...], got shape ",
                    z.sizes());
  if (factors.has_value()) check_row_numbers("factors", *factors, "z", z);
  if (squares.has_value()) {
    check_row_numbers("squares", *squares, "z", z);
    check_written("squares", *squares, {{"z", z}, {"factors", factors}});
  }
  check_scale(scale);
  const bool unused = !factors.has_value() && !squares.has_value();
  if (unused || !z.requires_grad() || !at::GradMode::is_enabled()) return z;
  return Rows::apply(z, factors, squares, scale);
}

// ---- CPU ----------------------------------------------------------------------------------------

void pass_rows_cpu(const at::Tensor& gradient, const float* factors, const Given& squares,
                   double scale, void* result) {
  const int64_t count = gradient.size(0), size = row_size(gradient);
  if (gradient.numel() == 0) return;
  if (squares.has_value()) count_write(*squares);
  at::Tensor sums = squares.has_value() ? squares->contiguous() : at::Tensor();
  const cpu::RowsTask task = {gradient.const_data_ptr(),
                              cpu::logit_type(gradient.scalar_type()),
                              size,
                              scale,
                              squares.has_value() ? sums.mutable_data_ptr<float>() : nullptr,
                              factors,
                              result};
  const cpu::ScoreLoops& loops = cpu::score_loops();
  constexpr int64_t kElementsPerThread = 32768;
  at::parallel_for(0, count, std::max<int64_t>(1, kElementsPerThread / size),
                   [&](int64_t begin, int64_t end) { loops.pass_rows(task, begin, end); });
  if (squares.has_value() && !squares->is_same(sums)) squares->copy_(sums);
}

void add_row_squares_cpu(const at::Tensor& squares, const at::Tensor& gradient, double scale) {
  check_row_pass(gradient, std::nullopt, squares, scale);
  pass_rows_cpu(dense_rows(gradient), nullptr, squares, scale, nullptr);
}

at::Tensor scale_rows_cpu(const at::Tensor& gradient, const at::Tensor& factors,
                          const Given& squares, double scale) {
  check_row_pass(gradient, factors, squares, scale);
  const at::Tensor rows = dense_rows(gradient), all_factors = factors.contiguous();
  at::Tensor result = at::empty_like(rows);
  pass_rows_cpu(rows, all_factors.const_data_ptr<float>(), squares, scale,
                result.mutable_data_ptr());
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(isample, CompositeImplicitAutograd, m) { m.impl("rows", &rows); }

TORCH_LIBRARY_IMPL(isample, CPU, m) {
  m.impl("_add_row_squares", &add_row_squares_cpu);
  m.impl("_scale_rows", &scale_rows_cpu);
}

}  // namespace isample
