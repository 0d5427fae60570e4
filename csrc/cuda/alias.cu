// alias_table: every bucket in closed form from one scan (core/alias.h).
//
// Bytes for n items, besides the 12 n of the masses: 4 n read for the sums, 4 n read and 8 to 12 n
// written for the scan, some 16 n read and 16 n written for the table: about 60 n in all, 77 MB
// for 1.28 million items, of which a Hopper GPU keeps all but the first touch in L2. Operations:
// three searches of log2 n steps a bucket, in step across a warp, since neighbours search for
// neighbours. Five launches; at that size each should be bound by the latency of the L2.
#include "draws.cuh"
#include "launch.cuh"
#include "stages.cuh"

namespace isample::cuda {

template <class Buckets>
__device__ void store_table(const AliasTable& table, const Items& items, const Buckets& bucket_of,
                            int64_t first, int64_t stride) {
  if (first == 0) *table.total = items.total;
  for (int64_t i = first; i < table.n; i += stride) {
    const AliasBucket bucket = items.total == 0 ? AliasBucket{0, 0} : bucket_of(i);
    table.threshold[i] = bucket.threshold;
    table.alias[i] = bucket.alias;
    table.mass[i] = items.total == 0 ? 0 : items.mass[i];
  }
}

__global__ void __launch_bounds__(1024)
    block_alias_table_kernel(DistributionTask task, AliasTable table) {
  const BlockItems memory(task.n);
  const MassTotals totals = block_distribution(task, memory.mass);
  const Items items = {memory.mass, task.n, totals.sums.total};
  const int64_t heavies = items.total == 0 ? 0 : block_alias_line(items, memory);
  store_table(table, items, AliasLine{items, memory.line, memory.items, heavies}, threadIdx.x,
              blockDim.x);
}

__global__ void __launch_bounds__(kStageThreads) alias_table_kernel(Workspace w, AliasTable table) {
  const Items items = {w.mass, w.n, w.state->totals.sums.total};
  store_table(table, items, AliasLine{items, w.line, w.items, w.state->alias_sums.heavies},
              first_thread(), all_threads());
}

cudaError_t launch_alias_table(const DistributionTask& task, const AliasTable& table,
                               void* workspace, const Launcher& launcher) {
  if (fits_one_block(task.n, launcher))
    return launch(block_alias_table_kernel,
                  {dim3(1), one_block_threads(task.n), BlockItems::bytes(task.n)}, launcher.stream,
                  task, table);
  const Workspace w(workspace, task.n);
  cudaError_t error = launch_masses(task, product_bits(task.n), w, launcher);
  if (error == cudaSuccess) error = launch_scan<AliasTerm>(w, {}, launcher);
  if (error != cudaSuccess) return error;
  return launch(alias_table_kernel, stage_shape(w.n, launcher), launcher.stream, w, table);
}

}  // namespace isample::cuda
