// The score loops for processors with AVX512. Standard headers come first: nothing of theirs may be compiled for an
// instruction set that the rest of the program cannot count on.
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cmath>
#include <cstdint>
#include <cstring>

#include "score.h"

#if defined(ISAMPLE_WIDE_LOOPS)
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#define ISAMPLE_LOOPS avx512
#define ISAMPLE_VECTOR_BYTES 64
#define ISAMPLE_MAX_FLOAT _mm512_max_ps
#define ISAMPLE_MAX_DOUBLE _mm512_max_pd
using FloatRegister = __m512;
using DoubleRegister = __m512d;
#include "score_loops.inc"
#endif
