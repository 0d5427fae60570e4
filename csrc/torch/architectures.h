// Which GPUs the compiled code runs on.
#pragma once

#include <charconv>
#include <string_view>
#include <system_error>

namespace isample {

// One entry of TORCH_CUDA_ARCH_LIST: "8.6", "9.0a" or "10.0+PTX". Code runs on its own major
// version, from its minor one on; with a letter on that device alone; PTX on all that are newer.
// With `least` it must have been compiled for that major version or a later one.
inline bool runs_on(std::string_view entry, int major, int minor, int least) {
  int first = 0, second = 0;
  const char* const end = entry.data() + entry.size();
  const auto [dot, no_major] = std::from_chars(entry.data(), end, first);
  if (no_major != std::errc() || dot == end || *dot != '.')
    return least == 0;  // a name: not known here
  const auto [rest, no_minor] = std::from_chars(dot + 1, end, second);
  if (no_minor != std::errc()) return least == 0;
  if (first < least) return false;
  if (rest != end && *rest == 'a') return major == first && minor == second;
  const bool has_ptx = entry.substr(entry.size() - static_cast<size_t>(end - rest)) == "+PTX";
  if (has_ptx && (major > first || (major == first && minor >= second))) return true;
  return major == first && minor >= second;
}

// `architectures` are those of the build, apart by semicolons or spaces.
inline bool has_code(std::string_view architectures, int major, int minor, int least = 0) {
  while (!architectures.empty()) {
    const size_t end = architectures.find_first_of("; ");
    const std::string_view entry = architectures.substr(0, end);
    if (!entry.empty() && runs_on(entry, major, minor, least)) return true;
    if (end == std::string_view::npos) return false;
    architectures.remove_prefix(end + 1);
  }
  return false;
}

}  // namespace isample
