/* metric.h - the distances, always smaller-is-nearer, and the scores that people read.
 *
 * | metric        | distance                                | score                  |
 * |---------------|-----------------------------------------|------------------------|
 * | KITH_L2SQ     | sum (q_i - x_i)^2 (squared, no root)    | 1 / (1 + sqrt(d))      |
 * | KITH_DOT      | -(q . x)                                | q . x                  |
 * | KITH_COSINE   | 1 - cos(q, x), 0..2                     | 1 - d                  |
 * | KITH_L1       | sum |q_i - x_i|                         | 1 / (1 + d)            |
 * | KITH_HAMMING  | bits that differ                        | 1 - d / bits           |
 * | KITH_JACCARD  | 1 - |q n x| / |q u x|                   | 1 - d                  |
 *
 * The cosine of a zero vector with anything is taken as 0 (distance 1).
 */
#ifndef KITH_METRIC_H
#define KITH_METRIC_H

#include <kith/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(NAME, number, word). The numbers stand in files: they never change. */
#define KITH_METRIC_MAP(X)   \
    X(L2SQ, 0, "l2")         \
    X(DOT, 1, "dot")         \
    X(COSINE, 2, "cosine")   \
    X(L1, 3, "l1")           \
    X(HAMMING, 4, "hamming") \
    X(JACCARD, 5, "jaccard")

typedef enum kith_metric {
#define KITH_METRIC_ENUM(name, number, word) KITH_##name = number,
    KITH_METRIC_MAP(KITH_METRIC_ENUM)
#undef KITH_METRIC_ENUM
} kith_metric;

/* What the rows are that a metric compares: float32 vectors x[n][dim]; bits[n][kith_bit_bytes(dim)], where dim is
 * the number of bits and bit d of a row is bit d % 8, counted from the lowest, of its byte d / 8; sets of 64-bit
 * tokens. */
typedef enum kith_row_kind {
    KITH_ROWS_F32 = 0,
    KITH_ROWS_BITS = 1, /* KITH_HAMMING */
    KITH_ROWS_SETS = 2  /* KITH_JACCARD */
} kith_row_kind;

KITH_API kith_row_kind kith_metric_rows(kith_metric metric);

/* The bytes of a row of that many bits. */
static inline size_t kith_bit_bytes(size_t bits)
{
    return bits / 8 + (bits % 8 != 0);
}

/* "l2", "dot", "cosine", "l1", "hamming", "jaccard"; NULL for a number that is no metric. Static. */
KITH_API const char *kith_metric_name(kith_metric metric);

/* The metric of a word ("l2", "l2sq" and "euclidean" are one; "ip" and "dot"; "cos" and "cosine").
 * KITH_INVALID for others. */
KITH_API kith_status kith_metric_parse(const char *word, kith_metric *metric, kith_error *err);

/* The score of a distance, larger is better, as in the table above. dim is used by KITH_HAMMING only (bits).
 */
KITH_API float kith_metric_score(kith_metric metric, float distance, size_t dim);

#ifdef __cplusplus
}
#endif
#endif
