// The importance score of a row of logits: the norm of the softmax cross-entropy gradient with
// respect to the logits (Katharopoulos & Fleuret 2018, eq. 19), and the loss itself, from one read
// of the row.
//
// Written naively, ||softmax(z) - onehot(y)|| loses every digit once p_y is near 1, which is just
// where the ranking of the easy samples is decided. Here the target stays out of the sums. Over the
// other classes j != y we hold
//
//     max = max z_j      sum = S e^(z_j - max)      sum_sq = S e^(2 (z_j - max))
//
// and with  delta = max + ln(sum) - z_y  the two results are
//
//     score = sigmoid(delta) * sqrt(1 + sum_sq / sum^2)        loss = softplus(delta)
//
// sum and sum_sq are >= 1 (or the row has no other class), so nothing underflows. Two partial
// triples merge by rescaling to the larger max, so a row may be split over vector lanes, warps or
// blocks.
//
// `Math` names the arithmetic: a value type V (a float, a double, or a vector of them) with exp(V)
// and max(V, V). exp(-inf) must be 0 and exp(NaN) NaN: then a row that holds NaN or +inf ends as
// NaN.
#pragma once

#include "host_device.h"

namespace isample {

// Finite, so that "max - max" is 0 and not NaN before the first class was seen.
template <class T> struct Lowest;
template <> struct Lowest<float> {
  static constexpr float value = -3.402823466e+38f;
};
template <> struct Lowest<double> {
  static constexpr double value = -1.7976931348623157e+308;
};

template <class V> struct SoftmaxTriple {
  V max, sum, sum_sq;
};

template <class Math>
ISAMPLE_HD void rescale(SoftmaxTriple<typename Math::V>& triple, typename Math::V max) {
  const typename Math::V ratio = Math::exp(triple.max - max);
  triple.sum = triple.sum * ratio;
  triple.sum_sq = triple.sum_sq * (ratio * ratio);
  triple.max = max;
}

// Adds n logits of which none exceeds the triple's max: one exp an element (its square is a
// product). The chunk is summed on its own first: a long row of equal terms would otherwise lose a
// little of each, always in the same direction.
template <class Math, int n>
ISAMPLE_HD void add_below_max(SoftmaxTriple<typename Math::V>& triple,
                              const typename Math::V (&logits)[n]) {
  using V = typename Math::V;
  V sum = Math::exp(logits[0] - triple.max), sum_sq = sum * sum;
  ISAMPLE_UNROLL
  for (int i = 1; i < n; ++i) {
    const V e = Math::exp(logits[i] - triple.max);
    sum = sum + e;
    sum_sq = sum_sq + e * e;
  }
  triple.sum = triple.sum + sum;
  triple.sum_sq = triple.sum_sq + sum_sq;
}

// Adds any n logits: one max tree and one rescale first.
template <class Math, int n>
ISAMPLE_HD void add_chunk(SoftmaxTriple<typename Math::V>& triple,
                          const typename Math::V (&logits)[n]) {
  typename Math::V max = triple.max;
  ISAMPLE_UNROLL
  for (int i = 0; i < n; ++i) max = Math::max(max, logits[i]);
  rescale<Math>(triple, max);
  add_below_max<Math>(triple, logits);
}

template <class Math>
ISAMPLE_HD SoftmaxTriple<typename Math::V> merge(SoftmaxTriple<typename Math::V> a,
                                                 SoftmaxTriple<typename Math::V> b) {
  const typename Math::V max = Math::max(a.max, b.max);
  rescale<Math>(a, max);
  rescale<Math>(b, max);
  return {max, a.sum + b.sum, a.sum_sq + b.sum_sq};
}

struct ScoreLoss {
  float score, loss;
};

// Ends a row whose target is one class. `weight` is the class weight of the target.
// Once a row, so in double: a float delta of 85 would already cost 4e-6 of e^-delta. `Math` is that
// of doubles, or of vectors of them with a row a lane, with log, log1p and sqrt as well; so choices
// are made by value, not by branches.
template <class Math>
ISAMPLE_HD void finish_hard_target(const SoftmaxTriple<typename Math::V>& others,
                                   typename Math::V target, typename Math::V weight,
                                   typename Math::V& score, typename Math::V& loss) {
  using V = typename Math::V;
  const V zero = V{}, one = V{} + 1.0;
  const V infinity = V{} + static_cast<double>(INFINITY), nan = V{} + static_cast<double>(NAN);
  const V delta = (others.max - target) + Math::log(others.sum);
  const V small = Math::exp(delta > zero ? -delta : delta);  // in (0, 1]
  const V sigmoid = (delta < zero ? small : one) / (one + small);
  const V softplus = (delta > zero ? delta : zero) + Math::log1p(small);
  const V spread = Math::sqrt(one + others.sum_sq / (others.sum * others.sum));
  // The choices above swallow a NaN; adding delta * 0 keeps it (delta = +inf is a target of
  // probability 0).
  const V poison = delta == infinity ? zero : delta * zero;
  const V whole_score =
      others.sum == zero ? zero : sigmoid * spread + poison;  // a sum of 0: there is no other class
  const V whole_loss = others.sum == zero ? zero : softplus + poison;
  const V alone = others.sum == zero ? one : zero;
  const V fault =
      target < infinity ? (target == -infinity ? (alone > zero ? nan : zero) : zero) : nan;
  // A norm, also where the weight is below 0.
  score = (weight < zero ? -weight : weight) * (whole_score + fault);
  loss = weight * (whole_loss + fault);
}

struct DoubleMath {
  using V = double;
  static ISAMPLE_HD double exp(double x) { return std::exp(x); }
  static ISAMPLE_HD double log(double x) { return std::log(x); }
  static ISAMPLE_HD double log1p(double x) { return std::log1p(x); }
  static ISAMPLE_HD double sqrt(double x) { return std::sqrt(x); }
};

// The same in floats, with one logarithm less: on a GPU the doubles of a short row take longer than
// all else. Here x = max - target, and the others' share of e^loss is theirs / own. An error of x
// becomes one of e^x, so what a float cannot hold of x is carried beside it.
ISAMPLE_HD ScoreLoss finish_hard_target_in_float(const SoftmaxTriple<float>& others, float target,
                                                 float weight) {
  const float x = others.max - target, back = x - others.max;
  const float rest = (others.max - (x - back)) - (target + back);  // x + rest = max - target
  constexpr float kNothing = 170.f;                                // beyond it e^-x is 0
  const bool is_above = x > 0.f;
  // e^(-|x| / 2), twice a factor: a sum of many may still be held where e^-|x| cannot be
  float half = std::fabs(x) > kNothing ? 0.f : std::exp(-0.5f * std::fabs(x));
  if (half > 0.f) half = std::fma(half, (is_above ? -0.5f : 0.5f) * rest, half);
  const float theirs = is_above ? others.sum : others.sum * half * half;
  const float small = half * half, own = is_above ? small : 1.f;
  const float spread = std::sqrt(1.f + others.sum_sq / (others.sum * others.sum));
  // Both parts are at least 0, and the loss of a target below the max is at least ln 2.
  const float beyond = is_above ? (others.sum - 1.f) + small : theirs;
  const bool is_alone = others.sum == 0.f;
  const float score = is_alone ? 0.f : theirs / (theirs + own) * spread;
  const float loss = is_alone ? 0.f : (is_above ? x : 0.f) + std::log1p(beyond);
  const bool is_fault = !(target < INFINITY) || (target == -INFINITY && is_alone);
  const float fault = is_fault ? NAN : 0.f;
  return {std::fabs(weight) * (score + fault), weight * (loss + fault)};
}

template <class T>
ISAMPLE_HD ScoreLoss finish_hard_target(const SoftmaxTriple<T>& others, T target_logit,
                                        double weight) {
  double score, loss;
  finish_hard_target<DoubleMath>({static_cast<double>(others.max), static_cast<double>(others.sum),
                                  static_cast<double>(others.sum_sq)},
                                 static_cast<double>(target_logit), weight, score, loss);
  return {static_cast<float>(score), static_cast<float>(loss)};
}

// Soft targets q, label smoothing eps and class weights w in one form: the loss is -S_k a_k ln p_k
// with
//     a_k = w_k * ((1 - eps) q_k + eps / C)
// as torch.nn.functional.cross_entropy defines it, and its gradient is  A p_k - a_k  with A = S
// a_k.
template <class V>
ISAMPLE_HD V target_mass(V class_weight, V q, V one_minus_smoothing, V smoothing_per_class) {
  return class_weight * (one_minus_smoothing * q + smoothing_per_class);
}

// Sums over all classes of a row whose (max, sum) is known. p_k = e^(z_k - max) / sum.
template <class V> struct DenseSums {
  V gradient_sq;  // S (A p_k - a_k)^2
  V loss;         // S a_k (max - z_k); the caller adds A ln(sum)
};

// Gives A p_k - a_k.
template <class Math>
ISAMPLE_HD typename Math::V add_dense(DenseSums<typename Math::V>& sums, typename Math::V logit,
                                      typename Math::V mass, typename Math::V max,
                                      typename Math::V total_mass_over_sum) {
  using V = typename Math::V;
  const V gradient = Math::exp(logit - max) * total_mass_over_sum - mass;
  sums.gradient_sq = sums.gradient_sq + gradient * gradient;
  // A class of no mass must not meet a logit of -inf: 0 * inf is NaN.
  sums.loss = sums.loss + Math::where_nonzero(mass, mass * (max - logit));
  return gradient;
}

template <class T>
ISAMPLE_HD ScoreLoss finish_dense_target(const DenseSums<T>& sums, T sum, T total_mass) {
  const double loss = static_cast<double>(sums.loss) +
                      static_cast<double>(total_mass) * std::log(static_cast<double>(sum));
  return {static_cast<float>(std::sqrt(static_cast<double>(sums.gradient_sq))),
          static_cast<float>(loss)};
}

}  // namespace isample
