/* Look-ups by half bytes in 256-bit registers: one byte of 32 rows a load, two vpshufb. Additions as for AVX-512. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>

#include "simd/target_avx2.h"

#define BLOCK 32

KI_INLINE __m256i load(const uint8_t *at)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)at);
}

KI_INLINE __m256i look_up(const uint8_t *codes, const uint8_t *tables)
{
    __m256i half = _mm256_set1_epi8(15), both = load(codes);
    __m256i low = _mm256_and_si256(both, half), high = _mm256_and_si256(_mm256_srli_epi16(both, 4), half);
    return _mm256_add_epi8(_mm256_shuffle_epi8(load(tables), low),
                           _mm256_shuffle_epi8(load(tables + 64), high));
}

/* The sums of rows 0..15 and of rows 16..31. */
KI_INLINE void block_sums(const uint8_t *tables, size_t bytes, const uint8_t *codes, __m256i sums[2])
{
    __m256i all = _mm256_setzero_si256(), odd = all;
    size_t j = 0;
    for (; j + 2 <= bytes; j += 2, tables += 128) {
        __m256i sum = _mm256_add_epi8(look_up(codes + j * BLOCK, tables),
                                      look_up(codes + (j + 1) * BLOCK, tables + 32));
        all = _mm256_add_epi16(all, sum);
        odd = _mm256_add_epi16(odd, _mm256_srli_epi16(sum, 8));
    }
    if (j < bytes) {
        __m256i sum = look_up(codes + j * BLOCK, tables);
        all = _mm256_add_epi16(all, sum);
        odd = _mm256_add_epi16(odd, _mm256_srli_epi16(sum, 8));
    }
    __m256i even = _mm256_sub_epi16(all, _mm256_slli_epi16(odd, 8));
    __m256i a = _mm256_unpacklo_epi16(even, odd), b = _mm256_unpackhi_epi16(even, odd);
    sums[0] = _mm256_permute2x128_si256(a, b, 0x20);
    sums[1] = _mm256_permute2x128_si256(a, b, 0x31);
}

static void pq4_scan(const uint8_t *tables, size_t bytes, const uint8_t *codes, size_t n, float scale,
                     float bias, const float *add, float *out)
{
    __m256 s = _mm256_set1_ps(scale), b = _mm256_set1_ps(bias);
    for (size_t i = 0; i < n; i += BLOCK, codes += BLOCK * bytes) {
        __m256i sums[2];
        float last[BLOCK], *to = n - i < BLOCK ? last : out + i;
        block_sums(tables, bytes, codes, sums);
        for (size_t h = 0; h < 4; h++) {
            __m128i eight =
                h % 2 ? _mm256_extracti128_si256(sums[h / 2], 1) : _mm256_castsi256_si128(sums[h / 2]);
            __m256 value = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(eight)), s, b);
            if (add && to != last) value = _mm256_add_ps(value, _mm256_loadu_ps(add + i + 8 * h));
            _mm256_storeu_ps(to + 8 * h, value);
        }
        for (size_t r = 0; to == last && r < n - i; r++) out[i + r] = add ? last[r] + add[i + r] : last[r];
    }
}

#include "simd/target_end.h"

void ki_simd_pq4scan_avx2(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->pq4_scan = pq4_scan;
}
#endif
