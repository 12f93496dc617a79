/* Distances of float32 vectors for AVX2 and FMA; the loops are in distance_loops.h. Tails by masked loads. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>

#include "simd/target_avx2.h"

#define LANES 8
typedef __m256 vec;

static const int32_t head_masks[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

KI_INLINE vec vec_zero(void)
{
    return _mm256_setzero_ps();
}
KI_INLINE vec vec_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
KI_INLINE vec vec_load_head(const float *p, size_t n)
{
    return _mm256_maskload_ps(p, _mm256_loadu_si256((const __m256i *)(head_masks + LANES - n)));
}
KI_INLINE vec vec_add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}
KI_INLINE vec vec_l2sq(vec sum, vec a, vec b)
{
    vec diff = _mm256_sub_ps(a, b);
    return _mm256_fmadd_ps(diff, diff, sum);
}
KI_INLINE vec vec_dot(vec sum, vec a, vec b)
{
    return _mm256_fmadd_ps(a, b, sum);
}
KI_INLINE vec vec_l1(vec sum, vec a, vec b)
{
    return _mm256_add_ps(sum, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), _mm256_sub_ps(a, b)));
}

KI_INLINE __m128 half(vec v)
{
    return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
}
KI_INLINE float vec_reduce(vec v)
{
    __m128 s = half(v);
    s = _mm_hadd_ps(s, s);
    return _mm_cvtss_f32(_mm_hadd_ps(s, s));
}
KI_INLINE void vec_reduce4(const vec v[4], float *out)
{
    __m128 s01 = _mm_hadd_ps(half(v[0]), half(v[1])), s23 = _mm_hadd_ps(half(v[2]), half(v[3]));
    _mm_storeu_ps(out, _mm_hadd_ps(s01, s23));
}

#include "simd/distance_loops.h"

#include "simd/target_end.h"

void ki_simd_distance_avx2(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    enter(table);
}
#endif
