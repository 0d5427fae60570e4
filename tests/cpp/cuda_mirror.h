// Memory that tests see on the host and kernels on the device: a copy on either side.
//
// Real device memory (cudaMalloc), and not memory that both reach by one address, because
// compute-sanitizer watches no other. The stand-in keeps the two sides apart, too.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>

#if defined(__CUDACC__)  // on a GPU
#include <cuda_runtime.h>
#else
#include "standin.h"
#endif

namespace testing {

#if defined(__CUDACC__)
inline void check_cuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(2);
}
inline char* device_allocate(size_t bytes) {
  void* memory = nullptr;
  check_cuda(cudaMalloc(&memory, bytes), "cudaMalloc");
  return static_cast<char*>(memory);
}
inline void device_free(char* memory) { cudaFree(memory); }
inline void upload(char* device, const char* host, size_t bytes) {
  check_cuda(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice), "upload");
}
inline void download(char* host, const char* device, size_t bytes) {
  check_cuda(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost), "download");
}
inline void allow_reads(const char*, size_t) {}
inline void forbid_reads(const char*) {}
#else
inline char* device_allocate(size_t bytes) { return static_cast<char*>(std::malloc(bytes)); }
inline void device_free(char* memory) { std::free(memory); }
inline void upload(char* device, const char* host, size_t bytes) {
  std::memcpy(device, host, bytes);
}
inline void download(char* host, const char* device, size_t bytes) {
  std::memcpy(host, device, bytes);
}
using standin::allow_reads;
using standin::forbid_reads;
#endif

// The device's side of `bytes` at `host`, `first` of them before the `readable` ones. It is there
// from the first launch on, at the same distance from a 16-byte boundary.
class Mirror {
 public:
  Mirror(void* host, size_t bytes, size_t first, size_t readable)
      : host_(static_cast<char*>(host)), bytes_(bytes), first_(first), readable_(readable) {
    all().push_front(this);
    place_ = all().begin();
  }
  ~Mirror() {
    all().erase(place_);
    if (!memory_) return;
    forbid_reads(device_ + first_);
    device_free(memory_);
  }
  Mirror(const Mirror&) = delete;

  static void upload_all() {
    for (Mirror* each : all()) {
      if (!each->memory_) each->allocate();
      upload(each->device_, each->host_, each->bytes_);
    }
  }
  static void download_all() {
    for (Mirror* each : all()) download(each->host_, each->device_, each->bytes_);
  }

  // Where the kernels have what the host has at `pointer`; null, or what is no mirror's, as it is.
  template <class T> static T* on_device(T* pointer) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
    for (const Mirror* each : all()) {
      const uintptr_t offset = address - reinterpret_cast<uintptr_t>(each->host_);
      if (offset < each->bytes_) return reinterpret_cast<T*>(each->device_ + offset);
    }
    return pointer;
  }

 private:
  static std::list<Mirror*>& all() {
    static std::list<Mirror*> mirrors;
    return mirrors;
  }
  void allocate() {
    const size_t past = reinterpret_cast<uintptr_t>(host_) % 16;
    memory_ = device_allocate(bytes_ + 16);  // at a 16-byte boundary
    device_ = memory_ + past;
    allow_reads(device_ + first_, readable_);
  }

  char* host_;
  char *memory_ = nullptr, *device_ = nullptr;
  size_t bytes_, first_, readable_;
  std::list<Mirror*>::iterator place_;
};

}  // namespace testing
