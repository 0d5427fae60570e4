// What a step does with its fresh scores beside drawing: a batch of them by one block, since each
// is a few dozen bytes of work and a launch is microseconds. And what remembered scores foretell,
// over all of them: 12 bytes an item, 12 more where they are lowered or
// flattened, bound by memory.
#include "memory.cuh"

#include "launch.cuh"
#include "stages.cuh"

namespace isample::cuda {

// ---- A batch ------------------------------------------------------------------------------------

__global__ void __launch_bounds__(128)
    draw_weights_kernel(const int64_t* sums, int64_t items, const int64_t* places, int64_t count,
                        float* weights) {
  for (int64_t i = first_thread(); i < count; i += all_threads())
    weights[i] = weight_by_sums(sums, items, places[i]);
}

__global__ void __launch_bounds__(kMemoryThreads, 1)
    moments_kernel(ScoredBatch batch, Fractions fractions, double* numbers) {
  block_moments(batch, fractions, 0, numbers);
}

__global__ void __launch_bounds__(kMemoryThreads, 1) remember_kernel(RememberTask task) {
  block_remember(task);
}

__global__ void __launch_bounds__(kMemoryThreads, 1) meet_kernel(MeetTask task) {
  block_meet(task);
}

__global__ void __launch_bounds__(kMemoryThreads, 1)
    recall_kernel(ScoredBatch batch, Fractions fractions, double* numbers, RememberTask remember,
                  float* met) {
  block_moments(batch, fractions, remember.size, numbers);
  block_remember(remember);
  block_meet({met, remember.before, remember.fresh, remember.count});
}

static Shape one_block() { return {dim3(1), kMemoryThreads, kScratchBytes}; }

cudaError_t launch_draw_weights(const int64_t* sums, int64_t items, const int64_t* places,
                                int64_t count, float* weights, const Launcher& launcher) {
  if (count == 0) return cudaSuccess;
  return launch(draw_weights_kernel, draw_shape(count, launcher), launcher.stream, sums, items,
                places, count, weights);
}

cudaError_t launch_draw_moments(const ScoredBatch& batch, const Fractions& fractions,
                                double* numbers, const Launcher& launcher) {
  return launch(moments_kernel, one_block(), launcher.stream, batch, fractions, numbers);
}

cudaError_t launch_remember(const RememberTask& task, const Launcher& launcher) {
  return launch(remember_kernel, one_block(), launcher.stream, task);
}

cudaError_t launch_meet(const MeetTask& task, const Launcher& launcher) {
  return launch(meet_kernel, one_block(), launcher.stream, task);
}

cudaError_t launch_recall(const ScoredBatch& batch, const Fractions& fractions, double* numbers,
                          const RememberTask& remember, float* met, const Launcher& launcher) {
  return launch(recall_kernel, one_block(), launcher.stream, batch, fractions, numbers, remember,
                met);
}

// ---- Shuffled passes ----------------------------------------------------------------------------

// 16 bytes an item, and some 50 operations for each of up to four steps of the walk.
__global__ void __launch_bounds__(128) permuted_kernel(PermutedTask task) {
  const Permutation permutation = random_permutation(task.seed, 0, task.size);
  for (int64_t i = first_thread(); i < task.count; i += all_threads())
    task.items[i] = is_place(task.places[i], task.size) ? permutation(task.places[i]) : -1;
}

cudaError_t launch_permuted(const PermutedTask& task, const Launcher& launcher) {
  if (task.count == 0) return cudaSuccess;
  return launch(permuted_kernel, draw_shape(task.count, launcher), launcher.stream, task);
}

// ---- What scores foretell -----------------------------------------------------------------------

namespace {

// What the launches tell each other.
struct Foretold {
  Curve curve;
  float mean;
  Ending ending;
};
constexpr size_t kForetoldBytes = (sizeof(Foretold) + 15) / 16 * 16;

void* partials_of(void* workspace) { return static_cast<char*>(workspace) + kForetoldBytes; }

}  // namespace

__global__ void __launch_bounds__(kStageThreads)
    seen_kernel(ExpectedTask task, Foretold* state, void* partials, int slot) {
  const Span span = block_span(task.size);
  SeenSums own;
  for (int64_t i = span.begin + threadIdx.x; i < span.end; i += blockDim.x) own.add(task.score[i]);
  SeenSums all;
  if (!grid_reduce(block_sum(own), Sum(), partials, slot, all)) return;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) state->mean = all.mean();
  if (thread < kOctaves) state->curve.set_point(task.experience, thread, task.prior);
  __syncthreads();
  if (thread <= kOctaves) state->curve.set_line(thread);
}

__global__ void __launch_bounds__(kStageThreads)
    expected_kernel(ExpectedTask task, Foretold* state, void* partials, int slot) {
  const Span span = block_span(task.size);
  const float mean = state->mean;
  ExpectedSums own;
  for (int64_t i = span.begin + threadIdx.x; i < span.end; i += blockDim.x) {
    const float score = task.score[i], expected = state->curve.at(score >= 0 ? score : mean);
    task.expected[i] = expected;
    own.add(expected, score > task.above);
  }
  ExpectedSums all;
  if (!grid_reduce(block_sum(own), Sum(), partials, slot, all)) return;
  if (threadIdx.x != 0) return;
  state->ending = Ending(all, task.size, task.share, task.gain_cap, task.floor);
  *task.bounded = state->ending.lowers() ? 1.f : 0.f;
}

__global__ void __launch_bounds__(kStageThreads)
    ending_kernel(ExpectedTask task, const Foretold* state) {
  const Ending ending = state->ending;
  if (!ending.lowers() && !ending.flattens) return;
  for (int64_t i = first_thread(); i < task.size; i += all_threads())
    task.expected[i] = ending(task.expected[i], task.score[i] > task.above);
}

size_t expected_workspace_bytes() { return kForetoldBytes + sizeof(ExpectedSums) * kStageBlocks; }

cudaError_t launch_expected_scores(const ExpectedTask& task, void* workspace,
                                   const Launcher& launcher) {
  Shape shape = stage_shape(task.size, launcher);
  if (shape.grid.x == 0) shape.grid.x = 1;  // which says that nothing was bounded
  auto* const state = static_cast<Foretold*>(workspace);
  void* const partials = partials_of(workspace);
  cudaError_t error =
      launch(seen_kernel, shape, launcher.stream, task, state, partials, launcher.slot);
  if (error == cudaSuccess)
    error = launch(expected_kernel, shape, launcher.stream, task, state, partials, launcher.slot);
  const bool may_end = task.above < INFINITY || task.gain_cap < static_cast<double>(INFINITY);
  if (error != cudaSuccess || !may_end) return error;
  return launch(ending_kernel, shape, launcher.stream, task, state);
}

}  // namespace isample::cuda
