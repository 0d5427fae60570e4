// distribution: masses, tau, probabilities.
//
// Bytes for n items: 4 n read for the maximum, 4 n read and 4 n written for the masses, 4 n read
// and 4 n written for the probabilities (the floor: 8 n more): 20 n, from the L2 cache up to some
// millions of items. Operations: a double product and a rounding an item. One block: a few
// latencies. Stages: three launches, each at most a few us for a million items.
#include "distribution.cuh"

#include "launch.cuh"
#include "stages.cuh"

namespace isample::cuda {

__global__ void __launch_bounds__(1024) block_distribution_kernel(DistributionTask task) {
  const BlockItems memory(task.n);
  const MassTotals totals = block_distribution(task, memory.mass);
  for (int64_t i = threadIdx.x; i < task.n; i += blockDim.x)
    task.probabilities[i] =
        totals.sums.total == 0 ? NAN : probability(memory.mass[i], totals.sums.total);
}

__global__ void __launch_bounds__(kStageThreads)
    key_kernel(DistributionTask task, Workspace w, int slot) {
  const Span span = block_span(w.n);
  const ScoreKey key = block_reduce(key_span(task.score, span.begin, span.end), Larger());
  ScoreKey max;
  if (grid_reduce(key, Larger(), w.partials, slot, max) && threadIdx.x == 0) w.state->max = max;
}

__global__ void __launch_bounds__(kStageThreads)
    mass_kernel(DistributionTask task, Workspace w, int bits, int slot) {
  const ScoreKey max = w.state->max;
  const Span span = block_span(w.n);
  MassTotals sum, totals;
  if (max.bits != kInvalidKey)
    sum = block_sum(mass_span(task.score, max, bits, w.mass, span.begin, span.end));
  if (!grid_reduce(sum, Sum(), w.partials, slot, totals) || threadIdx.x != 0) return;
  w.state->before_floor = w.state->totals = totals;
  if (task.floor == 0.0) store_tau(task, totals);
}

__global__ void __launch_bounds__(kStageThreads)
    floor_kernel(DistributionTask task, Workspace w, int slot) {
  const int64_t total = w.state->before_floor.sums.total;
  const Span span = block_span(w.n);
  MassTotals sum, totals;
  if (total != 0) sum = block_sum(floor_span(w.mass, task.floor, total, w.n, span.begin, span.end));
  if (!grid_reduce(sum, Sum(), w.partials, slot, totals) || threadIdx.x != 0) return;
  w.state->totals = totals;
  store_tau(task, totals);
}

__global__ void __launch_bounds__(kStageThreads)
    probability_kernel(DistributionTask task, Workspace w) {
  const int64_t total = w.state->totals.sums.total;
  for (int64_t i = first_thread(); i < w.n; i += all_threads())
    task.probabilities[i] = total == 0 ? NAN : probability(w.mass[i], total);
}

cudaError_t launch_masses(const DistributionTask& task, int bits, const Workspace& w,
                          const Launcher& launcher) {
  const Shape shape = stage_shape(w.n, launcher);
  cudaError_t error = launch(key_kernel, shape, launcher.stream, task, w, launcher.slot);
  if (error == cudaSuccess)
    error = launch(mass_kernel, shape, launcher.stream, task, w, bits, launcher.slot);
  if (error == cudaSuccess && task.floor != 0.0)
    error = launch(floor_kernel, shape, launcher.stream, task, w, launcher.slot);
  return error;
}

cudaError_t launch_distribution(const DistributionTask& task, void* workspace,
                                const Launcher& launcher) {
  if (fits_one_block(task.n, launcher))
    return launch(block_distribution_kernel,
                  {dim3(1), one_block_threads(task.n), BlockItems::bytes(task.n)}, launcher.stream,
                  task);
  const Workspace w(workspace, task.n);
  const cudaError_t error = launch_masses(task, kSumBits, w, launcher);
  if (error != cudaSuccess) return error;
  return launch(probability_kernel, stage_shape(w.n, launcher), launcher.stream, task, w);
}

}  // namespace isample::cuda
