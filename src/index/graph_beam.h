/* graph_beam.h - best-first search in a graph of rows: the walk that all graph families share.
 *
 * A graph is an array of rows of links, a fixed number each, the used ones first. The beam is the paper's
 * "dynamic list of ef nearest" (Malkov & Yashunin 2018, Alg. 2), kept as one bounded sorted array instead of
 * two heaps: the insertion is a memmove of some hundred bytes, the next node to expand is found by a cursor.
 *
 * Reading memory is what a walk waits for, so it is arranged around that: the links of a node are fetched when the
 * node enters the beam; the codes of all unvisited neighbours of a node are fetched as soon as its links are
 * known; and the neighbours of the *next* node are found, and their codes asked for, before those of this node are
 * scored, so that the fetches of one step run under the arithmetic of the other. The price is that a node is
 * chosen one step before everything that is known by then has entered the beam.
 *
 * Visited nodes are marked in a bitset (n / 8 bytes: a million rows fit in the second cache; a second one, of nodes that a filter
 * bars, is touched in two hops only), and a list of what was marked is kept, so that clearing costs as much as the walk touched
 * and not n / 8. */
#ifndef KI_INDEX_GRAPH_BEAM_H
#define KI_INDEX_GRAPH_BEAM_H

#include "base/memory.h"
#include "index/query.h"

#define KI_GRAPH_NONE UINT32_MAX            /* no link: ends a row of links */
#define KI_GRAPH_NODES ((size_t)0x7fffffff) /* nodes of a graph at most: the top bit is a mark in the beam */
#define KI_GRAPH_DEGREE 512                 /* links of a node at most */

/* The links of one level. */
typedef struct ki_graph {
    const uint32_t *links;
    size_t degree;       /* links in a row at most */
    const uint32_t *row; /* the row of a node is row[node] + shift; NULL: node + shift */
    size_t shift;
} ki_graph;

static inline const uint32_t *ki_graph_links(const ki_graph *graph, uint32_t node)
{
    size_t row = (graph->row ? graph->row[node] : node) + graph->shift;
    return graph->links + row * graph->degree;
}

/* One link. Rows may be written while others walk (kith_index_reserve): what a link leads to was written before it. */
static inline uint32_t ki_graph_load(const uint32_t *link)
{
    return __atomic_load_n(link, __ATOMIC_ACQUIRE);
}
static inline void ki_graph_store(uint32_t *link, uint32_t node)
{
    __atomic_store_n(link, node, __ATOMIC_RELEASE);
}

/* How many links a row holds. */
static inline size_t ki_graph_degree(const uint32_t *links, size_t degree)
{
    size_t n = 0;
    while (n < degree && links[n] != KI_GRAPH_NONE) n++;
    return n;
}

static inline int ki_graph_has_link(const uint32_t *links, size_t degree, uint32_t to)
{
    for (size_t i = 0; i < degree && links[i] != KI_GRAPH_NONE; i++)
        if (links[i] == to) return 1;
    return 0;
}

/* A node and how far it is. */
typedef struct ki_near {
    float dist; /* never NaN */
    uint32_t node;
} ki_near;

typedef struct ki_beam {
    const kith_allocator *allocator;
    ki_near *near; /* [n] sorted by distance; the top bit of a node: it was expanded, or is about to be */
    size_t n, limit, room;
    size_t next;      /* nothing before it is to be expanded */
    uint64_t *marks;  /* [nodes] bits */
    uint64_t *barred; /* [nodes] bits, behind marks: those of which a walk learnt that they do not count */
    int bars;         /* whether a bit of barred is set */
    size_t nodes;
    uint32_t *marked; /* [marked_room] which bits of either are set, as long as there is room */
    size_t n_marked, marked_room;
    uint64_t scored, expanded; /* of the walks since they were set to 0 */
    ki_near *trace; /* [trace_room] of the caller: the nodes that were expanded, in order; or NULL */
    size_t n_trace, trace_room;
} ki_beam;

void ki_beam_init(ki_beam *beam, const kith_allocator *allocator);
void ki_beam_clear(ki_beam *beam);

/* Room for graphs of `nodes` nodes and beams of `limit`. KITH_NOMEM: as before. */
kith_status ki_beam_reserve(ki_beam *beam, size_t nodes, size_t limit, kith_error *err);

/* Begin: an empty beam of at most `limit` (of those reserved) entries, nothing visited. */
void ki_beam_start(ki_beam *beam, size_t limit);

/* Go on with the same entries in another graph: they are to be expanded again, and only they are visited. */
void ki_beam_restart(ki_beam *beam);

/* Mark a node as visited; whether it was not. */
int ki_beam_visit(ki_beam *beam, uint32_t node);

/* Offer a node that was not offered before. */
void ki_beam_offer(ki_beam *beam, float dist, uint32_t node);

static inline uint32_t ki_beam_node(const ki_beam *beam, size_t i)
{
    return beam->near[i].node & ~(UINT32_C(1) << 31);
}
static inline float ki_beam_worst(const ki_beam *beam)
{
    return beam->n == beam->limit ? beam->near[beam->n - 1].dist : INFINITY;
}

/* Walk: expand the nearest node that was not, until all in the beam were. Entries have been offered.
 * In:   codes by node; query: to be asked whether to stop, may be NULL. */
void ki_beam_walk(ki_beam *beam, const ki_graph *graph, ki_scorer *scorer, ki_codes codes, ki_query *query);

/* The same through a graph of which only some nodes count (a filter): of a node's neighbours those that count are scored, and
 * while these are fewer than a node has links, the neighbours that count of those that do not (two hops). counts: by the context;
 * of a node that does not, a walk asks once. */
typedef int (*ki_beam_counts)(const void *ctx, const ki_query *query, uint32_t node);
void ki_beam_walk_some(ki_beam *beam, const ki_graph *graph, ki_scorer *scorer, ki_codes codes,
                       ki_query *query, ki_beam_counts counts, const void *ctx);

/* ---- Walks that go on ----
 *
 * What a beam has no room for is kept as well, a heap with the nearest first: so that the walk can go on from there when the first
 * entries have left. */
typedef struct ki_spare {
    const kith_allocator *allocator;
    ki_near *near; /* [n] marked as in a beam */
    size_t n, room;
} ki_spare;

void ki_spare_init(ki_spare *spare, const kith_allocator *allocator);
void ki_spare_clear(ki_spare *spare);

/* Room for n more. KITH_NOMEM: as before. */
kith_status ki_spare_reserve(ki_spare *spare, size_t n, kith_error *err);

/* Put a node, within what was reserved; ki_beam_done(node): one that needs no expanding. */
void ki_spare_put(ki_spare *spare, float dist, uint32_t node);
static inline uint32_t ki_beam_done(uint32_t node)
{
    return node | UINT32_C(1) << 31;
}

/* Fill the beam up with the nearest of the spare ones, and drop its first n entries. */
void ki_beam_refill(ki_beam *beam, ki_spare *spare);
void ki_beam_drop(ki_beam *beam, size_t n);

/* ki_beam_walk that loses nothing: what it marks stands in the beam, in spare, or was dropped, also when it was stopped or
 * memory ran out (KITH_NOMEM). */
kith_status ki_beam_walk_on(ki_beam *beam, const ki_graph *graph, ki_scorer *scorer, ki_codes codes,
                            ki_query *query, ki_spare *spare, kith_error *err);

/* Of a range search that began anew, after `before` rows that it had found already: keep what it found then, or now if
 * that is no less. Both may hold the same rows, so one of them has to go. */
void ki_graph_keep_more(ki_found *found, size_t before);

/* From one node down to the nearest in reach: a beam of one. *dist is that of *node, before and after. Returns how many
 * rows were scored. Marks nothing. */
uint64_t ki_graph_descend(const ki_graph *graph, ki_scorer *scorer, ki_codes codes, uint32_t *node,
                          float *dist);

#endif
