// Which counter a launch may use to find its last block (see block.cuh). A counter serves one
// launch at a time.
#pragma once

#include <cuda_runtime_api.h>

namespace isample::cuda {

// Launches of one stream follow each other, so a stream has a slot for good. A launch that is
// captured into a graph may run beside anything, so it has a slot of its own until the graph, and
// all that was instantiated from it, is destroyed. Ends with cudaErrorMemoryAllocation when all
// slots are taken.
cudaError_t take_slot(int device, cudaStream_t stream, int* slot);

}  // namespace isample::cuda
