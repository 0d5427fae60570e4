// Which memory kernels may read, and when.
#include <utility>
#include <vector>

#include "standin.h"

namespace standin {

static std::vector<std::pair<const char*, size_t>> readable;

void allow_reads(const void* begin, size_t bytes) {
  readable.emplace_back(static_cast<const char*>(begin), bytes);
}

void forbid_reads(const void* begin) {
  std::erase_if(readable, [begin](const auto& range) { return range.first == begin; });
}

void check_read(const void* address, size_t bytes) {
  if (!may_read()) die("a read before the launch before has ended");
  const char* const first = static_cast<const char*>(address);
  for (const auto& [begin, size] : readable)
    if (first >= begin && first + bytes <= begin + size) return;
  if (!readable.empty()) die("a read beside the inputs");
}

}  // namespace standin
