// The rows of a gradient: their squared norms, and their products with factors, in one pass.
//
// Bytes: the gradient read once, and written once where there are factors. A row has a block, or
// several where there are too few rows to fill the chip; then the last block adds up their parts,
// in order, so that every launch gives the same.
#include <algorithm>

#include "block.cuh"
#include "launch.cuh"
#include "row.cuh"

namespace isample::cuda {

constexpr int kRowThreads = 256;

template <class T>
__global__ void __launch_bounds__(kRowThreads)
    rows_kernel(RowsTask task, int64_t parts, int64_t part_size, int slot) {
  using V = ValueOf<T>;
  const int64_t row = blockIdx.x / parts, begin = blockIdx.x % parts * part_size;
  const int64_t end = begin + part_size < task.size ? begin + part_size : task.size;
  const T* const source = static_cast<const T*>(task.gradient) + row * task.size;
  T* const result =
      task.factors == nullptr ? nullptr : static_cast<T*>(task.result) + row * task.size;
  const V scale = static_cast<V>(task.scale),
          factor = task.factors == nullptr ? V{1} : V{task.factors[row]};
  double sum = 0.0;
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    const V value = widen(source[i]), scaled = scale * value;
    sum += static_cast<double>(scaled * scaled);
    if (result != nullptr) narrow(factor * value, result + i);
  }
  if (task.squares == nullptr) return;
  sum = block_reduce(sum, Plus());
  if (parts == 1) {
    if (threadIdx.x == 0) task.squares[row] += static_cast<float>(sum);
    return;
  }
  if (threadIdx.x == 0) task.partials[blockIdx.x] = sum;
  if (!is_last_block(slot)) return;
  for (int64_t i = threadIdx.x; i < task.rows; i += blockDim.x) {
    double whole = 0.0;
    for (int64_t part = 0; part < parts; ++part)
      whole += load_fresh(task.partials + i * parts + part);
    task.squares[i] += static_cast<float>(whole);
  }
}

static int64_t row_parts(const RowsTask& task, const Launcher& launcher) {
  constexpr int64_t kLeast = 8192;  // elements that are worth a block
  const int64_t wanted = 4 * int64_t{launcher.multiprocessors} / std::max<int64_t>(task.rows, 1);
  return std::max<int64_t>(1, std::min(wanted, task.size / kLeast));
}

size_t row_partials_bytes(const RowsTask& task, const Launcher& launcher) {
  const int64_t parts = row_parts(task, launcher);
  return parts == 1 ? 0 : sizeof(double) * static_cast<size_t>(task.rows * parts);
}

cudaError_t launch_rows(const RowsTask& task, const Launcher& launcher) {
  if (task.rows == 0 || task.size == 0) return cudaSuccess;
  const int64_t parts = row_parts(task, launcher), part_size = ceil_div(task.size, parts);
  const int threads =
      static_cast<int>(std::min<int64_t>(kRowThreads, ceil_div(part_size, kWarp) * kWarp));
  const Shape shape = {dim3(static_cast<unsigned>(task.rows * parts)), threads, kScratchBytes};
  return with_logit_type(task.type, [&](auto element) {
    return launch(rows_kernel<decltype(element)>, shape, launcher.stream, task, parts, part_size,
                  launcher.slot);
  });
}

}  // namespace isample::cuda
