// Philox4x32-10 against the known answers published with Random123.
#include "check.h"
#include "core/philox.h"

int main() {
  const auto expect = [](uint64_t seed, uint64_t offset, uint64_t index, uint64_t x, uint64_t y) {
    const isample::RandomWords words = isample::philox(seed, offset, index);
    CHECK(words.x == x);
    CHECK(words.y == y);
  };
  const uint64_t ones = ~uint64_t{0};
  expect(0, 0, 0, 0xe169c58d6627e8d5, 0x9b00dbd8bc57ac4c);
  expect(ones, ones, ones, 0x41c83b0e408f276d, 0x6d5451fda20bc7c6);
  expect(0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e, 0x94fdccebd16cfe09,
         0x24126ea15001e420);
  return failures();
}
