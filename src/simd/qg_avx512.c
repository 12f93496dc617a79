/* Estimated distances of a quantized graph for AVX-512: a byte shuffle looks up 64 entries, and what is near enough is
 * compressed straight into the lists. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>
#include <math.h>

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

/* The new ones sorted: each is put where its rank is, so that nothing depends on what is foreseen. */
KI_INLINE void sort_new(const float *dist, const uint32_t *node, size_t m, float *sorted, uint32_t *number)
{
    const __m512 none = _mm512_set1_ps(INFINITY);
    __mmask32 in = (__mmask32)(((uint64_t)1 << m) - 1);
    __m512 low = _mm512_mask_loadu_ps(none, (__mmask16)in, dist);
    __m512 high = _mm512_mask_loadu_ps(none, (__mmask16)(in >> 16), dist + 16);
    for (size_t i = 0; i < m; i++) {
        __m512 d = _mm512_set1_ps(dist[i]);
        unsigned less = _mm512_cmp_ps_mask(low, d, _CMP_LT_OQ), same = _mm512_cmp_ps_mask(low, d, _CMP_EQ_OQ);
        if (m > 16) {
            less |= (unsigned)_mm512_cmp_ps_mask(high, d, _CMP_LT_OQ) << 16;
            same |= (unsigned)_mm512_cmp_ps_mask(high, d, _CMP_EQ_OQ) << 16;
        }
        size_t at = (size_t)__builtin_popcount(less | (same & (((unsigned)1 << i) - 1)));
        sorted[at] = dist[i];
        number[at] = node[i];
    }
}

/* How many of the pool are no farther. */
KI_INLINE size_t rank(const float *pool, size_t n, float dist)
{
    size_t first = 0;
    while (n > 16) {
        size_t half = n / 2;
        first += pool[first + half - 1] <= dist ? half : 0;
        n -= half;
    }
    unsigned before = _mm512_cmp_ps_mask(_mm512_loadu_ps(pool + first), _mm512_set1_ps(dist), _CMP_LE_OQ);
    return first + (size_t)__builtin_popcount(before & (((unsigned)1 << n) - 1));
}

/* Sixteen places of the merged pool are old ones in their order where a bit says that no new one stands, from the last sixteen
 * to those where the first new one comes in: so it can be done in place. */
static size_t merge(float *dist, uint32_t *node, size_t *n, size_t limit, const float *new_dist,
                    const uint32_t *new_node, size_t m)
{
    float sorted[KI_QG_MERGED + 16];
    uint32_t number[KI_QG_MERGED + 16];
    size_t place[KI_QG_MERGED];
    sort_new(new_dist, new_node, m, sorted, number);
    for (size_t i = 0; i < m; i++) place[i] = rank(dist, *n, sorted[i]) + i;
    while (m > 0 && place[m - 1] >= limit) m--;
    if (m == 0) return *n;
    *n = *n + m < limit ? *n + m : limit;
    size_t before = m;
    for (size_t block = (*n - 1) / 16 + 1; block-- > place[0] / 16;) {
        __mmask16 in = 0;
        for (; before > 0 && place[before - 1] >= block * 16; before--)
            in = (__mmask16)(in | 1u << (place[before - 1] - block * 16));
        __mmask16 old = (__mmask16)~in;
        __m512 d = _mm512_maskz_expand_ps(old, _mm512_loadu_ps(dist + block * 16 - before));
        __m512i k = _mm512_maskz_expand_epi32(old, _mm512_loadu_si512(node + block * 16 - before));
        d = _mm512_mask_expand_ps(d, in, _mm512_loadu_ps(sorted + before));
        k = _mm512_mask_expand_epi32(k, in, _mm512_loadu_si512(number + before));
        _mm512_storeu_ps(dist + block * 16, d);
        _mm512_storeu_si512(node + block * 16, k);
    }
    return place[0];
}

#include "simd/target_end.h"

void ki_simd_qg_avx512(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->qg_near = near;
    table->qg_merge = merge;
}
#endif
