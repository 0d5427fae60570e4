// Rows of a gradient on the CPU: their squared norms, and their products with factors, in one pass.
#pragma once

#include <cstdint>

namespace isample::cpu {

enum class LogitType { float32, bfloat16, float16, float64 };

// Rows of `size` elements, one behind the other.
struct RowsTask {
  const void* gradient;
  LogitType type;
  int64_t size;
  double scale;
  float* squares;        // to which ||scale row||^2 is added, or null
  const float* factors;  // or null:
  void* result;          // the products, of the type of the gradient
};

}  // namespace isample::cpu
