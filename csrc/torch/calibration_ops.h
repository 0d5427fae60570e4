// What calibration.cpp has for the op that does all of a step's remembering in one call.
#pragma once

#include <ATen/core/Tensor.h>

namespace isample {

// Raises where `met` is not [256, 3] on the device of `fresh`.
void check_met(const at::Tensor& met, const at::Tensor& fresh);

void meet_cpu(at::Tensor& met, const at::Tensor& remembered, const at::Tensor& fresh);

}  // namespace isample
