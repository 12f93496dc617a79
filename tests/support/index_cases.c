#include "index_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

/* Recall floors: measured at every level and metric of the machines at hand, less 0.05. */
const family_case families[] = {
    {"Flat", 1, 1, 1.0},         {"PQ@", 1, 0, 0.55},
    {"PQ@x4", 1, 0, 0.30},       {"PQ@x9", 1, 0, 0.72},
    {"PQ@x5,RFlat", 1, 1, 0.94}, {"IVF40,Flat", 0, 1, 0.95},
    {"IVF40,PQ@", 0, 0, 0.67},   {"IVF40,PQ@x6,RFlat", 0, 1, 0.94},
};
const size_t n_families = sizeof families / sizeof *families;

static char where[160]; /* what is being tested, empty between cases */

int case_teardown(void **state)
{
    (void)state;
    if (where[0]) fprintf(stderr, "FAILED in: %s\n", where);
    where[0] = 0;
    kith_simd_use_name("auto", NULL);
    return 0;
}

void case_spec(const family_case *family, size_t m, char spec[64])
{
    size_t used = 0;
    for (const char *p = family->spec; *p; p++)
        used += (size_t)(*p == '@' ? snprintf(spec + used, 64 - used, "%zu", m)
                                   : snprintf(spec + used, 64 - used, "%c", *p));
}

static const kith_metric metrics[] = {KITH_L2SQ, KITH_DOT, KITH_COSINE, KITH_L1};

int case_supports(const family_case *family, kith_metric metric)
{
    char spec[64];
    kith_index *index;
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = metric;
    case_spec(family, CASE_DIM / 4, spec);
    kith_status status = kith_index_create(spec, CASE_DIM, &options, &index, NULL);
    kith_index_free(index);
    return status != KITH_UNSUPPORTED;
}

kith_metric case_metric(const family_case *family, kith_metric wanted)
{
    for (size_t m = 0; !case_supports(family, wanted) && m < 4; m++) wanted = metrics[m];
    return wanted;
}

void for_each_case(int levels, void (*test)(const index_case *c))
{
    kith_simd best = kith_simd_level();
    for (size_t f = 0; f < n_families; f++)
        for (size_t m = 0; m < 4; m++) {
            if (!case_supports(&families[f], metrics[m])) continue;
            for (int level = KITH_SIMD_SCALAR; level <= KITH_SIMD_NEON; level++) {
                if (!kith_simd_has((kith_simd)level) || (!levels && (kith_simd)level != best)) continue;
                index_case c = {&families[f], metrics[m], (kith_simd)level, ""};
                case_spec(c.family, CASE_DIM / 4, c.spec);
                snprintf(where, sizeof where, "%s, %s, %s", c.spec, kith_metric_name(c.metric),
                         kith_simd_name(c.level));
                assert_int_equal(kith_simd_use(c.level, NULL), KITH_OK);
                test(&c);
            }
        }
    kith_simd_use(best, NULL);
    where[0] = 0;
}

const float *case_rows(void)
{
    static float *rows;
    if (!rows) rows = test_vectors(CASE_N, CASE_DIM, 30, 11);
    return rows;
}

/* Queries near rows, as real ones are. */
const float *case_queries(void)
{
    static float *queries;
    if (queries) return queries;
    queries = test_vectors(CASE_NQ, CASE_DIM, 0, 12);
    for (size_t q = 0; q < CASE_NQ; q++)
        for (size_t d = 0; d < CASE_DIM; d++)
            queries[q * CASE_DIM + d] = 0.7f * queries[q * CASE_DIM + d] + case_rows()[q * 29 * CASE_DIM + d];
    return queries;
}

uint64_t case_id(size_t i)
{
    return (uint64_t)(i * 389 % 1009) * 3 + 5; /* 389 has an inverse modulo the prime 1009 > CASE_N */
}

const uint64_t *case_ids(void)
{
    static uint64_t ids[CASE_N];
    for (size_t i = 0; i < CASE_N; i++) ids[i] = case_id(i);
    return ids;
}

void case_quick(kith_index *index)
{
    kith_error err;
    kith_index_info info = {.struct_size = sizeof info};
    assert_ok(kith_index_get_info(index, &info, &err), &err);
    if (strstr(info.spec, "PQ")) assert_ok(kith_index_set(index, "pq_iterations", 4, &err), &err);
    if (strstr(info.spec, "IVF")) assert_ok(kith_index_set(index, "kmeans_iterations", 5, &err), &err);
}

kith_index *case_create(const index_case *c, size_t dim, uint64_t seed, const kith_allocator *allocator)
{
    kith_error err;
    kith_index *index;
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = c->metric;
    options.seed = seed;
    options.allocator = allocator;
    assert_ok(kith_index_create(c->spec, dim, &options, &index, &err), &err);
    case_quick(index);
    return index;
}

/* The file of a case, made at the first call: rows 0: trained only. */
static const char *case_file(const index_case *c, size_t rows)
{
    static char path[1024];
    kith_error err;
    snprintf(path, sizeof path, "%s/%s-%d-%d-%zu.kidx", test_folder(), c->spec, (int)c->metric, (int)c->level,
             rows);
    FILE *f = fopen(path, "rb");
    if (f) {
        fclose(f);
        return path;
    }
    kith_index *index = case_create(c, CASE_DIM, 7, NULL);
    assert_ok(kith_index_train(index, case_rows(), CASE_N, NULL, &err), &err);
    assert_ok(kith_index_add(index, case_rows(), case_ids(), rows, NULL, &err), &err);
    assert_ok(kith_index_save(index, path, NULL, &err), &err);
    kith_index_free(index);
    return path;
}

static kith_index *case_open(const index_case *c, size_t rows)
{
    kith_error err;
    kith_index *index;
    assert_ok(kith_index_open(case_file(c, rows), KITH_OPEN_READ, NULL, NULL, &index, &err), &err);
    return index;
}

kith_index *case_trained(const index_case *c)
{
    return case_open(c, 0);
}

kith_index *case_full(const index_case *c)
{
    return case_open(c, CASE_N);
}

double true_distance(kith_metric metric, const float *a, const float *b, size_t dim)
{
    double dot = 0, l2 = 0, l1 = 0, aa = 0, bb = 0;
    for (size_t d = 0; d < dim; d++) {
        double x = a[d], y = b[d];
        dot += x * y;
        aa += x * x;
        bb += y * y;
        l2 += (x - y) * (x - y);
        l1 += fabs(x - y);
    }
    switch (metric) {
    case KITH_L2SQ: return l2;
    case KITH_DOT: return -dot;
    case KITH_COSINE: return aa == 0 || bb == 0 ? 1 : 1 - dot / sqrt(aa * bb);
    default: return l1;
    }
}

double distance_tolerance(kith_metric metric, const float *a, const float *b, size_t dim)
{
    double norm = 1;
    if (metric != KITH_COSINE)
        norm = fabs(true_distance(metric, a, b, dim)) +
               (metric == KITH_DOT
                    ? sqrt(true_distance(KITH_DOT, a, a, dim) * true_distance(KITH_DOT, b, b, dim))
                    : 0);
    return ((double)dim + 8) * 0x1p-23 * norm + 1e-30;
}

unsigned char *file_bytes(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    unsigned char *data = malloc(*size + 1);
    assert_int_equal(fread(data, 1, *size, f), *size);
    fclose(f);
    return data;
}

void write_file(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

const char *case_path(const char *name)
{
    static char path[4][1024];
    static size_t turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", test_folder(), name);
    return path[turn];
}
