// The score loops for any processor: vectors of 16 bytes, which SSE2 and NEON have.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "score.h"

#define ISAMPLE_LOOPS baseline
#define ISAMPLE_VECTOR_BYTES 16
#include "score_loops.inc"
