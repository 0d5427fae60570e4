// What the tests of the kernels share: memory whose surroundings are watched, random inputs,
// expectations.
#pragma once

#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <vector>

#include "../../csrc/cuda/kernels.h"

#if defined(__CUDACC__)  // on a GPU
#include <cuda_runtime.h>
#else
#include "standin.h"
#endif

namespace testing {

// Memory that kernels and tests both reach by the same address.
#if defined(__CUDACC__)
template <class T> struct Shared {
  using value_type = T;
  Shared() = default;
  template <class U> Shared(const Shared<U>&) {}
  T* allocate(size_t n) {
    void* memory = nullptr;
    if (cudaHostAlloc(&memory, n * sizeof(T), cudaHostAllocMapped) != cudaSuccess)
      throw std::bad_alloc();
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, size_t) { cudaFreeHost(memory); }
  template <class U> bool operator==(const Shared<U>&) const { return true; }
};
#else
template <class T> using Shared = std::allocator<T>;
#endif

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
#if !defined(__CUDACC__)
    standin::allow_reads(data(), n * sizeof(T));
  }
  ~Fenced() {
    standin::forbid_reads(data());
#endif
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
  std::vector<T, Shared<T>> storage_;
};

// The kernels of a call have run. `launches`: how many there must have been, 0 for any number.
inline void expect_done(cudaError_t error, [[maybe_unused]] long launches = 0) {
#if defined(__CUDACC__)
  if (error == cudaSuccess) error = cudaDeviceSynchronize();
#else
  static long seen = 0;
  const long made = standin::launches - seen;
  seen = standin::launches;
  expect(launches == 0 || made == launches, "%ld launches, expected %ld", made, launches);
#endif
  expect(error == cudaSuccess, "CUDA error %d", static_cast<int>(error));
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
void test_importance_sample();
void test_rows();
void test_memory();
void test_pack();
void test_large();

}  // namespace testing
