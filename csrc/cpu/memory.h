// Remembering on the CPU: loops over core's formulas. All sizes and pointers are raw, the caller
// has checked them.
#pragma once

#include <cstdint>

#include "../core/foretelling.h"
#include "../core/memory.h"
#include "look.h"

namespace isample::cpu {

void draw_weights(const int64_t* sums, int64_t items, const int64_t* places, int64_t count,
                  float* weights);

// `numbers`: the mean, uniform and importance moments, the least and the largest weight, the mean
// square norm, and what becomes of that where each of `count` fractions of the batch is kept.
void draw_moments(const ScoredBatch& batch, const double* fractions, int count, double* numbers);

// Where a place comes up twice, the later fresh score is blended in and the earlier one is not.
// `before` receives what was remembered before the batch.
void remember(float* memory, const int64_t* places, const float* fresh, int64_t count, double rate,
              float* before);

// Adds to `met`, [kOctaves, kOctaveSums].
void meet(float* met, const float* remembered, const float* fresh, int64_t count);

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
};

// Whether the bound lowered some of them.
bool expected_scores(const ExpectedTask& task, Look look = look_at_nothing);

}  // namespace isample::cpu
