/* opq_or_hnsw - product quantisation after a learned rotation beside a graph: what each costs in memory, and what it gives.
 *
 *     opq_or_hnsw BASE QUERY [ROWS [QUERIES]]        200,000 rows and 1,000 queries unless told otherwise; 0: all of them
 *
 * Prints a table, a line a spec: bytes a row (all that the index holds, ids included), CPU seconds to build, recall@10 at most and
 * queries a second at recall 0.5, 0.9 and 0.95 (one thread, one query a call, best of two passes; "-": never reached); then
 * what a row costs that comes (2,000 rows one a call) and that goes (2,000 rows in one call, and 50 one a call), in microseconds
 * of CPU time. The rows that come are the last of BASE, which were left out of the build. */
#include "measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 200000, QUERIES = 1000, COMING = 2000, SINGLE = 50, PASSES = 2 };

typedef struct contestant {
    const char *spec; /* %zu: the number of cells */
    const char *param, *more;
    double low, high, more_value;
} contestant;

static const contestant contestants[] = {
    {"OPQ16,IVF%zu,PQ16", "nprobe", NULL, 1, 1024, 0},
    {"OPQ16,IVF%zu,PQ16,RFlat", "nprobe", "refine_k", 1, 1024, 30},
    {"OPQ16,IVF%zu,PQ16,Refine(SQ8)", "nprobe", "refine_k", 1, 1024, 30},
    {"HNSW16", "ef", NULL, 10, 2000, 0},
    {"HNSW16,SQ8", "ef", NULL, 10, 2000, 0},
    {"HNSW16,SQ8,RFlat", "ef", "refine_k", 10, 2000, 2},
};

/* Microseconds a row, of rows n .. n + COMING - 1 one a call. */
static double coming(kith_index *index, const bench_set *set, size_t n)
{
    kith_error err;
    double start = bench_cpu_seconds();
    for (size_t i = n; i < n + COMING; i++) {
        uint64_t id = i;
        bench_must(kith_index_add(index, set->base.x + i * set->base.dim, &id, 1, NULL, &err), &err);
    }
    return 1e6 * (bench_cpu_seconds() - start) / COMING;
}

/* Microseconds a row, of `count` rows from `first` on, every `step`th, `calls` calls. */
static double going(kith_index *index, uint64_t first, uint64_t step, size_t count, size_t calls)
{
    kith_error err;
    uint64_t ids[COMING];
    for (size_t i = 0; i < count; i++) ids[i] = first + step * i;
    double start = bench_cpu_seconds();
    for (size_t c = 0; c < calls; c++)
        bench_must(kith_index_remove(index, ids + c * (count / calls), count / calls, NULL, &err), &err);
    return 1e6 * (bench_cpu_seconds() - start) / (double)count;
}

static void reached(const kith_index *index, const bench_set *set, const contestant *c, double recall)
{
    bench_point p =
        bench_at_recall(index, set, c->param, c->low, c->high, c->more, c->more_value, recall, PASSES);
    if (p.qps > 0)
        printf(" %.0f |", p.qps);
    else
        printf(" - |");
    fflush(stdout);
}

static void line(const contestant *c, const bench_set *set, size_t n, const kith_run *run)
{
    char spec[64];
    size_t cells = 16;
    while ((double)cells * 1.42 < 4 * sqrt((double)n)) cells *= 2;
    if (strchr(c->spec, '%'))
        snprintf(spec, sizeof spec, "OPQ16,IVF%zu%s", cells, strchr(c->spec, '%') + 3);
    else
        snprintf(spec, sizeof spec, "%s", c->spec);
    double cpu, high = c->low == 1 ? (double)cells : c->high;
    kith_error err;
    kith_index *index = bench_build(spec, set, n, run, &cpu);
    kith_index_info info = {.struct_size = sizeof info};
    bench_must(kith_index_get_info(index, &info, &err), &err);
    bench_point most = bench_ask(index, set, NULL, c->param, high, c->more, c->more_value, 1);
    printf("| `%s` | %.0f | %.0f | %.3f |", spec, (double)info.bytes / (double)n, cpu, most.recall);
    reached(index, set, c, 0.5);
    reached(index, set, c, 0.9);
    reached(index, set, c, 0.95);
    double come = coming(index, set, n);
    double go = going(index, 0, n / COMING, COMING, 1), one = going(index, 1, n / COMING, SINGLE, SINGLE);
    printf(" %.0f | %.1f | %.0f |\n", come, go, one);
    fflush(stdout);
    bench_must(kith_index_check(index, &err), &err);
    kith_index_free(index);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: opq_or_hnsw BASE QUERY [ROWS [QUERIES]]\n");
        return 2;
    }
    size_t rows = argc > 3 ? (size_t)strtoull(argv[3], NULL, 10) : ROWS;
    size_t queries = argc > 4 ? (size_t)strtoull(argv[4], NULL, 10) : QUERIES;
    bench_set set = {.base = bench_load(argv[1], rows), .query = bench_load(argv[2], queries)};
    if (set.base.n < 10 * COMING) {
        fprintf(stderr, "opq_or_hnsw: %zu rows, at least %d are needed\n", set.base.n, 10 * COMING);
        return 1;
    }
    size_t n = set.base.n - COMING;
    kith_run run;
    kith_error err;
    kith_run_init(&run);
    bench_must(kith_pool_create(0, NULL, &run.pool, &err), &err);
    bench_truth(&set, NULL, n, &run);
    printf("%zu rows of %zu components, %zu queries\n\n"
           "| spec | bytes a row | build, CPU s | recall at most | q/s at 0.5 | at 0.9 | at 0.95 | insert, "
           "us | delete, us (one call) | delete, us (one by one) |\n"
           "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
           n, set.base.dim, set.query.n);
    for (size_t i = 0; i < sizeof contestants / sizeof *contestants; i++)
        line(&contestants[i], &set, n, &run);
    kith_pool_free(run.pool);
    free(set.base.x);
    free(set.query.x);
    free(set.limit);
    return 0;
}
