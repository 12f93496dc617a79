/* Bits that differ, from the AVX2 level up: the POPCNT instruction, 8 bytes a cycle, which is faster than what memory
 * delivers to one core and needs no reduction at the end of short codes. */
#include "simd/levels.h"

#ifdef KI_X86
#include <string.h>

#include "simd/target_avx2.h"

KI_INLINE uint64_t word_at(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/* `bytes` is a constant for the usual short codes. Four counters, since POPCNT takes three cycles. */
KI_INLINE uint32_t count(const uint8_t *a, const uint8_t *b, const size_t bytes)
{
    uint64_t sum[4] = {0};
    size_t i = 0;
    for (; i + 32 <= bytes; i += 32)
        for (size_t w = 0; w < 4; w++)
            sum[w] += (uint64_t)__builtin_popcountll(word_at(a + i + 8 * w) ^ word_at(b + i + 8 * w));
    for (; i + 8 <= bytes; i += 8) sum[0] += (uint64_t)__builtin_popcountll(word_at(a + i) ^ word_at(b + i));
    for (; i < bytes; i++) sum[1] += (uint64_t)__builtin_popcountll((uint64_t)(a[i] ^ b[i]));
    return (uint32_t)(sum[0] + sum[1] + sum[2] + sum[3]);
}

static uint32_t hamming(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    return count(a, b, bytes);
}

KI_INLINE void count_rows(const uint8_t *q, const uint8_t *x, size_t n, const size_t bytes, uint32_t *out)
{
    for (size_t i = 0; i < n; i++, x += bytes) out[i] = count(q, x, bytes);
}

static void hamming_rows(const uint8_t *q, const uint8_t *x, size_t n, size_t bytes, uint32_t *out)
{
    switch (bytes) {
    case 8: count_rows(q, x, n, 8, out); break;
    case 16: count_rows(q, x, n, 16, out); break;
    case 32: count_rows(q, x, n, 32, out); break;
    default: count_rows(q, x, n, bytes, out); break;
    }
}

#define AHEAD 8 /* rows to prefetch */

static void hamming_gather(const uint8_t *q, const void *base, size_t stride_bytes, const uint32_t *rows,
                           size_t n, size_t bytes, uint32_t *out)
{
    const uint8_t *x = base;
    for (size_t i = 0; i < AHEAD && i < n; i++) __builtin_prefetch(x + rows[i] * stride_bytes, 0, 3);
    for (size_t i = 0; i < n; i++) {
        if (i + AHEAD < n)
            for (size_t b = 0; b < bytes; b += 64)
                __builtin_prefetch(x + rows[i + AHEAD] * stride_bytes + b, 0, 3);
        out[i] = count(q, x + rows[i] * stride_bytes, bytes);
    }
}

#include "simd/target_end.h"

void ki_simd_hamming_avx2(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->hamming = hamming;
    table->hamming_rows = hamming_rows;
    table->hamming_gather = hamming_gather;
}
#endif
