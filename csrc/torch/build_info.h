// What was built, for `python -m isample` and for bug reports.
#pragma once

#include <torch/version.h>

#include <map>
#include <string>

#include "../cpu/score.h"

#if !defined( \
    ISAMPLE_CUDA_ARCHITECTURES)  // setup.py defines both: the one is empty where the other is not
#define ISAMPLE_CUDA_ARCHITECTURES ""
#define ISAMPLE_WHY_NO_CUDA "not built by setup.py"
#endif

namespace isample {

inline std::map<std::string, std::string> build_info() {
#if defined(__clang__)
  const std::string compiler = std::string("clang ") + __clang_version__;
#else
  const std::string compiler = std::string("g++ ") + __VERSION__;
#endif
#if defined(_OPENMP)
  const std::string threads = "OpenMP";
#else
  const std::string threads = "one";
#endif
  return {{"compiler", compiler},
          {"torch", TORCH_VERSION},
          {"cpu", cpu::score_loops().name},
          {"threads", threads},
          {"cuda_architectures", ISAMPLE_CUDA_ARCHITECTURES},
          {"why_no_cuda", ISAMPLE_WHY_NO_CUDA}};
}

}  // namespace isample
