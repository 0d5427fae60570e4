// cross_entropy: its node in the autograd graph. The gradient is made in the forward pass, where
// the probabilities are at hand, and kept; the backward pass scales it.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/basic_ops.h>
#include <torch/library.h>

#include <optional>
#include <tuple>
#include <utility>

#include "checks.h"

namespace isample {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Given = std::optional<at::Tensor>;
using Two = std::tuple<at::Tensor, at::Tensor>;
using Three = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
using Five = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

template <class Result>
using Op = Result(const at::Tensor&, const at::Tensor&, const Given&, const Given&, int64_t,
                  double);
template <class Result>
using MeanOp = Result(const at::Tensor&, const at::Tensor&, const Given&, int64_t, double);

template <class Signature> c10::TypedOperatorHandle<Signature> find_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

// In one pass also where the result is narrower; but a batch of upstream gradients (torch.vmap,
// is_grads_batched) has no out variants.
at::Tensor product(const at::Tensor& gradient, const at::Tensor& factor, at::ScalarType dtype) {
  if (dtype == gradient.scalar_type()) return gradient.mul(factor);
  const c10::DispatchKeySet keys = factor.key_set();
  if (keys.has(c10::DispatchKey::FuncTorchBatched) || keys.has(c10::DispatchKey::Batched))
    return gradient.mul(factor).to(dtype);
  at::Tensor result = at::empty_like(gradient, dtype);
  return at::mul_out(result, gradient, factor);
}

// The gradient is kept as a constant, so its own derivative is not known.
at::Tensor refused_twice(const at::Tensor& gradient) {
  if (!at::GradMode::is_enabled()) return gradient;
  const auto refuse = std::make_shared<torch::autograd::DelayedError>(
      "isample.ops.cross_entropy cannot be differentiated twice: use "
      "torch.nn.functional.cross_entropy",
      1);
  at::Tensor once = gradient;
  return (*refuse)({once.requires_grad_()})[0];
}

// The gradient that the forward pass left for logits of `dtype`; with a number as ratio, times
// that.
at::Tensor gradient_of(AutogradContext* context, const at::Tensor& upstream) {
  const variable_list saved = context->get_saved_variables();
  const auto dtype = static_cast<at::ScalarType>(context->saved_data["dtype"].toInt());
  at::Tensor result;
  {
    const at::NoGradGuard unrecorded;
    const bool has_ratio = saved.size() > 1 && saved[1].dim() == 0;
    result = product(saved[0], has_ratio ? upstream.mul(saved[1]) : upstream, dtype);
  }
  return refused_twice(result);
}

struct CrossEntropy : torch::autograd::Function<CrossEntropy> {
  static variable_list forward(AutogradContext* context, const at::Tensor& logits,
                               const at::Tensor& targets, const Given& weights,
                               const Given& class_weight, int64_t ignore_index,
                               double label_smoothing) {
    static const auto op = find_op<Op<Three>>("isample::_cross_entropy_with_gradient");
    auto [loss, score, gradient] =
        op.call(logits, targets, weights, class_weight, ignore_index, label_smoothing);
    context->saved_data["dtype"] = static_cast<int64_t>(logits.scalar_type());
    context->save_for_backward({gradient});
    context->mark_non_differentiable({score});
    context->set_materialize_grads(false);  // the score's gradient: zeros, which nobody reads
    return {std::move(loss), std::move(score)};
  }

  static variable_list backward(AutogradContext* context, const variable_list& upstream) {
    variable_list result(6);
    if (upstream[0].defined()) result[0] = gradient_of(context, upstream[0]);
    return result;
  }
};

struct MeanCrossEntropy : torch::autograd::Function<MeanCrossEntropy> {
  static variable_list forward(AutogradContext* context, const at::Tensor& logits,
                               const at::Tensor& targets, const Given& class_weight,
                               int64_t ignore_index, double label_smoothing) {
    static const auto op = find_op<MeanOp<Five>>("isample::_mean_cross_entropy_with_gradient");
    auto [loss, score, gradient, count, ratio] =
        op.call(logits, targets, class_weight, ignore_index, label_smoothing);
    context->saved_data["dtype"] = static_cast<int64_t>(logits.scalar_type());
    context->save_for_backward({gradient, ratio});
    context->mark_non_differentiable({score, count});
    context->set_materialize_grads(false);  // the others' gradients: zeros, which nobody reads
    return {std::move(loss), std::move(score), std::move(count)};
  }

  static variable_list backward(AutogradContext* context, const variable_list& upstream) {
    variable_list result(5);
    if (upstream[0].defined()) result[0] = gradient_of(context, upstream[0]);
    return result;
  }
};

void check_constant(const char* argument, const Given& tensor) {
  TORCH_CHECK_VALUE(
      !tensor.has_value() || !tensor->requires_grad(), argument,
      " must not require grad, since the loss is differentiable in logits alone: detach it");
}

// Whether a node is to be made.
bool is_recorded(const at::Tensor& logits, const at::Tensor& targets, const Given& weights,
                 const Given& class_weight) {
  check_tensor("logits", logits);
  check_tensor("targets", targets);
  TORCH_CHECK(!logits._fw_grad(/*level=*/0).defined(),
              "isample.ops.cross_entropy has no forward-mode derivative: use "
              "torch.nn.functional.cross_entropy");
  if (!at::GradMode::is_enabled()) return false;
  check_constant("targets", targets);
  check_constant("weights", weights);
  check_constant("weight", class_weight);
  return logits.requires_grad();
}

Two cross_entropy(const at::Tensor& logits, const at::Tensor& targets, const Given& weights,
                  const Given& class_weight, int64_t ignore_index, double label_smoothing) {
  if (is_recorded(logits, targets, weights, class_weight)) {
    variable_list result =
        CrossEntropy::apply(logits, targets, weights, class_weight, ignore_index, label_smoothing);
    return {std::move(result[0]), std::move(result[1])};
  }
  static const auto op = find_op<Op<Two>>("isample::cross_entropy");
  const at::AutoDispatchBelowADInplaceOrView guard;
  return op.call(logits, targets, weights, class_weight, ignore_index, label_smoothing);
}

Three mean_cross_entropy(const at::Tensor& logits, const at::Tensor& targets,
                         const Given& class_weight, int64_t ignore_index, double label_smoothing) {
  if (is_recorded(logits, targets, std::nullopt, class_weight)) {
    variable_list result =
        MeanCrossEntropy::apply(logits, targets, class_weight, ignore_index, label_smoothing);
    return {std::move(result[0]), std::move(result[1]), std::move(result[2])};
  }
  static const auto op = find_op<MeanOp<Three>>("isample::_mean_cross_entropy");
  const at::AutoDispatchBelowADInplaceOrView guard;
  return op.call(logits, targets, class_weight, ignore_index, label_smoothing);
}

}  // namespace

TORCH_LIBRARY_IMPL(isample, Autograd, m) {
  m.impl("cross_entropy", &cross_entropy);
  m.impl("_mean_cross_entropy", &mean_cross_entropy);
}

}  // namespace isample
