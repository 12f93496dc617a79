/* Bits that differ for NEON (AArch64): CNT counts the bits of bytes, widening additions sum them. */
#include "simd/levels.h"

#ifdef KI_ARM
#include <arm_neon.h>
#include <string.h>

static uint32_t hamming(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    uint64x2_t sum = vdupq_n_u64(0);
    size_t i = 0;
    while (i + 16 <= bytes) {
        uint8x16_t count = vdupq_n_u8(0); /* at most 31 times 8 to a byte */
        for (size_t end = bytes - i > 31 * 16 ? i + 31 * 16 : bytes; i + 16 <= end; i += 16)
            count = vaddq_u8(count, vcntq_u8(veorq_u8(vld1q_u8(a + i), vld1q_u8(b + i))));
        sum = vpadalq_u32(sum, vpaddlq_u16(vpaddlq_u8(count)));
    }
    uint32_t total = (uint32_t)vaddvq_u64(sum);
    if (i + 8 <= bytes) {
        total += vaddv_u8(vcnt_u8(veor_u8(vld1_u8(a + i), vld1_u8(b + i))));
        i += 8;
    }
    uint8_t rest[2][8] = {{0}};
    memcpy(rest[0], a + i, bytes - i);
    memcpy(rest[1], b + i, bytes - i);
    return total + vaddv_u8(vcnt_u8(veor_u8(vld1_u8(rest[0]), vld1_u8(rest[1]))));
}

static void hamming_rows(const uint8_t *q, const uint8_t *x, size_t n, size_t bytes, uint32_t *out)
{
    if (bytes == 8) {
        uint8x8_t query = vld1_u8(q);
        for (size_t i = 0; i < n; i++, x += 8) out[i] = vaddv_u8(vcnt_u8(veor_u8(query, vld1_u8(x))));
        return;
    }
    for (size_t i = 0; i < n; i++, x += bytes) out[i] = hamming(q, x, bytes);
}

static void hamming_gather(const uint8_t *q, const void *base, size_t stride_bytes, const uint32_t *rows,
                           size_t n, size_t bytes, uint32_t *out)
{
    enum { AHEAD = 8 };
    const uint8_t *x = base;
    for (size_t i = 0; i < n; i++) {
        if (i + AHEAD < n) __builtin_prefetch(x + rows[i + AHEAD] * stride_bytes, 0, 3);
        out[i] = hamming(q, x + rows[i] * stride_bytes, bytes);
    }
}

void ki_simd_hamming_neon(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->hamming = hamming;
    table->hamming_rows = hamming_rows;
    table->hamming_gather = hamming_gather;
}
#endif
