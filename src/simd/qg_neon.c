/* Estimated distances of a quantized graph for NEON: a table look-up of 16 entries at a time. */
#include "simd/levels.h"

#ifdef KI_ARM
#include <arm_neon.h>

/* Four estimates from four sums. */
KI_INLINE void four(const ki_qg_query *q, uint16x4_t sum, const uint16_t *add, const uint16_t *mul,
                    float base, float *value)
{
    float32x4_t along = vfmaq_n_f32(vdupq_n_f32(q->bias), vcvtq_f32_u32(vmovl_u16(sum)), q->scale);
    float32x4_t m = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(mul)));
    float32x4_t a = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(add)));
    vst1q_f32(value, vfmaq_n_f32(vdupq_n_f32(base), vfmaq_f32(a, m, along), q->unit));
}

static size_t near(const ki_qg_query *q, const uint8_t *codes, const uint16_t *add, const uint16_t *mul,
                   size_t blocks, float base, float limit, float *dist, uint32_t *place)
{
    size_t n = 0;
    for (size_t b = 0; b < blocks; b++) {
        uint16x8_t low = vdupq_n_u16(0), high = low;
        for (size_t i = 0; i < q->steps * 4; i++, codes += 16) {
            const uint8_t *table = q->table + i / 4 * KI_QG_STEP_TABLE + i % 4 * 16;
            uint8x16_t code = vld1q_u8(codes);
            uint8x16_t entry = vaddq_u8(vqtbl1q_u8(vld1q_u8(table), vandq_u8(code, vdupq_n_u8(15))),
                                        vqtbl1q_u8(vld1q_u8(table + 64), vshrq_n_u8(code, 4)));
            low = vaddw_u8(low, vget_low_u8(entry));
            high = vaddw_u8(high, vget_high_u8(entry));
        }
        float value[KI_QG_BLOCK];
        size_t at = b * KI_QG_BLOCK;
        four(q, vget_low_u16(low), add + at, mul + at, base, value);
        four(q, vget_high_u16(low), add + at + 4, mul + at + 4, base, value + 4);
        four(q, vget_low_u16(high), add + at + 8, mul + at + 8, base, value + 8);
        four(q, vget_high_u16(high), add + at + 12, mul + at + 12, base, value + 12);
        for (size_t j = 0; j < KI_QG_BLOCK; j++) {
            dist[n] = value[j];
            place[n] = (uint32_t)(at + j);
            n += value[j] < limit;
        }
    }
    return n;
}

void ki_simd_qg_neon(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->qg_near = near;
}
#endif
