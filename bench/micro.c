/* micro.c - the program kith-micro: the limits of this machine, and every hot loop against the limit that binds it.
 *
 *     kith-micro [--json] [--only TEXT] [--rounds N] [--megabytes N]
 *
 * One thread, timed by its processor time. Each loop takes turns with its limit, `rounds` times, and the best of each count, so that what else the machine
 * does in between spoils neither alone. The level is the one in use (KITH_SIMD forces another). Where
 * a loop's limit is memory, the array is `megabytes` (512) in huge pages, far beyond any cache. */
#include "micro_limits.h"

#include <math.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/index.h>

#include "base/memory.h"
#include "base/rng.h"
#include "base/topk.h"
#include "math/product.h"
#include "simd/kernels.h"

#define L1_BYTES ((size_t)16 << 10)
#define L2_BYTES ((size_t)512 << 10)
#define L3_BYTES ((size_t)6 << 20)

/* What all loops share. */
typedef struct bench {
    const ki_kernels *kernels;
    float *memory; /* `bytes` of small numbers */
    size_t bytes;
    int json, rounds, rows;
    const char *only;
} bench;

static void die(const char *what)
{
    fprintf(stderr, "kith-micro: %s\n", what);
    exit(1);
}

static void *need(size_t n, size_t size)
{
    void *block = ki_alloc(NULL, n, size);
    if (!block) die("out of memory");
    return block;
}

static double seconds_since(uint64_t start)
{
    uint64_t ns = micro_ns() - start;
    return (double)(ns ? ns : 1) * 1e-9;
}

static void report(bench *b, const char *name, const char *unit, double value, const char *limit_name,
                   double limit)
{
    const char *level = kith_simd_name(b->kernels->level);
    if (b->json) {
        printf("{\"name\":\"%s\",\"simd\":\"%s\",\"unit\":\"%s\",\"value\":%.4g", name, level, unit, value);
        if (limit_name)
            printf(",\"limit\":\"%s\",\"limit_value\":%.4g,\"ratio\":%.3f", limit_name, limit, value / limit);
        printf("}\n");
    } else {
        if (b->rows++ == 0)
            printf("%-44s %10s %-10s %10s  %-14s %6s\n", "what", "value", "unit", "limit", "of", "");
        printf("%-44s %10.4g %-10s", name, value, unit);
        if (limit_name) printf(" %10.4g  %-14s %5.1f%%", limit, limit_name, 100 * value / limit);
        printf("\n");
    }
    fflush(stdout);
}

/* --- Limits ------------------------------------------------------------------------------------------------------------*/

typedef enum limit { FMA, RAM, L3, L2, L1, LOOKUP, SHUFFLE, NONE } limit;
static const char *const limit_names[] = {"peak FMA", "RAM read", "L3 read",  "L2 read",
                                          "L1 read",  "lookups",  "shuffles", NULL};

static double measure_limit(const bench *b, limit which)
{
    switch (which) {
    case FMA: return limit_fma(b->kernels->level);
    case RAM: return limit_read(b->memory, b->bytes);
    case L3: return limit_read(b->memory, L3_BYTES);
    case L2: return limit_read(b->memory, L2_BYTES);
    case L1: return limit_read(b->memory, L1_BYTES);
    case LOOKUP: return limit_lookup();
    case SHUFFLE: return limit_shuffle(b->kernels->level);
    default: return 1;
    }
}

static int wanted(const bench *b, const char *name)
{
    return !b->only || strstr(name, b->only);
}

static void limits(bench *b)
{
    static const limit reads[] = {RAM, L3, L2, L1};
    static const size_t spans[] = {0, L3_BYTES, L2_BYTES, L1_BYTES};
    for (int level = 0; level < 4; level++) {
        char name[64];
        snprintf(name, sizeof name, "limit: multiply-adds, %s", kith_simd_name((kith_simd)level));
        if (!kith_simd_has((kith_simd)level) || !wanted(b, name)) continue;
        double best = 0;
        for (int r = 0; r < 3 * b->rounds; r++) best = fmax(best, limit_fma((kith_simd)level));
        report(b, name, "GFLOP/s", best, NULL, 0);
    }
    for (size_t i = 0; i < 4; i++) {
        char name[64];
        size_t bytes = spans[i] ? spans[i] : b->bytes;
        snprintf(name, sizeof name, "limit: %s", limit_names[reads[i]]);
        double best = 0, least = INFINITY;
        if (!wanted(b, name)) continue;
        for (int r = 0; r < b->rounds; r++) best = fmax(best, measure_limit(b, reads[i]));
        report(b, name, "GB/s", best, NULL, 0);
        size_t *chain = need(bytes, 1);
        limit_chain(chain, bytes);
        for (int r = 0; r < b->rounds; r++) least = fmin(least, limit_latency(chain, 200000));
        ki_free(NULL, chain);
        snprintf(name, sizeof name, "limit: load latency, %.*s", 3, limit_names[reads[i]]);
        report(b, name, "ns", least, NULL, 0);
    }
}

/* --- Loops --------------------------------------------------------------------------------------------------------------*/

/* A loop: does its work once and says how much that was, in units of the limit (10^9 operations or bytes). */
typedef struct loop {
    const char *name, *unit;
    double (*run)(const bench *b, const struct loop *loop);
    limit limit;
    kith_metric metric;
    size_t n, m, dim; /* as the run function takes them */
    double scale;     /* from work in limit units to the unit that is shown */
} loop;

static float *out_floats, *query;
static uint32_t *out_numbers;
enum { OUT_MAX = 1 << 22 };

static double run_rows(const bench *b, const loop *l)
{
    size_t bytes = l->n ? l->n : b->bytes, n = bytes / (l->dim * sizeof(float)), step = 4096;
    ki_rows_fn rows = ki_rows_of(b->kernels, l->metric);
    size_t passes = ((size_t)1 << 24) / bytes + 1;
    for (size_t pass = 0; pass < passes; pass++)
        for (size_t i = 0; i < n; i += step)
            rows(query, b->memory + i * l->dim, n - i < step ? n - i : step, l->dim, out_floats);
    return (double)(passes * n * l->dim * sizeof(float)) * 1e-9;
}

static double run_gather(const bench *b, const loop *l)
{
    size_t n = b->bytes / (l->dim * sizeof(float));
    ki_rng rng;
    ki_rng_init(&rng, 3, 0);
    for (size_t i = 0; i < l->n; i++) out_numbers[i] = (uint32_t)ki_rng_below(&rng, n);
    for (size_t i = 0; i < l->n; i += 32) /* batches as a graph search makes them */
        ki_gather_of(b->kernels, l->metric)(query, b->memory, l->dim * sizeof(float), out_numbers + i, 32,
                                            l->dim, out_floats);
    return (double)(l->n * l->dim * sizeof(float)) * 1e-9;
}

static double run_hamming(const bench *b, const loop *l)
{
    size_t bytes = l->n ? l->n : b->bytes, n = bytes / l->dim, step = 65536;
    for (size_t i = 0; i < n; i += step)
        b->kernels->hamming_rows((const uint8_t *)query, (const uint8_t *)b->memory + i * l->dim,
                                 n - i < step ? n - i : step, l->dim, out_numbers);
    return (double)(n * l->dim) * 1e-9;
}

/* BFlat as a user searches it: a query a pass, the ten nearest kept. Its copy of the rows is made once. */
static kith_index *bits_index;

static double run_bflat(const bench *b, const loop *l)
{
    kith_searcher *searcher;
    uint64_t ids[10];
    float dist[10];
    if (kith_searcher_create(bits_index, &searcher, NULL) != KITH_OK ||
        kith_search_bits(searcher, (const uint8_t *)query, 1, 10, NULL, ids, dist, NULL, NULL) != KITH_OK)
        die("search of bits");
    kith_searcher_free(searcher);
    return (double)(b->bytes / l->dim * l->dim) * 1e-9;
}

static kith_index *index_of_bits(const bench *b, const loop *l)
{
    kith_index *index;
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = KITH_HAMMING;
    if (kith_index_create("BFlat", l->dim * 8, &options, &index, NULL) != KITH_OK ||
        kith_index_add_bits(index, (const uint8_t *)b->memory, NULL, b->bytes / l->dim, NULL, NULL) !=
            KITH_OK)
        die("index of bits");
    return index;
}

/* Signs of RaBitQ in blocks with their factors, as an inverted file of 128-d rows reads them: 16 and 8 bytes a row. */
static double scan_signs(const bench *b, const loop *l)
{
    size_t bytes = l->dim / 8, blocks = L2_BYTES / 2 / (KI_RABITQ_ROWS * bytes) / 8 * 8;
    static alignas(KI_CACHE_LINE) uint8_t entries[1024 * 8]; /* as scorers have them */
    static int8_t weights[1024];
    enum { TOGETHER = 8 };
    uint32_t near = 0, mask[TOGETHER];
    for (size_t i = 0; i < l->dim; i++) weights[i] = (int8_t)(i % 63) - 31;
    b->kernels->rabitq_tables(weights, bytes, entries);
    ki_rabitq_query q = {.tables = entries, .weights = weights, .bytes = bytes, .total = 1000, .step = 1};
    const uint8_t *from = (const uint8_t *)b->memory;
    const float *factors = b->memory + L2_BYTES / 2 / sizeof(float);
    for (size_t pass = 0; pass < l->n; pass++)
        for (size_t i = 0; i < blocks; i += TOGETHER) {
            b->kernels->rabitq_blocks(&q, from + i * KI_RABITQ_ROWS * bytes, KI_RABITQ_ROWS * bytes,
                                      factors + i * KI_RABITQ_ROWS * 2, TOGETHER, (ki_rabitq_ahead){0},
                                      -1e30f, NULL, NULL, mask);
            near += mask[0];
        }
    out_floats[0] = (float)near;
    return (double)(l->n * blocks * KI_RABITQ_ROWS);
}

static double run_signs(const bench *b, const loop *l)
{
    return scan_signs(b, l) * (double)(l->dim / 8 + 8) * 1e-9;
}

static double run_signs_lookups(const bench *b, const loop *l)
{
    return scan_signs(b, l) * (double)(l->dim / 4) * 1e-9;
}

static uint8_t *codes;
static float *tables;

static double run_scan8(const bench *b, const loop *l)
{
    size_t n = L2_BYTES / 2 / l->m;
    for (size_t pass = 0; pass < l->n; pass++) b->kernels->pq_scan8(tables, l->m, codes, n, 0, out_floats);
    return (double)(l->n * n * l->m) * 1e-9;
}

/* 4-bit codes in blocks, 256 rows a call as structures do: look-ups (m each), or bytes of codes (m / 2 each). */
static double scan4(const bench *b, const loop *l)
{
    size_t bytes = l->m / 2, n = L2_BYTES / 2 / bytes / 256 * 256;
    const uint8_t *entries = (const uint8_t *)codes; /* any bytes do */
    for (size_t pass = 0; pass < l->n; pass++)
        for (size_t i = 0; i < n; i += 256)
            b->kernels->pq4_scan(entries, bytes, codes + i * bytes, 256, 1, 0, NULL, out_floats);
    return (double)(l->n * n * l->m) * 1e-9;
}

static double run_scan4(const bench *b, const loop *l)
{
    return scan4(b, l);
}

static double run_scan4_bytes(const bench *b, const loop *l)
{
    return scan4(b, l) / 2;
}

/* The same codes by whole numbers; the limit is that of floats, which this is to pass. */
static double run_sums8(const bench *b, const loop *l)
{
    size_t n = L2_BYTES / 2 / l->m;
    for (size_t pass = 0; pass < l->n; pass++)
        b->kernels->pq8_sums((const uint8_t *)tables, l->m, codes, n, 1, 0, NULL, out_floats);
    return (double)(l->n * n * l->m) * 1e-9;
}

static ki_packed *packed_of(const bench *b, const loop *l)
{
    kith_error err;
    ki_packed *packed;
    if (ki_packed_create(b->memory + 12345, l->dim, l->m, l->dim, l->metric, NULL, &packed, &err) != KITH_OK)
        die(err.message);
    return packed;
}

/* The packed side is made once for each loop; the loops run one after the other. */
static ki_packed *columns;

static double run_argmin(const bench *b, const loop *l)
{
    if (ki_product_argmin(NULL, b->memory, l->dim, l->n, columns, out_numbers, NULL, NULL) != KITH_OK)
        die("argmin");
    return 2e-9 * (double)(l->n * l->m * l->dim);
}

static uint64_t *out_ids;

static double run_topk(const bench *b, const loop *l)
{
    if (ki_product_topk(NULL, b->memory, l->dim, l->n, columns, 64, out_floats, out_ids, NULL) != KITH_OK)
        die("topk");
    return 2e-9 * (double)(l->n * l->m * l->dim);
}

static double run_row(const bench *b, const loop *l)
{
    for (size_t i = 0; i < l->n; i++) ki_product_row(columns, b->memory + i * l->dim, out_floats);
    return (double)(l->n * l->m * l->dim * sizeof(float)) * 1e-9;
}

typedef struct heaps {
    ki_topk *top;
    float *limit;
} heaps;

static void collect(void *ctx, size_t row, size_t column, const float *dist, uint32_t mask)
{
    heaps *h = ctx;
    for (; mask; mask &= mask - 1) {
        int i = __builtin_ctz(mask);
        ki_topk_push(&h->top[row], dist[i], column + (size_t)i);
    }
    h->limit[row] = ki_topk_worst(&h->top[row]);
}

static double run_search(const bench *b, const loop *l)
{
    enum { K = 10 };
    heaps h = {need(l->n, sizeof(ki_topk)), need(l->n, sizeof(float))};
    for (size_t i = 0; i < l->n; i++) {
        ki_topk_init(&h.top[i], K, out_floats + i * K, out_ids + i * K);
        h.limit[i] = INFINITY;
    }
    if (ki_product_search(NULL, b->memory, l->dim, l->n, b->memory + 12345, l->dim, l->m, l->dim, l->metric,
                          h.limit, collect, &h, NULL, NULL) != KITH_OK)
        die("search");
    ki_free(NULL, h.top);
    ki_free(NULL, h.limit);
    return 2e-9 * (double)(l->n * l->m * l->dim);
}

static double run_encode(const bench *b, const loop *l)
{
    enum { KS = 256 };
    ki_packed *books[64];
    loop book = {.metric = KITH_L2SQ, .m = KS, .dim = l->dim / l->m};
    for (size_t j = 0; j < l->m; j++) books[j] = packed_of(b, &book);
    if (ki_product_encode(NULL, b->memory, l->dim, l->n, books, l->m, 1, out_numbers, NULL) != KITH_OK)
        die("encode");
    for (size_t j = 0; j < l->m; j++) ki_packed_free(books[j]);
    return 2e-9 * (double)(l->n * l->dim * KS);
}

static const loop loops[] = {
    {"l2sq rows, dim 128, RAM", "GB/s", run_rows, RAM, KITH_L2SQ, 0, 0, 128, 1},
    {"l2sq rows, dim 100, RAM", "GB/s", run_rows, RAM, KITH_L2SQ, 0, 0, 100, 1},
    {"l2sq rows, dim 960, RAM", "GB/s", run_rows, RAM, KITH_L2SQ, 0, 0, 960, 1},
    {"dot rows, dim 128, RAM", "GB/s", run_rows, RAM, KITH_DOT, 0, 0, 128, 1},
    {"l1 rows, dim 128, RAM", "GB/s", run_rows, RAM, KITH_L1, 0, 0, 128, 1},
    {"cosine rows, dim 128, RAM", "GB/s", run_rows, RAM, KITH_COSINE, 0, 0, 128, 1},
    {"l2sq rows, dim 128, L2", "GB/s", run_rows, L2, KITH_L2SQ, L2_BYTES, 0, 128, 1},
    {"l2sq rows, dim 16, L2", "GB/s", run_rows, L2, KITH_L2SQ, L2_BYTES, 0, 16, 1},
    {"l2sq gather of 32, dim 128, random in RAM", "GB/s", run_gather, RAM, KITH_L2SQ, 1 << 18, 0, 128, 1},
    {"hamming rows, 8 bytes, RAM", "GB/s", run_hamming, RAM, KITH_HAMMING, 0, 0, 8, 1},
    {"hamming rows, 32 bytes, RAM", "GB/s", run_hamming, RAM, KITH_HAMMING, 0, 0, 32, 1},
    {"hamming search (BFlat), 8 bytes, RAM", "GB/s", run_bflat, RAM, KITH_HAMMING, 0, 0, 8, 1},
    {"hamming search (BFlat), 32 bytes, RAM", "GB/s", run_bflat, RAM, KITH_HAMMING, 0, 0, 32, 1},
    {"RaBitQ signs, dim 128, bytes from L2", "GB/s", run_signs, L2, KITH_L2SQ, 64, 0, 128, 1},
    {"RaBitQ signs, dim 128, rows in L2", "Mrows/s", run_signs_lookups, SHUFFLE, KITH_L2SQ, 64, 0, 128,
     1e3 / 32},
    {"RaBitQ signs, dim 960, bytes from L2", "GB/s", run_signs, L2, KITH_L2SQ, 64, 0, 960, 1},
    {"hamming rows, 8 bytes, L2", "GB/s", run_hamming, L2, KITH_HAMMING, L2_BYTES, 0, 8, 1},
    {"pq scan, m 8, codes in L2", "Mcodes/s", run_scan8, LOOKUP, KITH_L2SQ, 16, 8, 0, 1e3 / 8},
    {"pq scan, m 16, codes in L2", "Mcodes/s", run_scan8, LOOKUP, KITH_L2SQ, 16, 16, 0, 1e3 / 16},
    {"pq scan, m 32, codes in L2", "Mcodes/s", run_scan8, LOOKUP, KITH_L2SQ, 16, 32, 0, 1e3 / 32},
    {"pq scan, m 64, codes in L2", "Mcodes/s", run_scan8, LOOKUP, KITH_L2SQ, 16, 64, 0, 1e3 / 64},
    {"pq bounds, m 16, codes in L2", "Mcodes/s", run_sums8, LOOKUP, KITH_L2SQ, 16, 16, 0, 1e3 / 16},
    {"pq bounds, m 64, codes in L2", "Mcodes/s", run_sums8, LOOKUP, KITH_L2SQ, 16, 64, 0, 1e3 / 64},
    {"pq4 scan, m 16, codes in L2", "Mcodes/s", run_scan4, SHUFFLE, KITH_L2SQ, 64, 16, 0, 1e3 / 16},
    {"pq4 scan, m 64, codes in L2", "Mcodes/s", run_scan4, SHUFFLE, KITH_L2SQ, 64, 64, 0, 1e3 / 64},
    {"pq4 scan, m 64, bytes from L2", "GB/s", run_scan4_bytes, L2, KITH_L2SQ, 64, 64, 0, 1},
    {"product, nearest of 4096, dim 128", "GFLOP/s", run_argmin, FMA, KITH_L2SQ, 4000, 4096, 128, 1},
    {"product, nearest of 1024, dim 128", "GFLOP/s", run_argmin, FMA, KITH_L2SQ, 8000, 1024, 128, 1},
    {"product, nearest of 256, dim 64", "GFLOP/s", run_argmin, FMA, KITH_L2SQ, 40000, 256, 64, 1},
    {"product, nearest of 1024, dim 784", "GFLOP/s", run_argmin, FMA, KITH_L2SQ, 2000, 1024, 784, 1},
    {"product, nearest of 4096, dim 1024", "GFLOP/s", run_argmin, FMA, KITH_L2SQ, 500, 4096, 1024, 1},
    {"product, nearest of 256, dim 8", "GFLOP/s", run_argmin, FMA, KITH_L2SQ, 200000, 256, 8, 1},
    {"product, 64 nearest of 4096, dim 128", "GFLOP/s", run_topk, FMA, KITH_L2SQ, 4000, 4096, 128, 1},
    {"product, one row x 4096, dim 128", "GB/s", run_row, L3, KITH_L2SQ, 200, 4096, 128, 1},
    {"product, one row x 256, dim 128", "GB/s", run_row, L2, KITH_L2SQ, 4000, 256, 128, 1},
    {"flat batch: 1000 queries, 100000 rows, dim 128", "GFLOP/s", run_search, FMA, KITH_L2SQ, 1000, 100000,
     128, 1},
    {"pq encoding, dim 128 in 16 x 256", "GFLOP/s", run_encode, FMA, KITH_L2SQ, 20000, 16, 128, 1},
    {"pq encoding, dim 128 in 32 x 256", "GFLOP/s", run_encode, FMA, KITH_L2SQ, 20000, 32, 128, 1},
    {"pq encoding, dim 128 in 8 x 256", "GFLOP/s", run_encode, FMA, KITH_L2SQ, 20000, 8, 128, 1},
};

static void measure(bench *b, const loop *l)
{
    if (!wanted(b, l->name)) return;
    int product = l->run == run_argmin || l->run == run_topk || l->run == run_row;
    columns = product ? packed_of(b, l) : NULL;
    bits_index = l->run == run_bflat ? index_of_bits(b, l) : NULL;
    double best = 0, yardstick = 0;
    for (int r = 0; r < b->rounds; r++) {
        yardstick = fmax(yardstick, measure_limit(b, l->limit));
        uint64_t start = micro_ns();
        double work = l->run(b, l);
        best = fmax(best, work / seconds_since(start));
    }
    ki_packed_free(columns);
    kith_index_free(bits_index);
    report(b, l->name, l->unit, best * l->scale, limit_names[l->limit], yardstick * l->scale);
}

/* --- The program ------------------------------------------------------------------------------------------------------*/

static void usage(FILE *to)
{
    fprintf(to, "usage: kith-micro [--json] [--only TEXT] [--rounds N] [--megabytes N]\n"
                "Measures the limits of this machine and each hot loop against the limit that binds it, on "
                "one thread.\n"
                "KITH_SIMD=scalar|avx2|avx512|neon forces a level.\n");
}

static size_t number(int argc, char **argv, int *i, size_t low, size_t high)
{
    char *end = NULL;
    unsigned long value = *i + 1 < argc ? strtoul(argv[*i + 1], &end, 10) : 0;
    if (!end || *end || value < low || value > high) {
        fprintf(stderr, "kith-micro: %s: a number from %zu to %zu is needed\n", argv[*i], low, high);
        exit(2);
    }
    ++*i;
    return value;
}

static void parse(bench *b, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--json"))
            b->json = 1;
        else if (!strcmp(argv[i], "--only") && i + 1 < argc)
            b->only = argv[++i];
        else if (!strcmp(argv[i], "--rounds"))
            b->rounds = (int)number(argc, argv, &i, 1, 1000);
        else if (!strcmp(argv[i], "--megabytes"))
            b->bytes = number(argc, argv, &i, 64, 1 << 16) << 20;
        else if (!strcmp(argv[i], "--help"))
            usage(stdout), exit(0);
        else
            usage(stderr), exit(2);
    }
}

static void prepare(bench *b)
{
    ki_rng rng;
    ki_rng_init(&rng, 1, 0);
    b->memory = need(b->bytes, 1);
    for (size_t i = 0; i < b->bytes / sizeof(float); i++)
        b->memory[i] = (float)(ki_rng_u64(&rng) >> 40) * 0x1p-24f;
    out_floats = need(OUT_MAX, sizeof *out_floats);
    out_numbers = need(OUT_MAX, sizeof *out_numbers);
    out_ids = need(OUT_MAX, sizeof *out_ids);
    query = need(4096, sizeof *query);
    memcpy(query, b->memory + 777, 4096 * sizeof *query);
    codes = need(L2_BYTES, 1);
    for (size_t i = 0; i < L2_BYTES; i++) codes[i] = (uint8_t)ki_rng_u64(&rng);
    tables = need(64 * 256, sizeof *tables);
    memcpy(tables, b->memory, 64 * 256 * sizeof *tables);
}

int main(int argc, char **argv)
{
    bench b = {.bytes = (size_t)512 << 20, .rounds = 7};
    kith_error err;
    parse(&b, argc, argv);
    if (kith_simd_check(&err) != KITH_OK) die(err.message);
    b.kernels = ki_kernels_get();
    prepare(&b);
    limits(&b);
    for (size_t i = 0; i < sizeof loops / sizeof *loops; i++) measure(&b, &loops[i]);
    ki_free(NULL, b.memory);
    ki_free(NULL, out_floats);
    ki_free(NULL, out_numbers);
    ki_free(NULL, out_ids);
    ki_free(NULL, query);
    ki_free(NULL, codes);
    ki_free(NULL, tables);
    return 0;
}
