/* filtered_search - recall and time of filtered search in a collection, from 1e-6 of the rows to all of them.
 *
 *     filtered_search X.kith QUERIES [NQ]
 *
 * The payloads have a member "r", a number in 0..999999 drawn at random, so that `r < N` lets a part of N / 1e6 through:
 *
 *     awk 'BEGIN { srand(1); for (i = 1; i <= 1000000; i++) printf "{\"id\":%d,\"r\":%d}\n", i, rand() * 1e6 }' >rows.jsonl
 *     kith import X.kith base.fvecs --payload rows.jsonl --key id
 *
 * The collection is folded if it has no
 * segment. One JSON line a selectivity: rows let through, the plan's method, recall@10 against exact search over those
 * rows, whether every query found min(10, rows let through), milliseconds of processor time a query with the bitmap
 * remembered, and of the first use of the filter. */
#include <kith/collection.h>
#include <kith/dataset.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define K 10

static double cpu(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void must(kith_status status, const kith_error *err)
{
    if (status == KITH_OK) return;
    fprintf(stderr, "filtered_search: %s\n", err->message);
    exit(1);
}

/* All queries, one a call. Returns the seconds of processor time. */
static double search(kith_collection *c, const char *filter, int exact, const float *q, size_t nq, size_t dim,
                     int64_t *keys, float *distances, kith_collection_plan *plan)
{
    kith_error err;
    kith_collection_query query;
    kith_collection_query_init(&query);
    query.k = K;
    query.exact = exact;
    query.expression = filter;
    query.plan = plan;
    double begin = cpu();
    for (size_t i = 0; i < nq; i++)
        must(kith_collection_search(c, 1, dim, q + i * dim, &query, keys + i * K, distances + i * K, NULL,
                                    &err),
             &err);
    return cpu() - begin;
}

static void measure(kith_collection *c, unsigned part, const float *q, size_t nq, size_t dim)
{
    kith_error err;
    char filter[32];
    uint64_t matches;
    kith_collection_plan plan = {.struct_size = sizeof plan};
    int64_t *keys = malloc(2 * nq * K * sizeof *keys);
    float *distances = malloc(2 * nq * K * sizeof *distances), *truth = distances + nq * K;
    snprintf(filter, sizeof filter, "r < %u", part);
    double begin = cpu();
    must(kith_collection_count_where(c, filter, &matches, &err), &err);
    double first = cpu() - begin;
    double time = search(c, filter, 0, q, nq, dim, keys, distances, &plan);
    /* Exact search of all rows at once: one pass over the database for all queries. */
    kith_collection_query query;
    kith_collection_query_init(&query);
    query.k = K;
    query.exact = 1;
    query.expression = filter;
    must(kith_collection_search(c, nq, dim, q, &query, keys + nq * K, truth, NULL, &err), &err);
    size_t expected = matches < K ? (size_t)matches : K, good = 0, whole = 0;
    for (size_t i = 0; i < nq; i++) {
        whole += expected == 0 || keys[i * K + expected - 1] != 0;
        for (size_t j = 0; j < expected; j++)
            good += distances[i * K + j] <= truth[i * K + expected - 1] * 1.00001f;
    }
    double total = expected ? (double)(nq * expected) : 1;
    printf(
        "{\"filter\":\"%s\",\"matches\":%llu,\"method\":\"%s\",\"nprobe\":%zu,\"recall\":%.4f,\"whole\":%s,"
        "\"ms\":%.3f,\"rows_scored\":%llu,\"first_use_ms\":%.1f}\n",
        filter, (unsigned long long)matches, plan.method, plan.nprobe, expected ? (double)good / total : 1.0,
        whole == nq ? "true" : "false", time / (double)nq * 1e3, (unsigned long long)plan.rows_scored,
        first * 1e3);
    fflush(stdout);
    free(keys);
    free(distances);
}

int main(int argc, char **argv)
{
    static const unsigned parts[] = {1000000, 800000, 500000, 300000, 200000, 100000, 50000,
                                     30000,   20000,  10000,  5000,   3000,   2000,   1000,
                                     500,     200,    100,    30,     10,     1};
    kith_error err;
    kith_collection *c;
    float *q;
    size_t nq, dim;
    if (argc < 3) {
        fprintf(stderr, "usage: filtered_search X.kith QUERIES [NQ]\n");
        return 2;
    }
    must(kith_collection_open(argv[1], NULL, &c, &err), &err);
    must(kith_dataset_load_f32(argv[2], NULL, NULL, &q, &nq, &dim, &err), &err);
    size_t limit = argc > 3 ? strtoul(argv[3], NULL, 10) : 100;
    if (nq > limit) nq = limit;
    must(kith_collection_fold(c, NULL, &err), &err);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) measure(c, parts[i], q, nq, dim);
    kith_dataset_unload(NULL, q);
    kith_collection_close(c);
    return 0;
}
