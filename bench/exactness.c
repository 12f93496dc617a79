/* exactness - KDTree and BallTree answer as Flat does, on real data in full: ids and distances bit for bit, the k nearest
 * and everything within a radius.
 *
 *     exactness [QUERIES [DATA [SIFT]]]      100 queries; DATA: $KITH_DATA, else ../shared/data; SIFT: DATA/sift
 *
 * Data sets: fashion-mnist (60,000 x 784), words (51,876 x 100; the 1,000 most frequent are queries) and sift1m
 * (1,000,000 x 128, SIFT/base.fvecs and query.fvecs), each under l2, l1 and cosine. The radii are, for each query, the
 * distance of its 20th nearest row (so that rows lie on the sphere) and 0.9 of that. A line a data set, metric and tree;
 * the status is 1 if an answer differs, and a data set that is not there is told and left out. */
#include <kith/dataset.h>
#include <kith/index.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { K = 20, MAX_QUERIES = 10000, WORD_QUERIES = 1000 };

typedef struct rows {
    const float *base, *queries;
    size_t n, nq, dim;
} rows;

/* What an index says: the nearest, then the rows within each radius of each query. */
typedef struct answers {
    uint64_t *ids; /* [nq][K] */
    float *dist;
    uint64_t *near_ids; /* [n_near] */
    float *near_dist;
    size_t *ends; /* [nq][2] into them */
    size_t n_near, room;
    double scored; /* rows compared by the searches for the nearest */
} answers;

static void must(kith_status status, const kith_error *err)
{
    if (status == KITH_OK) return;
    fprintf(stderr, "exactness: %s\n", err->message);
    exit(1);
}

static void *grown(void *memory, size_t bytes)
{
    void *more = realloc(memory, bytes ? bytes : 1);
    if (more) return more;
    fprintf(stderr, "exactness: no memory for %zu bytes\n", bytes);
    exit(1);
}

static void answers_init(answers *a, size_t nq)
{
    *a = (answers){0};
    a->ids = grown(NULL, nq * K * sizeof *a->ids);
    a->dist = grown(NULL, nq * K * sizeof *a->dist);
    a->ends = grown(NULL, nq * 2 * sizeof *a->ends);
}

static void answers_clear(answers *a)
{
    free(a->ids);
    free(a->dist);
    free(a->near_ids);
    free(a->near_dist);
    free(a->ends);
}

static void keep(answers *a, size_t n, const uint64_t *ids, const float *dist)
{
    if (a->n_near + n > a->room) {
        a->room = 2 * (a->n_near + n);
        a->near_ids = grown(a->near_ids, a->room * sizeof *a->near_ids);
        a->near_dist = grown(a->near_dist, a->room * sizeof *a->near_dist);
    }
    if (n > 0) {
        memcpy(a->near_ids + a->n_near, ids, n * sizeof *ids);
        memcpy(a->near_dist + a->n_near, dist, n * sizeof *dist);
    }
    a->n_near += n;
}

/* radii[nq]: of every query's first range; NULL: its 20th distance here. */
static void ask(const char *spec, kith_metric metric, const rows *r, const float *radii, answers *a)
{
    kith_error err;
    kith_run run;
    kith_index *index;
    kith_searcher *searcher;
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = metric;
    kith_run_init(&run);
    must(kith_pool_create(0, NULL, &run.pool, &err), &err);
    must(kith_index_create(spec, r->dim, &options, &index, &err), &err);
    must(kith_index_train(index, r->base, r->n, &run, &err), &err);
    must(kith_index_add(index, r->base, NULL, r->n, &run, &err), &err);
    must(kith_searcher_create(index, &searcher, &err), &err);
    answers_init(a, r->nq);
    for (size_t q = 0; q < r->nq; q++) {
        const float *query = r->queries + q * r->dim;
        kith_search_stats stats;
        must(kith_search(searcher, query, 1, K, NULL, a->ids + q * K, a->dist + q * K, &stats, &err), &err);
        a->scored += (double)stats.scored / ((double)r->n * (double)r->nq);
        float radius = radii ? radii[q] : a->dist[q * K + K - 1];
        for (int inner = 0; inner < 2; inner++) {
            size_t n;
            const uint64_t *ids;
            const float *dist;
            must(kith_search_range(searcher, query, inner ? 0.9f * radius : radius, NULL, &n, &ids, &dist,
                                   NULL, &err),
                 &err);
            keep(a, n, ids, dist);
            a->ends[2 * q + (size_t)inner] = a->n_near;
        }
    }
    kith_searcher_free(searcher);
    kith_index_free(index);
    kith_pool_free(run.pool);
}

static int same(const answers *a, const answers *b, size_t nq)
{
    return memcmp(a->ids, b->ids, nq * K * sizeof *a->ids) == 0 &&
           memcmp(a->dist, b->dist, nq * K * sizeof *a->dist) == 0 && a->n_near == b->n_near &&
           memcmp(a->ends, b->ends, nq * 2 * sizeof *a->ends) == 0 &&
           memcmp(a->near_ids, b->near_ids, a->n_near * sizeof *a->near_ids) == 0 &&
           memcmp(a->near_dist, b->near_dist, a->n_near * sizeof *a->near_dist) == 0;
}

/* Returns how many trees differ from Flat somewhere. */
static size_t compare(const char *name, const rows *r)
{
    static const kith_metric metrics[] = {KITH_L2SQ, KITH_L1, KITH_COSINE};
    static const char *const trees[] = {"KDTree", "BallTree"};
    size_t wrong = 0;
    for (size_t m = 0; m < sizeof metrics / sizeof *metrics; m++) {
        answers flat, tree;
        ask("Flat", metrics[m], r, NULL, &flat);
        float *radii = grown(NULL, r->nq * sizeof *radii);
        for (size_t q = 0; q < r->nq; q++) radii[q] = flat.dist[q * K + K - 1];
        for (size_t t = 0; t < sizeof trees / sizeof *trees; t++) {
            ask(trees[t], metrics[m], r, radii, &tree);
            int equal = same(&flat, &tree, r->nq);
            printf("%-14s %7zu x %-4zu %-7s %-9s %zu queries: %zu nearest, %zu rows in range: %s; %.1f %% of "
                   "rows compared\n",
                   name, r->n, r->dim, kith_metric_name(metrics[m]), trees[t], r->nq, r->nq * K, tree.n_near,
                   equal ? "equal" : "DIFFERENT", 100 * tree.scored);
            fflush(stdout);
            wrong += !equal;
            answers_clear(&tree);
        }
        free(radii);
        answers_clear(&flat);
    }
    return wrong;
}

static float *load(const char *folder, const char *file, size_t *n, size_t *dim)
{
    char path[4096];
    float *x;
    kith_error err;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    kith_status status = kith_dataset_load_f32(path, NULL, NULL, &x, n, dim, &err);
    if (status == KITH_OK) return x;
    printf("left out: %s\n", err.message);
    return NULL;
}

static size_t compare_files(const char *name, const char *folder, const char *base, const char *queries,
                            size_t nq)
{
    rows r = {0};
    size_t dim, wrong = 0;
    float *x = load(folder, base, &r.n, &r.dim), *q = x ? load(folder, queries, &r.nq, &dim) : NULL;
    r.base = x;
    r.queries = q;
    if (r.nq > nq) r.nq = nq;
    if (q) wrong = compare(name, &r);
    free(x);
    free(q);
    return wrong;
}

int main(int argc, char **argv)
{
    size_t nq = argc > 1 ? strtoul(argv[1], NULL, 10) : 100, wrong = 0;
    const char *set = getenv("KITH_DATA"), *data = argc > 2 ? argv[2] : set ? set : "../shared/data";
    char sift[4096];
    if (nq < 1 || nq > MAX_QUERIES) {
        fprintf(stderr, "exactness: QUERIES is %zu, allowed 1..%d\n", nq, MAX_QUERIES);
        return 2;
    }
    snprintf(sift, sizeof sift, "%s/sift", data);
    wrong +=
        compare_files("fashion-mnist", data, "fashion-mnist/train_u8.npy", "fashion-mnist/test_u8.npy", nq);
    size_t n, dim;
    float *words = load(data, "words/words_100_f16.npy", &n, &dim);
    if (words && n > WORD_QUERIES) {
        rows r = {words + WORD_QUERIES * dim, words, n - WORD_QUERIES, nq < WORD_QUERIES ? nq : WORD_QUERIES,
                  dim};
        wrong += compare("words", &r);
    }
    free(words);
    wrong += compare_files("sift1m", argc > 3 ? argv[3] : sift, "base.fvecs", "query.fvecs", nq);
    return wrong > 0;
}
