/* filter_sweep - random filters at twenty selectivities, from 1e-6 of the rows to all: is every answer whole, how near is
 * it, what does it cost beside a search without a filter.
 *
 *     filter_sweep X.kith BASE QUERIES [FILTERS [SEED]]
 *
 * X.kith as for filtered_search, with the field declared (`kith fields X.kith --add r:int --add id:int`), so that its rows
 * have the keys 1, 2, ... in the order of BASE. At each selectivity FILTERS filters (50; the full run: 1000) of several
 * forms are made at random, each answers one query, and its truth is found by comparing every row of BASE that it lets
 * through. One JSON line a selectivity, and one for them all: `whole` says that every query found min(10, matches) rows,
 * `ratio` is the median of its processor time, the bitmap remembered, over that of the search without a filter which is
 * measured right after it. Exit status 1 when an answer was not whole. */
#include <kith/collection.h>
#include <kith/dataset.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define K 10

typedef struct sweep {
    kith_collection *c;
    float *base, *queries;
    size_t n, nq, dim;
    long *r; /* [n]: the payload's member */
    uint64_t seed;
    double worst_ratio, worst_recall, worst_first;
    int whole;
} sweep;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(kith_status status, const kith_error *err)
{
    if (status == KITH_OK) return;
    fprintf(stderr, "filter_sweep: %s\n", err->message);
    exit(1);
}

/* splitmix64 */
static uint64_t draw(sweep *s, uint64_t below)
{
    uint64_t z = s->seed += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (z ^ z >> 31) % below;
}

/* A filter and the same as plain ranges: a row is let through when r or id lies in one of two. */
typedef struct filter {
    char text[160];
    long low[2], high[2];
    int by_id;
} filter;

static filter make_filter(sweep *s, double part)
{
    filter f = {.low = {0, 0}, .high = {0, 0}};
    long domain = 1000000, width = lround(part * 1e6);
    if (width < 1) width = 1;
    long low = width < domain ? (long)draw(s, (uint64_t)(domain - width + 1)) : 0;
    f.low[0] = low;
    f.high[0] = low + width;
    switch (draw(s, 4)) {
    case 0: snprintf(f.text, sizeof f.text, "%ld <= r < %ld", low, low + width); break;
    case 1: snprintf(f.text, sizeof f.text, "not (r < %ld or r >= %ld)", low, low + width); break;
    case 2:
        f.by_id = 1;
        snprintf(f.text, sizeof f.text, "id > %ld and id <= %ld", low, low + width);
        break;
    default: /* two ends */
        f.low[0] = 0;
        f.high[0] = width / 2;
        f.low[1] = domain - (width - width / 2);
        f.high[1] = domain;
        snprintf(f.text, sizeof f.text, "r < %ld or r >= %ld", f.high[0], f.low[1]);
    }
    return f;
}

static int lets_through(const sweep *s, const filter *f, size_t i)
{
    long value = f->by_id ? (long)i : s->r[i];
    return (value >= f->low[0] && value < f->high[0]) || (value >= f->low[1] && value < f->high[1]);
}

/* The K smallest distances, ascending. Returns how many rows are let through. */
static size_t truth(const sweep *s, const filter *f, const float *q, float best[K])
{
    size_t matches = 0;
    for (int i = 0; i < K; i++) best[i] = INFINITY;
    for (size_t i = 0; i < s->n; i++) {
        if (!lets_through(s, f, i)) continue;
        const float *x = s->base + i * s->dim;
        float sums[16] = {0}, sum = 0;
        for (size_t d = 0; d + 16 <= s->dim; d += 16)
            for (size_t j = 0; j < 16; j++) sums[j] += (x[d + j] - q[d + j]) * (x[d + j] - q[d + j]);
        for (size_t d = s->dim / 16 * 16; d < s->dim; d++) sum += (x[d] - q[d]) * (x[d] - q[d]);
        for (size_t j = 0; j < 16; j++) sum += sums[j];
        matches++;
        if (sum >= best[K - 1]) continue;
        int at = K - 1;
        for (; at > 0 && best[at - 1] > sum; at--) best[at] = best[at - 1];
        best[at] = sum;
    }
    return matches;
}

static double search(sweep *s, const char *expression, const float *q, float distances[K],
                     kith_collection_plan *plan)
{
    kith_error err;
    int64_t keys[K];
    kith_collection_query query;
    kith_collection_query_init(&query);
    query.k = K;
    query.expression = expression;
    query.plan = plan;
    double begin = now();
    must(kith_collection_search(s->c, 1, s->dim, q, &query, keys, distances, NULL, &err), &err);
    return now() - begin;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, size_t n)
{
    qsort(x, n, sizeof *x, ascending);
    return x[n / 2];
}

static void measure(sweep *s, double part, size_t filters)
{
    kith_error err;
    double *time = malloc(3 * filters * sizeof *time), *plain = time + filters, *first = plain + filters;
    size_t whole = 0, good = 0, expected_all = 0, rows = 0;
    uint64_t sum = 0;
    for (size_t i = 0; i < filters; i++) {
        filter f = make_filter(s, part);
        const float *q = s->queries + draw(s, s->nq) * s->dim;
        float best[K], found[K], ignored[K];
        uint64_t matches;
        kith_collection_plan plan = {.struct_size = sizeof plan};
        double begin = now();
        must(kith_collection_count_where(s->c, f.text, &matches, &err), &err);
        first[i] = now() - begin;
        (void)search(s, f.text, q, found, NULL);
        time[i] = search(s, f.text, q, found, &plan);
        (void)search(s, NULL, q, ignored, NULL);
        plain[i] = search(s, NULL, q, ignored, NULL);
        size_t there = truth(s, &f, q, best), expected = there < K ? there : K, n = 0;
        while (n < K && isfinite(found[n])) n++;
        whole += n == expected && matches == there;
        if (n != expected || matches != there)
            fprintf(stderr, "filter_sweep: %s: %zu rows of %zu, %zu let through, counted %llu\n", f.text, n,
                    expected, there, (unsigned long long)matches);
        for (size_t j = 0; j < expected; j++) good += found[j] <= best[expected - 1] * 1.00001f + 1e-5f;
        expected_all += expected;
        rows += strcmp(plan.method, "rows") == 0;
        sum += matches;
    }
    double recall = expected_all ? (double)good / (double)expected_all : 1;
    double slowest = 0, ms = median(time, filters) * 1e3, plain_ms = median(plain, filters) * 1e3;
    for (size_t i = 0; i < filters; i++) slowest = first[i] > slowest ? first[i] : slowest;
    printf(
        "{\"part\":%g,\"filters\":%zu,\"matches\":%.1f,\"by_rows\":%.2f,\"whole\":%s,\"recall\":%.4f,"
        "\"ms\":%.3f,\"plain_ms\":%.3f,\"ratio\":%.2f,\"first_use_ms\":%.1f,\"first_use_slowest_ms\":%.1f}\n",
        part, filters, (double)sum / (double)filters, (double)rows / (double)filters,
        whole == filters ? "true" : "false", recall, ms, plain_ms, ms / plain_ms,
        median(first, filters) * 1e3, slowest * 1e3);
    fflush(stdout);
    if (ms / plain_ms > s->worst_ratio) s->worst_ratio = ms / plain_ms;
    if (recall < s->worst_recall) s->worst_recall = recall;
    if (slowest > s->worst_first) s->worst_first = slowest;
    s->whole &= whole == filters;
    free(time);
}

static void load(sweep *s, char **argv)
{
    kith_error err;
    size_t dim;
    kith_row row = {0};
    must(kith_collection_open(argv[1], NULL, &s->c, &err), &err);
    must(kith_dataset_load_f32(argv[2], NULL, NULL, &s->base, &s->n, &s->dim, &err), &err);
    must(kith_dataset_load_f32(argv[3], NULL, NULL, &s->queries, &s->nq, &dim, &err), &err);
    s->r = calloc(s->n, sizeof *s->r);
    if (dim != s->dim || !s->r) exit(1);
    for (;;) {
        must(kith_collection_next(s->c, row.key, KITH_ROW_PAYLOAD, &row, &err), &err);
        if (row.key == 0) break;
        const char *r = strstr(row.payload, "\"r\":");
        if (!r || row.key > (int64_t)s->n) {
            fprintf(stderr, "filter_sweep: row %lld is not of such a collection\n", (long long)row.key);
            exit(1);
        }
        s->r[row.key - 1] = strtol(r + 4, NULL, 10);
    }
    must(kith_collection_fold(s->c, NULL, &err), &err);
}

int main(int argc, char **argv)
{
    static const double parts[] = {1e-6, 2e-6, 5e-6, 1e-5, 3e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3,
                                   5e-3, 0.01, 0.02, 0.05, 0.1,  0.2,  0.3,  0.5,  0.8,  1};
    sweep s = {.worst_recall = 1, .whole = 1};
    if (argc < 4) {
        fprintf(stderr, "usage: filter_sweep X.kith BASE QUERIES [FILTERS [SEED]]\n");
        return 2;
    }
    size_t filters = argc > 4 ? strtoul(argv[4], NULL, 10) : 50;
    s.seed = argc > 5 ? strtoull(argv[5], NULL, 10) : 1;
    load(&s, argv);
    for (size_t i = 0; i < sizeof parts / sizeof *parts && filters > 0; i++) measure(&s, parts[i], filters);
    printf("{\"worst_ratio\":%.2f,\"worst_recall\":%.4f,\"first_use_slowest_ms\":%.1f,\"whole\":%s}\n",
           s.worst_ratio, s.worst_recall, s.worst_first * 1e3, s.whole ? "true" : "false");
    kith_dataset_unload(NULL, s.base);
    kith_dataset_unload(NULL, s.queries);
    kith_collection_close(s.c);
    free(s.r);
    return s.whole ? 0 : 1;
}
