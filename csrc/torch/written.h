// What every op asks of an argument that it changes in place, before it changes anything.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <initializer_list>
#include <optional>

namespace isample {

// By the version counter autograd finds out that a tensor which it saved was changed.
inline void count_write(const at::Tensor& tensor) { tensor.unsafeGetTensorImpl()->bump_version(); }

// The bytes of a storage that a tensor's elements lie in, [begin, end).
struct ByteRange {
  int64_t begin, end;

  explicit ByteRange(const at::Tensor& tensor)
      : begin(tensor.storage_offset() * static_cast<int64_t>(tensor.itemsize())), end(begin) {
    if (tensor.numel() == 0) return;
    int64_t last = 0;
    for (int64_t d = 0; d < tensor.dim(); ++d) last += (tensor.size(d) - 1) * tensor.stride(d);
    end += (last + 1) * static_cast<int64_t>(tensor.itemsize());
  }
};

// Whether two tensors may have a byte in common. Columns of one matrix have none.
inline bool share_memory(const at::Tensor& a, const at::Tensor& b) {
  if (!a.has_storage() || !b.has_storage()) return false;
  if (a.storage().unsafeGetStorageImpl() != b.storage().unsafeGetStorageImpl()) return false;
  const ByteRange first(a), second(b);
  if (first.begin >= second.end || second.begin >= first.end) return false;
  if (a.dim() != 1 || b.dim() != 1) return true;
  const int64_t width_a = static_cast<int64_t>(a.itemsize()), step = a.stride(0) * width_a;
  const int64_t width_b = static_cast<int64_t>(b.itemsize());
  if (step <= 0 || step != b.stride(0) * width_b) return true;
  const int64_t apart = ((second.begin - first.begin) % step + step) % step;
  return apart < width_a || apart + width_b > step;
}

struct ReadArgument {
  const char* name;
  const std::optional<at::Tensor>& tensor;
};

inline void check_written(const char* argument, const at::Tensor& tensor,
                          std::initializer_list<ReadArgument> others) {
  TORCH_CHECK_VALUE(!tensor.requires_grad() || !at::GradMode::is_enabled(), argument,
                    " must not require grad, since it is changed in place: detach it");
  TORCH_CHECK(!tensor.is_inference() || c10::InferenceMode::is_enabled(), argument,
              " must not be an inference tensor outside of torch.inference_mode, since it is "
              "changed in place: clone it");
  for (int64_t d = 0; d < tensor.dim(); ++d)
    TORCH_CHECK_VALUE(tensor.stride(d) != 0 || tensor.size(d) <= 1, argument,
                      " must have memory of its own for each element, since it is changed in "
                      "place, got strides ",
                      tensor.strides(), ": clone it");
  for (const ReadArgument& other : others)
    TORCH_CHECK_VALUE(!other.tensor.has_value() || !share_memory(tensor, *other.tensor), argument,
                      " must share no memory with ", other.name,
                      ", since it is changed in place: clone one of them");
}

}  // namespace isample
