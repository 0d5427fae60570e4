// Philox4x32-10 (Salmon et al. 2011), a counter-based generator: word number i of a stream is a
// function of (seed, offset, i), so that any thread computes the words of any draw, and CPU and GPU
// agree bit for bit.
#pragma once

#include "host_device.h"

namespace isample {

struct RandomWords {
  uint64_t x, y;
};

ISAMPLE_HD RandomWords philox(uint64_t seed, uint64_t offset, uint64_t index) {
  uint32_t c0 = static_cast<uint32_t>(offset), c1 = static_cast<uint32_t>(offset >> 32);
  uint32_t c2 = static_cast<uint32_t>(index), c3 = static_cast<uint32_t>(index >> 32);
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {(uint64_t{c1} << 32) | c0, (uint64_t{c3} << 32) | c2};
}

}  // namespace isample
