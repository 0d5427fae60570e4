// pack: numbers of all its types, more of them than it has threads.
#include "cuda_testing.h"

namespace testing {

void test_pack() {
  using namespace isample::cuda;
  std::snprintf(context, sizeof context, "pack");
  Fenced<float> floats(3, NAN);
  Fenced<double> doubles(200, NAN), packed(3 + 200 + 1 + 2, -1.0);
  Fenced<int64_t> whole(1, -1);
  Fenced<uint8_t> flags(2, 0);
  for (size_t i = 0; i < 3; ++i) floats[i] = 0.5f + static_cast<float>(i);
  for (size_t i = 0; i < 200; ++i) doubles[i] = 1e-3 * static_cast<double>(i);
  whole[0] = (int64_t{1} << 40) + 1;
  flags[1] = 1;
  PackTask task = {};
  task.parts[0] = {floats.data(), NumberType::float32, 0};
  task.parts[1] = {doubles.data(), NumberType::float64, 3};
  task.parts[2] = {whole.data(), NumberType::int64, 203};
  task.parts[3] = {flags.data(), NumberType::boolean, 204};
  task.count = 4;
  task.size = 206;
  task.packed = packed.data();
  expect_runs(1, launch_pack, task, small_chip(227));
  packed.expect_fences("packed");
  for (size_t i = 0; i < 3; ++i) expect(packed[i] == double{floats[i]}, "float %zu", i);
  for (size_t i = 0; i < 200; ++i) expect(packed[3 + i] == doubles[i], "double %zu", i);
  expect(packed[203] == static_cast<double>(whole[0]), "integer");
  expect(packed[204] == 0 && packed[205] == 1, "flags");
  task.size = task.count = 0;
  expect_runs(0, launch_pack, task, small_chip(227));
}

}  // namespace testing
