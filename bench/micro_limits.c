#include "micro_limits.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/rng.h"

static volatile double sink; /* results must be seen to be used */

#define CHAINS 16 /* independent, more than latency (4) x units (2) */

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("avx512f"))) static double fma_avx512(size_t steps)
{
    __m512 sum[CHAINS], a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(1e-3f);
    for (int c = 0; c < CHAINS; c++) sum[c] = _mm512_set1_ps((float)c);
    uint64_t start = micro_ns();
    for (size_t i = 0; i < steps; i++) {
#pragma GCC unroll 16
        for (int c = 0; c < CHAINS; c++) sum[c] = _mm512_fmadd_ps(sum[c], a, b);
    }
    uint64_t ns = micro_ns() - start;
    for (int c = 0; c < CHAINS; c++) sink += (double)_mm512_reduce_add_ps(sum[c]);
    return (double)(steps * CHAINS * 32) / (double)ns;
}

__attribute__((target("avx2,fma"))) static double fma_avx2(size_t steps)
{
    enum { FEWER = 12 }; /* of 16 registers */
    __m256 sum[FEWER], a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(1e-3f);
    for (int c = 0; c < FEWER; c++) sum[c] = _mm256_set1_ps((float)c);
    uint64_t start = micro_ns();
    for (size_t i = 0; i < steps; i++) {
#pragma GCC unroll 16
        for (int c = 0; c < FEWER; c++) sum[c] = _mm256_fmadd_ps(sum[c], a, b);
    }
    uint64_t ns = micro_ns() - start;
    for (int c = 0; c < FEWER; c++) sink += (double)_mm256_cvtss_f32(sum[c]);
    return (double)(steps * FEWER * 16) / (double)ns;
}

__attribute__((target("avx512f,avx512bw"))) static double shuffle_avx512(size_t steps)
{
    __m512i index[CHAINS];
    for (int c = 0; c < CHAINS; c++) index[c] = _mm512_set1_epi8((char)c);
    __m512i table = _mm512_set1_epi8(5);
    uint64_t start = micro_ns();
    for (size_t i = 0; i < steps; i++) {
#pragma GCC unroll 16
        for (int c = 0; c < CHAINS; c++) {
            index[c] = _mm512_shuffle_epi8(table, index[c]);
            __asm__("" : "+v"(index[c])); /* or the compiler sees that nothing changes any more */
        }
    }
    uint64_t ns = micro_ns() - start;
    for (int c = 0; c < CHAINS; c++) sink += (double)_mm512_reduce_add_epi64(index[c]);
    return (double)(steps * CHAINS * 64) / (double)ns;
}

__attribute__((target("avx2"))) static double shuffle_avx2(size_t steps)
{
    enum { FEWER = 12 };
    __m256i index[FEWER], table = _mm256_set1_epi8(5);
    for (int c = 0; c < FEWER; c++) index[c] = _mm256_set1_epi8((char)c);
    uint64_t start = micro_ns();
    for (size_t i = 0; i < steps; i++) {
#pragma GCC unroll 16
        for (int c = 0; c < FEWER; c++) {
            index[c] = _mm256_shuffle_epi8(table, index[c]);
            __asm__("" : "+x"(index[c]));
        }
    }
    uint64_t ns = micro_ns() - start;
    for (int c = 0; c < FEWER; c++) sink += (double)_mm256_extract_epi64(index[c], 0);
    return (double)(steps * FEWER * 32) / (double)ns;
}

__attribute__((target("avx512f"))) static void read_avx512(const char *p, size_t bytes)
{
    __m512i sum[8];
    for (int c = 0; c < 8; c++) sum[c] = _mm512_setzero_si512();
    for (size_t i = 0; i + 512 <= bytes; i += 512) {
#pragma GCC unroll 8
        for (int c = 0; c < 8; c++) sum[c] = _mm512_xor_si512(sum[c], _mm512_loadu_si512(p + i + 64 * c));
    }
    for (int c = 0; c < 8; c++) sink += (double)_mm512_reduce_add_epi64(sum[c]);
}

__attribute__((target("avx2"))) static void read_avx2(const char *p, size_t bytes)
{
    __m256i sum[8];
    for (int c = 0; c < 8; c++) sum[c] = _mm256_setzero_si256();
    for (size_t i = 0; i + 256 <= bytes; i += 256) {
#pragma GCC unroll 8
        for (int c = 0; c < 8; c++)
            sum[c] = _mm256_xor_si256(sum[c], _mm256_loadu_si256((const __m256i *)(p + i + 32 * c)));
    }
    for (int c = 0; c < 8; c++) sink += (double)_mm256_extract_epi64(sum[c], 0);
}
#elif defined(__aarch64__)
#include <arm_neon.h>

static double fma_neon(size_t steps)
{
    float32x4_t sum[CHAINS], a = vdupq_n_f32(0.999f), b = vdupq_n_f32(1e-3f);
    for (int c = 0; c < CHAINS; c++) sum[c] = vdupq_n_f32((float)c);
    uint64_t start = micro_ns();
    for (size_t i = 0; i < steps; i++) {
#pragma GCC unroll 16
        for (int c = 0; c < CHAINS; c++) sum[c] = vfmaq_f32(b, sum[c], a);
    }
    uint64_t ns = micro_ns() - start;
    for (int c = 0; c < CHAINS; c++) sink += (double)vgetq_lane_f32(sum[c], 0);
    return (double)(steps * CHAINS * 8) / (double)ns;
}

static double shuffle_neon(size_t steps)
{
    uint8x16_t index[CHAINS], table = vdupq_n_u8(5);
    for (int c = 0; c < CHAINS; c++) index[c] = vdupq_n_u8((uint8_t)c);
    uint64_t start = micro_ns();
    for (size_t i = 0; i < steps; i++) {
#pragma GCC unroll 16
        for (int c = 0; c < CHAINS; c++) {
            index[c] = vqtbl1q_u8(table, index[c]);
            __asm__("" : "+w"(index[c]));
        }
    }
    uint64_t ns = micro_ns() - start;
    for (int c = 0; c < CHAINS; c++) sink += (double)vgetq_lane_u8(index[c], 0);
    return (double)(steps * CHAINS * 16) / (double)ns;
}
#endif

static double fma_scalar(size_t steps)
{
    float sum[CHAINS];
    for (int c = 0; c < CHAINS; c++) sum[c] = (float)c;
    uint64_t start = micro_ns();
    for (size_t i = 0; i < steps; i++)
        for (int c = 0; c < CHAINS; c++) sum[c] = sum[c] * 0.999f + 1e-3f;
    uint64_t ns = micro_ns() - start;
    for (int c = 0; c < CHAINS; c++) sink += (double)sum[c];
    return (double)(steps * CHAINS * 2) / (double)ns;
}

double limit_fma(kith_simd level)
{
    const size_t steps = 200000;
#if defined(__x86_64__)
    if (level == KITH_SIMD_AVX512) return fma_avx512(steps);
    if (level == KITH_SIMD_AVX2) return fma_avx2(steps);
#elif defined(__aarch64__)
    if (level == KITH_SIMD_NEON) return fma_neon(steps);
#endif
    return fma_scalar(steps);
}

double limit_shuffle(kith_simd level)
{
    const size_t steps = 200000;
#if defined(__x86_64__)
    if (level == KITH_SIMD_AVX512) return shuffle_avx512(steps);
    if (level == KITH_SIMD_AVX2) return shuffle_avx2(steps);
#elif defined(__aarch64__)
    if (level == KITH_SIMD_NEON) return shuffle_neon(steps);
#endif
    (void)steps;
    return limit_lookup();
}

static void read_words(const char *p, size_t bytes)
{
    const uint64_t *words = (const uint64_t *)(const void *)p;
    uint64_t sum[4] = {0};
    for (size_t i = 0; i + 4 <= bytes / 8; i += 4)
        for (size_t c = 0; c < 4; c++) sum[c] ^= words[i + c];
    sink += (double)(sum[0] ^ sum[1] ^ sum[2] ^ sum[3]);
}

double limit_read(const void *p, size_t bytes)
{
    size_t passes =
        ((size_t)1 << 24) / bytes + 1; /* at least 16 MiB, so that the clock has something to measure */
    uint64_t start = micro_ns();
    for (size_t pass = 0; pass < passes; pass++) {
#if defined(__x86_64__)
        if (kith_simd_has(KITH_SIMD_AVX512))
            read_avx512(p, bytes);
        else if (kith_simd_has(KITH_SIMD_AVX2))
            read_avx2(p, bytes);
        else
            read_words(p, bytes);
#else
        read_words(p, bytes);
#endif
    }
    return (double)(bytes * passes) / (double)(micro_ns() - start);
}

/* Sattolo's algorithm: a permutation of a single cycle; one entry a cache line. */
void limit_chain(size_t *next, size_t bytes)
{
    const size_t step = 64 / sizeof *next;
    size_t lines = bytes / 64;
    ki_rng rng;
    ki_rng_init(&rng, 1, 0);
    for (size_t i = 0; i < lines; i++) next[i * step] = i * step;
    for (size_t i = lines - 1; i > 0; i--) {
        size_t j = ki_rng_below(&rng, i), keep = next[i * step];
        next[i * step] = next[j * step];
        next[j * step] = keep;
    }
}

double limit_latency(const size_t *next, size_t steps)
{
    size_t at = 0;
    uint64_t start = micro_ns();
    for (size_t i = 0; i < steps; i++) at = next[at];
    uint64_t ns = micro_ns() - start;
    sink += (double)at;
    return (double)ns / (double)steps;
}

double limit_lookup(void)
{
    enum { N = 4096, PASSES = 50 };
    static float table[N];
    static uint32_t number[N];
    if (number[1] == number[2]) {
        ki_rng rng;
        ki_rng_init(&rng, 2, 0);
        for (size_t i = 0; i < N; i++) number[i] = (uint32_t)ki_rng_below(&rng, N), table[i] = (float)i;
    }
    float sum[4] = {0};
    uint64_t start = micro_ns();
    for (size_t pass = 0; pass < PASSES; pass++)
        for (size_t i = 0; i < N; i += 4)
            for (size_t c = 0; c < 4; c++) sum[c] += table[number[i + c]];
    uint64_t ns = micro_ns() - start;
    sink += (double)(sum[0] + sum[1] + sum[2] + sum[3]);
    return (double)((size_t)N * PASSES) / (double)ns;
}
