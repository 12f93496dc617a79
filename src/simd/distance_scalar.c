/* Distances of float32 vectors, plain loops: the reference of the other levels. */
#include "simd/levels.h"

#include <math.h>

static float l2sq_f32(const float *a, const float *b, size_t dim)
{
    float sum = 0;
    for (size_t d = 0; d < dim; d++) {
        float diff = a[d] - b[d];
        sum += diff * diff;
    }
    return sum;
}

static float dot_f32(const float *a, const float *b, size_t dim)
{
    float sum = 0;
    for (size_t d = 0; d < dim; d++) sum += a[d] * b[d];
    return sum;
}

static float l1_f32(const float *a, const float *b, size_t dim)
{
    float sum = 0;
    for (size_t d = 0; d < dim; d++) sum += fabsf(a[d] - b[d]);
    return sum;
}

static float norm2_f32(const float *a, size_t dim)
{
    return dot_f32(a, a, dim);
}

static float cosine_f32(const float *a, const float *b, size_t dim)
{
    return ki_cosine_of(dot_f32(a, b, dim), norm2_f32(a, dim), norm2_f32(b, dim));
}

static float negdot_f32(const float *a, const float *b, size_t dim)
{
    return -dot_f32(a, b, dim);
}

#define ROWS(metric)                                                                            \
    static void metric##_rows(const float *q, const float *x, size_t n, size_t dim, float *out) \
    {                                                                                           \
        for (size_t i = 0; i < n; i++) out[i] = metric(q, x + i * dim, dim);                    \
    }
#define GATHER(metric)                                                                                       \
    static void metric##_gather(const float *q, const void *base, size_t stride_bytes, const uint32_t *rows, \
                                size_t n, size_t dim, float *out)                                            \
    {                                                                                                        \
        for (size_t i = 0; i < n; i++) out[i] = metric(q, ki_row_at(base, stride_bytes, rows[i]), dim);      \
    }
ROWS(l2sq_f32)
ROWS(dot_f32)
ROWS(negdot_f32)
ROWS(l1_f32)
ROWS(cosine_f32)
GATHER(l2sq_f32)
GATHER(negdot_f32)
GATHER(l1_f32)
GATHER(cosine_f32)

static void norm2_f32_rows(const float *x, size_t stride, size_t n, size_t dim, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = norm2_f32(x + i * stride, dim);
}

void ki_simd_distance_scalar(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->l2sq_f32 = l2sq_f32;
    table->dot_f32 = dot_f32;
    table->l1_f32 = l1_f32;
    table->cosine_f32 = cosine_f32;
    table->norm2_f32 = norm2_f32;
    table->l2sq_f32_rows = l2sq_f32_rows;
    table->dot_f32_rows = dot_f32_rows;
    table->negdot_f32_rows = negdot_f32_rows;
    table->l1_f32_rows = l1_f32_rows;
    table->cosine_f32_rows = cosine_f32_rows;
    table->norm2_f32_rows = norm2_f32_rows;
    table->l2sq_f32_gather = l2sq_f32_gather;
    table->negdot_f32_gather = negdot_f32_gather;
    table->l1_f32_gather = l1_f32_gather;
    table->cosine_f32_gather = cosine_f32_gather;
}
