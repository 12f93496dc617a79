/* hnsw_remove.c - rows leave the graph: their nodes are taken out of the tree and of every row of links at once, and the
 * neighbours are linked anew. Nothing is left of them. The essay is in hnsw.c.
 *
 * In the order of ki_hnsw_drop:
 *   1. slots leave their rings; a node without slots is gone
 *   2. the tree: the children of a gone node are hung under its parent, or below
 *   3. all rows of links are looked through: where a neighbour is gone, its own neighbours become candidates beside those that
 *      are left, and the heuristic selects anew (Singh et al., "FreshDiskANN", 2021, Alg. 4), filled up to as many links as
 *      before; a new neighbour with room links back
 *   4. codes, numbers, the entry point */
#include "index/hnsw_internal.h"

#include <string.h>

#include "base/bitset.h"
#include "base/error.h"

/* Candidates that one row of links is mended from at most. */
#define CANDIDATES 1024

struct ki_hnsw_remover {
    const kith_allocator *allocator;
    uint64_t *gone; /* [nodes] bits */
    ki_scorer *ask, *pair;
    ki_beam beam; /* for its marks: what is a candidate already */
    uint32_t node[CANDIDATES];
    float dist[CANDIDATES];
    ki_near near[CANDIDATES];
    uint8_t must[CANDIDATES];
};

void ki_hnsw_remover_free(ki_hnsw *h)
{
    ki_hnsw_remover *r = h->remover;
    if (!r) return;
    ki_free(r->allocator, r->gone);
    ki_scorer_free(r->ask);
    ki_scorer_free(r->pair);
    ki_beam_clear(&r->beam);
    ki_free(r->allocator, r);
    h->remover = NULL;
}

kith_status ki_hnsw_prepare_remove(ki_structure *structure, const ki_rows *rows, kith_error *err)
{
    (void)rows;
    ki_hnsw *h = (ki_hnsw *)structure;
    const ki_structure_env *env = structure->env;
    ki_hnsw_remover *r = ki_alloc_zero(env->allocator, 1, sizeof *r);
    if (!r) return ki_fail_nomem(err, sizeof *r);
    h->remover = r;
    r->allocator = env->allocator;
    ki_beam_init(&r->beam, env->allocator);
    size_t words = ki_bits_words(h->nodes.room) + 1;
    r->gone = ki_alloc_zero(env->allocator, words, sizeof *r->gone);
    kith_status status = r->gone ? KITH_OK : ki_fail_nomem(err, words * sizeof *r->gone);
    if (status == KITH_OK) status = env->codec->ops->scorer(env->codec, env->allocator, &r->ask, err);
    if (status == KITH_OK) status = env->codec->ops->scorer(env->codec, env->allocator, &r->pair, err);
    if (status == KITH_OK) status = ki_beam_reserve(&r->beam, h->nodes.room, 1, err);
    if (status != KITH_OK) ki_hnsw_remover_free(h);
    return status;
}

static int is_gone(const ki_hnsw *h, uint32_t node)
{
    return ki_bits_get(h->remover->gone, node);
}

/* The distances of a node to the candidates node[n]. */
static void measure(const ki_hnsw *h, uint32_t node, size_t n)
{
    ki_hnsw_remover *r = h->remover;
    ki_nodes_ask(&h->nodes, r->ask, node);
    r->ask->ops->score(r->ask, h->nodes.codes.codes, r->node, n, INFINITY, r->dist);
    for (size_t i = 0; i < n; i++)
        if (!(r->dist[i] < INFINITY)) r->dist[i] = INFINITY;
}

/* ---- 2. The tree ---- */

/* Whether two neighbours are one above the other. */
static int tree_edge(const ki_hnsw *h, uint32_t a, uint32_t b)
{
    return h->parent[a] == b || h->parent[b] == a;
}

/* Whether a node is among n. */
static int among(const uint32_t *nodes, size_t n, uint32_t node)
{
    for (size_t i = 0; i < n; i++)
        if (nodes[i] == node) return 1;
    return 0;
}

/* Make a link exist; where there is no room, the farthest that is no edge of the tree gives way. */
static void ensure_link(ki_hnsw *h, uint32_t from, uint32_t to)
{
    uint32_t *links = ki_hnsw_row(h, from, 0);
    size_t degree = ki_hnsw_degree(h, 0), n = ki_graph_degree(links, degree), worst = degree;
    if (among(links, n, to)) return;
    if (n < degree) {
        links[n] = to;
        return;
    }
    memcpy(h->remover->node, links, n * sizeof *links);
    measure(h, from, n);
    for (size_t i = 0; i < n; i++) {
        if (tree_edge(h, from, links[i])) continue;
        if (is_gone(h, links[i])) h->remover->dist[i] = INFINITY;
        if (worst == degree || h->remover->dist[i] > h->remover->dist[worst]) worst = i;
    }
    links[worst] = to; /* there is one: children and parent are at most m + 1 of 2m */
}

static void hang(ki_hnsw *h, uint32_t child, uint32_t parent)
{
    h->own_parent[child] = parent;
    h->children[parent]++;
    ensure_link(h, parent, child);
    ensure_link(h, child, parent);
}

/* Take a node out of the tree. Trees that hang under different children share no node, so no cycle can come of it. */
static void excise(ki_hnsw *h, uint32_t node)
{
    uint32_t child[KI_GRAPH_DEGREE], above = h->parent[node];
    const uint32_t *links = h->links + (size_t)node * 2 * h->m;
    size_t n = 0, i = 0, degree = ki_graph_degree(links, 2 * h->m);
    for (size_t j = 0; j < degree; j++)
        if (h->parent[links[j]] == node) child[n++] = links[j];
    h->own_parent[node] = KI_GRAPH_NONE;
    h->children[node] = 0;
    if (above != KI_GRAPH_NONE) {
        h->children[above]--;
    } else if (n > 0) { /* the root: its first child takes its place */
        above = child[i++];
        h->own_parent[above] = KI_GRAPH_NONE;
    }
    for (; i < n; i++) hang(h, child[i], ki_hnsw_roomy(h, above, NULL, 0));
}

/* ---- 3. Links ---- */

/* A link back, where there is room. */
static void link_back(ki_hnsw *h, uint32_t from, uint32_t to, int level)
{
    uint32_t *links = ki_hnsw_row(h, from, level);
    size_t degree = ki_hnsw_degree(h, level), n = ki_graph_degree(links, degree);
    if (n < degree && !among(links, n, to)) links[n] = to;
}

/* The neighbours of those that are gone, in their places. */
static void mend(ki_hnsw *h, uint32_t node, int level)
{
    ki_hnsw_remover *r = h->remover;
    uint32_t *links = ki_hnsw_row(h, node, level);
    size_t degree = ki_hnsw_degree(h, level), left = 0, lost = 0;
    uint32_t gone[KI_GRAPH_DEGREE];
    for (size_t i = 0; i < degree && links[i] != KI_GRAPH_NONE; i++) {
        if (is_gone(h, links[i]))
            gone[lost++] = links[i];
        else
            r->node[left++] = links[i];
    }
    if (lost == 0) return;
    ki_beam_start(&r->beam, 1);
    (void)ki_beam_visit(&r->beam, node);
    for (size_t i = 0; i < left; i++) (void)ki_beam_visit(&r->beam, r->node[i]);
    size_t n = left;
    for (size_t i = 0; i < lost; i++) {
        const uint32_t *far = ki_hnsw_row(h, gone[i], level);
        for (size_t j = 0; j < degree && far[j] != KI_GRAPH_NONE && n < CANDIDATES; j++)
            if (!is_gone(h, far[j]) && ki_beam_visit(&r->beam, far[j])) r->node[n++] = far[j];
    }
    measure(h, node, n);
    for (size_t i = 0; i < n; i++) {
        r->near[i] = (ki_near){r->dist[i], r->node[i]};
        r->must[i] = level == 0 && tree_edge(h, node, r->node[i]);
    }
    ki_near_sort(r->near, n, r->must);
    /* As many links as before: selection alone would thin rows out a little with every removal. */
    ki_alpha alpha = ki_alpha_of(h->base.env, h->base.env->params[KI_HNSW_ALPHA]);
    ki_prune prune = {r->pair, h->nodes.codes.codes, left + lost, alpha, 1};
    size_t kept = ki_prune_select(&prune, r->near, n, r->must, links);
    for (size_t i = 0; i < kept; i++)
        if (!among(r->node, left, links[i])) link_back(h, links[i], node, level);
}

/* ---- 4. What is left ---- */

/* The highest node, the lowest number among equals. */
static void choose_entry(ki_hnsw *h)
{
    h->top = -1;
    for (size_t i = 0; i < h->nodes.n; i++) {
        int level;
        if (!ki_nodes_used(&h->nodes, (uint32_t)i) || (level = ki_hnsw_level(h, (uint32_t)i)) <= h->top)
            continue;
        h->top = level;
        h->entry = (uint32_t)i;
    }
}

/* Nothing of a removed row stays, neither here nor in files. */
static void erase(ki_hnsw *h, uint32_t node)
{
    for (int level = ki_hnsw_level(h, node); level >= 0; level--)
        memset(ki_hnsw_row(h, node, level), 0xff, ki_hnsw_degree(h, level) * sizeof(uint32_t));
    ki_nodes_erase(&h->nodes, node);
}

/* Free numbers at the end are given up. */
static void trim(ki_hnsw *h)
{
    size_t had = h->nodes.n;
    ki_nodes_trim(&h->nodes);
    for (size_t i = h->nodes.n; i < had; i++) h->n_upper -= (size_t)ki_hnsw_level(h, (uint32_t)i);
}

void ki_hnsw_drop(ki_hnsw *h, const uint32_t *slots, uint32_t first_slot, size_t n)
{
    ki_nodes *nodes = &h->nodes;
    size_t n_gone = 0;
    for (size_t i = 0; i < n; i++) { /* 1 */
        uint32_t node = ki_nodes_leave(nodes, slots ? slots[i] : first_slot + (uint32_t)i);
        if (node == KI_GRAPH_NONE) continue;
        ki_bits_set(h->remover->gone, node);
        n_gone++;
    }
    if (n_gone == 0) return;
    if (nodes->n_used == 0) {
        ki_hnsw_reset(h);
        return;
    }
    for (size_t i = 0; i < nodes->n; i++)
        if (is_gone(h, (uint32_t)i)) excise(h, (uint32_t)i);
    for (size_t i = 0; i < nodes->n; i++) {
        if (!ki_nodes_used(nodes, (uint32_t)i)) continue;
        for (int level = ki_hnsw_level(h, (uint32_t)i); level >= 0; level--) mend(h, (uint32_t)i, level);
    }
    for (size_t i = 0; i < nodes->n; i++)
        if (is_gone(h, (uint32_t)i)) erase(h, (uint32_t)i);
    if (is_gone(h, h->entry)) choose_entry(h);
    trim(h);
}

void ki_hnsw_remove(ki_structure *structure, const uint32_t *slots, size_t n)
{
    ki_hnsw *h = (ki_hnsw *)structure;
    ki_hnsw_drop(h, slots, 0, n);
    ki_hnsw_remover_free(h);
}
