/* What every family promises about the life of an index: training, adding, removing, saving, opening; the same bytes
 * from the same data. Every family x metric, and every SIMD level where numbers matter. */
#include "index_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

static kith_error err;

static kith_searcher *searcher_of(const kith_index *index)
{
    kith_searcher *searcher;
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    return searcher;
}

static uint64_t rows_of(const kith_index *index)
{
    kith_index_info info = {.struct_size = sizeof info};
    assert_ok(kith_index_get_info(index, &info, &err), &err);
    return info.n;
}

static uint64_t bytes_of(const kith_index *index)
{
    kith_index_info info = {.struct_size = sizeof info};
    assert_ok(kith_index_get_info(index, &info, &err), &err);
    return info.bytes;
}

/* The standard queries' answers. */
typedef struct answers {
    uint64_t ids[CASE_NQ * CASE_K];
    float dist[CASE_NQ * CASE_K];
} answers;

static void ask(const kith_index *index, answers *a)
{
    kith_searcher *searcher = searcher_of(index);
    assert_ok(case_search(searcher, case_queries(), CASE_NQ, CASE_K, NULL, a->ids, a->dist, NULL, &err),
              &err);
    kith_searcher_free(searcher);
}

static void check_same_answers(const kith_index *a, const kith_index *b)
{
    static answers x, y;
    ask(a, &x);
    ask(b, &y);
    assert_memory_equal(&x, &y, sizeof x);
}

static void check_same_files(const char *a, const char *b)
{
    size_t n, m;
    unsigned char *x = file_bytes(a, &n), *y = file_bytes(b, &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

static kith_index *reopened(const kith_index *index, kith_open_mode mode)
{
    kith_index *again;
    char path[1024];
    static int number;
    snprintf(path, sizeof path, "%s/again-%d.kidx", test_folder(), number++ % 8);
    assert_ok(kith_index_save(index, path, NULL, &err), &err);
    assert_ok(kith_index_open(path, mode, NULL, NULL, &again, &err), &err);
    return again;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Every id that is there, by asking for more rows than there are. */
static void check_holds(const kith_index *index, const uint64_t *ids, size_t n)
{
    kith_searcher *searcher = searcher_of(index);
    size_t k = n + 3;
    uint64_t *found = malloc(k * sizeof *found), *wanted = malloc(k * sizeof *wanted);
    float *dist = malloc(k * sizeof *dist);
    kith_search_stats stats;
    assert_int_equal(rows_of(index), n);
    assert_ok(case_search(searcher, case_queries(), 1, k, NULL, found, dist, &stats, &err), &err);
    assert_int_equal(stats.found, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(kith_index_has(index, ids[i]), 1);
        wanted[i] = ids[i];
    }
    qsort(found, n, sizeof *found, by_number);
    qsort(wanted, n, sizeof *wanted, by_number);
    if (n > 0) assert_memory_equal(found, wanted, n * sizeof *found);
    assert_ok(kith_index_check(index, &err), &err);
    free(found);
    free(wanted);
    free(dist);
    kith_searcher_free(searcher);
}

/* ---- Before training ---- */

static void untrained(const index_case *c)
{
    kith_index *index = case_create(c, CASE_DIM, 1, NULL);
    kith_searcher *searcher = (kith_searcher *)index;
    kith_index_info info = {.struct_size = sizeof info};
    assert_ok(kith_index_get_info(index, &info, &err), &err);
    assert_string_equal(info.spec, c->spec);
    assert_int_equal(info.dim, case_index_dim(c, CASE_DIM));
    assert_int_equal(info.metric, c->metric);
    assert_int_equal(info.seed, 1);
    assert_int_equal(info.n, 0);
    if (!info.trained) {
        assert_int_equal(case_add(index, case_rows(), NULL, 1, NULL, &err), KITH_UNTRAINED);
        assert_int_equal(kith_searcher_create(index, &searcher, &err), KITH_UNTRAINED);
        assert_null(searcher);
        assert_int_equal(kith_index_save(index, case_path("untrained.kidx"), NULL, &err), KITH_UNTRAINED);
    }
    assert_int_equal(case_train(index, NULL, 5, NULL, &err), KITH_INVALID);
    assert_int_equal(case_train(index, case_rows(), 0, NULL, &err), KITH_INVALID);
    float bad[4 * CASE_DIM] = {0};
    bad[2 * CASE_DIM + 1] = NAN;
    if (case_floats(c)) {
        assert_int_equal(case_train(index, bad, 4, NULL, &err), KITH_INVALID);
        assert_non_null(strstr(err.message, "component 1 of row 2"));
    }
    if (!info.trained) { /* too few rows for what is to be learned */
        assert_int_equal(case_train(index, case_rows(), 3, NULL, &err), KITH_INVALID);
        assert_int_equal(case_add(index, case_rows(), NULL, 1, NULL, &err), KITH_UNTRAINED);
    }
    kith_cancel cancel = {0};
    kith_run run;
    kith_run_init(&run);
    run.cancel = &cancel;
    kith_cancel_raise(&cancel);
    if (!info.trained) {
        assert_int_equal(case_train(index, case_rows(), CASE_N, &run, &err), KITH_CANCELLED);
        assert_int_equal(case_add(index, case_rows(), NULL, 1, NULL, &err), KITH_UNTRAINED);
    }
    assert_ok(case_train(index, case_rows(), CASE_N, NULL, &err), &err);
    assert_int_equal(case_add(index, case_rows(), NULL, CASE_N, &run, &err), KITH_CANCELLED);
    assert_int_equal(rows_of(index), 0);
    assert_ok(case_add(index, case_rows(), NULL, 10, NULL, &err), &err);
    assert_int_equal(case_train(index, case_rows(), CASE_N, NULL, &err), KITH_INVALID); /* holds rows */
    check_holds(index, (uint64_t[]){0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 10);
    kith_index_free(index);
}
static void test_untrained(void **state)
{
    (void)state;
    for_each_case(CASES_IN_TURN, untrained);
}

/* ---- The same bytes ---- */

static void build_to(const index_case *c, size_t threads, uint64_t seed, size_t parts, const char *path)
{
    kith_run run;
    kith_run_init(&run);
    if (threads > 0) assert_ok(kith_pool_create(threads, NULL, &run.pool, &err), &err);
    kith_index *index = case_create(c, CASE_DIM, seed, NULL);
    assert_ok(case_train(index, case_rows(), CASE_N, &run, &err), &err);
    for (size_t p = 0; p < parts; p++) {
        size_t first = CASE_N * p / parts, end = CASE_N * (p + 1) / parts;
        assert_ok(
            case_add(index, case_rows() + first * CASE_DIM, case_ids() + first, end - first, &run, &err),
            &err);
    }
    assert_ok(kith_index_check(index, &err), &err);
    assert_ok(kith_index_save(index, path, NULL, &err), &err);
    kith_index_free(index);
    kith_pool_free(run.pool);
}

static void same_bytes(const index_case *c)
{
    const char *once = case_path("once.kidx"), *again = case_path("again.kidx");
    build_to(c, 0, 3, 1, once);
    static const size_t threads[] = {4, 1, 2};
    for (size_t t = 0; t < (c->lower ? 1 : 3); t++) { /* who does what has nothing to do with kernels */
        build_to(c, threads[t], 3, 1, again);
        check_same_files(once, again);
    }
    build_to(c, 0, 3, 5, again); /* in parts */
    if (case_calls_matter(c->family)) {
        build_to(c, 4, 3, 5, once);
        check_same_files(once, again);
    } else {
        check_same_files(once, again);
    }
}
static void test_same_bytes(void **state)
{
    (void)state;
    for_each_case(CASES_LEVELS | CASES_IN_TURN, same_bytes);
}

/* ---- Files ---- */

static void save_and_open(const index_case *c)
{
    kith_index *index = case_full(c);
    char path[1024], path2[1024];
    snprintf(path, sizeof path, "%s", case_path("saved.kidx"));
    snprintf(path2, sizeof path2, "%s", case_path("saved2.kidx"));
    assert_ok(kith_index_save(index, path, NULL, &err), &err);
    static const kith_open_mode modes[] = {KITH_OPEN_READ, KITH_OPEN_MAP};
    for (size_t m = 0; m < 2; m++) {
        kith_index *again;
        assert_ok(kith_index_open(path, modes[m], NULL, NULL, &again, &err), &err);
        kith_index_info info = {.struct_size = sizeof info};
        assert_ok(kith_index_get_info(again, &info, &err), &err);
        assert_string_equal(info.spec, c->spec);
        assert_int_equal(info.mapped, m);
        assert_int_equal(info.trained, 1);
        assert_int_equal(info.n, CASE_N);
        assert_int_equal(info.seed, 7);
        assert_ok(kith_index_check(again, &err), &err);
        check_same_answers(index, again);
        assert_ok(kith_index_save(again, path2, NULL, &err), &err);
        check_same_files(path, path2);
        if (modes[m] == KITH_OPEN_MAP) {
            uint64_t id = case_id(0), other = 1;
            size_t removed = 77;
            assert_int_equal(case_add(again, case_rows(), &other, 1, NULL, &err), KITH_READONLY);
            assert_int_equal(kith_index_remove(again, &id, 1, &removed, &err), KITH_READONLY);
            assert_int_equal(case_train(again, case_rows(), CASE_N, NULL, &err), KITH_READONLY);
            assert_int_equal(removed, 77);
            assert_ok(kith_index_save(again, path, NULL, &err), &err); /* over the file it is mapped from */
            check_same_answers(index, again);
        }
        kith_index_free(again);
    }
    kith_index_free(index);
}
static void test_save_and_open(void **state)
{
    (void)state;
    for_each_case(CASES_LEVELS | CASES_IN_TURN, save_and_open);
}

/* Adding after a load is as if there had been no load. */
static void add_after_load(const index_case *c)
{
    kith_index *index = case_trained(c);
    size_t half = CASE_N / 2;
    assert_ok(case_add(index, case_rows(), case_ids(), half, NULL, &err), &err);
    kith_index *again = reopened(index, KITH_OPEN_READ);
    kith_index_free(index);
    assert_ok(case_add(again, case_rows() + half * CASE_DIM, case_ids() + half, CASE_N - half, NULL, &err),
              &err);
    assert_ok(kith_index_check(again, &err), &err);
    index = case_calls_matter(c->family) ? case_trained(c) : case_full(c);
    if (case_calls_matter(c->family)) {
        assert_ok(case_add(index, case_rows(), case_ids(), half, NULL, &err), &err);
        assert_ok(
            case_add(index, case_rows() + half * CASE_DIM, case_ids() + half, CASE_N - half, NULL, &err),
            &err);
    }
    char a[1024], b[1024];
    snprintf(a, sizeof a, "%s", case_path("halves.kidx"));
    snprintf(b, sizeof b, "%s", case_path("whole.kidx"));
    assert_ok(kith_index_save(again, a, NULL, &err), &err);
    assert_ok(kith_index_save(index, b, NULL, &err), &err);
    check_same_files(a, b);
    kith_index_free(again);
    kith_index_free(index);
}
static void test_add_after_load(void **state)
{
    (void)state;
    for_each_case(CASES_IN_TURN, add_after_load);
}

/* ---- Rows come and go ---- */

static void refused_adds(const index_case *c)
{
    kith_index *index = case_full(c);
    static answers before, after;
    ask(index, &before);
    uint64_t next = 1; /* not in use: ids of the standard rows are 2 modulo 3 */
    float rows[3 * CASE_DIM];
    memcpy(rows, case_rows(), sizeof rows);
    assert_int_equal(case_add(index, rows, (uint64_t[]){1, 3, 1}, 3, NULL, &err), KITH_EXISTS);
    assert_non_null(strstr(err.message, "ids[2]"));
    assert_int_equal(case_add(index, rows, (uint64_t[]){1, 3, case_id(5)}, 3, NULL, &err), KITH_EXISTS);
    assert_int_equal(case_add(index, rows, (uint64_t[]){1, KITH_NO_ID, 3}, 3, NULL, &err), KITH_INVALID);
    assert_int_equal(case_add(index, NULL, &next, 1, NULL, &err), KITH_INVALID);
    rows[2 * CASE_DIM + CASE_DIM - 1] = -INFINITY;
    if (case_floats(c)) {
        assert_int_equal(case_add(index, rows, (uint64_t[]){1, 3, 4}, 3, NULL, &err), KITH_INVALID);
        assert_non_null(strstr(err.message, "component 15 of row 2"));
    }
    assert_int_equal(rows_of(index), CASE_N);
    assert_int_equal(kith_index_has(index, 1), 0);
    ask(index, &after);
    assert_memory_equal(&before, &after, sizeof before);
    assert_ok(kith_index_check(index, &err), &err);
    kith_index_free(index);
}
static void test_refused_adds(void **state)
{
    (void)state;
    for_each_case(CASES_IN_TURN, refused_adds);
}

static void removals(const index_case *c)
{
    kith_index *index = case_full(c), *whole = case_full(c);
    uint64_t gone[120], kept[CASE_N];
    size_t removed = 0, n_kept = 0;
    for (size_t i = 0; i < 100; i++) gone[i] = case_id(i * 7);
    for (size_t i = 100; i < 110; i++) gone[i] = gone[i - 50]; /* twice in the call */
    for (size_t i = 110; i < 120; i++) gone[i] = 3 * i;        /* nobody's */
    assert_ok(kith_index_remove(index, gone, 120, &removed, &err), &err);
    assert_int_equal(removed, 100);
    for (size_t i = 0; i < CASE_N; i++)
        if (i % 7 != 0) kept[n_kept++] = case_id(i);
    check_holds(index, kept, n_kept);
    float out[CASE_DIM];
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(kith_index_has(index, gone[i]), 0);
        assert_int_equal(case_reconstruct(index, gone[i], out, &err), KITH_NOTFOUND);
    }
    /* what was removed is out of the file, with or without a load in between the same */
    kith_index *again = reopened(index, KITH_OPEN_READ), *mapped = reopened(index, KITH_OPEN_MAP);
    check_holds(again, kept, n_kept);
    check_holds(mapped, kept, n_kept);
    check_same_answers(index, again);
    check_same_answers(index, mapped);
    kith_index_free(mapped);
    /* back again, in their old places: the same answers as before, no memory more. (A graph that is told to walk has other links
     * now, and may walk past a row that it found before.) */
    case_scan();
    uint64_t size = bytes_of(index);
    kith_index *both[] = {index, again};
    for (size_t b = 0; b < 2; b++) {
        for (size_t i = 0; i < 100; i++)
            assert_ok(case_add(both[b], case_rows() + i * 7 * CASE_DIM, &gone[i], 1, NULL, &err), &err);
        check_holds(both[b], case_ids(), CASE_N);
        check_same_answers(both[b], whole);
    }
    assert_true(bytes_of(index) <= size + size / 2);
    /* all of them */
    assert_ok(kith_index_remove(index, case_ids(), CASE_N, &removed, &err), &err);
    assert_int_equal(removed, CASE_N);
    check_holds(index, NULL, 0);
    assert_ok(case_add(index, case_rows(), case_ids(), CASE_N, NULL, &err), &err);
    check_holds(index, case_ids(), CASE_N);
    check_same_answers(index, whole);
    kith_index_free(index);
    kith_index_free(again);
    kith_index_free(whole);
}
static void test_removals(void **state)
{
    (void)state;
    for_each_case(CASES_IN_TURN, removals);
}

/* Adds and removes at random, against a plain list of ids. */
static void churn(const index_case *c)
{
    kith_index *index = case_trained(c);
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 5);
    uint64_t ids[2000], next = 0;
    size_t n = 0;
    for (size_t round = 0; round < 25; round++) {
        size_t count = 1 + ki_rng_below(&rng, 40);
        if (n > 0 && ki_rng_below(&rng, 2)) {
            uint64_t gone[40];
            if (count > n) count = n;
            for (size_t i = 0; i < count; i++) {
                size_t victim = ki_rng_below(&rng, n);
                gone[i] = ids[victim];
                ids[victim] = ids[--n];
            }
            size_t removed;
            assert_ok(kith_index_remove(index, gone, count, &removed, &err), &err);
            assert_int_equal(removed, count);
        } else {
            uint64_t fresh[40];
            for (size_t i = 0; i < count; i++)
                ids[n++] = fresh[i] = ki_rng_below(&rng, 2) ? (++next) * 1000 : (1u << 30) - ++next;
            assert_ok(case_add(index, case_rows() + ki_rng_below(&rng, CASE_N - 40) * CASE_DIM, fresh, count,
                               NULL, &err),
                      &err);
        }
        if (round % 5 == 4) check_holds(index, ids, n);
        if (round % 10 == 9) {
            kith_index *again = reopened(index, KITH_OPEN_READ);
            kith_index_free(index);
            index = again;
        }
    }
    kith_index_free(index);
}
static void test_churn(void **state)
{
    (void)state;
    for_each_case(CASES_IN_TURN, churn);
}

/* Rows without ids: numbered as they come, whatever was removed meanwhile. */
static void own_numbers(const index_case *c)
{
    kith_index *index = case_trained(c);
    assert_ok(case_add(index, case_rows(), NULL, 5, NULL, &err), &err);
    size_t removed;
    assert_ok(kith_index_remove(index, (uint64_t[]){1, 4}, 2, &removed, &err), &err);
    kith_index *again = reopened(index, KITH_OPEN_READ);
    kith_index_free(index);
    assert_ok(case_add(again, case_rows() + 5 * CASE_DIM, NULL, 2, NULL, &err), &err);
    check_holds(again, (uint64_t[]){0, 2, 3, 5, 6}, 5);
    assert_ok(case_add(again, case_rows() + 7 * CASE_DIM, (uint64_t[]){8}, 1, NULL, &err), &err);
    assert_int_equal(case_add(again, case_rows(), NULL, 1, NULL, &err), KITH_EXISTS); /* it would be 8 */
    check_holds(again, (uint64_t[]){0, 2, 3, 5, 6, 8}, 6);
    kith_index_free(again);
}
static void test_own_numbers(void **state)
{
    (void)state;
    for_each_case(CASES_IN_TURN, own_numbers);
}

/* ---- Equal rows, and small and odd dimensions ---- */

static void duplicates(const index_case *c)
{
    kith_index *index = case_trained(c);
    enum { COPIES = 300, K = 20 };
    static float rows[COPIES * CASE_DIM];
    uint64_t ids[COPIES], found[9 * K];
    float dist[9 * K];
    for (size_t i = 0; i < COPIES; i++) {
        memcpy(rows + i * CASE_DIM, case_rows(), CASE_DIM * sizeof *rows);
        ids[i] = (i * 211 % 307) * 2; /* not in order */
    }
    assert_ok(case_add(index, rows, ids, COPIES, NULL, &err), &err);
    assert_ok(kith_index_check(index, &err), &err);
    kith_searcher *searcher = searcher_of(index);
    for (size_t nq = 1; nq <= 9; nq += 8) {
        float queries[9 * CASE_DIM];
        for (size_t q = 0; q < 9; q++)
            memcpy(queries + q * CASE_DIM, case_rows() + q * CASE_DIM, sizeof queries / 9);
        assert_ok(case_search(searcher, queries, nq, K, NULL, found, dist, NULL, &err), &err);
        for (size_t q = 0; q < nq; q++)
            for (size_t i = 0; i < K; i++) {
                assert_true(dist[q * K + i] == dist[q * K]);
                if (i > 0) assert_true(found[q * K + i] > found[q * K + i - 1]);
                /* of equals the smallest ids, but where a refinement chose among equal estimates */
                if (strstr(c->spec, "RFlat") || strstr(c->spec, "Refine") || q > 0) continue;
                size_t smaller = 0;
                for (size_t j = 0; j < COPIES; j++) smaller += ids[j] < found[i];
                assert_int_equal(smaller, i);
            }
    }
    kith_searcher_free(searcher);
    kith_index_free(index);
}
static void test_duplicates(void **state)
{
    (void)state;
    for_each_case(CASES_IN_TURN, duplicates);
}

static void one_dimension(const family_case *family, size_t dim, size_t m)
{
    enum { N = 600, NQ = 9, K = 5 };
    index_case c = {.family = family, .metric = case_metric(family, KITH_L2SQ)};
    case_spec(family, m, c.spec);
    if (dim > case_index_dim(&c, dim) && c.metric == KITH_HAMMING)
        return; /* a fingerprint has no room for it */
    float *x = test_vectors(N, dim, 0, dim);
    int bits = !case_floats(&c);
    if (bits) case_to_bits(x, N * dim);
    kith_index *index = case_create(&c, dim, 1, NULL);
    assert_ok(case_train(index, x, N, NULL, &err), &err);
    assert_ok(case_add(index, x, NULL, N, NULL, &err), &err);
    kith_searcher *searcher = searcher_of(index);
    uint64_t ids[NQ * K];
    float dist[NQ * K];
    assert_ok(case_search(searcher, x, NQ, K, NULL, ids, dist, NULL, &err), &err);
    for (size_t q = 0; q < NQ; q++)
        for (size_t i = 0; i < K; i++) {
            assert_true(ids[q * K + i] < N);
            if (family->true_distances) {
                if (i == 0 && family->exhaustive && !strchr(family->spec, '@') && !bits)
                    assert_int_equal(ids[q * K], q);
                assert_true(fabs((double)dist[q * K + i] -
                                 true_distance(c.metric, x + q * dim, x + ids[q * K + i] * dim, dim)) <=
                            distance_tolerance(c.metric, x + q * dim, x + ids[q * K + i] * dim, dim));
            }
        }
    assert_ok(kith_index_check(index, &err), &err);
    kith_searcher_free(searcher);
    kith_index *mapped = reopened(index, KITH_OPEN_MAP);
    assert_ok(kith_index_check(mapped, &err), &err);
    kith_index_free(mapped);
    kith_index_free(index);
    free(x);
}
/* An add that is refused has made a table of ids; rows that come with their numbers as ids afterwards are known all the
 * same: not taken twice, and removed like any other. */
static void test_ids_after_a_refused_add(void **state)
{
    (void)state;
    const float rows[4][2] = {{0, 0}, {1, 0}, {0, 1}, {1, 1}};
    const uint64_t there = 1, last = 3;
    kith_index *index;
    size_t removed = 0;
    assert_ok(kith_index_create("Flat", 2, NULL, &index, &err), &err);
    assert_ok(case_add(index, rows[0], NULL, 3, NULL, &err), &err);
    assert_int_equal(case_add(index, rows[3], &there, 1, NULL, &err), KITH_EXISTS);
    assert_ok(case_add(index, rows[3], NULL, 1, NULL, &err), &err);
    assert_int_equal(case_add(index, rows[3], &last, 1, NULL, &err), KITH_EXISTS);
    assert_ok(kith_index_check(index, &err), &err);
    assert_ok(kith_index_remove(index, &last, 1, &removed, &err), &err);
    assert_int_equal(removed, 1);
    assert_false(kith_index_has(index, last));
    assert_ok(kith_index_check(index, &err), &err);
    kith_index_free(index);
}

/* Every query finds k rows, each once, one by one and in a batch; and the file of such an index is read again. */
static void overflowing(const char *spec, kith_metric metric, const float *rows, size_t n, size_t dim)
{
    enum { NQ = 16, K = 4 };
    uint64_t ids[NQ * K];
    float dist[NQ * K];
    kith_search_stats stats[NQ];
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = metric;
    kith_index *index[3];
    kith_status status = kith_index_create(spec, dim, &options, &index[0], &err);
    if (status == KITH_UNSUPPORTED) return; /* not under this metric */
    assert_ok(status, &err);
    case_quick(index[0]);
    assert_ok(case_train(index[0], rows, n, NULL, &err), &err);
    assert_ok(case_add(index[0], rows, NULL, n, NULL, &err), &err);
    index[1] = reopened(index[0], KITH_OPEN_READ);
    index[2] = reopened(index[0], KITH_OPEN_MAP);
    for (size_t i = 0; i < 3; i++) {
        kith_searcher *searcher = searcher_of(index[i]);
        for (size_t nq = 1; nq <= NQ; nq += NQ - 1) {
            assert_ok(case_search(searcher, rows, nq, K, NULL, ids, dist, stats, &err), &err);
            for (size_t j = 0; j < nq * K; j++) {
                if (ids[j] >= n)
                    fail_msg("%s: query %zu finds %llu rows of %d", spec, j / K,
                             (unsigned long long)stats[j / K].found, K);
                assert_false(isnan(dist[j]));
                for (size_t other = j / K * K; other < j; other++) assert_true(ids[other] != ids[j]);
            }
        }
        assert_ok(kith_index_check(index[i], &err), &err);
        kith_searcher_free(searcher);
        kith_index_free(index[i]);
    }
}

/* Finite rows whose distances overflow: the rows are few and far, and they are found and kept like any others. */
static void test_distances_that_overflow(void **state)
{
    (void)state;
    enum { N = 300, DIM = 8 };
    static const char *const specs[] = {"Flat",
                                        "SQ8",
                                        "PQ4",
                                        "PQ4x4fs",
                                        "RaBitQ4",
                                        "IVF4,Flat",
                                        "IVF4,SQ8",
                                        "IVF4,PQ4",
                                        "IVF4,PQ4x4fs,RFlat",
                                        "IVF4,PQ4,RFlat",
                                        "IVF4,RaBitQ,RFlat",
                                        "IVF4,RaBitQ4",
                                        "IVF4_HNSW4,Flat",
                                        "IVF4,F16"};
    const kith_metric metrics[] = {KITH_L2SQ, KITH_DOT, KITH_L1, KITH_COSINE};
    float *huge = test_vectors(N, DIM, 0, 1), *far = test_vectors(N, DIM, 0, 1); /* all, one of them */
    for (size_t i = 0; i < N * DIM; i++) huge[i] = i / DIM % 2 ? 3e38f : i % DIM ? huge[i] : -3e38f;
    for (size_t d = 0; d < DIM; d++) far[7 * DIM + d] *= 1e20f;
    for (size_t m = 0; m < sizeof metrics / sizeof *metrics; m++) {
        for (size_t s = 0; s < sizeof specs / sizeof *specs; s++)
            overflowing(specs[s], metrics[m], far, N, DIM);
        overflowing("IVF4,Flat", metrics[m], huge, N, DIM);
        overflowing("Flat", metrics[m], huge, N, DIM);
    }
    /* Residuals that no float32 holds are no rows to learn a grid from. */
    kith_index *index;
    assert_ok(kith_index_create("IVF4,SQ4", DIM, NULL, &index, &err), &err);
    assert_int_equal(case_train(index, huge, N, NULL, &err), KITH_INVALID);
    kith_index_free(index);
    free(huge);
    free(far);
}

static void test_dimensions(void **state)
{
    (void)state;
    for (size_t f = 0; f < n_families; f++) {
        const char *spec = families[f].spec;
        /* (learning a rotation costs the cube of the dimension, again and again) */
        int rotates = strncmp(spec, "OPQ", 3) == 0 || strncmp(spec, "ITQ", 3) == 0;
        one_dimension(&families[f], 1, 1);
        one_dimension(&families[f], 3, 3);
        one_dimension(&families[f], rotates ? 155 : 1025, 5);
    }
}

/* Cosine: length does not matter, and a zero vector is at distance 1 of everything. */
static void lengths(const index_case *c)
{
    if (c->metric != KITH_COSINE) return;
    kith_index *index = case_trained(c), *scaled = case_trained(c);
    static float rows[100 * CASE_DIM];
    for (size_t i = 0; i < 100 * CASE_DIM; i++)
        rows[i] = case_rows()[i] * (i / CASE_DIM % 2 ? 1024 : 0x1p-20f); /* powers of two: the same bits */
    assert_ok(case_add(index, case_rows(), NULL, 100, NULL, &err), &err);
    assert_ok(case_add(scaled, rows, NULL, 100, NULL, &err), &err);
    check_same_answers(index, scaled);
    float zero[CASE_DIM] = {0};
    assert_ok(case_add(index, zero, NULL, 1, NULL, &err), &err);
    kith_searcher *searcher = searcher_of(index);
    uint64_t ids[101];
    float dist[101];
    assert_ok(case_search(searcher, zero, 1, 101, NULL, ids, dist, NULL, &err), &err);
    if (c->family->true_distances)
        for (size_t i = 0; i < 101; i++) assert_true(dist[i] == 1 && ids[i] == i);
    kith_searcher_free(searcher);
    kith_index_free(index);
    kith_index_free(scaled);
}
static void test_lengths(void **state)
{
    (void)state;
    for_each_case(CASES_LEVELS | CASES_IN_TURN, lengths);
}

static void reconstructions(const index_case *c)
{
    if (kith_metric_rows(c->metric) == KITH_ROWS_SETS) return; /* sets are not given back */
    kith_index *index = case_full(c);
    float out[CASE_DIM];
    double error = 0, spread = 0;
    for (size_t i = 0; i < CASE_N; i++) {
        const float *row = case_rows() + i * CASE_DIM;
        double norm = c->metric == KITH_COSINE ? sqrt(-true_distance(KITH_DOT, row, row, CASE_DIM)) : 1;
        assert_ok(case_reconstruct(index, case_id(i), out, &err), &err);
        for (size_t d = 0; d < CASE_DIM; d++) {
            double want = row[d] / norm;
            if (c->family->true_distances)
                assert_true(fabs(want - (double)out[d]) <= 1e-6 * fabs(want) + 1e-12);
            error += (want - (double)out[d]) * (want - (double)out[d]);
            spread += want * want;
        }
    }
    int one_bit = strncmp(c->spec, "SH", 2) == 0 || strcmp(c->spec, "RaBitQ") == 0;
    /* signs tell little of lengths: the mean of a half-normal keeps 2 / pi of its square */
    assert_true(error < (one_bit ? 0.75 : 0.25) * spread);
    assert_int_equal(case_reconstruct(index, 1, out, &err), KITH_NOTFOUND);
    assert_int_equal(case_reconstruct(index, KITH_NO_ID, out, &err), KITH_NOTFOUND);
    assert_int_equal(kith_index_has(index, KITH_NO_ID), 0);
    kith_index_free(index);
}
static void test_reconstructions(void **state)
{
    (void)state;
    for_each_case(CASES_IN_TURN, reconstructions);
}

/* The size of what is kept is what the essays say. */
static void test_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        double row; /* bytes a row, codes and slots and factors */
    } sizes[] = {{"Flat", 64}, {"PQ4", 4}, {"IVF4,Flat", 68}, {"IVF4,PQ4", 12}, {"IVF4,PQ4,RFlat", 76}};
    float *x = test_vectors(5000, CASE_DIM, 10, 3);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        index_case c = {.metric = KITH_L2SQ};
        snprintf(c.spec, sizeof c.spec, "%s", sizes[i].spec);
        kith_index *index = case_create(&c, CASE_DIM, 1, NULL);
        assert_ok(case_train(index, x, 5000, NULL, &err), &err);
        assert_ok(case_add(index, x, NULL, 5000, NULL, &err), &err);
        double row = (double)bytes_of(index) / 5000;
        if (fabs(row - sizes[i].row) > 0.5)
            fail_msg("%s: %.2f bytes a row, not %.2f", c.spec, row, sizes[i].row);
        kith_index_free(index);
    }
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_untrained, case_teardown),
        cmocka_unit_test_teardown(test_same_bytes, case_teardown),
        cmocka_unit_test_teardown(test_save_and_open, case_teardown),
        cmocka_unit_test_teardown(test_add_after_load, case_teardown),
        cmocka_unit_test_teardown(test_refused_adds, case_teardown),
        cmocka_unit_test_teardown(test_removals, case_teardown),
        cmocka_unit_test_teardown(test_churn, case_teardown),
        cmocka_unit_test_teardown(test_own_numbers, case_teardown),
        cmocka_unit_test_teardown(test_duplicates, case_teardown),
        cmocka_unit_test(test_ids_after_a_refused_add),
        cmocka_unit_test(test_distances_that_overflow),
        cmocka_unit_test_teardown(test_dimensions, case_teardown),
        cmocka_unit_test_teardown(test_lengths, case_teardown),
        cmocka_unit_test_teardown(test_reconstructions, case_teardown),
        cmocka_unit_test_teardown(test_bytes, case_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
