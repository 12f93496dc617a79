/* RaBitQ for NEON (AArch64): the scan of blocks; what looks at single rows is left to the compiler's plain loops. */
#include "simd/levels.h"

#ifdef KI_ARM
#include <arm_neon.h>

static float absmax_f32(const float *x, size_t n)
{
    float32x4_t most = vdupq_n_f32(0);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) most = vmaxq_f32(most, vabsq_f32(vld1q_f32(x + i)));
    float found = vmaxvq_f32(most);
    for (; i < n; i++) {
        float value = __builtin_fabsf(x[i]);
        found = value > found ? value : found;
    }
    return found;
}

/* Sums of 16 rows for byte j of their codes. */
KI_INLINE uint8x16_t look_up(const ki_rabitq_query *q, size_t j, uint8x16_t bytes)
{
    const uint8_t *table = q->tables + j / 2 * 128 + j % 2 * 32;
    uint8x16_t low = vqtbl1q_u8(vld1q_u8(table), vandq_u8(bytes, vdupq_n_u8(15)));
    return vaddq_u8(low, vqtbl1q_u8(vld1q_u8(table + 64), vshrq_n_u8(bytes, 4)));
}

KI_INLINE uint32_t block(const ki_rabitq_query *q, const uint8_t *codes, const float *factors, float worst,
                         float *estimate, float *lower)
{
    uint32x4_t sum[8];
    for (size_t i = 0; i < 8; i++) sum[i] = vdupq_n_u32(0);
    for (size_t j = 0; j < q->bytes; j++)
        for (size_t half = 0; half < 2; half++) {
            uint8x16_t found = look_up(q, j, vld1q_u8(codes + KI_RABITQ_ROWS * j + 16 * half));
            uint16x8_t a = vmovl_u8(vget_low_u8(found)), b = vmovl_high_u8(found);
            sum[4 * half] = vaddw_u16(sum[4 * half], vget_low_u16(a));
            sum[4 * half + 1] = vaddw_high_u16(sum[4 * half + 1], a);
            sum[4 * half + 2] = vaddw_u16(sum[4 * half + 2], vget_low_u16(b));
            sum[4 * half + 3] = vaddw_high_u16(sum[4 * half + 3], b);
        }
    uint32_t sums[KI_RABITQ_ROWS], mask = 0;
    for (size_t i = 0; i < 8; i++) vst1q_u32(sums + 4 * i, sum[i]);
    for (size_t r = 0; r < KI_RABITQ_ROWS; r++) {
        float bound,
            near = ki_rabitq_estimate(q, (int32_t)sums[r], factors[r], factors[KI_RABITQ_ROWS + r], &bound);
        if (estimate) estimate[r] = near;
        if (lower) lower[r] = bound;
        mask |= (uint32_t) !(bound > worst) << r;
    }
    return mask;
}

static void rabitq_blocks(const ki_rabitq_query *q, const uint8_t *codes, size_t stride, const float *factors,
                          size_t n, ki_rabitq_ahead ahead, float worst, float *estimate, float *lower,
                          uint32_t *mask)
{
    for (size_t i = 0; i < n; i++, codes += stride, factors += 2 * KI_RABITQ_ROWS) {
        ki_rabitq_fetch(q, ahead, stride, i);
        mask[i] = block(q, codes, factors, worst, estimate ? estimate + i * KI_RABITQ_ROWS : NULL,
                        lower ? lower + i * KI_RABITQ_ROWS : NULL);
    }
}

void ki_simd_rabitq_neon(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->absmax_f32 = absmax_f32;
    table->rabitq_blocks = rabitq_blocks;
}
#endif
