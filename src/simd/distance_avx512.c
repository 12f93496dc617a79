/* Distances of float32 vectors for AVX-512; the loops are in distance_loops.h. Tails by masked loads. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>

#include "simd/target_avx512.h"

#define LANES 16
typedef __m512 vec;

KI_INLINE vec vec_zero(void)
{
    return _mm512_setzero_ps();
}
KI_INLINE vec vec_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
KI_INLINE vec vec_load_head(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
KI_INLINE vec vec_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}
KI_INLINE vec vec_l2sq(vec sum, vec a, vec b)
{
    vec diff = _mm512_sub_ps(a, b);
    return _mm512_fmadd_ps(diff, diff, sum);
}
KI_INLINE vec vec_dot(vec sum, vec a, vec b)
{
    return _mm512_fmadd_ps(a, b, sum);
}
KI_INLINE vec vec_l1(vec sum, vec a, vec b)
{
    return _mm512_add_ps(sum, _mm512_abs_ps(_mm512_sub_ps(a, b)));
}

/* Halves are added until four lanes are left. */
KI_INLINE __m128 quarter(vec v)
{
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}
KI_INLINE float vec_reduce(vec v)
{
    __m128 s = quarter(v);
    s = _mm_hadd_ps(s, s);
    return _mm_cvtss_f32(_mm_hadd_ps(s, s));
}
KI_INLINE void vec_reduce4(const vec v[4], float *out)
{
    __m128 s01 = _mm_hadd_ps(quarter(v[0]), quarter(v[1])), s23 = _mm_hadd_ps(quarter(v[2]), quarter(v[3]));
    _mm_storeu_ps(out, _mm_hadd_ps(s01, s23));
}

#include "simd/distance_loops.h"

#include "simd/target_end.h"

void ki_simd_distance_avx512(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    enter(table);
}
#endif
