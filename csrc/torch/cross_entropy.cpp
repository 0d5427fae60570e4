// cross_entropy: its node in the autograd graph, and its arithmetic on CUDA. The gradient is made
// in the forward pass, where the probabilities are at hand, and kept; the backward pass scales it.
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
using LossScore = std::tuple<at::Tensor, at::Tensor>;
using LossScoreGradient = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

template <class Result>
using Op = c10::TypedOperatorHandle<Result(const at::Tensor&, const at::Tensor&, const Given&,
                                           const Given&, int64_t, double)>;

template <class Result> Op<Result> find_op(const char* name) {
  return c10::Dispatcher::singleton()
      .findSchemaOrThrow(name, "")
      .typed<Result(const at::Tensor&, const at::Tensor&, const Given&, const Given&, int64_t,
                    double)>();
}

// ---- Autograd -----------------------------------------------------------------------------------

struct CrossEntropy : torch::autograd::Function<CrossEntropy> {
  static variable_list forward(AutogradContext* context, const at::Tensor& logits,
                               const at::Tensor& targets, const Given& weights,
                               const Given& class_weight, int64_t ignore_index,
                               double label_smoothing) {
    static const auto op = find_op<LossScoreGradient>("isample::_cross_entropy_with_gradient");
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
    if (!upstream[0].defined()) return result;
    const at::Tensor gradient = context->get_saved_variables()[0];
    const auto dtype = static_cast<at::ScalarType>(context->saved_data["dtype"].toInt());
    {
      const at::NoGradGuard unrecorded;
      result[0] = gradient.mul(upstream[0]).to(dtype);
    }
    // The gradient is kept as a constant, so its own derivative is not known.
    if (at::GradMode::is_enabled()) {
      const auto refuse = std::make_shared<torch::autograd::DelayedError>(
          "isample.ops.cross_entropy cannot be differentiated twice: use "
          "torch.nn.functional.cross_entropy",
          1);
      result[0] = (*refuse)({result[0].requires_grad_()})[0];
    }
    return result;
  }
};

void check_constant(const char* argument, const Given& tensor) {
  TORCH_CHECK_VALUE(
      !tensor.has_value() || !tensor->requires_grad(), argument,
      " must not require grad, since the loss is differentiable in logits alone: detach it");
}

LossScore cross_entropy_autograd(const at::Tensor& logits, const at::Tensor& targets,
                                 const Given& weights, const Given& class_weight,
                                 int64_t ignore_index, double label_smoothing) {
  check_tensor("logits", logits);
  check_tensor("targets", targets);
  if (at::GradMode::is_enabled()) {
    check_constant("targets", targets);
    check_constant("weights", weights);
    check_constant("weight", class_weight);
  }
  TORCH_CHECK(!logits._fw_grad(/*level=*/0).defined(),
              "isample.ops.cross_entropy has no forward-mode derivative: use "
              "torch.nn.functional.cross_entropy");
  if (at::GradMode::is_enabled() && logits.requires_grad()) {
    variable_list result =
        CrossEntropy::apply(logits, targets, weights, class_weight, ignore_index, label_smoothing);
    return {std::move(result[0]), std::move(result[1])};
  }
  static const auto op = find_op<LossScore>("isample::cross_entropy");
  const at::AutoDispatchBelowADInplaceOrView guard;
  return op.call(logits, targets, weights, class_weight, ignore_index, label_smoothing);
}

// ---- CUDA: scores and losses by the kernel, the rest by torch's ops -----------------------------

LossScore cross_entropy_cuda(const at::Tensor& logits, const at::Tensor& targets,
                             const Given& weights, const Given& class_weight, int64_t ignore_index,
                             double label_smoothing) {
  check_logits(logits);
  check_weights(weights, logits);
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("isample::softmax_score", "")
          .typed<LossScore(const at::Tensor&, const at::Tensor&, const Given&, int64_t, double)>();
  auto [score, losses] = op.call(logits, targets, class_weight, ignore_index, label_smoothing);
  return {(weights.has_value() ? losses.mul(*weights) : losses).mean(), std::move(score)};
}

// 1 / B times the weight of each row [B, 1], in the dtype of `like`.
at::Tensor row_scale(const Given& weights, const at::Tensor& like) {
  const double share = 1.0 / static_cast<double>(like.size(0));
  const at::Tensor scale = weights.has_value() ? weights->to(like.scalar_type()).mul(share)
                                               : at::full({like.size(0)}, share, like.options());
  return scale.unsqueeze(1);
}

// A p - a, where the masses a are those of core/score.h.
at::Tensor dense_gradient(const at::Tensor& p, const at::Tensor& q, const Given& class_weight,
                          double smoothing) {
  at::Tensor mass = q.mul(1.0 - smoothing).add_(smoothing / static_cast<double>(p.size(1)));
  if (class_weight.has_value()) mass.mul_(class_weight->to(p.scalar_type()));
  return p.mul(mass.sum(1, /*keepdim=*/true)).sub_(mass);
}

at::Tensor gradient_of_labels(at::Tensor p, const at::Tensor& labels, const Given& class_weight,
                              int64_t ignore_index, double smoothing) {
  const int64_t classes = p.size(1);
  const at::Tensor label = labels.clamp(0, classes - 1).unsqueeze(1);
  at::Tensor gradient;
  if (smoothing > 0.0) {
    gradient =
        dense_gradient(p, at::zeros_like(p).scatter_(1, label, 1.0), class_weight, smoothing);
  } else {
    gradient = p.scatter_add_(1, label, at::full_like(label, -1.0, p.options()));
    if (class_weight.has_value())
      gradient.mul_(
          class_weight->to(p.scalar_type()).index_select(0, label.squeeze(1)).unsqueeze(1));
  }
  const at::Tensor ignored = labels.eq(ignore_index);
  const at::Tensor wrong =
      labels.lt(0).logical_or_(labels.ge(classes)).logical_and_(ignored.logical_not());
  return gradient.masked_fill_(wrong.unsqueeze(1), NAN).masked_fill_(ignored.unsqueeze(1), 0.0);
}

LossScoreGradient cross_entropy_with_gradient_cuda(const at::Tensor& logits,
                                                   const at::Tensor& targets, const Given& weights,
                                                   const Given& class_weight, int64_t ignore_index,
                                                   double label_smoothing) {
  const at::AutoDispatchBelowADInplaceOrView guard;  // or the softmax would be recorded
  auto [loss, score] =
      cross_entropy_cuda(logits, targets, weights, class_weight, ignore_index, label_smoothing);
  const at::ScalarType arithmetic = logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor p = at::softmax(logits, 1, arithmetic);
  at::Tensor gradient =
      targets.is_floating_point()
          ? dense_gradient(p, targets.to(arithmetic), class_weight, label_smoothing)
          : gradient_of_labels(p, targets, class_weight, ignore_index, label_smoothing);
  gradient.mul_(row_scale(weights, p));
  return {std::move(loss), std::move(score), std::move(gradient)};
}

}  // namespace

TORCH_LIBRARY_IMPL(isample, Autograd, m) { m.impl("cross_entropy", &cross_entropy_autograd); }

TORCH_LIBRARY_IMPL(isample, CUDA, m) {
  m.impl("cross_entropy", &cross_entropy_cuda);
  m.impl("_cross_entropy_with_gradient", &cross_entropy_with_gradient_cuda);
}

}  // namespace isample
