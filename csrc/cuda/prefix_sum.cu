// prefix_sum, and the draws from it: the lean table of memory mode.
//
// Bytes for n items: the 12 n of the masses (distribution.cu), 8 n read and 8 n written for the
// scan. A draw reads log2 n words of 8 bytes, the first of them out of cache, and writes 12: bound
// by latency.
#include "draws.cuh"
#include "launch.cuh"
#include "stages.cuh"

namespace isample::cuda {

__global__ void __launch_bounds__(1024)
    block_prefix_sum_kernel(DistributionTask task, int64_t* sums) {
  const BlockItems memory(task.n);
  const MassTotals totals = block_distribution(task, memory.mass);
  if (totals.sums.total != 0) return scan_span(MassTerm{memory.mass, sums}, 0, task.n, {});
  for (int64_t i = threadIdx.x; i < task.n; i += blockDim.x) sums[i] = 0;
}

// The scan leaves the sums unwritten where a score is not valid.
__global__ void __launch_bounds__(kStageThreads) invalid_sums_kernel(Workspace w) {
  if (w.state->totals.sums.total != 0) return;
  for (int64_t i = first_thread(); i < w.n; i += all_threads()) w.line[i] = 0;
}

cudaError_t launch_prefix_sum(const DistributionTask& task, int64_t* sums, void* workspace,
                              const Launcher& launcher) {
  if (fits_one_block(task.n, launcher))
    return launch(block_prefix_sum_kernel,
                  {dim3(1), one_block_threads(task.n), BlockItems::bytes(task.n)}, launcher.stream,
                  task, sums);
  Workspace w(workspace, task.n);
  w.line = sums;
  cudaError_t error = launch_masses(task, kSumBits, w, launcher);
  if (error == cudaSuccess) error = launch_scan<MassTerm>(w, {}, launcher);
  if (error != cudaSuccess) return error;
  return launch(invalid_sums_kernel, stage_shape(w.n, launcher), launcher.stream, w);
}

__global__ void __launch_bounds__(128, 12)
    draw_prefix_sum_kernel(const int64_t* sums, int64_t n, bool stratified, DrawTask task) {
  const int64_t total = sums[n - 1], first = first_thread(), stride = all_threads();
  if (total <= 0) return draw_nothing(task, first, stride);
  const RandomStream random = unpack(task.random);
  for (int64_t j = first; j < task.count; j += stride) {
    const int64_t item = first_above(
        sums, n, spread_point(j, task.count, total, stratified, random.seed, random.offset));
    task.indices[j] = item;
    task.weights[j] = importance_weight(mass_by_sums(sums, item), total, n);
  }
}

cudaError_t launch_draw_prefix_sum(const int64_t* sums, int64_t n, bool stratified,
                                   const DrawTask& draw, const Launcher& launcher) {
  return launch(draw_prefix_sum_kernel, draw_shape(draw.count, launcher), launcher.stream, sums, n,
                stratified, draw);
}

}  // namespace isample::cuda
