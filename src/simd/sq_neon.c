/* Rows of half floats and of small whole numbers for NEON (AArch64 baseline). */
#include "simd/levels.h"

#ifdef KI_ARM
#include <arm_neon.h>

#define NAME(x) x

typedef enum op { OP_L2SQ, OP_DOT, OP_L1 } op;

KI_INLINE float32x4_t f16_step(const op o, float32x4_t sum, float32x4_t q, float32x4_t x)
{
    if (o == OP_DOT) return vfmsq_f32(sum, q, x);
    float32x4_t off = vsubq_f32(q, x);
    return o == OP_L2SQ ? vfmaq_f32(sum, off, off) : vaddq_f32(sum, vabsq_f32(off));
}

/* Bits rather than float16_t pointers: the conversion is part of the baseline, the arithmetic is not. */
KI_INLINE float32x4_t halves(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

KI_INLINE float f16_row(const op o, const float *q, const uint16_t *code, size_t dim)
{
    float32x4_t even = vdupq_n_f32(0), odd = even;
    size_t d = 0;
    for (; d + 8 <= dim; d += 8) {
        even = f16_step(o, even, vld1q_f32(q + d), halves(code + d));
        odd = f16_step(o, odd, vld1q_f32(q + d + 4), halves(code + d + 4));
    }
    for (; d < dim; d += 4) {
        float rest_q[4] = {0};
        uint16_t rest[4] = {0};
        for (size_t i = 0; i < 4 && d + i < dim; i++) rest_q[i] = q[d + i], rest[i] = code[d + i];
        even = f16_step(o, even, vld1q_f32(rest_q), halves(rest));
    }
    return vaddvq_f32(vaddq_f32(even, odd));
}

KI_INLINE int32x4_t products(int32x4_t sum, const int16_t *wide, uint8x8_t bytes)
{
    int16x8_t code = vreinterpretq_s16_u16(vmovl_u8(bytes)), w = vld1q_s16(wide);
    sum = vmlal_s16(sum, vget_low_s16(code), vget_low_s16(w));
    return vmlal_s16(sum, vget_high_s16(code), vget_high_s16(w));
}

KI_INLINE int32_t sq8_dot(const ki_sq_query *q, const uint8_t *code, size_t dim)
{
    int32x4_t even = vdupq_n_s32(0), odd = even;
    size_t d = 0;
    for (; d + 16 <= dim; d += 16) {
        uint8x16_t bytes = vld1q_u8(code + d);
        even = products(even, q->wide + d, vget_low_u8(bytes));
        odd = products(odd, q->wide + d + 8, vget_high_u8(bytes));
    }
    int32_t sum = vaddvq_s32(vaddq_s32(even, odd));
    for (; d < dim; d++) sum += q->wide[d] * code[d];
    return sum;
}

KI_INLINE int32_t sq4_dot(const ki_sq_query *q, const uint8_t *code, size_t half)
{
    const int16_t *first = q->wide, *second = q->wide + ki_sq_padded(half);
    int32x4_t low = vdupq_n_s32(0), high = low;
    size_t j = 0;
    for (; j + 8 <= half; j += 8) {
        uint8x8_t bytes = vld1_u8(code + j);
        low = products(low, first + j, vand_u8(bytes, vdup_n_u8(15)));
        high = products(high, second + j, vshr_n_u8(bytes, 4));
    }
    int32_t sum = vaddvq_s32(vaddq_s32(low, high));
    for (; j < half; j++) sum += first[j] * (code[j] & 15) + second[j] * (code[j] >> 4);
    return sum;
}

/* Eight bytes of a row; zeros behind its end. */
KI_INLINE uint8x8_t eight_bytes(const uint8_t *code, size_t at, size_t end)
{
    if (at + 8 <= end) return vld1_u8(code + at);
    uint8_t rest[8] = {0};
    for (size_t i = at; i < end; i++) rest[i - at] = code[i];
    return vld1_u8(rest);
}

KI_INLINE float32x4_t l1_step(float32x4_t sum, const float *a, const float *step, uint8x8_t bytes)
{
    uint16x8_t code = vmovl_u8(bytes);
    float32x4_t first = vcvtq_f32_u32(vmovl_u16(vget_low_u16(code))),
                second = vcvtq_f32_u32(vmovl_u16(vget_high_u16(code)));
    sum = vaddq_f32(sum, vabsq_f32(vfmsq_f32(vld1q_f32(a), vld1q_f32(step), first)));
    return vaddq_f32(sum, vabsq_f32(vfmsq_f32(vld1q_f32(a + 4), vld1q_f32(step + 4), second)));
}

KI_INLINE float sq8_l1_row(const float *a, const float *step, const uint8_t *code, size_t dim)
{
    float32x4_t sum = vdupq_n_f32(0);
    for (size_t d = 0; d < dim; d += 8) sum = l1_step(sum, a + d, step + d, eight_bytes(code, d, dim));
    return vaddvq_f32(sum);
}

KI_INLINE float sq4_l1_row(const float *a, const float *step, const uint8_t *code, size_t half)
{
    const float *a2 = a + ki_sq_padded(half), *step2 = step + ki_sq_padded(half);
    float32x4_t first = vdupq_n_f32(0), second = first;
    for (size_t j = 0; j < half; j += 8) {
        uint8x8_t bytes = eight_bytes(code, j, half);
        first = l1_step(first, a + j, step + j, vand_u8(bytes, vdup_n_u8(15)));
        second = l1_step(second, a2 + j, step2 + j, vshr_n_u8(bytes, 4));
    }
    return vaddvq_f32(vaddq_f32(first, second));
}

#include "simd/sq_loops.h"

void ki_simd_sq_neon(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    enter(table);
}
#endif
