/* The Walsh-Hadamard transform for NEON (AArch64). */
#include "simd/levels.h"

#ifdef KI_ARM
#include <arm_neon.h>

#define LANES ((size_t)4)
typedef float32x4_t vec;

KI_INLINE vec load(const float *p)
{
    return vld1q_f32(p);
}
KI_INLINE void store(float *p, vec v)
{
    vst1q_f32(p, v);
}
KI_INLINE vec add(vec a, vec b)
{
    return vaddq_f32(a, b);
}
KI_INLINE vec sub(vec a, vec b)
{
    return vsubq_f32(a, b);
}
KI_INLINE vec mul(vec a, vec b)
{
    return vmulq_f32(a, b);
}

KI_INLINE vec within(vec v)
{
    static const uint32_t odd[4] = {0, ~0u, 0, ~0u}, upper[4] = {0, 0, ~0u, ~0u};
    vec other = vrev64q_f32(v);
    v = vbslq_f32(vld1q_u32(odd), vsubq_f32(other, v), vaddq_f32(v, other));
    other = vextq_f32(v, v, 2);
    return vbslq_f32(vld1q_u32(upper), vsubq_f32(other, v), vaddq_f32(v, other));
}

#include "simd/hadamard_loops.h"

void ki_simd_hadamard_neon(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    enter(table);
}
#endif
