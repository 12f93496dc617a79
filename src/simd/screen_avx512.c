/* Products of small integers for AVX-512: as for AVX2, a panel of 16 columns in one register, four panels at a time. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>
#include <string.h>

#include "simd/target_avx512.h"

KI_INLINE __m512i pair_of(const int16_t *q, size_t j)
{
    int32_t both;
    memcpy(&both, q + 2 * j, sizeof both);
    return _mm512_set1_epi32(both);
}

KI_INLINE __m512i panel_pair(__m512i sum, __m512i q, const int8_t *b)
{
    __m512i columns = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)b));
    return _mm512_add_epi32(sum, _mm512_madd_epi16(columns, q));
}

static void panel_dot_s8(const int16_t *q, size_t pairs, const int8_t *b, size_t panels, int32_t *out)
{
    size_t stride = pairs * 2 * KI_PANEL, p = 0;
    for (; p + 4 <= panels; p += 4) {
        const int8_t *at = b + p * stride;
        __m512i sum0 = _mm512_setzero_si512(), sum1 = sum0, sum2 = sum0, sum3 = sum0;
        for (size_t j = 0; j < pairs; j++, at += 2 * KI_PANEL) {
            __m512i both = pair_of(q, j);
            sum0 = panel_pair(sum0, both, at);
            sum1 = panel_pair(sum1, both, at + stride);
            sum2 = panel_pair(sum2, both, at + 2 * stride);
            sum3 = panel_pair(sum3, both, at + 3 * stride);
        }
        _mm512_storeu_si512(out + p * KI_PANEL, sum0);
        _mm512_storeu_si512(out + (p + 1) * KI_PANEL, sum1);
        _mm512_storeu_si512(out + (p + 2) * KI_PANEL, sum2);
        _mm512_storeu_si512(out + (p + 3) * KI_PANEL, sum3);
    }
    for (; p < panels; p++) {
        __m512i sum = _mm512_setzero_si512();
        for (size_t j = 0; j < pairs; j++)
            sum = panel_pair(sum, pair_of(q, j), b + p * stride + j * 2 * KI_PANEL);
        _mm512_storeu_si512(out + p * KI_PANEL, sum);
    }
}

#include "simd/target_end.h"

void ki_simd_screen_avx512(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->panel_dot_s8 = panel_dot_s8;
}
#endif
