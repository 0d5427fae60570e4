#include "slots.h"

#include <cstdint>
#include <map>
#include <mutex>
#include <numeric>
#include <utility>
#include <vector>

#include "kernels.h"

namespace isample::cuda {
namespace {

struct Slots {
  std::mutex mutex;
  std::vector<int> free = std::vector<int>(kSlots);
  std::map<std::pair<int, cudaStream_t>, int> of_stream;

  Slots() { std::iota(free.begin(), free.end(), 0); }

  // -1 if there is none. The caller holds the mutex.
  int take() {
    if (free.empty()) return -1;
    const int slot = free.back();
    free.pop_back();
    return slot;
  }
};

Slots& slots() {
  static Slots& everlasting = *new Slots;  // graphs may be destroyed after main() has returned
  return everlasting;
}

void give_back(void* slot) {
  const std::lock_guard<std::mutex> lock(slots().mutex);
  slots().free.push_back(static_cast<int>(reinterpret_cast<intptr_t>(slot)));
}

cudaError_t capture_of(cudaStream_t stream, cudaStreamCaptureStatus* status, cudaGraph_t* graph) {
#if CUDART_VERSION >= 13000
  return cudaStreamGetCaptureInfo(stream, status, nullptr, graph, nullptr, nullptr, nullptr);
#else
  return cudaStreamGetCaptureInfo_v2(stream, status, nullptr, graph, nullptr, nullptr);
#endif
}

}  // namespace

cudaError_t take_slot(int device, cudaStream_t stream, int* slot) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  cudaGraph_t graph = nullptr;
  cudaError_t error = capture_of(stream, &status, &graph);
  if (error != cudaSuccess) return error;
  std::unique_lock<std::mutex> lock(slots().mutex);
  if (status != cudaStreamCaptureStatusActive) {
    const auto [place, is_new] = slots().of_stream.try_emplace({device, stream}, -1);
    if (place->second < 0) place->second = slots().take();
    *slot = place->second;
    return *slot < 0 ? cudaErrorMemoryAllocation : cudaSuccess;
  }
  *slot = slots().take();
  lock.unlock();  // the calls below may run give_back
  if (*slot < 0) return cudaErrorMemoryAllocation;
  cudaUserObject_t owner = nullptr;
  void* const name = reinterpret_cast<void*>(static_cast<intptr_t>(*slot));
  error = cudaUserObjectCreate(&owner, name, give_back, 1, cudaUserObjectNoDestructorSync);
  if (error != cudaSuccess) {
    give_back(name);
    return error;
  }
  error = cudaGraphRetainUserObject(graph, owner, 1, cudaGraphUserObjectMove);
  if (error != cudaSuccess) cudaUserObjectRelease(owner, 1);
  return error;
}

}  // namespace isample::cuda
