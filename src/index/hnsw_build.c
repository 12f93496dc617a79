/* hnsw_build.c - rows come into the graph: batch by batch, the searches of a batch on all threads. The essay is in hnsw.c.
 *
 * A batch goes through the following steps. Those marked || run in parallel, and what they compute does not depend on
 * the number of threads:
 *      1. encode, find equals, give out numbers
 *   || 2. for each new node: search its neighbours in the graph as it was before the batch, add those of the batch that
 *         came earlier, select (Alg. 1 lines 4 to 11, Alg. 4); the node's own rows of links are written
 *      3. parents, in order
 *      4. the links back, sorted by the node that they start from
 *   || 5. for each such node: append, or select anew (Alg. 1 lines 12 to 16)
 *      6. the entry point */
#include "index/hnsw_internal.h"

#include <string.h>

#include "base/error.h"
#include "base/pool.h"
#include "base/run.h"
#include "index/graph_back.h"
#include "index/graph_draft.h"

/* Rows of a batch: few beside the rows that are there, and enough to keep some threads busy. Up to SINGLE rows they come
 * one by one, so that small indexes do not depend on how the calls are cut. */
#define BATCH 256
#define SINGLE 1024
#define BATCH_SHARE 64

/* Nodes whose links back one thread takes at a time. */
#define GROUP_BLOCK 16

/* With extend_candidates this many times ef_construction candidates are kept. */
#define EXTENDED 4

typedef struct build_worker {
    ki_scorer *query, *pair; /* of the new row; of stored rows among themselves */
    ki_beam beam, wide;      /* wide: with extend_candidates only */
    ki_near *near;           /* [room] candidates */
    uint8_t *must;           /* [room] */
    float *dist;             /* [room] */
    uint32_t *node;          /* [room] */
    size_t room;
} build_worker;

typedef struct builder {
    ki_hnsw *h;
    size_t ef;
    int keep_pruned, extend;
    ki_alpha alpha;
    ki_draft draft;
    const ki_codec *codec; /* what rows are compared by, the draft or the index's own, and ... */
    ki_codes codes;        /* ... its codes by node */
    size_t n;              /* new nodes of the batch */
    uint32_t node[BATCH];
    const float *x[BATCH]; /* their rows */
    int level[BATCH];
    build_worker *workers;
    size_t n_workers;
    float *block; /* [BATCH][dim] rows scaled */
    uint8_t *code;
    float *factor;
    ki_back back; /* links back waiting to be made */
} builder;

/* ---- Memory ---- */

static void worker_clear(const kith_allocator *allocator, build_worker *w)
{
    ki_scorer_free(w->query);
    ki_scorer_free(w->pair);
    ki_beam_clear(&w->beam);
    ki_beam_clear(&w->wide);
    ki_free(allocator, w->near);
    ki_free(allocator, w->must);
    ki_free(allocator, w->dist);
    ki_free(allocator, w->node);
}

static kith_status worker_init(const builder *b, build_worker *w, kith_error *err)
{
    const ki_structure_env *env = b->h->base.env;
    const ki_codec *codec = b->codec;
    size_t nodes = b->h->nodes.room;
    ki_beam_init(&w->beam, env->allocator);
    ki_beam_init(&w->wide, env->allocator);
    KI_TRY(codec->ops->scorer(codec, env->allocator, &w->query, err));
    KI_TRY(codec->ops->scorer(codec, env->allocator, &w->pair, err));
    KI_TRY(ki_beam_reserve(&w->beam, nodes, b->ef, err));
    if (b->extend) KI_TRY(ki_beam_reserve(&w->wide, nodes, EXTENDED * b->ef, err));
    w->room = (b->extend ? EXTENDED : 1) * b->ef + BATCH + KI_GRAPH_DEGREE;
    w->near = ki_alloc(env->allocator, w->room, sizeof *w->near);
    w->must = ki_alloc(env->allocator, w->room, sizeof *w->must);
    w->dist = ki_alloc(env->allocator, w->room, sizeof *w->dist);
    w->node = ki_alloc(env->allocator, w->room, sizeof *w->node);
    if (w->near && w->must && w->dist && w->node) return KITH_OK;
    return ki_fail_nomem(err, w->room * (sizeof *w->near + sizeof *w->dist + sizeof *w->node));
}

static void builder_clear(builder *b)
{
    const kith_allocator *allocator = b->h->base.env->allocator;
    for (size_t i = 0; i < b->n_workers; i++) worker_clear(allocator, &b->workers[i]);
    ki_free(allocator, b->workers);
    ki_free(allocator, b->block);
    ki_free(allocator, b->code);
    ki_free(allocator, b->factor);
    ki_back_clear(&b->back, allocator);
    ki_draft_clear(&b->draft);
}

/* Encode rows first.. of the input, which are x where they are floats, into b->code from row `at` on. */
static kith_status encode(builder *b, const ki_input *input, size_t first, size_t n, const float *x,
                          size_t at, const kith_run *run, kith_error *err)
{
    const ki_codec *codec = b->h->base.env->codec;
    uint8_t *code = b->code + at * codec->code_size;
    if (x)
        return codec->ops->encode(codec, x, n, (ki_origins){0}, run, code, b->factor + at * codec->n_factors,
                                  err);
    codec->ops->encode_bits(codec, input->bits + first * kith_bit_bytes(input->dim), n, code);
    return KITH_OK;
}

/* Encode all rows of a call before any is in: where searches run beside it nothing may fail later. */
static kith_status encode_ahead(builder *b, const ki_input *input, const kith_run *run, kith_error *err)
{
    for (size_t first = 0; first < input->n; first += BATCH) {
        size_t n = input->n - first < BATCH ? input->n - first : BATCH;
        const float *x = input->x ? ki_input_block(input, first, n, b->block) : NULL;
        KI_TRY(encode(b, input, first, n, x, first, run, err));
    }
    return KITH_OK;
}

static kith_status builder_init(builder *b, const ki_input *input, const kith_run *run, kith_error *err)
{
    const ki_hnsw *h = b->h;
    const ki_structure_env *env = h->base.env;
    size_t rows = input->n;
    const ki_codec *codec = env->codec;
    size_t threads = rows > 1 && h->nodes.n + rows > SINGLE ? kith_pool_threads(ki_run_pool(run)) : 1;
    b->ef = (size_t)env->params[KI_HNSW_EF_CONSTRUCTION];
    if (b->ef < b->h->m) b->ef = b->h->m;
    b->keep_pruned = env->params[KI_HNSW_KEEP_PRUNED] != 0;
    b->extend = env->params[KI_HNSW_EXTEND] != 0;
    b->alpha = ki_alpha_of(env, env->params[KI_HNSW_ALPHA]);
    b->block = ki_alloc(env->allocator, env->unit ? BATCH * env->dim : 1, sizeof *b->block);
    size_t encoded = h->shared && rows > BATCH ? rows : BATCH;
    b->code = ki_alloc(env->allocator, encoded, codec->code_size);
    b->factor = ki_alloc(env->allocator, encoded * codec->n_factors, sizeof *b->factor);
    b->workers = ki_alloc_zero(env->allocator, threads, sizeof *b->workers);
    if (!b->block || !b->code || !b->factor || !b->workers)
        return ki_fail_nomem(err, BATCH * (codec->code_size + env->dim * sizeof *b->block));
    if (h->shared) {
        size_t n = rows < BATCH ? rows : BATCH;
        KI_TRY(ki_back_reserve(&b->back, n * (h->m + 1 + KI_HNSW_MAX_LEVEL * h->m), env->allocator, err));
        KI_TRY(encode_ahead(b, input, run, err));
    }
    KI_TRY(ki_draft_make(&b->draft, env, input, h->nodes.codes.codes, h->nodes.n, h->nodes.room, run, err));
    b->codec = b->draft.codec ? b->draft.codec : codec;
    b->codes = b->draft.codec ? b->draft.codes.codes : h->nodes.codes.codes;
    while (b->n_workers < threads) KI_TRY(worker_init(b, &b->workers[b->n_workers++], err));
    return KITH_OK;
}

/* Room for `rows` more rows, slots below n_slots. */
static kith_status reserve(ki_hnsw *h, size_t rows, size_t n_slots, kith_error *err)
{
    const kith_allocator *allocator = h->base.env->allocator;
    KI_TRY(ki_nodes_reserve(&h->nodes, rows, n_slots, err));
    size_t need = ki_nodes_need(&h->nodes, rows), n = h->nodes.n;
    if (need > h->room) {
        size_t room = h->room == 0 ? need : ki_grown(h->room, need);
        KI_TRY(ki_graph_grow(allocator, &h->own_links, &h->links, n, room, 2 * h->m, err));
        KI_TRY(ki_graph_grow(allocator, &h->own_parent, &h->parent, n, room, 1, err));
        KI_TRY(ki_graph_grow(allocator, &h->upper_row, NULL, n, room, 1, err));
        uint16_t *children = ki_realloc(allocator, h->children, n, room, sizeof *children);
        if (!children) return ki_fail_nomem(err, room * sizeof *children);
        h->children = children;
        h->room = room;
    }
    size_t upper = h->n_upper;
    for (size_t i = n; i < need; i++) upper += (size_t)ki_hnsw_level(h, (uint32_t)i);
    if (upper <= h->upper_room) return KITH_OK;
    size_t room = h->upper_room == 0 ? upper : ki_grown(h->upper_room, upper);
    KI_TRY(ki_graph_grow(allocator, &h->own_upper, &h->upper, h->n_upper, room, h->m, err));
    h->upper_room = room;
    return KITH_OK;
}

/* ---- 1. New nodes ---- */

/* A new node has no links yet. n: how many numbers there were before. */
static void begin_node(ki_hnsw *h, uint32_t node, size_t n)
{
    if (node == n) {
        h->upper_row[node] = (uint32_t)h->n_upper;
        h->n_upper += (size_t)ki_hnsw_level(h, node);
    }
    for (int level = ki_hnsw_level(h, node); level >= 0; level--)
        memset(ki_hnsw_row(h, node, level), 0xff, ki_hnsw_degree(h, level) * sizeof(uint32_t));
    h->own_parent[node] = KI_GRAPH_NONE;
    h->children[node] = 0;
}

/* Take rows first.. of the input in: equal ones join their nodes, the others become new ones. *taken: rows that have a
 * node now, also on failure. */
static kith_status number_rows(builder *b, const ki_input *input, size_t first, size_t n,
                               const uint32_t *slots, uint32_t first_slot, size_t *taken, const kith_run *run,
                               kith_error *err)
{
    ki_hnsw *h = b->h;
    const ki_codec *codec = h->base.env->codec;
    const float *x = input->x ? ki_input_block(input, first, n, b->block) : NULL;
    size_t at = h->shared ? first : 0; /* in b->code */
    if (!h->shared) KI_TRY(encode(b, input, first, n, x, 0, run, err));
    if (b->draft.codec) KI_TRY(ki_draft_encode(&b->draft, x, n, run, err));
    b->n = 0;
    for (size_t i = 0; i < n; i++, ++*taken) {
        uint32_t slot = slots ? slots[first + i] : first_slot + (uint32_t)(first + i), node;
        size_t had = h->nodes.n;
        int fresh;
        KI_TRY(ki_nodes_take(&h->nodes, b->code + (at + i) * codec->code_size,
                             b->factor + (at + i) * codec->n_factors, slot, &node, &fresh, err));
        if (!fresh) continue;
        begin_node(h, node, had); /* before the first link leads to it */
        if (b->draft.codec) ki_draft_put(&b->draft, i, node);
        b->node[b->n] = node;
        b->level[b->n] = ki_hnsw_level(h, node);
        b->x[b->n++] = x ? x + i * input->dim : NULL;
    }
    return KITH_OK;
}

/* ---- 2. Searching and selecting ---- */

/* The scorer's query becomes a node, as it is built by. */
static void ask(const builder *b, ki_scorer *scorer, uint32_t node)
{
    scorer->ops->row(scorer, b->codes.code + node * b->codec->code_size,
                     b->codes.factor ? b->codes.factor + node * b->codec->n_factors : NULL, NULL);
}

/* extend_candidates (Alg. 4, lines 3 to 7): the neighbours of the candidates become candidates. */
static void extend(const builder *b, build_worker *w, const ki_graph *graph)
{
    ki_beam_start(&w->wide, EXTENDED * b->ef);
    for (size_t i = 0; i < w->beam.n; i++) {
        (void)ki_beam_visit(&w->wide, ki_beam_node(&w->beam, i));
        ki_beam_offer(&w->wide, w->beam.near[i].dist, ki_beam_node(&w->beam, i));
    }
    for (size_t i = 0; i < w->beam.n; i++) {
        const uint32_t *links = ki_graph_links(graph, ki_beam_node(&w->beam, i));
        size_t n = 0;
        for (size_t j = 0; j < graph->degree && links[j] != KI_GRAPH_NONE; j++) {
            w->node[n] = links[j];
            n += (size_t)ki_beam_visit(&w->wide, links[j]);
        }
        w->query->ops->score(w->query, b->codes, w->node, n, INFINITY, w->dist);
        for (size_t j = 0; j < n; j++) ki_beam_offer(&w->wide, w->dist[j], w->node[j]);
    }
}

/* The links of new node i at a level from what the beam holds and from the batch. batch_dist[i]: to those before it. */
static void select_links(const builder *b, build_worker *w, size_t i, int level, ki_beam *beam,
                         const float *batch_dist)
{
    ki_hnsw *h = b->h;
    for (size_t j = 0; j < i; j++)
        if (b->level[j] >= level) ki_beam_offer(beam, batch_dist[j], b->node[j]);
    for (size_t j = 0; j < beam->n; j++) w->near[j] = (ki_near){beam->near[j].dist, ki_beam_node(beam, j)};
    ki_prune prune = {w->pair, b->codes, h->m, b->alpha, b->keep_pruned};
    ki_prune_select(&prune, w->near, beam->n, NULL, ki_hnsw_row(h, b->node[i], level));
}

static void connect(builder *b, size_t i, build_worker *w)
{
    const ki_hnsw *h = b->h;
    float batch_dist[BATCH], dist = INFINITY;
    uint32_t at = h->entry;
    if (b->x[i])
        w->query->ops->query(w->query, b->x[i]);
    else /* bits are their own codes */
        ask(b, w->query, b->node[i]);
    w->query->ops->score(w->query, b->codes, b->node, i, INFINITY, batch_dist);
    if (h->top >= 0) w->query->ops->score(w->query, b->codes, &at, 1, INFINITY, &dist);
    if (!(dist < INFINITY)) dist = INFINITY;
    for (int level = h->top; level > b->level[i]; level--) {
        ki_graph graph = ki_hnsw_graph(h, level);
        (void)ki_graph_descend(&graph, w->query, b->codes, &at, &dist);
    }
    for (int level = b->level[i]; level >= 0; level--) {
        ki_beam *beam = &w->beam;
        ki_beam_start(&w->beam, b->ef);
        if (level <= h->top) {
            ki_graph graph = ki_hnsw_graph(h, level);
            (void)ki_beam_visit(&w->beam, at);
            ki_beam_offer(&w->beam, dist, at);
            ki_beam_walk(&w->beam, &graph, w->query, b->codes, NULL);
            at = ki_beam_node(&w->beam, 0);
            dist = w->beam.near[0].dist;
            if (b->extend) {
                extend(b, w, &graph);
                beam = &w->wide;
            }
        }
        select_links(b, w, i, level, beam, batch_dist);
    }
}

static void connect_block(void *ctx, size_t block, size_t worker)
{
    builder *b = ctx;
    connect(b, block, &b->workers[worker]);
}

/* ---- 3. Parents ---- */

uint32_t ki_hnsw_roomy(const ki_hnsw *h, uint32_t node, const uint32_t *fresh, size_t n_fresh)
{
    ki_graph graph = ki_hnsw_graph(h, 0);
    ki_graph_tree tree = {h->parent, h->children, ki_hnsw_children(h)};
    return ki_graph_roomy(&graph, &tree, node, fresh, n_fresh);
}

/* The nearest neighbour that has room for a child; where none has, a node below the nearest. A new node has no child,
 * so no cycle can come of it. */
static void adopt(ki_hnsw *h, const uint32_t *fresh, size_t number)
{
    uint32_t node = fresh[number];
    uint32_t *links = ki_hnsw_row(h, node, 0);
    size_t n = ki_graph_degree(links, 2 * h->m), i = 0;
    if (n == 0) return; /* the first of all: the root */
    while (i < n && h->children[links[i]] >= ki_hnsw_children(h)) i++;
    uint32_t parent;
    if (i < n) {
        parent = links[i];
    } else {
        parent = ki_hnsw_roomy(h, links[0], fresh, number);
        links[n] = parent; /* n <= m: there is room */
    }
    h->own_parent[node] = parent;
    h->children[parent]++;
}

/* ---- 4. and 5. Links back ---- */

/* Links back of the batch at most. */
static size_t links_back(const builder *b)
{
    size_t need = 0;
    for (size_t i = 0; i < b->n; i++) need += (b->h->m + 1) + (size_t)b->level[i] * b->h->m;
    return need;
}

static void collect_back(builder *b)
{
    ki_hnsw *h = b->h;
    b->back.n = 0;
    for (size_t i = 0; i < b->n; i++)
        for (int level = b->level[i]; level >= 0; level--)
            ki_back_add(&b->back, level, ki_hnsw_row(h, b->node[i], level), ki_hnsw_degree(h, level),
                        b->node[i]);
    ki_back_sort(&b->back);
}

/* New links of a node that has no room for them: the best of old and new ones. Edges of the tree stay. */
static void reselect(const builder *b, build_worker *w, uint32_t node, int level, uint32_t *links, size_t n,
                     const uint64_t *pairs, size_t n_pairs)
{
    ki_hnsw *h = b->h;
    memcpy(w->node, links, n * sizeof *links);
    for (size_t i = 0; i < n_pairs; i++) w->node[n++] = ki_back_source(&b->back, pairs[i]);
    ask(b, w->query, node);
    w->query->ops->score(w->query, b->codes, w->node, n, INFINITY, w->dist);
    for (size_t i = 0; i < n; i++) {
        w->near[i] = (ki_near){w->dist[i] < INFINITY ? w->dist[i] : INFINITY, w->node[i]};
        w->must[i] = level == 0 && (h->parent[w->node[i]] == node || h->parent[node] == w->node[i]);
    }
    ki_near_sort(w->near, n, w->must);
    ki_prune prune = {w->pair, b->codes, ki_hnsw_degree(h, level), b->alpha, b->keep_pruned};
    uint32_t selected[KI_GRAPH_DEGREE];
    ki_prune_select(&prune, w->near, n, w->must, selected);
    for (size_t i = 0; i < prune.limit; i++) ki_graph_store(&links[i], selected[i]);
}

static void link_back(builder *b, size_t group, build_worker *w)
{
    ki_hnsw *h = b->h;
    size_t n_pairs;
    const uint64_t *pairs = ki_back_group(&b->back, group, &n_pairs);
    int level = ki_back_level(pairs[0]);
    uint32_t node = ki_back_node(pairs[0]);
    uint32_t *links = ki_hnsw_row(h, node, level);
    size_t degree = ki_hnsw_degree(h, level), n = ki_graph_degree(links, degree);
    if (n + n_pairs > degree) {
        reselect(b, w, node, level, links, n, pairs, n_pairs);
        return;
    }
    for (size_t i = 0; i < n_pairs; i++) ki_graph_store(&links[n + i], ki_back_source(&b->back, pairs[i]));
}

static void link_block(void *ctx, size_t block, size_t worker)
{
    builder *b = ctx;
    size_t end = (block + 1) * GROUP_BLOCK;
    for (size_t g = block * GROUP_BLOCK; g < end && g < b->back.n_groups; g++)
        link_back(b, g, &b->workers[worker]);
}

/* ---- All of it ---- */

/* Work on all threads where there is more than one worker. */
static void spread(const builder *b, kith_pool *pool, size_t n, ki_block_fn fn)
{
    ki_pool_run(b->n_workers > 1 ? pool : NULL, n, fn, (void *)(uintptr_t)b);
}

static void link_batch(builder *b, kith_pool *pool)
{
    ki_hnsw *h = b->h;
    if (b->n == 0) return; /* all were equal to others */
    spread(b, pool, b->n, connect_block);
    for (size_t i = 0; i < b->n; i++) adopt(h, b->node, i);
    collect_back(b);
    spread(b, pool, (b->back.n_groups + GROUP_BLOCK - 1) / GROUP_BLOCK, link_block);
    for (size_t i = 0; i < b->n; i++)
        if (b->level[i] > h->top) {
            h->top = b->level[i];
            h->entry = b->node[i];
        }
}

static size_t batch_size(const ki_hnsw *h)
{
    if (h->nodes.n_used < SINGLE) return 1;
    size_t share = h->nodes.n_used / BATCH_SHARE;
    return share < BATCH ? share : BATCH;
}

kith_status ki_hnsw_reserve(ki_structure *structure, size_t rows, size_t n_slots, kith_error *err)
{
    ki_hnsw *h = (ki_hnsw *)structure;
    size_t had = h->nodes.n_slots, used = h->nodes.n_used;
    KI_TRY(reserve(h, rows > used ? rows - used : 0, n_slots, err));
    ki_nodes_forget_slots(&h->nodes, had);
    KI_TRY(ki_nodes_reserve_rings(&h->nodes, err));
    h->shared = 1;
    return KITH_OK;
}

kith_status ki_hnsw_add(ki_structure *structure, const ki_input *input, const uint32_t *slots,
                        uint32_t first_slot, size_t n_slots, const kith_run *run, kith_error *err)
{
    ki_hnsw *h = (ki_hnsw *)structure;
    builder b = {.h = h};
    ki_draft_init(&b.draft, structure->env->allocator);
    size_t done = 0, had = h->nodes.n_slots;
    kith_run calm;
    if (h->shared && run) { /* rows that searches may have met are not taken out again */
        KI_TRY(ki_run_check(run, err));
        calm = *run;
        calm.cancel = NULL;
        run = &calm;
    }
    ki_stage stage;
    kith_status status = reserve(h, input->n, n_slots, err);
    if (status == KITH_OK) status = builder_init(&b, input, run, err);
    if (status == KITH_OK) status = ki_hnsw_prepare_remove(structure, NULL, err); /* for the way back */
    ki_stage_begin(&stage, run, "linking", input->n);
    while (status == KITH_OK && done < input->n) {
        size_t n = input->n - done, size = batch_size(h);
        if (n > size) n = size;
        status = ki_run_check(run, err);
        if (status == KITH_OK) status = number_rows(&b, input, done, n, slots, first_slot, &done, run, err);
        if (status == KITH_OK)
            status = ki_back_reserve(&b.back, links_back(&b), structure->env->allocator, err);
        if (status == KITH_OK) {
            link_batch(&b, ki_run_pool(run));
            ki_stage_report(&stage, done);
        }
    }
    if (status != KITH_OK && h->remover) { /* all rows or none */
        ki_hnsw_drop(h, slots, first_slot, done);
        ki_nodes_forget_slots(&h->nodes, had);
    }
    ki_hnsw_remover_free(h);
    builder_clear(&b);
    return status;
}
