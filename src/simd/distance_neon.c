/* Distances of float32 vectors for NEON (AArch64); the loops are in distance_loops.h. */
#include "simd/levels.h"

#ifdef KI_ARM
#include <arm_neon.h>

#define LANES 4
typedef float32x4_t vec;

KI_INLINE vec vec_zero(void)
{
    return vdupq_n_f32(0);
}
KI_INLINE vec vec_load(const float *p)
{
    return vld1q_f32(p);
}
KI_INLINE vec vec_load_head(const float *p, size_t n)
{
    vec v = vdupq_n_f32(0);
    v = vld1q_lane_f32(p, v, 0);
    if (n > 1) v = vld1q_lane_f32(p + 1, v, 1);
    if (n > 2) v = vld1q_lane_f32(p + 2, v, 2);
    return v;
}
KI_INLINE vec vec_add(vec a, vec b)
{
    return vaddq_f32(a, b);
}
KI_INLINE vec vec_l2sq(vec sum, vec a, vec b)
{
    vec diff = vsubq_f32(a, b);
    return vfmaq_f32(sum, diff, diff);
}
KI_INLINE vec vec_dot(vec sum, vec a, vec b)
{
    return vfmaq_f32(sum, a, b);
}
KI_INLINE vec vec_l1(vec sum, vec a, vec b)
{
    return vaddq_f32(sum, vabdq_f32(a, b));
}
KI_INLINE float vec_reduce(vec v)
{
    vec s = vpaddq_f32(v, v);
    return vgetq_lane_f32(vpaddq_f32(s, s), 0);
}
KI_INLINE void vec_reduce4(const vec v[4], float *out)
{
    vst1q_f32(out, vpaddq_f32(vpaddq_f32(v[0], v[1]), vpaddq_f32(v[2], v[3])));
}

#include "simd/distance_loops.h"

void ki_simd_distance_neon(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    enter(table);
}
#endif
