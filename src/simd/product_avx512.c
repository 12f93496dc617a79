/* Micro kernels of the tiled product for AVX-512; the loops are in product_loops.h.
 *
 * A tile is 14 rows x 2 panels: 28 accumulators, two registers of b and one broadcast of a, 31 of the 32. Each step
 * along the depth costs 16 loads and 28 multiply-adds, 14 cycles on two FMA units, so that loads (two a cycle)
 * and the front end have room. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>

#include "simd/target_avx512.h"

#define LANES 16
#define MR 14
#define WIDTH 2
#define ROW_PANELS 8
#define SMALL_COLS 8
#define SMALL_VECS 3
typedef __m512 vec;
typedef __m512i ivec;

KI_INLINE vec vec_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
KI_INLINE void vec_store(float *p, vec v)
{
    _mm512_storeu_ps(p, v);
}
KI_INLINE vec vec_set1(float x)
{
    return _mm512_set1_ps(x);
}
KI_INLINE vec vec_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}
KI_INLINE vec vec_min(vec a, vec b)
{
    return _mm512_min_ps(a, b);
}
KI_INLINE vec vec_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}
KI_INLINE int vec_any_lt(vec a, vec b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
KI_INLINE int vec_any_le(vec a, vec b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ);
}
KI_INLINE uint32_t vec_mask_eq(vec a, vec b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}
KI_INLINE uint32_t vec_mask_le(vec a, vec b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ);
}
KI_INLINE float vec_reduce_min(vec v)
{
    return _mm512_reduce_min_ps(v);
}
KI_INLINE ivec ivec_set1(int i)
{
    return _mm512_set1_epi32(i);
}
KI_INLINE void ivec_store(uint32_t *p, ivec v)
{
    _mm512_storeu_si512(p, v);
}
KI_INLINE ivec vec_lt_select(vec a, vec b, ivec i, ivec j)
{
    return _mm512_mask_mov_epi32(i, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), j);
}

/* The first of SMALL_COLS columns whose chain ends at `best`; x[d] lie KI_SMALL_ROWS apart. SMALL_COLS: none. */
KI_INLINE uint32_t column_position(const float *x, size_t k, const float *b, const float *start, float best)
{
    __m256 v = _mm256_loadu_ps(start);
    for (size_t d = 0; d < k; d++)
        v = _mm256_fmadd_ps(_mm256_set1_ps(x[d * KI_SMALL_ROWS]), _mm256_loadu_ps(b + d * KI_PANEL), v);
    return (uint32_t)__builtin_ctz(_mm256_cmp_ps_mask(v, _mm256_set1_ps(best), _CMP_EQ_OQ) |
                                   1u << SMALL_COLS);
}

#include "simd/product_loops.h"
#include "simd/target_end.h"

void ki_simd_product_avx512(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    enter(table);
}
#endif
