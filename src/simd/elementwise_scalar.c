/* Conversions, elementwise operations and reductions, plain loops. */
#include "simd/levels.h"

#include <math.h>
#include <string.h>

static void u8_to_f32(const uint8_t *in, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = (float)in[i];
}

/* Round to nearest, ties to even. */
static uint16_t f16_encode(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* >= 65520 rounds to infinity */
    if (magnitude < 0x38800000u) {                                   /* below 2^-14: a multiple of 2^-24 */
        float scaled = fabsf(value) * 0x1p24f;
        return (uint16_t)(sign | (uint32_t)lrintf(scaled));
    }
    uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (rounded - (112u << 23)) >> 13);
}

static void f16_to_f32(const uint16_t *in, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = ki_f16_decode(in[i]);
}

static void f32_to_f16(const float *in, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i++) out[i] = f16_encode(in[i]);
}

static double sum_f32(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i];
    return sum;
}

static void add_f32(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

static void add_f64(double *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] += (double)x[i];
}

static void add_f64_rows(double *sums, const float *x, size_t n, size_t dim, const uint32_t *which)
{
    for (size_t i = 0; i < n; i++) add_f64(sums + which[i] * dim, x + i * dim, dim);
}

static void axpy_f32(float *y, float a, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] += a * x[i];
}

static void scale_f32(float *y, float a, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] *= a;
}

static void sub_f32(float *out, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = a[i] - b[i];
}

static int finite_f32(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return 0;
    return 1;
}

/* A position is written always, and kept when it counts: no branch to mispredict. */
#define SELECT_LE(name, type)                                                \
    static size_t name(const type *x, size_t n, type limit, uint32_t *index) \
    {                                                                        \
        size_t count = 0;                                                    \
        for (size_t i = 0; i < n; i++) {                                     \
            index[count] = (uint32_t)i;                                      \
            count += x[i] <= limit;                                          \
        }                                                                    \
        return count;                                                        \
    }
SELECT_LE(select_le_f32, float)
SELECT_LE(select_le_s32, int32_t)

static void transpose_f32(const float *x, size_t ldx, size_t rows, size_t cols, float *out, size_t ldo)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) out[c * ldo + r] = x[r * ldx + c];
}

void ki_simd_elementwise_scalar(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->u8_to_f32 = u8_to_f32;
    table->f16_to_f32 = f16_to_f32;
    table->f32_to_f16 = f32_to_f16;
    table->sum_f32 = sum_f32;
    table->add_f32 = add_f32;
    table->add_f64 = add_f64;
    table->add_f64_rows = add_f64_rows;
    table->axpy_f32 = axpy_f32;
    table->scale_f32 = scale_f32;
    table->sub_f32 = sub_f32;
    table->finite_f32 = finite_f32;
    table->select_le_f32 = select_le_f32;
    table->select_le_s32 = select_le_s32;
    table->transpose_f32 = transpose_f32;
}
