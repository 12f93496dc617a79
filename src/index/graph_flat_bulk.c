/* graph_flat_bulk.c - a new graph of one level out of many rows at once, from their k-NN graph. The essay is in graph_flat.h.
 *
 * Fu et al. 2019, Alg. 2 (NSG), in this order; lines marked || run in parallel, and what they compute does not depend on
 * the number of threads:
 *   || 1. the k-NN graph (line 1: given there)
 *      2. the navigating node: nearest to the mean of all rows (lines 2 to 4)
 *   || 3. for each node: walk towards it through the k-NN graph; what was visited, and its own neighbours, are candidates; links
 *         are chosen among them (lines 5 to 18)
 *   || 4. links back: each node offers itself to those it links to, as the authors' program and DiskANN do; the paper does not
 *         say so
 *      5. the tree (lines 19 to 26) */
#include "index/graph_flat.h"

#include <string.h>

#include "base/error.h"
#include "base/pool.h"
#include "base/run.h"
#include "index/knn_graph.h"

#define BLOCK 64     /* nodes that a thread takes at a time */
#define STEP 16384   /* nodes between two looks at the cancel flag */
#define INCOMING 256 /* links back that a node chooses from at a time */
#define ATTACH_EF 32 /* the walk that finds a place in the tree for a node that no link leads to */

typedef struct bulk_work {
    const ki_flat_bulk *bulk;
    ki_flat *g;
    ki_flat_worker *workers;
    size_t n_workers, k, ef, starts, first; /* first: node of this step */
    uint32_t *knn;                          /* [n][k] */
    uint32_t *in, *from;                    /* links back: those to node i are in[from[i]..from[i + 1]] */
} bulk_work;

/* ---- 1. ---- */

static kith_status make_knn(bulk_work *b, kith_error *err)
{
    const ki_structure_env *env = b->g->base.env;
    size_t n = b->bulk->n;
    ki_knn_options options;
    ki_knn_options_init(&options, b->k, env->metric, env->seed);
    b->knn = ki_alloc(env->allocator, n * b->k, sizeof *b->knn);
    ki_near *near = ki_alloc(env->allocator, n * b->k, sizeof *near);
    kith_status status = b->knn && near ? KITH_OK : ki_fail_nomem(err, n * b->k * sizeof *near);
    if (status == KITH_OK)
        status = ki_knn_graph(b->bulk->input, b->bulk->pick, n, &options, env->allocator, b->bulk->run, near,
                              NULL, err);
    for (size_t i = 0; status == KITH_OK && i < n * b->k; i++) b->knn[i] = near[i].node;
    ki_free(env->allocator, near);
    return status;
}

/* ---- 2. ---- */

static kith_status find_medoid(bulk_work *b, kith_error *err)
{
    const ki_flat_bulk *bulk = b->bulk;
    const ki_structure_env *env = b->g->base.env;
    const ki_kernels *kernels = env->kernels;
    double *sum = ki_alloc_zero(env->allocator, env->dim, sizeof *sum);
    float *mean = ki_alloc(env->allocator, env->dim, sizeof *mean), best = INFINITY, dist[BLOCK];
    ki_scorer *scorer = b->workers[0].query;
    if (!sum || !mean) {
        ki_free(env->allocator, sum);
        ki_free(env->allocator, mean);
        return ki_fail_nomem(err, env->dim * sizeof *sum);
    }
    for (size_t i = 0; i < bulk->n; i++)
        kernels->add_f64(sum, ki_input_block(bulk->input, bulk->pick[i], 1, mean), env->dim);
    for (size_t d = 0; d < env->dim; d++) mean[d] = (float)(sum[d] / (double)bulk->n);
    scorer->ops->query(scorer, mean);
    b->g->entry = 0;
    for (size_t first = 0; first < bulk->n; first += BLOCK) {
        uint32_t node[BLOCK];
        size_t n = bulk->n - first < BLOCK ? bulk->n - first : BLOCK;
        for (size_t i = 0; i < n; i++) node[i] = (uint32_t)(first + i);
        scorer->ops->score(scorer, b->g->nodes.codes.codes, node, n, INFINITY, dist);
        for (size_t i = 0; i < n; i++)
            if (dist[i] < best) {
                best = dist[i];
                b->g->entry = node[i];
            }
    }
    ki_free(env->allocator, sum);
    ki_free(env->allocator, mean);
    return KITH_OK;
}

/* ---- 3. ---- */

/* Candidates of a node: what is in the beam, what was expanded on the way, and neighbours that were not visited. */
static size_t candidates(const bulk_work *b, ki_flat_worker *w, uint32_t node)
{
    const uint32_t *knn = b->knn + node * b->k;
    size_t n = 0, extra = 0, distinct = 0;
    for (size_t i = 0; i < b->k && knn[i] != KI_GRAPH_NONE; i++) {
        w->node[extra] = knn[i];
        extra += (size_t)ki_beam_visit(&w->beam, knn[i]);
    }
    w->query->ops->score(w->query, b->g->nodes.codes.codes, w->node, extra, INFINITY, w->dist);
    for (size_t i = 0; i < extra; i++)
        w->near[n++] = (ki_near){w->dist[i] < INFINITY ? w->dist[i] : INFINITY, w->node[i]};
    for (size_t i = 0; i < w->beam.n; i++)
        w->near[n++] = (ki_near){w->beam.near[i].dist, ki_beam_node(&w->beam, i)};
    for (size_t i = 0; i < w->beam.n_trace; i++)
        w->near[n++] = (ki_near){w->trace[i].dist, w->trace[i].node & ~(UINT32_C(1) << 31)};
    ki_near_sort(w->near, n, NULL);
    for (size_t i = 0; i < n; i++)
        if (w->near[i].node != node && (distinct == 0 || w->near[distinct - 1].node != w->near[i].node))
            w->near[distinct++] = w->near[i];
    return distinct;
}

static void refine_block(void *ctx, size_t block, size_t worker)
{
    bulk_work *b = ctx;
    ki_flat *g = b->g;
    ki_flat_worker *w = &b->workers[worker];
    ki_graph graph = {b->knn, b->k, NULL, 0};
    for (size_t i = b->first + block * BLOCK, end = i + BLOCK; i < b->bulk->n && i < end; i++) {
        uint32_t node = (uint32_t)i;
        ki_nodes_ask(&g->nodes, w->query, node);
        w->beam.trace = w->trace;
        w->beam.trace_room = KI_FLAT_TRACE;
        w->beam.n_trace = 0;
        ki_flat_walk(g, &graph, &w->beam, w->query, b->ef, b->starts, 1 + i, NULL, 0);
        w->beam.trace_room = 0;
        ki_flat_select(g, w, candidates(b, w, node), NULL, g->chosen, 0, ki_flat_row(g, node));
    }
}

/* Run blocks of all nodes, looking at the cancel flag between. */
static kith_status spread(bulk_work *b, const char *stage_name, ki_block_fn fn, kith_error *err)
{
    ki_stage stage;
    size_t n = b->bulk->n;
    ki_stage_begin(&stage, b->bulk->run, stage_name, n);
    for (b->first = 0; b->first < n; b->first += STEP) {
        size_t count = n - b->first < STEP ? n - b->first : STEP;
        KI_TRY(ki_run_check(b->bulk->run, err));
        ki_pool_run(ki_run_pool(b->bulk->run), (count + BLOCK - 1) / BLOCK, fn, b);
        ki_stage_report(&stage, b->first + count);
    }
    return KITH_OK;
}

/* ---- 4. ---- */

/* in[], from[]: who links to each node, ascending. */
static kith_status turn(bulk_work *b, kith_error *err)
{
    const ki_flat *g = b->g;
    const kith_allocator *allocator = g->base.env->allocator;
    size_t n = b->bulk->n, total = 0;
    b->from = ki_alloc_zero(allocator, n + 2, sizeof *b->from);
    if (!b->from) return ki_fail_nomem(err, n * sizeof *b->from);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < g->degree && g->links[i * g->degree + j] != KI_GRAPH_NONE; j++, total++)
            b->from[g->links[i * g->degree + j] + 2]++;
    if (total > UINT32_MAX) return ki_fail(err, KITH_INVALID, "%zu links in a graph", total);
    for (size_t i = 2; i < n + 2; i++) b->from[i] += b->from[i - 1];
    b->in = ki_alloc(allocator, total, sizeof *b->in);
    if (!b->in) return ki_fail_nomem(err, total * sizeof *b->in);
    for (size_t i = 0; i < n; i++) /* from[i + 1] runs from the begin of i's to its end */
        for (size_t j = 0; j < g->degree && g->links[i * g->degree + j] != KI_GRAPH_NONE; j++)
            b->in[b->from[g->links[i * g->degree + j] + 1]++] = (uint32_t)i;
    return KITH_OK;
}

static void link_block(void *ctx, size_t block, size_t worker)
{
    bulk_work *b = ctx;
    ki_flat *g = b->g;
    for (size_t i = b->first + block * BLOCK, end = i + BLOCK; i < b->bulk->n && i < end; i++) {
        uint32_t *links = ki_flat_row(g, (uint32_t)i), fresh[INCOMING];
        for (size_t at = b->from[i]; at < b->from[i + 1];) {
            size_t had = ki_graph_degree(links, g->degree), n = 0;
            for (; at < b->from[i + 1] && n < INCOMING; at++) {
                size_t j = 0;
                while (j < had && links[j] != b->in[at]) j++;
                if (j == had) fresh[n++] = b->in[at];
            }
            if (had + n > g->degree)
                ki_flat_reselect(g, &b->workers[worker], (uint32_t)i, fresh, n);
            else
                memcpy(links + had, fresh, n * sizeof *fresh);
        }
    }
}

/* ---- All of it ---- */

static void copy_nearest(bulk_work *b)
{
    ki_flat *g = b->g;
    size_t k = b->k < g->degree ? b->k : g->degree;
    for (size_t i = 0; i < b->bulk->n; i++)
        memcpy(ki_flat_row(g, (uint32_t)i), b->knn + i * b->k, k * sizeof *b->knn);
}

static kith_status run_all(bulk_work *b, int refined, kith_error *err)
{
    ki_flat *g = b->g;
    const ki_structure_env *env = g->base.env;
    b->n_workers = kith_pool_threads(ki_run_pool(b->bulk->run));
    b->ef = (size_t)env->params[KI_FLAT_EF_CONSTRUCTION];
    b->starts = (size_t)env->params[KI_FLAT_STARTS];
    KI_TRY(ki_flat_workers(g, b->bulk->n, b->ef, b->k + INCOMING, b->n_workers, &b->workers, err));
    KI_TRY(make_knn(b, err));
    KI_TRY(find_medoid(b, err));
    if (refined)
        KI_TRY(spread(b, "refining", refine_block, err));
    else
        copy_nearest(b);
    KI_TRY(turn(b, err));
    return spread(b, "linking", link_block, err);
}

static kith_status make(const ki_flat_bulk *bulk, size_t k, int refined, kith_error *err)
{
    const kith_allocator *allocator = bulk->graph->base.env->allocator;
    bulk_work b = {.bulk = bulk, .g = bulk->graph, .k = k};
    kith_status status = KITH_OK;
    if (b.k > KI_KNN_MAX) b.k = KI_KNN_MAX;
    if (b.k >= bulk->n) b.k = bulk->n - 1;
    if (bulk->n == 1)
        b.g->entry = 0;
    else
        status = run_all(&b, refined, err);
    ki_flat_workers_free(b.g, b.workers, b.n_workers);
    ki_free(allocator, b.knn);
    ki_free(allocator, b.in);
    ki_free(allocator, b.from);
    return status;
}

kith_status ki_flat_bulk_nearest(const ki_flat_bulk *bulk, size_t k, kith_error *err)
{
    return make(bulk, k, 0, err);
}

kith_status ki_flat_bulk_refined(const ki_flat_bulk *bulk, size_t k, kith_error *err)
{
    return make(bulk, k, 1, err);
}

/* ---- 5. ---- */

static void hang(ki_flat *g, uint32_t child, uint32_t parent)
{
    g->own_parent[child] = parent;
    g->children[parent]++;
}

static int in_tree(const ki_flat *g, uint32_t node)
{
    return node == g->entry || g->parent[node] != KI_GRAPH_NONE;
}

/* Along links, as far as they lead and there is room, from queue[*head..*tail]. */
static void spread_tree(ki_flat *g, uint32_t *queue, size_t *head, size_t *tail)
{
    while (*head < *tail) {
        uint32_t node = queue[(*head)++];
        const uint32_t *links = g->links + (size_t)node * g->degree;
        for (size_t i = 0; i < g->degree && links[i] != KI_GRAPH_NONE; i++) {
            if (in_tree(g, links[i]) || g->children[node] == ki_flat_children(g)) continue;
            hang(g, links[i], node);
            queue[(*tail)++] = links[i];
        }
    }
}

/* A node that is in the tree, near one that is not. */
static uint32_t place_for(const ki_flat *g, ki_flat_worker *w, uint32_t node)
{
    ki_graph graph = ki_flat_graph(g);
    ki_nodes_ask(&g->nodes, w->query, node);
    ki_flat_walk(g, &graph, &w->beam, w->query, ATTACH_EF, 1, 0, NULL, 0);
    for (size_t i = 0; i < w->beam.n; i++)
        if (in_tree(g, ki_beam_node(&w->beam, i))) return ki_beam_node(&w->beam, i);
    return g->entry;
}

kith_status ki_flat_grow_tree(const ki_flat_bulk *bulk, kith_error *err)
{
    ki_flat *g = bulk->graph;
    const kith_allocator *allocator = g->base.env->allocator;
    size_t head = 0, tail = 0;
    ki_flat_worker *w = NULL;
    uint32_t *queue = ki_alloc(allocator, bulk->n, sizeof *queue);
    if (!queue) return ki_fail_nomem(err, bulk->n * sizeof *queue);
    kith_status status = ki_flat_workers(g, bulk->n, ATTACH_EF, 0, 1, &w, err);
    if (status == KITH_OK) {
        queue[tail++] = g->entry;
        spread_tree(g, queue, &head, &tail);
        for (size_t i = 0; i < bulk->n; i++) {
            if (in_tree(g, (uint32_t)i)) continue;
            uint32_t parent = ki_flat_roomy(g, place_for(g, w, (uint32_t)i), NULL, 0);
            ki_flat_link(g, w->pair, parent, (uint32_t)i, NULL);
            hang(g, (uint32_t)i, parent);
            queue[tail++] = (uint32_t)i;
            spread_tree(g, queue, &head, &tail);
        }
        ki_flat_workers_free(g, w, 1);
    }
    ki_free(allocator, queue);
    return status;
}
