// Stages for items that do not fit one block: every block takes a span of them, and the last block
// of a launch combines what the others found, so that the next launch reads it ready-made.
#pragma once

#include <algorithm>
#include <type_traits>

#include "draws.cuh"
#include "launch.cuh"

namespace isample::cuda {

constexpr int kStageThreads = 512;
constexpr int64_t kStageTile = 4 * kStageThreads;  // what scan_span takes in one step
constexpr int kStageBlocks = kStageThreads;        // at most; the last block combines one a thread

// What the stages tell each other.
struct StageState {
  ScoreKey max;
  MassTotals before_floor, totals;
  AliasScan alias_sums;
  PpsPlan plan;
};

// Device memory for n items.
struct Workspace {
  int64_t n;
  StageState* state;
  void* partials;  // [kStageBlocks] of whatever a stage sums
  int64_t* line;   // [n + 1]
  int32_t* mass;   // [n]
  int32_t* items;  // [n]

  static constexpr size_t kHeader = 256, kPartials = 32 * size_t{kStageBlocks};
  static_assert(sizeof(StageState) <= kHeader);

  static size_t bytes(int64_t n) { return kHeader + kPartials + static_cast<size_t>(16 * n + 8); }
  Workspace(void* memory, int64_t items_in_all)
      : n(items_in_all),
        state(static_cast<StageState*>(memory)),
        partials(static_cast<char*>(memory) + kHeader),
        line(reinterpret_cast<int64_t*>(static_cast<char*>(memory) + kHeader + kPartials)),
        mass(reinterpret_cast<int32_t*>(line + n + 1)),
        items(mass + n) {}
};

inline Shape stage_shape(int64_t n, const Launcher& launcher) {
  const int64_t most = std::min<int64_t>(kStageBlocks, 4 * int64_t{launcher.multiprocessors});
  return {dim3(static_cast<unsigned>(std::min(most, ceil_div(n, kStageTile)))), kStageThreads,
          kScratchBytes};
}

inline Shape draw_shape(int64_t count, const Launcher& launcher) {
  const int64_t most = 8 * int64_t{launcher.multiprocessors};
  return {dim3(static_cast<unsigned>(std::min(most, ceil_div(count, 128)))), 128, 0};
}

struct Span {
  int64_t begin, end;
};

__device__ inline Span block_span(int64_t n) {
  const int64_t tiles = (n + kStageTile - 1) / kStageTile;
  const int64_t size = (tiles + gridDim.x - 1) / gridDim.x * kStageTile;
  const int64_t begin = blockIdx.x * size;
  // Empty for the last blocks, where there are too many.
  return {begin, begin + size < n ? begin + size : n};
}

// Combines one value a block. In the last block every thread gets the result, and true.
template <class T, class Op>
__device__ bool grid_reduce(const T& value, const Op& op, void* memory, int slot, T& result) {
  T* const partials = static_cast<T*>(memory);
  if (threadIdx.x == 0) partials[blockIdx.x] = value;
  if (!is_last_block(slot)) return false;
  result = block_reduce(threadIdx.x < gridDim.x ? load_fresh(partials + threadIdx.x) : T{}, op);
  return true;
}

// The terms of each stage, made from what the stages before it left.
template <class Term> __device__ Term make_term(const Workspace& w, const RandomSource& random);
template <> __device__ inline AliasTerm make_term(const Workspace& w, const RandomSource&) {
  return {w.mass, w.n, w.state->totals.sums.total, w.state->alias_sums.heavies, w.line, w.items};
}
template <> __device__ inline MassTerm make_term(const Workspace& w, const RandomSource&) {
  return {w.mass, w.line};
}
template <> __device__ inline PositiveTerm make_term(const Workspace& w, const RandomSource&) {
  return {w.mass, w.items};
}
template <> __device__ inline PpsTerm make_term(const Workspace& w, const RandomSource& source) {
  const RandomStream random = unpack(source);
  return {w.mass, w.state->plan, random_permutation(random.seed, random.offset, w.n), w.line};
}

// Replaces each block's sum by the sum of the blocks before it.
template <class Value_> struct PrefixTerm {
  using Value = Value_;
  Value* partials;

  __device__ Value operator()(int64_t block) const { return load_fresh(partials + block); }
  __device__ void emit(int64_t block, const Value& before, const Value&) const {
    partials[block] = before;
  }
};

template <class Term>
__global__ void __launch_bounds__(kStageThreads)
    term_sum_kernel(Workspace w, RandomSource random, int slot) {
  using Value = typename Term::Value;
  if (w.state->totals.sums.total == 0) return;
  const Span span = block_span(w.n);
  const Value sum = block_sum(sum_span(make_term<Term>(w, random), span.begin, span.end));
  Value* const partials = static_cast<Value*>(w.partials);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
  if (!is_last_block(slot)) return;
  if constexpr (std::is_same_v<Value, AliasScan>) {
    const AliasScan all =
        block_sum(threadIdx.x < gridDim.x ? load_fresh(partials + threadIdx.x) : AliasScan{});
    if (threadIdx.x == 0) w.state->alias_sums = all;
  }
  scan_span(PrefixTerm<Value>{partials}, 0, gridDim.x, {});
}

template <class Term>
__global__ void __launch_bounds__(kStageThreads) scan_kernel(Workspace w, RandomSource random) {
  if (w.state->totals.sums.total == 0) return;
  const Span span = block_span(w.n);
  scan_span(make_term<Term>(w, random), span.begin, span.end,
            static_cast<typename Term::Value*>(w.partials)[blockIdx.x]);
}

// Two launches: sums of the blocks' spans, then the walk along each of them.
template <class Term>
cudaError_t launch_scan(const Workspace& w, const RandomSource& random, const Launcher& launcher) {
  const Shape shape = stage_shape(w.n, launcher);
  const cudaError_t error =
      launch(term_sum_kernel<Term>, shape, launcher.stream, w, random, launcher.slot);
  if (error != cudaSuccess) return error;
  return launch(scan_kernel<Term>, shape, launcher.stream, w, random);
}

// Masses, of which the largest has `bits`, and their totals into the workspace, tau and its average
// (distribution.cu).
cudaError_t launch_masses(const DistributionTask& task, int bits, const Workspace& w,
                          const Launcher& launcher);

}  // namespace isample::cuda
