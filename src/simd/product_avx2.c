/* Micro kernels of the tiled product for AVX2 and FMA; the loops are in product_loops.h.
 *
 * A tile is 6 rows x 1 panel: 12 accumulators, two registers of b and one broadcast of a, 15 of the 16. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>

#include "simd/target_avx2.h"

#define LANES 8
#define MR 6
#define WIDTH 2
#define ROW_PANELS 4
#define SMALL_COLS 4
#define SMALL_VECS 3
typedef __m256 vec;
typedef __m256i ivec;
typedef __m128 gvec;

KI_INLINE vec vec_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
KI_INLINE void vec_store(float *p, vec v)
{
    _mm256_storeu_ps(p, v);
}
KI_INLINE vec vec_set1(float x)
{
    return _mm256_set1_ps(x);
}
KI_INLINE vec vec_add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}
KI_INLINE vec vec_min(vec a, vec b)
{
    return _mm256_min_ps(a, b);
}
KI_INLINE vec vec_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}
KI_INLINE int vec_any_le(vec a, vec b)
{
    return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LE_OQ));
}
KI_INLINE uint32_t vec_mask_le(vec a, vec b)
{
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LE_OQ));
}
KI_INLINE ivec ivec_set1(int i)
{
    return _mm256_set1_epi32(i);
}
KI_INLINE ivec ivec_load(const uint32_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}
KI_INLINE void ivec_store(uint32_t *p, ivec v)
{
    _mm256_storeu_si256((__m256i *)p, v);
}
KI_INLINE ivec vec_lt_select(vec a, vec b, ivec i, ivec j)
{
    return _mm256_blendv_epi8(i, j, _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_LT_OQ)));
}

KI_INLINE uint32_t vec_lowest(vec v, ivec i, float *value)
{
    vec least = _mm256_min_ps(v, _mm256_permute2f128_ps(v, v, 1));
    least = _mm256_min_ps(least, _mm256_permute_ps(least, 0x4e));
    least = _mm256_min_ps(least, _mm256_permute_ps(least, 0xb1));
    *value = _mm256_cvtss_f32(least);
    ivec other = _mm256_castps_si256(_mm256_cmp_ps(v, least, _CMP_NEQ_UQ)); /* all ones, the largest number */
    i = _mm256_or_si256(other, _mm256_add_epi32(i, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
    i = _mm256_min_epu32(i, _mm256_permute2x128_si256(i, i, 1));
    i = _mm256_min_epu32(i, _mm256_shuffle_epi32(i, 0x4e));
    i = _mm256_min_epu32(i, _mm256_shuffle_epi32(i, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(_mm256_castsi256_si128(i));
}

KI_INLINE gvec gvec_load(const float *p)
{
    return _mm_loadu_ps(p);
}
KI_INLINE gvec gvec_fma(float x, gvec v, gvec s)
{
    return _mm_fmadd_ps(_mm_set1_ps(x), v, s);
}
KI_INLINE uint32_t gvec_mask_eq(gvec v, float x)
{
    return (uint32_t)_mm_movemask_ps(_mm_cmpeq_ps(v, _mm_set1_ps(x)));
}

#include "simd/product_loops.h"
#include "simd/target_end.h"

void ki_simd_product_avx2(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    enter(table);
}
#endif
