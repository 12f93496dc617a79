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
KI_INLINE int vec_any_lt(vec a, vec b)
{
    return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
KI_INLINE int vec_any_le(vec a, vec b)
{
    return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LE_OQ));
}
KI_INLINE uint32_t vec_mask_eq(vec a, vec b)
{
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ));
}
KI_INLINE uint32_t vec_mask_le(vec a, vec b)
{
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LE_OQ));
}
KI_INLINE float vec_reduce_min(vec v)
{
    __m128 s = _mm_min_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_min_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_min_ss(s, _mm_movehdup_ps(s)));
}
KI_INLINE ivec ivec_set1(int i)
{
    return _mm256_set1_epi32(i);
}
KI_INLINE void ivec_store(uint32_t *p, ivec v)
{
    _mm256_storeu_si256((__m256i *)p, v);
}
KI_INLINE ivec vec_lt_select(vec a, vec b, ivec i, ivec j)
{
    return _mm256_blendv_epi8(i, j, _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_LT_OQ)));
}

/* The first of SMALL_COLS columns whose chain ends at `best`; x[d] lie KI_SMALL_ROWS apart. SMALL_COLS: none. */
KI_INLINE uint32_t column_position(const float *x, size_t k, const float *b, const float *start, float best)
{
    __m128 v = _mm_loadu_ps(start);
    for (size_t d = 0; d < k; d++)
        v = _mm_fmadd_ps(_mm_set1_ps(x[d * KI_SMALL_ROWS]), _mm_loadu_ps(b + d * KI_PANEL), v);
    unsigned equal = (unsigned)_mm_movemask_ps(_mm_cmpeq_ps(v, _mm_set1_ps(best)));
    return (uint32_t)__builtin_ctz(equal | 1u << SMALL_COLS);
}

#include "simd/product_loops.h"
#include "simd/target_end.h"

void ki_simd_product_avx2(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    enter(table);
}
#endif
