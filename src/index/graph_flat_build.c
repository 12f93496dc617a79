/* graph_flat_build.c - rows come into a graph of one level: a new graph out of many at once, or batch by batch. The essay
 * is in graph_flat.h.
 *
 * A batch goes through the following steps. Those marked || run in parallel, and what they compute does not depend on
 * the number of threads:
 *      1. encode, find equals, give out numbers
 *   || 2. for each new node: walk towards it in the graph as it was before the batch; what the walk found and the rows of the
 *         batch that came earlier are candidates; links are chosen, the node's own row is written
 *      3. parents, in order
 *      4. the links back, sorted by the node that they start from
 *   || 5. for each such node: append, or select anew */
#include "index/graph_flat.h"

#include <string.h>

#include "base/error.h"
#include "base/pool.h"
#include "base/run.h"
#include "index/graph_back.h"

/* Rows of a batch: few beside the rows that are there, and enough to keep some threads busy. Up to SINGLE rows they come
 * one by one; an empty graph that gets WHOLE rows or more is made at once where the family knows how. */
#define BATCH 256
#define WHOLE 256
#define SINGLE 1024
#define BATCH_SHARE 64

/* Nodes whose links back one thread takes at a time. */
#define GROUP_BLOCK 16

typedef struct builder {
    ki_flat *g;
    size_t ef, starts;
    size_t n; /* new nodes of the batch */
    uint32_t node[BATCH];
    const float *x[BATCH]; /* their rows */
    uint32_t *pick;        /* of a new graph: the row of each node */
    ki_flat_worker *workers;
    size_t n_workers;
    float *block; /* [BATCH][dim] rows scaled */
    uint8_t *code;
    float *factor;
    ki_back back; /* links back waiting to be made */
} builder;

/* ---- Choosing links ---- */

void ki_flat_workers_free(const ki_flat *g, ki_flat_worker *workers, size_t n)
{
    const kith_allocator *allocator = g->base.env->allocator;
    for (size_t i = 0; i < n && workers; i++) {
        ki_flat_worker *w = &workers[i];
        ki_scorer_free(w->query);
        ki_scorer_free(w->pair);
        if (w->beam.allocator || w->beam.near) ki_beam_clear(&w->beam);
        ki_free(allocator, w->near);
        ki_free(allocator, w->trace);
        ki_free(allocator, w->must);
        ki_free(allocator, w->dist);
        ki_free(allocator, w->node);
    }
    ki_free(allocator, workers);
}

static kith_status worker_init(const ki_flat *g, size_t nodes, size_t ef, size_t more, ki_flat_worker *w,
                               kith_error *err)
{
    const ki_structure_env *env = g->base.env;
    ki_beam_init(&w->beam, env->allocator);
    KI_TRY(env->codec->ops->scorer(env->codec, env->allocator, &w->query, err));
    KI_TRY(env->codec->ops->scorer(env->codec, env->allocator, &w->pair, err));
    KI_TRY(ki_beam_reserve(&w->beam, nodes, ef, err));
    w->room = ef + more + KI_FLAT_TRACE + KI_GRAPH_DEGREE;
    w->near = ki_alloc(env->allocator, w->room, sizeof *w->near);
    w->trace = ki_alloc(env->allocator, KI_FLAT_TRACE, sizeof *w->trace);
    w->must = ki_alloc(env->allocator, w->room, sizeof *w->must);
    w->dist = ki_alloc(env->allocator, w->room, sizeof *w->dist);
    w->node = ki_alloc(env->allocator, w->room, sizeof *w->node);
    if (w->near && w->trace && w->must && w->dist && w->node) return KITH_OK;
    return ki_fail_nomem(err, w->room * (sizeof *w->near + sizeof *w->dist + sizeof *w->node));
}

kith_status ki_flat_workers(const ki_flat *g, size_t nodes, size_t ef, size_t more, size_t n,
                            ki_flat_worker **workers, kith_error *err)
{
    kith_status status = KITH_OK;
    *workers = ki_alloc_zero(g->base.env->allocator, n, sizeof **workers);
    if (!*workers) return ki_fail_nomem(err, n * sizeof **workers);
    for (size_t i = 0; i < n && status == KITH_OK; i++)
        status = worker_init(g, nodes, ef, more, &(*workers)[i], err);
    if (status == KITH_OK) return KITH_OK;
    ki_flat_workers_free(g, *workers, n);
    *workers = NULL;
    return status;
}

size_t ki_flat_select(const ki_flat *g, ki_flat_worker *w, size_t n, uint8_t *must, size_t limit, int fill,
                      uint32_t *links)
{
    size_t kept = 0, n_must = 0;
    ki_near_sort(w->near, n, must);
    if (g->kind->diversify) {
        const ki_structure_env *env = g->base.env;
        ki_alpha alpha = ki_alpha_of(env, g->kind->alpha ? env->params[g->kind->alpha] : 1);
        ki_prune prune = {w->pair, g->nodes.codes.codes, limit, alpha, fill};
        kept = ki_prune_select(&prune, w->near, n, must, links);
    } else {
        for (size_t i = 0; must && i < n; i++) n_must += must[i];
        for (size_t i = 0; i < n && kept < limit; i++) {
            int needed = must && must[i];
            if (!needed && kept + n_must == limit) continue;
            links[kept++] = w->near[i].node;
            n_must -= (size_t)needed;
        }
    }
    for (size_t i = kept; i < g->degree; i++) links[i] = KI_GRAPH_NONE;
    return kept;
}

void ki_flat_reselect(ki_flat *g, ki_flat_worker *w, uint32_t node, const uint32_t *fresh, size_t n_fresh)
{
    uint32_t *links = ki_flat_row(g, node);
    size_t n = ki_graph_degree(links, g->degree);
    memcpy(w->node, links, n * sizeof *links);
    memcpy(w->node + n, fresh, n_fresh * sizeof *fresh);
    n += n_fresh;
    ki_nodes_ask(&g->nodes, w->query, node);
    w->query->ops->score(w->query, g->nodes.codes.codes, w->node, n, INFINITY, w->dist);
    for (size_t i = 0; i < n; i++) {
        w->near[i] = (ki_near){w->dist[i] < INFINITY ? w->dist[i] : INFINITY, w->node[i]};
        w->must[i] = g->parent[w->node[i]] == node;
    }
    ki_flat_select(g, w, n, w->must, g->degree, 0, links);
}

/* ---- Memory ---- */

static void builder_clear(builder *b)
{
    const kith_allocator *allocator = b->g->base.env->allocator;
    ki_flat_workers_free(b->g, b->workers, b->n_workers);
    ki_free(allocator, b->block);
    ki_free(allocator, b->code);
    ki_free(allocator, b->factor);
    ki_free(allocator, b->pick);
    ki_back_clear(&b->back, allocator);
}

static kith_status builder_init(builder *b, const kith_run *run, size_t rows, kith_error *err)
{
    const ki_flat *g = b->g;
    const ki_structure_env *env = g->base.env;
    const ki_codec *codec = env->codec;
    b->n_workers = rows > 1 && g->nodes.n + rows > SINGLE ? kith_pool_threads(ki_run_pool(run)) : 1;
    b->ef = (size_t)env->params[KI_FLAT_EF_CONSTRUCTION];
    if (b->ef < g->chosen) b->ef = g->chosen;
    b->starts = (size_t)env->params[KI_FLAT_STARTS];
    b->block = ki_alloc(env->allocator, env->unit ? BATCH * env->dim : 1, sizeof *b->block);
    b->code = ki_alloc(env->allocator, BATCH, codec->code_size);
    b->factor = ki_alloc(env->allocator, BATCH * codec->n_factors, sizeof *b->factor);
    if (!b->block || !b->code || !b->factor)
        return ki_fail_nomem(err, BATCH * (codec->code_size + env->dim * sizeof *b->block));
    KI_TRY(ki_back_reserve(&b->back, BATCH * (g->chosen + 1), env->allocator, err));
    size_t n = b->n_workers;
    b->n_workers = 0;
    KI_TRY(ki_flat_workers(g, g->room, b->ef, BATCH, n, &b->workers, err));
    b->n_workers = n;
    return KITH_OK;
}

static kith_status reserve(ki_flat *g, size_t rows, size_t n_slots, kith_error *err)
{
    const kith_allocator *allocator = g->base.env->allocator;
    KI_TRY(ki_nodes_reserve(&g->nodes, rows, n_slots, err));
    size_t need = ki_nodes_need(&g->nodes, rows), n = g->nodes.n;
    if (need <= g->room) return KITH_OK;
    size_t room = g->room == 0 ? need : ki_grown(g->room, need);
    KI_TRY(ki_graph_grow(allocator, &g->own_links, &g->links, n, room, g->degree, err));
    KI_TRY(ki_graph_grow(allocator, &g->own_parent, &g->parent, n, room, 1, err));
    uint16_t *children = ki_realloc(allocator, g->children, n, room, sizeof *children);
    if (!children) return ki_fail_nomem(err, room * sizeof *children);
    g->children = children;
    g->room = room;
    return KITH_OK;
}

/* ---- 1. New nodes ---- */

/* Take rows first.. of the input in: equal ones join their nodes, the others become new ones. *taken: rows that have a
 * node now, also on failure. */
static kith_status number_rows(builder *b, const ki_input *input, size_t first, size_t n,
                               const uint32_t *slots, uint32_t first_slot, size_t *taken, const kith_run *run,
                               kith_error *err)
{
    ki_flat *g = b->g;
    const ki_codec *codec = g->base.env->codec;
    const float *x = ki_input_block(input, first, n, b->block);
    KI_TRY(codec->ops->encode(codec, x, n, (ki_origins){0}, run, b->code, b->factor, err));
    b->n = 0;
    for (size_t i = 0; i < n; i++, ++*taken) {
        uint32_t slot = slots ? slots[first + i] : first_slot + (uint32_t)(first + i), node;
        int fresh;
        KI_TRY(ki_nodes_take(&g->nodes, b->code + i * codec->code_size, b->factor + i * codec->n_factors,
                             slot, &node, &fresh, err));
        if (!fresh) continue;
        memset(ki_flat_row(g, node), 0xff, g->degree * sizeof(uint32_t));
        g->own_parent[node] = KI_GRAPH_NONE;
        g->children[node] = 0;
        if (b->pick) b->pick[node] = (uint32_t)(first + i);
        b->node[b->n] = node;
        b->x[b->n++] = x + i * input->dim;
    }
    return KITH_OK;
}

/* ---- 2. Walking and choosing ---- */

static void connect(builder *b, size_t i, ki_flat_worker *w)
{
    ki_flat *g = b->g;
    ki_codes codes = g->nodes.codes.codes;
    size_t n = 0;
    w->query->ops->query(w->query, b->x[i]);
    if (g->entry != KI_GRAPH_NONE) {
        ki_graph graph = ki_flat_graph(g);
        ki_flat_walk(g, &graph, &w->beam, w->query, b->ef, b->starts, 0, NULL, 0);
        for (; n < w->beam.n; n++) w->near[n] = (ki_near){w->beam.near[n].dist, ki_beam_node(&w->beam, n)};
    }
    w->query->ops->score(w->query, codes, b->node, i, INFINITY, w->dist);
    for (size_t j = 0; j < i; j++)
        w->near[n++] = (ki_near){w->dist[j] < INFINITY ? w->dist[j] : INFINITY, b->node[j]};
    ki_flat_select(g, w, n, NULL, g->chosen, 1, ki_flat_row(g, b->node[i]));
}

static void connect_block(void *ctx, size_t block, size_t worker)
{
    builder *b = ctx;
    connect(b, block, &b->workers[worker]);
}

/* ---- 3. Parents ---- */

uint32_t ki_flat_roomy(const ki_flat *g, uint32_t node, const uint32_t *fresh, size_t n)
{
    ki_graph graph = ki_flat_graph(g);
    ki_graph_tree tree = {g->parent, g->children, ki_flat_children(g)};
    return ki_graph_roomy(&graph, &tree, node, fresh, n);
}

/* The nearest neighbour that has room for a child; where none has, a node below the nearest. A new node has no child,
 * so no cycle can come of it. */
static void adopt(ki_flat *g, const uint32_t *fresh, size_t number)
{
    uint32_t node = fresh[number];
    uint32_t *links = ki_flat_row(g, node);
    size_t n = ki_graph_degree(links, g->degree), i = 0;
    if (n == 0) { /* the first of all */
        g->entry = node;
        return;
    }
    while (i < n && g->children[links[i]] >= ki_flat_children(g)) i++;
    uint32_t parent;
    if (i < n) {
        parent = links[i];
    } else {
        parent = ki_flat_roomy(g, links[0], fresh, number);
        links[n < g->degree ? n : n - 1] = parent;
    }
    g->own_parent[node] = parent;
    g->children[parent]++;
}

void ki_flat_link(ki_flat *g, ki_scorer *scorer, uint32_t from, uint32_t to, const uint64_t *gone)
{
    uint32_t *links = ki_flat_row(g, from);
    size_t n = 0, worst = g->degree;
    while (n < g->degree && links[n] != KI_GRAPH_NONE && links[n] != to) n++;
    if (n < g->degree) {
        links[n] = to;
        return;
    }
    float dist[KI_GRAPH_DEGREE];
    ki_nodes_ask(&g->nodes, scorer, from);
    scorer->ops->score(scorer, g->nodes.codes.codes, links, n, INFINITY, dist);
    for (size_t i = 0; i < n; i++) {
        if (g->parent[links[i]] == from) continue;
        if (!(dist[i] < INFINITY) || (gone && gone[links[i] / 64] >> (links[i] % 64) & 1)) dist[i] = INFINITY;
        if (worst == g->degree || dist[i] > dist[worst]) worst = i;
    }
    links[worst] = to; /* there is one: children are half of them at most */
}

/* ---- 4. and 5. Links back ---- */

static void collect_back(builder *b)
{
    ki_flat *g = b->g;
    b->back.n = 0;
    for (size_t i = 0; i < b->n; i++)
        ki_back_add(&b->back, 0, ki_flat_row(g, b->node[i]), g->degree, b->node[i]);
    ki_back_sort(&b->back);
}

static void link_back(builder *b, size_t group, ki_flat_worker *w)
{
    ki_flat *g = b->g;
    size_t n, fresh = 0;
    const uint64_t *pairs = ki_back_group(&b->back, group, &n);
    uint32_t node = ki_back_node(pairs[0]), from[BATCH];
    uint32_t *links = ki_flat_row(g, node);
    size_t had = ki_graph_degree(links, g->degree);
    for (size_t i = 0; i < n; i++) { /* two rows of a batch may have chosen each other */
        uint32_t source = ki_back_source(&b->back, pairs[i]);
        size_t j = 0;
        while (j < had && links[j] != source) j++;
        if (j == had) from[fresh++] = source;
    }
    if (had + fresh > g->degree)
        ki_flat_reselect(g, w, node, from, fresh);
    else
        memcpy(links + had, from, fresh * sizeof *from);
}

static void link_block(void *ctx, size_t block, size_t worker)
{
    builder *b = ctx;
    size_t end = (block + 1) * GROUP_BLOCK;
    for (size_t i = block * GROUP_BLOCK; i < end && i < b->back.n_groups; i++)
        link_back(b, i, &b->workers[worker]);
}

/* ---- All of it ---- */

/* Work on all threads where there is more than one worker. */
static void spread(builder *b, kith_pool *pool, size_t n, ki_block_fn fn)
{
    ki_pool_run(b->n_workers > 1 ? pool : NULL, n, fn, b);
}

static void link_batch(builder *b, kith_pool *pool)
{
    ki_flat *g = b->g;
    if (b->n == 0) return; /* all were equal to others */
    spread(b, pool, b->n, connect_block);
    for (size_t i = 0; i < b->n; i++) adopt(g, b->node, i);
    collect_back(b);
    spread(b, pool, (b->back.n_groups + GROUP_BLOCK - 1) / GROUP_BLOCK, link_block);
}

static size_t batch_size(const ki_flat *g)
{
    if (g->nodes.n_used < SINGLE) return 1;
    size_t share = g->nodes.n_used / BATCH_SHARE;
    return share < BATCH ? share : BATCH;
}

/* A new graph of all rows. */
static kith_status make(builder *b, const ki_input *input, const uint32_t *slots, uint32_t first_slot,
                        size_t *done, const kith_run *run, kith_error *err)
{
    ki_flat *g = b->g;
    b->pick = ki_alloc(g->base.env->allocator, input->n, sizeof *b->pick);
    if (!b->pick) return ki_fail_nomem(err, input->n * sizeof *b->pick);
    while (*done < input->n) {
        size_t n = input->n - *done < BATCH ? input->n - *done : BATCH;
        KI_TRY(ki_run_check(run, err));
        KI_TRY(number_rows(b, input, *done, n, slots, first_slot, done, run, err));
    }
    ki_flat_bulk bulk = {g, input, b->pick, g->nodes.n, run};
    KI_TRY(g->kind->bulk(&bulk, err));
    return ki_flat_grow_tree(&bulk, err);
}

static kith_status add_batches(builder *b, const ki_input *input, const uint32_t *slots, uint32_t first_slot,
                               size_t *done, const kith_run *run, kith_error *err)
{
    ki_stage stage;
    ki_stage_begin(&stage, run, "linking", input->n);
    while (*done < input->n) {
        size_t n = input->n - *done, size = batch_size(b->g);
        if (n > size) n = size;
        KI_TRY(ki_run_check(run, err));
        KI_TRY(number_rows(b, input, *done, n, slots, first_slot, done, run, err));
        link_batch(b, ki_run_pool(run));
        ki_stage_report(&stage, *done);
    }
    return KITH_OK;
}

kith_status ki_flat_add(ki_structure *structure, const ki_input *input, const uint32_t *slots,
                        uint32_t first_slot, size_t n_slots, const kith_run *run, kith_error *err)
{
    ki_flat *g = (ki_flat *)structure;
    builder b = {.g = g};
    size_t done = 0, had = g->nodes.n_slots;
    int whole = g->nodes.n_used == 0 && input->n >= WHOLE && g->kind->bulk;
    kith_status status = reserve(g, input->n, n_slots, err);
    if (status == KITH_OK) status = builder_init(&b, run, input->n, err);
    if (status == KITH_OK) status = ki_flat_prepare_remove(structure, NULL, err); /* for the way back */
    if (status == KITH_OK)
        status = whole ? make(&b, input, slots, first_slot, &done, run, err)
                       : add_batches(&b, input, slots, first_slot, &done, run, err);
    if (status != KITH_OK && g->remover) { /* all rows or none */
        ki_flat_drop(g, slots, first_slot, done);
        ki_nodes_forget_slots(&g->nodes, had);
    }
    ki_flat_remover_free(g);
    builder_clear(&b);
    return status;
}
