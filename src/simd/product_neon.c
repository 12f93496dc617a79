/* Micro kernels of the tiled product for NEON (AArch64); the loops are in product_loops.h.
 *
 * A tile is 6 rows x 1 panel: 24 accumulators, four registers of b and one broadcast of a, 29 of the 32. */
#include "simd/levels.h"

#ifdef KI_ARM
#include <arm_neon.h>

#define LANES 4
#define MR 6
#define WIDTH 4
#define ROW_PANELS 4
#define SMALL_COLS 4
#define SMALL_VECS 4
typedef float32x4_t vec;
typedef uint32x4_t ivec;
typedef float32x4_t gvec;

KI_INLINE vec vec_load(const float *p)
{
    return vld1q_f32(p);
}
KI_INLINE void vec_store(float *p, vec v)
{
    vst1q_f32(p, v);
}
KI_INLINE vec vec_set1(float x)
{
    return vdupq_n_f32(x);
}
KI_INLINE vec vec_add(vec a, vec b)
{
    return vaddq_f32(a, b);
}
KI_INLINE vec vec_min(vec a, vec b)
{
    return vminq_f32(a, b);
}
KI_INLINE vec vec_fma(vec a, vec b, vec c)
{
    return vfmaq_f32(c, a, b);
}
KI_INLINE int vec_any_le(vec a, vec b)
{
    return vmaxvq_u32(vcleq_f32(a, b)) != 0;
}
/* There is no movemask: each lane keeps its own bit, and they are summed. */
KI_INLINE uint32_t bits_of(uint32x4_t lanes)
{
    static const uint32_t bit[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(lanes, vld1q_u32(bit)));
}
KI_INLINE uint32_t vec_mask_le(vec a, vec b)
{
    return bits_of(vcleq_f32(a, b));
}
KI_INLINE ivec ivec_set1(int i)
{
    return vdupq_n_u32((uint32_t)i);
}
KI_INLINE ivec ivec_load(const uint32_t *p)
{
    return vld1q_u32(p);
}
KI_INLINE void ivec_store(uint32_t *p, ivec v)
{
    vst1q_u32(p, v);
}
KI_INLINE ivec vec_lt_select(vec a, vec b, ivec i, ivec j)
{
    return vbslq_u32(vcltq_f32(a, b), j, i);
}

KI_INLINE uint32_t vec_lowest(vec v, ivec i, float *value)
{
    static const uint32_t lane[4] = {0, 1, 2, 3};
    *value = vminvq_f32(v);
    uint32x4_t other = vmvnq_u32(vceqq_f32(v, vdupq_n_f32(*value))); /* all ones, the largest number */
    return vminvq_u32(vorrq_u32(other, vaddq_u32(i, vld1q_u32(lane))));
}

KI_INLINE gvec gvec_load(const float *p)
{
    return vld1q_f32(p);
}
KI_INLINE gvec gvec_fma(float x, gvec v, gvec s)
{
    return vfmaq_n_f32(s, v, x);
}
KI_INLINE uint32_t gvec_mask_eq(gvec v, float x)
{
    return bits_of(vceqq_f32(v, vdupq_n_f32(x)));
}

#include "simd/product_loops.h"

void ki_simd_product_neon(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    enter(table);
}
#endif
