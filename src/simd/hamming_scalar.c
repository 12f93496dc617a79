/* Bits that differ, plain loops. */
#include "simd/levels.h"

#include <string.h>

static uint32_t hamming(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    uint32_t count = 0;
    size_t i = 0;
    for (; i + 8 <= bytes; i += 8) {
        uint64_t wa, wb;
        memcpy(&wa, a + i, 8);
        memcpy(&wb, b + i, 8);
        count += (uint32_t)__builtin_popcountll(wa ^ wb);
    }
    for (; i < bytes; i++) count += (uint32_t)__builtin_popcount(a[i] ^ b[i]);
    return count;
}

static void hamming_rows(const uint8_t *q, const uint8_t *x, size_t n, size_t bytes, uint32_t *out)
{
    for (size_t i = 0; i < n; i++) out[i] = hamming(q, x + i * bytes, bytes);
}

static void hamming_gather(const uint8_t *q, const void *base, size_t stride_bytes, const uint32_t *rows,
                           size_t n, size_t bytes, uint32_t *out)
{
    for (size_t i = 0; i < n; i++) out[i] = hamming(q, (const uint8_t *)base + rows[i] * stride_bytes, bytes);
}

void ki_simd_hamming_scalar(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->hamming = hamming;
    table->hamming_rows = hamming_rows;
    table->hamming_gather = hamming_gather;
}
