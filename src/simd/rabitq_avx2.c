/* RaBitQ for AVX2. Look-ups give two sums of up to 124 for a byte of code; added, they stay below 256. They are gathered in
 * words of 16 bits, once as they are and once shifted, so that the even rows are the first less the second. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>

#include "simd/target_avx2.h"

/* Bytes of code after which sums of 16 bits go over into 32: 256 * 248 is below 2^16. */
#define FLUSH 256

KI_INLINE __m256i load32(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

static float absmax_f32(const float *x, size_t n)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 most = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + 8 <= n; i += 8) most = _mm256_max_ps(most, _mm256_andnot_ps(sign, _mm256_loadu_ps(x + i)));
    float lanes[8], found = 0;
    _mm256_storeu_ps(lanes, most);
    for (size_t j = 0; j < 8; j++) found = lanes[j] > found ? lanes[j] : found;
    for (; i < n; i++) {
        float value = __builtin_fabsf(x[i]);
        found = value > found ? value : found;
    }
    return found;
}

KI_INLINE int32_t sum_lanes(__m256i v)
{
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1)));
}

/* The low bytes of 8 numbers. */
KI_INLINE void store_bytes(int8_t *out, __m256i v)
{
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64((__m128i *)(void *)out, _mm_packs_epi16(words, words));
}

static ki_rabitq_sums rabitq_weights(const float *x, size_t n, float coarse, float fine, int8_t *weights,
                                     int8_t *high, int8_t *low)
{
    const __m256 c = _mm256_set1_ps(coarse), f = _mm256_set1_ps(fine);
    const __m256i zero = _mm256_setzero_si256();
    __m256i total = zero, negative = zero, sum = zero;
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        __m256i weight = _mm256_cvtps_epi32(_mm256_mul_ps(v, c)),
                wide = _mm256_cvtps_epi32(_mm256_mul_ps(v, f));
        __m256i upper = _mm256_srai_epi32(_mm256_add_epi32(wide, _mm256_set1_epi32(64)), 7);
        store_bytes(weights + i, weight);
        store_bytes(high + i, upper);
        store_bytes(low + i, _mm256_sub_epi32(wide, _mm256_slli_epi32(upper, 7)));
        total = _mm256_add_epi32(total, _mm256_abs_epi32(weight));
        negative = _mm256_add_epi32(negative, _mm256_min_epi32(weight, zero));
        sum = _mm256_add_epi32(sum, wide);
    }
    return (ki_rabitq_sums){sum_lanes(total), sum_lanes(negative), sum_lanes(sum)};
}

/* The sixteen values of four weights, in both lanes: bit i of the value takes weight i. */
KI_INLINE __m256i table_of(const int8_t *weights)
{
    const __m128i value = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m128i sum = _mm_setzero_si128();
    KI_UNROLL
    for (int i = 0; i < 4; i++) {
        __m128i bit = _mm_set1_epi8((char)(1 << i)), ones = _mm_cmpeq_epi8(_mm_and_si128(value, bit), bit);
        __m128i weight = _mm_set1_epi8((char)weights[i]);
        sum = _mm_add_epi8(
            sum, _mm_sub_epi8(_mm_and_si128(ones, weight), _mm_min_epi8(weight, _mm_setzero_si128())));
    }
    return _mm256_broadcastsi128_si256(sum);
}

static void rabitq_tables(const int8_t *weights, size_t bytes, uint8_t *tables)
{
    for (size_t j = 0; j < (bytes + 1) / 2 * 2; j++)
        for (size_t half = 0; half < 2; half++)
            _mm256_storeu_si256((__m256i *)(void *)(tables + j / 2 * 128 + half * 64 + j % 2 * 32),
                                j < bytes ? table_of(weights + j * 8 + half * 4) : _mm256_setzero_si256());
}

KI_INLINE __m256i look_up(const ki_rabitq_query *q, size_t j, __m256i bytes)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    const uint8_t *table = q->tables + j / 2 * 128 + j % 2 * 32;
    __m256i low = _mm256_shuffle_epi8(load32(table), _mm256_and_si256(bytes, nibble));
    __m256i high =
        _mm256_shuffle_epi8(load32(table + 64), _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble));
    return _mm256_add_epi8(low, high);
}

/* Estimates of eight rows; which of them may be near. */
KI_INLINE uint32_t finish(const ki_rabitq_query *q, __m256i sum, const float *factors, float worst,
                          float *estimate, float *lower)
{
    __m256i packed = load32(factors + KI_RABITQ_ROWS);
    __m256 k = _mm256_castsi256_ps(_mm256_and_si256(packed, _mm256_set1_epi32((int)0xffff0000u))),
           e = _mm256_castsi256_ps(_mm256_slli_epi32(packed, 16));
    __m256 product =
        _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_slli_epi32(sum, 1), _mm256_set1_epi32(q->total)));
    __m256 along = _mm256_mul_ps(k, _mm256_mul_ps(_mm256_set1_ps(q->step), product));
    __m256 near = _mm256_add_ps(_mm256_add_ps(_mm256_set1_ps(q->base), _mm256_loadu_ps(factors)), along);
    __m256 least = _mm256_sub_ps(near, _mm256_mul_ps(e, _mm256_set1_ps(q->norm)));
    if (estimate) _mm256_storeu_ps(estimate, near);
    if (lower) _mm256_storeu_ps(lower, least);
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(least, _mm256_set1_ps(worst), _CMP_NGT_UQ));
}

KI_INLINE uint32_t block(const ki_rabitq_query *q, const uint8_t *codes, const float *factors, float worst,
                         float *estimate, float *lower)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i sum[4] = {zero, zero, zero, zero};
    for (size_t first = 0; first < q->bytes; first += FLUSH) {
        size_t end = q->bytes - first < FLUSH ? q->bytes : first + FLUSH;
        __m256i both = zero, odd = zero;
        for (size_t j = first; j < end; j++) {
            __m256i found = look_up(q, j, load32(codes + KI_RABITQ_ROWS * j));
            both = _mm256_add_epi16(both, found);
            odd = _mm256_add_epi16(odd, _mm256_srli_epi16(found, 8));
        }
        __m256i even = _mm256_sub_epi16(both, _mm256_slli_epi16(odd, 8));
        __m256i a = _mm256_unpacklo_epi16(even, odd), b = _mm256_unpackhi_epi16(even, odd);
        sum[0] = _mm256_add_epi32(sum[0], _mm256_cvtepu16_epi32(_mm256_castsi256_si128(a)));
        sum[1] = _mm256_add_epi32(sum[1], _mm256_cvtepu16_epi32(_mm256_castsi256_si128(b)));
        sum[2] = _mm256_add_epi32(sum[2], _mm256_cvtepu16_epi32(_mm256_extracti128_si256(a, 1)));
        sum[3] = _mm256_add_epi32(sum[3], _mm256_cvtepu16_epi32(_mm256_extracti128_si256(b, 1)));
    }
    uint32_t mask = 0;
    for (size_t i = 0; i < 4; i++)
        mask |= finish(q, sum[i], factors + 8 * i, worst, estimate ? estimate + 8 * i : NULL,
                       lower ? lower + 8 * i : NULL)
                << 8 * i;
    return mask;
}

static void rabitq_blocks(const ki_rabitq_query *q, const uint8_t *codes, size_t stride, const float *factors,
                          size_t n, ki_rabitq_ahead ahead, float worst, float *estimate, float *lower,
                          uint32_t *mask)
{
    for (size_t i = 0; i < n; i++, codes += stride, factors += 2 * KI_RABITQ_ROWS) {
        ki_rabitq_fetch(q, ahead, stride, i);
        mask[i] = block(q, codes, factors, worst, estimate ? estimate + i * KI_RABITQ_ROWS : NULL,
                        lower ? lower + i * KI_RABITQ_ROWS : NULL);
    }
}

/* 0xff where the bit of a component is 1, for 32 components. */
KI_INLINE __m256i bits_to_bytes(uint32_t bits)
{
    const __m256i spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2,
                                            2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201ull);
    __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), spread);
    return _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
}

/* Up to four bytes of a code. */
KI_INLINE uint32_t four_bytes(const uint8_t *code, size_t at, size_t end)
{
    uint32_t bits = 0;
    if (at >= end) return 0;
    if (at + 4 <= end)
        __builtin_memcpy(&bits, code + at, 4);
    else
        for (size_t i = at; i < end; i++) bits |= (uint32_t)code[i] << 8 * (i - at);
    return bits;
}

static void rabitq_rows(const ki_rabitq_query *q, const uint8_t *codes, size_t stride, const uint32_t *rows,
                        size_t n, int32_t *sum)
{
    const __m256i ones = _mm256_set1_epi16(1), units = _mm256_set1_epi8(1);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *code = codes + (rows ? rows[i] : i) * stride;
        __m256i found = _mm256_setzero_si256();
        for (size_t at = 0; at < q->bytes; at += 4) {
            __m256i taken =
                _mm256_and_si256(bits_to_bytes(four_bytes(code, at, q->bytes)), load32(q->weights + at * 8));
            found = _mm256_add_epi32(found, _mm256_madd_epi16(_mm256_maddubs_epi16(units, taken), ones));
        }
        sum[i] = sum_lanes(found) - q->negative;
    }
}

/* Products of 32 numbers of 8 bits with fine weights: |high| and |low| are at most 64, so pairs of products stay within
 * 16 bits. */
KI_INLINE void products(__m256i u, const int8_t *high, const int8_t *low, __m256i *above, __m256i *below)
{
    const __m256i ones = _mm256_set1_epi16(1);
    *above = _mm256_add_epi32(*above, _mm256_madd_epi16(_mm256_maddubs_epi16(u, load32(high)), ones));
    *below = _mm256_add_epi32(*below, _mm256_madd_epi16(_mm256_maddubs_epi16(u, load32(low)), ones));
}

static int32_t rabitq_extra(const ki_rabitq_query *q, const uint8_t *signs, const uint8_t *extra, size_t bits)
{
    const __m256i three = _mm256_set1_epi8(3), fifteen = _mm256_set1_epi8(15);
    const __m256i sign = _mm256_set1_epi8((char)(1 << bits)), one = _mm256_set1_epi8((char)(1 << (bits & 6)));
    __m256i above = _mm256_setzero_si256(), below = above;
    for (size_t at = 0; at < q->bytes; at += 8) {
        __m256i a = _mm256_and_si256(bits_to_bytes(four_bytes(signs, at, q->bytes)), sign),
                b = _mm256_and_si256(bits_to_bytes(four_bytes(signs, at + 4, q->bytes)), sign);
        if (bits & 4) {
            __m256i halves = load32(extra);
            a = _mm256_or_si256(a, _mm256_and_si256(halves, fifteen));
            b = _mm256_or_si256(b, _mm256_and_si256(_mm256_srli_epi16(halves, 4), fifteen));
            extra += 32;
        }
        if (bits & 2) {
            __m256i pairs =
                _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)extra));
            __m256i first = _mm256_and_si256(_mm256_srlv_epi64(pairs, _mm256_setr_epi64x(0, 0, 2, 2)), three),
                    second =
                        _mm256_and_si256(_mm256_srlv_epi64(pairs, _mm256_setr_epi64x(4, 4, 6, 6)), three);
            a = _mm256_or_si256(a, bits & 4 ? _mm256_slli_epi16(first, 4) : first);
            b = _mm256_or_si256(b, bits & 4 ? _mm256_slli_epi16(second, 4) : second);
            extra += 16;
        }
        if (bits & 1) {
            a = _mm256_or_si256(a, _mm256_and_si256(bits_to_bytes(four_bytes(extra, 0, 4)), one));
            b = _mm256_or_si256(b, _mm256_and_si256(bits_to_bytes(four_bytes(extra, 4, 8)), one));
            extra += 8;
        }
        products(a, q->high + at * 8, q->low + at * 8, &above, &below);
        products(b, q->high + at * 8 + 32, q->low + at * 8 + 32, &above, &below);
    }
    return (int32_t)(128u * (uint32_t)sum_lanes(above) + (uint32_t)sum_lanes(below)); /* the whole fits */
}

#include "simd/target_end.h"

void ki_simd_rabitq_avx2(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->absmax_f32 = absmax_f32;
    table->rabitq_weights = rabitq_weights;
    table->rabitq_tables = rabitq_tables;
    table->rabitq_blocks = rabitq_blocks;
    table->rabitq_rows = rabitq_rows;
    table->rabitq_extra = rabitq_extra;
}
#endif
