// What the CPU adaptors share: fused ops call the stages directly, with no dispatcher between them.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <optional>

#include "../cpu/score.h"

namespace isample::cpu {

inline LogitType logit_type(at::ScalarType type) {
  switch (type) {
    case at::kBFloat16: return LogitType::bfloat16;
    case at::kHalf: return LogitType::float16;
    case at::kDouble: return LogitType::float64;
    default: return LogitType::float32;
  }
}

struct ScoreLossTensors {
  at::Tensor score, loss;
};

// Checks its arguments.
ScoreLossTensors softmax_score(const at::Tensor& logits, const at::Tensor& targets,
                               const std::optional<at::Tensor>& weight, int64_t ignore_index,
                               double label_smoothing);

// Rows that are worth a thread: waking one costs some microseconds, and a row about as much as 64
// classes more than it has.
inline int64_t rows_per_thread(int64_t classes) {
  return std::max<int64_t>(1, 40000 / (classes + 64));
}

}  // namespace isample::cpu
