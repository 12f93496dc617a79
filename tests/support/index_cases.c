#include "index_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

/* Recall floors: measured at every level and metric of the machines at hand, less 0.05. */
const family_case families[] = {
    {"Flat", 1, 1, 1.0},
    {"PQ@", 1, 0, 0.55},
    {"PQ@x4", 1, 0, 0.30},
    {"PQ@x4fs", 1, 0, 0.30},
    {"PQ@x9", 1, 0, 0.72},
    {"PQ@x5,RFlat", 1, 1, 0.94},
    {"IVF40,Flat", 0, 1, 0.95},
    {"IVF40,PQ@", 0, 0, 0.67},
    {"IVF40_HKM5,Flat", 0, 1, 0.95},
    {"IVF40_HNSW4,Flat", 0, 1, 0.95},
    {"IVF40,PQ@x6,RFlat", 0, 1, 0.94},
    {"IVF40,PQ@x4fs,RFlat", 0, 1, 0.85},
    {"F16", 1, 0, 0.95},
    {"SQ8", 1, 0, 0.90},
    {"SQ4,Refine(F16)", 1, 0, 0.90},
    {"IVF40,SQ4", 0, 0, 0.60},
    {"IVF40,SQ8", 0, 0, 0.85},
    {"PQ@x5,Refine(SQ8)", 1, 0, 0.85},
    {"HNSW8,Flat", 0, 1, 0.95},
    {"HNSW8,SQ8,RFlat", 0, 1, 0.95},
    {"QG32,Flat", 0, 1, 0.95},
    {"QG32,SQ8,RFlat", 0, 1, 0.95},
    {"PCA@,Flat,RFlat", 1, 1, 0.40},
    {"RR@,IVF40,Flat,RFlat", 0, 1, 0.70},
    {"HR,SQ4,RFlat", 1, 1, 0.93},
    {"OPQ@,PQ@x5", 1, 0, 0.42},
    {"OPQ@,IVF40,PQ@x4fs,Refine(SQ8)", 0, 0, 0.80},
    {"OPQP@,IVF40,PQ@x5,Refine(F16)", 0, 0, 0.94},
    {"RaBitQ", 1, 0, 0.44},
    {"RaBitQ4", 1, 0, 0.78},
    {"IVF40,RaBitQ7", 0, 0, 0.94},
    {"IVF40,RaBitQ,RFlat", 0, 1, 0.94},
    {"HNSW8,RaBitQ5,RFlat", 0, 1, 0.95},
    {"SH64", 1, 0, 0.35},
    {"ITQ@,RFlat", 1, 1, 0.44},
    {"IVF40,RH64,RFlat", 0, 1, 0.90},
    {"BFlat", 1, 1, 1.0},
    {"BIVF40", 0, 1, 0.95},
    {"BMIH@", 0, 1, 1.0},
    {"BHNSW8", 0, 1, 0.95},
    {"SimHash64,BMIH@", 0, 1, 1.0},
    {"SimHash128,BFlat", 1, 1, 1.0},
    {"MinHash128", 0, 0, 0.5},
    {"PStable8x2,Flat", 0, 1, 0.8},
    {"PStable6x2,PQ@x6,RFlat", 0, 1, 0.78},
    {"KDTree,Flat", 0, 1, 1.0},
    {"BallTree,Flat", 0, 1, 1.0},
    {"Hyperplane4x5,Flat", 0, 1, 0.95},
    {"LSHForest4,Flat", 0, 1, 0.95},
    {"RKDForest4,Flat", 0, 1, 0.9},
    {"RPForest8,Flat", 0, 1, 0.9},
    {"RPForest8,PQ@x6,RFlat", 0, 1, 0.8},
    {"NNDescent24,Flat", 0, 1, 0.95},
    {"NSG24,Flat", 0, 1, 0.95},
    {"Vamana24,SQ8,RFlat", 0, 1, 0.95},
    {"NSW32,Flat", 0, 1, 0.95},
};
const size_t n_families = sizeof families / sizeof *families;

static char where[160]; /* what is being tested, empty between cases */

/* See case_train in the header. */
static kith_metric now_metric = KITH_L2SQ;
static size_t now_dim = CASE_DIM;
static size_t now_bits; /* of a fingerprint; 0: rows are as wide as now_dim says */
static int now_walks;   /* few rows are walked through, too, where the family would compare them all */

/* Rows of fingerprints are wider than what is tested with. */
static size_t print_bits(const char *spec)
{
    return strncmp(spec, "SimHash", 7) == 0 ? strtoul(spec + 7, NULL, 10) : 0;
}

static int walks(const char *spec)
{
    return strncmp(spec, "QG", 2) == 0;
}

static size_t index_dim(const char *spec, kith_metric metric, size_t dim)
{
    return print_bits(spec) ? print_bits(spec) : kith_metric_rows(metric) == KITH_ROWS_SETS ? 1 : dim;
}

size_t case_index_dim(const index_case *c, size_t dim)
{
    return index_dim(c->spec, c->metric, dim);
}

int case_floats(const index_case *c)
{
    return kith_metric_rows(c->metric) == KITH_ROWS_F32;
}

int case_teardown(void **state)
{
    (void)state;
    if (where[0]) fprintf(stderr, "FAILED in: %s\n", where);
    where[0] = 0;
    now_metric = KITH_L2SQ;
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

static const kith_metric metrics[] = {KITH_L2SQ, KITH_DOT, KITH_COSINE, KITH_L1, KITH_HAMMING, KITH_JACCARD};
#define N_METRICS (sizeof metrics / sizeof *metrics)

int case_supports(const family_case *family, kith_metric metric)
{
    char spec[64];
    kith_index *index;
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = metric;
    case_spec(family, CASE_DIM / 4, spec);
    kith_status status = kith_index_create(spec, index_dim(spec, metric, CASE_DIM), &options, &index, NULL);
    kith_index_free(index);
    return status != KITH_UNSUPPORTED;
}

kith_metric case_metric(const family_case *family, kith_metric wanted)
{
    for (size_t m = 0; !case_supports(family, wanted) && m < N_METRICS; m++) wanted = metrics[m];
    return wanted;
}

int case_calls_matter(const family_case *family)
{
    static const char *const parts[] = {"KDTree",    "BallTree", "RPForest", "RKDForest",
                                        "NNDescent", "NSG",      "Vamana"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strncmp(family->spec, parts[i], strlen(parts[i])) == 0) return 1;
    return 0;
}

static void run_case(const family_case *family, kith_metric metric, kith_simd level, int lower,
                     void (*test)(const index_case *c))
{
    index_case c = {family, metric, level, "", lower};
    now_metric = metric;
    now_dim = CASE_DIM;
    case_spec(family, CASE_DIM / 4, c.spec);
    now_bits = print_bits(c.spec);
    now_walks = walks(c.spec);
    snprintf(where, sizeof where, "%s, %s, %s", c.spec, kith_metric_name(metric), kith_simd_name(level));
    assert_int_equal(kith_simd_use(level, NULL), KITH_OK);
    test(&c);
}

/* Whether KITH_SIMD asks for less than the machine has. */
static int below_best(kith_simd level)
{
    kith_simd best = level;
    for (int l = KITH_SIMD_SCALAR; l <= KITH_SIMD_NEON; l++)
        if (kith_simd_has((kith_simd)l)) best = (kith_simd)l;
    return level != best;
}

static int narrowed(int breadth, kith_simd level)
{
    if (below_best(level)) breadth &= ~CASES_LEVELS; /* the run without KITH_SIMD has walked them */
#ifdef __SANITIZE_ADDRESS__
    breadth &= ~CASES_LEVELS; /* bootstrap runs the contract at each level by KITH_SIMD */
    if (below_best(level)) breadth |= CASES_IN_TURN;
#else
    breadth &= ~CASES_IN_TURN;
#endif
    return test_number("KITH_ALL_CASES", 0) ? breadth & ~CASES_IN_TURN : breadth;
}

void for_each_case(int breadth, void (*test)(const index_case *c))
{
    static size_t turn; /* another metric of a family at the next test */
    kith_simd best = kith_simd_level();
    breadth = narrowed(breadth, best);
    turn++;
    for (size_t f = 0; f < n_families; f++) {
        kith_metric known[N_METRICS];
        size_t n = 0;
        for (size_t m = 0; m < N_METRICS; m++)
            if (case_supports(&families[f], metrics[m])) known[n++] = metrics[m];
        for (size_t m = 0; m < n; m++) {
            for (int level = KITH_SIMD_SCALAR; level <= KITH_SIMD_NEON; level++) {
                int has_turn = m == (f + turn + (size_t)level) % n;
                if (!kith_simd_has((kith_simd)level) || (breadth & CASES_IN_TURN && !has_turn)) continue;
                if ((kith_simd)level != best && (!(breadth & CASES_LEVELS) || !has_turn)) continue;
                run_case(&families[f], known[m], (kith_simd)level, (kith_simd)level != best, test);
            }
        }
    }
    kith_simd_use(best, NULL);
    now_metric = KITH_L2SQ;
    where[0] = 0;
}

/* ---- Rows of either kind ---- */

void case_to_bits(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = x[i] > 0;
}

void case_rows_are(const index_case *c, size_t dim)
{
    now_metric = c->metric;
    now_dim = dim;
    now_bits = print_bits(c->spec);
    now_walks = walks(c->spec);
}

void case_dimension(size_t dim)
{
    now_dim = dim;
}

/* x[n][now_dim] as rows of bits, malloc'ed; NULL for NULL. */
static uint8_t *pack(const float *x, size_t n)
{
    size_t row = kith_bit_bytes(now_bits ? now_bits : now_dim);
    uint8_t *bits = x ? calloc(n + 1, row) : NULL;
    for (size_t i = 0; i < n && bits; i++)
        for (size_t d = 0; d < now_dim; d++)
            if (x[i * now_dim + d] > 0) bits[i * row + d / 8] |= (uint8_t)(1 << d % 8);
    return bits;
}

/* The same as sets, to be given back with free_sets. Without x: n sets that are nowhere. */
static kith_sets sets_of(const float *x, size_t n)
{
    uint64_t *tokens = x ? malloc((n * now_dim + 1) * sizeof *tokens) : NULL;
    uint64_t *starts = x || n == 0 ? calloc(n + 1, sizeof *starts) : NULL;
    size_t at = 0;
    for (size_t i = 0; i < n && tokens; i++) {
        for (size_t d = 0; d < now_dim; d++)
            if (x[i * now_dim + d] > 0) tokens[at++] = d;
        starts[i + 1] = at;
    }
    return (kith_sets){tokens, starts, n, NULL};
}

static void free_sets(const kith_sets *sets)
{
    free((void *)(uintptr_t)sets->tokens);
    free((void *)(uintptr_t)sets->starts);
}

kith_status case_train(kith_index *index, const float *x, size_t n, const kith_run *run, kith_error *err)
{
    if (now_metric == KITH_JACCARD) {
        kith_sets sets = sets_of(x, n);
        kith_status status = kith_index_train_sets(index, &sets, run, err);
        free_sets(&sets);
        return status;
    }
    if (now_metric != KITH_HAMMING) return kith_index_train(index, x, n, run, err);
    uint8_t *bits = pack(x, n);
    kith_status status = kith_index_train_bits(index, bits, n, run, err);
    free(bits);
    return status;
}

kith_status case_add(kith_index *index, const float *x, const uint64_t *ids, size_t n, const kith_run *run,
                     kith_error *err)
{
    if (now_metric == KITH_JACCARD) {
        kith_sets sets = sets_of(x, n);
        kith_status status = kith_index_add_sets(index, &sets, ids, run, err);
        free_sets(&sets);
        return status;
    }
    if (now_metric != KITH_HAMMING) return kith_index_add(index, x, ids, n, run, err);
    uint8_t *bits = pack(x, n);
    kith_status status = kith_index_add_bits(index, bits, ids, n, run, err);
    free(bits);
    return status;
}

kith_status case_reconstruct(const kith_index *index, uint64_t id, float *out, kith_error *err)
{
    if (now_metric == KITH_JACCARD) return kith_index_has(index, id) ? KITH_OK : KITH_NOTFOUND;
    if (now_metric != KITH_HAMMING) return kith_index_reconstruct(index, id, out, err);
    uint8_t *bits = calloc(1, kith_bit_bytes(now_bits ? now_bits : now_dim));
    kith_status status = kith_index_reconstruct_bits(index, id, bits, err);
    for (size_t d = 0; d < now_dim && status == KITH_OK; d++) out[d] = (float)(bits[d / 8] >> d % 8 & 1);
    free(bits);
    return status;
}

int case_walks(void)
{
    return now_walks;
}
void case_scan(void)
{
    now_walks = 0;
}

/* The same search, but walking: KITH_INVALID where the searcher's family cannot be told to. */
static kith_status search_walking(kith_searcher *searcher, const float *queries, size_t nq, size_t k,
                                  const kith_search_options *options, uint64_t *ids, float *dist,
                                  kith_search_stats *stats, kith_error *err)
{
    kith_search_options walking;
    kith_setting settings[8] = {{"scan_below", 0}};
    kith_search_options_init(&walking);
    if (options) walking = *options;
    if (walking.n_settings >= sizeof settings / sizeof *settings) return KITH_INVALID;
    for (size_t i = 0; i < walking.n_settings; i++) settings[i + 1] = walking.settings[i];
    walking.settings = settings;
    walking.n_settings++;
    return kith_search(searcher, queries, nq, k, &walking, ids, dist, stats, err);
}

kith_status case_search(kith_searcher *searcher, const float *queries, size_t nq, size_t k,
                        const kith_search_options *options, uint64_t *ids, float *dist,
                        kith_search_stats *stats, kith_error *err)
{
    if (now_metric == KITH_JACCARD) {
        kith_sets sets = sets_of(queries, nq);
        kith_status status = kith_search_sets(searcher, &sets, k, options, ids, dist, stats, err);
        free_sets(&sets);
        return status;
    }
    kith_status walked =
        now_walks ? search_walking(searcher, queries, nq, k, options, ids, dist, stats, err) : KITH_INVALID;
    if (walked != KITH_INVALID) return walked;
    if (now_metric != KITH_HAMMING)
        return kith_search(searcher, queries, nq, k, options, ids, dist, stats, err);
    uint8_t *bits = pack(queries, nq);
    kith_status status = kith_search_bits(searcher, bits, nq, k, options, ids, dist, stats, err);
    free(bits);
    return status;
}

kith_status case_calibrate(kith_index *index, const float *queries, size_t nq,
                           const kith_calibrate_options *options, const kith_run *run, kith_error *err)
{
    if (now_metric == KITH_JACCARD) {
        kith_sets sets = sets_of(queries, nq);
        kith_status status = kith_index_calibrate_sets(index, &sets, options, run, err);
        free_sets(&sets);
        return status;
    }
    if (now_metric != KITH_HAMMING) return kith_index_calibrate(index, queries, nq, options, run, err);
    uint8_t *bits = pack(queries, nq);
    kith_status status = kith_index_calibrate_bits(index, bits, nq, options, run, err);
    free(bits);
    return status;
}

kith_status case_search_range(kith_searcher *searcher, const float *query, float radius,
                              const kith_search_options *options, size_t *n, const uint64_t **ids,
                              const float **dist, kith_search_stats *stats, kith_error *err)
{
    if (now_metric == KITH_JACCARD) {
        kith_sets sets = sets_of(query, 1);
        kith_status status =
            kith_search_range_sets(searcher, &sets, radius, options, n, ids, dist, stats, err);
        free_sets(&sets);
        return status;
    }
    if (now_metric != KITH_HAMMING)
        return kith_search_range(searcher, query, radius, options, n, ids, dist, stats, err);
    uint8_t *bits = pack(query, 1);
    kith_status status = kith_search_range_bits(searcher, bits, radius, options, n, ids, dist, stats, err);
    free(bits);
    return status;
}

const float *case_rows(void)
{
    static float *rows, bits[CASE_N * CASE_DIM];
    if (!rows) {
        rows = test_vectors(CASE_N, CASE_DIM, 30, 11);
        memcpy(bits, rows, sizeof bits);
        case_to_bits(bits, CASE_N * CASE_DIM);
    }
    return kith_metric_rows(now_metric) == KITH_ROWS_F32 ? rows : bits;
}

/* Queries near rows, as real ones are. */
static float *make_queries(void)
{
    float *queries = test_vectors(CASE_NQ, CASE_DIM, 0, 12);
    for (size_t q = 0; q < CASE_NQ; q++)
        for (size_t d = 0; d < CASE_DIM; d++)
            queries[q * CASE_DIM + d] = 0.7f * queries[q * CASE_DIM + d] + case_rows()[q * 29 * CASE_DIM + d];
    return queries;
}

const float *case_queries(void)
{
    static float *queries, *bits;
    if (kith_metric_rows(now_metric) == KITH_ROWS_F32) return queries ? queries : (queries = make_queries());
    if (!bits) {
        bits = make_queries();
        for (size_t i = 0; i < CASE_NQ * CASE_DIM; i++) bits[i] -= 0.5f; /* rows are 0 and 1 here */
        case_to_bits(bits, CASE_NQ * CASE_DIM);
    }
    return bits;
}

uint64_t case_id(size_t i)
{
    return (uint64_t)(i * 389 % 1009) * 3 + 5; /* 389 has an inverse modulo the prime 1009 > CASE_N */
}

size_t case_row(uint64_t id)
{
    size_t i = (size_t)(id / 3 - 1) % 1009 * 926 % 1009; /* 926 * 389 is 1 modulo 1009 */
    return i < CASE_N && case_id(i) == id ? i : CASE_N;
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
    if (strstr(info.spec, "ITQ")) assert_ok(kith_index_set(index, "itq_iterations", 5, &err), &err);
    if (strstr(info.spec, "IVF")) assert_ok(kith_index_set(index, "kmeans_iterations", 5, &err), &err);
    static const char *const graphs[] = {"NSW", "NSG", "Vamana", "NNDescent"};
    for (size_t i = 0; i < sizeof graphs / sizeof *graphs; i++)
        if (strstr(info.spec, graphs[i]) && !strstr(info.spec, "IVF"))
            assert_ok(kith_index_set(index, "ef_construction", 24, &err), &err);
    if (strncmp(info.spec, "QG", 2) == 0) assert_ok(kith_index_set(index, "ef_construction", 64, &err), &err);
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
    assert_ok(kith_index_create(c->spec, case_index_dim(c, dim), &options, &index, &err), &err);
    case_rows_are(c, dim);
    case_quick(index);
    return index;
}

/* The file of a case, made at the first call: rows 0: trained only. */
static const char *case_file(const index_case *c, size_t rows)
{
    static char path[1024];
    kith_error err;
    const char *kept = getenv("KITH_CASE_FILES");
    snprintf(path, sizeof path, "%s/%s-%d-%d-%zu.kidx", kept ? kept : test_folder(), c->spec, (int)c->metric,
             (int)c->level, rows);
    FILE *f = fopen(path, "rb");
    if (f) {
        fclose(f);
        return path;
    }
    kith_index *index = case_create(c, CASE_DIM, 7, NULL);
    assert_ok(case_train(index, case_rows(), CASE_N, NULL, &err), &err);
    assert_ok(case_add(index, case_rows(), case_ids(), rows, NULL, &err), &err);
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
    case KITH_JACCARD: return aa + bb == 0 ? 0 : 1 - dot / (aa + bb - dot); /* of zeros and ones */
    case KITH_HAMMING:                                                      /* of zeros and ones */
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
