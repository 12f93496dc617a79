/* graph_flat_remove.c - rows leave a graph of one level: their nodes are taken out of the tree and of every row of links at
 * once, and the neighbours are linked anew. The essay is in graph_flat.h.
 *
 * In the order of ki_flat_drop:
 *   1. slots leave their nodes; a node without slots is gone
 *   2. the tree: the children of a gone node are hung under its parent, or below; a gone entry's place is taken by a child
 *   3. all rows of links are looked through: where a neighbour is gone, its own neighbours become candidates beside those that
 *      are left, and links are selected anew (Singh et al., "FreshDiskANN", 2021, Alg. 4), filled up to as many as before; a
 *      new neighbour with room links back
 *   4. codes, numbers */
#include "index/graph_flat.h"

#include <string.h>

#include "base/bitset.h"
#include "base/error.h"

/* Candidates that one row of links is mended from at most. */
#define CANDIDATES 1024

struct ki_flat_remover {
    const kith_allocator *allocator;
    uint64_t *gone;  /* [nodes] bits */
    uint32_t *child; /* [degree] */
    ki_flat_worker *w;
};

void ki_flat_remover_free(ki_flat *g)
{
    ki_flat_remover *r = g->remover;
    if (!r) return;
    ki_free(r->allocator, r->gone);
    ki_free(r->allocator, r->child);
    ki_flat_workers_free(g, r->w, 1);
    ki_free(r->allocator, r);
    g->remover = NULL;
}

kith_status ki_flat_prepare_remove(ki_structure *structure, const ki_rows *rows, kith_error *err)
{
    (void)rows;
    ki_flat *g = (ki_flat *)structure;
    const kith_allocator *allocator = structure->env->allocator;
    ki_flat_remover *r = ki_alloc_zero(allocator, 1, sizeof *r);
    if (!r) return ki_fail_nomem(err, sizeof *r);
    g->remover = r;
    r->allocator = allocator;
    size_t words = ki_bits_words(g->room) + 1;
    r->gone = ki_alloc_zero(allocator, words, sizeof *r->gone);
    r->child = ki_alloc(allocator, g->degree, sizeof *r->child);
    kith_status status = r->gone && r->child ? KITH_OK : ki_fail_nomem(err, words * sizeof *r->gone);
    if (status == KITH_OK) status = ki_flat_workers(g, g->room, 1, CANDIDATES, 1, &r->w, err);
    if (status != KITH_OK) ki_flat_remover_free(g);
    return status;
}

/* ---- 2. The tree ---- */

/* Take a node out of the tree. Trees that hang under different children share no node, so no cycle can come of it. */
static void excise(ki_flat *g, uint32_t node)
{
    ki_flat_remover *r = g->remover;
    uint32_t above = g->parent[node];
    const uint32_t *links = g->links + (size_t)node * g->degree;
    size_t n = 0, i = 0, degree = ki_graph_degree(links, g->degree);
    for (size_t j = 0; j < degree; j++)
        if (g->parent[links[j]] == node) r->child[n++] = links[j];
    g->own_parent[node] = KI_GRAPH_NONE;
    g->children[node] = 0;
    if (above != KI_GRAPH_NONE) {
        g->children[above]--;
    } else if (n > 0) { /* the entry: its first child takes its place */
        above = r->child[i++];
        g->own_parent[above] = KI_GRAPH_NONE;
        g->entry = above;
    }
    for (; i < n; i++) {
        uint32_t parent = ki_flat_roomy(g, above, NULL, 0);
        g->own_parent[r->child[i]] = parent;
        g->children[parent]++;
        ki_flat_link(g, r->w->query, parent, r->child[i], r->gone);
    }
}

/* ---- 3. Links ---- */

/* A link back, where there is room. */
static void link_back(ki_flat *g, uint32_t from, uint32_t to)
{
    uint32_t *links = ki_flat_row(g, from);
    size_t n = 0;
    while (n < g->degree && links[n] != KI_GRAPH_NONE && links[n] != to) n++;
    if (n < g->degree) links[n] = to;
}

/* What a row is mended from: the neighbours that are left, then those of the neighbours that are gone. */
static size_t gather(ki_flat *g, uint32_t node, size_t *left, size_t *lost)
{
    ki_flat_worker *w = g->remover->w;
    const uint64_t *bits = g->remover->gone;
    const uint32_t *links = ki_flat_row(g, node);
    uint32_t gone[KI_GRAPH_DEGREE];
    *left = *lost = 0;
    for (size_t i = 0; i < g->degree && links[i] != KI_GRAPH_NONE; i++) {
        if (ki_bits_get(bits, links[i]))
            gone[(*lost)++] = links[i];
        else
            w->node[(*left)++] = links[i];
    }
    if (*lost == 0) return 0;
    ki_beam_start(&w->beam, 1); /* for its marks: what is a candidate already */
    (void)ki_beam_visit(&w->beam, node);
    for (size_t i = 0; i < *left; i++) (void)ki_beam_visit(&w->beam, w->node[i]);
    size_t n = *left;
    for (size_t i = 0; i < *lost; i++) {
        const uint32_t *far = ki_flat_row(g, gone[i]);
        for (size_t j = 0; j < g->degree && far[j] != KI_GRAPH_NONE && n < CANDIDATES; j++)
            if (!ki_bits_get(bits, far[j]) && ki_beam_visit(&w->beam, far[j])) w->node[n++] = far[j];
    }
    return n;
}

/* The neighbours of those that are gone, in their places. */
static void mend(ki_flat *g, uint32_t node)
{
    ki_flat_worker *w = g->remover->w;
    size_t left, lost, n = gather(g, node, &left, &lost);
    if (lost == 0) return;
    ki_nodes_ask(&g->nodes, w->query, node);
    w->query->ops->score(w->query, g->nodes.codes.codes, w->node, n, INFINITY, w->dist);
    for (size_t i = 0; i < n; i++) {
        w->near[i] = (ki_near){w->dist[i] < INFINITY ? w->dist[i] : INFINITY, w->node[i]};
        w->must[i] = g->parent[w->node[i]] == node;
    }
    uint32_t *links = ki_flat_row(g, node);
    /* As many links as before: selection alone would thin rows out a little with every removal. */
    size_t kept = ki_flat_select(g, w, n, w->must, left + lost, 1, links);
    for (size_t i = 0; i < kept; i++) {
        size_t j = 0;
        while (j < left && w->node[j] != links[i]) j++;
        if (j == left) link_back(g, links[i], node);
    }
}

/* ---- All of it ---- */

void ki_flat_drop(ki_flat *g, const uint32_t *slots, uint32_t first_slot, size_t n)
{
    uint64_t *gone = g->remover->gone;
    size_t n_gone = 0;
    for (size_t i = 0; i < n; i++) { /* 1 */
        uint32_t node = ki_nodes_leave(&g->nodes, slots ? slots[i] : first_slot + (uint32_t)i);
        if (node == KI_GRAPH_NONE) continue;
        ki_bits_set(gone, node);
        n_gone++;
    }
    if (n_gone == 0) return;
    if (g->nodes.n_used == 0) {
        ki_flat_reset(g);
        return;
    }
    for (size_t i = 0; i < g->nodes.n; i++)
        if (ki_bits_get(gone, i)) excise(g, (uint32_t)i);
    for (size_t i = 0; i < g->nodes.n; i++)
        if (ki_nodes_used(&g->nodes, (uint32_t)i)) mend(g, (uint32_t)i);
    for (size_t i = 0; i < g->nodes.n; i++) {
        if (!ki_bits_get(gone, i)) continue;
        memset(ki_flat_row(g, (uint32_t)i), 0xff, g->degree * sizeof(uint32_t));
        ki_nodes_erase(&g->nodes, (uint32_t)i);
    }
    ki_nodes_trim(&g->nodes);
}

void ki_flat_remove(ki_structure *structure, const uint32_t *slots, size_t n)
{
    ki_flat *g = (ki_flat *)structure;
    ki_flat_drop(g, slots, 0, n);
    ki_flat_remover_free(g);
}
