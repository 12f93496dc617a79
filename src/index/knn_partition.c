/* knn_partition.c - the beginning of a k-NN graph: random trees whose leaves are compared all with all. The essay is in
 * knn_graph.c. */
#include "index/knn_graph_internal.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/run.h"
#include "base/select.h"
#include "math/product.h"

#define SAMPLE 64   /* rows that choose where a node is cut */
#define ROUNDS 3    /* of 2-means among them */
#define PROJECT 256 /* rows projected at a time */

size_t ki_knn_leaves(const ki_knn *g)
{
    size_t leaves = 1;
    while (g->n / leaves > g->options.leaf) leaves *= 2;
    return leaves;
}

/* ---- The tree ---- */

typedef struct splitter {
    const ki_knn *g;
    const float *x;
    size_t tree, level;
    uint32_t *order, *bounds, *next; /* bounds of this level and of the one below */
    uint64_t *keys;                  /* [n] */
    float *scratch;                  /* [threads][4][dim] */
} splitter;

/* A direction along which a node is cut: between the centres of 2-means on a few of its rows. */
static void choose(const splitter *s, const uint32_t *order, size_t n, ki_rng *rng, float *scratch)
{
    const ki_knn *g = s->g;
    size_t dim = g->dim, bytes = dim * sizeof(float);
    float *centre[2] = {scratch, scratch + dim}, *sum[2] = {scratch + 2 * dim, scratch + 3 * dim};
    uint32_t picked[SAMPLE];
    for (size_t i = 0; i < SAMPLE; i++) picked[i] = order[ki_rng_below(rng, n)];
    memcpy(centre[0], s->x + picked[0] * dim, bytes);
    memcpy(centre[1], s->x + picked[1] * dim, bytes);
    for (size_t round = 0; round < ROUNDS; round++) {
        size_t count[2] = {0, 0};
        memset(sum[0], 0, 2 * bytes);
        for (size_t i = 0; i < SAMPLE; i++) {
            const float *row = s->x + picked[i] * dim;
            int side = g->kernels->l2sq_f32(row, centre[1], dim) < g->kernels->l2sq_f32(row, centre[0], dim);
            g->kernels->add_f32(sum[side], row, dim);
            count[side]++;
        }
        if (count[0] == 0 || count[1] == 0) break;
        for (size_t side = 0; side < 2; side++) {
            g->kernels->scale_f32(sum[side], 1 / (float)count[side], dim);
            memcpy(centre[side], sum[side], bytes);
        }
    }
    g->kernels->sub_f32(centre[0], centre[0], centre[1], dim);
}

/* Cut one node into halves of the same size. */
static void split(void *ctx, size_t node, size_t worker)
{
    const splitter *s = ctx;
    const ki_knn *g = s->g;
    size_t first = s->bounds[node], end = s->bounds[node + 1], middle = first + (end - first) / 2;
    s->next[2 * node] = (uint32_t)first;
    s->next[2 * node + 1] = (uint32_t)middle;
    if (end - first < 2) return;
    float *scratch = s->scratch + worker * 4 * g->dim, along[PROJECT];
    ki_rng rng;
    ki_rng_init(&rng, g->options.seed, ((uint64_t)s->tree << 48) + ((uint64_t)1 << s->level) + node);
    choose(s, s->order + first, end - first, &rng, scratch);
    for (size_t at = first; at < end; at += PROJECT) {
        size_t n = end - at < PROJECT ? end - at : PROJECT;
        g->kernels->negdot_f32_gather(scratch, s->x, g->dim * sizeof(float), s->order + at, n, g->dim, along);
        for (size_t i = 0; i < n; i++)
            s->keys[at + i] = ki_key(isnan(along[i]) ? 0 : along[i], s->order[at + i]);
    }
    ki_keys_select(s->keys + first, end - first, middle - first);
    for (size_t i = first; i < end; i++) s->order[i] = ki_key_number(s->keys[i]);
}

kith_status ki_knn_tree(const ki_knn *g, const float *x, size_t tree, uint32_t *order, uint32_t *bounds,
                        size_t *leaves, kith_error *err)
{
    splitter s = {.g = g, .x = x, .tree = tree, .order = order, .bounds = bounds};
    size_t most = ki_knn_leaves(g);
    s.next = ki_alloc(g->allocator, most + 1, sizeof *s.next);
    s.keys = ki_alloc(g->allocator, g->n, sizeof *s.keys);
    s.scratch = ki_alloc(g->allocator, g->threads * 4 * g->dim, sizeof *s.scratch);
    kith_status status = KITH_OK;
    if (!s.next || !s.keys || !s.scratch) status = ki_fail_nomem(err, g->n * sizeof *s.keys);
    for (size_t i = 0; i < g->n; i++) order[i] = (uint32_t)i;
    bounds[0] = 0;
    bounds[1] = (uint32_t)g->n;
    for (*leaves = 1; status == KITH_OK && *leaves < most; *leaves *= 2, s.level++) {
        ki_pool_run(ki_run_pool(g->run), *leaves, split, &s);
        s.next[2 * *leaves] = (uint32_t)g->n;
        memcpy(bounds, s.next, (2 * *leaves + 1) * sizeof *bounds);
        status = ki_run_check(g->run, err);
    }
    ki_free(g->allocator, s.next);
    ki_free(g->allocator, s.keys);
    ki_free(g->allocator, s.scratch);
    return status;
}

/* ---- The leaves ---- */

typedef struct joiner {
    ki_knn *g;
    const uint32_t *order, *bounds;
    size_t block, wide; /* the first leaf of this run; rows of a leaf at most */
    float *rows;        /* [threads][wide + 1][dim] */
    float *dist;        /* [threads][wide][k + 1] */
    uint64_t *id;       /* [threads][wide][k + 1] */
    atomic_int failed;
} joiner;

/* The k + 1 nearest of every row of a leaf, itself among them, by a kernel that takes one row at a time. */
static void nearest_by_rows(const ki_knn *g, const float *x, size_t n, size_t k, float *dist, uint64_t *id)
{
    ki_rows_fn fn = ki_rows_of(g->kernels, g->options.metric);
    float out[PROJECT];
    for (size_t i = 0; i < n; i++) {
        ki_topk top;
        ki_topk_init(&top, k, dist + i * k, id + i * k);
        for (size_t first = 0; first < n; first += PROJECT) {
            size_t count = n - first < PROJECT ? n - first : PROJECT;
            fn(x + i * g->dim, x + first * g->dim, count, g->dim, out);
            for (size_t j = 0; j < count; j++)
                ki_topk_push(&top, out[j] < INFINITY ? out[j] : INFINITY, first + j);
        }
        (void)ki_topk_sort(&top);
    }
}

static kith_status nearest(const ki_knn *g, const float *x, size_t n, size_t k, float *dist, uint64_t *id)
{
    if (g->options.metric == KITH_L1) {
        nearest_by_rows(g, x, n, k, dist, id);
        return KITH_OK;
    }
    ki_packed *packed;
    KI_TRY(ki_packed_create(x, g->dim, n, g->dim, g->options.metric, g->allocator, &packed, NULL));
    kith_status status = ki_product_topk(NULL, x, g->dim, n, packed, k, dist, id, NULL);
    ki_packed_free(packed);
    return status;
}

/* Rows are counted from their mean: products lose the digits that distances have in common with norms. */
static void centre(const ki_knn *g, float *x, size_t n, float *mean)
{
    if (g->options.metric != KITH_L2SQ) return;
    memset(mean, 0, g->dim * sizeof *mean);
    for (size_t i = 0; i < n; i++) g->kernels->add_f32(mean, x + i * g->dim, g->dim);
    g->kernels->scale_f32(mean, 1 / (float)n, g->dim);
    for (size_t i = 0; i < n; i++) g->kernels->sub_f32(x + i * g->dim, x + i * g->dim, mean, g->dim);
}

static int listed(const ki_near *list, size_t k, uint32_t node)
{
    for (size_t i = 0; i < k; i++)
        if (list[i].node == node) return 1;
    return 0;
}

static void join_leaf(void *ctx, size_t block, size_t worker)
{
    joiner *j = ctx;
    ki_knn *g = j->g;
    const uint32_t *member = j->order + j->bounds[j->block + block];
    size_t n = j->bounds[j->block + block + 1] - j->bounds[j->block + block], k = g->k + 1;
    float *x = j->rows + worker * (j->wide + 1) * g->dim, *dist = j->dist + worker * j->wide * k;
    uint64_t *id = j->id + worker * j->wide * k;
    for (size_t i = 0; i < n; i++) memcpy(x + i * g->dim, ki_knn_row(g, member[i]), g->dim * sizeof *x);
    centre(g, x, n, x + n * g->dim);
    if (nearest(g, x, n, k, dist, id) != KITH_OK) {
        atomic_store(&j->failed, 1);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        ki_near *list = ki_knn_list(g, member[i]);
        for (size_t r = 0; r < k && id[i * k + r] != KI_NO_ID; r++) {
            size_t other = (size_t)id[i * k + r];
            float d = dist[i * k + r];
            if (d > list[g->k - 1].dist) break;
            if (other == i || listed(list, g->k, member[other])) continue;
            ki_knn_insert(list, g->k, d, member[other]);
        }
    }
    atomic_fetch_add_explicit(&g->distances, (uint64_t)n * n, memory_order_relaxed);
}

kith_status ki_knn_join_leaves(ki_knn *g, const uint32_t *order, const uint32_t *bounds, size_t leaves,
                               kith_error *err)
{
    joiner j = {.g = g, .order = order, .bounds = bounds};
    for (size_t i = 0; i < leaves; i++)
        if (bounds[i + 1] - bounds[i] > j.wide) j.wide = bounds[i + 1] - bounds[i];
    size_t each = g->threads * j.wide;
    j.rows = ki_alloc(g->allocator, (each + g->threads) * g->dim, sizeof *j.rows);
    j.dist = ki_alloc(g->allocator, each * (g->k + 1), sizeof *j.dist);
    j.id = ki_alloc(g->allocator, each * (g->k + 1), sizeof *j.id);
    kith_status status = KITH_OK;
    if (!j.rows || !j.dist || !j.id) status = ki_fail_nomem(err, each * g->dim * sizeof *j.rows);
    size_t step = 8 * g->threads; /* leaves between two looks at the cancel flag */
    for (; status == KITH_OK && j.block < leaves; j.block += step) {
        ki_pool_run(ki_run_pool(g->run), leaves - j.block < step ? leaves - j.block : step, join_leaf, &j);
        status = atomic_load(&j.failed) ? ki_fail_nomem(err, j.wide * g->dim * sizeof *j.rows)
                                        : ki_run_check(g->run, err);
    }
    ki_free(g->allocator, j.rows);
    ki_free(g->allocator, j.dist);
    ki_free(g->allocator, j.id);
    return status;
}
