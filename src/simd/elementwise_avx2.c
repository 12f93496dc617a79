/* Conversions, elementwise operations and reductions for AVX2 and F16C. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>

#include "simd/target_avx2.h"

static void u8_to_f32(const uint8_t *in, size_t n, float *out)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(
            out + i, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(in + i)))));
    for (; i < n; i++) out[i] = (float)in[i];
}

static void f16_to_f32(const uint16_t *in, size_t n, float *out)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(in + i))));
    for (; i < n; i++) out[i] = _cvtsh_ss(in[i]);
}

static void f32_to_f16(const float *in, size_t n, uint16_t *out)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128(
            (__m128i *)(out + i),
            _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    for (; i < n; i++) out[i] = _cvtss_sh(in[i], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static double sum_f32(const float *x, size_t n)
{
    __m256d even = _mm256_setzero_pd(), odd = even;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        even = _mm256_add_pd(even, _mm256_cvtps_pd(_mm_loadu_ps(x + i)));
        odd = _mm256_add_pd(odd, _mm256_cvtps_pd(_mm_loadu_ps(x + i + 4)));
    }
    double lanes[4], sum = 0;
    _mm256_storeu_pd(lanes, _mm256_add_pd(even, odd));
    for (; i < n; i++) sum += (double)x[i];
    return sum + ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]));
}

static void add_f32(float *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, _mm256_add_ps(_mm256_loadu_ps(y + i), _mm256_loadu_ps(x + i)));
    for (; i < n; i++) y[i] += x[i];
}

KI_INLINE void add_row(double *y, const float *x, const size_t n)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        _mm256_storeu_pd(y + i, _mm256_add_pd(_mm256_loadu_pd(y + i), _mm256_cvtps_pd(_mm_loadu_ps(x + i))));
    for (; i < n; i++) y[i] += (double)x[i];
}

static void add_f64(double *y, const float *x, size_t n)
{
    add_row(y, x, n);
}

static void add_f64_rows(double *sums, const float *x, size_t n, size_t dim, const uint32_t *which)
{
    if (dim == 8) /* the commonest width of a segment */
        for (size_t i = 0; i < n; i++) add_row(sums + (size_t)which[i] * 8, x + i * 8, 8);
    else
        for (size_t i = 0; i < n; i++) add_row(sums + which[i] * dim, x + i * dim, dim);
}

static void axpy_f32(float *y, float a, const float *x, size_t n)
{
    __m256 factor = _mm256_set1_ps(a);
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, _mm256_fmadd_ps(factor, _mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i)));
    for (; i < n; i++)
        _mm_store_ss(y + i, _mm_fmadd_ss(_mm_set_ss(a), _mm_load_ss(x + i), _mm_load_ss(y + i)));
}

static void scale_f32(float *y, float a, size_t n)
{
    __m256 factor = _mm256_set1_ps(a);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(y + i, _mm256_mul_ps(factor, _mm256_loadu_ps(y + i)));
    for (; i < n; i++) y[i] *= a;
}

static void sub_f32(float *out, const float *a, const float *b, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(out + i, _mm256_sub_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i)));
    for (; i < n; i++) out[i] = a[i] - b[i];
}

/* x - x is 0 for a finite x and NaN for others. */
static int finite_f32(const float *x, size_t n)
{
    const __m256 zero = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256 bad = zero;
        for (size_t j = 0; j < 32; j += 8) {
            __m256 v = _mm256_loadu_ps(x + i + j);
            bad = _mm256_or_ps(bad, _mm256_cmp_ps(_mm256_sub_ps(v, v), zero, _CMP_NEQ_UQ));
        }
        if (_mm256_movemask_ps(bad)) return 0;
    }
    for (; i < n; i++)
        if (!__builtin_isfinite(x[i])) return 0;
    return 1;
}

/* Most runs of eight hold nothing: one comparison and a branch that is nearly always taken. */
static size_t select_le_f32(const float *x, size_t n, float limit, uint32_t *index)
{
    __m256 most = _mm256_set1_ps(limit);
    size_t count = 0, i = 0;
    for (; i + 8 <= n; i += 8) {
        unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + i), most, _CMP_LE_OQ));
        for (; mask; mask &= mask - 1) index[count++] = (uint32_t)i + (uint32_t)__builtin_ctz(mask);
    }
    for (; i < n; i++)
        if (x[i] <= limit) index[count++] = (uint32_t)i;
    return count;
}

/* Four columns of eight rows. Rows r and r + 4 share a register, so that transposing 4 x 4 within its two lanes leaves
 * the rows of each column in order. */
KI_INLINE void transpose_8x4(const float *x, size_t ldx, float *out, size_t ldo)
{
    __m256 r[4], t[4];
    KI_UNROLL
    for (size_t i = 0; i < 4; i++)
        r[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(x + i * ldx)),
                                    _mm_loadu_ps(x + (i + 4) * ldx), 1);
    t[0] = _mm256_unpacklo_ps(r[0], r[1]), t[1] = _mm256_unpackhi_ps(r[0], r[1]);
    t[2] = _mm256_unpacklo_ps(r[2], r[3]), t[3] = _mm256_unpackhi_ps(r[2], r[3]);
    _mm256_storeu_ps(out, _mm256_shuffle_ps(t[0], t[2], 0x44));
    _mm256_storeu_ps(out + ldo, _mm256_shuffle_ps(t[0], t[2], 0xee));
    _mm256_storeu_ps(out + 2 * ldo, _mm256_shuffle_ps(t[1], t[3], 0x44));
    _mm256_storeu_ps(out + 3 * ldo, _mm256_shuffle_ps(t[1], t[3], 0xee));
}

static void transpose_f32(const float *x, size_t ldx, size_t rows, size_t cols, float *out, size_t ldo)
{
    size_t r = 0;
    for (; r + 8 <= rows; r += 8) {
        size_t c = 0;
        for (; c + 4 <= cols; c += 4) transpose_8x4(x + r * ldx + c, ldx, out + c * ldo + r, ldo);
        for (; c < cols; c++)
            for (size_t i = r; i < r + 8; i++) out[c * ldo + i] = x[i * ldx + c];
    }
    for (size_t c = 0; c < cols; c++)
        for (size_t i = r; i < rows; i++) out[c * ldo + i] = x[i * ldx + c];
}

#include "simd/target_end.h"

void ki_simd_elementwise_avx2(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->u8_to_f32 = u8_to_f32;
    table->f16_to_f32 = f16_to_f32;
    table->f32_to_f16 = f32_to_f16;
    table->sum_f32 = sum_f32;
    table->add_f32 = add_f32;
    table->add_f64 = add_f64;
    table->add_f64_rows = add_f64_rows;
    table->axpy_f32 = axpy_f32;
    table->scale_f32 = scale_f32;
    table->sub_f32 = sub_f32;
    table->finite_f32 = finite_f32;
    table->select_le_f32 = select_le_f32;
    table->transpose_f32 = transpose_f32;
}
#endif
