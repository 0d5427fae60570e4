// draw: from scores (alias, systematic, pps) and from a stored alias table.
//
// From a table: 16 random bytes read and 12 written a draw, each read a sector of 32 bytes. From
// scores: the masses (distribution.cu), a scan of them (12 to 16 bytes an item), and one to three
// searches of log2 n steps a draw. Draws without replacement read all masses once a round of
// capping, by one block, and once more in permuted order.
#include "draws.cuh"

#include "launch.cuh"
#include "sampler.cuh"
#include "stages.cuh"

namespace isample::cuda {

__global__ void __launch_bounds__(128) draw_table_kernel(ConstAliasTable table, DrawTask task) {
  const Items items = {table.mass, table.n, *table.total};
  // The table of scores that were not valid is all zeros, which draws item 0 with weight NaN.
  draw_alias(items, StoredTable{table.threshold, table.alias}, task, first_thread(), all_threads());
}

// Everything from scores to draws by one block.
__global__ void __launch_bounds__(1024) sample_kernel(DistributionTask task, DrawTask draw) {
  wait_for_launch_before();
  sample_block(task, draw);
}

__global__ void __launch_bounds__(1024) pps_plan_kernel(Workspace w, int64_t count) {
  const MassTotals totals = w.state->totals;
  if (totals.sums.total == 0) return;
  const PpsPlan plan = block_pps_plan(w.mass, w.n, count, totals);
  if (threadIdx.x == 0) w.state->plan = plan;
}

__global__ void __launch_bounds__(kStageThreads) draw_kernel(Workspace w, DrawTask task) {
  const StageState& state = *w.state;
  const Items items = {w.mass, w.n, state.totals.sums.total};
  const int64_t first = first_thread(), stride = all_threads();
  if (items.total == 0) draw_nothing(task, first, stride);
  else if (task.method == DrawMethod::alias)
    draw_alias(items, AliasLine{items, w.line, w.items, state.alias_sums.heavies}, task, first,
               stride);
  else if (task.method == DrawMethod::systematic)
    draw_systematic(items, w.line, task, first, stride);
  else draw_pps(items, state.plan, w.line, w.items, task, first, stride);
}

static bool one_block_draws(int64_t n, int64_t count, const Launcher& launcher) {
  constexpr int64_t kMostDraws = 16384;  // of one block
  return count <= kMostDraws && fits_one_block(n, launcher);
}

size_t workspace_bytes(int64_t n, int64_t count, const Launcher& launcher) {
  return one_block_draws(n, count, launcher) ? 0 : Workspace::bytes(n);
}

static cudaError_t launch_lines(const Workspace& w, const DrawTask& draw,
                                const Launcher& launcher) {
  if (draw.method == DrawMethod::alias) return launch_scan<AliasTerm>(w, draw.random, launcher);
  if (draw.method == DrawMethod::systematic) return launch_scan<MassTerm>(w, draw.random, launcher);
  cudaError_t error =
      launch(pps_plan_kernel, {dim3(1), 1024, kScratchBytes}, launcher.stream, w, draw.count);
  if (error == cudaSuccess) error = launch_scan<PpsTerm>(w, draw.random, launcher);
  if (error == cudaSuccess) error = launch_scan<PositiveTerm>(w, draw.random, launcher);
  return error;
}

// tau is that of all bits, whatever the draws can use.
static cudaError_t launch_draw_masses(DistributionTask task, int bits, const Workspace& w,
                                      const Launcher& launcher) {
  if (bits != kSumBits && (task.tau != nullptr || task.tau_ema != nullptr)) {
    const cudaError_t error = launch_masses(task, kSumBits, w, launcher);
    if (error != cudaSuccess) return error;
    task.tau = task.tau_ema = nullptr;
  }
  return launch_masses(task, bits, w, launcher);
}

cudaError_t launch_draw(const DistributionTask& task, const DrawTask& draw, void* workspace,
                        const Launcher& launcher, bool follows) {
  if (one_block_draws(task.n, draw.count, launcher))
    return launch(sample_kernel,
                  {dim3(1), one_block_threads(task.n), BlockItems::bytes(task.n),
                   follows && launcher.can_overlap},
                  launcher.stream, task, draw);
  const Workspace w(workspace, task.n);
  cudaError_t error = launch_draw_masses(task, draw_bits(draw.method, task.n), w, launcher);
  if (error == cudaSuccess) error = launch_lines(w, draw, launcher);
  if (error != cudaSuccess) return error;
  return launch(draw_kernel, draw_shape(draw.count, launcher), launcher.stream, w, draw);
}

cudaError_t launch_draw_table(const ConstAliasTable& table, const DrawTask& draw,
                              const Launcher& launcher) {
  return launch(draw_table_kernel, draw_shape(draw.count, launcher), launcher.stream, table, draw);
}

}  // namespace isample::cuda
