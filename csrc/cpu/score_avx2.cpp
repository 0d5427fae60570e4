// The score loops for processors with AVX2. Standard headers come first: nothing of theirs may be compiled for an
// instruction set that the rest of the program cannot count on.
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cmath>
#include <cstdint>
#include <cstring>

#include "score.h"

#if defined(ISAMPLE_WIDE_LOOPS)
#pragma GCC target("avx2,fma")
#define ISAMPLE_LOOPS avx2
#define ISAMPLE_VECTOR_BYTES 32
#define ISAMPLE_MAX_FLOAT _mm256_max_ps
#define ISAMPLE_MAX_DOUBLE _mm256_max_pd
using FloatRegister = __m256;
using DoubleRegister = __m256d;
#include "score_loops.inc"
#endif
