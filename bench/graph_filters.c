/* graph_filters - what a random bitmap costs an index, by the share of rows that it lets through (docs/families/graphs.md).
 *
 *     graph_filters SPEC BASE QUERIES ROWS [NQ]          e.g. HNSW16 base.fvecs query.fvecs 200000
 *
 * One line a share: microseconds of processor time a query (the best of four passes, one call a pass, on one thread), recall@10 by
 * distance against Flat with the same filter, and rows scored; then the same of Flat. ef is the family's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measure.h"

enum { PASSES = 4 };

typedef struct answers {
    uint64_t *id;
    float *dist; /* [nq][BENCH_K] */
    kith_search_stats *stats;
} answers;

/* xorshift64 (Marsaglia 2003). */
static double uniform(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (double)(*state >> 11) * 0x1p-53;
}

/* Microseconds a query. */
static double ask(kith_searcher *searcher, const bench_vectors *query, size_t nq, const kith_filter *filter,
                  answers *out)
{
    kith_error err;
    kith_search_options options;
    kith_search_options_init(&options);
    options.filter = filter;
    double best = INFINITY;
    for (int pass = 0; pass < PASSES; pass++) {
        double start = bench_cpu_seconds();
        bench_must(
            kith_search(searcher, query->x, nq, BENCH_K, &options, out->id, out->dist, out->stats, &err),
            &err);
        best = fmin(best, bench_cpu_seconds() - start);
    }
    return best / (double)nq * 1e6;
}

static answers make_answers(size_t nq)
{
    return (answers){bench_alloc(nq * BENCH_K, sizeof(uint64_t)), bench_alloc(nq * BENCH_K, sizeof(float)),
                     bench_alloc(nq, sizeof(kith_search_stats))};
}

static void show(double share, double took, double took_flat, const answers *got, const answers *truth,
                 size_t nq)
{
    size_t hits = 0, wanted = 0;
    uint64_t scored = 0;
    for (size_t q = 0; q < nq; q++) {
        const float *near = truth->dist + q * BENCH_K, *dist = got->dist + q * BENCH_K;
        size_t n = truth->stats[q].found;
        for (size_t i = 0; i < n; i++) hits += dist[i] <= near[n - 1] * (1 + 1e-6f);
        wanted += n;
        scored += got->stats[q].scored;
    }
    printf("share %.2f: %6.0f us, recall %.3f, %6.0f rows scored; Flat %6.0f us\n", share, took,
           wanted > 0 ? (double)hits / (double)wanted : 1, (double)scored / (double)nq, took_flat);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const double shares[] = {1, 0.6, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05, 0.02, 0.01};
    kith_error err;
    if (argc < 5) {
        fprintf(stderr, "usage: graph_filters SPEC BASE QUERIES ROWS [NQ]\n");
        return 2;
    }
    bench_set set = {.base = bench_load(argv[2], strtoul(argv[4], NULL, 10)),
                     .query = bench_load(argv[3], argc > 5 ? strtoul(argv[5], NULL, 10) : 200)};
    size_t n = set.base.n, nq = set.query.n;
    double cpu;
    kith_searcher *searcher[2];
    kith_index *index[2] = {bench_build(argv[1], &set, n, NULL, &cpu),
                            bench_build("Flat", &set, n, NULL, &cpu)};
    for (int i = 0; i < 2; i++) bench_must(kith_searcher_create(index[i], &searcher[i], &err), &err);
    answers got = make_answers(nq), truth = make_answers(nq);
    uint64_t *bits = bench_alloc(n / 64 + 1, sizeof *bits), state = 88172645463325252u;
    for (size_t s = 0; s < sizeof shares / sizeof *shares; s++) {
        memset(bits, 0, (n / 64 + 1) * sizeof *bits);
        for (size_t i = 0; i < n; i++)
            if (uniform(&state) < shares[s]) bits[i / 64] |= (uint64_t)1 << (i % 64);
        kith_filter filter;
        kith_filter_init(&filter);
        filter.bits = bits;
        filter.n_bits = n;
        const kith_filter *use = shares[s] < 1 ? &filter : NULL;
        double took_flat = ask(searcher[1], &set.query, nq, use, &truth);
        show(shares[s], ask(searcher[0], &set.query, nq, use, &got), took_flat, &got, &truth, nq);
    }
    for (int i = 0; i < 2; i++) {
        kith_searcher_free(searcher[i]);
        kith_index_free(index[i]);
    }
    for (answers *a = &got; a; a = a == &got ? &truth : NULL) {
        free(a->id);
        free(a->dist);
        free(a->stats);
    }
    free(bits);
    free(set.base.x);
    free(set.query.x);
    return 0;
}
