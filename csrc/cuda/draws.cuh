// Draws and their weights, one thread a draw. What a draw is follows from its number alone, never
// from its thread.
#pragma once

#include "terms.cuh"

namespace isample::cuda {

struct RandomStream {
  uint64_t seed, offset;
};

__device__ inline RandomStream unpack(const RandomSource& source) {
  if (source.seed_address == nullptr) return {source.seed, source.offset};
  // torch counts offsets in words, four to a block of Philox; in blocks, they never meet those of
  // torch's own kernels.
  return {static_cast<uint64_t>(*source.seed_address),
          (static_cast<uint64_t>(*source.offset_address) + source.offset_in_graph) / 4};
}

// The masses of a distribution.
struct Items {
  const int32_t* mass;
  int64_t n, total;
};

// The alias table, evaluated only where it is asked for.
struct AliasLine {
  Items items;
  const int64_t* line;  // as AliasTerm lays it
  const int32_t* heavy_item;
  int64_t heavies;

  __device__ AliasBucket operator()(int64_t i) const {
    const int32_t mass = items.mass[i];
    const int64_t rank = first_above(heavy_item, heavies, i - 1);  // heavies before i
    const int64_t* const deficit = line + heavies;
    if (is_heavy(mass, items.total, items.n))
      return heavy_bucket(rank, items.total, line, heavy_item, heavies, deficit, items.n - heavies);
    return light_bucket(mass, items.n, deficit[i - rank], line, heavy_item, heavies);
  }
};

struct StoredTable {
  const int64_t* threshold;
  const int32_t* alias;

  __device__ AliasBucket operator()(int64_t i) const { return {threshold[i], alias[i]}; }
};

__device__ inline int64_t first_thread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline int64_t all_threads() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

// Draws first, first + stride, ...
template <class Buckets>
__device__ void draw_alias(const Items& items, const Buckets& bucket_of, const DrawTask& task,
                           int64_t first, int64_t stride) {
  const RandomStream random = unpack(task.random);
  for (int64_t j = first; j < task.count; j += stride) {
    const RandomWords words = philox(random.seed, random.offset, static_cast<uint64_t>(j));
    const int64_t bucket = pick_bucket(words.x, items.n);
    const WeighedItem drawn =
        weighed(items.mass, pick_side(words.y, bucket, bucket_of(bucket), items.total), items.total,
                items.n);
    task.indices[j] = drawn.item;
    task.weights[j] = drawn.weight;
  }
}

__device__ inline void draw_systematic(const Items& items, const int64_t* line,
                                       const DrawTask& task, int64_t first, int64_t stride) {
  const RandomStream random = unpack(task.random);
  const int64_t start = random_start(philox(random.seed, random.offset, 0).x, items.total);
  for (int64_t j = first; j < task.count; j += stride) {
    const int64_t item =
        first_above(line, items.n, systematic_point(j, task.count, start, items.total));
    task.indices[j] = item;
    task.weights[j] = importance_weight(items.mass[item], items.total, items.n);
  }
}

// The sure draws, then those along the line.
__device__ inline void draw_pps(const Items& items, const PpsPlan& plan, const int64_t* line,
                                const int32_t* positive_item, const DrawTask& task, int64_t first,
                                int64_t stride) {
  const RandomStream random = unpack(task.random);
  const Permutation permutation = random_permutation(random.seed, random.offset, items.n);
  const int64_t start = random_start(philox(random.seed, random.offset, 0).x, plan.step());
  const int64_t sure = plan.rounds * plan.positives;
  for (int64_t j = first; j < task.count; j += stride) {
    const int64_t item =
        j < sure ? positive_item[j % plan.positives]
                 : permutation(first_above(line, items.n, start + (j - sure) * plan.step()));
    task.indices[j] = item;
    task.weights[j] = pps_weight(items.mass[item], plan, task.count, items.n);
  }
}

// The scores were not valid: what is drawn must show it.
__device__ inline void draw_nothing(const DrawTask& task, int64_t first, int64_t stride) {
  for (int64_t j = first; j < task.count; j += stride) {
    task.indices[j] = 0;
    task.weights[j] = NAN;
  }
}

struct Certain {
  int64_t items = 0, mass = 0;
  __device__ void add(const Certain& other) {
    items += other.items;
    mass += other.mass;
  }
};

struct CertainTerm {
  using Value = Certain;
  const int32_t* mass;
  PpsPlan plan;
  __device__ Value operator()(int64_t i) const {
    return is_certain(mass[i], plan) ? Certain{1, mass[i]} : Certain{};
  }
};

// Caps inclusion probabilities at 1 until none exceeds it. All threads return the same plan.
__device__ inline PpsPlan block_pps_plan(const int32_t* mass, int64_t n, int64_t count,
                                         const MassTotals& totals) {
  PpsPlan plan = first_pps_plan(count, totals.positives, totals.sums.total);
  for (int64_t known = 0; plan.remaining > 0;) {
    const Certain certain = block_sum(sum_span(CertainTerm{mass, plan}, 0, n));
    if (certain.items == known) break;
    known = certain.items;
    plan = next_pps_plan(plan, certain.items, certain.mass, totals.sums.total);
  }
  return plan;
}

__device__ inline int64_t block_alias_line(const Items& items, const BlockItems& memory) {
  const int64_t heavies =
      block_sum(sum_span(HeavyTerm{items.mass, items.n, items.total}, 0, items.n)).value;
  scan_span(AliasTerm{items.mass, items.n, items.total, heavies, memory.line, memory.items}, 0,
            items.n, {});
  __syncthreads();  // any thread may read any of the line
  return heavies;
}

// All draws by one block, whose masses are in `memory`.
__device__ inline void block_draws(const DrawTask& task, int64_t n, const MassTotals& totals,
                                   const BlockItems& memory) {
  const Items items = {memory.mass, n, totals.sums.total};
  const int64_t thread = threadIdx.x, threads = blockDim.x;
  if (items.total == 0) {
    draw_nothing(task, thread, threads);
  } else if (task.method == DrawMethod::alias) {
    const int64_t heavies = block_alias_line(items, memory);
    draw_alias(items, AliasLine{items, memory.line, memory.items, heavies}, task, thread, threads);
  } else if (task.method == DrawMethod::systematic) {
    scan_span(MassTerm{items.mass, memory.line}, 0, n, {});
    __syncthreads();  // any thread may read any of the line
    draw_systematic(items, memory.line, task, thread, threads);
  } else {
    const PpsPlan plan = block_pps_plan(items.mass, n, task.count, totals);
    const RandomStream random = unpack(task.random);
    scan_span(
        PpsTerm{items.mass, plan, random_permutation(random.seed, random.offset, n), memory.line},
        0, n, {});
    if (plan.rounds > 0) scan_span(PositiveTerm{items.mass, memory.items}, 0, n, {});
    __syncthreads();  // any thread may read any of the line
    draw_pps(items, plan, memory.line, memory.items, task, thread, threads);
  }
}

}  // namespace isample::cuda
