// The loss that a batch learns from, the mean of w_i L_i; the scores of its samples; and the
// gradient with respect to the logits, w_i / B (A_i p_ik - a_ik), see core/score.h: vectors whose
// norms, but for w_i / B, the scores are.
#include <ATen/Parallel.h>
#include <ATen/ops/_softmax.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "../core/mean.h"
#include "../core/score.h"
#include "checks.h"
#include "cpu_rows.h"

namespace isample::cpu {
namespace {

using Given = std::optional<at::Tensor>;

template <class T> at::Tensor number(T value) {
  at::Tensor result = at::empty({}, at::TensorOptions().dtype(c10::CppTypeToScalarType<T>::value));
  *result.mutable_data_ptr<T>() = value;
  return result;
}

// Of w_i L_i.
MeanSums sums_of(const at::Tensor& losses, const float* w) {
  const float* loss = losses.const_data_ptr<float>();
  MeanSums sums;
  for (int64_t i = 0; i < losses.size(0); ++i)
    sums.loss += w == nullptr ? double{loss[i]} : double{w[i]} * loss[i];
  return sums;
}

// What the labels count, by their class weights; each row counts 1 where targets are soft.
double count_of(const at::Tensor& targets, const Given& class_weight, int64_t ignore_index) {
  if (targets.is_floating_point()) return static_cast<double>(targets.size(0));
  const at::Tensor labels = targets.contiguous();
  const at::Tensor weight =
      class_weight.has_value() ? class_weight->to(at::kDouble).contiguous() : at::Tensor();
  const double* of_class = class_weight.has_value() ? weight.const_data_ptr<double>() : nullptr;
  double count = 0.0;
  const int64_t* label = labels.const_data_ptr<int64_t>();
  for (const int64_t* end = label + labels.size(0); label < end; ++label)
    if (*label != ignore_index) count += of_class == nullptr ? 1.0 : of_class[*label];
  return count;
}

// Softmax of the rows. torch's own takes four times as long for rows this narrow.
template <class T> at::Tensor probabilities(const at::Tensor& logits) {
  constexpr int64_t kNarrow = 32;
  const int64_t classes = logits.size(1);
  if (classes > kNarrow) return at::_softmax(logits, 1, /*half_to_float=*/false);
  at::Tensor result = at::empty_like(logits);
  const T* z = logits.const_data_ptr<T>();
  T* p = result.mutable_data_ptr<T>();
  for (const T* end = z + logits.numel(); z < end; z += classes, p += classes) {
    const T max = *std::max_element(z, z + classes);
    T sum = 0;
    for (int64_t k = 0; k < classes; ++k) sum += p[k] = std::exp(z[k] - max);
    for (int64_t k = 0; k < classes; ++k) p[k] /= sum;
  }
  return result;
}

// The targets of a batch as torch's cross-entropy has them.
template <class T> struct Targets {
  const int64_t* labels;  // or null:
  const T* soft;          // probabilities [rows, classes]
  const T* class_weight;  // or null
  int64_t classes, ignore_index;
  double smoothing;

  double mass(int64_t row, int64_t k) const {
    const double q =
        labels == nullptr ? static_cast<double>(soft[row * classes + k]) : k == labels[row];
    return target_mass<double>(class_weight == nullptr ? 1.0 : class_weight[k], q, 1.0 - smoothing,
                               smoothing / static_cast<double>(classes));
  }
};

// Turns a row of probabilities into `scale` times the gradient of its loss.
template <class T> void gradient_row(T* p, const Targets<T>& targets, int64_t row, double scale) {
  const int64_t classes = targets.classes;
  if (targets.labels != nullptr && targets.labels[row] == targets.ignore_index) {
    std::fill(p, p + classes, T{0});
    return;
  }
  if (targets.labels != nullptr && targets.smoothing == 0.0) {
    const int64_t label = targets.labels[row];
    const T factor = static_cast<T>(scale * targets.mass(row, label));
    p[label] -= T{1};
    for (int64_t k = 0; k < classes; ++k) p[k] *= factor;
    return;
  }
  double total = 0.0;
  for (int64_t k = 0; k < classes; ++k) total += targets.mass(row, k);
  for (int64_t k = 0; k < classes; ++k)
    p[k] = static_cast<T>(scale * (total * p[k] - targets.mass(row, k)));
}

template <class T>
at::Tensor gradient_rows(const at::Tensor& logits, const at::Tensor& targets, const float* weights,
                         const Given& class_weight, int64_t ignore_index, double label_smoothing,
                         double scale) {
  at::Tensor p = probabilities<T>(logits.to(c10::CppTypeToScalarType<T>::value).contiguous());
  const bool hard = !targets.is_floating_point();
  const at::Tensor goals = hard ? targets.contiguous() : targets.to(p.scalar_type()).contiguous();
  const at::Tensor of_classes =
      class_weight.has_value() ? class_weight->to(p.scalar_type()).contiguous() : at::Tensor();
  const Targets<T> all = {hard ? goals.const_data_ptr<int64_t>() : nullptr,
                          hard ? nullptr : goals.const_data_ptr<T>(),
                          class_weight.has_value() ? of_classes.const_data_ptr<T>() : nullptr,
                          p.size(1),
                          ignore_index,
                          label_smoothing};
  T* rows = p.mutable_data_ptr<T>();
  at::parallel_for(0, p.size(0), rows_per_thread(all.classes), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      gradient_row(rows + i * all.classes, all, i, weights == nullptr ? scale : scale * weights[i]);
  });
  return p;
}

struct Result {
  MeanSums sums;
  at::Tensor score, gradient;
  double ratio = 1.0;
};

// `is_mean_of_count`: the gradient is that of the mean over what the labels count.
Result run(const at::Tensor& logits, const at::Tensor& targets, const Given& weights,
           const Given& class_weight, int64_t ignore_index, double label_smoothing,
           bool has_gradient, bool is_mean_of_count = false) {
  const at::AutoDispatchBelowADInplaceOrView guard;  // or the softmax would be recorded
  ScoreLossTensors rows =
      softmax_score(logits, targets, class_weight, ignore_index, label_smoothing);
  check_weights(weights, logits);
  const at::Tensor factors = weights.has_value() ? weights->contiguous() : at::Tensor();
  const float* w = weights.has_value() ? factors.const_data_ptr<float>() : nullptr;
  Result result = {sums_of(rows.loss, w), std::move(rows.score), {}};
  if (is_mean_of_count) {
    result.sums.count = count_of(targets, class_weight, ignore_index);
    result.ratio = result.sums.ratio(logits.size(0));
  }
  if (!has_gradient) return result;
  const bool wide = logits.scalar_type() == at::kDouble;
  const auto gradient = wide ? &gradient_rows<double> : &gradient_rows<float>;
  result.gradient = gradient(logits, targets, w, class_weight, ignore_index, label_smoothing,
                             result.ratio / static_cast<double>(logits.size(0)));
  return result;
}

float mean_of(const Result& result, int64_t rows) {
  return static_cast<float>(result.sums.mean(rows) * result.ratio);
}

using TwoTensors = std::tuple<at::Tensor, at::Tensor>;
using ThreeTensors = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
using FiveTensors = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

TwoTensors cross_entropy(const at::Tensor& logits, const at::Tensor& targets, const Given& weights,
                         const Given& class_weight, int64_t ignore_index, double label_smoothing) {
  Result r = run(logits, targets, weights, class_weight, ignore_index, label_smoothing, false);
  return {number(mean_of(r, logits.size(0))), std::move(r.score)};
}

ThreeTensors cross_entropy_with_gradient(const at::Tensor& logits, const at::Tensor& targets,
                                         const Given& weights, const Given& class_weight,
                                         int64_t ignore_index, double label_smoothing) {
  Result r = run(logits, targets, weights, class_weight, ignore_index, label_smoothing, true);
  return {number(mean_of(r, logits.size(0))), std::move(r.score), std::move(r.gradient)};
}

ThreeTensors mean_cross_entropy(const at::Tensor& logits, const at::Tensor& targets,
                                const Given& class_weight, int64_t ignore_index,
                                double label_smoothing) {
  Result r =
      run(logits, targets, std::nullopt, class_weight, ignore_index, label_smoothing, false, true);
  return {number(mean_of(r, logits.size(0))), std::move(r.score), number(r.sums.count)};
}

// The count is known before the gradient is made here, so that it needs no ratio.
FiveTensors mean_cross_entropy_with_gradient(const at::Tensor& logits, const at::Tensor& targets,
                                             const Given& class_weight, int64_t ignore_index,
                                             double label_smoothing) {
  Result r =
      run(logits, targets, std::nullopt, class_weight, ignore_index, label_smoothing, true, true);
  return {number(mean_of(r, logits.size(0))), std::move(r.score), std::move(r.gradient),
          number(r.sums.count), at::empty({0}, at::TensorOptions().dtype(at::kDouble))};
}

}  // namespace

TORCH_LIBRARY_IMPL(isample, CPU, m) {
  m.impl("cross_entropy", &cross_entropy);
  m.impl("_cross_entropy_with_gradient", &cross_entropy_with_gradient);
  m.impl("_mean_cross_entropy", &mean_cross_entropy);
  m.impl("_mean_cross_entropy_with_gradient", &mean_cross_entropy_with_gradient);
}

}  // namespace isample::cpu
