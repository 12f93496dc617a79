/* Points and centroids in 16 bits must never cost a point its nearest centroid; and the kernels at every SIMD level. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cluster/kmeans_internal.h"
#include "kmeans_exact.h"
#include "support.h"

static kith_error err;

/* ---- kernels ---- */

typedef struct blocks {
    int16_t *rows, *columns;
    int32_t *start, squares[KI_GRID_ROWS];
    float error[KI_GRID_ROWS];
} blocks;

/* Whole numbers around 0 of which each column's and each row's squares sum up to 2^KI_GRID_BITS at most; exact sizes. */
static blocks blocks_make(size_t pairs, size_t groups, int most, ki_rng *rng)
{
    size_t columns = groups * KI_GRID_GROUP;
    blocks b = {.rows = calloc(KI_GRID_ROWS * pairs, 4), .columns = calloc(columns * pairs, 4)};
    b.start = malloc(columns * sizeof *b.start);
    memset(b.squares, 0, sizeof b.squares);
    for (size_t c = 0; c < columns; c++) b.start[c] = 0;
    for (size_t i = 0; i < KI_GRID_ROWS * pairs * 2; i++) {
        int value = (int)ki_rng_below(rng, (uint64_t)(2 * most + 1)) - most;
        b.rows[i] = (int16_t)value;
        b.squares[i / 2 % KI_GRID_ROWS] += value * value;
    }
    for (size_t i = 0; i < columns * pairs * 2; i++) {
        int value = (int)ki_rng_below(rng, (uint64_t)(2 * most + 1)) - most;
        b.columns[i] = (int16_t)-value;
        b.start[i / (pairs * KI_GRID_GROUP * 2) * KI_GRID_GROUP + i / 2 % KI_GRID_GROUP] += value * value;
    }
    for (size_t c = 0; c < columns; c++) b.start[c] = KI_GRID_OFFSET + (b.start[c] + 1) / 2;
    for (size_t r = 0; r < KI_GRID_ROWS; r++) b.error[r] = (float)(r % 7) * (float)most / 100;
    return b;
}

/* |w - s|^2 of row r and column c, exactly. */
static int64_t distance2(const blocks *b, size_t pairs, size_t r, size_t c)
{
    int64_t sum = 0;
    for (size_t d = 0; d < 2 * pairs; d++) {
        int64_t w = b->rows[(d / 2 * KI_GRID_ROWS + r) * 2 + d % 2];
        int64_t s =
            -b->columns[((c / KI_GRID_GROUP * pairs + d / 2) * KI_GRID_GROUP + c % KI_GRID_GROUP) * 2 +
                        d % 2];
        sum += (w - s) * (w - s);
    }
    return sum;
}

static size_t check_groups(size_t pairs, size_t groups, int most, ki_rng *rng)
{
    blocks b = blocks_make(pairs, groups, most, rng);
    float radius = (float)most / 50, slack = 0x1p-20f;
    uint32_t want[KI_GRID_ROWS], got[KI_GRID_ROWS];
    size_t sure = 0;
    ki_kernels_at(KITH_SIMD_SCALAR)
        ->grid_groups(b.rows, pairs, b.columns, b.start, groups, b.squares, b.error, radius, slack, want);
    for (size_t r = 0; r < KI_GRID_ROWS; r++) { /* the judge itself, against the definition in float64 */
        double near = INFINITY, far = INFINITY;
        uint32_t best = 0;
        for (size_t c = 0; c < groups * KI_GRID_GROUP; c++) {
            double distance = sqrt((double)distance2(&b, pairs, r, c));
            if (distance < near) near = distance, best = (uint32_t)(c / KI_GRID_GROUP);
        }
        for (size_t c = 0; c < groups * KI_GRID_GROUP; c++)
            if (c / KI_GRID_GROUP != best) far = fmin(far, sqrt((double)distance2(&b, pairs, r, c)));
        double room = (double)b.error[r] + (double)radius;
        if (want[r] == KI_GRID_UNSURE) {
            assert_true(far - near < room + (far + near) * 0x1p-19 + 2);
        } else {
            assert_int_equal(want[r], best);
            assert_true(far - near > room);
            sure++;
        }
    }
    for (int level = KITH_SIMD_SCALAR; level <= KITH_SIMD_NEON; level++) {
        if (!kith_simd_has((kith_simd)level)) continue;
        const ki_kernels *k = ki_kernels_at((kith_simd)level);
        k->grid_groups(b.rows, pairs, b.columns, b.start, groups, b.squares, b.error, radius, slack, got);
        assert_memory_equal(got, want, sizeof want);
    }
    free(b.rows);
    free(b.columns);
    free(b.start);
    return sure;
}

static void test_groups(void **state)
{
    (void)state;
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 1);
    size_t sure = 0;
    for (size_t pairs = 1; pairs <= 8; pairs++) {
        int most = (int)sqrt((double)(1 << KI_GRID_BITS) / (double)(2 * pairs));
        for (size_t groups = 1; groups <= 33; groups += 8) {
            sure += check_groups(pairs, groups, most, &rng);
            check_groups(pairs, groups, 3, &rng); /* many equal ones, and 0 between some */
        }
    }
    assert_true(sure > 500);
}

/* A measured distance by the rules of the level. */
static float measured(const ki_kernels *k, const float *x, const float *y, size_t dim)
{
    float sum = 0;
    for (size_t d = 0; d < dim; d++) {
        float rest = x[d] - y[d];
        sum = k->grids ? fmaf(rest, rest, sum) : sum + rest * rest;
    }
    return sum;
}

static void test_nearest(void **state)
{
    (void)state;
    enum { N = 50, PANELS = 3, COLUMNS = PANELS * KI_PANEL };
    for (size_t dim = 1; dim <= 17; dim++) {
        float *x = test_vectors(N, dim, 0, 1), *y = test_vectors(COLUMNS, dim, 0, 2);
        memcpy(y + 9 * dim, y + 3 * dim, dim * sizeof *y); /* the same in two groups */
        memcpy(y + 5 * dim, y + 3 * dim, dim * sizeof *y); /* and in one */
        memcpy(x, y + 9 * dim, dim * sizeof *x);
        memcpy(x + dim, y + 9 * dim, dim * sizeof *x);
        float *packed = malloc(COLUMNS * dim * sizeof *packed), dist[N];
        uint32_t group[N], index[N];
        for (size_t c = 0; c < COLUMNS; c++)
            for (size_t d = 0; d < dim; d++)
                packed[(c / KI_PANEL * dim + d) * KI_PANEL + c % KI_PANEL] = y[c * dim + d];
        for (size_t i = 0; i < N; i++) group[i] = i % 3 ? (uint32_t)i % (2 * PANELS) : KI_GRID_UNSURE;
        for (int level = KITH_SIMD_SCALAR; level <= KITH_SIMD_NEON; level++) {
            if (!kith_simd_has((kith_simd)level)) continue;
            const ki_kernels *k = ki_kernels_at((kith_simd)level);
            k->grid_nearest(x, N, dim, packed, PANELS, group, index, dist);
            for (size_t i = 0; i < N; i++) {
                size_t first = i % 3 ? group[i] * KI_GRID_GROUP : 0, best = first;
                size_t end = i % 3 ? first + KI_GRID_GROUP : COLUMNS;
                for (size_t c = first; c < end; c++)
                    if (measured(k, x + i * dim, y + c * dim, dim) <
                        measured(k, x + i * dim, y + best * dim, dim))
                        best = c;
                assert_int_equal(index[i], best);
                assert_true(dist[i] == measured(k, x + i * dim, y + best * dim, dim));
            }
        }
        free(x);
        free(y);
        free(packed);
    }
}

/* ---- the grid ---- */

/* Points around centroids, shifted and scaled. Returns the share of those that took the long way, or -1 without a grid. */
static double check_find(size_t n, size_t dim, size_t k, float scale, float shift, float outlier, float out)
{
    float *x = test_vectors(n, dim, 0, 5), *centroids = test_vectors(k, dim, 0, 6);
    for (size_t i = 0; i < n * dim; i++) x[i] = x[i] * scale + shift;
    for (size_t i = 0; i < k * dim; i++)
        centroids[i] = centroids[i] * 0.7f * scale + shift; /* on the grid, as means are */
    x[dim - 1] *= outlier;
    memcpy(centroids + (k - 1) * dim, centroids, dim * sizeof *x); /* one twice, far apart */
    memcpy(x + 7 * dim, centroids, dim * sizeof *x);
    memcpy(centroids + 2 * dim, x + 9 * dim, dim * sizeof *x);      /* a point itself */
    for (size_t d = 0; d < dim; d++) centroids[3 * dim + d] *= out; /* may lie outside of all points */
    const ki_kernels *kernels = ki_kernels_get();
    ki_grid *grid;
    assert_ok(ki_grid_create(x, n, dim, k, NULL, NULL, &grid, &err), &err);
    double share = -1;
    if (grid) {
        uint32_t *index = malloc(n * sizeof *index);
        float *dist = malloc(n * sizeof *dist);
        size_t first = KI_GRID_ROWS, unsure, more;
        ki_grid_set(grid, x); /* others first: nothing of them may stay */
        ki_grid_set(grid, centroids);
        ki_grid_find(grid, 0, first, index, dist, &unsure);
        ki_grid_find(grid, first, n - first, index + first, dist + first, &more);
        share = (double)(unsure + more) / (double)n;
        for (size_t i = 0; i < n; i++) {
            size_t best = 0;
            float least = INFINITY;
            for (size_t c = 0; c < k; c++) {
                float distance = measured(kernels, x + i * dim, centroids + c * dim, dim);
                if (distance < least) least = distance, best = c;
            }
            assert_true(dist[i] == least);
            assert_int_equal(index[i], best);
        }
        free(index);
        free(dist);
    }
    ki_grid_free(grid);
    free(x);
    free(centroids);
    return share;
}

static void test_find(void **state)
{
    (void)state;
    for (int level = KITH_SIMD_SCALAR; level <= KITH_SIMD_NEON; level++) {
        if (kith_simd_use((kith_simd)level, NULL) != KITH_OK) continue;
        int grids = ki_kernels_get()->grids;
        for (size_t dim = 1; dim <= 16; dim++) {
            double share = check_find(1000, dim, 64 + dim * 13, 1, 0, 1, 1);
            if (grids && dim >= 4 && dim <= 12) assert_true(share >= 0 && share < 0.1);
            assert_true(grids ? share >= 0 : share < 0);
        }
        static const struct {
            float scale, shift;
            int on;                 /* whether there is a grid for such points */
        } edges[] = {{1e-6f, 1, 1}, /* nearly nothing but rounding */
                     {1, 1e5f, 1},  /* far from the origin */
                     {1e-9f, 0, 1}, {1e17f, 0, 1}, {1e-13f, 0, 0}, {1e19f, 0, 0}};
        for (size_t e = 0; e < sizeof edges / sizeof *edges; e++) {
            double share = check_find(500, 7, 256, edges[e].scale, edges[e].shift, 1, 1);
            assert_int_equal(share >= 0, grids && edges[e].on);
        }
        double off = check_find(500, 8, 256, 1, 0, 1, 5); /* a centroid off the grid */
        assert_int_equal(off >= 0, grids);
        double lost = check_find(500, 8, 100, 1, 0, 1e6f, 1); /* one point alone takes up the grid */
        if (grids) assert_true(lost > 0.9);
        assert_true(check_find(500, 17, 256, 1, 0, 1, 1) < 0); /* shapes that are not for it */
        assert_true(check_find(500, 8, 63, 1, 0, 1, 1) < 0);
        assert_true(check_find(500, 8, 64, 0, 1, 1, 1) < 0); /* all the same */
    }
    kith_simd_use_name("auto", NULL);
}

/* With an outlier that makes the grid useless too, so that it is left after the first iteration. */
static void test_kmeans(void **state)
{
    (void)state;
    enum { N = 4000, DIM = 8, K = 100 };
    float *x = test_vectors(N, DIM, 0, 9);
    assert_kmeans_exact(x, N, DIM, K);
    x[5] *= 1e6f;
    assert_kmeans_exact(x, N, DIM, K);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_kmeans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
