/* Tables of 256 bytes in four registers. AVX-512 BW looks up words, not bytes: half of the bits of a
 * byte choose one of 64 words in two registers, the highest which two, the lowest which half of the word. 32 rows at a
 * time, 14 instructions a segment, where loading entries one by one takes 32 loads of them and 4 of codes; bench/micro.c
 * has both. With VBMI bytes are looked up, a segment of 64 rows at a time: 10 instructions.
 *
 * Codes are row after row. 16 segments of 32 rows are turned over first, as words: 24 unpackings. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>
#include <string.h>

#include "simd/target_avx512.h"

#define ROWS 32

/* The entries of a segment's numbers in 32 rows (0..255 in words), as words. */
KI_INLINE __m512i look_up(const uint8_t *entries, __m512i number)
{
    __mmask32 upper = _mm512_test_epi16_mask(number, _mm512_set1_epi16(128));
    __mmask32 high = _mm512_test_epi16_mask(number, _mm512_set1_epi16(1));
    __m512i word = _mm512_srli_epi16(number, 1);
    word = _mm512_mask2_permutex2var_epi16(_mm512_loadu_si512(entries), word, _knot_mask32(upper),
                                           _mm512_loadu_si512(entries + 64));
    word = _mm512_mask2_permutex2var_epi16(_mm512_loadu_si512(entries + 128), word, upper,
                                           _mm512_loadu_si512(entries + 192));
    word = _mm512_mask_srli_epi16(word, high, word, 8);
    return _mm512_and_si512(word, _mm512_set1_epi16(255));
}

/* Bytes of four rows, 16 in a lane, or 8 and zeros: lane l gets row 8 l, counted from `codes`. */
KI_INLINE __m128i row_part(const uint8_t *code, size_t bytes)
{
    const __m128i *at = (const __m128i *)(const void *)code;
    return bytes == 16 ? _mm_loadu_si128(at) : _mm_loadl_epi64(at);
}

KI_INLINE __m512i four(const uint8_t *codes, size_t m, size_t bytes)
{
    __m512i rows = _mm512_castsi128_si512(row_part(codes, bytes));
    rows = _mm512_mask_broadcast_i32x4(rows, 0x00f0, row_part(codes + 8 * m, bytes));
    rows = _mm512_mask_broadcast_i32x4(rows, 0x0f00, row_part(codes + 16 * m, bytes));
    return _mm512_mask_broadcast_i32x4(rows, 0xf000, row_part(codes + 24 * m, bytes));
}

/* Of eight registers' words in pairs of two: words[p] gets word p of each, lane by lane, p < 4. */
KI_INLINE void turn(__m512i a, __m512i b, __m512i c, __m512i d, __m512i words[4])
{
    __m512i ab = _mm512_unpacklo_epi32(a, b), cd = _mm512_unpacklo_epi32(c, d);
    words[0] = _mm512_unpacklo_epi64(ab, cd);
    words[1] = _mm512_unpackhi_epi64(ab, cd);
    ab = _mm512_unpackhi_epi32(a, b), cd = _mm512_unpackhi_epi32(c, d);
    words[2] = _mm512_unpacklo_epi64(ab, cd);
    words[3] = _mm512_unpackhi_epi64(ab, cd);
}

/* `bytes` segments, 8 or 16, of 32 rows: words[p] gets segments 2 p and 2 p + 1 of each, as the halves of a word. */
KI_INLINE void turn_rows(const uint8_t *codes, size_t m, const size_t bytes, __m512i words[8])
{
    __m512i r[8];
    KI_UNROLL
    for (size_t i = 0; i < 8; i++) r[i] = four(codes + i * m, m, bytes);
    turn(_mm512_unpacklo_epi16(r[0], r[1]), _mm512_unpacklo_epi16(r[2], r[3]),
         _mm512_unpacklo_epi16(r[4], r[5]), _mm512_unpacklo_epi16(r[6], r[7]), words);
    if (bytes == 16)
        turn(_mm512_unpackhi_epi16(r[0], r[1]), _mm512_unpackhi_epi16(r[2], r[3]),
             _mm512_unpackhi_epi16(r[4], r[5]), _mm512_unpackhi_epi16(r[6], r[7]), words + 4);
}

/* The sums of `bytes` segments of 32 rows. */
KI_INLINE __m512i part_sums(const uint8_t *entries, size_t m, const uint8_t *codes, const size_t bytes)
{
    __m512i words[8], sum = _mm512_setzero_si512();
    turn_rows(codes, m, bytes, words);
    KI_UNROLL
    for (size_t p = 0; p < bytes / 2; p++) {
        __m512i first = look_up(entries + p * 512, _mm512_and_si512(words[p], _mm512_set1_epi16(255)));
        __m512i second = look_up(entries + p * 512 + 256, _mm512_srli_epi16(words[p], 8));
        sum = _mm512_add_epi16(sum, _mm512_add_epi16(first, second));
    }
    return sum;
}

/* The sums of 32 rows, m a multiple of 8. */
KI_INLINE __m512i sums_of(const uint8_t *entries, size_t m, const uint8_t *codes)
{
    __m512i sum = _mm512_setzero_si512();
    size_t j = 0;
    for (; j + 16 <= m; j += 16) sum = _mm512_add_epi16(sum, part_sums(entries + j * 256, m, codes + j, 16));
    if (j < m) sum = _mm512_add_epi16(sum, part_sums(entries + j * 256, m, codes + j, 8));
    return sum;
}

KI_INLINE void store(__m256i sums, __m512 scale, __m512 bias, const float *add, float *out)
{
    __m512 value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(sums)), scale, bias);
    if (add) value = _mm512_add_ps(value, _mm512_loadu_ps(add));
    _mm512_storeu_ps(out, value);
}

KI_INLINE void block(const uint8_t *entries, size_t m, const uint8_t *codes, __m512 scale, __m512 bias,
                     const float *add, float *out)
{
    __m512i sum = sums_of(entries, m, codes);
    store(_mm512_castsi512_si256(sum), scale, bias, add, out);
    store(_mm512_extracti64x4_epi64(sum, 1), scale, bias, add ? add + 16 : NULL, out + 16);
}

static void pq8_sums(const uint8_t *entries, size_t m, const uint8_t *codes, size_t n, float scale,
                     float bias, const float *add, float *out)
{
    __m512 s = _mm512_set1_ps(scale), b = _mm512_set1_ps(bias);
    size_t i = 0;
    if (m % 8 == 0 && n >= ROWS) {
        for (; i + ROWS <= n; i += ROWS)
            block(entries, m, codes + i * m, s, b, add ? add + i : NULL, out + i);
        if (i == n) return;
        i = n - ROWS; /* the last rows once more with some before them */
        block(entries, m, codes + i * m, s, b, add ? add + i : NULL, out + i);
        return;
    }
    for (; i < n; i++) {
        const uint8_t *code = codes + i * m;
        unsigned sum = 0;
        for (size_t j = 0; j < m; j++) sum += entries[j * 256 + code[j]];
        float value = __builtin_fmaf((float)sum, scale, bias);
        out[i] = add ? value + add[i] : value;
    }
}

#include "simd/target_end.h"

/* ---- with VBMI ---- */

#include "simd/target_avx512_vbmi.h"

/* The entries of 64 numbers. */
KI_INLINE __m512i look_up_bytes(const uint8_t *entries, __m512i number)
{
    __mmask64 upper = _mm512_movepi8_mask(number);
    __m512i low =
        _mm512_permutex2var_epi8(_mm512_loadu_si512(entries), number, _mm512_loadu_si512(entries + 64));
    __m512i high = _mm512_permutex2var_epi8(_mm512_loadu_si512(entries + 128), number,
                                            _mm512_loadu_si512(entries + 192));
    return _mm512_mask_mov_epi8(low, upper, high);
}

/* Bytes of 64 rows as words: the low halves are those of the first 32, the high ones those of the others. */
KI_INLINE void add_halves(__m512i bytes, __m512i sum[2])
{
    sum[0] = _mm512_add_epi16(sum[0], _mm512_and_si512(bytes, _mm512_set1_epi16(255)));
    sum[1] = _mm512_add_epi16(sum[1], _mm512_srli_epi16(bytes, 8));
}

/* Add `bytes` segments, 8 or 16, of 64 rows to their sums. */
KI_INLINE void add_part(const uint8_t *entries, size_t m, const uint8_t *codes, const size_t bytes,
                        __m512i sum[2])
{
    const __mmask64 high = 0xaaaaaaaaaaaaaaaa;
    __m512i a[8], b[8];
    turn_rows(codes, m, bytes, a);
    turn_rows(codes + ROWS * m, m, bytes, b);
    KI_UNROLL
    for (size_t p = 0; p < bytes / 2; p++) {
        __m512i first = _mm512_mask_mov_epi8(a[p], high, _mm512_slli_epi16(b[p], 8));
        __m512i second = _mm512_mask_mov_epi8(_mm512_srli_epi16(a[p], 8), high, b[p]);
        add_halves(look_up_bytes(entries + p * 512, first), sum);
        add_halves(look_up_bytes(entries + p * 512 + 256, second), sum);
    }
}

/* 64 rows, m a multiple of 8. */
KI_INLINE void block_by_bytes(const uint8_t *entries, size_t m, const uint8_t *codes, __m512 scale,
                              __m512 bias, const float *add, float *out)
{
    __m512i sum[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    size_t j = 0;
    for (; j + 16 <= m; j += 16) add_part(entries + j * 256, m, codes + j, 16, sum);
    if (j < m) add_part(entries + j * 256, m, codes + j, 8, sum);
    KI_UNROLL
    for (size_t h = 0; h < 2; h++) {
        const float *more = add ? add + h * ROWS : NULL;
        store(_mm512_castsi512_si256(sum[h]), scale, bias, more, out + h * ROWS);
        store(_mm512_extracti64x4_epi64(sum[h], 1), scale, bias, more ? more + 16 : NULL,
              out + h * ROWS + 16);
    }
}

static void pq8_sums_vbmi(const uint8_t *entries, size_t m, const uint8_t *codes, size_t n, float scale,
                          float bias, const float *add, float *out)
{
    enum { BLOCK = 2 * ROWS };
    if (m % 8 != 0 || n < BLOCK) {
        pq8_sums(entries, m, codes, n, scale, bias, add, out);
        return;
    }
    __m512 s = _mm512_set1_ps(scale), b = _mm512_set1_ps(bias);
    for (size_t i = 0; i < n; i += BLOCK) {
        if (i + BLOCK > n) i = n - BLOCK; /* the last rows once more with some before them */
        block_by_bytes(entries, m, codes + i * m, s, b, add ? add + i : NULL, out + i);
    }
}

#include "simd/target_end.h"

void ki_simd_pq8sum_avx512(ki_kernels *table, const ki_cpu *cpu)
{
    table->pq8_sums = cpu->avx512_vbmi ? pq8_sums_vbmi : pq8_sums;
}
#endif
