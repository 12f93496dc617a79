/* Rows of half floats and of small whole numbers for AVX2: bytes are widened to 16 bits and multiplied in pairs. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>

#include "simd/target_avx2.h"

#define NAME(x) x

typedef enum op { OP_L2SQ, OP_DOT, OP_L1 } op;

KI_INLINE __m256 magnitude(__m256 v)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v);
}

KI_INLINE float lanes_sum(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_hadd_ps(s, s);
    return _mm_cvtss_f32(_mm_hadd_ps(s, s));
}

KI_INLINE int32_t lanes_total(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

KI_INLINE __m256 f16_step(const op o, __m256 sum, __m256 q, __m256 x)
{
    if (o == OP_DOT) return _mm256_fnmadd_ps(q, x, sum);
    __m256 off = _mm256_sub_ps(q, x);
    return o == OP_L2SQ ? _mm256_fmadd_ps(off, off, sum) : _mm256_add_ps(sum, magnitude(off));
}

KI_INLINE __m256 halves(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

KI_INLINE float f16_row(const op o, const float *q, const uint16_t *code, size_t dim)
{
    __m256 even = _mm256_setzero_ps(), odd = even;
    size_t d = 0;
    for (; d + 16 <= dim; d += 16) {
        even = f16_step(o, even, _mm256_loadu_ps(q + d), halves(code + d));
        odd = f16_step(o, odd, _mm256_loadu_ps(q + d + 8), halves(code + d + 8));
    }
    if (d + 8 <= dim) {
        even = f16_step(o, even, _mm256_loadu_ps(q + d), halves(code + d));
        d += 8;
    }
    if (d < dim) {
        float rest_q[8] = {0};
        uint16_t rest[8] = {0};
        for (size_t i = 0; d + i < dim; i++) rest_q[i] = q[d + i], rest[i] = code[d + i];
        odd = f16_step(o, odd, _mm256_loadu_ps(rest_q), halves(rest));
    }
    return lanes_sum(_mm256_add_ps(even, odd));
}

KI_INLINE __m256i products(const int16_t *wide, __m128i bytes)
{
    return _mm256_madd_epi16(_mm256_loadu_si256((const __m256i *)(const void *)wide),
                             _mm256_cvtepu8_epi16(bytes));
}

KI_INLINE int32_t sq8_dot(const ki_sq_query *q, const uint8_t *code, size_t dim)
{
    __m256i even = _mm256_setzero_si256(), odd = even;
    size_t d = 0;
    for (; d + 32 <= dim; d += 32) {
        even = _mm256_add_epi32(
            even, products(q->wide + d, _mm_loadu_si128((const __m128i *)(const void *)(code + d))));
        odd = _mm256_add_epi32(
            odd, products(q->wide + d + 16, _mm_loadu_si128((const __m128i *)(const void *)(code + d + 16))));
    }
    for (; d + 8 <= dim; d += 8) {
        __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)(code + d));
        even = _mm256_add_epi32(even, products(q->wide + d, bytes));
    }
    int32_t sum = lanes_total(_mm256_add_epi32(even, odd));
    for (; d < dim; d++) sum += q->wide[d] * code[d];
    return sum;
}

KI_INLINE __m256i half_products(const int16_t *first, const int16_t *second, __m128i bytes)
{
    const __m128i low = _mm_set1_epi8(15);
    return _mm256_add_epi32(products(first, _mm_and_si128(bytes, low)),
                            products(second, _mm_and_si128(_mm_srli_epi16(bytes, 4), low)));
}

KI_INLINE int32_t sq4_dot(const ki_sq_query *q, const uint8_t *code, size_t half)
{
    const int16_t *first = q->wide, *second = q->wide + ki_sq_padded(half);
    __m256i total = _mm256_setzero_si256();
    size_t j = 0;
    for (; j + 16 <= half; j += 16)
        total = _mm256_add_epi32(
            total,
            half_products(first + j, second + j, _mm_loadu_si128((const __m128i *)(const void *)(code + j))));
    if (j + 8 <= half) {
        __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)(code + j));
        total = _mm256_add_epi32(total, half_products(first + j, second + j, bytes));
        j += 8;
    }
    int32_t sum = lanes_total(total);
    for (; j < half; j++) sum += first[j] * (code[j] & 15) + second[j] * (code[j] >> 4);
    return sum;
}

KI_INLINE __m256 l1_step(__m256 sum, const float *a, const float *step, __m128i bytes)
{
    __m256 code = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
    return _mm256_add_ps(sum, magnitude(_mm256_fnmadd_ps(_mm256_loadu_ps(step), code, _mm256_loadu_ps(a))));
}

/* The bytes of a row, eight at a time; zeros behind its end. */
KI_INLINE __m128i eight_bytes(const uint8_t *code, size_t at, size_t end)
{
    if (at + 8 <= end) return _mm_loadl_epi64((const __m128i *)(const void *)(code + at));
    uint8_t rest[8] = {0};
    for (size_t i = at; i < end; i++) rest[i - at] = code[i];
    return _mm_loadl_epi64((const __m128i *)(const void *)rest);
}

KI_INLINE float sq8_l1_row(const float *a, const float *step, const uint8_t *code, size_t dim)
{
    __m256 sum = _mm256_setzero_ps();
    for (size_t d = 0; d < dim; d += 8) sum = l1_step(sum, a + d, step + d, eight_bytes(code, d, dim));
    return lanes_sum(sum);
}

KI_INLINE float sq4_l1_row(const float *a, const float *step, const uint8_t *code, size_t half)
{
    const float *a2 = a + ki_sq_padded(half), *step2 = step + ki_sq_padded(half);
    const __m128i low = _mm_set1_epi8(15);
    __m256 first = _mm256_setzero_ps(), second = first;
    for (size_t j = 0; j < half; j += 8) {
        __m128i bytes = eight_bytes(code, j, half);
        first = l1_step(first, a + j, step + j, _mm_and_si128(bytes, low));
        second = l1_step(second, a2 + j, step2 + j, _mm_and_si128(_mm_srli_epi16(bytes, 4), low));
    }
    return lanes_sum(_mm256_add_ps(first, second));
}

#include "simd/sq_loops.h"

#include "simd/target_end.h"

void ki_simd_sq_avx2(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    enter(table);
}
#endif
