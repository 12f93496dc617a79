/* deadlines - how far searches overrun the time that they are given.
 *
 *     deadlines X.kith QUERIES [ROUNDS]
 *
 * X.kith as for filtered_search. For each budget and way of searching (a plain search, an exact one, the first use of a
 * filter over plain payloads, of one over the declared field r, a handle that has not searched before, and one behind whose back
 * 20,000 rows were put again) one JSON line: how many of ROUNDS searches (10) said that they were incomplete, and the largest
 * overrun in milliseconds, by the clock and in processor time, which a machine that does other work disturbs less. The last line
 * is the largest of all; more than 50 ms by the clock is a failure. */
#include <kith/collection.h>
#include <kith/dataset.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define K 10
#define BEHIND 20000 /* rows */
#define ALLOWED_MS 50

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e3 + 1e-6 * (double)t.tv_nsec;
}

static void must(kith_status status, const kith_error *err)
{
    if (status == KITH_OK) return;
    fprintf(stderr, "deadlines: %s\n", err->message);
    exit(1);
}

enum way { PLAIN, EXACT, PAYLOADS, DECLARED, COLD, LATE, WAYS };

/* Put the vectors of the first rows again, as they are. */
static void put_again(kith_collection *c)
{
    kith_error err;
    kith_row row = {0};
    must(kith_collection_begin(c, &err), &err);
    for (int i = 0; i < BEHIND; i++) {
        must(kith_collection_next(c, row.key, KITH_ROW_VECTOR, &row, &err), &err);
        if (!row.key) break;
        must(kith_collection_put(c, KITH_ROW_VECTOR, &row, NULL, &err), &err);
    }
    must(kith_collection_commit(c, &err), &err);
}

/* The largest overruns so far, milliseconds. */
static double worst_clock, worst_cpu;

static double beyond(double spent, double budget, double *worst)
{
    double over = spent > budget ? spent - budget : 0;
    if (over > *worst) *worst = over;
    return over;
}

static void measure(const char *path, const float *queries, size_t nq, size_t dim, enum way way,
                    double budget, size_t rounds)
{
    static const char *const names[] = {"plain", "exact", "payloads", "declared", "cold", "late"};
    static unsigned serial; /* no filter comes twice */
    kith_error err;
    kith_collection *c, *other = NULL;
    double clock = 0, cpu = 0;
    size_t incomplete = 0;
    must(kith_collection_open(path, NULL, &c, &err), &err);
    if (way == LATE) must(kith_collection_open(path, NULL, &other, &err), &err);
    if (way != COLD) must(kith_collection_warm(c, &err), &err);
    for (size_t i = 0; i < rounds; i++) {
        char filter[64];
        int64_t keys[K];
        float distances[K];
        kith_collection_answer answer;
        kith_collection_query query;
        kith_collection_query_init(&query);
        query.k = K;
        query.exact = way == EXACT;
        query.max_microseconds = (uint64_t)(budget * 1e3);
        /* `exists` is never answered by the declared field. */
        snprintf(filter, sizeof filter, way == PAYLOADS ? "r > %u or not exists r" : "r > %u", ++serial);
        if (way == PAYLOADS || way == DECLARED) query.expression = filter;
        if (way == LATE) put_again(other);
        double begin = now(CLOCK_MONOTONIC), used = now(CLOCK_PROCESS_CPUTIME_ID);
        must(
            kith_collection_search(c, 1, dim, queries + i % nq * dim, &query, keys, distances, &answer, &err),
            &err);
        beyond(beyond(now(CLOCK_MONOTONIC) - begin, budget, &clock), 0, &worst_clock);
        beyond(beyond(now(CLOCK_PROCESS_CPUTIME_ID) - used, budget, &cpu), 0, &worst_cpu);
        incomplete += !answer.complete;
    }
    kith_collection_close(other);
    kith_collection_close(c);
    printf("{\"way\":\"%s\",\"budget_ms\":%g,\"searches\":%zu,\"incomplete\":%zu,\"overrun_ms\":%.2f,\"cpu_"
           "overrun_ms\":%.2f}\n",
           names[way], budget, rounds, incomplete, clock, cpu);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const double budgets[] = {0.1, 1, 10, 50, 200};
    kith_error err;
    float *queries;
    size_t nq, dim;
    if (argc < 3) {
        fprintf(stderr, "usage: deadlines X.kith QUERIES [ROUNDS]\n");
        return 2;
    }
    must(kith_dataset_load_f32(argv[2], NULL, NULL, &queries, &nq, &dim, &err), &err);
    size_t rounds = argc > 3 ? strtoul(argv[3], NULL, 10) : 10;
    for (int way = PLAIN; way < WAYS; way++)
        for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++)
            measure(argv[1], queries, nq, dim, (enum way)way, budgets[i], rounds);
    kith_dataset_unload(NULL, queries);
    printf("{\"overrun_ms\":%.2f,\"cpu_overrun_ms\":%.2f,\"allowed_ms\":%d}\n", worst_clock, worst_cpu,
           ALLOWED_MS);
    return worst_clock > ALLOWED_MS;
}
