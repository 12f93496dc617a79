/* cli_recall.c - how many of the rows found are true neighbours. */
#include "cli.h"

#include <math.h>

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
