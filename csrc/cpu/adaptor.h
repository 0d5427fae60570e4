// What the two CPU adaptors share: the fused op calls the stages directly, with no dispatcher between them.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "score.h"

namespace isample::cpu {

struct ScoreLossTensors {
  at::Tensor score, loss;
};

// Checks its arguments.
ScoreLossTensors softmax_score(const at::Tensor& logits, const at::Tensor& targets,
                               const std::optional<at::Tensor>& weight, int64_t ignore_index, double label_smoothing);

}  // namespace isample::cpu
