/* Partitions, ranges, vector fields and what is searched over several of them. */
#include "collections.h"

#include <kith/fusion.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 600, DIM = 6, WIDE = 10 };

static float *random_vectors(size_t n, size_t dim, unsigned seed)
{
    float *x = malloc(n * dim * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n * dim; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) / (1 << 24) - 0.5f;
    }
    return x;
}

/* Rows 1..N with x, those with a key divisible by three in partition "b", other even ones in "a". */
static kith_collection *with_partitions(const char *name, const float *x)
{
    kith_error err;
    kith_collection *c = test_collection(name, DIM, KITH_L2SQ);
    test_put_rows(c, 1, N, x, DIM);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_partition_add(c, "b", &err), &err);
    assert_ok(kith_collection_partition_add(c, "a", &err), &err);
    for (int64_t key = 1; key <= N; key++) {
        const char *part = key % 3 == 0 ? "b" : key % 2 == 0 ? "a" : NULL;
        if (part) assert_ok(kith_collection_set_partition(c, key, part, &err), &err);
    }
    assert_ok(kith_collection_commit(c, &err), &err);
    return c;
}

static int in_part(int64_t key, int a, int b)
{
    return (b && key % 3 == 0) || (a && key % 3 != 0 && key % 2 == 0);
}

static void check_parts(kith_collection *c, const float *x, int a, int b, const char *expression, int folded)
{
    kith_error err;
    kith_collection_query query;
    kith_collection_query_init(&query);
    const char *names[2];
    size_t n = 0;
    char wanted[N];
    int64_t keys[10], truth[10];
    float distances[10];
    double true_distances[10];
    if (a) names[n++] = "a";
    if (b) names[n++] = "b";
    query.partitions = names;
    query.n_partitions = n;
    query.expression = expression;
    for (int64_t key = 1; key <= N; key++)
        wanted[key - 1] = (char)(in_part(key, a, b) && (!expression || key > 300));
    for (size_t q = 0; q < 5; q++) {
        test_brute_force(x, wanted, N, DIM, KITH_L2SQ, x + q * DIM, 10, truth, true_distances);
        assert_ok(kith_collection_search(c, 1, DIM, x + q * DIM, &query, keys, distances, NULL, &err), &err);
        for (size_t i = 0; i < 10; i++) {
            assert_true(in_part(keys[i], a, b));
            if (!folded) assert_int_equal(keys[i], truth[i]);
        }
    }
}

static void partitions(void **state)
{
    (void)state;
    kith_error err;
    float *x = random_vectors(N, DIM, 1);
    kith_collection *c = with_partitions("parts.kith", x);
    kith_partition list[3];
    size_t n = 3;
    uint64_t rows, hash, other;
    const char *name;
    assert_ok(kith_collection_partitions(c, list, &n, &err), &err);
    assert_int_equal(n, 2);
    assert_string_equal(list[0].name, "a");
    assert_int_equal(list[0].rows, N / 3);
    assert_int_equal(list[1].rows, N / 3);
    for (int parts = 1; parts < 4; parts++) {
        check_parts(c, x, parts & 1, parts >> 1, NULL, 0);
        check_parts(c, x, parts & 1, parts >> 1, "n > 300", 0);
    }
    assert_ok(kith_collection_count_where(c, "$partition == \"a\"", &rows, &err), &err);
    assert_int_equal(rows, N / 3);
    assert_ok(kith_collection_count_where(c, "$partition is null", &rows, &err), &err);
    assert_int_equal(rows, N / 3);
    assert_ok(kith_collection_count_where(c, "not ($partition in [\"a\"]) and n <= 300", &rows, &err), &err);
    assert_int_equal(rows, 100);
    assert_ok(kith_collection_count_where(c, "$partition like \"_\" or n == 1", &rows, &err), &err);
    assert_int_equal(rows, 2 * N / 3 + 1);
    assert_int_equal(kith_collection_filter_check("$partition > 3", &err), KITH_INVALID);
    assert_ok(kith_collection_get_partition(c, 3, &name, &err), &err);
    assert_string_equal(name, "b");
    assert_ok(kith_collection_get_partition(c, 1, &name, &err), &err);
    assert_null(name);

    /* Remembered sets follow what moves. */
    assert_ok(kith_collection_hash(c, NULL, &hash, &err), &err);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_set_partition(c, 3, "a", &err), &err);
    assert_ok(kith_collection_set_partition(c, 4, NULL, &err), &err);
    assert_int_equal(kith_collection_set_partition(c, 5, "none", &err), KITH_NOTFOUND);
    assert_int_equal(kith_collection_set_partition(c, N + 1, "a", &err), KITH_NOTFOUND);
    assert_int_equal(kith_collection_partition_add(c, "a", &err), KITH_EXISTS);
    assert_int_equal(kith_collection_partition_add(c, "a\"b", &err), KITH_INVALID);
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_ok(kith_collection_count_where(c, "$partition == \"a\"", &rows, &err), &err);
    assert_int_equal(rows, N / 3);
    assert_ok(kith_collection_count_where(c, "$partition == \"a\" and n < 5", &rows, &err), &err);
    assert_int_equal(rows, 2);
    assert_ok(kith_collection_hash(c, NULL, &other, &err), &err);
    assert_true(hash != other);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_set_partition(c, 3, "b", &err), &err);
    assert_ok(kith_collection_set_partition(c, 4, "a", &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_ok(kith_collection_hash(c, NULL, &other, &err), &err);
    assert_true(hash == other);

    /* With an index; dropped with its rows; a slot used again is in no partition. */
    kith_fold_options fold;
    kith_fold_options_init(&fold);
    fold.spec = "IVF16,Flat";
    fold.always = 1;
    assert_ok(kith_collection_fold(c, &fold, &err), &err);
    check_parts(c, x, 1, 1, NULL, 1);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_int_equal(kith_collection_partition_drop(c, "z", &rows, &err), KITH_NOTFOUND);
    assert_ok(kith_collection_partition_drop(c, "b", &rows, &err), &err);
    assert_int_equal(rows, N / 3);
    kith_row row = {.key = 3, .payload = "{}"};
    assert_ok(kith_collection_put(c, KITH_ROW_ALL, &row, NULL, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_ok(kith_collection_get_partition(c, 3, &name, &err), &err);
    assert_null(name);
    assert_ok(kith_collection_count(c, &rows, NULL, &err), &err);
    assert_int_equal(rows, 2 * N / 3 + 1);
    kith_collection_query query;
    kith_collection_query_init(&query);
    query.partitions = (const char *const[]){"b"};
    query.n_partitions = 1;
    int64_t keys[10];
    float distances[10];
    assert_int_equal(kith_collection_search(c, 1, DIM, x, &query, keys, distances, NULL, &err),
                     KITH_NOTFOUND);
    query.partitions = (const char *const[]){"a"};
    query.expression = "n >";
    assert_int_equal(kith_collection_search(c, 1, DIM, x, &query, keys, distances, NULL, &err), KITH_INVALID);
    assert_non_null(strstr(err.message, "byte 3"));
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    kith_collection_close(c);
    free(x);
}

/* How many rows are within a radius, by plain loops. */
static size_t count_within(const float *x, const float *q, double radius, int64_t above)
{
    size_t n = 0;
    for (int64_t key = above + 1; key <= N; key++) {
        double d = 0;
        for (size_t i = 0; i < DIM; i++)
            d += (double)(x[(size_t)(key - 1) * DIM + i] - q[i]) *
                 (double)(x[(size_t)(key - 1) * DIM + i] - q[i]);
        n += d <= radius;
    }
    return n;
}

static void ranges(void **state)
{
    (void)state;
    kith_error err;
    float *x = random_vectors(N, DIM, 2);
    kith_collection *c = test_collection("range.kith", DIM, KITH_L2SQ);
    test_put_rows(c, 1, N, x, DIM);
    int64_t keys[N], page[10];
    float distances[N], page_distances[10];
    size_t n;
    int more;
    kith_collection_query query;
    kith_collection_answer answer;
    for (int folded = 0; folded < 2; folded++) {
        size_t found = 0, expected = 0;
        for (size_t q = 0; q < 5; q++) {
            static const float radii[] = {0, 0.1f, 0.3f, 0.7f, 100};
            for (size_t r = 0; r < 5; r++) {
                kith_collection_query_init(&query);
                query.k = N;
                query.expression = r % 2 ? "n > 200" : NULL;
                size_t within = count_within(x, x + q * DIM, radii[r], r % 2 ? 200 : 0);
                assert_ok(kith_collection_search_range(c, DIM, x + q * DIM, radii[r], &query, keys, distances,
                                                       &n, &more, &answer, &err),
                          &err);
                assert_true(answer.complete);
                assert_false(more);
                if (!folded) assert_int_equal(n, within);
                assert_true(n <= within);
                for (size_t i = 0; i < n; i++) {
                    assert_true(distances[i] <= radii[r]);
                    if (i > 0) assert_true(distances[i - 1] <= distances[i]);
                }
                found += n;
                expected += within;
            }
        }
        assert_true((double)found >= 0.98 * (double)expected);
        kith_fold_options fold;
        kith_fold_options_init(&fold);
        fold.spec = "IVF16,Flat";
        fold.always = 1;
        assert_ok(kith_collection_fold(c, &fold, &err), &err);
    }
    /* Pages, and whether there is more. */
    size_t within = count_within(x, x, 0.3, 0);
    assert_true(within > 12);
    kith_collection_query_init(&query);
    query.exact = 1;
    query.k = within;
    assert_ok(kith_collection_search_range(c, DIM, x, 0.3f, &query, keys, distances, &n, &more, NULL, &err),
              &err);
    assert_int_equal(n, within);
    assert_false(more);
    query.k = 10;
    assert_ok(
        kith_collection_search_range(c, DIM, x, 0.3f, &query, page, page_distances, &n, &more, NULL, &err),
        &err);
    assert_int_equal(n, 10);
    assert_true(more);
    assert_memory_equal(page, keys, 10 * sizeof *keys);
    query.offset = within - 3;
    assert_ok(
        kith_collection_search_range(c, DIM, x, 0.3f, &query, page, page_distances, &n, &more, NULL, &err),
        &err);
    assert_int_equal(n, 3);
    assert_false(more);
    assert_memory_equal(page, keys + within - 3, 3 * sizeof *keys);
    query.offset = within + 5;
    assert_ok(
        kith_collection_search_range(c, DIM, x, 0.3f, &query, page, page_distances, &n, &more, NULL, &err),
        &err);
    assert_int_equal(n, 0);
    assert_int_equal(
        kith_collection_search_range(c, DIM, x, NAN, &query, page, page_distances, &n, &more, NULL, &err),
        KITH_INVALID);
    query.k = 0;
    assert_int_equal(
        kith_collection_search_range(c, DIM, x, 1, &query, page, page_distances, &n, &more, NULL, &err),
        KITH_INVALID);
    kith_collection_close(c);
    free(x);
}

/* A field "text" of another dim and metric; rows whose key is divisible by four have none. */
static kith_collection *with_field(const char *name, const float *x, const float *y)
{
    kith_error err;
    kith_collection *c = test_collection(name, DIM, KITH_L2SQ);
    test_put_rows(c, 1, N, x, DIM);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_vector_field_add(c, "text", WIDE, KITH_COSINE, "auto", &err), &err);
    for (int64_t key = 1; key <= N; key++)
        if (key % 4)
            assert_ok(kith_collection_put_vector(c, key, "text", y + (size_t)(key - 1) * WIDE, WIDE, &err),
                      &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    return c;
}

static void check_field(kith_collection *c, const float *y, const char *expression, int exact)
{
    kith_error err;
    kith_collection_query query;
    char wanted[N];
    int64_t keys[10], truth[10];
    float distances[10];
    double true_distances[10];
    kith_collection_query_init(&query);
    query.field = "text";
    query.expression = expression;
    size_t good = 0;
    for (int64_t key = 1; key <= N; key++)
        wanted[key - 1] = (char)(key % 4 != 0 && (!expression || key > 580));
    for (size_t q = 0; q < 5; q++) {
        test_brute_force(y, wanted, N, WIDE, KITH_COSINE, y + q * WIDE, 10, truth, true_distances);
        assert_ok(kith_collection_search(c, 1, WIDE, y + q * WIDE, &query, keys, distances, NULL, &err),
                  &err);
        for (size_t i = 0; i < 10; i++) {
            assert_true(keys[i] > 0 && wanted[keys[i] - 1]);
            good += (double)distances[i] <= true_distances[9] + 1e-5;
        }
    }
    assert_true(good >= (exact ? 50u : 40u));
}

static void vector_fields(void **state)
{
    (void)state;
    kith_error err;
    float *x = random_vectors(N, DIM, 3), *y = random_vectors(N, WIDE, 4);
    kith_collection *c = with_field("fields.kith", x, y), *other;
    kith_vector_field list[2];
    const float *vector;
    size_t n = 2, dim;
    uint64_t hash, hash2;
    assert_ok(kith_collection_vector_fields(c, list, &n, &err), &err);
    assert_int_equal(n, 1);
    assert_string_equal(list[0].name, "text");
    assert_string_equal(list[0].spec, "");
    assert_int_equal(list[0].vectors, N - N / 4);
    assert_int_equal(list[0].metric, KITH_COSINE);
    assert_ok(kith_collection_get_vector(c, 3, "text", &vector, &dim, &err), &err);
    assert_int_equal(dim, WIDE);
    assert_memory_equal(vector, y + 2 * WIDE, WIDE * sizeof *y);
    assert_ok(kith_collection_get_vector(c, 4, "text", &vector, &dim, &err), &err);
    assert_null(vector);
    assert_int_equal(kith_collection_get_vector(c, 4, "tex", &vector, &dim, &err), KITH_NOTFOUND);
    check_field(c, y, NULL, 1);
    check_field(c, y, "n > 580", 1);
    kith_collection_query query;
    kith_collection_query_init(&query);
    int64_t keys[10];
    float distances[10];
    query.field = "text";
    assert_int_equal(kith_collection_search(c, 1, DIM, x, &query, keys, distances, NULL, &err), KITH_INVALID);
    assert_ok(kith_collection_search_like(c, 3, &query, keys, distances, NULL, &err), &err);
    assert_true(keys[0] != 3 && keys[0] % 4 != 0);
    assert_int_equal(kith_collection_search_like(c, 4, &query, keys, distances, NULL, &err), KITH_NOTFOUND);
    query.field = NULL;
    assert_ok(kith_collection_search(c, 1, DIM, x, &query, keys, distances, NULL, &err), &err);
    assert_int_equal(keys[0], 1);

    /* An index of its own; changes beside it; another handle sees them. */
    kith_fold_options fold;
    kith_fold_options_init(&fold);
    fold.spec = "IVF16,Flat";
    fold.field = "text";
    fold.always = 1;
    assert_ok(kith_collection_fold(c, &fold, &err), &err);
    check_field(c, y, NULL, 0);
    check_field(c, y, "n > 580", 0);
    assert_ok(kith_collection_open(kith_collection_path(c), NULL, &other, &err), &err);
    check_field(other, y, NULL, 0);
    assert_ok(kith_collection_hash(c, NULL, &hash, &err), &err);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_put_vector(c, 3, "text", NULL, 0, &err), &err);
    assert_ok(kith_collection_put_vector(c, 4, "text", y + 2 * WIDE, WIDE, &err), &err);
    assert_int_equal(kith_collection_put_vector(c, 4, "text", y, DIM, &err), KITH_INVALID);
    assert_int_equal(kith_collection_put_vector(c, N + 1, "text", y, WIDE, &err), KITH_NOTFOUND);
    query.field = "text";
    assert_ok(kith_collection_search(c, 1, WIDE, y + 2 * WIDE, &query, keys, distances, NULL, &err), &err);
    assert_int_equal(keys[0], 4); /* within the batch, too */
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_ok(kith_collection_search(other, 1, WIDE, y + 2 * WIDE, &query, keys, distances, NULL, &err),
              &err);
    assert_int_equal(keys[0], 4);
    assert_ok(kith_collection_hash(c, NULL, &hash2, &err), &err);
    assert_true(hash != hash2);
    assert_ok(kith_collection_check(c, NULL, &err), &err);

    /* Undone; deleted with the row; the slot used again has none. */
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_put_vector(c, 4, "text", NULL, 0, &err), &err);
    assert_ok(kith_collection_search(c, 1, WIDE, y + 2 * WIDE, &query, keys, distances, NULL, &err), &err);
    assert_true(keys[0] != 4);
    kith_collection_rollback(c);
    assert_ok(kith_collection_search(c, 1, WIDE, y + 2 * WIDE, &query, keys, distances, NULL, &err), &err);
    assert_int_equal(keys[0], 4);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_ok(kith_collection_delete(c, 4, &err), &err);
    kith_row row = {.payload = "{}"};
    assert_ok(kith_collection_put(c, KITH_ROW_ALL, &row, NULL, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    assert_ok(kith_collection_search(c, 1, WIDE, y + 2 * WIDE, &query, keys, distances, NULL, &err), &err);
    assert_true(keys[0] != 4 && keys[0] != N + 1);
    n = 2;
    assert_ok(kith_collection_vector_fields(c, list, &n, &err), &err);
    assert_int_equal(list[0].vectors, N - N / 4 - 1);
    assert_ok(kith_collection_check(c, NULL, &err), &err);

    /* Dropped and declared again: nothing of the first one is found. */
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_int_equal(kith_collection_vector_field_add(c, "text", 3, KITH_DOT, NULL, &err), KITH_EXISTS);
    assert_int_equal(kith_collection_vector_field_add(c, "other", 3, KITH_DOT, "PQ99", &err), KITH_INVALID);
    assert_ok(kith_collection_vector_field_drop(c, "text", &err), &err);
    assert_ok(kith_collection_vector_field_add(c, "text", WIDE, KITH_COSINE, NULL, &err), &err);
    assert_ok(kith_collection_put_vector(c, 7, "text", y, WIDE, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    for (int i = 0; i < 2; i++) {
        assert_ok(kith_collection_search(i ? other : c, 1, WIDE, y, &query, keys, distances, NULL, &err),
                  &err);
        assert_int_equal(keys[0], 7);
        assert_int_equal(keys[1], 0);
    }
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    kith_collection_close(other);
    kith_collection_close(c);
    free(x);
    free(y);
}

static double cosine(const float *a, const float *b)
{
    double dot = 0, aa = 0, bb = 0;
    for (size_t d = 0; d < WIDE; d++) {
        dot += (double)a[d] * (double)b[d];
        aa += (double)a[d] * (double)a[d];
        bb += (double)b[d] * (double)b[d];
    }
    return dot / sqrt(aa * bb);
}

/* The scores of fusing by weight over all rows, by plain loops. */
static double weighted(const float *x, const float *y, int64_t key, double wx, double wy)
{
    size_t i = (size_t)(key - 1);
    double l2 = 0;
    for (size_t d = 0; d < DIM; d++) l2 += (double)(x[i * DIM + d] - x[d]) * (double)(x[i * DIM + d] - x[d]);
    return wx / (1 + sqrt(l2)) + (key % 4 ? wy * cosine(y + i * WIDE, y) : 0);
}

static void fused(void **state)
{
    (void)state;
    kith_error err;
    float *x = random_vectors(N, DIM, 5), *y = random_vectors(N, WIDE, 6);
    kith_collection *c = with_field("fused.kith", x, y);
    kith_fused_part parts[2] = {{.vector = x, .dim = DIM, .weight = 1},
                                {.field = "text", .vector = y, .dim = WIDE, .weight = 2}};
    kith_fusion_options how;
    kith_collection_query query;
    kith_collection_answer answer;
    int64_t keys[10], first[200], second[200];
    double scores[10];
    float distances[200];
    kith_fusion_options_init(&how);
    kith_collection_query_init(&query);

    /* By rank: compared with the two lists. */
    assert_ok(kith_collection_search_fused(c, parts, 2, NULL, &query, keys, scores, &answer, &err), &err);
    assert_true(answer.complete && answer.exact);
    query.k = 100;
    assert_ok(kith_collection_search(c, 1, DIM, x, &query, first, distances, NULL, &err), &err);
    query.field = "text";
    assert_ok(kith_collection_search(c, 1, WIDE, y, &query, second, distances, NULL, &err), &err);
    double best = 0;
    for (int64_t key = 1; key <= N; key++) {
        double score = 0;
        for (int i = 0; i < 100; i++)
            score += (first[i] == key ? 1.0 : 0) / (60 + i + 1) + (second[i] == key ? 2.0 : 0) / (60 + i + 1);
        if (score > best) best = score;
        for (int i = 0; i < 10; i++)
            if (keys[i] == key) assert_true(fabs(scores[i] - score) < 1e-12);
        if (score > scores[9]) {
            int there = 0;
            for (int i = 0; i < 10; i++) there |= keys[i] == key;
            assert_true(there);
        }
    }
    assert_true(fabs(scores[0] - best) < 1e-12);

    /* By weight, with every row a candidate: compared with all rows. */
    how.by = KITH_FUSE_WEIGHTS;
    how.depth = N;
    query.field = NULL;
    query.k = 10;
    assert_ok(kith_collection_search_fused(c, parts, 2, &how, &query, keys, scores, NULL, &err), &err);
    for (int i = 0; i < 10; i++) assert_true(fabs(scores[i] - weighted(x, y, keys[i], 1, 2)) < 1e-5);
    for (int64_t key = 1; key <= N; key++) {
        int there = 0;
        for (int i = 0; i < 10; i++) there |= keys[i] == key;
        assert_true(there || weighted(x, y, key, 1, 2) <= scores[9] + 1e-5);
    }

    /* Pages, filters, faults. */
    int64_t page[5];
    query.k = 5;
    query.offset = 5;
    assert_ok(kith_collection_search_fused(c, parts, 2, &how, &query, page, scores, NULL, &err), &err);
    assert_memory_equal(page, keys + 5, sizeof page);
    query.offset = 0;
    query.expression = "n in [7, 9]";
    assert_ok(kith_collection_search_fused(c, parts, 2, &how, &query, page, scores, NULL, &err), &err);
    assert_true(page[0] + page[1] == 16 && page[2] == 0 && scores[2] == 0);
    parts[1].field = "txt";
    assert_int_equal(kith_collection_search_fused(c, parts, 2, &how, &query, page, scores, NULL, &err),
                     KITH_NOTFOUND);
    parts[1].field = "text";
    parts[1].weight = 0;
    assert_int_equal(kith_collection_search_fused(c, parts, 2, &how, &query, page, scores, NULL, &err),
                     KITH_INVALID);
    assert_int_equal(kith_collection_search_fused(c, parts, 0, &how, &query, page, scores, NULL, &err),
                     KITH_INVALID);
    kith_collection_close(c);
    free(x);
    free(y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(partitions),
        cmocka_unit_test(ranges),
        cmocka_unit_test(vector_fields),
        cmocka_unit_test(fused),
    };
    test_folder_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
