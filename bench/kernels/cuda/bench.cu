// Microbenchmark of the CUDA kernels, without Python. Build and run:
//
//     nvcc -std=c++20 -O3 -arch=native -o build/bench_cuda
//         bench/kernels/cuda/bench.cu csrc/cuda/*.cu
//     build/bench_cuda
//
// A line is one call, as a replayed graph of many of them runs it: microseconds (median, 20th and
// 80th percentile of the replays), gigabytes of logits (or of items) a second, and percent of the
// read-only ceiling measured in the same run. "cold": every call has inputs of its own, and before
// a replay five times the L2 cache is overwritten. "warm": one input. With --json, one JSON object
// a line.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "../../../csrc/cuda/kernels.h"
#include "inputs.cuh"

using namespace isample::cuda;
using isample::DrawMethod;

// ---- Timing -------------------------------------------------------------------------------------

struct Bench {
  cudaStream_t stream = nullptr;
  Launcher launcher{};
  size_t l2_bytes = 0;
  char* flush = nullptr;
  double ceiling = 0;  // bytes a second
  bool json = false;
  std::string device;
};

struct Times {
  double median, p20, p80;  // microseconds a call
};

// `call(i)` enqueues call number i of `calls`; they are captured once and replayed.
static Times time_calls(Bench& bench, int calls, bool cold, const std::function<void(int)>& call) {
  call(0);  // loads the kernels, outside the capture
  CHECK(cudaStreamSynchronize(bench.stream));
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  CHECK(cudaStreamBeginCapture(bench.stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < calls; ++i) call(i);
  CHECK(cudaStreamEndCapture(bench.stream, &graph));
  CHECK(cudaGraphInstantiate(&replay, graph, 0));
  cudaEvent_t start, stop;
  CHECK(cudaEventCreate(&start));
  CHECK(cudaEventCreate(&stop));
  std::vector<double> samples;
  for (int repeat = 0; repeat < 45; ++repeat) {
    if (cold) CHECK(cudaMemsetAsync(bench.flush, repeat, 5 * bench.l2_bytes, bench.stream));
    CHECK(cudaEventRecord(start, bench.stream));
    CHECK(cudaGraphLaunch(replay, bench.stream));
    CHECK(cudaEventRecord(stop, bench.stream));
    CHECK(cudaEventSynchronize(stop));
    float milliseconds = 0;
    CHECK(cudaEventElapsedTime(&milliseconds, start, stop));
    if (repeat >= 5) samples.push_back(1000.0 * milliseconds / calls);
  }
  CHECK(cudaEventDestroy(start));
  CHECK(cudaEventDestroy(stop));
  CHECK(cudaGraphExecDestroy(replay));
  CHECK(cudaGraphDestroy(graph));
  std::sort(samples.begin(), samples.end());
  return {samples[samples.size() / 2], samples[samples.size() / 5],
          samples[samples.size() * 4 / 5]};
}

static void report(const Bench& bench, const std::string& what, bool cold, double bytes,
                   const Times& t) {
  const double rate = bytes / (t.median * 1e-6);
  if (bench.json) {
    std::printf(
        "{\"device\": \"%s\", \"case\": \"%s\", \"l2\": \"%s\", \"us\": %.3f, \"us_p20\": %.3f, "
        "\"us_p80\": %.3f, "
        "\"bytes\": %.0f, \"gb_per_s\": %.1f, \"read_ceiling_gb_per_s\": %.1f}\n",
        bench.device.c_str(), what.c_str(), cold ? "cold" : "warm", t.median, t.p20, t.p80, bytes,
        rate / 1e9, bench.ceiling / 1e9);
  } else {
    std::printf("%-58s %-4s %9.2f us (%.2f-%.2f) %8.0f GB/s %5.1f %%\n", what.c_str(),
                cold ? "cold" : "warm", t.median, t.p20, t.p80, rate / 1e9,
                100 * rate / bench.ceiling);
  }
  std::fflush(stdout);
}

// Calls in a graph: enough to hide its launch, few enough to fit memory.
static int calls_for(double bytes) { return static_cast<int>(std::clamp(4e9 / bytes, 2.0, 200.0)); }

// ---- Cases --------------------------------------------------------------------------------------

struct Logits {
  int64_t rows, classes;
  LogitType type;
  double bytes() const {
    return static_cast<double>(rows * classes) * (type == LogitType::float32 ? 4 : 2);
  }
  std::string name() const {
    char text[64];
    std::snprintf(text, sizeof text, "(%ld, %ld) %s", static_cast<long>(rows),
                  static_cast<long>(classes), type == LogitType::float32 ? "float32" : "bfloat16");
    return text;
  }
};

static void bench_logits(Bench& bench, const Logits& shape, int64_t draws) {
  const int sets = calls_for(shape.bytes());
  const size_t elements = static_cast<size_t>(shape.rows * shape.classes),
               rows = static_cast<size_t>(shape.rows);
  const size_t width = shape.type == LogitType::float32 ? 4 : 2,
               set_bytes = (elements * width + 255) / 256 * 256;
  char* logits = device_memory<char>(set_bytes * static_cast<size_t>(sets));
  if (width == 4)
    fill_float<<<2048, 256>>>(reinterpret_cast<float*>(logits),
                              set_bytes * static_cast<size_t>(sets) / 4);
  else
    fill_bfloat16<<<2048, 256>>>(reinterpret_cast<uint16_t*>(logits),
                                 set_bytes * static_cast<size_t>(sets) / 2);
  int64_t* labels = device_memory<int64_t>(rows);
  fill_labels<<<64, 256>>>(labels, rows, shape.classes);
  float *score = device_memory<float>(rows), *loss = device_memory<float>(rows),
        *tau = device_memory<float>(2);
  int64_t* indices = device_memory<int64_t>(static_cast<size_t>(draws));
  float* weights = device_memory<float>(static_cast<size_t>(draws));
  CHECK(cudaMemset(tau, 0, 8));
  CHECK(cudaDeviceSynchronize());
  ScoreTask task = {logits,  shape.type, shape.rows, shape.classes, shape.classes, labels, nullptr,
                    nullptr, -100,       0.0,        score,         loss,          nullptr};
  task.partials = device_memory<char>(partials_bytes(task, bench.launcher));
  void* workspace = device_memory<char>(workspace_bytes(shape.rows, draws, bench.launcher));
  const DistributionTask distribution = {score, shape.rows, 0.0, nullptr, tau, tau + 1, 0.9};
  for (const bool cold : {true, false}) {
    const auto at = [&](int i) {
      ScoreTask own = task;
      own.logits = logits + set_bytes * static_cast<size_t>(cold ? i : 0);
      return own;
    };
    report(bench, "softmax_score " + shape.name(), cold, shape.bytes(),
           time_calls(bench, sets, cold,
                      [&](int i) { CHECK(launch_softmax_score(at(i), bench.launcher)); }));
    for (const auto& [method, name] : {std::pair{DrawMethod::alias, "alias"},
                                       {DrawMethod::systematic, "systematic"},
                                       {DrawMethod::pps, "pps"}}) {
      const DrawTask draw = {method, draws, {1, 2, nullptr, nullptr, 0}, indices, weights};
      report(
          bench, "importance_sample " + shape.name() + ", " + std::to_string(draws) + " " + name,
          cold, shape.bytes(), time_calls(bench, sets, cold, [&](int i) {
            CHECK(launch_importance_sample(at(i), distribution, draw, workspace, bench.launcher));
          }));
    }
  }
  for (void* memory :
       {static_cast<void*>(logits), static_cast<void*>(labels), static_cast<void*>(score),
        static_cast<void*>(loss), static_cast<void*>(tau), static_cast<void*>(indices),
        static_cast<void*>(weights), task.partials, workspace})
    CHECK(cudaFree(memory));
}

static void bench_items(Bench& bench, int64_t n, int64_t draws) {
  const size_t items = static_cast<size_t>(n);
  float *score = device_memory<float>(items), *probabilities = device_memory<float>(items),
        *tau = device_memory<float>(1);
  fill_scores<<<2048, 256>>>(score, items);
  CHECK(cudaDeviceSynchronize());
  const AliasTable table = {device_memory<int64_t>(items), device_memory<int32_t>(items),
                            device_memory<int32_t>(items), device_memory<int64_t>(1), n};
  void* workspace = device_memory<char>(workspace_bytes(n, draws, bench.launcher));
  int64_t* indices = device_memory<int64_t>(static_cast<size_t>(draws));
  float* weights = device_memory<float>(static_cast<size_t>(draws));
  const DistributionTask task = {score, n, 0.0, probabilities, tau, nullptr, 0};
  const DrawTask draw = {DrawMethod::alias, draws, {1, 2, nullptr, nullptr, 0}, indices, weights};
  const std::string size = std::to_string(n) + " items";
  const int calls = 20;
  report(bench, "distribution " + size, false, 8.0 * static_cast<double>(n),
         time_calls(bench, calls, false,
                    [&](int) { CHECK(launch_distribution(task, workspace, bench.launcher)); }));
  report(bench, "alias_table " + size, false, 20.0 * static_cast<double>(n),
         time_calls(bench, calls, false, [&](int) {
           CHECK(launch_alias_table(task, table, workspace, bench.launcher));
         }));
  report(bench, "draw from table of " + size + ", " + std::to_string(draws), false,
         28.0 * static_cast<double>(draws), time_calls(bench, calls, false, [&](int) {
           CHECK(launch_draw_table({table.threshold, table.alias, table.mass, table.total, n}, draw,
                                   bench.launcher));
         }));
  for (const auto& [method, name] : {std::pair{DrawMethod::alias, "alias"},
                                     {DrawMethod::systematic, "systematic"},
                                     {DrawMethod::pps, "pps"}}) {
    DrawTask own = draw;
    own.method = method;
    report(bench, "draw from " + size + ", " + std::to_string(draws) + " " + name, false,
           4.0 * static_cast<double>(n), time_calls(bench, calls, false, [&](int) {
             CHECK(launch_draw(task, own, workspace, bench.launcher, false));
           }));
  }
  for (void* memory :
       {static_cast<void*>(score), static_cast<void*>(probabilities), static_cast<void*>(tau),
        static_cast<void*>(table.threshold), static_cast<void*>(table.alias),
        static_cast<void*>(table.mass), static_cast<void*>(table.total), workspace,
        static_cast<void*>(indices), static_cast<void*>(weights)})
    CHECK(cudaFree(memory));
}

static void measure_ceiling(Bench& bench) {
  const size_t bytes = size_t{2} << 30;
  uint4* data = device_memory<uint4>(bytes / 16);
  fill_float<<<2048, 256>>>(reinterpret_cast<float*>(data), bytes / 4);
  CHECK(cudaDeviceSynchronize());
  const Times t = time_calls(bench, 2, true, [&](int) {
    read_only<<<8 * bench.launcher.multiprocessors, 256, 0, bench.stream>>>(
        data, bytes / 16, reinterpret_cast<unsigned*>(bench.flush));
  });
  CHECK(cudaFree(data));
  bench.ceiling = static_cast<double>(bytes) / (t.median * 1e-6);
  report(bench, "read-only ceiling, 2 GiB", true, static_cast<double>(bytes), t);
}

int main(int argc, char** argv) {
  Bench bench;
  bench.json = argc > 1 && std::strcmp(argv[1], "--json") == 0;
  cudaDeviceProp device;
  CHECK(cudaGetDeviceProperties(&device, 0));
  CHECK(cudaStreamCreateWithFlags(&bench.stream, cudaStreamNonBlocking));
  bench.launcher = {device.multiProcessorCount, device.sharedMemPerBlockOptin, 0, bench.stream,
                    device.major >= 9};
  bench.l2_bytes = static_cast<size_t>(device.l2CacheSize);
  bench.flush = device_memory<char>(5 * bench.l2_bytes);
  bench.device = device.name;
  if (!bench.json)
    std::printf("%s, %d multiprocessors, %.0f MB of L2, CUDA %d\n", device.name,
                device.multiProcessorCount, static_cast<double>(bench.l2_bytes) / 1e6,
                CUDART_VERSION);
  measure_ceiling(bench);
  // those that have targets come first, since the time may be up before the end
  bench_logits(bench, {128, 10, LogitType::float32}, 25);
  bench_logits(bench, {640, 100, LogitType::float32}, 128);
  bench_logits(bench, {1024, 1000, LogitType::float32}, 128);
  bench_logits(bench, {4096, 32000, LogitType::bfloat16}, 512);
  bench_logits(bench, {4096, 32000, LogitType::float32}, 512);
  bench_logits(bench, {8192, 128256, LogitType::bfloat16}, 1024);
  // these have no targets
  bench_logits(bench, {32768, 256, LogitType::bfloat16}, 128);
  bench_logits(bench, {32768, 1024, LogitType::bfloat16}, 128);
  bench_logits(bench, {256, 32000, LogitType::float32}, 64);
  bench_items(bench, 65536, 128);
  bench_items(bench, 1281167, 256);
  bench_items(bench, int64_t{1} << 24, 1024);
  CHECK(cudaStreamDestroy(bench.stream));
  return 0;
}
