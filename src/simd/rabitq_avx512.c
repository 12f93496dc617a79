/* RaBitQ for AVX-512: two bytes of code of 32 rows a look-up; see rabitq_avx2.c for how sums are kept. What is not here is
 * AVX2's. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>

#include "simd/target_avx512.h"

#define FLUSH 256 /* as in rabitq_avx2.c */

KI_INLINE __m512i load64(const void *p)
{
    return _mm512_loadu_si512(p);
}

static float absmax_f32(const float *x, size_t n)
{
    __m512 most = _mm512_setzero_ps();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_loadu_ps(x + i)));
    if (i < n)
        most = _mm512_max_ps(most,
                             _mm512_abs_ps(_mm512_maskz_loadu_ps((__mmask16)((1u << (n - i)) - 1), x + i)));
    return _mm512_reduce_max_ps(most);
}

static ki_rabitq_sums rabitq_weights(const float *x, size_t n, float coarse, float fine, int8_t *weights,
                                     int8_t *high, int8_t *low)
{
    const __m512 c = _mm512_set1_ps(coarse), f = _mm512_set1_ps(fine);
    const __m512i zero = _mm512_setzero_si512(), half = _mm512_set1_epi32(64);
    __m512i total = zero, negative = zero, sum = zero;
    for (size_t i = 0; i < n; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        __m512i weight = _mm512_cvtps_epi32(_mm512_mul_ps(v, c)),
                wide = _mm512_cvtps_epi32(_mm512_mul_ps(v, f));
        __m512i upper = _mm512_srai_epi32(_mm512_add_epi32(wide, half), 7);
        _mm_storeu_si128((__m128i *)(void *)(weights + i), _mm512_cvtepi32_epi8(weight));
        _mm_storeu_si128((__m128i *)(void *)(high + i), _mm512_cvtepi32_epi8(upper));
        _mm_storeu_si128((__m128i *)(void *)(low + i),
                         _mm512_cvtepi32_epi8(_mm512_sub_epi32(wide, _mm512_slli_epi32(upper, 7))));
        total = _mm512_add_epi32(total, _mm512_abs_epi32(weight));
        negative = _mm512_add_epi32(negative, _mm512_min_epi32(weight, zero));
        sum = _mm512_add_epi32(sum, wide);
    }
    return (ki_rabitq_sums){_mm512_reduce_add_epi32(total), _mm512_reduce_add_epi32(negative),
                            _mm512_reduce_add_epi32(sum)};
}

/* In each lane the sixteen values of the four weights that it holds, and of what they are less where negative. */
KI_INLINE __m512i tables_of(__m512i weights, __m512i less)
{
    const __m512i at = _mm512_setzero_si512();
    __m512i sum = _mm512_shuffle_epi8(less, at);
    sum = _mm512_add_epi8(sum, _mm512_maskz_shuffle_epi8(0xaaaaaaaaaaaaaaaaull, weights, at));
    sum =
        _mm512_add_epi8(sum, _mm512_maskz_shuffle_epi8(0xccccccccccccccccull, weights, _mm512_set1_epi8(1)));
    sum =
        _mm512_add_epi8(sum, _mm512_maskz_shuffle_epi8(0xf0f0f0f0f0f0f0f0ull, weights, _mm512_set1_epi8(2)));
    return _mm512_add_epi8(sum,
                           _mm512_maskz_shuffle_epi8(0xff00ff00ff00ff00ull, weights, _mm512_set1_epi8(3)));
}

static void rabitq_tables(const int8_t *weights, size_t bytes, uint8_t *tables)
{
    const __m512i low = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2),
                  high = _mm512_setr_epi32(1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 3, 3, 3);
    for (size_t j = 0; j < bytes; j += 2, tables += 128) {
        __mmask16 there = j + 1 < bytes ? 0xffff : 0x00ff;
        __m128i four = _mm_maskz_loadu_epi8(there, weights + j * 8);
        /* In the first byte of each four: minus their negative sum. */
        __m128i negative = _mm_sub_epi8(_mm_setzero_si128(), _mm_min_epi8(four, _mm_setzero_si128()));
        __m128i less = _mm_madd_epi16(_mm_maddubs_epi16(negative, _mm_set1_epi8(1)), _mm_set1_epi16(1));
        __m512i all = _mm512_castsi128_si512(four), all_less = _mm512_castsi128_si512(less);
        _mm512_storeu_si512(
            tables, tables_of(_mm512_permutexvar_epi32(low, all), _mm512_permutexvar_epi32(low, all_less)));
        _mm512_storeu_si512(tables + 64, tables_of(_mm512_permutexvar_epi32(high, all),
                                                   _mm512_permutexvar_epi32(high, all_less)));
    }
}

/* Estimates of sixteen rows; which of them may be near. */
KI_INLINE uint32_t finish(const ki_rabitq_query *q, __m512i sum, const float *factors, float worst,
                          float *estimate, float *lower)
{
    __m512i packed = load64(factors + KI_RABITQ_ROWS);
    __m512 k = _mm512_castsi512_ps(_mm512_and_si512(packed, _mm512_set1_epi32((int)0xffff0000u))),
           e = _mm512_castsi512_ps(_mm512_slli_epi32(packed, 16));
    /* 2 sum - total, below 2^24: exact, fused or not. */
    __m512 product =
        _mm512_fmsub_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(2), _mm512_set1_ps((float)q->total));
    __m512 along = _mm512_mul_ps(k, _mm512_mul_ps(_mm512_set1_ps(q->step), product));
    __m512 near = _mm512_add_ps(_mm512_add_ps(_mm512_set1_ps(q->base), _mm512_loadu_ps(factors)), along);
    __m512 least = _mm512_sub_ps(near, _mm512_mul_ps(e, _mm512_set1_ps(q->norm)));
    if (estimate) _mm512_storeu_ps(estimate, near);
    if (lower) _mm512_storeu_ps(lower, least);
    return _mm512_cmp_ps_mask(least, _mm512_set1_ps(worst), _CMP_NGT_UQ);
}

/* Sums of 16 bits for the blocks of a pair (or one): the even bytes' and the odd bytes' rows, of two bytes of the code in a
 * register. The register as 16-bit numbers is added to `both`, and its odd bytes once more. */
typedef struct pair_sums {
    __m512i both[2], odd[2];
} pair_sums;

KI_INLINE void look_up(pair_sums *s, const int n, const uint8_t *table, const __m512i bytes[2])
{
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i low = load64(table), high = load64(table + 64);
    KI_UNROLL
    for (int i = 0; i < n; i++) {
        __m512i found = _mm512_add_epi8(
            _mm512_shuffle_epi8(low, _mm512_and_si512(bytes[i], nibble)),
            _mm512_shuffle_epi8(high, _mm512_and_si512(_mm512_srli_epi16(bytes[i], 4), nibble)));
        s->both[i] = _mm512_add_epi16(s->both[i], found);
        s->odd[i] = _mm512_add_epi16(s->odd[i], _mm512_srli_epi16(found, 8));
    }
}

/* Bytes j and j + 1 of the code; there: which of the 64 bytes are. */
KI_INLINE void step(pair_sums *s, const int n, const ki_rabitq_query *q, const uint8_t *codes, size_t stride,
                    size_t j, const int whole)
{
    const __mmask64 first = 0xffffffffull;
    __m512i bytes[2];
    KI_UNROLL
    for (int i = 0; i < n; i++) {
        const uint8_t *at = codes + (size_t)i * stride + KI_RABITQ_ROWS * j;
        bytes[i] = whole ? load64(at) : _mm512_maskz_loadu_epi8(first, at);
    }
    look_up(s, n, q->tables + j * 64, bytes);
}

/* What 16-bit sums add to the sums of rows 0..15 and of rows 16..31. */
KI_INLINE void widen(__m512i both, __m512i odd, __m512i sums[2])
{
    __m512i even = _mm512_sub_epi16(both, _mm512_slli_epi16(odd, 8));
    __m256i evens = _mm256_add_epi16(_mm512_castsi512_si256(even), _mm512_extracti64x4_epi64(even, 1)),
            odds = _mm256_add_epi16(_mm512_castsi512_si256(odd), _mm512_extracti64x4_epi64(odd, 1));
    __m256i a = _mm256_unpacklo_epi16(evens, odds), b = _mm256_unpackhi_epi16(evens, odds);
    sums[0] = _mm512_add_epi32(sums[0], _mm512_cvtepu16_epi32(_mm256_permute2x128_si256(a, b, 0x20)));
    sums[1] = _mm512_add_epi32(sums[1], _mm512_cvtepu16_epi32(_mm256_permute2x128_si256(a, b, 0x31)));
}

/* n blocks, 1 or 2 and known where this is inlined: two share the loads of the tables and keep both vector units busy where
 * one waits for its own sums. */
KI_INLINE void blocks(const int n, const ki_rabitq_query *q, const uint8_t *codes, size_t stride,
                      const float *factors, float worst, float *estimate, float *lower, uint32_t *mask)
{
    const __m512i zero = _mm512_setzero_si512();
    __m512i sums[2][2] = {{zero, zero}, {zero, zero}};
    for (size_t first = 0; first < q->bytes; first += FLUSH) {
        size_t end = q->bytes - first < FLUSH ? q->bytes : first + FLUSH, j = first;
        pair_sums s = {{zero, zero}, {zero, zero}};
        for (; j + 4 <= end; j += 4) {
            step(&s, n, q, codes, stride, j, 1);
            step(&s, n, q, codes, stride, j + 2, 1);
        }
        if (j + 2 <= end) {
            step(&s, n, q, codes, stride, j, 1);
            j += 2;
        }
        if (j < end) step(&s, n, q, codes, stride, j, 0); /* the tables beside a last byte are zero */
        for (int i = 0; i < n; i++) widen(s.both[i], s.odd[i], sums[i]);
    }
    for (int i = 0; i < n; i++)
        for (int h = 0; h < 2; h++) {
            size_t at = (size_t)i * KI_RABITQ_ROWS + (size_t)h * 16;
            uint32_t near = finish(q, sums[i][h], factors + i * 2 * KI_RABITQ_ROWS + h * 16, worst,
                                   estimate ? estimate + at : NULL, lower ? lower + at : NULL);
            mask[i] = h ? mask[i] | near << 16 : near;
        }
}

static void rabitq_blocks(const ki_rabitq_query *q, const uint8_t *codes, size_t stride, const float *factors,
                          size_t n, ki_rabitq_ahead ahead, float worst, float *estimate, float *lower,
                          uint32_t *mask)
{
    for (size_t i = 0; i < n; i += 2) {
        const uint8_t *code = codes + i * stride;
        const float *factor = factors + i * 2 * KI_RABITQ_ROWS;
        float *e = estimate ? estimate + i * KI_RABITQ_ROWS : NULL,
              *l = lower ? lower + i * KI_RABITQ_ROWS : NULL;
        ki_rabitq_fetch(q, ahead, stride, i);
        ki_rabitq_fetch(q, ahead, stride, i + 1);
        if (i + 1 < n)
            blocks(2, q, code, stride, factor, worst, e, l, mask + i);
        else
            blocks(1, q, code, stride, factor, worst, e, l, mask + i);
    }
}

/* Up to eight bytes of a code, a bit a component. */
KI_INLINE uint64_t eight_bytes(const uint8_t *code, size_t at, size_t end)
{
    uint64_t bits = 0;
    if (at + 8 <= end)
        __builtin_memcpy(&bits, code + at, 8);
    else
        for (size_t i = at; i < end; i++) bits |= (uint64_t)code[i] << 8 * (i - at);
    return bits;
}

static void rabitq_rows(const ki_rabitq_query *q, const uint8_t *codes, size_t stride, const uint32_t *rows,
                        size_t n, int32_t *sum)
{
    const __m512i ones = _mm512_set1_epi16(1), units = _mm512_set1_epi8(1);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *code = codes + (rows ? rows[i] : i) * stride;
        __m512i found = _mm512_setzero_si512();
        for (size_t at = 0; at < q->bytes; at += 8) {
            __m512i taken =
                _mm512_maskz_loadu_epi8(_cvtu64_mask64(eight_bytes(code, at, q->bytes)), q->weights + at * 8);
            found = _mm512_add_epi32(found, _mm512_madd_epi16(_mm512_maddubs_epi16(units, taken), ones));
        }
        sum[i] = _mm512_reduce_add_epi32(found) - q->negative;
    }
}

#include "simd/target_end.h"
#include "simd/target_avx512_vnni.h"

/* The codes of 64 components; bits is a constant in each caller. */
KI_INLINE __m512i codes_of(uint64_t signs, const uint8_t *extra, const size_t bits)
{
    __m512i u = _mm512_maskz_set1_epi8(_cvtu64_mask64(signs), (char)(1 << bits));
    if (bits & 4) {
        __m256i halves = _mm256_loadu_si256((const __m256i *)(const void *)extra);
        __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(halves), _mm256_srli_epi16(halves, 4), 1);
        u = _mm512_or_si512(u, _mm512_and_si512(both, _mm512_set1_epi8(15)));
        extra += 32;
    }
    if (bits & 2) {
        __m512i pairs = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)extra));
        pairs = _mm512_srlv_epi64(pairs, _mm512_setr_epi64(0, 0, 2, 2, 4, 4, 6, 6));
        pairs = _mm512_and_si512(pairs, _mm512_set1_epi8(3));
        u = _mm512_or_si512(u, bits & 4 ? _mm512_slli_epi16(pairs, 4) : pairs);
        extra += 16;
    }
    if (bits & 1)
        u = _mm512_or_si512(
            u, _mm512_maskz_set1_epi8(_cvtu64_mask64(eight_bytes(extra, 0, 8)), (char)(1 << (bits & 6))));
    return u;
}

KI_INLINE int32_t extra_sum(const ki_rabitq_query *q, const uint8_t *signs, const uint8_t *extra,
                            const size_t bits)
{
    __m512i above = _mm512_setzero_si512(), below = above;
    for (size_t at = 0; at < q->bytes; at += 8, extra += bits * 8) {
        __m512i u = codes_of(eight_bytes(signs, at, q->bytes), extra, bits);
        above = _mm512_dpbusd_epi32(above, u, _mm512_loadu_si512(q->high + at * 8));
        below = _mm512_dpbusd_epi32(below, u, _mm512_loadu_si512(q->low + at * 8));
    }
    return _mm512_reduce_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(above, 7), below));
}

static int32_t rabitq_extra_vnni(const ki_rabitq_query *q, const uint8_t *signs, const uint8_t *extra,
                                 size_t bits)
{
    switch (bits) {
    case 1: return extra_sum(q, signs, extra, 1);
    case 2: return extra_sum(q, signs, extra, 2);
    case 3: return extra_sum(q, signs, extra, 3);
    case 4: return extra_sum(q, signs, extra, 4);
    case 5: return extra_sum(q, signs, extra, 5);
    case 6: return extra_sum(q, signs, extra, 6);
    default: return extra_sum(q, signs, extra, 7);
    }
}

#include "simd/target_end.h"

void ki_simd_rabitq_avx512(ki_kernels *table, const ki_cpu *cpu)
{
    table->absmax_f32 = absmax_f32;
    table->rabitq_weights = rabitq_weights;
    table->rabitq_tables = rabitq_tables;
    table->rabitq_blocks = rabitq_blocks;
    table->rabitq_rows = rabitq_rows;
    if (cpu->avx512_vnni) table->rabitq_extra = rabitq_extra_vnni;
}
#endif
