// Checks of the ops' arguments that the CPU and CUDA adaptors share. A message names the argument,
// the rule and the value received. A value that breaks a rule is a ValueError in Python, a dtype a
// TypeError.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include <optional>
#include <string>
#include <string_view>

#include "../core/distribution.h"
#include "../core/draws.h"
#include "written.h"

namespace isample {

inline DrawMethod parse_method(const char* argument, std::string_view name) {
  if (name == "alias") return DrawMethod::alias;
  if (name == "systematic") return DrawMethod::systematic;
  TORCH_CHECK_VALUE(name == "pps", argument, " must be one of 'alias', 'systematic', 'pps', got '",
                    name, "'");
  return DrawMethod::pps;
}

// A share of one: floor, momentum, label_smoothing. The comparison is false for NaN.
inline void check_share(const char* argument, double value) {
  TORCH_CHECK_VALUE(value >= 0.0 && value <= 1.0, argument, " must lie in [0, 1], got ", value);
}

inline void check_device(const char* argument, const at::Tensor& tensor, const char* reference,
                         at::Device device) {
  TORCH_CHECK_TYPE(tensor.defined(), argument, " must be a tensor, got None");
  TORCH_CHECK_VALUE(tensor.device() == device, argument, " must be on the device of ", reference,
                    ", ", device, ", got ", tensor.device());
}

// As Python spells it.
inline std::string dtype_name(at::ScalarType dtype) {
  if (dtype == at::ScalarType::Undefined) return "None";  // of a tensor that is None
  return std::string("torch.").append(c10::getDtypeNames(dtype).first);
}

inline void check_dtype(const char* argument, const at::Tensor& tensor, at::ScalarType dtype) {
  TORCH_CHECK_TYPE(tensor.scalar_type() == dtype, argument, " must be ", dtype_name(dtype),
                   ", got ", dtype_name(tensor.scalar_type()));
}

inline void check_float(const char* argument, const at::Tensor& tensor) {
  const at::ScalarType type = tensor.scalar_type();
  TORCH_CHECK_TYPE(
      type == at::kFloat || type == at::kBFloat16 || type == at::kHalf || type == at::kDouble,
      argument, " must be float32, bfloat16, float16 or float64, got ", dtype_name(type));
}

inline void check_logits(const at::Tensor& logits) {
  check_float("logits", logits);
  TORCH_CHECK_VALUE(logits.dim() == 2, "logits must be [batch, classes], got shape ",
                    logits.sizes());
  TORCH_CHECK_VALUE(logits.size(1) >= 1 && logits.size(1) <= int64_t{1} << 31,
                    "logits must have between 1 and 2^31 classes, got shape ", logits.sizes());
}

// Everything that softmax_score takes, except that the labels are in range, which each device finds
// in its own way.
inline void check_softmax_score(const at::Tensor& logits, const at::Tensor& targets,
                                const std::optional<at::Tensor>& weight, int64_t ignore_index,
                                double label_smoothing) {
  check_logits(logits);
  check_device("targets", targets, "logits", logits.device());
  if (targets.is_floating_point()) {
    TORCH_CHECK_VALUE(targets.sizes() == logits.sizes(),
                      "soft targets must have the shape of logits, ", logits.sizes(), ", got ",
                      targets.sizes());
    TORCH_CHECK_VALUE(ignore_index < 0,
                      "ignore_index must be negative (unused) with soft targets, got ",
                      ignore_index);
  } else {
    TORCH_CHECK_TYPE(targets.scalar_type() == at::kLong,
                     "targets must be int64 labels or floating-point probabilities, got ",
                     dtype_name(targets.scalar_type()));
    TORCH_CHECK_VALUE(targets.dim() == 1 && targets.size(0) == logits.size(0),
                      "labels must have shape [", logits.size(0),
                      "], one for each row of logits, got ", targets.sizes());
  }
  if (weight.has_value()) {
    check_device("weight", *weight, "logits", logits.device());
    TORCH_CHECK_TYPE(weight->is_floating_point(), "weight must be floating point, got ",
                     dtype_name(weight->scalar_type()));
    TORCH_CHECK_VALUE(weight->dim() == 1 && weight->size(0) == logits.size(1),
                      "weight must have shape [", logits.size(1), "], one for each class, got ",
                      weight->sizes());
  }
  check_share("label_smoothing", label_smoothing);
}

// A number a row of `rows`, whose name is `reference`.
inline void check_row_numbers(const char* argument, const at::Tensor& numbers,
                              const char* reference, const at::Tensor& rows) {
  check_dtype(argument, numbers, at::kFloat);
  TORCH_CHECK_VALUE(numbers.dim() == 1 && numbers.size(0) == rows.size(0), argument,
                    " must have shape [", rows.size(0), "], one for each row of ", reference,
                    ", got ", numbers.sizes());
  check_device(argument, numbers, reference, rows.device());
}

// The importance weights of a batch.
inline void check_weights(const std::optional<at::Tensor>& weights, const at::Tensor& logits) {
  if (weights.has_value()) check_row_numbers("weights", *weights, "logits", logits);
}

inline void check_item_count(const char* argument, int64_t n) {
  TORCH_CHECK_VALUE(n >= 1 && n <= kMaxItems, argument,
                    " must hold between 1 and 2^32 = ", kMaxItems, " items, got ", n);
}

inline void check_table_items(const char* argument, int64_t n) {
  TORCH_CHECK_VALUE(n <= kMaxTableItems, argument, " must hold at most 2^24 = ", kMaxTableItems,
                    " items for an alias table, got ", n,
                    ": draw from prefix_sum, which takes 2^32");
}

// Of draws from scores. pps takes as many items as a table on CUDA, whose line is an int64.
inline void check_draw_items(const char* argument, DrawMethod method, int64_t n,
                             bool on_cuda = false) {
  if (method == DrawMethod::alias) check_table_items(argument, n);
  TORCH_CHECK_VALUE(method != DrawMethod::pps || !on_cuda || n <= kMaxTableItems, argument,
                    " must hold at most 2^24 = ", kMaxTableItems, " items for 'pps' on CUDA, got ",
                    n, ": draw from prefix_sum, which takes 2^32, or on the CPU");
}

inline void check_score(const at::Tensor& score) {
  check_dtype("score", score, at::kFloat);
  TORCH_CHECK_VALUE(score.dim() == 1, "score must be one-dimensional, got shape ", score.sizes());
  check_item_count("score", score.size(0));
}

inline void check_tau_ema(const at::Tensor& tau_ema, const char* reference, at::Device device,
                          std::initializer_list<ReadArgument> others) {
  check_dtype("tau_ema", tau_ema, at::kFloat);
  TORCH_CHECK_VALUE(tau_ema.dim() == 0, "tau_ema must be a 0-dimensional tensor, got shape ",
                    tau_ema.sizes());
  check_device("tau_ema", tau_ema, reference, device);
  check_written("tau_ema", tau_ema, others);
}

inline void check_count(const char* argument, int64_t count, DrawMethod method, int64_t n) {
  TORCH_CHECK_VALUE(count >= 1 && count <= kMaxDraws, argument,
                    " must lie in [1, 2^24 = ", kMaxDraws, "], got ", count);
  TORCH_CHECK_VALUE(method != DrawMethod::pps || count <= n, argument,
                    " must not exceed the number of items, ", n,
                    ", for 'pps' draws (they are without replacement), got ", count);
}

inline void check_table(const at::Tensor& threshold, const at::Tensor& alias,
                        const at::Tensor& mass, const at::Tensor& total) {
  check_dtype("threshold", threshold, at::kLong);
  check_dtype("alias", alias, at::kInt);
  check_dtype("mass", mass, at::kInt);
  check_dtype("total", total, at::kLong);
  TORCH_CHECK_VALUE(threshold.dim() == 1, "threshold must be one-dimensional, got shape ",
                    threshold.sizes());
  check_item_count("threshold", threshold.size(0));
  check_table_items("threshold", threshold.size(0));
  TORCH_CHECK_VALUE(alias.sizes() == threshold.sizes(), "alias must have the shape of threshold, ",
                    threshold.sizes(), ", got ", alias.sizes());
  TORCH_CHECK_VALUE(mass.sizes() == threshold.sizes(), "mass must have the shape of threshold, ",
                    threshold.sizes(), ", got ", mass.sizes());
  TORCH_CHECK_VALUE(total.dim() == 0, "total must be a 0-dimensional tensor, got shape ",
                    total.sizes());
  check_device("alias", alias, "threshold", threshold.device());
  check_device("mass", mass, "threshold", threshold.device());
  check_device("total", total, "threshold", threshold.device());
}

// Whether draws from prefix sums are stratified; if not, they are systematic.
inline bool parse_spread(c10::string_view method) {
  if (method == "stratified") return true;
  TORCH_CHECK_VALUE(
      method == "systematic",
      "method must be one of 'stratified', 'systematic' for draws from prefix sums, got '", method,
      "'");
  return false;
}

inline void check_prefix_sums(const at::Tensor& sums) {
  check_dtype("sums", sums, at::kLong);
  TORCH_CHECK_VALUE(sums.dim() == 1, "sums must be one-dimensional, got shape ", sums.sizes());
  check_item_count("sums", sums.size(0));
}

// What is to become the prefix sums of `score`, which may be its own upper half.
inline void check_sums_of(const at::Tensor& sums, const at::Tensor& score) {
  check_prefix_sums(sums);
  TORCH_CHECK_VALUE(sums.sizes() == score.sizes() && sums.is_contiguous(),
                    "sums must be contiguous and have the shape of score, ", score.sizes(),
                    ", got ", sums.sizes());
  check_device("sums", sums, "score", score.device());
  check_written("sums", sums, {});
  const auto* const begin = static_cast<const char*>(sums.const_data_ptr());
  const auto* const at = static_cast<const char*>(score.const_data_ptr());
  const int64_t half = score.numel() * 4;
  const bool apart = !score.is_alias_of(sums) || at + half <= begin || at >= begin + 2 * half;
  TORCH_CHECK_VALUE(apart || (at == begin + half && score.is_contiguous()),
                    "score must be the upper half of sums or no part of it, got one that begins ",
                    at - begin, " bytes into it");
}

}  // namespace isample
