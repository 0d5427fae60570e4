// A stand-in for the part of CUDA's execution model that the kernels use, so that g++ compiles
// their own sources and a machine without a GPU runs them. A grid's blocks start in shuffled order
// and take turns, a few at a time; a block's threads are fibers that run, in shuffled order, from
// one synchronisation to the next. Shared memory starts as noise. So a missing barrier, or a value
// that was never written, shows as a wrong result under some seed.
//
// What a real device would leave undefined ends the program with a message: a barrier or shuffle
// that some thread never reaches, a write past the end of shared memory, a vector load beside an
// input, an arrival at a counter without a fence before and after it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

extern Index threadIdx, blockIdx, blockDim, gridDim;  // of the thread that runs now

namespace standin {

extern long launches, overlapping;  // so far; of which may begin while the one before ends

void seed(uint64_t value);  // of all schedules from now on

// Runs `kernel` in every thread of the grid. Blocks have one dimension. With `overlaps`, each
// thread must await the launch before.
void run(Index grid, unsigned threads, size_t shared_bytes, bool overlaps,
         const std::function<void()>& kernel);

// What __ldg and __ldcg may read. Nothing is checked while nothing is allowed.
void allow_reads(const void* begin, size_t bytes);
void forbid_reads(const void* begin);
void check_read(const void* address, size_t bytes);

void barrier();
uint32_t shuffle(unsigned mask, uint32_t value,
                 int source_lane);                  // outside 0...31: the thread's own value
uint32_t arrive(uint32_t* counter, uint32_t last);  // atomicInc
void fence();
void await_launch_before();
bool may_read();  // what the launch before wrote

[[noreturn]] void die(const char* message);  // naming the thread that runs now

}  // namespace standin
