/* Many rows against many columns in bytes, for AVX-512 with VNNI: sixteen columns in a register, four components a lane.
 *
 * A tile is 14 rows x 2 panels, as in product_avx512.c: 28 sums, two registers of b and one broadcast of a, 31 of the 32. Each
 * step costs 16 loads and 28 instructions of 64 products, where the product of floats has 16 each. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>
#include <string.h>

#include "simd/target_avx512_vnni.h"

static ki_sieve_sums sieve_round(const float *x, size_t n, float step, float inverse, uint8_t *out)
{
    __m512 error2 = _mm512_setzero_ps(), steps = _mm512_set1_ps(step), inverses = _mm512_set1_ps(inverse);
    __m512i squares = _mm512_setzero_si512();
    for (size_t d = 0; d < n; d += 16) {
        __mmask16 there = (__mmask16)(n - d < 16 ? (1u << (n - d)) - 1 : 0xffff);
        __m512 v = _mm512_maskz_loadu_ps(there, x + d), scaled = _mm512_mul_ps(v, inverses);
        scaled = _mm512_min_ps(_mm512_max_ps(scaled, _mm512_set1_ps(-128)), _mm512_set1_ps(127));
        __m512i whole = _mm512_cvtps_epi32(scaled);
        __m512 rest = _mm512_sub_ps(v, _mm512_mul_ps(_mm512_cvtepi32_ps(whole), steps));
        error2 = _mm512_fmadd_ps(rest, rest, error2);
        squares = _mm512_add_epi32(squares, _mm512_mullo_epi32(whole, whole));
        _mm_mask_storeu_epi8(out + d, there,
                             _mm512_cvtepi32_epi8(_mm512_add_epi32(whole, _mm512_set1_epi32(128))));
    }
    return (ki_sieve_sums){_mm512_reduce_add_ps(error2), _mm512_reduce_add_epi32(squares)};
}

/* _mm512_dpbusd_epi32; of that gcc 12 copies each sum into another register and back, and to memory, in every step. */
KI_INLINE __m512i add_products(__m512i sum, __m512i rows, __m512i columns)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(rows), "v"(columns));
    return sum;
}

/* `width` panels from b on: their values, and the least of each lane into lanes[row]. */
KI_INLINE void tile_panels(const uint8_t *a, size_t quads, const int8_t *b, const int32_t *start,
                           int32_t *out, size_t ldo, int32_t lanes[KI_SIEVE_ROWS][KI_PANEL], const int width)
{
    __m512i sum[KI_SIEVE_ROWS][2];
    KI_UNROLL
    for (int w = 0; w < width; w++) {
        __m512i from = _mm512_loadu_si512(start + w * KI_PANEL);
        KI_UNROLL
        for (int r = 0; r < KI_SIEVE_ROWS; r++) sum[r][w] = from;
    }
    for (size_t j = 0; j < quads; j++, a += 4 * KI_SIEVE_ROWS, b += 4 * KI_PANEL) {
        __m512i columns[2];
        KI_UNROLL
        for (int w = 0; w < width; w++) columns[w] = _mm512_loadu_si512(b + (size_t)w * quads * 4 * KI_PANEL);
        KI_UNROLL
        for (int r = 0; r < KI_SIEVE_ROWS; r++) {
            int32_t four;
            memcpy(&four, a + 4 * r, sizeof four);
            __m512i row = _mm512_set1_epi32(four);
            KI_UNROLL
            for (int w = 0; w < width; w++) sum[r][w] = add_products(sum[r][w], row, columns[w]);
        }
    }
    KI_UNROLL
    for (int r = 0; r < KI_SIEVE_ROWS; r++) {
        __m512i lowest = _mm512_loadu_si512(lanes[r]);
        KI_UNROLL
        for (int w = 0; w < width; w++) {
            _mm512_storeu_si512(out + (size_t)r * ldo + w * KI_PANEL, sum[r][w]);
            lowest = _mm512_min_epi32(lowest, sum[r][w]);
        }
        _mm512_storeu_si512(lanes[r], lowest);
    }
}

static void sieve_tile(const uint8_t *a, size_t quads, const int8_t *b, size_t panels, const int32_t *start,
                       int32_t *out, size_t ldo, int32_t *least)
{
    int32_t lanes[KI_SIEVE_ROWS][KI_PANEL];
    size_t p = 0, stride = quads * 4 * KI_PANEL;
    for (size_t r = 0; r < KI_SIEVE_ROWS; r++) _mm512_storeu_si512(lanes[r], _mm512_set1_epi32(INT32_MAX));
    for (; p + 2 <= panels; p += 2)
        tile_panels(a, quads, b + p * stride, start + p * KI_PANEL, out + p * KI_PANEL, ldo, lanes, 2);
    if (p < panels)
        tile_panels(a, quads, b + p * stride, start + p * KI_PANEL, out + p * KI_PANEL, ldo, lanes, 1);
    for (size_t r = 0; r < KI_SIEVE_ROWS; r++)
        least[r] = _mm512_reduce_min_epi32(_mm512_loadu_si512(lanes[r]));
}

#include "simd/target_end.h"

void ki_simd_sieve_avx512(ki_kernels *table, const ki_cpu *cpu)
{
    if (!cpu->avx512_vnni) return;
    table->sieves = 1;
    table->sieve_round = sieve_round;
    table->sieve_tile = sieve_tile;
}
#endif
