/* What AVX-512 does better than AVX2 among the elementwise kernels: packing survivors, and transposing for the product.
 * The others are bound by memory or L1 and are inherited. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>

#include "simd/target_avx512.h"

/* Positions whose bits are set, into a register and out in whole lanes: a compressing store to memory is microcode on some
 * CPUs. Returns how many. */
KI_INLINE size_t put_positions(__mmask16 mask, __m512i position, uint32_t *index)
{
    unsigned found = (unsigned)__builtin_popcount(mask);
    _mm512_mask_storeu_epi32(index, (__mmask16)((1u << found) - 1),
                             _mm512_maskz_compress_epi32(mask, position));
    return found;
}

KI_INLINE __mmask16 of_sixteen(size_t n)
{
    return (__mmask16)(n < 16 ? (1u << n) - 1 : 0xffff);
}

KI_INLINE __m512i positions(void)
{
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

static size_t select_le_f32(const float *x, size_t n, float limit, uint32_t *index)
{
    __m512 most = _mm512_set1_ps(limit);
    __m512i position = positions();
    size_t count = 0;
    for (size_t i = 0; i < n; i += 16, position = _mm512_add_epi32(position, _mm512_set1_epi32(16))) {
        __mmask16 there = of_sixteen(n - i);
        __mmask16 mask =
            _mm512_mask_cmp_ps_mask(there, _mm512_maskz_loadu_ps(there, x + i), most, _CMP_LE_OQ);
        if (mask) count += put_positions(mask, position, index + count);
    }
    return count;
}

static size_t select_le_s32(const int32_t *x, size_t n, int32_t limit, uint32_t *index)
{
    __m512i most = _mm512_set1_epi32(limit), position = positions();
    size_t count = 0;
    for (size_t i = 0; i < n; i += 16, position = _mm512_add_epi32(position, _mm512_set1_epi32(16))) {
        __mmask16 there = of_sixteen(n - i);
        __mmask16 mask = _mm512_mask_cmple_epi32_mask(there, _mm512_maskz_loadu_epi32(there, x + i), most);
        if (mask) count += put_positions(mask, position, index + count);
    }
    return count;
}

/* The floats x[0..3] of rows r, r + 4, r + 8, r + 12. Rows that are not there repeat the last. */
KI_INLINE __m512 four_rows(const float *x, size_t ldx, size_t r, size_t last, __mmask8 columns)
{
    size_t r1 = r + 4 < last ? r + 4 : last, r2 = r + 8 < last ? r + 8 : last,
           r3 = r + 12 < last ? r + 12 : last;
    r = r < last ? r : last;
    __m512 v = _mm512_castps128_ps512(_mm_maskz_loadu_ps(columns, x + r * ldx));
    v = _mm512_insertf32x4(v, _mm_maskz_loadu_ps(columns, x + r1 * ldx), 1);
    v = _mm512_insertf32x4(v, _mm_maskz_loadu_ps(columns, x + r2 * ldx), 2);
    return _mm512_insertf32x4(v, _mm_maskz_loadu_ps(columns, x + r3 * ldx), 3);
}

/* Four columns of sixteen rows: transposing 4 x 4 within the four lanes leaves the rows of each column in order. */
KI_INLINE void transpose_16x4(const float *x, size_t ldx, size_t rows, size_t cols, float *out, size_t ldo)
{
    __mmask8 columns = (__mmask8)((1u << cols) - 1);
    __mmask16 store = (__mmask16)((1u << rows) - 1);
    __m512 r[4], t[4];
    KI_UNROLL
    for (size_t i = 0; i < 4; i++) r[i] = four_rows(x, ldx, i, rows - 1, columns);
    t[0] = _mm512_unpacklo_ps(r[0], r[1]), t[1] = _mm512_unpackhi_ps(r[0], r[1]);
    t[2] = _mm512_unpacklo_ps(r[2], r[3]), t[3] = _mm512_unpackhi_ps(r[2], r[3]);
    _mm512_mask_storeu_ps(out, store, _mm512_shuffle_ps(t[0], t[2], 0x44));
    if (cols > 1) _mm512_mask_storeu_ps(out + ldo, store, _mm512_shuffle_ps(t[0], t[2], 0xee));
    if (cols > 2) _mm512_mask_storeu_ps(out + 2 * ldo, store, _mm512_shuffle_ps(t[1], t[3], 0x44));
    if (cols > 3) _mm512_mask_storeu_ps(out + 3 * ldo, store, _mm512_shuffle_ps(t[1], t[3], 0xee));
}

static void transpose_f32(const float *x, size_t ldx, size_t rows, size_t cols, float *out, size_t ldo)
{
    for (size_t r = 0; r < rows; r += 16) {
        size_t height = rows - r < 16 ? rows - r : 16, c = 0;
        const float *from = x + r * ldx;
        if (height == 16)
            for (; c + 4 <= cols; c += 4) transpose_16x4(from + c, ldx, 16, 4, out + c * ldo + r, ldo);
        else
            for (; c + 4 <= cols; c += 4) transpose_16x4(from + c, ldx, height, 4, out + c * ldo + r, ldo);
        if (c < cols) transpose_16x4(from + c, ldx, height, cols - c, out + c * ldo + r, ldo);
    }
}

#include "simd/target_end.h"

void ki_simd_elementwise_avx512(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->select_le_f32 = select_le_f32;
    table->select_le_s32 = select_le_s32;
    table->transpose_f32 = transpose_f32;
}
#endif
