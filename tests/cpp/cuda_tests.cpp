// Runs the kernels' own sources on the stand-in: cuda_tests [first seed] [seeds]. Each seed is another schedule of
// blocks and threads, and other inputs.
#include "cuda_testing.h"

int main(int argc, char** argv) {
  const unsigned long first = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1;
  const unsigned long seeds = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 1;
  for (unsigned long seed = first; seed < first + seeds; ++seed) {
    standin::seed(seed);
    testing::test_scores();
    testing::test_importance_sample();
    testing::test_sampling();
  }
  std::printf("%d failures, %ld launches\n", testing::failures, standin::launches);
  return testing::failures == 0 ? 0 : 1;
}
