/* Look-ups by half bytes in 512-bit registers: two bytes of 32 rows a load, two vpshufb, 64 look-ups.
 *
 * Of each load that is one vpand, one vpsrlw, one vpand, two vpshufb and two additions. Entries are at most 63, so four of
 * them fit into a byte: only every second pair of sums is widened, by the usual trick of adding the register as 16-bit
 * numbers as it is and once more shifted by 8, and taking the excess off at the end. */
#include "simd/levels.h"

#ifdef KI_X86
#include <float.h>
#include <immintrin.h>

#include "simd/target_avx512.h"

#define BLOCK 32

/* 64 look-ups added up in pairs: bytes j and j + 1 of 32 rows. */
KI_INLINE __m512i look_up(__m512i codes, const uint8_t *tables)
{
    __m512i half = _mm512_set1_epi8(15);
    __m512i low = _mm512_and_si512(codes, half);
    __m512i high = _mm512_and_si512(_mm512_srli_epi16(codes, 4), half);
    return _mm512_add_epi8(_mm512_shuffle_epi8(_mm512_loadu_si512(tables), low),
                           _mm512_shuffle_epi8(_mm512_loadu_si512(tables + 64), high));
}

/* 32 sums of 16 bits in the order of the rows. */
KI_INLINE __m512i block_sums(const uint8_t *tables, size_t bytes, const uint8_t *codes)
{
    __m512i all = _mm512_setzero_si512(), odd = all;
    size_t j = 0;
    for (; j + 4 <= bytes; j += 4, tables += 256) {
        __m512i sum = _mm512_add_epi8(look_up(_mm512_loadu_si512(codes + j * BLOCK), tables),
                                      look_up(_mm512_loadu_si512(codes + (j + 2) * BLOCK), tables + 128));
        all = _mm512_add_epi16(all, sum);
        odd = _mm512_add_epi16(odd, _mm512_srli_epi16(sum, 8));
    }
    for (; j < bytes; j += 2, tables += 128) {
        __mmask16 there = j + 2 <= bytes ? 0xffff : 0x00ff;
        __m512i sum = look_up(_mm512_maskz_loadu_epi32(there, codes + j * BLOCK), tables);
        all = _mm512_add_epi16(all, sum);
        odd = _mm512_add_epi16(odd, _mm512_srli_epi16(sum, 8));
    }
    __m512i even = _mm512_sub_epi16(all, _mm512_slli_epi16(odd, 8));
    __m256i e = _mm256_add_epi16(_mm512_castsi512_si256(even), _mm512_extracti64x4_epi64(even, 1));
    __m256i o = _mm256_add_epi16(_mm512_castsi512_si256(odd), _mm512_extracti64x4_epi64(odd, 1));
    __m256i a = _mm256_unpacklo_epi16(e, o), b = _mm256_unpackhi_epi16(e, o);
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_permute2x128_si256(a, b, 0x20)),
                              _mm256_permute2x128_si256(a, b, 0x31), 1);
}

KI_INLINE void store_sums(__m256i sums, __m512 scale, __m512 bias, const float *add, size_t n, float *out)
{
    __mmask16 mask = n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1);
    __m512 value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(sums)), scale, bias);
    if (add) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, add));
    _mm512_mask_storeu_ps(out, mask, value);
}

static void pq4_scan(const uint8_t *tables, size_t bytes, const uint8_t *codes, size_t n, float scale,
                     float bias, const float *add, float *out)
{
    __m512 s = _mm512_set1_ps(scale), b = _mm512_set1_ps(bias);
    for (size_t i = 0; i < n; i += BLOCK, codes += BLOCK * bytes) {
        __m512i sums = block_sums(tables, bytes, codes);
        store_sums(_mm512_castsi512_si256(sums), s, b, add ? add + i : NULL, n - i, out + i);
        if (n - i > 16)
            store_sums(_mm512_extracti64x4_epi64(sums, 1), s, b, add ? add + i + 16 : NULL, n - i - 16,
                       out + i + 16);
    }
}

/* One segment's table is one register. */
static void pq4_tables(const float *tables, size_t m, unsigned most, uint8_t *out, float *scale, float *bias)
{
    float widest = 0;
    double base = 0;
    for (size_t j = 0; j < m; j++) {
        __m512 t = _mm512_loadu_ps(tables + j * 16);
        float least = _mm512_reduce_min_ps(t), range = _mm512_reduce_max_ps(t) - least;
        widest = range > widest ? range : widest;
        base += (double)least;
    }
    *scale = widest / (float)most;
    *bias = (float)base;
    /* As in the plain loops: of ranges so small that the inverse of a step overflows, parts of the widest. */
    float step_inverse = widest > 0 ? (float)most / widest : 0, part = 1;
    if (step_inverse > FLT_MAX) step_inverse = (float)most, part = widest;
    __m512 inverse = _mm512_set1_ps(step_inverse), whole_part = _mm512_set1_ps(part);
    for (size_t j = 0; j < m; j++) {
        __m512 t = _mm512_loadu_ps(tables + j * 16);
        t = _mm512_sub_ps(t, _mm512_set1_ps(_mm512_reduce_min_ps(t)));
        if (part != 1) t = _mm512_div_ps(t, whole_part);
        t = _mm512_fmadd_ps(t, inverse, _mm512_set1_ps(0.5f));
        __m512i whole = _mm512_min_epi32(_mm512_cvttps_epi32(t), _mm512_set1_epi32((int)most));
        __m128i entries = _mm512_cvtepi32_epi8(whole);
        uint8_t *to = out + j / 4 * 128 + j % 2 * 64 + j / 2 % 2 * 32;
        _mm256_storeu_si256((__m256i *)(void *)to, _mm256_broadcastsi128_si256(entries));
    }
}

#include "simd/target_end.h"

void ki_simd_pq4scan_avx512(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->pq4_scan = pq4_scan;
    table->pq4_tables = pq4_tables;
}
#endif
