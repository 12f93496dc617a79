/* Estimated distances of a quantized graph for AVX2: a byte shuffle looks up 32 entries, two lanes at a time. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>

#include "simd/target_avx2.h"

/* The sums of the even and of the odd neighbours of a block, a half of the lanes each; they are added at the end. */
typedef struct sums {
    __m256i both, odd; /* both: the odd ones stand 8 bits higher, beyond 16 bits nothing is kept */
} sums;

KI_INLINE void look_up(sums *s, const uint8_t *codes, const uint8_t *table)
{
    const __m256i half = _mm256_set1_epi8(15);
    __m256i code = _mm256_loadu_si256((const __m256i *)(const void *)codes);
    __m256i low = _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)(const void *)table),
                                      _mm256_and_si256(code, half));
    __m256i high = _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)(const void *)(table + 64)),
                                       _mm256_and_si256(_mm256_srli_epi16(code, 4), half));
    __m256i entry = _mm256_add_epi8(low, high); /* at most 254 */
    s->both = _mm256_add_epi16(s->both, entry);
    s->odd = _mm256_add_epi16(s->odd, _mm256_srli_epi16(entry, 8));
}

KI_INLINE __m128i fold(__m256i x)
{
    return _mm_add_epi16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
}

KI_INLINE __m256 eight(const ki_qg_query *q, __m128i sum, const uint16_t *add, const uint16_t *mul,
                       float base)
{
    __m256 along = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(sum));
    along = _mm256_fmadd_ps(along, _mm256_set1_ps(q->scale), _mm256_set1_ps(q->bias));
    __m256 value =
        _mm256_fmadd_ps(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)mul)), along,
                        _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)add)));
    return _mm256_fmadd_ps(value, _mm256_set1_ps(q->unit), _mm256_set1_ps(base));
}

static size_t near(const ki_qg_query *q, const uint8_t *codes, const uint16_t *add, const uint16_t *mul,
                   size_t blocks, float base, float limit, float *dist, uint32_t *place)
{
    size_t n = 0;
    for (size_t b = 0; b < blocks; b++) {
        sums s = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        for (size_t t = 0; t < q->steps; t++, codes += KI_QG_STEP_BYTES) {
            const uint8_t *table = q->table + t * KI_QG_STEP_TABLE;
            look_up(&s, codes, table);
            look_up(&s, codes + 32, table + 32);
        }
        __m128i odd = fold(s.odd), even = _mm_sub_epi16(fold(s.both), _mm_slli_epi16(odd, 8));
        float value[KI_QG_BLOCK];
        size_t at = b * KI_QG_BLOCK;
        _mm256_storeu_ps(value, eight(q, _mm_unpacklo_epi16(even, odd), add + at, mul + at, base));
        _mm256_storeu_ps(value + 8,
                         eight(q, _mm_unpackhi_epi16(even, odd), add + at + 8, mul + at + 8, base));
        for (size_t j = 0; j < KI_QG_BLOCK; j++) {
            dist[n] = value[j];
            place[n] = (uint32_t)(at + j);
            n += value[j] < limit;
        }
    }
    return n;
}

#include "simd/target_end.h"

void ki_simd_qg_avx2(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->qg_near = near;
}
#endif
