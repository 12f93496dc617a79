#include "measure.h"

#include <kith/dataset.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void bench_must(kith_status status, const kith_error *err)
{
    if (status == KITH_OK) return;
    fprintf(stderr, "%s\n", err->message);
    exit(1);
}

void *bench_alloc(size_t n, size_t size)
{
    void *block = calloc(n > 0 ? n : 1, size);
    if (!block) {
        fprintf(stderr, "no memory for %zu x %zu bytes\n", n, size);
        exit(1);
    }
    return block;
}

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double bench_cpu_seconds(void)
{
    return seconds(CLOCK_THREAD_CPUTIME_ID);
}

double bench_process_seconds(void)
{
    return seconds(CLOCK_PROCESS_CPUTIME_ID);
}

bench_vectors bench_load(const char *path, size_t n)
{
    kith_error err;
    kith_dataset *dataset;
    bench_must(kith_dataset_open(path, NULL, &dataset, &err), &err);
    size_t rows = (size_t)kith_dataset_rows(dataset);
    bench_vectors v = {.n = n > 0 && n < rows ? n : rows, .dim = kith_dataset_dim(dataset)};
    v.x = bench_alloc(v.n * v.dim, sizeof *v.x);
    bench_must(kith_dataset_read_f32(dataset, 0, v.n, v.x, &err), &err);
    kith_dataset_close(dataset);
    return v;
}

kith_index *bench_build(const char *spec, const bench_set *set, size_t n, const kith_run *run, double *cpu)
{
    kith_error err;
    kith_index *index;
    double start = bench_process_seconds();
    bench_must(kith_index_create(spec, set->base.dim, NULL, &index, &err), &err);
    bench_must(kith_index_train(index, set->base.x, n, run, &err), &err);
    bench_must(kith_index_add(index, set->base.x, NULL, n, run, &err), &err);
    if (cpu) *cpu = bench_process_seconds() - start;
    return index;
}

void bench_truth(bench_set *set, const uint32_t *row, size_t n, const kith_run *run)
{
    kith_error err;
    kith_index *flat;
    kith_searcher *searcher;
    kith_search_options options;
    size_t dim = set->base.dim, nq = set->query.n;
    uint64_t *ids = bench_alloc(nq * BENCH_K, sizeof *ids);
    float *dist = bench_alloc(nq * BENCH_K, sizeof *dist);
    kith_search_options_init(&options);
    options.pool = run ? run->pool : NULL;
    bench_must(kith_index_create("Flat", dim, NULL, &flat, &err), &err);
    if (!row) bench_must(kith_index_add(flat, set->base.x, NULL, n, NULL, &err), &err);
    for (size_t i = 0; row && i < n; i++)
        bench_must(kith_index_add(flat, set->base.x + row[i] * dim, NULL, 1, NULL, &err), &err);
    bench_must(kith_searcher_create(flat, &searcher, &err), &err);
    bench_must(kith_search(searcher, set->query.x, nq, BENCH_K, &options, ids, dist, NULL, &err), &err);
    free(set->limit);
    set->limit = bench_alloc(nq, sizeof *set->limit);
    for (size_t q = 0; q < nq; q++) set->limit[q] = dist[q * BENCH_K + BENCH_K - 1];
    kith_searcher_free(searcher);
    kith_index_free(flat);
    free(ids);
    free(dist);
}

static double l2sq(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t d = 0; d < dim; d++) sum += ((double)a[d] - (double)b[d]) * ((double)a[d] - (double)b[d]);
    return sum;
}

bench_point bench_ask(const kith_index *index, const bench_set *set, const uint32_t *to, const char *name,
                      double value, const char *more, double more_value, int passes)
{
    kith_error err;
    kith_searcher *searcher;
    kith_search_options options;
    kith_setting settings[2] = {{name, value}, {more, more_value}};
    size_t dim = set->base.dim, nq = set->query.n, hits = 0;
    uint64_t *ids = bench_alloc(nq * BENCH_K, sizeof *ids);
    float dist[BENCH_K];
    bench_point point = {.value = value};
    kith_search_options_init(&options);
    options.settings = settings;
    options.n_settings = more ? 2 : 1;
    bench_must(kith_searcher_create(index, &searcher, &err), &err);
    for (int pass = 0; pass < passes; pass++) {
        kith_search_stats stats;
        double scored = 0, start = bench_cpu_seconds();
        for (size_t q = 0; q < nq; q++) {
            bench_must(kith_search(searcher, set->query.x + q * dim, 1, BENCH_K, &options, ids + q * BENCH_K,
                                   dist, &stats, &err),
                       &err);
            scored += (double)stats.scored;
        }
        point.qps = fmax(point.qps, (double)nq / (bench_cpu_seconds() - start));
        point.scored = scored / (double)nq;
    }
    for (size_t i = 0; i < nq * BENCH_K; i++) {
        if (ids[i] == KITH_NO_ID) continue;
        const float *row = set->base.x + (to ? to[ids[i]] : ids[i]) * dim;
        size_t q = i / BENCH_K;
        hits += l2sq(set->query.x + q * dim, row, dim) <= (double)set->limit[q] * (1 + 1e-6);
    }
    point.recall = (double)hits / (double)(nq * BENCH_K);
    kith_searcher_free(searcher);
    free(ids);
    return point;
}

bench_point bench_at_recall(const kith_index *index, const bench_set *set, const char *name, double low,
                            double high, const char *more, double more_value, double recall, int passes)
{
    bench_point before = {0}, best = {0};
    for (double value = low; value <= high; value = ceil(value * 1.4)) {
        bench_point now = bench_ask(index, set, NULL, name, value, more, more_value, passes);
        if (now.recall > best.recall) best = now;
        if (now.recall < recall) {
            before = now;
            continue;
        }
        if (before.qps == 0) return now;
        double part = (recall - before.recall) / (now.recall - before.recall);
        return (bench_point){.value = before.value + part * (now.value - before.value),
                             .recall = recall,
                             .qps = exp(log(before.qps) + part * (log(now.qps) - log(before.qps))),
                             .scored = before.scored + part * (now.scored - before.scored)};
    }
    best.qps = 0;
    return best;
}
