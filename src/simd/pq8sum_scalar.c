/* Tables of 256 small numbers looked up by the bytes of rows: plain loops. */
#include "simd/levels.h"

static void pq8_sums(const uint8_t *entries, size_t m, const uint8_t *codes, size_t n, float scale,
                     float bias, const float *add, float *out)
{
    for (size_t i = 0; i < n; i++, codes += m) {
        unsigned sum = 0;
        for (size_t j = 0; j < m; j++) sum += entries[j * 256 + codes[j]];
        float value = bias + scale * (float)sum;
        out[i] = add ? value + add[i] : value;
    }
}

void ki_simd_pq8sum_scalar(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->pq8_sums = pq8_sums;
}
