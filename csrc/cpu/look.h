// Long loops in chunks, between which the caller may look up: whether a user has pressed Ctrl-C,
// say. What it throws then leaves the loop.
#pragma once

#include <algorithm>
#include <cstdint>

namespace isample::cpu {

using Look = void (*)();
inline void look_at_nothing() {}

// Some hundredths of a second of work each: a nanosecond or two an item that is met in order, up to
// 100 times as much for one that is met anywhere.
constexpr int64_t kItemsBetweenLooks = int64_t{1} << 22;
constexpr int64_t kPlacesBetweenLooks = int64_t{1} << 17;

// `part(begin, end)` over [0, n), with a look between two chunks.
template <class Part> void in_chunks(int64_t n, int64_t chunk, Look look, const Part& part) {
  for (int64_t begin = 0; begin < n; begin += chunk) {
    if (begin > 0) look();
    part(begin, std::min(n, begin + chunk));
  }
}

}  // namespace isample::cpu
