/* Rows of half floats and of small whole numbers for AVX-512, whole numbers once with VNNI and once without.
 *
 * VNNI multiplies unsigned with signed bytes and adds four products to each 32-bit lane. A weight of 15 bits is two signed
 * bytes, so 64 components cost two instructions and nothing is widened; lanes may wrap, their sum does not. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>

#include "simd/target_avx512.h"

typedef enum op { OP_L2SQ, OP_DOT, OP_L1 } op;

KI_INLINE __m512 f16_step(const op o, __m512 sum, __m512 q, __m512 x)
{
    if (o == OP_DOT) return _mm512_fnmadd_ps(q, x, sum);
    __m512 off = _mm512_sub_ps(q, x);
    return o == OP_L2SQ ? _mm512_fmadd_ps(off, off, sum) : _mm512_add_ps(sum, _mm512_abs_ps(off));
}

KI_INLINE __m512 halves(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

KI_INLINE float wide_f16_row(const op o, const float *q, const uint16_t *code, size_t dim)
{
    __m512 even = _mm512_setzero_ps(), odd = even;
    size_t d = 0;
    for (; d + 32 <= dim; d += 32) {
        even = f16_step(o, even, _mm512_loadu_ps(q + d), halves(code + d));
        odd = f16_step(o, odd, _mm512_loadu_ps(q + d + 16), halves(code + d + 16));
    }
    if (d + 16 <= dim) {
        even = f16_step(o, even, _mm512_loadu_ps(q + d), halves(code + d));
        d += 16;
    }
    if (d < dim) {
        __mmask16 rest = (__mmask16)((1u << (dim - d)) - 1);
        odd = f16_step(o, odd, _mm512_maskz_loadu_ps(rest, q + d),
                       _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(rest, code + d)));
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(even, odd));
}

KI_INLINE __m512 l1_step(__m512 sum, const float *a, const float *step, __m128i bytes)
{
    __m512 code = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
    return _mm512_add_ps(sum,
                         _mm512_abs_ps(_mm512_fnmadd_ps(_mm512_loadu_ps(step), code, _mm512_loadu_ps(a))));
}

/* The bytes of a row, sixteen at a time; zeros behind its end. */
KI_INLINE __m128i sixteen_bytes(const uint8_t *code, size_t at, size_t end)
{
    if (at + 16 <= end) return _mm_loadu_si128((const __m128i *)(const void *)(code + at));
    return _mm_maskz_loadu_epi8((__mmask16)((1u << (end - at)) - 1), code + at);
}

KI_INLINE float wide_sq8_l1_row(const float *a, const float *step, const uint8_t *code, size_t dim)
{
    __m512 sum = _mm512_setzero_ps();
    for (size_t d = 0; d < dim; d += 16) sum = l1_step(sum, a + d, step + d, sixteen_bytes(code, d, dim));
    return _mm512_reduce_add_ps(sum);
}

KI_INLINE float wide_sq4_l1_row(const float *a, const float *step, const uint8_t *code, size_t half)
{
    const float *a2 = a + ki_sq_padded(half), *step2 = step + ki_sq_padded(half);
    const __m128i low = _mm_set1_epi8(15);
    __m512 first = _mm512_setzero_ps(), second = first;
    for (size_t j = 0; j < half; j += 16) {
        __m128i bytes = sixteen_bytes(code, j, half);
        first = l1_step(first, a + j, step + j, _mm_and_si128(bytes, low));
        second = l1_step(second, a2 + j, step2 + j, _mm_and_si128(_mm_srli_epi16(bytes, 4), low));
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(first, second));
}

KI_INLINE __m512i load64(const void *p)
{
    return _mm512_loadu_si512(p);
}

/* 64 bytes of a row; zeros behind its end. */
KI_INLINE __m512i row_bytes(const uint8_t *code, size_t at, size_t end)
{
    if (at + 64 <= end) return load64(code + at);
    return _mm512_maskz_loadu_epi8((((__mmask64)1 << (end - at)) - 1), code + at);
}

/* ---- without VNNI: widened to 16 bits ---- */

#define NAME(x) x##_bw
#define f16_row_bw wide_f16_row
#define sq8_l1_row_bw wide_sq8_l1_row
#define sq4_l1_row_bw wide_sq4_l1_row

KI_INLINE __m512i products(__m512i sum, const int16_t *wide, __m512i bytes)
{
    __m512i low = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(bytes)),
            high = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(bytes, 1));
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(load64(wide), low));
    return _mm512_add_epi32(sum, _mm512_madd_epi16(load64(wide + 32), high));
}

KI_INLINE int32_t sq8_dot_bw(const ki_sq_query *q, const uint8_t *code, size_t dim)
{
    __m512i sum = _mm512_setzero_si512();
    for (size_t d = 0; d < dim; d += 64) sum = products(sum, q->wide + d, row_bytes(code, d, dim));
    return _mm512_reduce_add_epi32(sum);
}

KI_INLINE int32_t sq4_dot_bw(const ki_sq_query *q, const uint8_t *code, size_t half)
{
    const __m512i low = _mm512_set1_epi8(15);
    const int16_t *second = q->wide + ki_sq_padded(half);
    __m512i sum = _mm512_setzero_si512();
    for (size_t j = 0; j < half; j += 64) {
        __m512i bytes = row_bytes(code, j, half);
        sum = products(sum, q->wide + j, _mm512_and_si512(bytes, low));
        sum = products(sum, second + j, _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low));
    }
    return _mm512_reduce_add_epi32(sum);
}

#include "simd/sq_loops.h"
#include "simd/target_end.h"
#undef NAME

/* ---- with VNNI ---- */

#include "simd/target_avx512_vnni.h"

#define NAME(x) x##_vnni
#define f16_row_vnni wide_f16_row
#define sq8_l1_row_vnni wide_sq8_l1_row
#define sq4_l1_row_vnni wide_sq4_l1_row

KI_INLINE int32_t both(__m512i high, __m512i low)
{
    return _mm512_reduce_add_epi32(_mm512_add_epi32(_mm512_slli_epi32(high, 7), low));
}

KI_INLINE int32_t sq8_dot_vnni(const ki_sq_query *q, const uint8_t *code, size_t dim)
{
    __m512i high = _mm512_setzero_si512(), low = high;
    for (size_t d = 0; d < dim; d += 64) {
        __m512i bytes = row_bytes(code, d, dim);
        high = _mm512_dpbusd_epi32(high, bytes, load64(q->high + d));
        low = _mm512_dpbusd_epi32(low, bytes, load64(q->low + d));
    }
    return both(high, low);
}

KI_INLINE int32_t sq4_dot_vnni(const ki_sq_query *q, const uint8_t *code, size_t half)
{
    const __m512i mask = _mm512_set1_epi8(15);
    size_t second = ki_sq_padded(half);
    __m512i high = _mm512_setzero_si512(), low = high;
    for (size_t j = 0; j < half; j += 64) {
        __m512i bytes = row_bytes(code, j, half), a = _mm512_and_si512(bytes, mask),
                b = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), mask);
        high = _mm512_dpbusd_epi32(high, a, load64(q->high + j));
        low = _mm512_dpbusd_epi32(low, a, load64(q->low + j));
        high = _mm512_dpbusd_epi32(high, b, load64(q->high + second + j));
        low = _mm512_dpbusd_epi32(low, b, load64(q->low + second + j));
    }
    return both(high, low);
}

#include "simd/sq_loops.h"
#include "simd/target_end.h"

void ki_simd_sq_avx512(ki_kernels *table, const ki_cpu *cpu)
{
    if (cpu->avx512_vnni)
        enter_vnni(table);
    else
        enter_bw(table);
}
#endif
