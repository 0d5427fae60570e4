// What the tests of the kernels share: memory whose surroundings are watched, random inputs,
// expectations.
#pragma once

#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <random>
#include <type_traits>
#include <vector>

#include "../../csrc/cuda/kernels.h"
#include "cuda_arguments.h"

namespace testing {

inline int failures = 0;
inline char context[256] = "";  // the case at hand, for messages

__attribute__((format(printf, 2, 3))) inline void expect(bool holds, const char* format, ...) {
  if (holds) return;
  std::fprintf(stderr, "FAILED %s: ", context);
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fprintf(stderr, "\n");
  if (++failures >= 10) std::exit(1);
}

// n elements, `offset` elements past a 16-byte boundary, between two fences. As an input its
// surroundings are `poison`, so that reading too far spoils the result; as an output it starts as
// `poison` too, so that what is not written shows.
template <class T> class Fenced {
 public:
  explicit Fenced(size_t n, T poison, size_t offset = 0)
      : poison_(poison), size_(n), storage_(n + 2 * kFence + 16, poison) {
    const size_t misaligned = reinterpret_cast<uintptr_t>(storage_.data()) % 16 / sizeof(T);
    first_ = kFence + (16 / sizeof(T) - misaligned) % (16 / sizeof(T)) + offset;
    mirror_.emplace(storage_.data(), storage_.size() * sizeof(T), first_ * sizeof(T),
                    n * sizeof(T));
  }
  Fenced(const Fenced&) = delete;
  T* data() { return storage_.data() + first_; }
  const T* data() const { return storage_.data() + first_; }
  T& operator[](size_t i) { return data()[i]; }
  const T& operator[](size_t i) const { return data()[i]; }
  size_t size() const { return size_; }

  void expect_fences(const char* name) const {
    for (size_t i = 0; i < storage_.size(); ++i)
      if (i < first_ || i >= first_ + size_)
        if (std::memcmp(&storage_[i], &poison_, sizeof(T)) != 0)
          return expect(false, "%s was written at %ld of %zu", name, static_cast<long>(i - first_),
                        size_);
  }

 private:
  static constexpr size_t kFence = 64;
  T poison_;
  size_t size_, first_;
  std::vector<T> storage_;
  std::optional<Mirror> mirror_;
};

// Calls `launch` with the arguments that tests know by their host addresses, on the device's copies
// of them, and waits. `launches`: how many kernels it must start, kAnyNumber for any.
inline constexpr long kAnyNumber = -1;

template <class... Parameters>
void expect_runs([[maybe_unused]] long launches, cudaError_t (*launch)(Parameters...),
                 const std::type_identity_t<std::decay_t<Parameters>>&... arguments) {
  Mirror::upload_all();
#if !defined(__CUDACC__)
  const long before = standin::launches;
#endif
  const cudaError_t error = launch(for_device(arguments)...);
  expect(error == cudaSuccess, "CUDA error %d", static_cast<int>(error));
#if defined(__CUDACC__)
  check_cuda(cudaDeviceSynchronize(), context);
#else
  const long made = standin::launches - before;
  expect(launches == kAnyNumber || made == launches, "%ld launches, expected %ld", made, launches);
#endif
  Mirror::download_all();
}

inline bool same_bits(float a, float b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b));
}

// A written output never holds this.
inline constexpr float kUnwritten = -12345.678f;

inline isample::cuda::Launcher small_chip(size_t shared_kilobytes) {
  return {2, shared_kilobytes * 1024, 5, nullptr, true};
}

void test_scores();
void test_cross_entropy();
void test_sampling();
void test_stages();
void test_importance_sample();
void test_rows();
void test_memory();
void test_pack();
void test_large();

}  // namespace testing
