/* Sums of product quantisation table entries on x86-64, from the AVX2 level up.
 *
 * Not a vector instruction in it, on purpose. Tables of float32 are looked up at one entry a load. On Cascade Lake
 * (bench/micro pq, 2026-11, m = 16, codes in L2) vpgatherdps reaches 90 million codes a second, since microcode guards it against
 * data sampling; looking the 256 entries up in 16 registers by vpermi2ps 174..216; plain loads, written naively, 160..190.
 * What is left of the plain loads is the two of them per entry, one for the byte and one for the float, on two
 * load ports. So here eight bytes come in one load and are taken apart in registers, two a shift (the low byte and
 * the second byte of a register have names of their own): 240 million.
 *
 * It also is why the functions stand outside a target region: `addss (table,index,4), sum` stays one micro-operation in
 * the pipeline, its three-operand AVX form is split in two. */
#include "simd/levels.h"

#ifdef KI_X86
#include <string.h>

/* Keeps the compiler from folding the shifts of one word into shift-and-mask pairs of their own. */
#define APART(word) __asm__("" : "+Q"(word))

KI_INLINE uint64_t word_at(const uint8_t *code)
{
    uint64_t word;
    memcpy(&word, code, sizeof word);
    return word;
}

/* Two entries: tables t and t + 256 by the lowest two bytes of a word. */
KI_INLINE void two(const float *t, uint64_t word, float *a, float *b)
{
    *a += t[(uint8_t)word];
    *b += (t + 256)[(uint8_t)(word >> 8)];
}

/* 8 subspaces. */
KI_INLINE void eight(const float *t, const uint8_t *code, float s[4])
{
    uint64_t w = word_at(code);
    two(t, w, &s[0], &s[1]), w >>= 16;
    APART(w);
    two(t + 512, w, &s[2], &s[3]), w >>= 16;
    APART(w);
    two(t + 1024, w, &s[0], &s[1]), w >>= 16;
    APART(w);
    two(t + 1536, w, &s[2], &s[3]);
}

/* One code. Four sums, subspace j goes to the one of j % 4; bias begins the first. m is a constant where it pays. */
KI_INLINE float sum8(const float *t, size_t m, const uint8_t *code, float bias)
{
    float s[4] = {bias, 0, 0, 0};
    size_t j = 0;
    for (; j + 8 <= m; j += 8) eight(t + j * 256, code + j, s);
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
    switch (m) {
    case 8: scan8(tables, 8, codes, n, bias, out); break;
    case 16: scan8(tables, 16, codes, n, bias, out); break;
    default: scan8(tables, m, codes, n, bias, out); break;
    }
}

#define AHEAD 8 /* codes to prefetch: a line or two each, some 20 ns of work apart */

KI_INLINE void gather8(const float *tables, const size_t m, const void *base, size_t stride_bytes,
                       const uint32_t *rows, size_t n, float bias, float *out)
{
    const uint8_t *codes = base;
    for (size_t i = 0; i < n; i++) {
        if (i + AHEAD < n) {
            const uint8_t *next = codes + rows[i + AHEAD] * stride_bytes;
            __builtin_prefetch(next, 0, 3);
            __builtin_prefetch(next + m - 1, 0, 3);
        }
        out[i] = sum8(tables, m, codes + rows[i] * stride_bytes, bias);
    }
}

static void pq_gather8(const float *tables, size_t m, const void *base, size_t stride_bytes,
                       const uint32_t *rows, size_t n, float bias, float *out)
{
    for (size_t i = 0; i < AHEAD && i < n; i++)
        __builtin_prefetch((const uint8_t *)base + rows[i] * stride_bytes, 0, 3);
    if (m == 16)
        gather8(tables, 16, base, stride_bytes, rows, n, bias, out);
    else if (m == 8)
        gather8(tables, 8, base, stride_bytes, rows, n, bias, out);
    else
        gather8(tables, m, base, stride_bytes, rows, n, bias, out);
}

/* Two-byte codes: tables are larger than L1 anyway, so only the chains of additions are cut. */
static void pq_scan16(const float *tables, size_t m, size_t ks, const uint16_t *codes, size_t n, float bias,
                      float *out)
{
    for (size_t i = 0; i < n; i++, codes += m) {
        float s[4] = {bias, 0, 0, 0};
        const float *t = tables;
        size_t j = 0;
        for (; j + 4 <= m; j += 4, t += 4 * ks)
            for (size_t c = 0; c < 4; c++) s[c] += t[c * ks + codes[j + c]];
        if (j < m) s[0] += t[codes[j]];
        if (j + 1 < m) s[1] += t[ks + codes[j + 1]];
        if (j + 2 < m) s[2] += t[2 * ks + codes[j + 2]];
        out[i] = (s[0] + s[1]) + (s[2] + s[3]);
    }
}

void ki_simd_pqscan_avx2(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->pq_scan8 = pq_scan8;
    table->pq_gather8 = pq_gather8;
    table->pq_scan16 = pq_scan16;
}
#endif
