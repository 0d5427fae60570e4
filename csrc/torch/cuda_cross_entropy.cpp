// cross_entropy for torch on CUDA: one launch.
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <optional>
#include <tuple>
#include <utility>

#include "checks.h"
#include "cuda_scoring.h"

namespace isample::cuda {
namespace {

using Given = std::optional<at::Tensor>;

using TwoTensors = std::tuple<at::Tensor, at::Tensor>;
using ThreeTensors = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
using FiveTensors = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

struct Wanted {
  bool gradient, count;
};

struct Result {
  at::Tensor loss, score, gradient, count, ratio;  // the last three where they are wanted
};

Result run(const at::Tensor& logits, const at::Tensor& targets, const Given& weights,
           const Given& class_weight, int64_t ignore_index, double label_smoothing,
           const Wanted& wanted) {
  check_softmax_score(logits, targets, class_weight, ignore_index, label_smoothing);
  check_weights(weights, logits);
  const c10::cuda::OptionalCUDAGuard guard(logits.device());
  const Launcher on = launcher();
  Scoring s = scoring(logits, targets, class_weight, ignore_index, label_smoothing, on);
  const at::Tensor factors = weights.has_value() ? weights->contiguous() : at::Tensor();
  Result result;
  CrossEntropyTask task = {};
  task.rows = s.task;
  if (weights.has_value()) task.weights = factors.const_data_ptr<float>();
  if (wanted.gradient) {
    const bool is_double = logits.scalar_type() == at::kDouble;
    result.gradient = empty(logits.sizes(), logits, is_double ? at::kDouble : at::kFloat);
    task.gradient = result.gradient.mutable_data_ptr();
  }
  if (wanted.count) {
    result.count = empty({}, logits, at::kDouble);
    result.ratio = empty({}, logits, at::kDouble);
    task.count = result.count.mutable_data_ptr<double>();
    task.ratio = result.ratio.mutable_data_ptr<double>();
  }
  result.loss = empty({}, logits, at::kFloat);
  task.mean = result.loss.mutable_data_ptr<float>();
  const at::Tensor partials =
      scratch(sizeof(MeanSums) * cross_entropy_partials(s.task, on), logits);
  task.partials = static_cast<MeanSums*>(partials.mutable_data_ptr());
  check_launch(launch_cross_entropy(task, on));
  result.score = std::move(s.score);
  return result;
}

TwoTensors cross_entropy(const at::Tensor& logits, const at::Tensor& targets, const Given& weights,
                         const Given& class_weight, int64_t ignore_index, double label_smoothing) {
  Result r =
      run(logits, targets, weights, class_weight, ignore_index, label_smoothing, {false, false});
  return {std::move(r.loss), std::move(r.score)};
}

ThreeTensors cross_entropy_with_gradient(const at::Tensor& logits, const at::Tensor& targets,
                                         const Given& weights, const Given& class_weight,
                                         int64_t ignore_index, double label_smoothing) {
  Result r =
      run(logits, targets, weights, class_weight, ignore_index, label_smoothing, {true, false});
  return {std::move(r.loss), std::move(r.score), std::move(r.gradient)};
}

ThreeTensors mean_cross_entropy(const at::Tensor& logits, const at::Tensor& targets,
                                const Given& class_weight, int64_t ignore_index,
                                double label_smoothing) {
  Result r = run(logits, targets, std::nullopt, class_weight, ignore_index, label_smoothing,
                 {false, true});
  return {std::move(r.loss), std::move(r.score), std::move(r.count)};
}

FiveTensors mean_cross_entropy_with_gradient(const at::Tensor& logits, const at::Tensor& targets,
                                             const Given& class_weight, int64_t ignore_index,
                                             double label_smoothing) {
  Result r =
      run(logits, targets, std::nullopt, class_weight, ignore_index, label_smoothing, {true, true});
  return {std::move(r.loss), std::move(r.score), std::move(r.gradient), std::move(r.count),
          std::move(r.ratio)};
}

}  // namespace

TORCH_LIBRARY_IMPL(isample, CUDA, m) {
  m.impl("cross_entropy", &cross_entropy);
  m.impl("_cross_entropy_with_gradient", &cross_entropy_with_gradient);
  m.impl("_mean_cross_entropy", &mean_cross_entropy);
  m.impl("_mean_cross_entropy_with_gradient", &mean_cross_entropy_with_gradient);
}

}  // namespace isample::cuda
