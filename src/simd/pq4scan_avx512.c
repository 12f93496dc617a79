/* Look-ups by half bytes in 512-bit registers: two bytes of 32 rows a load, two vpshufb, 128 look-ups; two blocks of rows side by side.
 *
 * Of each load that is one vpand, one vpsrlw, one vpand, two vpshufb and two additions. Entries are at most 63, so four of
 * them fit into a byte: only every second pair of sums is widened, by the usual trick of adding the register as 16-bit
 * numbers as it is and once more shifted by 8, and taking the excess off at the end. */
#include "simd/levels.h"

#ifdef KI_X86
#include <float.h>
#include <immintrin.h>
#include <stddef.h>

#include "simd/target_avx512.h"

#define BLOCK 32

/* Sums of 16 bits for two blocks, or one: all bytes of a register as 16-bit numbers, and the odd bytes alone. */
typedef struct pair_sums {
    __m512i all[2], odd[2];
} pair_sums;

/* 64 look-ups of each block added up in pairs: bytes j and j + 1 of 32 rows. */
KI_INLINE void look_up(const int n, const uint8_t *tables, const __m512i codes[2], __m512i found[2])
{
    const __m512i half = _mm512_set1_epi8(15);
    __m512i low = _mm512_loadu_si512(tables), high = _mm512_loadu_si512(tables + 64);
    KI_UNROLL
    for (int i = 0; i < n; i++)
        found[i] = _mm512_add_epi8(
            _mm512_shuffle_epi8(low, _mm512_and_si512(codes[i], half)),
            _mm512_shuffle_epi8(high, _mm512_and_si512(_mm512_srli_epi16(codes[i], 4), half)));
}

KI_INLINE void add(pair_sums *s, const int n, const __m512i found[2])
{
    KI_UNROLL
    for (int i = 0; i < n; i++) {
        s->all[i] = _mm512_add_epi16(s->all[i], found[i]);
        s->odd[i] = _mm512_add_epi16(s->odd[i], _mm512_srli_epi16(found[i], 8));
    }
}

/* Sums of a block's rows 0..15 and 16..31, as they are written. */
KI_INLINE void store_rows(__m512i all, __m512i odd, __m512 scale, __m512 bias, const float *add, size_t n,
                          float *out)
{
    __m512i even = _mm512_sub_epi16(all, _mm512_slli_epi16(odd, 8));
    __m256i e = _mm256_add_epi16(_mm512_castsi512_si256(even), _mm512_extracti64x4_epi64(even, 1));
    __m256i o = _mm256_add_epi16(_mm512_castsi512_si256(odd), _mm512_extracti64x4_epi64(odd, 1));
    __m256i a = _mm256_unpacklo_epi16(e, o), b = _mm256_unpackhi_epi16(e, o);
    __m256i rows[2] = {_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31)};
    KI_UNROLL
    for (size_t h = 0; h < 2; h++) {
        if (16 * h >= n) break;
        size_t left = n - 16 * h;
        __mmask16 mask = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
        __m512 value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(rows[h])), scale, bias);
        if (add) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, add + 16 * h));
        _mm512_mask_storeu_ps(out + 16 * h, mask, value);
    }
}

/* n blocks, 1 or 2 and known where this is inlined: two share the loads of the tables. `rows` of them are written. */
KI_INLINE void blocks(const int n, const uint8_t *tables, size_t bytes, const uint8_t *codes, __m512 scale,
                      __m512 bias, const float *adds, size_t rows, float *out)
{
    const __m512i zero = _mm512_setzero_si512();
    const uint8_t *at[2] = {codes, codes + (n - 1) * (ptrdiff_t)(BLOCK * bytes)};
    pair_sums s = {{zero, zero}, {zero, zero}};
    __m512i code[2], found[2], more[2];
    size_t j = 0;
    for (; j + 4 <= bytes; j += 4, tables += 256) {
        KI_UNROLL
        for (int i = 0; i < n; i++) code[i] = _mm512_loadu_si512(at[i] + j * BLOCK);
        look_up(n, tables, code, found);
        KI_UNROLL
        for (int i = 0; i < n; i++) code[i] = _mm512_loadu_si512(at[i] + (j + 2) * BLOCK);
        look_up(n, tables + 128, code, more);
        KI_UNROLL
        for (int i = 0; i < n; i++) found[i] = _mm512_add_epi8(found[i], more[i]);
        add(&s, n, found);
    }
    for (; j < bytes; j += 2, tables += 128) {
        __mmask16 there = j + 2 <= bytes ? 0xffff : 0x00ff;
        for (int i = 0; i < n; i++) code[i] = _mm512_maskz_loadu_epi32(there, at[i] + j * BLOCK);
        look_up(n, tables, code, found);
        add(&s, n, found);
    }
    store_rows(s.all[0], s.odd[0], scale, bias, adds, n == 2 ? BLOCK : rows, out);
    if (n == 2)
        store_rows(s.all[1], s.odd[1], scale, bias, adds ? adds + BLOCK : NULL, rows - BLOCK, out + BLOCK);
}

static void pq4_scan(const uint8_t *tables, size_t bytes, const uint8_t *codes, size_t n, float scale,
                     float bias, const float *add, float *out)
{
    __m512 s = _mm512_set1_ps(scale), b = _mm512_set1_ps(bias);
    for (size_t i = 0; i < n; i += 2 * BLOCK, codes += 2 * BLOCK * bytes) {
        const float *adds = add ? add + i : NULL;
        size_t rows = n - i < 2 * BLOCK ? n - i : 2 * BLOCK;
        if (rows > BLOCK)
            blocks(2, tables, bytes, codes, s, b, adds, rows, out + i);
        else
            blocks(1, tables, bytes, codes, s, b, adds, rows, out + i);
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
