/* collection_speed - a collection filled from a vector file, folded and searched: what each step costs.
 *
 *     collection_speed X.kith BASE [QUERIES] [ROWS]
 *
 * One JSON line a step, times in seconds of wall clock and of CPU: import (batches of 10,000 rows), first exact search,
 * exact search, fold, first search with the segment, search at several nprobe with recall@10 against exact search. */
#include <kith/collection.h>
#include <kith/dataset.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH 10000
#define K 10

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

typedef struct step {
    double wall, cpu;
} step;

static step begin(void)
{
    return (step){seconds(CLOCK_MONOTONIC), seconds(CLOCK_PROCESS_CPUTIME_ID)};
}

static step since(step start)
{
    return (step){seconds(CLOCK_MONOTONIC) - start.wall, seconds(CLOCK_PROCESS_CPUTIME_ID) - start.cpu};
}

static void must(kith_status status, const kith_error *err)
{
    if (status == KITH_OK) return;
    fprintf(stderr, "collection_speed: %s\n", err->message);
    exit(1);
}

static void import(kith_collection *c, const char *path, uint64_t limit)
{
    kith_error err;
    kith_dataset *base;
    must(kith_dataset_open(path, NULL, &base, &err), &err);
    uint64_t n = kith_dataset_rows(base);
    size_t dim = kith_dataset_dim(base);
    if (limit > 0 && limit < n) n = limit;
    float *x = malloc(BATCH * dim * sizeof *x);
    uint64_t payload_bytes = 0;
    must(kith_collection_begin(c, &err), &err);
    must(kith_collection_reset_vectors(c, dim, KITH_L2SQ, &err), &err);
    must(kith_collection_commit(c, &err), &err);
    step start = begin();
    for (uint64_t first = 0; first < n; first += BATCH) {
        size_t rows = n - first < BATCH ? (size_t)(n - first) : BATCH;
        must(kith_dataset_read_f32(base, first, rows, x, &err), &err);
        must(kith_collection_begin(c, &err), &err);
        for (size_t i = 0; i < rows; i++) {
            char payload[64];
            int size = snprintf(payload, sizeof payload, "{\"n\":%llu}", (unsigned long long)(first + i));
            kith_row row = {
                .payload = payload, .payload_size = (size_t)size, .vector = x + i * dim, .dim = dim};
            must(kith_collection_put(c, KITH_ROW_PAYLOAD | KITH_ROW_VECTOR, &row, NULL, &err), &err);
            payload_bytes += (uint64_t)size;
        }
        must(kith_collection_commit(c, &err), &err);
    }
    step took = since(start);
    kith_collection_stats stats = {.struct_size = sizeof stats};
    must(kith_collection_get_stats(c, &stats, &err), &err);
    printf("{\"step\":\"import\",\"rows\":%llu,\"wall\":%.3f,\"cpu\":%.3f,\"rows_per_cpu_second\":%.0f,"
           "\"bytes\":%llu,\"bytes_over_content\":%.3f}\n",
           (unsigned long long)n, took.wall, took.cpu, (double)n / took.cpu,
           (unsigned long long)stats.database_bytes,
           (double)stats.database_bytes / (double)(n * dim * 4 + payload_bytes));
    free(x);
    kith_dataset_close(base);
}

static void search(kith_collection *c, const char *name, const float *q, size_t nq, size_t dim, size_t nprobe,
                   int64_t *keys, float *distances, const float *true_distances)
{
    kith_error err;
    kith_collection_query query;
    kith_collection_answer answer;
    kith_collection_query_init(&query);
    query.k = K;
    query.nprobe = nprobe;
    uint64_t scored = 0;
    step start = begin();
    for (size_t i = 0; i < nq; i++) { /* one by one, as a program that serves people does */
        must(kith_collection_search(c, 1, dim, q + i * dim, &query, keys + i * K, distances + i * K, &answer,
                                    &err),
             &err);
        scored += answer.rows_scored;
    }
    step took = since(start);
    size_t good = 0;
    for (size_t i = 0; true_distances && i < nq; i++)
        for (size_t k = 0; k < K; k++)
            good += distances[i * K + k] <= true_distances[i * K + K - 1] * 1.00001f;
    printf("{\"step\":\"%s\",\"nprobe\":%zu,\"queries\":%zu,\"wall\":%.3f,\"cpu_ms_per_query\":%.3f,"
           "\"rows_scored_per_query\":%.0f,\"exact\":%d",
           name, nprobe, nq, took.wall, 1000 * took.cpu / (double)nq, (double)scored / (double)nq,
           answer.exact);
    if (true_distances) printf(",\"recall\":%.4f", (double)good / (double)(nq * K));
    printf("}\n");
}

int main(int argc, char **argv)
{
    kith_error err;
    if (argc < 3) {
        fprintf(stderr, "usage: collection_speed X.kith BASE [QUERIES] [ROWS]\n");
        return 2;
    }
    kith_collection *c;
    must(kith_collection_create(argv[1], 0, KITH_L2SQ, NULL, &c, &err), &err);
    import(c, argv[2], argc > 4 ? strtoull(argv[4], NULL, 10) : 0);
    if (argc < 4) return 0;
    float *q;
    size_t nq, dim;
    must(kith_dataset_load_f32(argv[3], NULL, NULL, &q, &nq, &dim, &err), &err);
    if (nq > 200) nq = 200;
    int64_t *keys = malloc(nq * K * sizeof *keys);
    float *distances = malloc(nq * K * sizeof *distances), *exact = malloc(nq * K * sizeof *exact);
    search(c, "first exact search", q, 1, dim, 0, keys, exact, NULL);
    search(c, "exact search", q, nq, dim, 0, keys, exact, NULL);
    step start = begin();
    must(kith_collection_optimize(c, NULL, &err), &err);
    step took = since(start);
    kith_collection_stats stats = {.struct_size = sizeof stats};
    must(kith_collection_get_stats(c, &stats, &err), &err);
    printf("{\"step\":\"fold\",\"wall\":%.3f,\"cpu\":%.3f,\"spec\":\"%s\",\"segment_bytes\":%llu,"
           "\"database_bytes\":%llu,\"database_over_vectors\":%.3f}\n",
           took.wall, took.cpu, stats.segment_spec, (unsigned long long)stats.segment_bytes,
           (unsigned long long)stats.database_bytes,
           (double)stats.database_bytes / (double)(stats.vectors * stats.dim * 4));
    kith_collection_close(c);
    must(kith_collection_open(argv[1], NULL, &c, &err), &err);
    search(c, "first search", q, 1, dim, 0, keys, distances, exact);
    static const size_t probes[] = {0, 8, 16, 32, 64, 128};
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++)
        search(c, "search", q, nq, dim, probes[i], keys, distances, exact);
    kith_collection_close(c);
    kith_dataset_unload(NULL, q);
    free(keys);
    free(distances);
    free(exact);
    return 0;
}
