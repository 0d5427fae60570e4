// The launchers' arguments with the device's addresses in place of the host's. Every struct that
// has pointers names them here: a new one does not compile before it does.
#pragma once

#include <tuple>
#include <type_traits>
#include <utility>

#include "../../csrc/cuda/kernels.h"
#include "cuda_mirror.h"

namespace testing {

inline auto pointers(isample::cuda::Launcher&) { return std::tie(); }
inline auto pointers(isample::cuda::Fractions&) { return std::tie(); }
inline auto pointers(isample::cuda::ScoreTask& t) {
  return std::tie(t.logits, t.labels, t.soft, t.weight, t.score, t.loss, t.partials);
}
inline auto pointers(isample::cuda::CrossEntropyTask& t) {
  return std::tuple_cat(pointers(t.rows),
                        std::tie(t.weights, t.gradient, t.mean, t.count, t.ratio, t.partials));
}
inline auto pointers(isample::cuda::PackTask& t) {
  const auto of_parts = [&]<size_t... i>(std::index_sequence<i...>) {
    return std::tie(t.parts[i].data..., t.packed);
  };
  return of_parts(std::make_index_sequence<isample::cuda::kMostPacked>());
}
inline auto pointers(isample::cuda::RowsTask& t) {
  return std::tie(t.gradient, t.squares, t.factors, t.result, t.partials);
}
inline auto pointers(isample::cuda::DistributionTask& t) {
  return std::tie(t.score, t.probabilities, t.tau, t.tau_ema);
}
template <class Wide, class Narrow> auto pointers(isample::cuda::TablePointers<Wide, Narrow>& t) {
  return std::tie(t.threshold, t.alias, t.mass, t.total);
}
inline auto pointers(isample::cuda::DrawTask& t) {
  return std::tie(t.random.seed_address, t.random.offset_address, t.indices, t.weights);
}
inline auto pointers(isample::ScoredBatch& t) {
  return std::tie(t.score, t.weights, t.sums, t.places);
}
inline auto pointers(isample::cuda::RememberTask& t) {
  return std::tie(t.memory, t.places, t.fresh, t.before);
}
inline auto pointers(isample::cuda::MeetTask& t) { return std::tie(t.met, t.remembered, t.fresh); }
inline auto pointers(isample::cuda::ExpectedTask& t) {
  return std::tie(t.score, t.experience, t.expected, t.bounded);
}
inline auto pointers(isample::cuda::PermutedTask& t) { return std::tie(t.places, t.items); }

template <class T> T for_device(T argument) {
  if constexpr (std::is_pointer_v<T>) {
    return Mirror::on_device(argument);
  } else if constexpr (!std::is_arithmetic_v<T>) {
    const auto move = [](auto&... each) { ((each = Mirror::on_device(each)), ...); };
    std::apply(move, pointers(argument));
  }
  return argument;
}

}  // namespace testing
