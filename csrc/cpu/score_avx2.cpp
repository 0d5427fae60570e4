// The score loops for processors with AVX2. Standard headers come first: nothing of theirs may be
// compiled for an instruction set that the rest of the program cannot count on.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "score.h"

#if defined(ISAMPLE_WIDE_LOOPS)
#pragma GCC target("avx2,fma")
#define ISAMPLE_LOOPS avx2
#define ISAMPLE_VECTOR_BYTES 32
#if !defined(__clang__)
#define ISAMPLE_MAX_FLOAT(a, b) __builtin_ia32_maxps256(a, b)
#define ISAMPLE_MAX_DOUBLE(a, b) __builtin_ia32_maxpd256(a, b)
#endif
#include "score_loops.inc"
#endif
