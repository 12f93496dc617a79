/* Sums of product quantisation table entries for AArch64: plain loads, as there is no gather, with the bytes of a code
 * taken apart in registers. Four sums make four independent chains of additions. */
#include "simd/levels.h"

#ifdef KI_ARM
#include <string.h>

KI_INLINE float sum8(const float *t, size_t m, const uint8_t *code, float bias)
{
    float s[4] = {bias, 0, 0, 0};
    size_t j = 0;
    for (; j + 8 <= m; j += 8) {
        uint64_t word;
        memcpy(&word, code + j, sizeof word);
        KI_UNROLL
        for (size_t c = 0; c < 8; c++) s[c % 4] += t[(j + c) * 256 + (word >> (8 * c) & 255)];
    }
    if (j + 4 <= m) {
        for (size_t c = 0; c < 4; c++) s[c] += t[(j + c) * 256 + code[j + c]];
        j += 4;
    }
    if (j < m) s[0] += t[j * 256 + code[j]];
    if (j + 1 < m) s[1] += t[(j + 1) * 256 + code[j + 1]];
    if (j + 2 < m) s[2] += t[(j + 2) * 256 + code[j + 2]];
    return (s[0] + s[1]) + (s[2] + s[3]);
}

KI_INLINE void scan8(const float *tables, const size_t m, const uint8_t *codes, size_t n, float bias,
                     float *out)
{
    for (size_t i = 0; i < n; i++, codes += m) out[i] = sum8(tables, m, codes, bias);
}

static void pq_scan8(const float *tables, size_t m, const uint8_t *codes, size_t n, float bias, float *out)
{
    if (m == 8)
        scan8(tables, 8, codes, n, bias, out);
    else if (m == 16)
        scan8(tables, 16, codes, n, bias, out);
    else
        scan8(tables, m, codes, n, bias, out);
}

static void pq_gather8(const float *tables, size_t m, const void *base, size_t stride_bytes,
                       const uint32_t *rows, size_t n, float bias, float *out)
{
    enum { AHEAD = 8 };
    const uint8_t *codes = base;
    for (size_t i = 0; i < n; i++) {
        if (i + AHEAD < n) __builtin_prefetch(codes + rows[i + AHEAD] * stride_bytes, 0, 3);
        out[i] = sum8(tables, m, codes + rows[i] * stride_bytes, bias);
    }
}

void ki_simd_pqscan_neon(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->pq_scan8 = pq_scan8;
    table->pq_gather8 = pq_gather8;
}
#endif
