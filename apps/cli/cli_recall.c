/* cli_recall.c - who the true neighbours are, and how many of the rows found are among them. */
#include "cli.h"

#include <math.h>
#include <stdlib.h>

/* Bits that differ. */
static double differing(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    size_t bits = 0;
    for (size_t i = 0; i < bytes; i++) bits += (size_t)__builtin_popcount(a[i] ^ b[i]);
    return (double)bits;
}

static double distance(kith_metric metric, const float *a, const float *b, size_t dim)
{
    double sum = 0, aa = 0, bb = 0;
    switch (metric) {
    case KITH_L2SQ:
        for (size_t d = 0; d < dim; d++) sum += ((double)a[d] - b[d]) * ((double)a[d] - b[d]);
        return sum;
    case KITH_L1:
        for (size_t d = 0; d < dim; d++) sum += fabs((double)a[d] - b[d]);
        return sum;
    case KITH_DOT:
        for (size_t d = 0; d < dim; d++) sum += (double)a[d] * b[d];
        return -sum;
    case KITH_COSINE:
        for (size_t d = 0; d < dim; d++) {
            sum += (double)a[d] * b[d];
            aa += (double)a[d] * a[d];
            bb += (double)b[d] * b[d];
        }
        return aa > 0 && bb > 0 ? 1 - sum / sqrt(aa * bb) : 1;
    case KITH_HAMMING:
    case KITH_JACCARD: break; /* not over float32 */
    }
    return NAN;
}

double cli_distance(kith_metric metric, const cli_vectors *a, size_t i, const cli_vectors *b, size_t j)
{
    size_t dim = a->dim, row = kith_bit_bytes(dim);
    if (a->bits) return differing(a->bits + i * row, b->bits + j * row, row);
    return distance(metric, a->x + i * dim, b->x + j * dim, dim);
}

int cli_truth_check(cli_context *cli, const char *path, const cli_truth *truth, size_t n)
{
    for (size_t i = 0; i < truth->n * truth->k; i++)
        if (truth->ids[i] < 0 || (size_t)truth->ids[i] >= n)
            return cli_fail(cli, path, "neighbour %zu of query %zu is row %d of a base of %zu rows",
                            i % truth->k, i / truth->k, truth->ids[i], n);
    return CLI_OK;
}

double cli_recall(kith_metric metric, const cli_vectors *base, const cli_vectors *queries,
                  const cli_truth *truth, const uint64_t *ids, size_t k)
{
    size_t good = 0;
    for (size_t q = 0; q < queries->n; q++) {
        double worst = cli_distance(metric, queries, q, base, (size_t)truth->ids[q * truth->k + k - 1]);
        for (size_t i = 0; i < k; i++) {
            uint64_t id = ids[q * k + i];
            good += id < base->n && cli_distance(metric, queries, q, base, id) <= worst;
        }
    }
    return (double)good / ((double)queries->n * (double)k);
}

double cli_recall_by_id(const cli_truth *truth, const uint64_t *ids, size_t nq, size_t k)
{
    size_t good = 0;
    for (size_t q = 0; q < nq; q++)
        for (size_t i = 0; i < k; i++)
            for (size_t j = 0; j < k; j++) good += ids[q * k + i] == (uint64_t)truth->ids[q * truth->k + j];
    return (double)good / ((double)nq * (double)k);
}

enum { BATCH = 1024 }; /* queries between two looks at the cancel flag and two reports of progress */

/* ids[nq][k] by a flat index, in batches. */
static int search_all(cli_context *cli, kith_searcher *searcher, const cli_vectors *queries, size_t k,
                      uint64_t *ids)
{
    kith_error err;
    kith_search_options options;
    kith_search_options_init(&options);
    options.pool = cli->run.pool;
    options.cancel = cli->run.cancel;
    float *dist = malloc(BATCH * k * sizeof *dist);
    if (!dist) return cli_fail(cli, NULL, "out of memory");
    int status = CLI_OK;
    for (size_t q = 0; status == CLI_OK && q < queries->n; q += BATCH) {
        size_t n = queries->n - q < BATCH ? queries->n - q : BATCH;
        if (cli_search(searcher, queries, q, n, k, &options, ids + q * k, dist, NULL, &err) != KITH_OK)
            status = cli_fail_error(cli, "exact search", &err);
        else if (cli_cancelled(cli))
            status = cli_fail(cli, NULL, "interrupted");
        else if (cli->run.progress)
            cli->run.progress(cli->run.progress_ctx, "searching", q + n, queries->n);
    }
    free(dist);
    return status;
}

int cli_neighbours(cli_context *cli, kith_metric metric, const cli_vectors *base, const cli_vectors *queries,
                   size_t k, uint64_t *ids)
{
    kith_error err;
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = metric;
    kith_index *index = NULL;
    kith_searcher *searcher = NULL;
    int status = CLI_OK;
    if (kith_index_create(base->bits ? "BFlat" : "Flat", base->dim, &options, &index, &err) != KITH_OK ||
        cli_index_add(index, base, &cli->run, &err) != KITH_OK ||
        kith_searcher_create(index, &searcher, &err) != KITH_OK)
        status = cli_fail_error(cli, "exact search", &err);
    if (status == CLI_OK) status = search_all(cli, searcher, queries, k, ids);
    kith_searcher_free(searcher);
    kith_index_free(index);
    return status;
}
