/* product.c - blocking and epilogues of the tiled product; the tiles themselves are kernels
 * (simd/product_*.c).
 *
 * Three nested cuts, sizes from plan_of():
 *
 *     row block      up to 16 tiles of product_mr rows, packed as a[tile][d][mr] by the thread that works on it;
 *                    the unit of parallel work
 *     column block   panels of 16 columns, read from L3 or memory once per row block, from L2 once per tile
 *     depth block    at most KC components, all depths about equal: a tile's slice a[kc][mr] stays in L1
 *
 *     for each row block (in parallel)
 *         pack its rows
 *         for each column block, for each depth block, for each tile of rows
 *             all depths but the last: c = start + a * b, partial sums of the row block, in L2
 *             the last one reduces the tile in registers: argmin, visit, or store
 *
 * Since partial sums continue the chain where it stopped, cutting the depth changes no bit of a value.
 */
#include "math/product.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/select.h"
#include "simd/kernels.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define KC 384               /* 14 rows x 384 x 4 bytes = 21 KiB of a 32 KiB L1 */
#define A_BYTES (192u << 10) /* aim for a row block of one depth */
#define A_DEEP (2u << 20)    /* the same of more depths: streams from L3, one slice after the other */
#define B_BYTES (256u << 10) /* aim for one depth of a column block: half of a small L2 */
#define MAX_TILES 16         /* tiles of a row block: 16 x 14 = 224 rows share a column block */
#define KEYS_MAX (64u << 10) /* keys of the rows of a block in topk: 512 KiB */
#define VISIT_MAX 32         /* values of a visit */
#define SMALL_BLOCK (8 * KI_SMALL_ROWS) /* rows of a block on the small path */
#define SEARCH_BYTES (8u << 20)         /* columns that ki_product_search packs at a time: fits an L3 */

/* AFFINE is not a kith_metric: nothing is added to or clamped from the chain. */
typedef enum form { FORM_L2SQ, FORM_DOT, FORM_COSINE, FORM_AFFINE } form;

struct ki_packed {
    const ki_kernels *kernels;
    const kith_allocator *allocator;
    size_t m, dim;
    size_t panels; /* of KI_PANEL columns, the last one filled up with columns that never win */
    form form;
    float *b;     /* b[panels][dim][KI_PANEL], coefficients scaled by -2 (L2SQ), -1 (DOT), -1/|c| (COSINE) */
    float *start; /* start[panels * KI_PANEL]: |c|^2, 0, 1 or the bias; +infinity in the filling */
};

/* ---- The packed side ---- */

/* Pack panel p from rows y. */
static void pack_panel(const ki_packed *packed, size_t p, const float *y, size_t ldy)
{
    size_t dim = packed->dim, first = p * KI_PANEL;
    size_t columns = packed->m - first < KI_PANEL ? packed->m - first : KI_PANEL;
    float *b = packed->b + p * dim * KI_PANEL, *start = packed->start + first, scale[KI_PANEL] = {0};
    y += first * ldy;
    if (columns < KI_PANEL) memset(b, 0, dim * KI_PANEL * sizeof *b);
    packed->kernels->transpose_f32(y, ldy, columns, dim, b, KI_PANEL);
    if (packed->form == FORM_AFFINE) return;
    float norm2[KI_PANEL];
    packed->kernels->norm2_f32_rows(y, ldy, columns, dim, norm2);
    for (size_t i = 0; i < KI_PANEL; i++) {
        if (i >= columns)
            start[i] = INFINITY;
        else if (packed->form == FORM_L2SQ)
            start[i] = norm2[i], scale[i] = -2;
        else if (packed->form == FORM_DOT)
            start[i] = 0, scale[i] = -1;
        else
            start[i] = 1, scale[i] = norm2[i] > 0 ? -1 / sqrtf(norm2[i]) : 0;
    }
    for (size_t d = 0; d < dim; d++)
        for (size_t i = 0; i < KI_PANEL; i++) b[d * KI_PANEL + i] *= scale[i];
}

static kith_status make_packed(size_t m, size_t dim, form how, const kith_allocator *allocator,
                               ki_packed **out, kith_error *err)
{
    *out = NULL;
    if (m == 0 || m > UINT32_MAX - 2 * KI_PANEL)
        return ki_fail(err, KITH_INVALID, "columns of a product are %zu, allowed 1..%u", m,
                       UINT32_MAX - 2 * KI_PANEL);
    if (dim == 0) return ki_fail(err, KITH_INVALID, "dim of a product is 0");
    ki_packed *packed = ki_alloc_zero(allocator, 1, sizeof *packed);
    if (!packed) return ki_fail_nomem(err, sizeof *packed);
    packed->kernels = ki_kernels_get();
    packed->allocator = allocator;
    packed->m = m;
    packed->dim = dim;
    packed->form = how;
    packed->panels = (m + KI_PANEL - 1) / KI_PANEL;
    size_t floats = 0;
    if (ki_mul_fits(packed->panels * KI_PANEL, dim, &floats))
        packed->b = ki_alloc(allocator, floats, sizeof *packed->b);
    packed->start = ki_alloc_zero(allocator, packed->panels * KI_PANEL, sizeof *packed->start);
    if (!packed->b || !packed->start) {
        ki_packed_free(packed);
        return ki_fail_nomem(err, floats * sizeof(float));
    }
    *out = packed;
    return KITH_OK;
}

void ki_packed_refill(ki_packed *packed, const float *y, size_t ldy)
{
    assert(packed->form != FORM_AFFINE);
    for (size_t p = 0; p < packed->panels; p++) pack_panel(packed, p, y, ldy);
}

static kith_status form_of(kith_metric metric, form *how, kith_error *err)
{
    switch (metric) {
    case KITH_L2SQ: *how = FORM_L2SQ; return KITH_OK;
    case KITH_DOT: *how = FORM_DOT; return KITH_OK;
    case KITH_COSINE: *how = FORM_COSINE; return KITH_OK;
    default: break;
    }
    const char *name = kith_metric_name(metric);
    return ki_fail(err, KITH_INVALID, "metric of a product is %s, allowed l2, dot, cosine",
                   name ? name : "unknown");
}

kith_status ki_packed_create(const float *y, size_t ldy, size_t m, size_t dim, kith_metric metric,
                             const kith_allocator *allocator, ki_packed **packed, kith_error *err)
{
    form how = FORM_L2SQ;
    *packed = NULL;
    KI_TRY(form_of(metric, &how, err));
    KI_TRY(make_packed(m, dim, how, allocator, packed, err));
    ki_packed_refill(*packed, y, ldy);
    return KITH_OK;
}

kith_status ki_packed_create_affine(const float *w, size_t ldw, size_t m, size_t dim, const float *bias,
                                    const kith_allocator *allocator, ki_packed **packed, kith_error *err)
{
    KI_TRY(make_packed(m, dim, FORM_AFFINE, allocator, packed, err));
    ki_packed_refill_affine(*packed, w, ldw, bias);
    return KITH_OK;
}

void ki_packed_refill_affine(ki_packed *packed, const float *w, size_t ldw, const float *bias)
{
    assert(packed->form == FORM_AFFINE);
    for (size_t p = 0; p < packed->panels; p++) pack_panel(packed, p, w, ldw);
    for (size_t c = 0; c < packed->panels * KI_PANEL; c++)
        packed->start[c] = c >= packed->m ? INFINITY : bias ? bias[c] : 0;
}

void ki_packed_free(ki_packed *packed)
{
    if (!packed) return;
    ki_free(packed->allocator, packed->b);
    ki_free(packed->allocator, packed->start);
    ki_free(packed->allocator, packed);
}

size_t ki_packed_count(const ki_packed *packed)
{
    return packed->m;
}

size_t ki_packed_dim(const ki_packed *packed)
{
    return packed->dim;
}

size_t ki_packed_bytes(const ki_packed *packed)
{
    return sizeof *packed + packed->panels * KI_PANEL * (packed->dim + 1) * sizeof(float);
}

/* ---- Blocks of rows ---- */

typedef struct plan {
    size_t mr, tiles, rows; /* of a row block: rows = tiles * mr */
    size_t panels;          /* of a column block */
    size_t kc;              /* of a depth block */
    size_t c_rows;          /* of partial sums: those of the block, or of a tile when there is one depth */
} plan;

/* reservoir: keys that a row needs for topk, else 0; many of them make for fewer rows in a block. Nothing here shapes a
 * result: blocks may be cut smaller for the sake of the threads. */
static plan plan_of(const ki_packed *packed, size_t n, size_t threads, size_t reservoir)
{
    size_t depths = (packed->dim + KC - 1) / KC;
    plan p = {.mr = packed->kernels->product_mr, .kc = (packed->dim + depths - 1) / depths};
    p.tiles = (depths > 1 ? A_DEEP : A_BYTES) / (p.mr * packed->dim * sizeof(float));
    p.tiles = p.tiles < 1 ? 1 : p.tiles > MAX_TILES ? MAX_TILES : p.tiles;
    while (p.tiles > 1 && p.tiles * p.mr * reservoir > KEYS_MAX) p.tiles /= 2;
    while (p.tiles > 1 && threads > 1 && n / (p.tiles * p.mr) < 4 * threads) p.tiles /= 2;
    p.rows = p.tiles * p.mr;
    p.panels = B_BYTES / (KI_PANEL * p.kc * sizeof(float)) / 2 * 2;
    if (p.panels > packed->panels) p.panels = packed->panels;
    p.c_rows = depths > 1 ? p.rows : p.mr;
    return p;
}

/* What one thread needs. */
typedef struct scratch {
    float *a;     /* a[tiles][dim][mr] */
    float *c;     /* c[c_rows][panels * 16]: partial sums, and tiles that are stored */
    float *add;   /* add[rows]: |x|^2, or 0; while packing for COSINE, 1/|x| */
    float *best;  /* best[rows] */
    float *limit; /* limit[rows] */
    uint32_t *index;
    uint64_t *keys; /* keys[rows][reservoir], for topk only */
} scratch;

typedef struct job job;

/* What is done with a finished tile. `tile` describes its last depth block; the tile's rows begin at `row` of
 * the block and its columns at `column`. */
typedef struct epilogue {
    void (*begin)(const job *j, scratch *s, size_t first_row, size_t rows);
    void (*tile)(const job *j, scratch *s, const ki_tiles *tile, size_t first_row, size_t row, size_t column);
    void (*end)(const job *j, scratch *s, size_t first_row, size_t rows);
} epilogue;

struct job {
    const ki_packed *packed;
    plan plan;
    const epilogue *epilogue;
    const float *x;
    size_t ldx, n;
    scratch *scratch; /* [threads] */
    void *memory;

    uint32_t *index; /* argmin */
    float *dist;     /* argmin and topk */
    size_t k;        /* topk */
    size_t reservoir;
    uint64_t *id;
    float *out; /* store */
    size_t ldo;
    float *limit; /* below */
    ki_product_visit visit;
    void *visit_ctx;
    size_t column_base;
};

static size_t aligned(size_t bytes)
{
    return (bytes + KI_CACHE_LINE - 1) / KI_CACHE_LINE * KI_CACHE_LINE;
}

/* Scratch for every thread of the pool, in one block. */
static kith_status job_prepare(job *j, size_t threads, kith_error *err)
{
    const plan *p = &j->plan;
    size_t a = aligned(p->rows * j->packed->dim * sizeof(float));
    size_t c = aligned(p->c_rows * p->panels * KI_PANEL * sizeof(float));
    size_t row = aligned(p->rows * sizeof(float)), keys = aligned(p->rows * j->reservoir * sizeof(uint64_t));
    size_t each = a + c + 4 * row + keys;
    j->scratch = ki_alloc(j->packed->allocator, threads, sizeof *j->scratch);
    j->memory = ki_alloc(j->packed->allocator, threads, each);
    if (!j->scratch || !j->memory) {
        ki_free(j->packed->allocator, j->scratch);
        ki_free(j->packed->allocator, j->memory);
        return ki_fail_nomem(err, threads * each);
    }
    for (size_t t = 0; t < threads; t++) {
        char *at = (char *)j->memory + t * each;
        scratch *s = &j->scratch[t];
        s->a = (float *)at;
        s->c = (float *)(at += a);
        s->add = (float *)(at += c);
        s->best = (float *)(at += row);
        s->limit = (float *)(at += row);
        s->index = (uint32_t *)(at += row);
        s->keys = (uint64_t *)(at + row);
    }
    return KITH_OK;
}

static void job_clear(job *j)
{
    ki_free(j->packed->allocator, j->scratch);
    ki_free(j->packed->allocator, j->memory);
}

static void pack_rows(const job *j, scratch *s, const float *x, size_t rows)
{
    const ki_packed *packed = j->packed;
    size_t dim = packed->dim, mr = j->plan.mr;
    for (size_t row = 0; row < rows; row += mr) {
        size_t count = rows - row < mr ? rows - row : mr;
        float *a = s->a + row * dim;
        if (count < mr) memset(a, 0, dim * mr * sizeof *a);
        packed->kernels->transpose_f32(x + row * j->ldx, j->ldx, count, dim, a, mr);
    }
    if (packed->form == FORM_L2SQ || packed->form == FORM_COSINE)
        packed->kernels->norm2_f32_rows(x, j->ldx, rows, dim, s->add);
    if (packed->form == FORM_COSINE)
        for (size_t row = 0; row < rows; row++) {
            float *a = s->a + row / mr * mr * dim + row % mr;
            float scale = s->add[row] > 0 ? 1 / sqrtf(s->add[row]) : 0;
            for (size_t d = 0; d < dim; d++) a[d * mr] *= scale;
        }
    if (packed->form != FORM_L2SQ) memset(s->add, 0, rows * sizeof *s->add);
}

/* One tile of rows against one block of columns at depth d; the epilogue takes the last depth. */
static void run_tile(const job *j, scratch *s, size_t first_row, size_t row, size_t rows, size_t panel,
                     size_t panels, size_t d)
{
    const ki_packed *packed = j->packed;
    const plan *p = &j->plan;
    size_t dim = packed->dim, ldc = p->panels * KI_PANEL;
    ki_tiles tile = {.a = s->a + row * dim + d * p->mr,
                     .rows = rows,
                     .k = dim - d < p->kc ? dim - d : p->kc,
                     .b = packed->b + panel * dim * KI_PANEL + d * KI_PANEL,
                     .b_stride = dim * KI_PANEL,
                     .panels = panels,
                     .start = d ? NULL : packed->start + panel * KI_PANEL,
                     .c = p->c_rows > p->mr ? s->c + row * ldc : s->c,
                     .ldc = ldc};
    if (d + p->kc < dim)
        packed->kernels->product_store(&tile);
    else
        j->epilogue->tile(j, s, &tile, first_row, row, panel * KI_PANEL);
}

static void run_block(void *ctx, size_t block, size_t worker)
{
    const job *j = ctx;
    scratch *s = &j->scratch[worker];
    const plan *p = &j->plan;
    size_t first = block * p->rows, rows = j->n - first < p->rows ? j->n - first : p->rows;
    pack_rows(j, s, j->x + first * j->ldx, rows);
    if (j->epilogue->begin) j->epilogue->begin(j, s, first, rows);
    for (size_t panel = 0; panel < j->packed->panels; panel += p->panels) {
        size_t panels = j->packed->panels - panel < p->panels ? j->packed->panels - panel : p->panels;
        for (size_t d = 0; d < j->packed->dim; d += p->kc)
            for (size_t row = 0; row < rows; row += p->mr)
                run_tile(j, s, first, row, rows - row < p->mr ? rows - row : p->mr, panel, panels, d);
    }
    if (j->epilogue->end) j->epilogue->end(j, s, first, rows);
}

static kith_status job_run(job *j, kith_pool *pool, kith_error *err)
{
    size_t threads = kith_pool_threads(pool);
    j->plan = plan_of(j->packed, j->n, threads, j->reservoir);
    KI_TRY(job_prepare(j, threads, err));
    ki_pool_run(pool, (j->n + j->plan.rows - 1) / j->plan.rows, run_block, j);
    job_clear(j);
    return KITH_OK;
}

/* A distance from a finished chain. NaN cannot come from finite input that keeps to the overflow bound. */
static float finished(const ki_packed *packed, float value, float add)
{
    if (packed->form == FORM_DOT || packed->form == FORM_AFFINE) return value;
    value += add;
    return value < 0 ? 0 : value;
}

/* ---- argmin ---- */

static void argmin_begin(const job *j, scratch *s, size_t first_row, size_t rows)
{
    (void)j, (void)first_row;
    for (size_t row = 0; row < rows; row++) s->best[row] = INFINITY;
    memset(s->index, 0, rows * sizeof *s->index);
}

static void argmin_tile(const job *j, scratch *s, const ki_tiles *tile, size_t first_row, size_t row,
                        size_t column)
{
    (void)first_row;
    j->packed->kernels->product_argmin(tile, (uint32_t)column, s->best + row, s->index + row);
}

static void argmin_end(const job *j, scratch *s, size_t first_row, size_t rows)
{
    memcpy(j->index + first_row, s->index, rows * sizeof *s->index);
    if (!j->dist) return;
    for (size_t row = 0; row < rows; row++)
        j->dist[first_row + row] = finished(j->packed, s->best[row], s->add[row]);
}

static const epilogue argmin_epilogue = {argmin_begin, argmin_tile, argmin_end};

/* Few components: the rows lie in the lanes. Up to KI_SMALL_ROWS rows; needs no scratch memory. */
static void small_argmin(const ki_packed *packed, const float *x, size_t ldx, size_t rows, uint32_t *index,
                         float *dist)
{
    float xt[KI_SMALL_DIM * KI_SMALL_ROWS], best[KI_SMALL_ROWS], norm2[KI_SMALL_ROWS];
    uint32_t nearest[KI_SMALL_ROWS];
    const ki_kernels *kernels = packed->kernels;
    size_t dim = packed->dim;
    if (rows < KI_SMALL_ROWS) memset(xt, 0, dim * KI_SMALL_ROWS * sizeof *xt);
    kernels->transpose_f32(x, ldx, rows, dim, xt, KI_SMALL_ROWS);
    if (packed->form == FORM_COSINE) {
        kernels->norm2_f32_rows(x, ldx, rows, dim, norm2);
        for (size_t row = 0; row < rows; row++) {
            float scale = norm2[row] > 0 ? 1 / sqrtf(norm2[row]) : 0;
            for (size_t d = 0; d < dim; d++) xt[d * KI_SMALL_ROWS + row] *= scale;
        }
    }
    kernels->product_small(xt, dim, packed->b, dim * KI_PANEL, packed->panels, packed->start, best, nearest);
    memcpy(index, nearest, rows * sizeof *index);
    if (!dist) return;
    memset(norm2, 0, sizeof norm2);
    if (packed->form == FORM_L2SQ) kernels->norm2_f32_rows(x, ldx, rows, dim, norm2);
    for (size_t row = 0; row < rows; row++) dist[row] = finished(packed, best[row], norm2[row]);
}

static void run_small_block(void *ctx, size_t block, size_t worker)
{
    (void)worker;
    const job *j = ctx;
    size_t first = block * SMALL_BLOCK, end = j->n - first < SMALL_BLOCK ? j->n : first + SMALL_BLOCK;
    for (size_t row = first; row < end; row += KI_SMALL_ROWS) {
        size_t rows = end - row < KI_SMALL_ROWS ? end - row : KI_SMALL_ROWS;
        small_argmin(j->packed, j->x + row * j->ldx, j->ldx, rows, j->index + row,
                     j->dist ? j->dist + row : NULL);
    }
}

kith_status ki_product_argmin(kith_pool *pool, const float *x, size_t ldx, size_t n, const ki_packed *packed,
                              uint32_t *index, float *dist, kith_error *err)
{
    job j = {.packed = packed,
             .epilogue = &argmin_epilogue,
             .x = x,
             .ldx = ldx,
             .n = n,
             .index = index,
             .dist = dist};
    if (packed->dim > KI_SMALL_DIM) return job_run(&j, pool, err);
    ki_pool_run(pool, (n + SMALL_BLOCK - 1) / SMALL_BLOCK, run_small_block, &j);
    return KITH_OK;
}

/* ---- below, topk ---- */

typedef struct below_ctx {
    const job *job;
    scratch *scratch;
    size_t first_row, row; /* of the block, of the tile within it */
} below_ctx;

/* The columns that fill up the last panel are +infinity, which a limit of +infinity lets through. */
static uint32_t real_columns(const ki_packed *packed, uint32_t column, uint32_t mask)
{
    size_t left = packed->m - column;
    return left >= 32 ? mask : mask & (((uint32_t)1 << left) - 1);
}

static void below_visit(void *ctx, size_t row, uint32_t column, const float *values, uint32_t mask)
{
    below_ctx *below = ctx;
    const job *j = below->job;
    mask = real_columns(j->packed, column, mask);
    if (!mask) return;
    float dist[32];
    for (uint32_t bits = mask; bits; bits &= bits - 1) {
        int i = __builtin_ctz(bits);
        dist[i] = finished(j->packed, values[i], 0);
    }
    j->visit(j->visit_ctx, below->first_row + below->row + row, j->column_base + column, dist, mask);
}

static void below_tile(const job *j, scratch *s, const ki_tiles *tile, size_t first_row, size_t row,
                       size_t column)
{
    below_ctx ctx = {j, s, first_row, row};
    j->packed->kernels->product_below(tile, (uint32_t)column, s->add + row, j->limit + first_row + row,
                                      below_visit, &ctx);
}

static const epilogue below_epilogue = {NULL, below_tile, NULL};

kith_status ki_product_below(kith_pool *pool, const float *x, size_t ldx, size_t n, const ki_packed *packed,
                             float *limit, ki_product_visit visit, void *ctx, kith_error *err)
{
    job j = {.packed = packed,
             .epilogue = &below_epilogue,
             .x = x,
             .ldx = ldx,
             .n = n,
             .limit = limit,
             .visit = visit,
             .visit_ctx = ctx};
    return job_run(&j, pool, err);
}

/* Candidates are kept as keys in a reservoir of some times k; when it is full, the k nearest are selected and the worst
 * of them becomes the limit. Each candidate costs a write and its share of a linear selection, where a heap would
 * take log k steps that no branch predictor foresees. */
static size_t reservoir_of(size_t k, size_t m)
{
    size_t most = m + VISIT_MAX;
    return k < most / 2 ? k + (k > 64 ? k : 64) + VISIT_MAX : most;
}

static void topk_begin(const job *j, scratch *s, size_t first_row, size_t rows)
{
    (void)j, (void)first_row;
    for (size_t row = 0; row < rows; row++) s->limit[row] = INFINITY;
    memset(s->index, 0, rows * sizeof *s->index); /* how many keys a row has */
}

/* Keep the k nearest of a row. */
static size_t topk_shrink(uint64_t *keys, size_t count, size_t k, float *limit)
{
    ki_keys_select(keys, count, k);
    uint64_t worst = keys[0];
    for (size_t i = 1; i < k; i++) worst = keys[i] > worst ? keys[i] : worst;
    /* Columns to come have higher numbers: at the same distance they would lose. */
    *limit = nextafterf(ki_key_dist(worst), -INFINITY);
    return k;
}

static void topk_visit(void *ctx, size_t row, uint32_t column, const float *values, uint32_t mask)
{
    below_ctx *below = ctx;
    const job *j = below->job;
    scratch *s = below->scratch;
    row += below->row;
    uint64_t *keys = s->keys + row * j->reservoir;
    size_t count = s->index[row];
    for (uint32_t bits = real_columns(j->packed, column, mask); bits; bits &= bits - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(bits);
        keys[count++] = ki_key(finished(j->packed, values[i], 0), column + i);
    }
    if (count + VISIT_MAX > j->reservoir && count > j->k)
        count = topk_shrink(keys, count, j->k, &s->limit[row]);
    s->index[row] = (uint32_t)count;
}

static void topk_tile(const job *j, scratch *s, const ki_tiles *tile, size_t first_row, size_t row,
                      size_t column)
{
    below_ctx ctx = {j, s, first_row, row};
    j->packed->kernels->product_below(tile, (uint32_t)column, s->add + row, s->limit + row, topk_visit, &ctx);
}

static void topk_end(const job *j, scratch *s, size_t first_row, size_t rows)
{
    for (size_t row = 0; row < rows; row++) {
        uint64_t *keys = s->keys + row * j->reservoir, *id = j->id + (first_row + row) * j->k;
        float *dist = j->dist + (first_row + row) * j->k;
        size_t count = s->index[row];
        if (count > j->k) count = topk_shrink(keys, count, j->k, &s->limit[row]);
        ki_keys_sort(keys, count);
        for (size_t i = 0; i < j->k; i++) {
            dist[i] = i < count ? ki_key_dist(keys[i]) : INFINITY;
            id[i] = i < count ? ki_key_number(keys[i]) : UINT64_MAX;
        }
    }
}

static const epilogue topk_epilogue = {topk_begin, topk_tile, topk_end};

kith_status ki_product_topk(kith_pool *pool, const float *x, size_t ldx, size_t n, const ki_packed *packed,
                            size_t k, float *dist, uint64_t *id, kith_error *err)
{
    if (k == 0) return KITH_OK;
    job j = {.packed = packed,
             .epilogue = &topk_epilogue,
             .x = x,
             .ldx = ldx,
             .n = n,
             .k = k,
             .reservoir = reservoir_of(k, packed->m),
             .dist = dist,
             .id = id};
    return job_run(&j, pool, err);
}

/* ---- store ---- */

/* The last panel may be wider than the matrix: it goes through s->c. */
static void store_tile(const job *j, scratch *s, const ki_tiles *tile, size_t first_row, size_t row,
                       size_t column)
{
    const ki_packed *packed = j->packed;
    float *out = j->out + (first_row + row) * j->ldo + column;
    size_t columns = packed->m - column;
    ki_tiles last = *tile;
    packed->kernels->product_store(&last);
    if (columns > tile->panels * KI_PANEL) columns = tile->panels * KI_PANEL;
    for (size_t r = 0; r < tile->rows; r++) {
        const float *c = last.c + r * last.ldc;
        for (size_t i = 0; i < columns; i++) out[r * j->ldo + i] = finished(packed, c[i], s->add[row + r]);
    }
}

static const epilogue store_epilogue = {NULL, store_tile, NULL};

kith_status ki_product_store(kith_pool *pool, const float *x, size_t ldx, size_t n, const ki_packed *packed,
                             float *out, size_t ldo, kith_error *err)
{
    job j = {
        .packed = packed, .epilogue = &store_epilogue, .x = x, .ldx = ldx, .n = n, .out = out, .ldo = ldo};
    return job_run(&j, pool, err);
}

/* `panels` panels from panel `first` on into out. COSINE scales the row, a piece at a time: each piece goes on with the
 * chains where the one before left them. */
static void row_panels(const ki_packed *packed, const float *x, float scale, size_t first, size_t panels,
                       float *out)
{
    enum { PIECE = 256 };
    size_t dim = packed->dim, stride = dim * KI_PANEL;
    const float *b = packed->b + first * stride, *start = packed->start + first * KI_PANEL;
    if (packed->form != FORM_COSINE) {
        packed->kernels->product_row(x, dim, b, stride, panels, start, out);
        return;
    }
    float scaled[PIECE];
    for (size_t d = 0; d < dim; d += PIECE) {
        size_t k = dim - d < PIECE ? dim - d : PIECE;
        for (size_t i = 0; i < k; i++) scaled[i] = x[d + i] * scale;
        packed->kernels->product_row(scaled, k, b + d * KI_PANEL, stride, panels, d ? out : start, out);
    }
}

void ki_product_row(const ki_packed *packed, const float *x, float *out)
{
    size_t whole = packed->m / KI_PANEL, rest = packed->m % KI_PANEL;
    int squared = packed->form == FORM_L2SQ, cosine = packed->form == FORM_COSINE;
    float norm2 = squared || cosine ? packed->kernels->norm2_f32(x, packed->dim) : 0;
    float scale = cosine && norm2 > 0 ? 1 / sqrtf(norm2) : 0, add = squared ? norm2 : 0, last[KI_PANEL];
    row_panels(packed, x, scale, 0, whole, out);
    if (rest) {
        row_panels(packed, x, scale, whole, 1, last);
        memcpy(out + whole * KI_PANEL, last, rest * sizeof *last);
    }
    if (squared || cosine)
        for (size_t c = 0; c < packed->m; c++) out[c] = finished(packed, out[c], add);
}

/* Sixteen columns of somewhere as one panel, a piece of the depth at a time: chains go on where the piece before left
 * them, so the values are those of the packed columns. */
static void some_panel(const ki_packed *packed, const float *y, size_t ldy, const float *x,
                       const uint32_t *columns, size_t n, float *out)
{
    enum { PIECE = 128 };
    const ki_kernels *kernels = packed->kernels;
    float rows[KI_PANEL * PIECE], panel[PIECE * KI_PANEL];
    memset(panel, 0, sizeof panel);
    for (size_t i = 0; i < KI_PANEL; i++) out[i] = i < n ? packed->start[columns[i]] : 0;
    for (size_t d = 0; d < packed->dim; d += PIECE) {
        size_t k = packed->dim - d < PIECE ? packed->dim - d : PIECE;
        for (size_t i = 0; i < n; i++) memcpy(rows + i * PIECE, y + columns[i] * ldy + d, k * sizeof *rows);
        kernels->transpose_f32(rows, PIECE, n, k, panel, KI_PANEL);
        kernels->scale_f32(panel, packed->form == FORM_L2SQ ? -2 : -1, k * KI_PANEL);
        kernels->product_row(x + d, k, panel, k * KI_PANEL, 1, out, out);
    }
}

void ki_product_some(const ki_packed *packed, const float *y, size_t ldy, const float *x,
                     const uint32_t *columns, size_t n, float *out)
{
    assert(packed->form == FORM_L2SQ || packed->form == FORM_DOT);
    float add = packed->form == FORM_L2SQ ? packed->kernels->norm2_f32(x, packed->dim) : 0, chains[KI_PANEL];
    for (size_t first = 0; first < n; first += KI_PANEL) {
        size_t count = n - first < KI_PANEL ? n - first : KI_PANEL;
        some_panel(packed, y, ldy, x, columns + first, count, chains);
        for (size_t i = 0; i < count; i++) out[first + i] = finished(packed, chains[i], add);
    }
}

/* ---- search: columns that are packed on the way ---- */

typedef struct refill_ctx {
    ki_packed *packed;
    const float *y;
    size_t ldy;
} refill_ctx;

#define REFILL_PANELS 16 /* a block of packing */

static void refill_block(void *ctx, size_t block, size_t worker)
{
    (void)worker;
    refill_ctx *refill = ctx;
    size_t end = (block + 1) * REFILL_PANELS;
    if (end > refill->packed->panels) end = refill->packed->panels;
    for (size_t p = block * REFILL_PANELS; p < end; p++)
        pack_panel(refill->packed, p, refill->y, refill->ldy);
}

kith_status ki_product_search(kith_pool *pool, const float *x, size_t ldx, size_t n, const float *y,
                              size_t ldy, size_t m, size_t dim, kith_metric metric, float *limit,
                              ki_product_visit visit, void *ctx, const kith_allocator *allocator,
                              kith_error *err)
{
    form how = FORM_L2SQ;
    ki_packed *packed = NULL;
    KI_TRY(form_of(metric, &how, err));
    if (m == 0 || n == 0) return KITH_OK;
    size_t threads = kith_pool_threads(pool),
           columns = SEARCH_BYTES / (dim * sizeof(float)) / KI_PANEL * KI_PANEL;
    if (columns < 16 * KI_PANEL) columns = 16 * KI_PANEL;
    if (columns > m) columns = m;
    KI_TRY(make_packed(columns, dim, how, allocator, &packed, err));
    job j = {.packed = packed,
             .epilogue = &below_epilogue,
             .x = x,
             .ldx = ldx,
             .n = n,
             .limit = limit,
             .visit = visit,
             .visit_ctx = ctx,
             .plan = plan_of(packed, n, threads, 0)};
    kith_status status = job_prepare(&j, threads, err);
    if (status == KITH_OK) {
        for (size_t first = 0; first < m; first += columns) {
            packed->m = m - first < columns ? m - first : columns;
            packed->panels = (packed->m + KI_PANEL - 1) / KI_PANEL;
            refill_ctx refill = {packed, y + first * ldy, ldy};
            ki_pool_run(pool, (packed->panels + REFILL_PANELS - 1) / REFILL_PANELS, refill_block, &refill);
            j.column_base = first;
            ki_pool_run(pool, (n + j.plan.rows - 1) / j.plan.rows, run_block, &j);
        }
        job_clear(&j);
    }
    ki_packed_free(packed);
    return status;
}

/* ---- encode ---- */

typedef struct encode_ctx {
    const float *x;
    size_t ldx, n, m, code_size;
    ki_packed *const *books;
    void *codes;
} encode_ctx;

static void put_codes(const encode_ctx *e, size_t first, size_t rows, size_t subspace,
                      const uint32_t *nearest)
{
    size_t at = first * e->m + subspace;
    if (e->code_size == 1)
        for (size_t i = 0; i < rows; i++) ((uint8_t *)e->codes)[at + i * e->m] = (uint8_t)nearest[i];
    else
        for (size_t i = 0; i < rows; i++) ((uint16_t *)e->codes)[at + i * e->m] = (uint16_t)nearest[i];
}

static void encode_block(void *ctx, size_t block, size_t worker)
{
    (void)worker;
    const encode_ctx *e = ctx;
    uint32_t nearest[KI_SMALL_ROWS];
    size_t first = block * SMALL_BLOCK, end = e->n - first < SMALL_BLOCK ? e->n : first + SMALL_BLOCK;
    for (size_t subspace = 0, d = 0; subspace < e->m; d += e->books[subspace++]->dim) {
        const ki_packed *book = e->books[subspace];
        if (book->dim > KI_SMALL_DIM) continue;
        for (size_t row = first; row < end; row += KI_SMALL_ROWS) {
            size_t rows = end - row < KI_SMALL_ROWS ? end - row : KI_SMALL_ROWS;
            small_argmin(book, e->x + row * e->ldx + d, e->ldx, rows, nearest, NULL);
            put_codes(e, row, rows, subspace, nearest);
        }
    }
}

/* A subspace too wide for the small path: by way of ki_product_argmin, some rows at a time. */
static kith_status encode_wide(kith_pool *pool, const encode_ctx *e, size_t subspace, size_t d,
                               uint32_t *nearest, size_t chunk, kith_error *err)
{
    for (size_t first = 0; first < e->n; first += chunk) {
        size_t rows = e->n - first < chunk ? e->n - first : chunk;
        KI_TRY(ki_product_argmin(pool, e->x + first * e->ldx + d, e->ldx, rows, e->books[subspace], nearest,
                                 NULL, err));
        put_codes(e, first, rows, subspace, nearest);
    }
    return KITH_OK;
}

kith_status ki_product_encode(kith_pool *pool, const float *x, size_t ldx, size_t n, ki_packed *const *books,
                              size_t m, size_t code_size, void *codes, kith_error *err)
{
    enum { CHUNK = 16384 };
    encode_ctx e = {x, ldx, n, m, code_size, books, codes};
    ki_pool_run(pool, (n + SMALL_BLOCK - 1) / SMALL_BLOCK, encode_block, &e);
    kith_status status = KITH_OK;
    uint32_t *nearest = NULL;
    for (size_t subspace = 0, d = 0; subspace < m && status == KITH_OK; d += books[subspace++]->dim) {
        if (books[subspace]->dim <= KI_SMALL_DIM) continue;
        const kith_allocator *allocator = books[subspace]->allocator;
        nearest = ki_alloc(allocator, CHUNK, sizeof *nearest);
        status = nearest ? encode_wide(pool, &e, subspace, d, nearest, CHUNK, err)
                         : ki_fail_nomem(err, CHUNK * sizeof *nearest);
        ki_free(allocator, nearest);
    }
    return status;
}
