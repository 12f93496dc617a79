/* The Walsh-Hadamard transform for AVX-512: 128 floats pass through all their seven stages in eight registers. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>

#include "simd/target_avx512.h"

#define LANES ((size_t)16)
typedef __m512 vec;

KI_INLINE vec load(const float *p)
{
    return _mm512_loadu_ps(p);
}
KI_INLINE void store(float *p, vec v)
{
    _mm512_storeu_ps(p, v);
}
KI_INLINE vec add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}
KI_INLINE vec sub(vec a, vec b)
{
    return _mm512_sub_ps(a, b);
}
KI_INLINE vec mul(vec a, vec b)
{
    return _mm512_mul_ps(a, b);
}

/* See hadamard_avx2.c. */
KI_INLINE vec within(vec v)
{
    const vec sign1 = _mm512_setr_ps(1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1),
              sign2 = _mm512_setr_ps(1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1),
              sign4 = _mm512_setr_ps(1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1),
              sign8 = _mm512_setr_ps(1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1);
    v = _mm512_fmadd_ps(v, sign1, _mm512_permute_ps(v, 0xb1));
    v = _mm512_fmadd_ps(v, sign2, _mm512_permute_ps(v, 0x4e));
    v = _mm512_fmadd_ps(v, sign4, _mm512_shuffle_f32x4(v, v, 0xb1));
    return _mm512_fmadd_ps(v, sign8, _mm512_shuffle_f32x4(v, v, 0x4e));
}

#include "simd/hadamard_loops.h"
#include "simd/target_end.h"

void ki_simd_hadamard_avx512(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    enter(table);
}
#endif
