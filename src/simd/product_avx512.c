/* Micro kernels of the tiled product for AVX-512.
 *
 * A tile is 14 rows x 2 panels: 28 accumulators, two registers of b and one broadcast of a, 31 of the 32. Each step
 * along the depth costs 16 loads and 28 multiply-adds, 14 cycles on two FMA units, so that loads (two a cycle)
 * and the front end have room. Fewer rows are done as 8, 4 or 1: micro-panels are filled up with zeros, what they
 * give is not looked at. An odd last panel is computed twice side by side, and its copy not looked at. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>

#include "simd/target_avx512.h"

#define MR 14

typedef struct pair {
    const float *b[2], *start[2];
    int single; /* the second panel is a copy of the first */
} pair;

static inline pair pair_at(const ki_tiles *t, size_t panel)
{
    size_t next = panel + 1 < t->panels ? panel + 1 : panel;
    pair p = {{t->b + panel * t->b_stride, t->b + next * t->b_stride}, {NULL, NULL}, next == panel};
    if (t->start) {
        p.start[0] = t->start + panel * KI_PANEL;
        p.start[1] = t->start + next * KI_PANEL;
    }
    return p;
}

/* The chains of one tile into lo (first panel) and hi (second). `rows` is a constant where this is inlined. */
KI_INLINE void tile_avx512(const ki_tiles *t, size_t panel, const pair *p, const int rows, __m512 lo[MR],
                           __m512 hi[MR])
{
    if (t->start) {
        __m512 s0 = _mm512_loadu_ps(p->start[0]), s1 = _mm512_loadu_ps(p->start[1]);
        KI_UNROLL
        for (int r = 0; r < rows; r++) lo[r] = s0, hi[r] = s1;
    } else {
        KI_UNROLL
        for (int r = 0; r < rows; r++) {
            /* Rows beyond t->rows have no place in c: they repeat the last one. */
            const float *c =
                t->c + ((size_t)r < t->rows ? (size_t)r : t->rows - 1) * t->ldc + panel * KI_PANEL;
            lo[r] = _mm512_loadu_ps(c);
            hi[r] = _mm512_loadu_ps(p->single ? c : c + KI_PANEL);
        }
    }
    const float *a = t->a, *b0 = p->b[0], *b1 = p->b[1];
    for (size_t d = t->k; d; d--, a += MR, b0 += KI_PANEL, b1 += KI_PANEL) {
        __m512 v0 = _mm512_loadu_ps(b0), v1 = _mm512_loadu_ps(b1);
        KI_UNROLL
        for (int r = 0; r < rows; r++) {
            __m512 x = _mm512_set1_ps(a[r]);
            lo[r] = _mm512_fmadd_ps(x, v0, lo[r]);
            hi[r] = _mm512_fmadd_ps(x, v1, hi[r]);
        }
    }
}

KI_INLINE void store_avx512(const ki_tiles *t, const int rows)
{
    for (size_t panel = 0; panel < t->panels; panel += 2) {
        __m512 lo[MR], hi[MR];
        pair p = pair_at(t, panel);
        tile_avx512(t, panel, &p, rows, lo, hi);
        KI_UNROLL
        for (int r = 0; r < rows; r++) {
            if ((size_t)r >= t->rows) continue;
            float *c = t->c + (size_t)r * t->ldc + panel * KI_PANEL;
            _mm512_storeu_ps(c, lo[r]);
            if (!p.single) _mm512_storeu_ps(c + KI_PANEL, hi[r]);
        }
    }
}

/* The position of the smallest of 32 values known to be `value`; the lowest among equals. */
KI_INLINE uint32_t position_of(__m512 lo, __m512 hi, float value)
{
    __m512 v = _mm512_set1_ps(value);
    uint32_t mask = _mm512_cmp_ps_mask(lo, v, _CMP_EQ_OQ) | (uint32_t)_mm512_cmp_ps_mask(hi, v, _CMP_EQ_OQ)
                                                                << 16;
    return (uint32_t)__builtin_ctz(mask);
}

KI_INLINE void argmin_avx512(const ki_tiles *t, const int rows, uint32_t first, float *best, uint32_t *index)
{
    for (size_t panel = 0; panel < t->panels; panel += 2) {
        __m512 lo[MR], hi[MR];
        pair p = pair_at(t, panel);
        tile_avx512(t, panel, &p, rows, lo, hi);
        uint32_t better = 0;
        KI_UNROLL
        for (int r = 0; r < rows; r++) {
            float worst = (size_t)r < t->rows ? best[r] : -INFINITY;
            __m512 least = _mm512_min_ps(lo[r], hi[r]);
            better |= _mm512_cmp_ps_mask(least, _mm512_set1_ps(worst), _CMP_LT_OQ);
        }
        if (!better) continue;
        KI_UNROLL
        for (int r = 0; r < rows; r++) {
            if ((size_t)r >= t->rows) continue;
            float value = _mm512_reduce_min_ps(_mm512_min_ps(lo[r], hi[r]));
            if (!(value < best[r])) continue;
            best[r] = value;
            index[r] = first + (uint32_t)(panel * KI_PANEL) + position_of(lo[r], hi[r], value);
        }
    }
}

KI_INLINE void below_avx512(const ki_tiles *t, const int rows, uint32_t first, const float *add,
                            const float *limit, ki_tile_visit visit, void *ctx)
{
    for (size_t panel = 0; panel < t->panels; panel += 2) {
        __m512 lo[MR], hi[MR];
        pair p = pair_at(t, panel);
        tile_avx512(t, panel, &p, rows, lo, hi);
        uint32_t found = 0;
        KI_UNROLL
        for (int r = 0; r < rows; r++) {
            if ((size_t)r >= t->rows) continue;
            __m512 plus = _mm512_set1_ps(add[r]);
            lo[r] = _mm512_add_ps(lo[r], plus);
            hi[r] = _mm512_add_ps(hi[r], plus);
            found |= _mm512_cmp_ps_mask(_mm512_min_ps(lo[r], hi[r]), _mm512_set1_ps(limit[r]), _CMP_LE_OQ);
        }
        if (!found) continue;
        float values[MR][2 * KI_PANEL];
        KI_UNROLL
        for (int r = 0; r < rows; r++) {
            _mm512_storeu_ps(values[r], lo[r]);
            _mm512_storeu_ps(values[r] + KI_PANEL, hi[r]);
        }
        for (size_t r = 0; r < t->rows; r++) {
            __m512 v = _mm512_set1_ps(limit[r]);
            uint32_t mask = _mm512_cmp_ps_mask(_mm512_loadu_ps(values[r]), v, _CMP_LE_OQ);
            if (!p.single)
                mask |= (uint32_t)_mm512_cmp_ps_mask(_mm512_loadu_ps(values[r] + KI_PANEL), v, _CMP_LE_OQ)
                        << 16;
            if (mask) visit(ctx, r, first + (uint32_t)(panel * KI_PANEL), values[r], mask);
        }
    }
}

static void product_store(const ki_tiles *t)
{
    if (t->rows > 8)
        store_avx512(t, 14);
    else if (t->rows > 4)
        store_avx512(t, 8);
    else if (t->rows > 1)
        store_avx512(t, 4);
    else
        store_avx512(t, 1);
}

static void product_argmin(const ki_tiles *t, uint32_t first, float *best, uint32_t *index)
{
    if (t->rows > 8)
        argmin_avx512(t, 14, first, best, index);
    else if (t->rows > 4)
        argmin_avx512(t, 8, first, best, index);
    else if (t->rows > 1)
        argmin_avx512(t, 4, first, best, index);
    else
        argmin_avx512(t, 1, first, best, index);
}

static void product_below(const ki_tiles *t, uint32_t first, const float *add, const float *limit,
                          ki_tile_visit visit, void *ctx)
{
    if (t->rows > 8)
        below_avx512(t, 14, first, add, limit, visit, ctx);
    else if (t->rows > 4)
        below_avx512(t, 8, first, add, limit, visit, ctx);
    else if (t->rows > 1)
        below_avx512(t, 4, first, add, limit, visit, ctx);
    else
        below_avx512(t, 1, first, add, limit, visit, ctx);
}

/* Some panels against one row: as many chains side by side. */
KI_INLINE void row_avx512(const float *x, size_t k, const float *b, size_t b_stride, const float *start,
                          float *out, const int panels)
{
    __m512 sum[8];
    KI_UNROLL
    for (int p = 0; p < panels; p++) sum[p] = _mm512_loadu_ps(start + p * KI_PANEL);
    for (size_t d = 0; d < k; d++, b += KI_PANEL) {
        __m512 v = _mm512_set1_ps(x[d]);
        KI_UNROLL
        for (int p = 0; p < panels; p++)
            sum[p] = _mm512_fmadd_ps(v, _mm512_loadu_ps(b + (size_t)p * b_stride), sum[p]);
    }
    KI_UNROLL
    for (int p = 0; p < panels; p++) _mm512_storeu_ps(out + p * KI_PANEL, sum[p]);
}

static void product_row(const float *x, size_t k, const float *b, size_t b_stride, size_t panels,
                        const float *start, float *out)
{
    size_t p = 0;
    for (; p + 8 <= panels; p += 8)
        row_avx512(x, k, b + p * b_stride, b_stride, start + p * KI_PANEL, out + p * KI_PANEL, 8);
    for (; p + 4 <= panels; p += 4)
        row_avx512(x, k, b + p * b_stride, b_stride, start + p * KI_PANEL, out + p * KI_PANEL, 4);
    for (; p < panels; p++)
        row_avx512(x, k, b + p * b_stride, b_stride, start + p * KI_PANEL, out + p * KI_PANEL, 1);
}

/* 8 columns against 48 rows: the least of the eight for each row. */
KI_INLINE void small_group(const float *xt, size_t k, const float *b, const float *start, __m512 least[3])
{
    __m512 v[8][3];
    KI_UNROLL
    for (int c = 0; c < 8; c++) v[c][0] = v[c][1] = v[c][2] = _mm512_set1_ps(start[c]);
    for (size_t d = 0; d < k; d++, xt += KI_SMALL_ROWS, b += KI_PANEL) {
        __m512 x0 = _mm512_loadu_ps(xt), x1 = _mm512_loadu_ps(xt + 16), x2 = _mm512_loadu_ps(xt + 32);
        KI_UNROLL
        for (int c = 0; c < 8; c++) {
            __m512 y = _mm512_set1_ps(b[c]);
            v[c][0] = _mm512_fmadd_ps(x0, y, v[c][0]);
            v[c][1] = _mm512_fmadd_ps(x1, y, v[c][1]);
            v[c][2] = _mm512_fmadd_ps(x2, y, v[c][2]);
        }
    }
    KI_UNROLL
    for (int i = 0; i < 3; i++) {
        __m512 m01 = _mm512_min_ps(v[0][i], v[1][i]), m23 = _mm512_min_ps(v[2][i], v[3][i]);
        __m512 m45 = _mm512_min_ps(v[4][i], v[5][i]), m67 = _mm512_min_ps(v[6][i], v[7][i]);
        least[i] = _mm512_min_ps(_mm512_min_ps(m01, m23), _mm512_min_ps(m45, m67));
    }
}

/* Which of the eight columns of its best group gave a row its best value: the group once more, for that row. */
static inline uint32_t small_resolve(const float *x, size_t k, const float *b, const float *start, float best)
{
    __m256 v = _mm256_loadu_ps(start);
    for (size_t d = 0; d < k; d++)
        v = _mm256_fmadd_ps(_mm256_set1_ps(x[d * KI_SMALL_ROWS]), _mm256_loadu_ps(b + d * KI_PANEL), v);
    uint32_t mask = _mm256_cmp_ps_mask(v, _mm256_set1_ps(best), _CMP_EQ_OQ);
    return (uint32_t)__builtin_ctz(mask | 256);
}

/* Rows in the lanes, columns broadcast, so that the search for the minimum is across registers: per eight columns seven
 * minima, a comparison, a minimum and a masked move, instead of 24 operations when every column is tracked. What is
 * tracked is the group of eight; the column within it is found at the end. */
static void product_small(const float *xt, size_t k, const float *b, size_t b_stride, size_t panels,
                          const float *start, float *best, uint32_t *index)
{
    __m512 lowest[3];
    __m512i group[3];
    for (int i = 0; i < 3; i++) lowest[i] = _mm512_set1_ps(INFINITY), group[i] = _mm512_setzero_si512();
    for (size_t g = 0; g < 2 * panels; g++) {
        __m512 least[3];
        small_group(xt, k, b + g / 2 * b_stride + g % 2 * 8, start + g * 8, least);
        __m512i number = _mm512_set1_epi32((int)g);
        KI_UNROLL
        for (int i = 0; i < 3; i++) {
            __mmask16 less = _mm512_cmp_ps_mask(least[i], lowest[i], _CMP_LT_OQ);
            lowest[i] = _mm512_min_ps(least[i], lowest[i]);
            group[i] = _mm512_mask_mov_epi32(group[i], less, number);
        }
    }
    for (int i = 0; i < 3; i++) {
        _mm512_storeu_ps(best + 16 * i, lowest[i]);
        _mm512_storeu_si512(index + 16 * i, group[i]);
    }
    for (size_t r = 0; r < KI_SMALL_ROWS; r++) {
        size_t g = index[r];
        uint32_t within = small_resolve(xt + r, k, b + g / 2 * b_stride + g % 2 * 8, start + g * 8, best[r]);
        index[r] = within < 8 ? (uint32_t)g * 8 + within : 0; /* 8: nothing was finite */
    }
}

#include "simd/target_end.h"

void ki_simd_product_avx512(ki_kernels *table, const ki_cpu *cpu)
{
    (void)cpu;
    table->product_mr = MR;
    table->product_store = product_store;
    table->product_argmin = product_argmin;
    table->product_below = product_below;
    table->product_row = product_row;
    table->product_small = product_small;
}
#endif
