/* Estimated distances of a quantized graph for AVX-512: a byte shuffle looks up 64 entries, and what is near enough is
 * compressed straight into the lists. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>

#include "simd/target_avx512.h"

KI_INLINE __m128i fold(__m512i x)
{
    __m256i half = _mm256_add_epi16(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    return _mm_add_epi16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/* The sums of a block's sixteen neighbours. Those of the odd ones are kept apart and taken, 8 bits up, from the others:
 * beyond 16 bits nothing is kept. */
KI_INLINE __m512i sums(const ki_qg_query *q, const uint8_t *codes)
{
    const __m512i half = _mm512_set1_epi8(15);
    __m512i both = _mm512_setzero_si512(), odd = both;
    for (size_t t = 0; t < q->steps; t++) {
        __m512i code = _mm512_loadu_si512(codes + t * KI_QG_STEP_BYTES);
        const uint8_t *table = q->table + t * KI_QG_STEP_TABLE;
        __m512i low = _mm512_shuffle_epi8(_mm512_loadu_si512(table), _mm512_and_si512(code, half));
        __m512i high = _mm512_shuffle_epi8(_mm512_loadu_si512(table + 64),
                                           _mm512_and_si512(_mm512_srli_epi16(code, 4), half));
        __m512i entry = _mm512_add_epi8(low, high); /* at most 254 */
        both = _mm512_add_epi16(both, entry);
        odd = _mm512_add_epi16(odd, _mm512_srli_epi16(entry, 8));
    }
    __m128i o = fold(odd), e = _mm_sub_epi16(fold(both), _mm_slli_epi16(o, 8));
    __m256i all = _mm256_set_m128i(_mm_unpackhi_epi16(e, o), _mm_unpacklo_epi16(e, o));
    return _mm512_cvtepu16_epi32(all);
}

KI_INLINE __m512 halves(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

static size_t near(const ki_qg_query *q, const uint8_t *codes, const uint16_t *add, const uint16_t *mul,
                   size_t blocks, float base, float limit, float *dist, uint32_t *place)
{
    const __m512i ramp = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    size_t n = 0;
    for (size_t b = 0; b < blocks; b++, codes += q->steps * KI_QG_STEP_BYTES) {
        __m512 along = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums(q, codes)), _mm512_set1_ps(q->scale),
                                       _mm512_set1_ps(q->bias));
        size_t at = b * KI_QG_BLOCK;
        __m512 value = _mm512_fmadd_ps(halves(mul + at), along, halves(add + at));
        value = _mm512_fmadd_ps(value, _mm512_set1_ps(q->unit), _mm512_set1_ps(base));
        __mmask16 in = _mm512_cmp_ps_mask(value, _mm512_set1_ps(limit), _CMP_LT_OQ);
        _mm512_storeu_ps(dist + n, _mm512_maskz_compress_ps(in, value));
        _mm512_storeu_si512(
            place + n, _mm512_maskz_compress_epi32(in, _mm512_add_epi32(ramp, _mm512_set1_epi32((int)at))));
        n += (size_t)__builtin_popcount(in);
    }
    return n;
}

#include "simd/target_end.h"

void ki_simd_qg_avx512(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->qg_near = near;
}
#endif
