// softmax_score for torch: checks, tensors to raw pointers, rows over threads.
#include "cpu_rows.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>

#include "checks.h"

namespace isample::cpu {
namespace {

void check_labels(const int64_t* labels, int64_t rows, int64_t classes, int64_t ignore_index) {
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t label = labels[row];
    TORCH_CHECK_VALUE((label >= 0 && label < classes) || label == ignore_index,
                      "targets must be labels in [0, ", classes, ") or ignore_index (",
                      ignore_index, "), got ", label, " in row ", row);
  }
}

}  // namespace

ScoreLossTensors softmax_score(const at::Tensor& logits, const at::Tensor& targets,
                               const std::optional<at::Tensor>& weight, int64_t ignore_index,
                               double label_smoothing) {
  check_softmax_score(logits, targets, weight, ignore_index, label_smoothing);
  const int64_t rows = logits.size(0), classes = logits.size(1);
  const at::ScalarType arithmetic = logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const bool hard = !targets.is_floating_point();
  const at::Tensor rows_of_logits =
      logits.stride(1) == 1 || classes == 1 ? logits : logits.contiguous();
  const at::Tensor goals = hard ? targets.contiguous() : targets.to(arithmetic).contiguous();
  const at::Tensor class_weight =
      weight.has_value() ? weight->to(arithmetic).contiguous() : at::Tensor();
  if (hard) check_labels(goals.const_data_ptr<int64_t>(), rows, classes, ignore_index);

  const at::TensorOptions options = logits.options().dtype(at::kFloat);
  ScoreLossTensors result = {at::empty({rows}, options), at::empty({rows}, options)};
  const ScoreTask task = {
      rows_of_logits.const_data_ptr(),
      logit_type(logits.scalar_type()),
      rows_of_logits.stride(0),
      classes,
      hard ? goals.const_data_ptr<int64_t>() : nullptr,
      hard ? nullptr : goals.const_data_ptr(),
      weight.has_value() ? class_weight.const_data_ptr() : nullptr,
      weight.has_value() ? class_weight.sum().item<double>() : static_cast<double>(classes),
      ignore_index,
      label_smoothing,
      result.score.mutable_data_ptr<float>(),
      result.loss.mutable_data_ptr<float>()};
  const ScoreLoops& loops = score_loops();
  at::parallel_for(0, rows, rows_per_thread(classes),
                   [&](int64_t begin, int64_t end) { loops.rows(task, begin, end); });
  return result;
}

namespace {

std::tuple<at::Tensor, at::Tensor> softmax_score_op(const at::Tensor& logits,
                                                    const at::Tensor& targets,
                                                    const std::optional<at::Tensor>& weight,
                                                    int64_t ignore_index, double label_smoothing) {
  ScoreLossTensors result = softmax_score(logits, targets, weight, ignore_index, label_smoothing);
  return {std::move(result.score), std::move(result.loss)};
}

}  // namespace

TORCH_LIBRARY_IMPL(isample, CPU, m) { m.impl("softmax_score", &softmax_score_op); }

}  // namespace isample::cpu
