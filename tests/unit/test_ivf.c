/* What IVF does beyond the contract: queries that end by themselves, and what it tells of its cells. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/tune.h>

#include "index/front.h"
#include "index/ivf_internal.h"
#include "support.h"

#define N 6000
#define NQ 60
#define K 10

static kith_error err;

static kith_index *make(const char *spec, size_t dim, kith_metric metric, const float *x, size_t n)
{
    kith_index *index;
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = metric;
    assert_ok(kith_index_create(spec, dim, &options, &index, &err), &err);
    assert_ok(kith_index_train(index, x, n, NULL, &err), &err);
    assert_ok(kith_index_add(index, x, NULL, n, NULL, &err), &err);
    return index;
}

/* Answers with one setting; returns the rows scored in all. filter: NULL, or which rows may be found. */
static uint64_t filtered_answers(const kith_index *index, const float *queries, kith_setting setting,
                                 const kith_filter *filter, uint64_t *ids, float *dist)
{
    kith_searcher *searcher;
    kith_search_stats stats[NQ];
    kith_search_options options;
    kith_search_options_init(&options);
    options.settings = &setting;
    options.n_settings = setting.name != NULL;
    options.filter = filter;
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    assert_ok(kith_search(searcher, queries, NQ, K, &options, ids, dist, stats, &err), &err);
    kith_searcher_free(searcher);
    uint64_t scored = 0;
    for (size_t q = 0; q < NQ; q++) scored += stats[q].scored;
    return scored;
}

static uint64_t answers(const kith_index *index, const float *queries, kith_setting setting, uint64_t *ids,
                        float *dist)
{
    return filtered_answers(index, queries, setting, NULL, ids, dist);
}

/* `exact` is the answer of a scan, for fewer rows where there are few dimensions; also after rows went and came. */
static void test_exact(void **state)
{
    (void)state;
    static const kith_metric metrics[] = {KITH_L2SQ, KITH_COSINE};
    static const size_t dims[] = {3, 8, 40};
    for (size_t d = 0; d < 3; d++)
        for (size_t m = 0; m < 2; m++) {
            size_t dim = dims[d];
            float *x = test_vectors(N, dim, 40, 1), *q = test_vectors(NQ, dim, 40, 2);
            kith_index *ivf = make("IVF100,Flat", dim, metrics[m], x, N);
            kith_index *flat = make("Flat", dim, metrics[m], x, N);
            static uint64_t ids[NQ * K], truth[NQ * K], gone[500];
            static float dist[NQ * K], true_dist[NQ * K];
            for (int round = 0; round < 2; round++) {
                (void)answers(flat, q, (kith_setting){NULL, 0}, truth, true_dist);
                uint64_t scored = answers(ivf, q, (kith_setting){"exact", 1}, ids, dist);
                assert_memory_equal(ids, truth, sizeof ids);
                if (dim == 3) assert_true(scored < (uint64_t)NQ * N / 4);
                for (size_t i = 0; i < 500; i++) gone[i] = i * 7;
                assert_ok(kith_index_remove(ivf, gone, 500, NULL, &err), &err);
                assert_ok(kith_index_remove(flat, gone, 500, NULL, &err), &err);
            }
            kith_index_free(ivf);
            kith_index_free(flat);
            free(x);
            free(q);
        }
}

/* How many of the first n ids of two answers are the same, query by query. */
static size_t common(const uint64_t *a, const uint64_t *b)
{
    size_t same = 0;
    for (size_t q = 0; q < NQ; q++)
        for (size_t i = 0; i < K; i++)
            for (size_t j = 0; j < K; j++) same += a[q * K + i] == b[q * K + j] && a[q * K + i] != KITH_NO_ID;
    return same;
}

static void one_by_one(const kith_index *index, const float *queries, size_t dim, kith_setting setting,
                       uint64_t *ids)
{
    kith_searcher *searcher;
    kith_search_options options;
    float dist[K];
    kith_search_options_init(&options);
    options.settings = &setting;
    options.n_settings = 1;
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    for (size_t q = 0; q < NQ; q++)
        assert_ok(kith_search(searcher, queries + q * dim, 1, K, &options, ids + q * K, dist, NULL, &err),
                  &err);
    kith_searcher_free(searcher);
}

/* Cells far from zero: what few probes find is what they find about it, however the cells are found; `exact` is exact, and so are all cells
 * by inner product; files and split cells answer so, too. */
static void test_far_from_zero(void **state)
{
    (void)state;
    enum { DIM = 16 };
    static const char *const specs[] = {"IVF40,Flat", "IVF600,Flat", "IVF600_HKM20_HNSW8,Flat"};
    float *x = test_vectors(N, DIM, 40, 1), *q = test_vectors(NQ, DIM, 40, 2);
    float *far = malloc(N * DIM * sizeof *far), *asked = malloc(NQ * DIM * sizeof *asked);
    for (size_t i = 0; i < N * DIM; i++) far[i] = x[i] + 10000;
    for (size_t i = 0; i < NQ * DIM; i++) asked[i] = q[i] + 10000;
    static uint64_t ids[NQ * K], truth[NQ * K], far_truth[NQ * K];
    static float dist[NQ * K];
    const kith_setting few = {"nprobe", 3}, exact = {"exact", 1};
    for (size_t s = 0; s < 3; s++) {
        kith_index *near[2] = {make("Flat", DIM, KITH_L2SQ, x, N), make(specs[s], DIM, KITH_L2SQ, x, N)};
        kith_index *flat = make("Flat", DIM, KITH_L2SQ, far, N),
                   *ivf = make(specs[s], DIM, KITH_L2SQ, far, N);
        (void)answers(near[0], q, (kith_setting){NULL, 0}, truth, dist);
        (void)answers(near[1], q, few, ids, dist);
        size_t here = common(ids, truth);
        (void)answers(flat, asked, (kith_setting){NULL, 0}, far_truth, dist);
        (void)answers(ivf, asked, few, ids, dist);
        if (common(ids, far_truth) < here * 95 / 100)
            fail_msg("%s finds %zu, and %zu far from zero", specs[s], here, common(ids, far_truth));
        one_by_one(ivf, asked, DIM, few, truth);
        assert_true(common(ids, truth) >= (size_t)NQ * K * (s < 2 ? 100 : 95) / 100);
        one_by_one(ivf, asked, DIM, exact, ids);
        assert_memory_equal(ids, far_truth, sizeof ids);
        char path[600];
        snprintf(path, sizeof path, "%s/far.kidx", test_folder());
        assert_ok(kith_index_save(ivf, path, NULL, &err), &err);
        kith_index_free(ivf);
        assert_ok(kith_index_open(path, KITH_OPEN_READ, NULL, NULL, &ivf, &err), &err);
        assert_ok(kith_index_check(ivf, &err), &err);
        one_by_one(ivf, asked, DIM, few, ids);
        assert_memory_equal(ids, truth, sizeof ids);
        kith_compact_options options;
        kith_compact_options_init(&options);
        options.max_cell = 1.5;
        assert_ok(kith_index_compact(ivf, &options, NULL, NULL, &err), &err);
        (void)answers(ivf, asked, exact, ids, dist);
        assert_memory_equal(ids, far_truth, sizeof ids);
        for (size_t i = 0; i < 2; i++) kith_index_free(near[i]);
        kith_index_free(flat);
        kith_index_free(ivf);
    }
    kith_index *flat = make("Flat", DIM, KITH_DOT, far, N), *ivf = make("IVF40,Flat", DIM, KITH_DOT, far, N);
    (void)answers(flat, asked, (kith_setting){NULL, 0}, truth, dist);
    (void)answers(ivf, asked, (kith_setting){"nprobe", 40}, ids, dist);
    assert_int_equal(common(ids, truth), NQ * K);
    kith_index_free(flat);
    kith_index_free(ivf);
    free(x), free(q), free(far), free(asked);
}

/* A longer reach finds more and scores more; a calibrated index sets it. */
static void test_reach(void **state)
{
    (void)state;
    size_t dim = 16;
    float *x = test_vectors(N, dim, 40, 1), *q = test_vectors(NQ, dim, 40, 2),
          *seen = test_vectors(200, dim, 40, 3);
    kith_index *ivf = make("IVF100,Flat", dim, KITH_L2SQ, x, N);
    kith_index *flat = make("Flat", dim, KITH_L2SQ, x, N);
    static uint64_t ids[NQ * K], truth[NQ * K];
    static float dist[NQ * K];
    (void)answers(flat, q, (kith_setting){NULL, 0}, truth, dist);
    static const double reaches[] = {0.05, 0.2, 0.6, 4};
    uint64_t before = 0;
    size_t best = 0;
    for (size_t i = 0; i < 4; i++) {
        size_t hits = 0;
        uint64_t scored = answers(ivf, q, (kith_setting){"reach", reaches[i]}, ids, dist);
        for (size_t j = 0; j < NQ * K; j++)
            for (size_t l = j / K * K; l < j / K * K + K; l++) hits += ids[j] == truth[l];
        assert_true(scored >= before && hits >= best);
        before = scored;
        best = hits;
    }
    assert_int_equal(best, NQ * K);
    assert_string_equal(kith_index_main_param(ivf), "reach");
    assert_ok(kith_index_calibrate(ivf, seen, 200, NULL, NULL, &err), &err);
    uint64_t scored = answers(ivf, q, (kith_setting){"target_recall", 0.9}, ids, dist);
    assert_true(scored < before);
    kith_index_free(ivf);
    kith_index_free(flat);
    free(x);
    free(q);
    free(seen);
}

/* Rows like those trained with have their spread, others a larger one; it survives a file. */
static void test_cells(void **state)
{
    (void)state;
    size_t dim = 16;
    float *x = test_vectors(N, dim, 40, 1);
    kith_cells_info info = {.struct_size = sizeof info}, again = info;
    kith_index *ivf = make("IVF50,PQ4", dim, KITH_L2SQ, x, N), *opened;
    assert_ok(kith_index_get_cells(ivf, &info, &err), &err);
    assert_int_equal(info.cells, 50);
    assert_int_equal(info.rows, N);
    assert_true(info.largest >= N / 50 && info.mean_rows == N / 50.0);
    assert_true(fabs(info.spread_now / info.spread_trained - 1) < 0.2);
    for (size_t i = 0; i < N * dim; i++) x[i] += 20;
    assert_ok(kith_index_add(ivf, x, NULL, N, NULL, &err), &err);
    assert_ok(kith_index_get_cells(ivf, &again, &err), &err);
    assert_true(again.spread_now > 2 * info.spread_now && again.largest > info.largest);
    char path[1024];
    snprintf(path, sizeof path, "%s/cells.kidx", test_folder());
    assert_ok(kith_index_save(ivf, path, NULL, &err), &err);
    assert_ok(kith_index_open(path, KITH_OPEN_MAP, NULL, NULL, &opened, &err), &err);
    assert_ok(kith_index_get_cells(opened, &info, &err), &err);
    assert_memory_equal(&info, &again, sizeof info);
    kith_index_free(opened);
    kith_index_free(ivf);
    kith_index *flat = make("Flat", dim, KITH_L2SQ, x, N);
    assert_int_equal(kith_index_get_cells(flat, &info, &err), KITH_UNSUPPORTED);
    kith_index_free(flat);
    free(x);
}

/* ---- A graph over the centroids ---- */

/* The same cells trained, but found by a walk: nearly the same answers with few probes, the same with many, and with
 * `exact`; files, mapped or not, give the same. */
static void test_graph_of_cells(void **state)
{
    (void)state;
    static const kith_metric metrics[] = {KITH_L2SQ, KITH_COSINE, KITH_DOT};
    for (size_t m = 0; m < 3; m++) {
        size_t dim = 16;
        float *x = test_vectors(N, dim, 200, 1), *q = test_vectors(NQ, dim, 200, 2);
        kith_index *plain = make("IVF1500_HKM30,Flat", dim, metrics[m], x, N);
        kith_index *graph = make("IVF1500_HKM30_HNSW8,Flat", dim, metrics[m], x, N);
        kith_index *flat = make("Flat", dim, metrics[m], x, N);
        static uint64_t ids[NQ * K], expected[NQ * K], again[NQ * K];
        static float dist[NQ * K], expected_dist[NQ * K], dist_again[NQ * K];
        (void)answers(plain, q, (kith_setting){"nprobe", 20}, expected, expected_dist);
        (void)answers(graph, q, (kith_setting){"nprobe", 20}, ids, dist);
        assert_true(common(ids, expected) >= (size_t)NQ * K * 95 / 100);
        (void)answers(plain, q, (kith_setting){"nprobe", 200}, expected, expected_dist);
        (void)answers(graph, q, (kith_setting){"nprobe", 200}, again,
                      dist_again); /* over a sixteenth: by all */
        assert_memory_equal(again, expected, sizeof ids);
        if (metrics[m] != KITH_DOT) {
            (void)answers(flat, q, (kith_setting){NULL, 0}, expected, expected_dist);
            (void)answers(graph, q, (kith_setting){"exact", 1}, again, dist_again);
            assert_memory_equal(again, expected, sizeof ids);
            uint64_t some = answers(graph, q, (kith_setting){"reach", 0.4}, again, dist_again);
            uint64_t more = answers(graph, q, (kith_setting){"reach", 2}, again, dist_again);
            assert_true(some < more && common(again, expected) >= NQ * K * 98 / 100);
        }
        char path[600];
        snprintf(path, sizeof path, "%s/graph.kidx", test_folder());
        assert_ok(kith_index_check(graph, &err), &err);
        assert_ok(kith_index_save(graph, path, NULL, &err), &err);
        for (int mode = KITH_OPEN_READ; mode <= KITH_OPEN_MAP; mode++) {
            kith_index *opened;
            assert_ok(kith_index_open(path, (kith_open_mode)mode, NULL, NULL, &opened, &err), &err);
            assert_ok(kith_index_check(opened, &err), &err);
            (void)answers(opened, q, (kith_setting){"nprobe", 20}, again, dist_again);
            assert_memory_equal(again, ids, sizeof ids);
            assert_memory_equal(dist_again, dist, sizeof dist);
            kith_index_free(opened);
        }
        kith_index_free(plain);
        kith_index_free(graph);
        kith_index_free(flat);
        free(x);
        free(q);
    }
}

/* A query that wants more rows than its cells hold finds all there are, each once. */
static void test_graph_runs_out(void **state)
{
    (void)state;
    size_t dim = 12, n = 2000;
    float *x = test_vectors(n, dim, 0, 5);
    kith_index *index = make("IVF600_HNSW4,PQ4", dim, KITH_L2SQ, x, n);
    kith_searcher *searcher;
    uint64_t *ids = malloc((n + 5) * sizeof *ids), sum = 0;
    float *dist = malloc((n + 5) * sizeof *dist);
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    assert_ok(kith_search(searcher, x, 1, n + 5, NULL, ids, dist, NULL, &err), &err);
    for (size_t i = 0; i < n; i++) sum += ids[i];
    assert_int_equal(sum, n * (n - 1) / 2);
    assert_true(ids[n] == KITH_NO_ID);
    kith_searcher_free(searcher);
    kith_index_free(index);
    assert_int_equal(kith_index_create("IVF600_HNSW1,Flat", dim, NULL, &index, &err), KITH_INVALID);
    assert_int_equal(kith_index_create("IVF600_HNSW129,Flat", dim, NULL, &index, &err), KITH_INVALID);
    free(x);
    free(ids);
    free(dist);
}

/* ---- Splitting cells ---- */

/* Rows that came all into one corner after training. */
static float *crowd(size_t n, size_t dim, uint64_t seed)
{
    float *x = test_vectors(n, dim, 30, seed);
    for (size_t i = n / 2; i < n; i++)
        for (size_t d = 0; d < dim; d++) x[i * dim + d] = x[7 * dim + d] + 0.3f * x[i * dim + d];
    return x;
}

static kith_cells_info cells_of(const kith_index *index)
{
    kith_cells_info cells = {.struct_size = sizeof cells};
    assert_ok(kith_index_get_cells(index, &cells, &err), &err);
    return cells;
}

static int every_seventh(void *ctx, uint64_t id)
{
    (void)ctx;
    return id % 7 == 0;
}

static void same_answers(const kith_index *a, const kith_index *b, const float *q, kith_setting setting,
                         float tolerance, const kith_filter *filter)
{
    static uint64_t ids[2][NQ * K];
    static float dist[2][NQ * K];
    (void)filtered_answers(a, q, setting, filter, ids[0], dist[0]);
    (void)filtered_answers(b, q, setting, filter, ids[1], dist[1]);
    for (size_t i = 0; filter && i < NQ * K; i++) assert_true(every_seventh(NULL, ids[1][i]));
    assert_true(common(ids[0], ids[1]) >= NQ * K * 995 / 1000); /* ties within rounding may fall either way */
    for (size_t i = 0; i < NQ * K; i++)
        assert_true(fabsf(dist[0][i] - dist[1][i]) <= tolerance * (1 + fabsf(dist[0][i])));
}

/* No cell above the bound, not a code changed: all cells together give the answers that they gave. And life goes on. */
static void split_and_live(const char *spec, kith_metric metric)
{
    size_t dim = 16, n = N;
    float *x = crowd(n, dim, 1), *q = test_vectors(NQ, dim, 30, 2);
    kith_index *index[3]; /* as it was; split on one thread, on three */
    char path[3][600];
    kith_compact_result result;
    kith_compact_options options;
    kith_compact_options_init(&options);
    options.max_cell = 2;
    kith_filter seventh;
    kith_filter_init(&seventh);
    seventh.allow = every_seventh;
    for (size_t i = 0; i < 3; i++) {
        kith_index_options how;
        kith_index_options_init(&how);
        how.metric = metric;
        assert_ok(kith_index_create(spec, dim, &how, &index[i], &err), &err);
        assert_ok(kith_index_train(index[i], x, n / 2, NULL, &err), &err);
        for (size_t part = 0; part < 3; part++) /* lists grow, and have room */
            assert_ok(kith_index_add(index[i], x + part * n / 3 * dim, NULL, n / 3, NULL, &err), &err);
        kith_run run;
        kith_run_init(&run);
        if (i == 2) assert_ok(kith_pool_create(3, NULL, &run.pool, &err), &err);
        if (i > 0) assert_ok(kith_index_compact(index[i], &options, &run, &result, &err), &err);
        kith_pool_free(run.pool);
        snprintf(path[i], sizeof path[i], "%s/split%zu.kidx", test_folder(), i);
        assert_ok(kith_index_save(index[i], path[i], NULL, &err), &err);
    }
    kith_cells_info before = cells_of(index[0]), after = cells_of(index[1]);
    size_t most = (size_t)(2 * before.mean_rows);
    assert_true(before.largest > most && after.largest <= most && after.cells > before.cells);
    assert_true(result.cells_before == before.cells && result.cells_after == after.cells);
    assert_true(result.largest_before == before.largest && result.largest_after == after.largest);
    assert_true(after.rows == before.rows && after.spread_now < before.spread_now);
    kith_index_info info = {.struct_size = sizeof info};
    assert_ok(kith_index_get_info(index[1], &info, &err), &err);
    assert_int_equal(strtoul(info.spec + 3, NULL, 10), after.cells);

    FILE *files[2] = {fopen(path[1], "rb"), fopen(path[2], "rb")};
    for (int c = 0; c != EOF;) {
        c = getc(files[0]);
        assert_int_equal(c, getc(files[1]));
    }
    for (size_t i = 0; i < 2; i++) fclose(files[i]);

    assert_ok(kith_index_check(index[1], &err), &err);
    same_answers(index[0], index[1], q, (kith_setting){"nprobe", 4096}, 1e-4f, NULL);
    same_answers(index[0], index[1], q, (kith_setting){"nprobe", 4096}, 1e-4f, &seventh);
    if (metric == KITH_L2SQ) same_answers(index[0], index[1], q, (kith_setting){"exact", 1}, 1e-4f, NULL);
    kith_index_free(index[2]);
    assert_ok(kith_index_open(path[1], KITH_OPEN_MAP, NULL, NULL, &index[2], &err), &err);
    assert_ok(kith_index_check(index[2], &err), &err);
    same_answers(index[1], index[2], q, (kith_setting){"nprobe", 9}, 0, NULL);
    assert_int_equal(kith_index_compact(index[2], &options, NULL, NULL, &err), KITH_READONLY);
    kith_index_free(index[2]);
    assert_ok(kith_index_open(path[1], KITH_OPEN_READ, NULL, NULL, &index[2], &err), &err);

    /* Rows go and come in both, by the cells as they are now. */
    static uint64_t gone[900], added[900];
    for (size_t i = 0; i < 900; i++) gone[i] = i * 6, added[i] = 100000 + i;
    for (size_t i = 0; i < 3; i++) {
        size_t removed;
        assert_ok(kith_index_remove(index[i], gone, 900, &removed, &err), &err);
        assert_int_equal(removed, 900);
        assert_ok(kith_index_add(index[i], x + 33 * dim, added, 900, NULL, &err), &err);
        assert_ok(kith_index_check(index[i], &err), &err);
    }
    same_answers(index[1], index[2], q, (kith_setting){"nprobe", 9}, 0, NULL);
    if (strstr(spec, "Flat"))
        same_answers(index[0], index[1], q, (kith_setting){"nprobe", 4096}, 1e-4f, NULL);
    assert_ok(kith_index_compact(index[2], NULL, NULL, &result, &err), &err); /* without splitting */
    assert_true(result.cells_after == after.cells && result.bytes_after <= result.bytes_before);
    same_answers(index[1], index[2], q, (kith_setting){"nprobe", 9}, 0, NULL);
    for (size_t i = 0; i < 3; i++) kith_index_free(index[i]);
    free(x);
    free(q);
}

static void test_split(void **state)
{
    (void)state;
    split_and_live("IVF40,Flat", KITH_L2SQ);
    split_and_live("IVF40,PQ4", KITH_L2SQ);
    split_and_live("IVF40,PQ4", KITH_COSINE);
    split_and_live("IVF40,PQ8x4fs,RFlat", KITH_DOT);
    split_and_live("IVF40_HKM5_HNSW4,SQ8", KITH_L2SQ);
    split_and_live("IVF40,RaBitQ4", KITH_COSINE);
}

static void test_compact_refuses(void **state)
{
    (void)state;
    size_t dim = 8;
    float *x = test_vectors(N, dim, 0, 1);
    for (size_t i = 0; i < N; i++) memcpy(x + i * dim, x + (i % 5) * dim, dim * sizeof *x); /* five rows */
    kith_index *index = make("IVF4,Flat", dim, KITH_L2SQ, x, N);
    kith_compact_options options;
    kith_compact_options_init(&options);
    kith_compact_result result;
    options.max_cell = 1.5;
    assert_ok(kith_index_compact(index, &options, NULL, &result, &err), &err);
    assert_true(result.cells_after == 5 && result.largest_after == N / 5); /* equal rows cannot be parted */
    assert_ok(kith_index_check(index, &err), &err);
    options.max_cell = 1.2;
    assert_int_equal(kith_index_compact(index, &options, NULL, NULL, &err), KITH_INVALID);
    assert_non_null(strstr(err.message, "max_cell"));
    kith_index_free(index);
    index = make("HNSW8,Flat", dim, KITH_L2SQ, x, N);
    assert_int_equal(kith_index_compact(index, NULL, NULL, NULL, &err), KITH_UNSUPPORTED);
    kith_index_free(index);
    assert_ok(kith_index_create("IVF4,Flat", dim, NULL, &index, &err), &err);
    assert_int_equal(kith_index_compact(index, NULL, NULL, NULL, &err), KITH_UNTRAINED);
    assert_int_equal(kith_index_compact(NULL, NULL, NULL, NULL, &err), KITH_INVALID);
    assert_ok(kith_index_train(index, x, N, NULL, &err), &err);
    assert_ok(kith_index_compact(index, NULL, NULL, &result, &err), &err); /* no rows */
    kith_index_free(index);
    free(x);
}

/* Every allocation of a split fails once: the index is as it was. */
static void test_compact_without_memory(void **state)
{
    (void)state;
    size_t dim = 8, n = 1500;
    float *x = crowd(n, dim, 1);
    test_allocator allocator;
    kith_index *index;
    kith_index_options how;
    kith_compact_options options;
    kith_index_options_init(&how);
    kith_compact_options_init(&options);
    options.max_cell = 2;
    test_allocator_init(&allocator, SIZE_MAX, 0);
    how.allocator = &allocator.base;
    assert_ok(kith_index_create("IVF20_HNSW4,PQ4x4", dim, &how, &index, &err), &err);
    assert_ok(kith_index_train(index, x, n / 2, NULL, &err), &err);
    assert_ok(kith_index_add(index, x, NULL, n, NULL, &err), &err);
    kith_status status = KITH_NOMEM;
    for (size_t at = 0; status != KITH_OK; at += 1 + at / 16) {
        size_t live = allocator.live;
        allocator.fail_at = allocator.calls + at;
        status = kith_index_compact(index, &options, NULL, NULL, &err);
        allocator.fail_at = SIZE_MAX;
        if (status == KITH_OK) break;
        assert_int_equal(status, KITH_NOMEM);
        assert_int_equal(allocator.live, live);
        assert_int_equal(cells_of(index).cells, 20);
        assert_ok(kith_index_check(index, &err), &err);
        assert_true(at < 100000);
    }
    assert_true(cells_of(index).cells > 20);
    assert_ok(kith_index_check(index, &err), &err);
    kith_index_free(index);
    assert_int_equal(allocator.live, 0);
    free(x);
}

/* ---- Parameters of training ---- */

static void test_training_parameters(void **state)
{
    (void)state;
    size_t dim = 24;
    float *x = crowd(N, dim, 3);
    static const char *const specs[] = {"IVF60,Flat", "IVF60_HKM6,Flat"};
    static const struct {
        const char *name;
        double value;
    } ways[] = {{"mini_batch", 500}, {"spherical", 1}, {"max_cell", 2}};
    for (size_t s = 0; s < 2; s++)
        for (size_t w = 0; w < 3; w++) {
            kith_index *index;
            kith_index_options how;
            kith_index_options_init(&how);
            how.metric = KITH_COSINE;
            assert_ok(kith_index_create(specs[s], dim, &how, &index, &err), &err);
            assert_ok(kith_index_set(index, ways[w].name, ways[w].value, &err), &err);
            assert_ok(kith_index_set(index, "train_rows", 1000, &err), &err); /* all: the bound is on those */
            assert_ok(kith_index_train(index, x, N, NULL, &err), &err);
            assert_ok(kith_index_add(index, x, NULL, N, NULL, &err), &err);
            kith_cells_info cells = cells_of(index);
            if (w == 2) assert_true((double)cells.largest <= 2 * cells.mean_rows + 2);
            if (w != 2) assert_true((double)cells.largest > 2.5 * cells.mean_rows);
            assert_ok(kith_index_check(index, &err), &err);
            kith_index_free(index);
        }
    free(x);
}

/* A bound on cells below 1.5 is refused before anything is trained, as by kith_index_compact. */
static void test_max_cell_refused(void **state)
{
    (void)state;
    static const double refused[] = {0.5, 1, 1.4999};
    float *x = test_vectors(N, 4, 0, 1);
    kith_index *index;
    assert_ok(kith_index_create("IVF8,Flat", 4, NULL, &index, &err), &err);
    for (size_t i = 0; i < 3; i++) {
        assert_ok(kith_index_set(index, "max_cell", refused[i], &err), &err);
        assert_int_equal(kith_index_train(index, x, N, NULL, &err), KITH_INVALID);
        assert_non_null(strstr(err.message, "max_cell"));
    }
    assert_ok(kith_index_set(index, "max_cell", 1.5, &err), &err);
    assert_ok(kith_index_train(index, x, N, NULL, &err), &err);
    kith_index_free(index);
    free(x);
}

/* nprobe, reach, exact, target_recall: a query ends by one of them, and two are refused by name. */
static void test_one_end(void **state)
{
    (void)state;
    static const kith_setting ends[] = {{"target_recall", 0.5}, {"nprobe", 4}, {"reach", 0.3}, {"exact", 1}};
    float *x = test_vectors(N, 8, 40, 1), dist[K];
    uint64_t ids[K];
    kith_index *index = make("IVF20,Flat", 8, KITH_L2SQ, x, N);
    kith_searcher *searcher;
    kith_search_options options;
    kith_search_options_init(&options);
    assert_ok(kith_index_calibrate(index, x, 100, NULL, NULL, &err), &err);
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    for (size_t a = 0; a < 4; a++)
        for (size_t b = 0; b < 4; b++) {
            kith_setting both[2] = {ends[a], ends[b]};
            options.settings = both;
            options.n_settings = a == b ? 1 : 2;
            kith_status status = kith_search(searcher, x, 1, K, &options, ids, dist, NULL, &err);
            assert_int_equal(status, a == b ? KITH_OK : KITH_INVALID);
            if (a != b) assert_true(strstr(err.message, ends[a].name) && strstr(err.message, ends[b].name));
            both[1].value = 0; /* off */
            if (a > 0 && a != b && b > 1)
                assert_ok(kith_search(searcher, x, 1, K, &options, ids, dist, NULL, &err), &err);
        }
    kith_searcher_free(searcher);
    kith_index_free(index);
    free(x);
}

/* I6: no row as it was is farther than its cell's radius, also where a cell was cut by its codes; a radius that is too small is
 * found where rows tell. */
static void test_radii(void **state)
{
    (void)state;
    static const char *const specs[] = {"IVF20,Flat", "IVF20,RaBitQ,RFlat", "IVF20,PQ4", "IVF20,SQ4"};
    size_t dim = 16;
    float *x = crowd(N, dim, 2);
    kith_compact_options options;
    kith_compact_options_init(&options);
    options.max_cell = 1.5;
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++) {
        kith_index *index = make(specs[s], dim, KITH_L2SQ, x, N);
        kith_compact_result result;
        assert_ok(kith_index_compact(index, &options, NULL, &result, &err), &err);
        assert_true(result.cells_after > result.cells_before);
        ki_ivf *ivf = (ki_ivf *)index->structure;
        for (size_t c = 0; c < ivf->n_cells; c++)
            for (size_t i = 0; i < ivf->lists.size[c]; i++) {
                const float *row = x + ki_postings_slots(&ivf->lists, c)[i] * dim;
                double sum = 0;
                for (size_t d = 0; d < dim; d++)
                    sum += pow((double)row[d] - (double)ivf->centroids[c * dim + d], 2);
                assert_true(sqrt(sum) <= (double)ivf->radius[c]);
            }
        assert_ok(kith_index_check(index, &err), &err);
        if (s == 0) {
            for (size_t c = 0; c < ivf->n_cells; c++) ivf->radius[c] /= 2;
            assert_int_equal(kith_index_check(index, &err), KITH_CORRUPT);
            assert_non_null(strstr(err.message, "I6"));
        }
        kith_index_free(index);
    }
    free(x);
}

static size_t asked; /* bytes */

static void *counted_alloc(void *ctx, size_t size, size_t align)
{
    void *block = NULL;
    (void)ctx;
    asked += size;
    return posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, size) == 0 ? block : NULL;
}

static void counted_free(void *ctx, void *block)
{
    (void)ctx;
    free(block);
}

/* Rows that come one at a time, to one list after another: each is copied a few times, not once for each list that
 * overflows; and lists that moved are what they were, in memory and in files. */
static void test_rows_that_come_clustered(void **state)
{
    (void)state;
    enum { LISTS = 300, FEW = 20, MORE = 40, DIM = 16 };
    const kith_allocator allocator = {NULL, counted_alloc, counted_free};
    for (size_t blocks = 0; blocks < 2; blocks++) {
        ki_postings lists;
        ki_codec codec = {.code_size = DIM, .n_factors = 1, .block = blocks ? KI_BLOCK_ROWS : 0};
        uint32_t more[LISTS], slot = 0;
        uint8_t code[DIM] = {0};
        float factor = 0;
        assert_ok(ki_postings_init(&lists, LISTS, &codec, &allocator, &err), &err);
        for (size_t l = 0; l < LISTS; l++) more[l] = FEW;
        assert_ok(ki_postings_reserve(&lists, more, &err), &err);
        for (size_t l = 0; l < LISTS; l++)
            for (size_t i = 0; i < FEW; i++, slot++) ki_postings_append(&lists, l, slot, code, &factor);
        memset(more, 0, sizeof more);
        asked = 0;
        for (size_t l = 0; l < LISTS; l++)
            for (size_t i = 0; i < MORE; i++, slot++) {
                more[l] = 1;
                assert_ok(ki_postings_reserve(&lists, more, &err), &err);
                more[l] = 0;
                factor = (float)slot;
                ki_postings_append(&lists, l, slot, code, &factor);
            }
        size_t row = DIM + sizeof factor + sizeof slot;
        assert_true(asked < 30 * row * slot);
        uint64_t end = 0;
        for (size_t l = 0; l < LISTS; l++) {
            assert_int_equal(lists.size[l], FEW + MORE);
            const uint32_t *slots = ki_postings_slots(&lists, l);
            for (size_t i = 0; i < FEW + MORE; i++)
                assert_int_equal(slots[i], i < FEW ? l * FEW + i : LISTS * FEW + l * MORE + i - FEW);
            if (!blocks) assert_true(ki_postings_codes(&lists, l).factor[FEW] == (float)slots[FEW]);
            end = lists.start[l] + lists.room[l] > end ? lists.start[l] + lists.room[l] : end;
        }
        assert_true(end == lists.used && end <= lists.positions);
        ki_postings_clear(&lists);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_far_from_zero),
        cmocka_unit_test(test_reach),
        cmocka_unit_test(test_cells),
        cmocka_unit_test(test_graph_of_cells),
        cmocka_unit_test(test_graph_runs_out),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_compact_refuses),
        cmocka_unit_test(test_compact_without_memory),
        cmocka_unit_test(test_training_parameters),
        cmocka_unit_test(test_max_cell_refused),
        cmocka_unit_test(test_one_end),
        cmocka_unit_test(test_radii),
        cmocka_unit_test(test_rows_that_come_clustered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
