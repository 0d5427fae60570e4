// Runs the kernels: cuda_tests [first seed] [seeds] [suite], where "all" leaves out "large". On the
// stand-in each seed is another schedule of blocks and threads. The same sources, compiled by nvcc,
// run on a GPU (standin/build.py --device), where they are what compute-sanitizer is given.
#include <string>
#include <utility>

#include "cuda_testing.h"

int main(int argc, char** argv) {
  const unsigned long first = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1;
  const unsigned long seeds = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 1;
  const std::string suite = argc > 3 ? argv[3] : "all";
  const std::pair<const char*, void (*)()> suites[] = {
      {"scores", testing::test_scores},
      {"cross-entropy", testing::test_cross_entropy},
      {"importance", testing::test_importance_sample},
      {"sampling", testing::test_sampling},
      {"stages", testing::test_stages},
      {"rows", testing::test_rows},
      {"memory", testing::test_memory},
      {"pack", testing::test_pack},
      {"large", testing::test_large}};
  bool known = suite == "all";
  for (const auto& [name, test] : suites) known = known || suite == name;
  if (!known) {
    std::fprintf(stderr,
                 "the suite must be scores, cross-entropy, importance, sampling, stages, rows, "
                 "memory, pack, large or all, got %s\n",
                 suite.c_str());
    return 2;
  }
#if defined(__CUDACC__)
  if (const cudaError_t error = cudaFree(nullptr); error != cudaSuccess) {
    std::fprintf(stderr, "no CUDA device: %s\n", cudaGetErrorString(error));
    return 2;
  }
#endif
  for (unsigned long seed = first; seed < first + seeds; ++seed) {
#if !defined(__CUDACC__)
    standin::seed(seed);
#endif
    for (const auto& [name, test] : suites)
      if (suite == name || (suite == "all" && test != testing::test_large)) test();
  }
  std::printf("%d failures\n", testing::failures);
  return testing::failures == 0 ? 0 : 1;
}
