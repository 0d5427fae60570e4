// The second half of the pipeline for a presample, by one block in shared memory: scores -> masses,
// tau -> draws, weights.
#pragma once

#include "draws.cuh"

namespace isample::cuda {

__device__ inline void sample_block(const DistributionTask& task, const DrawTask& draw) {
  const BlockItems memory(task.n);
  const MassTotals totals = block_distribution(task, memory.mass);
  block_draws(draw, task.n, totals, memory);
}

}  // namespace isample::cuda
