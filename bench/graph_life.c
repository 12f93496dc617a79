/* graph_life - graphs that live: rows replaced again and again, one row copied very often, rows that come during searches.
 *
 *     graph_life churn BASE QUERY [SPEC [ROWS [ROUNDS]]]      HNSW16, 20,000 rows, 20 rounds unless told otherwise
 *     graph_life copies BASE QUERY [SPEC [ROWS [COPIES]]]     HNSW16, 200,000 rows and 100,000 copies of one more
 *
 * churn: every round a tenth of the rows, drawn anew, is removed in one call and other rows of BASE come under new ids. Prints recall@10 at
 * ef 16, 32 and 64 after each fifth round, beside that of an index made anew of the same rows, and fails if the last is more
 * than 0.01 (0.03 for graphs without levels, see docs/families/graphs.md) below or if kith_index_check finds fault.
 * copies: recall and queries a second at ef 64 before and after the copies came, over the same queries and the same truth (the copied row is far from
 * them: it is a corner of the space), and the time that they took. Fails if recall falls by more than 0.01. */
#include "measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double efs[] = {16, 32, 64};
enum { N_EFS = 3, PASSES = 2 };

static uint64_t next(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void fail(const char *what)
{
    fprintf(stderr, "graph_life: %s\n", what);
    exit(1);
}

/* An index made anew of rows row[n] under ids 0..n-1. */
static kith_index *fresh_index(const char *spec, const bench_set *set, const uint32_t *row, size_t n)
{
    kith_error err;
    kith_index *index;
    float *x = bench_alloc(n * set->base.dim, sizeof *x);
    for (size_t i = 0; i < n; i++)
        memcpy(x + i * set->base.dim, set->base.x + row[i] * set->base.dim, set->base.dim * sizeof *x);
    bench_must(kith_index_create(spec, set->base.dim, NULL, &index, &err), &err);
    bench_must(kith_index_train(index, x, n, NULL, &err), &err);
    bench_must(kith_index_add(index, x, NULL, n, NULL, &err), &err);
    free(x);
    return index;
}

static void print_recalls(const kith_index *index, const bench_set *set, const uint32_t *to, double *recall)
{
    for (size_t e = 0; e < N_EFS; e++) {
        recall[e] = bench_ask(index, set, to, "ef", efs[e], NULL, 0, 1).recall;
        printf(" %.4f |", recall[e]);
    }
}

/* Id i stands for row i of BASE for the first n, and for row replaced[i - n] after that. */
static void churn(const char *spec, bench_set *set, size_t n, size_t rounds)
{
    size_t part = n / 10, ids_at_most = n + rounds * part;
    if (set->base.n < n + part) fail("BASE holds too few rows");
    kith_error err;
    uint64_t seed = 1, next_id = n;
    uint32_t *to = bench_alloc(ids_at_most, sizeof *to); /* the row of an id */
    uint64_t *id = bench_alloc(n, sizeof *id);           /* that are in */
    uint32_t *row = bench_alloc(n, sizeof *row), *spare = bench_alloc(set->base.n - n, sizeof *spare);
    uint64_t *gone = bench_alloc(part, sizeof *gone);
    for (size_t i = 0; i < n; i++) to[i] = row[i] = (uint32_t)i, id[i] = i;
    for (size_t i = n; i < set->base.n; i++) spare[i - n] = (uint32_t)i;
    size_t n_spare = set->base.n - n;
    kith_index *index = fresh_index(spec, set, row, n);
    printf("| %s, round | ef 16 | 32 | 64 | made anew: ef 16 | 32 | 64 | replacing a row, us "
           "|\n|--:|--:|--:|--:|--:|--:|--:|--:|\n",
           spec);
    double worst = 0, cost = 0;
    for (size_t round = 1; round <= rounds; round++) {
        double start = bench_cpu_seconds();
        for (size_t i = 0; i < part; i++) { /* the first `part` of a shuffle are replaced */
            size_t j = i + (size_t)(next(&seed) % (n - i)), s = (size_t)(next(&seed) % n_spare);
            uint64_t one = id[i];
            uint32_t out = row[j];
            id[i] = id[j], id[j] = one, row[j] = row[i];
            gone[i] = id[i], row[i] = spare[s], spare[s] = out;
        }
        bench_must(kith_index_remove(index, gone, part, NULL, &err), &err);
        for (size_t i = 0; i < part; i++) {
            id[i] = next_id;
            to[next_id++] = row[i];
            bench_must(kith_index_add(index, set->base.x + row[i] * set->base.dim, &id[i], 1, NULL, &err),
                       &err);
        }
        cost += bench_cpu_seconds() - start;
        if (round % 5 != 0 && round != rounds) continue;
        double now[N_EFS], anew[N_EFS];
        bench_must(kith_index_check(index, &err), &err);
        bench_truth(set, row, n, NULL);
        printf("| %zu |", round);
        print_recalls(index, set, to, now);
        kith_index *made = fresh_index(spec, set, row, n);
        print_recalls(made, set, row, anew);
        printf(" %.0f |\n", 1e6 * cost / (double)(round * part));
        fflush(stdout);
        kith_index_free(made);
        worst = -1;
        for (size_t e = 0; e < N_EFS; e++) worst = fmax(worst, anew[e] - now[e]);
    }
    if (worst > (strncmp(spec, "HNSW", 4) == 0 ? 0.01 : 0.03)) fail("recall fell");
    kith_index_free(index);
    free(to), free(id), free(row), free(spare), free(gone);
}

static void copies(const char *spec, bench_set *set, size_t n, size_t count)
{
    kith_error err;
    kith_run run;
    size_t dim = set->base.dim;
    kith_run_init(&run);
    bench_must(kith_pool_create(0, NULL, &run.pool, &err), &err);
    bench_truth(set, NULL, n, &run);
    kith_index *index = bench_build(spec, set, n, &run, NULL);
    bench_point before = bench_ask(index, set, NULL, "ef", 64, NULL, 0, PASSES);
    float *x = bench_alloc(count * dim, sizeof *x);
    uint64_t *ids = bench_alloc(count, sizeof *ids);
    for (size_t i = 0; i < count; i++) {
        ids[i] = n + i;
        for (size_t d = 0; d < dim; d++) x[i * dim + d] = d % 2 ? 255 : 0;
    }
    double start = bench_process_seconds();
    bench_must(kith_index_add(index, x, ids, count, &run, &err), &err);
    double cost = bench_process_seconds() - start;
    bench_point after = bench_ask(index, set, NULL, "ef", 64, NULL, 0, PASSES);
    bench_must(kith_index_check(index, &err), &err);
    printf("%s, %zu rows: recall@10 %.4f, %.0f queries/s at ef 64; with %zu copies of one more row %.4f, "
           "%.0f queries/s; a copy "
           "took %.2f us\n",
           spec, n, before.recall, before.qps, count, after.recall, after.qps, 1e6 * cost / (double)count);
    if (after.recall < before.recall - 0.01) fail("recall fell");
    /* The copies themselves: a query for them gets ten of them. */
    bench_set one = {.base = {x, count, dim}, .query = {x, 1, dim}, .limit = (float[]){0}};
    kith_searcher *searcher;
    uint64_t got[BENCH_K];
    float dist[BENCH_K];
    bench_must(kith_searcher_create(index, &searcher, &err), &err);
    bench_must(kith_search(searcher, one.query.x, 1, BENCH_K, NULL, got, dist, NULL, &err), &err);
    for (size_t i = 0; i < BENCH_K; i++)
        if (got[i] < n || dist[i] != dist[0]) fail("a query for the copied row got another one");
    kith_searcher_free(searcher);
    kith_index_free(index);
    kith_pool_free(run.pool);
    free(x), free(ids);
}

int main(int argc, char **argv)
{
    int is_churn = argc > 3 && strcmp(argv[1], "churn") == 0,
        is_copies = argc > 3 && strcmp(argv[1], "copies") == 0;
    if (!is_churn && !is_copies) {
        fprintf(stderr, "usage: graph_life churn|copies BASE QUERY [SPEC [ROWS [ROUNDS|COPIES]]]\n");
        return 2;
    }
    const char *spec = argc > 4 ? argv[4] : "HNSW16";
    size_t n = argc > 5 ? (size_t)strtoull(argv[5], NULL, 10) : is_churn ? 20000 : 200000;
    size_t count = argc > 6 ? (size_t)strtoull(argv[6], NULL, 10) : is_churn ? 20 : 100000;
    bench_set set = {.base = bench_load(argv[2], is_churn ? 2 * n : n), .query = bench_load(argv[3], 1000)};
    if (n < 100 || n > set.base.n) fail("BASE holds fewer rows than that, or they are fewer than 100");
    if (is_churn)
        churn(spec, &set, n, count);
    else
        copies(spec, &set, n, count);
    free(set.base.x);
    free(set.query.x);
    free(set.limit);
    return 0;
}
