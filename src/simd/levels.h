/* levels.h - between cpu.c and the kernel files: who fills which entries of a table. */
#ifndef KI_SIMD_LEVELS_H
#define KI_SIMD_LEVELS_H

#include "simd/kernels.h"

#include <math.h>
#include <string.h>

/* What a CPU has beyond its level. */
typedef struct ki_cpu {
    int avx2;            /* with FMA, F16C, POPCNT and the system saving ymm registers */
    int avx512;          /* F, BW, DQ, VL and the system saving zmm registers */
    int avx512_popcount; /* VPOPCNTDQ */
    int avx512_vnni;     /* sums of products of bytes */
    int avx512_vbmi;     /* look-ups of bytes */
    int neon;
} ki_cpu;

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define KI_X86 1
#elif defined(__aarch64__)
#define KI_ARM 1
#endif

/* For helpers that only make sense inlined, with constant arguments, and for loops over arrays of registers. */
#define KI_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define KI_UNROLL _Pragma("unroll")
#define KI_ROLLED _Pragma("nounroll")
#else
#define KI_UNROLL _Pragma("GCC unroll 32")
#define KI_ROLLED _Pragma("GCC unroll 1")
#endif

/* X(topic): for each there is a void ki_simd_<topic>_<isa>(ki_kernels *, const ki_cpu *) in
 * <topic>_<isa>.c, which sets the entries that it has and leaves the others as the level below had them. */
#define KI_SCALAR_TOPICS(X) \
    X(distance)             \
    X(hamming)              \
    X(pqscan)               \
    X(pq4scan)              \
    X(pq8sum) X(elementwise) X(product) X(screen) X(sieve) X(grid) X(sq) X(hadamard) X(rabitq) X(qg)
#define KI_AVX2_TOPICS(X) \
    X(distance)           \
    X(hamming) X(pqscan) X(pq4scan) X(elementwise) X(product) X(screen) X(sq) X(hadamard) X(rabitq) X(qg)
#define KI_AVX512_TOPICS(X) \
    X(distance)             \
    X(hamming)              \
    X(pq4scan)              \
    X(pq8sum) X(elementwise) X(product) X(screen) X(sieve) X(grid) X(sq) X(hadamard) X(rabitq) X(qg)
#define KI_NEON_TOPICS(X) \
    X(distance) X(hamming) X(pqscan) X(pq4scan) X(elementwise) X(product) X(sq) X(hadamard) X(rabitq) X(qg)

#define KI_FILLER(topic, isa) void ki_simd_##topic##_##isa(ki_kernels *table, const ki_cpu *cpu);
#define KI_SCALAR_FILLER(topic) KI_FILLER(topic, scalar)
#define KI_AVX2_FILLER(topic) KI_FILLER(topic, avx2)
#define KI_AVX512_FILLER(topic) KI_FILLER(topic, avx512)
#define KI_NEON_FILLER(topic) KI_FILLER(topic, neon)
KI_SCALAR_TOPICS(KI_SCALAR_FILLER)
KI_AVX2_TOPICS(KI_AVX2_FILLER)
KI_AVX512_TOPICS(KI_AVX512_FILLER)
KI_NEON_TOPICS(KI_NEON_FILLER)

/* --- Small helpers that every level shares
 * --------------------------------------------------------------------- */

/* A cosine distance from its three sums. */
static inline float ki_cosine_of(float dot, float norm2_a, float norm2_b)
{
    float scale = sqrtf(norm2_a) * sqrtf(norm2_b);
    if (!(scale > 0)) return 1;
    float distance = 1 - dot / scale;
    return distance < 0 ? 0 : distance > 2 ? 2 : distance;
}

/* A binary16 number: sign 1, exponent 5 (bias 15), mantissa 10. */
static inline float ki_f16_decode(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = (half >> 10) & 31, mantissa = half & 1023u;
    uint32_t bits;
    if (exponent == 0) {
        float value = (float)mantissa * 0x1p-24f; /* subnormal, exact */
        return sign ? -value : value;
    }
    if (exponent == 31)
        bits = sign | 0x7f800000u | mantissa << 13 | (mantissa ? 0x00400000u : 0);
    else
        bits = sign | (exponent + 112) << 23 | mantissa << 13;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline const float *ki_row_at(const void *base, size_t stride_bytes, uint32_t row)
{
    return (const float *)(const void *)((const char *)base + (size_t)row * stride_bytes);
}

#endif
