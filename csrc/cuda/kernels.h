// The CUDA side of isample without torch: what each launcher takes, as raw device pointers. Every
// launcher enqueues on `stream` of the current device and returns at once; none of them waits for
// the device. Sizes have been checked.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "../core/draws.h"
#include "../core/mean.h"
#include "../core/memory.h"

namespace isample::cuda {

// What a launch shape depends on. Results after the scores do not depend on it.
struct Launcher {
  int multiprocessors;
  size_t shared_bytes;  // the most shared memory that a block may have
  // Of the counter by which a launch knows its last block; one launch at a time may use it.
  int slot;
  cudaStream_t stream;
  bool can_overlap;  // launches: the code that runs was compiled for 9.0 or later
};

// Slots are zero when the module is loaded and after every launch.
constexpr int kSlots = 1 << 14;

// ---- Score --------------------------------------------------------------------------------------

enum class LogitType { float32, bfloat16, float16, float64 };

// Arithmetic is in float, for float64 logits in double; `soft` and `weight` are stored in that
// type.
struct ScoreTask {
  const void* logits;
  LogitType type;
  int64_t rows, classes;
  int64_t row_stride;     // in elements; the classes of a row lie side by side
  const int64_t* labels;  // hard targets, or null:
  const void* soft;       // probabilities [rows, classes], contiguous
  const void* weight;     // class weights [classes], or null
  int64_t ignore_index;
  double smoothing;
  float* score;
  float* loss;
  void* partials;  // partials_bytes() of scratch, or null if that is 0
};

// Scratch for rows that are split over blocks.
size_t partials_bytes(const ScoreTask& task, const Launcher& launcher);
cudaError_t launch_softmax_score(const ScoreTask& task, const Launcher& launcher);

// ---- Cross-entropy ------------------------------------------------------------------------------

// Of the loss that a batch learns from, the mean of w_i L_i: scores, the mean, and its gradient
// with respect to the logits. With `ratio` the mean is one over what the labels count: `mean` is
// the mean over rows times `ratio`, the gradient still that of the mean over rows.
struct CrossEntropyTask {
  ScoreTask rows;
  const float* weights;  // w [rows], or null: all are 1
  void* gradient;        // [rows, classes] contiguous, in the type of the arithmetic; or null
  float* mean;           // NaN of no rows
  double* count;         // what the labels count in all, and
  double* ratio;         // rows over it; or both null
  MeanSums* partials;    // cross_entropy_partials() of them
};

size_t cross_entropy_partials(const ScoreTask& rows, const Launcher& launcher);
cudaError_t launch_cross_entropy(const CrossEntropyTask& task, const Launcher& launcher);

// ---- Rows of a gradient -------------------------------------------------------------------------

// Rows of `size` elements, one behind the other.
struct RowsTask {
  const void* gradient;
  LogitType type;
  int64_t rows, size;
  double scale;
  float* squares;        // to which ||scale row||^2 is added, or null
  const float* factors;  // or null:
  void* result;          // the products, of the type of the gradient
  double* partials;      // row_partials_bytes() of scratch, or null if that is 0
};

size_t row_partials_bytes(const RowsTask& task, const Launcher& launcher);
cudaError_t launch_rows(const RowsTask& task, const Launcher& launcher);

// ---- Distribution, table, draws -----------------------------------------------------------------

struct DistributionTask {
  const float* score;
  int64_t n;
  double floor;
  float* probabilities;  // or null
  float* tau;            // or null
  float* tau_ema;        // or null
  double momentum;
};

// To be filled, or to be drawn from.
template <class Wide, class Narrow> struct TablePointers {
  Wide* threshold;
  Narrow* alias;
  Narrow* mass;
  Wide* total;
  int64_t n;
};
using AliasTable = TablePointers<int64_t, int32_t>;
using ConstAliasTable = TablePointers<const int64_t, const int32_t>;

// The seed and offset of a stream of random words, or where a captured graph finds them when it is
// replayed.
struct RandomSource {
  uint64_t seed, offset;
  const int64_t* seed_address;  // not null: read both from the device
  const int64_t* offset_address;
  uint64_t offset_in_graph;
};

struct DrawTask {
  DrawMethod method;
  int64_t count;
  RandomSource random;
  int64_t* indices;
  float* weights;
};

// Scratch for n items; 0 where one block does it all in shared memory.
size_t workspace_bytes(int64_t n, int64_t count, const Launcher& launcher);

cudaError_t launch_distribution(const DistributionTask& task, void* workspace,
                                const Launcher& launcher);
cudaError_t launch_alias_table(const DistributionTask& task, const AliasTable& table,
                               void* workspace, const Launcher& launcher);
// `follows`: the launch before it is the one that made the scores, and it may begin while that
// ends.
cudaError_t launch_draw(const DistributionTask& task, const DrawTask& draw, void* workspace,
                        const Launcher& launcher, bool follows);
// `sums` [n]: the inclusive prefix sums of the masses; all 0 where a score is not valid.
cudaError_t launch_prefix_sum(const DistributionTask& task, int64_t* sums, void* workspace,
                              const Launcher& launcher);
// `draw.method` is not looked at: the points are stratified, or systematic.
cudaError_t launch_draw_prefix_sum(const int64_t* sums, int64_t n, bool stratified,
                                   const DrawTask& draw, const Launcher& launcher);
cudaError_t launch_draw_table(const ConstAliasTable& table, const DrawTask& draw,
                              const Launcher& launcher);

// ---- Remembering --------------------------------------------------------------------------------

// Of a batch, each kept.
struct Fractions {
  double values[kMaxFractions];
  int count;
};

// A place outside [0, size) is passed over.
struct RememberTask {
  float* memory;
  int64_t size;
  const int64_t* places;
  const float* fresh;
  int64_t count;
  double rate;
  float* before;  // what was remembered before the batch; NaN for a place outside
};

struct MeetTask {
  float* met;  // [kOctaves, kOctaveSums]
  const float* remembered;
  const float* fresh;
  int64_t count;
};

struct ExpectedTask {
  const float* score;  // remembered
  int64_t size;
  const float* experience;  // [kOctaves, kOctaveSums]
  double prior;
  float above;  // what is above it is contradicted; INFINITY: nothing is
  double share;
  double gain_cap;  // of a draw, for which they are flattened; INFINITY: they are not
  double floor;     // that a table of them will mix in
  float* expected;
  float* bounded;  // 1 where the bound lowered some of them, else 0
};

// One launch each. `numbers` are those of cpu/memory.h.
cudaError_t launch_draw_weights(const int64_t* sums, int64_t items, const int64_t* places,
                                int64_t count, float* weights, const Launcher& launcher);
cudaError_t launch_draw_moments(const ScoredBatch& batch, const Fractions& fractions,
                                double* numbers, const Launcher& launcher);
cudaError_t launch_remember(const RememberTask& task, const Launcher& launcher);
cudaError_t launch_meet(const MeetTask& task, const Launcher& launcher);
// All of it: draws' weights by the batch's sums, moments, remembering and meeting. One launch.
cudaError_t launch_recall(const ScoredBatch& batch, const Fractions& fractions, double* numbers,
                          const RememberTask& remember, float* met, const Launcher& launcher);

// Three launches, two where nothing can be contradicted and nothing is flattened.
size_t expected_workspace_bytes();
cudaError_t launch_expected_scores(const ExpectedTask& task, void* workspace,
                                   const Launcher& launcher);

// ---- Shuffled passes ----------------------------------------------------------------------------

// A place outside [0, size) gives -1.
struct PermutedTask {
  const int64_t* places;
  int64_t count, size;
  uint64_t seed;
  int64_t* items;
};

cudaError_t launch_permuted(const PermutedTask& task, const Launcher& launcher);

// ---- What a step tells --------------------------------------------------------------------------

// Numbers from several places, as float64, one behind the other.
constexpr int kMostPacked = 16;
enum class NumberType { float32, float64, int64, boolean };
struct PackTask {
  struct Part {
    const void* data;
    NumberType type;
    int64_t begin;  // in `packed`
  };
  Part parts[kMostPacked];
  int count;
  int64_t size;  // in all
  double* packed;
};

cudaError_t launch_pack(const PackTask& task, const Launcher& launcher);

// ---- All of it ----------------------------------------------------------------------------------

// Scores, tau and draws. One launch for up to 4096 rows of hard targets and 20 MB of logits.
cudaError_t launch_importance_sample(const ScoreTask& score, const DistributionTask& task,
                                     const DrawTask& draw, void* workspace,
                                     const Launcher& launcher);

}  // namespace isample::cuda
