// Scores of rows of logits on the CPU: one task, described by raw pointers, that any thread runs a
// range of rows of.
#pragma once

#include <cstdint>
#include <vector>

#include "rows.h"

namespace isample::cpu {

// Arithmetic is in float, for float64 logits in double; `soft`, `weight` and their sums are stored
// in that type.
struct ScoreTask {
  const void* logits;
  LogitType type;
  int64_t row_stride;  // in elements; the classes of a row lie side by side
  int64_t classes;
  const int64_t* labels;  // hard targets, or null:
  const void* soft;       // probabilities [rows, classes], contiguous
  const void* weight;     // class weights [classes], or null
  double weight_sum;      // their sum, `classes` without any
  int64_t ignore_index;
  double smoothing;
  float* score;
  float* loss;
};

// The loops of one instruction set.
struct ScoreLoops {
  const char* name;
  void (*rows)(const ScoreTask& task, int64_t begin, int64_t end);
  void (*pass_rows)(const RowsTask& task, int64_t begin, int64_t end);
};

extern const ScoreLoops baseline_loops;
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define ISAMPLE_WIDE_LOOPS 1
extern const ScoreLoops avx2_loops, avx512_loops;
#endif

// Those that this processor runs, widest first.
std::vector<const ScoreLoops*> supported_loops();

// The widest this processor runs, or what the environment variable ISAMPLE_CPU (avx512, avx2,
// baseline) asks for. Chosen at the first call, once. Throws std::runtime_error for a name that is
// unknown or does not run here.
const ScoreLoops& score_loops();

}  // namespace isample::cpu
