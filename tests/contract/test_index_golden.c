/* Index files of released formats open for ever, and give the answers that they gave. tests/golden/index-*-v1.kidx were
 * written by this program (KITH_GOLDEN=write makes those that are not there yet, scalar kernels, a build with LAPACK); their data are
 * small whole numbers, so that distances of float32 rows are exact at every SIMD level and estimates from codes the same to
 * rounding, or their signs as bits and sets. The broken ones must give the status that their names say. */
#include "index_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 48, DIM = 4, BITS = 64, K = 4, TRAINING = 320 };

static kith_error err;

static const struct golden {
    const char *name, *spec;
    kith_metric metric;
    uint64_t ids[2][K]; /* of the two queries below */
    float dist[2][K];
} goldens[] = {
#include "index_golden.inc"
};

#define N_GOLDENS (sizeof goldens / sizeof *goldens)

/* Those that were made in another way than the others. */
static const struct way {
    const char *name;
    const char *made; /* the spec that the file had before cells were split; NULL: none was */
    size_t training;  /* rows that it was trained with */
} ways[] = {
    {"ivf-split-v1", "IVF6,Flat", 16},
    {"ivf-split-sq4-v1", "IVF6,SQ4", 16},
    {"ivf-split-pqfs-v1", "IVF6,PQ2x4fs", 16},
    {"ivf-split-rabitq-v1", "IVF6,RaBitQ2,RFlat", 16},
    {"opq-v1", NULL, TRAINING},
    {"opq-ivf-refined-sq8-v1", NULL, TRAINING},
};

static struct way way_of(const struct golden *g)
{
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (strcmp(ways[i].name, g->name) == 0) return ways[i];
    return (struct way){g->name, NULL, N};
}

static const float queries[2][DIM] = {{1, 2, 3, 4}, {-5, 0, 7, -2}};

static const char *golden_path(const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/tests/golden/index-%s.kidx", KITH_SOURCE_DIR, name);
    return path;
}

/* Whole numbers from -8 to 8, without a pattern. */
static void fill(float *x, size_t n, size_t dim)
{
    for (uint32_t i = 0; i < n * dim; i++) x[i] = (float)((i * 2654435761u >> 11) % 17) - 8;
}

static index_case case_of(const struct golden *g)
{
    index_case c = {.metric = g->metric};
    snprintf(c.spec, sizeof c.spec, "%s", g->spec);
    return c;
}

static size_t dim_of(const struct golden *g)
{
    return kith_metric_rows(g->metric) == KITH_ROWS_F32 ? DIM : BITS;
}

static void ask(const struct golden *g, const kith_index *index, size_t q, uint64_t *ids, float *dist)
{
    kith_searcher *searcher;
    float near[N * BITS]; /* row 5 q, some bits turned, where the queries above are too short */
    fill(near, N, BITS);
    for (size_t d = 0; d < BITS; d += 7) near[5 * q * BITS + d] = 1 - near[5 * q * BITS + d];
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    assert_ok(case_search(searcher, dim_of(g) == DIM ? queries[q] : near + 5 * q * BITS, 1, K, NULL, ids,
                          dist, NULL, &err),
              &err);
    kith_searcher_free(searcher);
}

static kith_index *make_index(const struct golden *g)
{
    float x[TRAINING * BITS];
    uint64_t ids[N];
    size_t removed;
    struct way way = way_of(g);
    kith_index *index;
    index_case c = case_of(g);
    kith_index_options options;
    kith_compact_options split;
    kith_index_options_init(&options);
    options.metric = g->metric;
    fill(x, TRAINING, dim_of(g));
    for (size_t i = 0; i < N; i++) ids[i] = (i * 7 % 64) * 10;
    assert_ok(kith_index_create(way.made ? way.made : g->spec, case_index_dim(&c, dim_of(g)), &options,
                                &index, &err),
              &err);
    assert_ok(case_train(index, x, way.training, NULL, &err), &err);
    assert_ok(case_add(index, x, ids, N, NULL, &err), &err);
    assert_ok(kith_index_remove(index, (uint64_t[]){70, 350}, 2, &removed, &err), &err);
    kith_compact_options_init(&split);
    split.max_cell = 1.5;
    if (way.made) assert_ok(kith_index_compact(index, &split, NULL, NULL, &err), &err);
    return index;
}

static void make(const struct golden *g)
{
    uint64_t ids_found[K];
    float dist[K];
    kith_index *index = make_index(g);
    kith_index_info info = {.struct_size = sizeof info};
    assert_ok(kith_index_get_info(index, &info, &err), &err);
    assert_string_equal(info.spec, g->spec);
    assert_ok(kith_index_save(index, golden_path(g->name), NULL, &err), &err);
    static const char *const names[] = {"L2SQ", "DOT", "COSINE", "L1", "HAMMING", "JACCARD"};
    printf("    {\"%s\", \"%s\", KITH_%s, {", g->name, g->spec, names[g->metric]);
    for (size_t q = 0; q < 2; q++) {
        ask(g, index, q, ids_found, dist);
        printf("%s{%llu, %llu, %llu, %llu}", q ? ", " : "", (unsigned long long)ids_found[0],
               (unsigned long long)ids_found[1], (unsigned long long)ids_found[2],
               (unsigned long long)ids_found[3]);
    }
    printf("}, {");
    for (size_t q = 0; q < 2; q++) {
        ask(g, index, q, ids_found, dist);
        printf("%s{%#.9gf, %#.9gf, %#.9gf, %#.9gf}", q ? ", " : "", (double)dist[0], (double)dist[1],
               (double)dist[2], (double)dist[3]);
    }
    printf("}},\n");
    kith_index_free(index);
}

static int exists(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f) fclose(f);
    return f != NULL;
}

static void test_golden(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_GOLDENS; i++) {
        const struct golden *g = &goldens[i];
        index_case c = case_of(g);
        case_rows_are(&c, dim_of(g));
        if (getenv("KITH_GOLDEN")) {
            if (exists(golden_path(g->name))) continue;
            assert_int_equal(kith_simd_use(KITH_SIMD_SCALAR, NULL), KITH_OK);
            make(g);
            continue;
        }
        for (int mode = KITH_OPEN_READ; mode <= KITH_OPEN_MAP; mode++) {
            kith_index *index;
            kith_index_info info = {.struct_size = sizeof info};
            assert_ok(kith_index_open(golden_path(g->name), (kith_open_mode)mode, NULL, NULL, &index, &err),
                      &err);
            assert_ok(kith_index_check(index, &err), &err);
            assert_ok(kith_index_get_info(index, &info, &err), &err);
            assert_string_equal(info.spec, g->spec);
            assert_int_equal(info.n, N - 2);
            assert_int_equal(info.metric, g->metric);
            for (size_t q = 0; q < 2; q++) {
                uint64_t ids[K];
                float dist[K];
                ask(g, index, q, ids, dist);
                for (size_t k = 0; k < K; k++) {
                    if (ids[k] != g->ids[q][k])
                        fail_msg("%s, query %zu, rank %zu: id %llu, was %llu", g->name, q, k,
                                 (unsigned long long)ids[k], (unsigned long long)g->ids[q][k]);
                    assert_true(fabsf(dist[k] - g->dist[q][k]) <= 1e-6f * (1 + fabsf(dist[k])));
                }
            }
            kith_index_free(index);
        }
    }
}

static void test_broken(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        kith_status expected;
        const char *says;
    } broken[] = {
        {"bad-version", KITH_VERSION, "999"}, /* of a kith to come */
        {"bad-magic", KITH_FORMAT, ""},       /* something else */
        {"bad-short", KITH_CORRUPT, ""},      /* the end is missing */
        {"bad-checksum", KITH_CORRUPT, ""},   /* a byte of a section was changed */
        {"bad-slot", KITH_CORRUPT, "slot"},   /* a slot stands in two lists; checksums are right */
        {"bad-spec", KITH_CORRUPT, "Flut"},   /* no such structure; checksums are right */
    };
    if (getenv("KITH_GOLDEN")) skip();
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        kith_index *index = (kith_index *)&err;
        kith_status status =
            kith_index_open(golden_path(broken[i].name), KITH_OPEN_READ, NULL, NULL, &index, &err);
        if (status != broken[i].expected)
            fail_msg("%s: %s: %s", broken[i].name, kith_status_name(status), err.message);
        assert_null(index);
        if (!strstr(err.message, broken[i].says)) fail_msg("%s: \"%s\"", broken[i].name, err.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_golden, case_teardown),
        cmocka_unit_test(test_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
