/* Products of small integers for AVX2: 8 columns of a pair of components are 16 bytes, widened to 16 bits; madd makes the
 * sum of both products of a column. Two panels at a time: four chains of additions, and each pair of q is broadcast
 * once for 32 columns. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>
#include <string.h>

#include "simd/target_avx2.h"

/* Two components of q in every lane. */
KI_INLINE __m256i pair_of(const int16_t *q, size_t j)
{
    int32_t both;
    memcpy(&both, q + 2 * j, sizeof both);
    return _mm256_set1_epi32(both);
}

KI_INLINE __m256i eight_columns(__m256i sum, __m256i q, const int8_t *b)
{
    __m256i columns = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)b));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(columns, q));
}

static void panel_dot_s8(const int16_t *q, size_t pairs, const int8_t *b, size_t panels, int32_t *out)
{
    size_t stride = pairs * 2 * KI_PANEL;
    for (size_t p = 0; p < panels; p += 2) {
        const int8_t *first = b + p * stride, *second = p + 1 < panels ? first + stride : first;
        __m256i sum[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                          _mm256_setzero_si256()};
        for (size_t j = 0; j < pairs; j++) {
            __m256i both = pair_of(q, j);
            sum[0] = eight_columns(sum[0], both, first + j * 2 * KI_PANEL);
            sum[1] = eight_columns(sum[1], both, first + j * 2 * KI_PANEL + KI_PANEL);
            sum[2] = eight_columns(sum[2], both, second + j * 2 * KI_PANEL);
            sum[3] = eight_columns(sum[3], both, second + j * 2 * KI_PANEL + KI_PANEL);
        }
        __m256i *to = (__m256i *)(void *)(out + p * KI_PANEL);
        for (size_t i = 0; i < (p + 1 < panels ? 4 : 2); i++) _mm256_storeu_si256(to + i, sum[i]);
    }
}

#include "simd/target_end.h"

void ki_simd_screen_avx2(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->panel_dot_s8 = panel_dot_s8;
}
#endif
