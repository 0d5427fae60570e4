// For a build without CUDA.
#pragma once

namespace isample {

// Gives every op that has a kernel for the CPU alone one for CUDA that raises; in a build with CUDA
// it does nothing. Call it once all ops are registered.
void refuse_cuda();

}  // namespace isample
