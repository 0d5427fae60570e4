#include <cstdlib>
#include <stdexcept>
#include <string>

#include "score.h"

namespace isample::cpu {

std::vector<const ScoreLoops*> supported_loops() {
  std::vector<const ScoreLoops*> loops;
#if defined(ISAMPLE_WIDE_LOOPS)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    loops.push_back(&avx512_loops);
  if (avx2) loops.push_back(&avx2_loops);
#endif
  loops.push_back(&baseline_loops);
  return loops;
}

namespace {

const ScoreLoops& choose_loops() {
  const std::vector<const ScoreLoops*> loops = supported_loops();
  const char* wanted = std::getenv("ISAMPLE_CPU");
  if (wanted == nullptr) return *loops.front();
  std::string names;
  for (const ScoreLoops* each : loops) {
    if (each->name == std::string(wanted)) return *each;
    names += (names.empty() ? "" : ", ") + std::string(each->name);
  }
  throw std::runtime_error("ISAMPLE_CPU must name an instruction set that this processor runs (" +
                           names + "), got '" + wanted + "'");
}

}  // namespace

const ScoreLoops& score_loops() {
  static const ScoreLoops& loops = choose_loops();
  return loops;
}

}  // namespace isample::cpu
