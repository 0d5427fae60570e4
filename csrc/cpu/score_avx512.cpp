// The score loops for processors with AVX512. Standard headers come first: nothing of theirs may be
// compiled for an instruction set that the rest of the program cannot count on.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "score.h"

#if defined(ISAMPLE_WIDE_LOOPS)
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#define ISAMPLE_LOOPS avx512
#define ISAMPLE_VECTOR_BYTES 64
#if !defined(__clang__)
#define ISAMPLE_MAX_FLOAT(a, b) __builtin_ia32_maxps512_mask(a, b, decltype(a){}, -1, 4)
#define ISAMPLE_MAX_DOUBLE(a, b) __builtin_ia32_maxpd512_mask(a, b, decltype(a){}, -1, 4)
#endif
#include "score_loops.inc"
#endif
