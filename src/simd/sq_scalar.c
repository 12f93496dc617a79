/* Rows of half floats and of small whole numbers, plain loops: the reference of the other levels. */
#include "simd/levels.h"

#define NAME(x) x

typedef enum op { OP_L2SQ, OP_DOT, OP_L1 } op;

static float f16_row(op o, const float *q, const uint16_t *code, size_t dim)
{
    float sum = 0;
    for (size_t d = 0; d < dim; d++) {
        float x = ki_f16_decode(code[d]), off = q[d] - x;
        sum += o == OP_L2SQ ? off * off : o == OP_DOT ? -(q[d] * x) : fabsf(off);
    }
    return sum;
}

static int32_t sq8_dot(const ki_sq_query *q, const uint8_t *code, size_t dim)
{
    int32_t sum = 0;
    for (size_t d = 0; d < dim; d++) sum += q->wide[d] * code[d];
    return sum;
}

static int32_t sq4_dot(const ki_sq_query *q, const uint8_t *code, size_t half)
{
    const int16_t *second = q->wide + ki_sq_padded(half);
    int32_t sum = 0;
    for (size_t j = 0; j < half; j++) sum += q->wide[j] * (code[j] & 15) + second[j] * (code[j] >> 4);
    return sum;
}

static float sq8_l1_row(const float *a, const float *step, const uint8_t *code, size_t dim)
{
    float sum = 0;
    for (size_t d = 0; d < dim; d++) sum += fabsf(a[d] - step[d] * (float)code[d]);
    return sum;
}

static float sq4_l1_row(const float *a, const float *step, const uint8_t *code, size_t half)
{
    const float *a2 = a + ki_sq_padded(half), *step2 = step + ki_sq_padded(half);
    float sum = 0;
    for (size_t j = 0; j < half; j++)
        sum +=
            fabsf(a[j] - step[j] * (float)(code[j] & 15)) + fabsf(a2[j] - step2[j] * (float)(code[j] >> 4));
    return sum;
}

#include "simd/sq_loops.h"

void ki_simd_sq_scalar(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    enter(table);
}
