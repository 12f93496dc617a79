/* Rows and columns in 16 bits, for AVX-512 with VNNI: rows in the lanes, two components each, columns broadcast.
 *
 * As product_small (product_loops.h), with half of its multiply-adds: a tile is 8 columns x 3 registers of rows, 24 sums. What is
 * tracked is the least of a group of columns; the column is found afterwards, exactly. Values are positive and their bits
 * are those of normal floats, which stand in the same order: minima of floats have two ports, those of integers one. */
#include "simd/levels.h"

#ifdef KI_X86
#include <immintrin.h>
#include <string.h>

#include "simd/target_avx512_vnni.h"

#define VECS (KI_SMALL_ROWS / 16)

/* _mm512_dpwssd_epi32; see add_products in sieve_avx512.c. */
KI_INLINE __m512i add_pairs(__m512i sum, __m512i rows, __m512i columns)
{
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(rows), "v"(columns));
    return sum;
}

/* One group of columns: the least value of each row. */
KI_INLINE void group_least(const int16_t *rows, size_t pairs, const int16_t *columns, const int32_t *start,
                           __m512 least[VECS])
{
    __m512i v[KI_GRID_GROUP][VECS];
    KI_UNROLL
    for (int c = 0; c < KI_GRID_GROUP; c++) {
        __m512i from = _mm512_set1_epi32(start[c]);
        KI_UNROLL
        for (int i = 0; i < VECS; i++) v[c][i] = from;
    }
    KI_ROLLED
    for (size_t p = 0; p < pairs; p++, rows += 2 * KI_SMALL_ROWS, columns += 2 * KI_GRID_GROUP) {
        __m512i x[VECS];
        KI_UNROLL
        for (int i = 0; i < VECS; i++) x[i] = _mm512_loadu_si512(rows + i * 32);
        KI_UNROLL
        for (int c = 0; c < KI_GRID_GROUP; c++) {
            int32_t pair;
            memcpy(&pair, columns + 2 * c, sizeof pair);
            __m512i y = _mm512_set1_epi32(pair);
            KI_UNROLL
            for (int i = 0; i < VECS; i++) v[c][i] = add_pairs(v[c][i], x[i], y);
        }
    }
    KI_UNROLL
    for (int i = 0; i < VECS; i++) {
        __m512 f[KI_GRID_GROUP];
        KI_UNROLL
        for (int c = 0; c < KI_GRID_GROUP; c++) f[c] = _mm512_castsi512_ps(v[c][i]);
        least[i] = _mm512_min_ps(_mm512_min_ps(_mm512_min_ps(f[0], f[1]), _mm512_min_ps(f[2], f[3])),
                                 _mm512_min_ps(_mm512_min_ps(f[4], f[5]), _mm512_min_ps(f[6], f[7])));
    }
}

/* squares + 2 (value - KI_GRID_OFFSET), without a sign */
KI_INLINE __m512i distance2_of(__m512i squares, __m512 value)
{
    __m512i raised = _mm512_sub_epi32(_mm512_castps_si512(value), _mm512_set1_epi32(KI_GRID_OFFSET));
    return _mm512_add_epi32(squares, _mm512_slli_epi32(raised, 1));
}

KI_INLINE __m512 root_of(__m512i whole)
{
    return _mm512_sqrt_ps(_mm512_cvtepu32_ps(whole));
}

KI_INLINE void groups_of(const int16_t *rows, const size_t pairs, const int16_t *columns,
                         const int32_t *start, size_t groups, const int32_t *squares, const float *error,
                         float radius, float slack, uint32_t *group)
{
    const __m512 none = _mm512_castsi512_ps(_mm512_set1_epi32(KI_GRID_FAR));
    __m512 lowest[VECS], second[VECS];
    __m512i which[VECS];
    KI_UNROLL
    for (int i = 0; i < VECS; i++) lowest[i] = second[i] = none, which[i] = _mm512_setzero_si512();
    for (size_t g = 0; g < groups; g++, columns += pairs * KI_GRID_GROUP * 2, start += KI_GRID_GROUP) {
        __m512 least[VECS];
        group_least(rows, pairs, columns, start, least);
        __m512i number = _mm512_set1_epi32((int)g);
        KI_UNROLL
        for (int i = 0; i < VECS; i++) {
            __mmask16 less = _mm512_cmp_ps_mask(least[i], lowest[i], _CMP_LT_OQ);
            second[i] = _mm512_min_ps(second[i], _mm512_max_ps(least[i], lowest[i]));
            lowest[i] = _mm512_min_ps(lowest[i], least[i]);
            which[i] = _mm512_mask_mov_epi32(which[i], less, number);
        }
    }
    for (int i = 0; i < VECS; i++) {
        __m512i own = _mm512_loadu_si512(squares + i * 16);
        __m512i far2 = _mm512_max_epu32(distance2_of(own, second[i]), _mm512_set1_epi32(1));
        __m512 near = root_of(distance2_of(own, lowest[i]));
        __m512 far = root_of(_mm512_sub_epi32(far2, _mm512_set1_epi32(1)));
        __m512 room = _mm512_add_ps(_mm512_loadu_ps(error + i * 16), _mm512_set1_ps(radius));
        room = _mm512_add_ps(room, _mm512_mul_ps(_mm512_add_ps(near, far), _mm512_set1_ps(slack)));
        __mmask16 sure = _mm512_cmp_ps_mask(_mm512_sub_ps(far, near), room, _CMP_GT_OQ);
        _mm512_storeu_si512(group + i * 16, _mm512_mask_mov_epi32(_mm512_set1_epi32(-1), sure, which[i]));
    }
}

/* The usual numbers of components get loops of constant length. */
static void grid_groups(const int16_t *rows, size_t pairs, const int16_t *columns, const int32_t *start,
                        size_t groups, const int32_t *squares, const float *error, float radius, float slack,
                        uint32_t *group)
{
#define GROUPS(pairs) groups_of(rows, pairs, columns, start, groups, squares, error, radius, slack, group)
    switch (pairs) {
    case 2: GROUPS(2); break;
    case 4: GROUPS(4); break;
    case 8: GROUPS(8); break;
    default: GROUPS(pairs); break;
    }
#undef GROUPS
}

KI_INLINE float least_of(__m256 v)
{
    __m128 four = _mm_min_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_min_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_min_ss(two, _mm_movehdup_ps(two)));
}

/* One group: half a panel. */
KI_INLINE uint32_t nearest_in(const float *x, const size_t dim, const float *columns, float *dist)
{
    __m256 sum = _mm256_setzero_ps();
    for (size_t d = 0; d < dim; d++) {
        __m256 rest = _mm256_sub_ps(_mm256_set1_ps(x[d]), _mm256_loadu_ps(columns + d * KI_PANEL));
        sum = _mm256_fmadd_ps(rest, rest, sum);
    }
    *dist = least_of(sum);
    return (uint32_t)__builtin_ctz(_mm256_cmp_ps_mask(sum, _mm256_set1_ps(*dist), _CMP_EQ_OQ));
}

/* All panels: of each lane the least and the first panel that has it. */
KI_INLINE uint32_t nearest_of_all(const float *x, const size_t dim, const float *columns, size_t panels,
                                  float *dist)
{
    __m512 lowest = _mm512_set1_ps(INFINITY);
    __m512i which = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), at = which;
    for (size_t p = 0; p < panels; p++) {
        __m512 sum = _mm512_setzero_ps();
        for (size_t d = 0; d < dim; d++, columns += KI_PANEL) {
            __m512 rest = _mm512_sub_ps(_mm512_set1_ps(x[d]), _mm512_loadu_ps(columns));
            sum = _mm512_fmadd_ps(rest, rest, sum);
        }
        __mmask16 less = _mm512_cmp_ps_mask(sum, lowest, _CMP_LT_OQ);
        lowest = _mm512_min_ps(sum, lowest);
        which = _mm512_mask_mov_epi32(which, less, at);
        at = _mm512_add_epi32(at, _mm512_set1_epi32(KI_PANEL));
    }
    *dist = _mm512_reduce_min_ps(lowest);
    __mmask16 equal = _mm512_cmp_ps_mask(lowest, _mm512_set1_ps(*dist), _CMP_EQ_OQ);
    return _mm512_mask_reduce_min_epu32(equal, which);
}

KI_INLINE void nearest_of(const float *x, size_t n, const size_t dim, const float *columns, size_t panels,
                          const uint32_t *group, uint32_t *index, float *dist)
{
    for (size_t i = 0; i < n; i++, x += dim) {
        uint32_t g = group[i];
        if (g == KI_GRID_UNSURE) {
            index[i] = nearest_of_all(x, dim, columns, panels, &dist[i]);
            continue;
        }
        const float *half = columns + g / 2 * dim * KI_PANEL + g % 2 * KI_GRID_GROUP;
        index[i] = g * KI_GRID_GROUP + nearest_in(x, dim, half, &dist[i]);
    }
}

static void grid_nearest(const float *x, size_t n, size_t dim, const float *columns, size_t panels,
                         const uint32_t *group, uint32_t *index, float *dist)
{
    switch (dim) {
    case 4: nearest_of(x, n, 4, columns, panels, group, index, dist); break;
    case 8: nearest_of(x, n, 8, columns, panels, group, index, dist); break;
    case 16: nearest_of(x, n, 16, columns, panels, group, index, dist); break;
    default: nearest_of(x, n, dim, columns, panels, group, index, dist); break;
    }
}

#include "simd/target_end.h"

void ki_simd_grid_avx512(ki_kernels *table, const ki_cpu *cpu)
{
    if (!cpu->avx512_vnni) return;
    table->grids = 1;
    table->grid_groups = grid_groups;
    table->grid_nearest = grid_nearest;
}
#endif
