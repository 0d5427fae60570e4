#include "standin.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "cuda_runtime.h"
#include "jump.h"

constexpr size_t kSharedBytes = 228 * 1024, kFenceBytes = 4096;
uint4 isample_shared_memory[(kSharedBytes + kFenceBytes) / sizeof(uint4)];

Index threadIdx, blockIdx, blockDim, gridDim;

namespace standin {

long launches = 0, overlapping = 0;

void die(const char* message) {
  std::fprintf(stderr, "stand-in: %s (block %u, %u, thread %u)\n", message, blockIdx.x, blockIdx.y,
               threadIdx.x);
  std::_Exit(3);
}

namespace {

uint64_t random_state = 1;
uint64_t random_word() {  // splitmix64
  uint64_t z = (random_state += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}
size_t random_below(size_t n) { return static_cast<size_t>(((random_word() >> 32) * n) >> 32); }

constexpr int kWarp = 32;
constexpr size_t kStackBytes = 128 * 1024;
constexpr size_t kBlocksAtOnce = 3;

jmp_buf scheduler;
const std::function<void()>* kernel_now;

// A fiber outlives its kernel: when one is over it waits to run the next.
struct Fiber {
  unsigned thread = 0;
  bool released = false;  // a fence since the last barrier
  bool acquired = true;   // a fence since the last arrival at a counter
  bool may_read = true;   // what the launch before wrote
  jmp_buf context;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  bool started = false, done = false;
  uint32_t published[2] = {
      0, 0};  // what the other lanes of a shuffle read; two, for lanes that are one shuffle ahead
  unsigned shuffles = 0;
};

Fiber* current = nullptr;
bool overlaps_now = false;  // this launch may have begun before the one before it has ended

// Back to the scheduler, until it picks this fiber again.
void pause() {
  if (_setjmp(current->context) == 0) jump(scheduler);
}

void fiber_main() {
  for (;;) {
    (*kernel_now)();
    current->done = true;
    pause();
  }
}

void resume(Fiber& fiber) {
  current = &fiber;
  threadIdx.x = fiber.thread;
  if (_setjmp(scheduler) != 0) return;
  if (fiber.started) jump(fiber.context);
  fiber.started = true;
  ucontext_t fresh, unused;
  getcontext(&fresh);
  fresh.uc_stack.ss_sp = fiber.stack.get();
  fresh.uc_stack.ss_size = kStackBytes;
  fresh.uc_link = nullptr;
  makecontext(&fresh, fiber_main, 0);
  swapcontext(&unused, &fresh);
}

struct Warp {
  std::vector<unsigned> ready, at_shuffle;  // threads
  uint64_t priority = 0;
};

struct Block {
  Index index;
  unsigned threads = 0, done = 0;
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<unsigned> waiting;  // at the barrier
  std::vector<Warp> warps;
  Warp* warp_now = nullptr;
  std::vector<char> shared;

  void make_ready(unsigned thread) { warps[thread / kWarp].ready.push_back(thread); }

  void start(Index where, unsigned count, size_t shared_bytes) {
    index = where;
    threads = count;
    done = 0;
    while (fibers.size() < threads) fibers.emplace_back(new Fiber);
    waiting.clear();
    warps.resize((threads + kWarp - 1) / kWarp);
    for (Warp& warp : warps) {
      warp.ready.clear();
      warp.at_shuffle.clear();
      warp.priority = random_word();
    }
    warp_now = nullptr;
    for (unsigned i = 0; i < threads; ++i) {
      Fiber& fiber = *fibers[i];
      fiber.thread = i;
      fiber.done = fiber.released = false;
      fiber.acquired = true;
      fiber.may_read = !overlaps_now;
      fiber.shuffles = 0;
      make_ready(i);
    }
    shared.resize(shared_bytes);
    for (size_t i = 0; i < shared_bytes; i += 8) {
      const uint64_t noise = random_word();
      std::memcpy(&shared[i], &noise, std::min<size_t>(8, shared_bytes - i));
    }
  }

  void release_barrier() {
    if (waiting.size() + done < threads) return;
    for (const unsigned thread : waiting) make_ready(thread);
    waiting.clear();
  }

  // A warp runs on for a while; which one is next, and in which order its threads run, is random.
  // With `by_priority`, some warps run far ahead of others. Null when no thread can run.
  Fiber* pick(bool by_priority) {
    if (warp_now == nullptr || warp_now->ready.empty() || random_below(64) == 0) {
      std::vector<Warp*> candidates;
      for (Warp& warp : warps)
        if (!warp.ready.empty()) candidates.push_back(&warp);
      if (candidates.empty()) return nullptr;
      warp_now = candidates[random_below(candidates.size())];
      if (by_priority && random_below(16) != 0)
        warp_now = *std::max_element(
            candidates.begin(), candidates.end(),
            [](const Warp* a, const Warp* b) { return a->priority < b->priority; });
    }
    std::vector<unsigned>& ready = warp_now->ready;
    std::swap(ready[random_below(ready.size())], ready.back());
    Fiber* const fiber = fibers[ready.back()].get();
    ready.pop_back();
    return fiber;
  }
};

std::vector<std::unique_ptr<Block>> active;
Block* block_now = nullptr;
size_t shared_now = 0;
bool favour_warps = false;  // this launch runs some warps far ahead of others
bool switch_block = false;

constexpr char kFencePattern = 0x5A;
char* shared_bytes() { return reinterpret_cast<char*>(isample_shared_memory); }

void switch_to(Block* next) {
  if (block_now == next) return;
  if (block_now != nullptr) std::copy_n(shared_bytes(), shared_now, block_now->shared.data());
  std::copy_n(next->shared.data(), shared_now, shared_bytes());
  block_now = next;
  blockIdx = next->index;
}

void check_shared_fence() {
  for (size_t i = shared_now; i < shared_now + kFenceBytes; ++i)
    if (shared_bytes()[i] != kFencePattern) die("a write past the end of shared memory");
}

}  // namespace

void seed(uint64_t value) { random_state = value * 0x2545F4914F6CDD1Du + 1; }

void run(Index grid, unsigned threads, size_t bytes, bool overlaps,
         const std::function<void()>& kernel) {
  if (bytes > kSharedBytes || threads == 0 || threads > 1024 || grid.x == 0 || grid.y == 0)
    die("not a launch shape");
  ++launches;
  overlapping += overlaps;
  std::vector<Index> pending;
  for (unsigned y = 0; y < grid.y; ++y)
    for (unsigned x = 0; x < grid.x; ++x) pending.push_back({x, y, 0});
  for (size_t i = pending.size(); i > 1; --i) std::swap(pending[i - 1], pending[random_below(i)]);
  kernel_now = &kernel;
  overlaps_now = overlaps;
  gridDim = grid;
  blockDim = {threads, 1, 1};
  shared_now = bytes;
  block_now = nullptr;
  favour_warps = random_below(2) == 0;
  std::memset(shared_bytes() + bytes, kFencePattern, kFenceBytes);

  static std::vector<std::unique_ptr<Block>> idle;
  while (!pending.empty() || !active.empty()) {
    while (active.size() < kBlocksAtOnce && !pending.empty()) {
      if (idle.empty()) idle.emplace_back(new Block);
      active.push_back(std::move(idle.back()));
      idle.pop_back();
      active.back()->start(pending.back(), threads, bytes);
      pending.pop_back();
    }
    if (block_now == nullptr || switch_block || random_below(4096) == 0)
      switch_to(active[random_below(active.size())].get());
    switch_block = false;
    Block& block = *block_now;
    Fiber* const fiber = block.pick(favour_warps);
    if (fiber == nullptr) die("a barrier or a shuffle that some thread never reaches");
    resume(*fiber);
    if (!fiber->done) continue;
    if (!fiber->may_read) die("a launch that ends without having awaited the one before it");
    if (++block.done < threads) {
      block.release_barrier();
      continue;
    }
    check_shared_fence();
    const auto place = std::find_if(active.begin(), active.end(),
                                    [&](const auto& b) { return b.get() == &block; });
    idle.push_back(std::move(*place));
    active.erase(place);
    block_now = nullptr;
  }
  current = nullptr;
}

void barrier() {
  Fiber& self = *current;
  if (!self.acquired) die("an arrival at a counter with no fence after it");
  self.released = false;
  Block& block = *block_now;
  block.waiting.push_back(self.thread);
  block.release_barrier();
  pause();
}

uint32_t shuffle(unsigned mask, uint32_t value, int source_lane) {
  if (mask != 0xffffffffu || block_now->threads % kWarp != 0) die("a shuffle of less than a warp");
  Fiber& self = *current;
  Block& block = *block_now;
  const unsigned thread = self.thread, warp = thread / kWarp, turn = self.shuffles++ % 2;
  self.published[turn] = value;
  std::vector<unsigned>& here = block.warps[warp].at_shuffle;
  here.push_back(thread);
  if (here.size() == kWarp) {
    block.warps[warp].ready.insert(block.warps[warp].ready.end(), here.begin(), here.end());
    here.clear();
  }
  pause();
  const bool inside = source_lane >= 0 && source_lane < kWarp;
  return inside ? block.fibers[warp * kWarp + static_cast<unsigned>(source_lane)]->published[turn]
                : value;
}

uint32_t arrive(uint32_t* counter, uint32_t last) {
  if (!current->released) die("an arrival at a counter with no fence before it");
  current->acquired = false;
  switch_block = true;
  const uint32_t before = *counter;
  *counter = before >= last ? 0 : before + 1;
  // Other blocks may run before this one hears the answer.
  block_now->make_ready(current->thread);
  pause();
  return before;
}

void await_launch_before() { current->may_read = true; }

bool may_read() { return current->may_read; }

void fence() { current->released = current->acquired = true; }

}  // namespace standin
