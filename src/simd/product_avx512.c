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
typedef __m256 gvec;

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
KI_INLINE int vec_any_le(vec a, vec b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ);
}
KI_INLINE uint32_t vec_mask_le(vec a, vec b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ);
}
KI_INLINE ivec ivec_set1(int i)
{
    return _mm512_set1_epi32(i);
}
KI_INLINE ivec ivec_load(const uint32_t *p)
{
    return _mm512_loadu_si512(p);
}
KI_INLINE void ivec_store(uint32_t *p, ivec v)
{
    _mm512_storeu_si512(p, v);
}
KI_INLINE ivec vec_lt_select(vec a, vec b, ivec i, ivec j)
{
    return _mm512_mask_mov_epi32(i, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), j);
}

KI_INLINE uint32_t vec_lowest(vec v, ivec i, float *value)
{
    *value = _mm512_reduce_min_ps(v);
    __mmask16 equal = _mm512_cmp_ps_mask(v, _mm512_set1_ps(*value), _CMP_EQ_OQ);
    i = _mm512_add_epi32(i, _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    return _mm512_mask_reduce_min_epu32(equal, i);
}

KI_INLINE gvec gvec_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
KI_INLINE gvec gvec_fma(float x, gvec v, gvec s)
{
    return _mm256_fmadd_ps(_mm256_set1_ps(x), v, s);
}
KI_INLINE uint32_t gvec_mask_eq(gvec v, float x)
{
    return _mm256_cmp_ps_mask(v, _mm256_set1_ps(x), _CMP_EQ_OQ);
}

#include "simd/product_loops.h"
#include "simd/target_end.h"

void ki_simd_product_avx512(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    enter(table);
}
#endif
