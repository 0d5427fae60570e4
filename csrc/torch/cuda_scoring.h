// A scoring task for torch on CUDA, as the launchers take it.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "cuda_launcher.h"

namespace isample::cuda {

// A scoring task, and the tensors that its pointers point into.
struct Scoring {
  at::Tensor logits, targets, weight, partials, score, loss;
  ScoreTask task;
};

inline Scoring scoring(const at::Tensor& logits, const at::Tensor& targets,
                       const std::optional<at::Tensor>& weight, int64_t ignore_index,
                       double label_smoothing, const Launcher& on) {
  const int64_t rows = logits.size(0), classes = logits.size(1);
  const at::ScalarType arithmetic = logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const bool hard = !targets.is_floating_point();
  Scoring s;
  s.logits = logits.stride(1) == 1 || classes == 1 ? logits : logits.contiguous();
  s.targets = hard ? targets.contiguous() : targets.to(arithmetic).contiguous();
  if (weight.has_value()) s.weight = weight->to(arithmetic).contiguous();
  s.score = empty({rows}, logits, at::kFloat);
  s.loss = empty({rows}, logits, at::kFloat);
  s.task = {s.logits.const_data_ptr(),
            logit_type(logits.scalar_type()),
            rows,
            classes,
            s.logits.stride(0),
            hard ? s.targets.const_data_ptr<int64_t>() : nullptr,
            hard ? nullptr : s.targets.const_data_ptr(),
            weight.has_value() ? s.weight.const_data_ptr() : nullptr,
            ignore_index,
            label_smoothing,
            s.score.mutable_data_ptr<float>(),
            s.loss.mutable_data_ptr<float>(),
            nullptr};
  if (const size_t bytes = partials_bytes(s.task, on); bytes > 0) {
    s.partials = scratch(bytes, logits);
    s.task.partials = s.partials.mutable_data_ptr();
  }
  return s;
}

}  // namespace isample::cuda
