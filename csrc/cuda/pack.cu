// A step's numbers, made by several launches, in one row for the host: a copy of their own for each
// would cost more than all of their arithmetic.
#include "block.cuh"
#include "launch.cuh"

namespace isample::cuda {

__device__ __forceinline__ double number(const PackTask::Part& part, int64_t i) {
  switch (part.type) {
    case NumberType::float32: return static_cast<double>(static_cast<const float*>(part.data)[i]);
    case NumberType::float64: return static_cast<const double*>(part.data)[i];
    case NumberType::int64: return static_cast<double>(static_cast<const int64_t*>(part.data)[i]);
    case NumberType::boolean: return static_cast<const bool*>(part.data)[i] ? 1.0 : 0.0;
  }
  return static_cast<double>(NAN);
}

__global__ void __launch_bounds__(128) pack_kernel(PackTask task) {
  for (int k = 0; k < task.count; ++k) {
    const PackTask::Part part = task.parts[k];
    const int64_t end = k + 1 < task.count ? task.parts[k + 1].begin : task.size;
    for (int64_t i = part.begin + threadIdx.x; i < end; i += blockDim.x)
      task.packed[i] = number(part, i - part.begin);
  }
}

cudaError_t launch_pack(const PackTask& task, const Launcher& launcher) {
  if (task.size == 0) return cudaSuccess;
  return launch(pack_kernel, {dim3(1), 128, 0}, launcher.stream, task);
}

}  // namespace isample::cuda
