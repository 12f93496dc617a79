/* Sums of product quantisation table entries, plain loops. */
#include "simd/levels.h"

static float pq_sum8(const float *tables, size_t m, const uint8_t *code, float bias)
{
    float sum = bias;
    for (size_t j = 0; j < m; j++) sum += tables[j * 256 + code[j]];
    return sum;
}

static void pq_scan8(const float *tables, size_t m, const uint8_t *codes, size_t n, float bias, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = pq_sum8(tables, m, codes + i * m, bias);
}

static void pq_gather8(const float *tables, size_t m, const void *base, size_t stride_bytes,
                       const uint32_t *rows, size_t n, float bias, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = pq_sum8(tables, m, (const uint8_t *)base + rows[i] * stride_bytes, bias);
}

static void pq_scan16(const float *tables, size_t m, size_t ks, const uint16_t *codes, size_t n, float bias,
                      float *out)
{
    for (size_t i = 0; i < n; i++) {
        float sum = bias;
        for (size_t j = 0; j < m; j++) sum += tables[j * ks + codes[i * m + j]];
        out[i] = sum;
    }
}

void ki_simd_pqscan_scalar(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->pq_scan8 = pq_scan8;
    table->pq_gather8 = pq_gather8;
    table->pq_scan16 = pq_scan16;
}
