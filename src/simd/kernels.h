/* kernels.h - the table of hot loops, one for each instruction set, chosen at run time.
 *
 *     const ki_kernels *kernels = ki_kernels_get();          at creation of an index, a searcher, ...
 *     kernels->l2sq_f32_rows(query, rows, n, dim, out);      in the loop
 *
 * Objects that compute much fetch the table once and keep the pointer: tables are never freed and never
 * change. An object whose answers must agree with each other keeps to one table for its life. What each
 * kernel does, and what holds for all of them (no alignment, no over-read), stands in kernels.def.
 *
 * Adding a kernel: its line and comment in kernels.def; the scalar version, plain loops, in <topic>_scalar.c;
 * the faster ones in <topic>_avx2.c and so on, entered in that file's ki_simd_<topic>_<isa>(); a case in
 * tests/unit/test_simd.c. A level that has no version of its own inherits that of the level below.
 */
#ifndef KI_SIMD_KERNELS_H
#define KI_SIMD_KERNELS_H

#include <kith/metric.h>
#include <kith/simd.h>

/* --- Operands of the tiled product
 * ----------------------------------------------------------------------------- The right-hand side is packed
 * in panels of 16 columns, components outside, columns inside: panel[d][16]. The layout is the same at every
 * level. The left-hand side is packed the same way in micro-panels of `product_mr` rows, a number of the
 * level: a[d][product_mr]. */
#define KI_PANEL 16
#define KI_SMALL_ROWS 48 /* rows of a product_small call */
#define KI_SMALL_DIM 32
#define KI_MAX_MR 16 /* no level has a larger product_mr */

typedef struct ki_tiles {
    const float *a;  /* a[k][product_mr]; rows beyond `rows` must be there and finite, they are not used */
    size_t rows;     /* 1..product_mr */
    size_t k;        /* components of this call */
    const float *b;  /* the first panel, at this call's first component */
    size_t b_stride; /* floats from one panel to the next */
    size_t panels;   /* how many */
    const float
        *start; /* start[panels * 16], what each column's chain begins with; NULL: with c[r][column] */
    float *c;   /* c[rows][ldc]: partial values in (start == NULL), and out of product_store */
    size_t ldc;
} ki_tiles;

/* A row of a tile that holds candidates: bit i of mask tells that values[i], of column `column` + i, is
 * <= limit[row]. `column` counts from the call's `first`. add[row] is already in values. Other values may be
 * there too (32 at most), only those in the mask mean something. The visitor may lower limit[row]: tiles to
 * come see it. */
typedef void (*ki_tile_visit)(void *ctx, size_t row, uint32_t column, const float *values, uint32_t mask);

/* --- A query as rows of small whole numbers see it (quant/codec_sq.c) ---
 * The value of a row is bias + scale * sum_d weight[d] * code[d], plus the float that stands `tail` bytes into the row
 * where tail is not 0. Each weight is there twice: wide, and as 128 * high + low with -64 <= low < 64; |wide| <=
 * KI_SQ_WEIGHT. The sum of |wide[d]| times the largest code is below 2^31. The arrays are zero up to the next multiple
 * of KI_SQ_PAD entries; of rows of half bytes, the weights of the high halves begin there. */
#define KI_SQ_PAD 64
#define KI_SQ_WEIGHT 16000
typedef struct ki_sq_query {
    const int16_t *wide;
    const int8_t *high, *low;
    float bias, scale;
    size_t tail;
} ki_sq_query;

static inline size_t ki_sq_padded(size_t n)
{
    return (n + KI_SQ_PAD - 1) / KI_SQ_PAD * KI_SQ_PAD;
}

/* --- A query as RaBitQ codes see it (quant/codec_rabitq.c) ---
 * Weights are the components of a rotated query, each a whole number within -KI_RABITQ_WEIGHT .. KI_RABITQ_WEIGHT. A row of
 * signs (bit d % 8 of byte d / 8 of component d) sums the weights of its ones: `sum` below is that less the sum of the
 * negative weights, so it lies within 0 .. total, total = sum |weight|. `tables` holds the same for each half byte and
 * value: two bytes of a code have 128 bytes of tables, [low, high half][byte][twice][16], what a register looks up in.
 * Of a sum and the row's two factors, add and (k, e) packed as two numbers of 16 bits, the upper halves of float32,
 *
 *     estimate = (base + add) + k * (step * (2 sum - total))        lower bound = estimate - e * norm
 *
 * fine weights: the same components in up to 14 bits, 128 * high + low. Arrays of weights are zero up to a multiple of
 * KI_RABITQ_GROUP. */
#define KI_RABITQ_WEIGHT 31
#define KI_RABITQ_FINE 8000
#define KI_RABITQ_GROUP 64
#define KI_RABITQ_ROWS 32 /* of a block */
typedef struct ki_rabitq_query {
    const uint8_t *tables;
    const int8_t *weights, *high, *low;
    size_t bytes; /* of the signs of a row */
    int32_t total, negative;
    float step, base, norm;
} ki_rabitq_query;

/* What rabitq_weights found on its way. */
typedef struct ki_rabitq_sums {
    int32_t total, negative, fine; /* of |weight|, of negative weights, of the fine weights */
} ki_rabitq_sums;

/* Blocks that are fetched while others are summed, one for each: n from codes and factors on. Addresses beyond the end are
 * no harm. */
typedef struct ki_rabitq_ahead {
    const uint8_t *codes;
    const float *factors;
    size_t n;
} ki_rabitq_ahead;

/* Signs and factors of block i of those to come. */
static inline void ki_rabitq_fetch(const ki_rabitq_query *q, ki_rabitq_ahead ahead, size_t stride, size_t i)
{
    if (i >= ahead.n) return;
    const uint8_t *signs = ahead.codes + i * stride;
    const float *factors = ahead.factors + i * 2 * KI_RABITQ_ROWS;
    for (size_t at = 0; at < KI_RABITQ_ROWS * q->bytes; at += 64) __builtin_prefetch(signs + at);
    for (size_t at = 0; at < 2 * KI_RABITQ_ROWS; at += 16) __builtin_prefetch(factors + at);
}

static inline float ki_rabitq_estimate(const ki_rabitq_query *q, int32_t sum, float add, float packed,
                                       float *lower)
{
    uint32_t bits;
    float k, e;
    __builtin_memcpy(&bits, &packed, sizeof bits);
    uint32_t k_bits = bits & 0xffff0000u, e_bits = bits << 16;
    __builtin_memcpy(&k, &k_bits, sizeof k);
    __builtin_memcpy(&e, &e_bits, sizeof e);
    float estimate = (q->base + add) + k * (q->step * (float)(2 * sum - q->total));
    *lower = estimate - e * q->norm;
    return estimate;
}

/* --- A query as the codes of a quantized graph see it (index/qg_point.c) ---
 * table[steps][2][4][16]: for step t, half h and lane l the entries of components 32 t + 8 l + 4 h + 0..3, by the bits
 * of these; none above 127, and the sums of the greatest ones below 2^16. */
#define KI_QG_BLOCK 16
#define KI_QG_STEP 32        /* components of a step */
#define KI_QG_STEPS 64       /* at most */
#define KI_QG_STEP_BYTES 64  /* codes of a block */
#define KI_QG_STEP_TABLE 128 /* entries */
#define KI_QG_MERGED 32      /* new entries of a pool at a time, qg_merge */
#define KI_QG_MERGE_ROOM 16  /* entries that lie behind those of a pool */
typedef struct ki_qg_query {
    const uint8_t *table;
    size_t steps;
    float bias, scale, unit;
} ki_qg_query;

/* --- Rows in bytes (math/sieve.c) --- */
#define KI_SIEVE_ROWS 14 /* of a tile */
typedef struct ki_sieve_sums {
    float error2;    /* of the squares of what rounding left */
    int32_t squares; /* of the whole numbers */
} ki_sieve_sums;

/* --- Rows and columns in 16 bits (cluster/kmeans_grid.c) --- */
#define KI_GRID_GROUP 8 /* columns of a group */
#define KI_GRID_BITS 29 /* the squares of a row's or a column's numbers sum up to 2^29 at most */
#define KI_GRID_OFFSET \
    ((int32_t)1 << 30)         /* what values are raised by, so that as floats they stand in the same order */
#define KI_GRID_FAR 0x71000000 /* above any value */
#define KI_GRID_UNSURE UINT32_MAX

typedef struct ki_kernels {
    kith_simd level;
    size_t product_mr;
    int sieves; /* 1: sieve_tile is several times as fast as product_argmin */
    int grids;  /* 1: grid_groups is about twice as fast as product_small */
#define KI_KERNEL(name, type, params) type(*name) params;
#include "simd/kernels.def"
#undef KI_KERNEL
} ki_kernels;

/* The table in use; never NULL. Threads: atomic. */
const ki_kernels *ki_kernels_get(void);

/* The table of one level, NULL where machine or build does not have it. For tests and benchmarks. */
const ki_kernels *ki_kernels_at(kith_simd level);

/* The three shapes of a float32 distance. NULL for metrics that are not on float32 (HAMMING, JACCARD). */
typedef float (*ki_pair_fn)(const float *a, const float *b, size_t dim);
typedef void (*ki_rows_fn)(const float *q, const float *x, size_t n, size_t dim, float *out);
typedef void (*ki_gather_fn)(const float *q, const void *base, size_t stride_bytes, const uint32_t *rows,
                             size_t n, size_t dim, float *out);

static inline ki_rows_fn ki_rows_of(const ki_kernels *kernels, kith_metric metric)
{
    switch (metric) {
    case KITH_L2SQ: return kernels->l2sq_f32_rows;
    case KITH_DOT: return kernels->negdot_f32_rows;
    case KITH_COSINE: return kernels->cosine_f32_rows;
    case KITH_L1: return kernels->l1_f32_rows;
    default: return NULL;
    }
}
static inline ki_gather_fn ki_gather_of(const ki_kernels *kernels, kith_metric metric)
{
    switch (metric) {
    case KITH_L2SQ: return kernels->l2sq_f32_gather;
    case KITH_DOT: return kernels->negdot_f32_gather;
    case KITH_COSINE: return kernels->cosine_f32_gather;
    case KITH_L1: return kernels->l1_f32_gather;
    default: return NULL;
    }
}

/* The distance of one pair in the sense of metric.h (DOT: negated). */
static inline float ki_distance(const ki_kernels *kernels, kith_metric metric, const float *a, const float *b,
                                size_t dim)
{
    switch (metric) {
    case KITH_L2SQ: return kernels->l2sq_f32(a, b, dim);
    case KITH_DOT: return -kernels->dot_f32(a, b, dim);
    case KITH_COSINE: return kernels->cosine_f32(a, b, dim);
    default: return kernels->l1_f32(a, b, dim);
    }
}

#endif
