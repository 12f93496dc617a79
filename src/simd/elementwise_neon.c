/* What NEON (AArch64) does better than the scalar loops, which the compiler already turns into NEON code where it is
 * a matter of adding and multiplying. */
#include "simd/levels.h"

#ifdef KI_ARM
#include <arm_neon.h>

/* Bits rather than float16_t pointers: the conversion is part of the baseline, the arithmetic is not. */
static void f16_to_f32(const uint16_t *in, size_t n, float *out)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) vst1q_f32(out + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(in + i))));
    for (; i < n; i++) out[i] = vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(in[i]))), 0);
}

static void f32_to_f16(const float *in, size_t n, uint16_t *out)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) vst1_u16(out + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(in + i))));
    for (; i < n; i++) out[i] = vget_lane_u16(vreinterpret_u16_f16(vcvt_f16_f32(vdupq_n_f32(in[i]))), 0);
}

static void axpy_f32(float *y, float a, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) vst1q_f32(y + i, vfmaq_n_f32(vld1q_f32(y + i), vld1q_f32(x + i), a));
    for (; i < n; i++) y[i] = vgetq_lane_f32(vfmaq_n_f32(vdupq_n_f32(y[i]), vdupq_n_f32(x[i]), a), 0);
}

static size_t select_le_f32(const float *x, size_t n, float limit, uint32_t *index)
{
    float32x4_t most = vdupq_n_f32(limit);
    size_t count = 0, i = 0;
    for (; i + 4 <= n; i += 4) {
        if (!vmaxvq_u32(vcleq_f32(vld1q_f32(x + i), most))) continue;
        for (size_t j = i; j < i + 4; j++)
            if (x[j] <= limit) index[count++] = (uint32_t)j;
    }
    for (; i < n; i++)
        if (x[i] <= limit) index[count++] = (uint32_t)i;
    return count;
}

KI_INLINE void transpose_4x4(const float *x, size_t ldx, float *out, size_t ldo)
{
    float32x4_t r0 = vld1q_f32(x), r1 = vld1q_f32(x + ldx), r2 = vld1q_f32(x + 2 * ldx),
                r3 = vld1q_f32(x + 3 * ldx);
    float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(r0, r1)), b = vreinterpretq_f64_f32(vtrn2q_f32(r0, r1));
    float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(r2, r3)), d = vreinterpretq_f64_f32(vtrn2q_f32(r2, r3));
    vst1q_f32(out, vreinterpretq_f32_f64(vtrn1q_f64(a, c)));
    vst1q_f32(out + ldo, vreinterpretq_f32_f64(vtrn1q_f64(b, d)));
    vst1q_f32(out + 2 * ldo, vreinterpretq_f32_f64(vtrn2q_f64(a, c)));
    vst1q_f32(out + 3 * ldo, vreinterpretq_f32_f64(vtrn2q_f64(b, d)));
}

static void transpose_f32(const float *x, size_t ldx, size_t rows, size_t cols, float *out, size_t ldo)
{
    size_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        size_t c = 0;
        for (; c + 4 <= cols; c += 4) transpose_4x4(x + r * ldx + c, ldx, out + c * ldo + r, ldo);
        for (; c < cols; c++)
            for (size_t i = r; i < r + 4; i++) out[c * ldo + i] = x[i * ldx + c];
    }
    for (size_t c = 0; c < cols; c++)
        for (size_t i = r; i < rows; i++) out[c * ldo + i] = x[i * ldx + c];
}

void ki_simd_elementwise_neon(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->f16_to_f32 = f16_to_f32;
    table->f32_to_f16 = f32_to_f16;
    table->axpy_f32 = axpy_f32;
    table->select_le_f32 = select_le_f32;
    table->transpose_f32 = transpose_f32;
}
#endif
