/* hamming_loops.h - bits that differ, in registers of 64 bytes.
 *
 * A text that hamming_avx512.c includes twice, inside two target regions, each time after defining
 *
 *     NAME(x)              the name of a function in this region
 *     popcount(v)          the set bits of each of the eight 64-bit lanes
 *
 * Codes of 8, 16 and 32 bytes fill a register together; longer ones take registers of their own, four codes side by
 * side where there are four. */

KI_INLINE __m512i NAME(head)(const uint8_t *p, size_t bytes)
{
    return _mm512_maskz_loadu_epi8(((uint64_t)1 << bytes) - 1, p);
}

/* The bits that differ in one code, by lanes of 64 bits. */
KI_INLINE __m512i NAME(lanes)(const uint8_t *q, const uint8_t *x, size_t bytes)
{
    __m512i sum = _mm512_setzero_si512();
    size_t i = 0;
    for (; i + 64 <= bytes; i += 64)
        sum = _mm512_add_epi64(
            sum, NAME(popcount)(_mm512_xor_si512(_mm512_loadu_si512(q + i), _mm512_loadu_si512(x + i))));
    if (i < bytes)
        sum = _mm512_add_epi64(sum, NAME(popcount)(_mm512_xor_si512(NAME(head)(q + i, bytes - i),
                                                                    NAME(head)(x + i, bytes - i))));
    return sum;
}

KI_INLINE uint32_t NAME(one)(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    return (uint32_t)_mm512_reduce_add_epi64(NAME(lanes)(a, b, bytes));
}

/* Codes of 8 << shift bytes, the query repeated to fill a register: 8 >> shift results at a time. */
KI_INLINE size_t NAME(packed)(__m512i q, const uint8_t *x, size_t n, const int shift, uint32_t *out)
{
    size_t each = (size_t)8 >> shift, i = 0;
    for (; i + each <= n; i += each, x += 64) {
        __m512i c = NAME(popcount)(_mm512_xor_si512(q, _mm512_loadu_si512(x)));
        if (shift >= 1)
            c = _mm512_add_epi64(c, _mm512_shuffle_epi32(c, _MM_PERM_BADC)); /* the other half of 128 bits */
        if (shift >= 2) c = _mm512_add_epi64(c, _mm512_permutex_epi64(c, _MM_PERM_BADC));
        if (shift == 1) c = _mm512_maskz_compress_epi64(0x55, c);
        if (shift == 2) c = _mm512_maskz_compress_epi64(0x11, c);
        _mm256_mask_storeu_epi32(out + i, (__mmask8)((1u << each) - 1), _mm512_cvtepi64_epi32(c));
    }
    return i;
}

static void NAME(hamming_rows)(const uint8_t *q, const uint8_t *x, size_t n, size_t bytes, uint32_t *out)
{
    size_t i = 0;
    if (bytes == 8)
        i = NAME(packed)(_mm512_broadcastq_epi64(_mm_loadl_epi64((const __m128i *)q)), x, n, 0, out);
    if (bytes == 16)
        i = NAME(packed)(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)q)), x, n, 1, out);
    if (bytes == 32)
        i = NAME(packed)(_mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)q)), x, n, 2, out);
    for (; i < n; i++) out[i] = NAME(one)(q, x + i * bytes, bytes);
}
