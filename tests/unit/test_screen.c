/* Products of small integers at every SIMD level; the screen's bounds; and what rests on them: a single query finds the cells
 * that a product of matrices finds. */
#include "support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kith/index.h>

#include "base/rng.h"
#include "base/select.h"
#include "math/product.h"
#include "math/screen.h"
#include "simd/kernels.h"

static kith_error err;

static void test_panel_dot(void **state)
{
    (void)state;
    static const size_t pairs[] = {0, 1, 2, 3, 17, 64, 500};
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 1);
    for (size_t t = 0; t < sizeof pairs / sizeof *pairs; t++)
        for (size_t panels = 0; panels < 10; panels++) {
            /* exact sizes, so that the sanitizer sees an over-read; values at the edges of their ranges */
            size_t nq = 2 * pairs[t], nb = panels * 16 * nq;
            int16_t *q = malloc(nq * sizeof *q + 1);
            int8_t *b = malloc(nb + 1);
            int32_t *out = malloc(panels * 16 * sizeof *out + 1),
                    *want = malloc(panels * 16 * sizeof *want + 1);
            for (size_t i = 0; i < nq; i++)
                q[i] = (int16_t)(ki_rng_below(&rng, 4) ? ki_rng_below(&rng, 4001) - 2000 : 4000);
            for (size_t i = 0; i < nb; i++) b[i] = (int8_t)(ki_rng_below(&rng, 256) - 128);
            ki_kernels_at(KITH_SIMD_SCALAR)->panel_dot_s8(q, pairs[t], b, panels, want);
            for (size_t c = 0; c < panels * 16; c++) { /* the judge itself, against the definition */
                int32_t sum = 0;
                for (size_t d = 0; d < nq; d++)
                    sum += q[d] * b[c / 16 * 16 * nq + d / 2 * 32 + c % 16 * 2 + d % 2];
                assert_int_equal(want[c], sum);
            }
            for (int level = KITH_SIMD_SCALAR; level <= KITH_SIMD_NEON; level++) {
                if (!kith_simd_has((kith_simd)level)) continue;
                memset(out, 0x5a, panels * 16 * sizeof *out);
                ki_kernels_at((kith_simd)level)->panel_dot_s8(q, pairs[t], b, panels, out);
                assert_memory_equal(out, want, panels * 16 * sizeof *out);
            }
            free(q);
            free(b);
            free(out);
            free(want);
        }
}

/* Columns around centres, as centroids are, shifted and scaled; rows near some of them. */
static void check_screen(size_t m, size_t dim, float scale, float shift)
{
    enum { ROWS = 20 };
    float *y = test_vectors(m, dim, 5, m + dim), *x = test_vectors(ROWS, dim, 0, 77),
          *exact = malloc(m * sizeof *exact), *rough = malloc(m * sizeof *rough),
          *some = malloc(m * sizeof *some);
    uint32_t *columns = malloc(m * sizeof *columns);
    for (size_t i = 0; i < m * dim; i++) y[i] = y[i] * scale + shift;
    for (size_t i = 0; i < ROWS * dim; i++) x[i] = y[i] + x[i] * scale;
    ki_packed *packed;
    ki_screen *screen;
    assert_ok(ki_packed_create(y, dim, m, dim, KITH_L2SQ, NULL, &packed, &err), &err);
    assert_ok(ki_screen_create(y, dim, m, dim, NULL, &screen, &err), &err);
    void *scratch = aligned_alloc(64, (ki_screen_scratch(screen) + 63) / 64 * 64);
    uint64_t *by_exact = malloc(m * sizeof *by_exact), *by_rough = malloc(m * sizeof *by_rough);
    for (size_t r = 0; r < ROWS; r++) {
        ki_product_row(packed, x + r * dim, exact);
        ki_screen_error error = ki_screen_row(screen, x + r * dim, scratch, rough);
        for (size_t c = 0; c < m; c++) {
            double truth = 0;
            for (size_t d = 0; d < dim; d++) {
                double off = (double)x[r * dim + d] - (double)y[c * dim + d];
                truth += off * off;
            }
            assert_true(fabs((double)exact[c] - truth) <= error.squared);
            /* sqrt(rough) within the error of the distance, rounding aside */
            double low = sqrt(truth) - error.distance, high = sqrt(truth) + error.distance;
            assert_true((double)rough[c] <= high * high + error.squared);
            assert_true(low < 0 || (double)rough[c] >= low * low - error.squared);
            by_exact[c] = ki_key(exact[c], (uint32_t)c);
            by_rough[c] = ki_key(rough[c], (uint32_t)c);
            columns[c] = (uint32_t)((c * 7 + r) % m); /* some of them several times */
        }
        ki_keys_sort(by_exact, m);
        ki_keys_sort(by_rough, m);
        for (size_t k = 1; k <= m; k = k * 3 + 1) {
            float limit = ki_screen_limit(error, ki_key_dist(by_rough[k - 1]));
            for (size_t i = 0; i < k; i++) assert_true(rough[ki_key_number(by_exact[i])] <= limit);
        }
        ki_product_some(packed, y, dim, x + r * dim, columns, m, some);
        for (size_t c = 0; c < m; c++) assert_true(some[c] == exact[columns[c]]);
    }
    free(scratch);
    free(by_exact);
    free(by_rough);
    free(columns);
    free(y);
    free(x);
    free(exact);
    free(rough);
    free(some);
    ki_packed_free(packed);
    ki_screen_free(screen);
}

static void test_bounds(void **state)
{
    (void)state;
    for (int level = KITH_SIMD_SCALAR; level <= KITH_SIMD_NEON; level++) {
        if (kith_simd_use((kith_simd)level, NULL) != KITH_OK) continue;
        check_screen(100, 1, 1, 0);
        check_screen(333, 7, 1, 0);
        check_screen(40, 128, 30, 100);
        check_screen(70, 300, 1e-3f, 5); /* far from the origin: cancellation */
        check_screen(20, 2048, 1e10f, 0);
        check_screen(50, 12, 0, 3); /* all columns the same */
        check_screen(50, 12, 1e-30f, 0);
    }
    kith_simd_use_name("auto", NULL);
}

/* With enough cells for screening: one query alone finds what a batch finds, at every nprobe. */
static void test_same_cells(void **state)
{
    (void)state;
    enum { N = 6000, NQ = 40, K = 5 };
    static const struct {
        size_t dim;
        kith_metric metric;
        double nprobe;
    } shapes[] = {{32, KITH_L2SQ, 1},
                  {32, KITH_L2SQ, 9},
                  {7, KITH_COSINE, 20},
                  {32, KITH_L1, 12},
                  {32, KITH_L2SQ, 300}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        size_t dim = shapes[s].dim;
        float *x = test_vectors(N, dim, 100, 5), *queries = test_vectors(NQ, dim, 0, 6);
        for (size_t i = 0; i < NQ * dim; i++) queries[i] += x[i];
        kith_index_options options;
        kith_index_options_init(&options);
        options.metric = shapes[s].metric;
        kith_index *index;
        kith_searcher *searcher;
        assert_ok(kith_index_create("IVF600,Flat", dim, &options, &index, &err), &err);
        assert_ok(kith_index_set(index, "kmeans_iterations", 3, &err), &err);
        assert_ok(kith_index_train(index, x, N, NULL, &err), &err);
        assert_ok(kith_index_add(index, x, NULL, N, NULL, &err), &err);
        assert_ok(kith_searcher_create(index, &searcher, &err), &err);
        kith_setting setting = {"nprobe", shapes[s].nprobe};
        kith_search_options search;
        kith_search_options_init(&search);
        search.settings = &setting;
        search.n_settings = 1;
        uint64_t ids[NQ * K], alone[K];
        float dist[NQ * K], dist_alone[K];
        kith_search_stats stats[NQ], one;
        assert_ok(kith_search(searcher, queries, NQ, K, &search, ids, dist, stats, &err), &err);
        for (size_t q = 0; q < NQ; q++) {
            assert_ok(kith_search(searcher, queries + q * dim, 1, K, &search, alone, dist_alone, &one, &err),
                      &err);
            assert_memory_equal(alone, ids + q * K, sizeof alone);
            assert_memory_equal(dist_alone, dist + q * K, sizeof dist_alone);
            assert_int_equal(one.scored, stats[q].scored);
            assert_int_equal(one.visited, stats[q].visited);
        }
        kith_searcher_free(searcher);
        kith_index_free(index);
        free(x);
        free(queries);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_panel_dot),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_same_cells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
