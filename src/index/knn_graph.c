/* knn_graph.c - the k-NN graph of a set of rows.
 *
 * Paper. W. Dong, C. Moses, K. Li, "Efficient k-nearest neighbor graph construction for generic similarity measures", WWW
 * 2011. NN-descent begins with random neighbours and improves them: neighbours of the same row are compared with each
 * other, until hardly anything changes. Our ways apart from it:
 *   - The beginning is not random. A few random trees (2-means of some rows of a node say along which line it is cut, at
 *     the median) put rows that are near each other into the same leaf, and all rows of a leaf are compared by a tiled matrix
 *     product, which costs a twentieth of as many single distances at random places. The first round then starts from a
 *     recall of 0.7 or so instead of 0, and two rounds do what takes a dozen.
 *   - Rows are copied in the order of the first tree, so that what a join reads lies close together.
 *   - Of new neighbours and of rows that a row is a neighbour of the first `sample` are taken, where the paper takes a
 *     random choice: it would make the outcome depend on the order in which threads draw.
 *   - Deterministic on any number of threads: knn_descent.c.
 * Selection uses the kernels of each stage, whose values for a pair differ in the last bits; the distances of a list are made
 * anew by one kernel between the stages and at the end, and lists sorted by them. */
#include "index/knn_graph_internal.h"

#include <string.h>

#include "base/error.h"
#include "base/pool.h"
#include "base/run.h"

#define BLOCK 1024 /* rows that a thread takes at a time */

void ki_knn_options_init(ki_knn_options *options, size_t k, kith_metric metric, uint64_t seed)
{
    *options = (ki_knn_options){.k = k,
                                .spare = k / 2,
                                .metric = metric,
                                .trees = 4,
                                .leaf = 512,
                                .rounds = 10,
                                .delta = 0.002,
                                .seed = seed};
    if (options->leaf < 4 * k) options->leaf = 4 * k;
}

typedef struct maker {
    ki_knn *g;
    const ki_input *input;
    const uint32_t *pick;
    ki_near *out;   /* in the caller's numbers */
    const float *x; /* rows in the caller's order, or NULL: as they stand in g */
} maker;

/* Rows first.. of the caller's into out. */
static void copy_row(const maker *m, size_t row, float *out)
{
    const float *x = ki_input_block(m->input, m->pick ? m->pick[row] : row, 1, out);
    if (x != out) memcpy(out, x, m->g->dim * sizeof *out);
}

static void copy_block(void *ctx, size_t block, size_t worker)
{
    const maker *m = ctx;
    ki_knn *g = m->g;
    (void)worker;
    for (size_t i = block * BLOCK; i < g->n && i < (block + 1) * BLOCK; i++)
        copy_row(m, g->number[i], g->rows + i * g->dim);
}

static size_t blocks_of(const ki_knn *g)
{
    return (g->n + BLOCK - 1) / BLOCK;
}

/* Sort a list by distances made anew. */
static void measure(const ki_knn *g, size_t at)
{
    ki_near *list = ki_knn_list(g, at);
    uint32_t node[KI_KNN_WIDE];
    float dist[KI_KNN_WIDE];
    size_t n = 0;
    for (; n < g->k && list[n].node != KI_GRAPH_NONE; n++) node[n] = list[n].node & ~KI_KNN_NEW;
    if (n == 0) return;
    ki_gather_of(g->kernels, g->options.metric)(ki_knn_row(g, at), g->rows, g->dim * sizeof(float), node, n,
                                                g->dim, dist);
    for (size_t i = 0; i < n; i++) {
        ki_near entry = {dist[i] < INFINITY ? dist[i] : INFINITY, list[i].node};
        size_t j = i;
        for (; j > 0 && ki_knn_before(entry.dist, entry.node, list[j - 1].dist, list[j - 1].node); j--)
            list[j] = list[j - 1];
        list[j] = entry;
    }
}

static void measure_block(void *ctx, size_t block, size_t worker)
{
    const maker *m = ctx;
    (void)worker;
    for (size_t at = block * BLOCK; at < m->g->n && at < (block + 1) * BLOCK; at++) measure(m->g, at);
}

/* Lists in the caller's numbers; equal distances by those. */
static void hand_over(void *ctx, size_t block, size_t worker)
{
    const maker *m = ctx;
    const ki_knn *g = m->g;
    (void)worker;
    for (size_t at = block * BLOCK; at < g->n && at < (block + 1) * BLOCK; at++) {
        const ki_near *list = ki_knn_list(g, at);
        size_t k = g->options.k;
        ki_near *out = m->out + (size_t)g->number[at] * k;
        for (size_t i = 0; i < k; i++) {
            uint32_t node = list[i].node;
            out[i] = (ki_near){INFINITY, KI_GRAPH_NONE};
            if (node == KI_GRAPH_NONE) continue;
            out[i] = (ki_near){list[i].dist, g->number[node & ~KI_KNN_NEW]};
            for (size_t j = i; j > 0 && out[j].dist == out[j - 1].dist && out[j].node < out[j - 1].node;
                 j--) {
                ki_near swap = out[j];
                out[j] = out[j - 1];
                out[j - 1] = swap;
            }
        }
    }
}

static void clear_lists(ki_knn *g)
{
    for (size_t i = 0; i < g->n * g->k; i++) g->near[i] = (ki_near){INFINITY, KI_GRAPH_NONE};
    for (size_t i = 0; i < g->n; i++) atomic_flag_clear(&g->locks[i]);
}

/* The first tree is made from the rows as they come, the others from the copy in its order. */
static kith_status partition(maker *m, kith_error *err)
{
    ki_knn *g = m->g;
    ki_stage stage;
    size_t leaves = ki_knn_leaves(g), trees = leaves > 1 ? g->options.trees : 1;
    uint32_t *order = ki_alloc(g->allocator, g->n, sizeof *order);
    uint32_t *bounds = ki_alloc(g->allocator, leaves + 1, sizeof *bounds);
    kith_status status = order && bounds ? KITH_OK : ki_fail_nomem(err, g->n * sizeof *order);
    ki_stage_begin(&stage, g->run, "partitioning", trees);
    for (size_t tree = 0; status == KITH_OK && tree < trees; tree++) {
        status = ki_knn_tree(g, g->rows, tree, order, bounds, &leaves, err);
        if (status == KITH_OK && tree == 0) {
            memcpy(g->number, order, g->n * sizeof *order);
            ki_pool_run(ki_run_pool(g->run), blocks_of(g), copy_block, m);
            for (size_t i = 0; i < g->n; i++) order[i] = (uint32_t)i;
        }
        if (status == KITH_OK) status = ki_knn_join_leaves(g, order, bounds, leaves, err);
        if (status == KITH_OK) ki_stage_report(&stage, tree + 1);
    }
    ki_free(g->allocator, order);
    ki_free(g->allocator, bounds);
    return status;
}

static kith_status make(maker *m, ki_knn_result *result, kith_error *err)
{
    ki_knn *g = m->g;
    size_t rounds = 0;
    clear_lists(g);
    for (size_t i = 0; i < g->n; i++) g->number[i] = (uint32_t)i;
    ki_pool_run(ki_run_pool(g->run), blocks_of(g), copy_block, m);
    KI_TRY(partition(m, err));
    for (size_t i = 0; i < g->n * g->k; i++) g->near[i].node |= KI_KNN_NEW;
    ki_pool_run(ki_run_pool(g->run), blocks_of(g), measure_block, m);
    KI_TRY(ki_knn_descend(g, &rounds, err));
    ki_pool_run(ki_run_pool(g->run), blocks_of(g), hand_over, m);
    if (result) *result = (ki_knn_result){rounds, g->distances};
    return KITH_OK;
}

kith_status ki_knn_graph(const ki_input *input, const uint32_t *pick, size_t n, const ki_knn_options *options,
                         const kith_allocator *allocator, const kith_run *run, ki_near *near,
                         ki_knn_result *result, kith_error *err)
{
    ki_knn g = {.allocator = allocator,
                .kernels = input->kernels,
                .options = *options,
                .n = n,
                .dim = input->dim,
                .k = options->k + options->spare,
                .run = run,
                .threads = kith_pool_threads(ki_run_pool(run))};
    maker m = {.g = &g, .input = input, .pick = pick, .out = near};
    if (result) *result = (ki_knn_result){0, 0};
    if (n == 0) return KITH_OK;
    g.rows = ki_alloc(allocator, n * g.dim, sizeof *g.rows);
    g.number = ki_alloc(allocator, n, sizeof *g.number);
    g.near = ki_alloc(allocator, n * g.k, sizeof *g.near);
    g.locks = ki_alloc(allocator, n, sizeof *g.locks);
    kith_status status = KITH_OK;
    g.worst = ki_alloc(allocator, n, sizeof *g.worst);
    if (!g.rows || !g.number || !g.near || !g.locks || !g.worst)
        status = ki_fail_nomem(err, n * (g.dim * sizeof *g.rows + g.k * sizeof *g.near));
    if (status == KITH_OK) status = make(&m, result, err);
    ki_free(allocator, g.rows);
    ki_free(allocator, g.number);
    ki_free(allocator, g.near);
    ki_free(allocator, g.locks);
    ki_free(allocator, g.worst);
    return status;
}
