/* pq_internal.h - what the files of src/quant share of a product quantiser. */
#ifndef KI_QUANT_PQ_INTERNAL_H
#define KI_QUANT_PQ_INTERNAL_H

#include <kith/pq.h>

#include "math/product.h"
#include "simd/kernels.h"

#define KI_PQ_MAX_SEGMENTS 4096
#define KI_PQ_MAX_BITS 16
#define KI_PQ_WIDE 4096 /* codes unpacked at a time: 8 KiB of stack */

struct kith_pq {
    const kith_allocator *allocator;
    const ki_kernels *kernels;
    kith_metric metric;
    size_t dim, m, bits;
    size_t ks;        /* 2^bits */
    size_t width;     /* dim / m */
    size_t code_size; /* bytes */
    int trained;
    int wants_dots;    /* make dots[] beside books[] */
    float *codebooks;  /* [m][ks][width]; NULL until they are trained or set */
    float *middle;     /* [dim]: the point that books[] are written around, see ki_nearest_form */
    ki_packed **books; /* [m]: bias + x.w = |x - c|^2 - |x - middle|^2, for encoding and L2SQ tables */
    ki_packed **dots;  /* [m]: -(x.c), or NULL */
};

/* Also keep what ki_pq_dot_tables needs. Before training. */
void ki_pq_want_dots(kith_pq *pq);

/* tables[m][ks] of a query: what the metric says; or -(q.c) for any metric. */
void ki_pq_tables(const kith_pq *pq, const float *query, float *tables);
void ki_pq_dot_tables(const kith_pq *pq, const float *query, float *tables);

/* Codes as one number a segment, out[n][m]; rows NULL: row i, else row rows[i]. */
void ki_pq_unpack(const kith_pq *pq, const uint8_t *codes, const uint32_t *rows, size_t n, uint16_t *out);

/* out[i] = bias + the sum of the table entries of row rows[i] (rows NULL: row i). Every code is below 2^bits. */
void ki_pq_scan(const kith_pq *pq, const float *tables, const uint8_t *codes, const uint32_t *rows, size_t n,
                float bias, float *out);

/* One row, at once and without failing. */
void ki_pq_decode(const kith_pq *pq, const uint8_t *code, float *out);

/* x[n][dim], no more than a block's worth, to codes. scratch[n][m]. KITH_NOMEM. */
kith_status ki_pq_encode_block(const kith_pq *pq, const float *x, size_t n, uint16_t *scratch,
                               uint8_t *codes);

/* Rows a block of encoding: 0.5 MiB of a 128-d set. */
#define KI_PQ_BLOCK 1024

/* The first row whose code has a number >= 2^bits, n if none has. */
size_t ki_pq_first_bad(const kith_pq *pq, const uint8_t *codes, size_t n);

#endif
