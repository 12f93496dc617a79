/* hnsw.c - a hierarchical navigable small world: a graph of neighbours with a few express levels above it.
 *
 * The idea. Every row is a node with links to some of its nearest neighbours, chosen so that they point in different
 * directions. A query walks: from where it is to the neighbour that is nearest to it, keeping the ef best nodes seen so
 * far, until none of them leads to a better one. Some nodes (one in M) stand on a level above as well, one in M^2
 * on the next; a walk begins at the top, where steps are long, and comes down.
 *
 * Paper. Y. A. Malkov, D. A. Yashunin, "Efficient and robust approximate nearest neighbor search using hierarchical
 * navigable small world graphs", IEEE TPAMI 42(4), 2018. Alg. 1 INSERT and Alg. 2 SEARCH-LAYER are in hnsw_build.c and
 * graph_beam.c, Alg. 4 SELECT-NEIGHBORS-HEURISTIC in graph_prune.c, Alg. 5 K-NN-SEARCH in hnsw_search.c. Our ways
 * apart from it:
 *   - Insertion goes in batches of at most 256 rows and a 64th of what is there: the rows of a batch search the graph as it
 *     was before it, on all threads, and take the earlier rows of their batch as further candidates. That is what
 *     one-by-one insertion would have offered them, and it does not depend on the number of threads.
 *   - A node's level is drawn from its number and the seed, not from a stream: it needs no place in the file and
 *     survives reuse of the number.
 *   - A link back is appended as long as there is room, and only then selected (as hnswlib does; the paper selects
 *     at once): more links at no cost.
 *   - A tree. Each node has a parent among its neighbours, at most M children, and edges of the tree are links in
 *     both directions that no selection may drop. So every node can be reached from every other on level 0, which
 *     neither the paper nor pruning gives; removal keeps it, and check proves it.
 *   - Equal rows (equal codes and factors, found by a hash of them) are one node with a ring of slots: however many there are, they do
 *     not fill each other's links nor a query's beam.
 *   - Removal takes a row out at once and mends the links around it; there are no tombstones. hnsw_remove.c.
 *   - A walk keeps one bounded sorted array and fetches the next node's neighbours under the arithmetic of this one's:
 *     graph_beam.h.
 *
 * Over rows of bits (BHNSW<M>) all this is the same: distances are bits that differ.
 *
 * Layout, by node number (numbers are not slots: equal rows share one):
 *
 *      links  [n_nodes][2M]   level 0, ends with NONE           codes, factors  [n_nodes]
 *      upper  [n_upper][M]    levels 1..l of node 0, then those of node 1, ...
 *      parent [n_nodes]       first [n_nodes] a slot; NONE: the number is free      next [n_slots] the ring
 *
 * Invariants:
 *   H1  every slot in use stands in exactly one ring, and rings in use are those of nodes in use
 *   H2  links name nodes in use that stand on that level, not the node itself, none twice; used ones come first; rows of
 *       links of free nodes are empty
 *   H3  the entry point is in use, and no node in use stands higher
 *   H4  one node in use has no parent; every other has one in use, linked in both directions; no node has more than M
 *       children; parents lead to the root: so every node is reachable on level 0
 *   H5  no two nodes have the same code and factors
 *   H6  codes are such as the codec can score; float32 rows are finite
 *
 * Cost:        add     a walk with ef_construction a level, and some M^2 distances of selection; the batch's pairs
 *              search  some 10 x ef rows scored, at random places
 *              remove  a pass over all links (n x M x 8 bytes) a call, and some 100 distances for each link that was lost:
 *                      remove many rows by one call
 *              memory  code_size + 8 M + 8 M / (M - 1) / 2 + 17 bytes a row; while it grows a table of 8 to 16 more
 *              open    every link is looked at once, mapped or not
 * Sections:    "hnsw" (record: nodes, used, entry, rings), "hnsw.links", "hnsw.upper", "hnsw.parents", "hnsw.first",
 *              "hnsw.next" (where rings are), "hnsw.codes", "hnsw.factors".
 */
#include "index/hnsw_internal.h"

#include <string.h>

#include "base/bitset.h"
#include "base/error.h"
#include "base/rng.h"

#define PREFIX "hnsw"

static const kith_param_info params[] = {
    [KI_HNSW_EF] = {"ef", KITH_PARAM_INT, KITH_AT_SEARCH, 1, 1 << 20, 64,
                    "nearest nodes that a walk keeps (never fewer than k); more is slower and finds more"},
    [KI_HNSW_EF_CONSTRUCTION] = {"ef_construction", KITH_PARAM_INT, KITH_AT_BUILD, 8, 4096, 200,
                                 "the same while rows are added; more builds slower and better"},
    [KI_HNSW_KEEP_PRUNED] =
        {"keep_pruned", KITH_PARAM_BOOL, KITH_AT_BUILD, 0, 1, 0,
         "fill the links of a node up with the nearest of those that the heuristic left out"},
    [KI_HNSW_EXTEND] = {"extend_candidates", KITH_PARAM_BOOL, KITH_AT_BUILD, 0, 1, 0,
                        "take the neighbours of candidates as candidates too, for very clustered data"},
};

/* ---- Create and free ---- */

int ki_hnsw_level(const ki_hnsw *h, uint32_t node)
{
    /* By repeated division, exact everywhere, where -ln(u) / ln(M) is as exact as the C library's logarithm. */
    double u = ((double)(ki_mix64(h->base.env->seed * 0x9e3779b97f4a7c15u + node + 1) >> 11) + 1) * 0x1p-53;
    double share = 1 / (double)h->m;
    int level = 0;
    while (u <= share && level < KI_HNSW_MAX_LEVEL) {
        level++;
        share /= (double)h->m;
    }
    return level;
}

static kith_status hnsw_create(const ki_structure_env *env, ki_structure **structure, kith_error *err)
{
    *structure = NULL;
    ki_hnsw *h = ki_alloc_zero(env->allocator, 1, sizeof *h);
    if (!h) return ki_fail_nomem(err, sizeof *h);
    h->base.env = env;
    h->m = (size_t)env->args[0];
    ki_row_codes_init(&h->codes, env->allocator);
    ki_hnsw_reset(h);
    *structure = &h->base;
    return KITH_OK;
}

static void hnsw_free(ki_structure *structure)
{
    ki_hnsw *h = (ki_hnsw *)structure;
    const kith_allocator *allocator = structure->env->allocator;
    ki_hnsw_remover_free(h);
    ki_row_codes_clear(&h->codes);
    ki_free(allocator, h->own_links);
    ki_free(allocator, h->own_upper);
    ki_free(allocator, h->own_parent);
    ki_free(allocator, h->own_first);
    ki_free(allocator, h->own_next);
    ki_free(allocator, h->prev);
    ki_free(allocator, h->upper_row);
    ki_free(allocator, h->node_of);
    ki_free(allocator, h->children);
    ki_free(allocator, h->table);
    ki_free(allocator, h);
}

void ki_hnsw_reset(ki_hnsw *h)
{
    if (h->n_nodes > 0) /* what was removed does not stay in memory that files are written from */
        memset(h->codes.own_code, 0, h->n_nodes * h->base.env->codec->code_size);
    if (h->table) memset(h->table, 0xff, h->table_size * sizeof *h->table);
    h->n_nodes = h->n_used = h->n_upper = h->lowest_free = 0;
    h->codes.n_slots = 0;
    h->entry = KI_GRAPH_NONE;
    h->top = -1;
}

static void hnsw_decode(const ki_structure *structure, uint32_t slot, float *out)
{
    const ki_hnsw *h = (const ki_hnsw *)structure;
    const ki_codec *codec = structure->env->codec;
    uint32_t node = h->node_of[slot];
    codec->ops->decode(codec, ki_hnsw_code(h, node), ki_row_factor(&h->codes, codec, node), NULL, out);
}

static void hnsw_decode_bits(const ki_structure *structure, uint32_t slot, uint8_t *out)
{
    const ki_hnsw *h = (const ki_hnsw *)structure;
    const ki_codec *codec = structure->env->codec;
    codec->ops->decode_bits(codec, ki_hnsw_code(h, h->node_of[slot]), out);
}

/* ---- Nodes by code: open addressing, linear probing ---- */

/* The place of a code and its factors in a table, or the empty one where it would stand. */
static size_t place(const ki_hnsw *h, const uint32_t *table, size_t size, const uint8_t *code,
                    const float *factor)
{
    const ki_codec *codec = h->base.env->codec;
    size_t i = ki_row_hash(codec, code, factor) & (size - 1);
    while (table[i] != KI_GRAPH_NONE && !ki_row_equals(&h->codes, codec, table[i], code, factor))
        i = (i + 1) & (size - 1);
    return i;
}

/* The same for a node. */
static size_t place_of(const ki_hnsw *h, const uint32_t *table, size_t size, uint32_t node)
{
    return place(h, table, size, ki_hnsw_code(h, node), ki_hnsw_factor(h, node));
}

/* A table for n nodes that holds those in use. *twice: a node equal to another, or KI_GRAPH_NONE. NULL: no memory. */
static uint32_t *make_table(const ki_hnsw *h, size_t n, size_t *size, uint32_t *twice)
{
    *size = 16;
    while (*size < 2 * n) *size *= 2;
    *twice = KI_GRAPH_NONE;
    uint32_t *table = ki_alloc(h->base.env->allocator, *size, sizeof *table);
    if (!table) return NULL;
    memset(table, 0xff, *size * sizeof *table);
    for (size_t i = 0; i < h->n_nodes; i++) {
        if (h->first[i] == KI_GRAPH_NONE) continue;
        size_t at = place_of(h, table, *size, (uint32_t)i);
        if (table[at] != KI_GRAPH_NONE) *twice = (uint32_t)i;
        table[at] = (uint32_t)i;
    }
    return table;
}

kith_status ki_hnsw_table_reserve(ki_hnsw *h, size_t n, kith_error *err)
{
    if (h->table && h->table_size >= 2 * n) return KITH_OK;
    size_t size;
    uint32_t twice;
    uint32_t *table = make_table(h, h->table ? ki_grown(h->n_nodes, n) : n, &size, &twice);
    if (!table) return ki_fail_nomem(err, size * sizeof *table);
    ki_free(h->base.env->allocator, h->table);
    h->table = table;
    h->table_size = size;
    return KITH_OK;
}

uint32_t ki_hnsw_table_find(const ki_hnsw *h, const uint8_t *code, const float *factor)
{
    return h->table[place(h, h->table, h->table_size, code, factor)];
}

void ki_hnsw_table_put(ki_hnsw *h, uint32_t node)
{
    h->table[place_of(h, h->table, h->table_size, node)] = node;
}

/* Take a node out and close the gap, so that no probe stops too early (Knuth, TAOCP 3, 6.4, algorithm R). */
void ki_hnsw_table_take(ki_hnsw *h, uint32_t node)
{
    if (!h->table) return;
    const ki_codec *codec = h->base.env->codec;
    size_t mask = h->table_size - 1, gap = place_of(h, h->table, h->table_size, node);
    for (size_t i = (gap + 1) & mask; h->table[i] != KI_GRAPH_NONE; i = (i + 1) & mask) {
        uint32_t other = h->table[i];
        size_t home = ki_row_hash(codec, ki_hnsw_code(h, other), ki_hnsw_factor(h, other)) & mask;
        if (((i - home) & mask) < ((i - gap) & mask)) continue; /* its home lies behind the gap */
        h->table[gap] = h->table[i];
        gap = i;
    }
    h->table[gap] = KI_GRAPH_NONE;
}

/* ---- The invariants ---- */

/* H1, and what follows from it: node_of, prev. */
static kith_status prove_slots(ki_hnsw *h, const ki_rows *rows, kith_error *err)
{
    size_t n = 0;
    memset(h->node_of, 0xff, h->n_slots * sizeof *h->node_of);
    for (size_t i = 0; i < h->n_slots && h->prev; i++) h->prev[i] = (uint32_t)i;
    for (size_t node = 0; node < h->n_nodes; node++) {
        uint32_t first = h->first[node], slot = first;
        if (first == KI_GRAPH_NONE) continue;
        do {
            if (slot >= h->n_slots || !ki_rows_used(rows, slot))
                return ki_fail(err, KITH_CORRUPT, "H1: node %zu has slot %u, which no row has", node, slot);
            if (h->node_of[slot] != KI_GRAPH_NONE)
                return ki_fail(err, KITH_CORRUPT, "H1: slot %u stands in node %zu and once before", slot,
                               node);
            h->node_of[slot] = (uint32_t)node;
            uint32_t next = h->next ? h->next[slot] : first;
            if (h->prev && next < h->n_slots) h->prev[next] = slot;
            slot = next;
            n++;
        } while (slot != first);
    }
    if (n != rows->n)
        return ki_fail(err, KITH_CORRUPT, "H1: %zu rows in the nodes, %zu in the index", n, rows->n);
    for (size_t i = 0; i < h->n_slots && h->next; i++)
        if (h->node_of[i] == KI_GRAPH_NONE && h->next[i] != i)
            return ki_fail(err, KITH_CORRUPT, "H1: slot %zu has no row and stands in a ring", i);
    return KITH_OK;
}

/* H2 for one row of links. */
static kith_status prove_links(const ki_hnsw *h, uint32_t node, int level, uint64_t *seen, kith_error *err)
{
    ki_graph graph = ki_hnsw_graph(h, level);
    const uint32_t *links = ki_graph_links(&graph, node);
    size_t n = ki_graph_degree(links, graph.degree);
    if (h->first[node] == KI_GRAPH_NONE && n > 0)
        return ki_fail(err, KITH_CORRUPT, "H2: node %u is free and has links", node);
    for (size_t i = n; i < graph.degree; i++)
        if (links[i] != KI_GRAPH_NONE)
            return ki_fail(err, KITH_CORRUPT, "H2: the links of node %u on level %d have a gap", node, level);
    for (size_t i = 0; i < n; i++) {
        if (links[i] >= h->n_nodes || h->first[links[i]] == KI_GRAPH_NONE || links[i] == node ||
            (level > 0 && ki_hnsw_level(h, links[i]) < level))
            return ki_fail(err, KITH_CORRUPT, "H2: node %u has a link to %u on level %d", node, links[i],
                           level);
    }
    if (!seen) return KITH_OK;
    size_t twice = n;
    for (size_t i = 0; i < n; i++) {
        if (ki_bits_get(seen, links[i])) twice = i;
        ki_bits_set(seen, links[i]);
    }
    for (size_t i = 0; i < n; i++) ki_bits_clear(seen, links[i]);
    if (twice == n) return KITH_OK;
    return ki_fail(err, KITH_CORRUPT, "H2: node %u has two links to %u on level %d", node, links[twice],
                   level);
}

/* H2 for all; *top: the highest level. */
static kith_status prove_rows(const ki_hnsw *h, uint64_t *seen, int *top, kith_error *err)
{
    *top = -1;
    for (size_t i = 0; i < h->n_nodes; i++) {
        int level = ki_hnsw_level(h, (uint32_t)i);
        for (int l = level; l >= 0; l--) KI_TRY(prove_links(h, (uint32_t)i, l, seen, err));
        if (h->first[i] != KI_GRAPH_NONE && level > *top) *top = level;
    }
    return KITH_OK;
}

/* H2 and H3. distinct 0: links may stand twice, which is harmless where the graph is only searched. */
static kith_status prove_graph(const ki_hnsw *h, int distinct, kith_error *err)
{
    const kith_allocator *allocator = h->base.env->allocator;
    int top;
    uint64_t *seen = distinct ? ki_alloc_zero(allocator, ki_bits_words(h->n_nodes) + 1, sizeof *seen) : NULL;
    if (distinct && !seen) return ki_fail_nomem(err, ki_bits_words(h->n_nodes) * sizeof *seen);
    kith_status status = prove_rows(h, seen, &top, err);
    ki_free(allocator, seen);
    if (status != KITH_OK) return status;
    if (h->n_used == 0) return KITH_OK;
    if (h->entry >= h->n_nodes || h->first[h->entry] == KI_GRAPH_NONE || ki_hnsw_level(h, h->entry) != top)
        return ki_fail(err, KITH_CORRUPT, "H3: the entry point is node %u, the highest level %d", h->entry,
                       top);
    return KITH_OK;
}

static int has_link(const ki_hnsw *h, uint32_t from, uint32_t to)
{
    const uint32_t *links = h->links + (size_t)from * 2 * h->m;
    for (size_t i = 0; i < 2 * h->m && links[i] != KI_GRAPH_NONE; i++)
        if (links[i] == to) return 1;
    return 0;
}

/* That the parents of every node lead to the root: nodes that are known to are marked in safe[]. */
static kith_status prove_ways(const ki_hnsw *h, uint64_t *safe, kith_error *err)
{
    for (size_t i = 0; i < h->n_nodes; i++) {
        if (h->first[i] == KI_GRAPH_NONE) continue;
        size_t steps = 0;
        for (uint32_t at = (uint32_t)i; at != KI_GRAPH_NONE && !ki_bits_get(safe, at); at = h->parent[at])
            if (++steps > h->n_used)
                return ki_fail(err, KITH_CORRUPT, "H4: the parents of node %zu go round", i);
        for (uint32_t at = (uint32_t)i; at != KI_GRAPH_NONE && !ki_bits_get(safe, at); at = h->parent[at])
            ki_bits_set(safe, at);
    }
    return KITH_OK;
}

/* H4; children[n_nodes] is filled. */
static kith_status prove_tree(const ki_hnsw *h, uint8_t *children, kith_error *err)
{
    size_t roots = 0;
    memset(children, 0, h->n_nodes);
    for (size_t i = 0; i < h->n_nodes; i++) {
        uint32_t node = (uint32_t)i, parent = h->parent[i];
        if (h->first[i] == KI_GRAPH_NONE) {
            if (parent != KI_GRAPH_NONE)
                return ki_fail(err, KITH_CORRUPT, "H4: node %u is free and has a parent", node);
            continue;
        }
        roots += parent == KI_GRAPH_NONE;
        if (parent == KI_GRAPH_NONE) continue;
        if (parent >= h->n_nodes || !has_link(h, node, parent) || !has_link(h, parent, node))
            return ki_fail(err, KITH_CORRUPT, "H4: node %u and its parent %u are not linked", node, parent);
        if (children[parent]++ == ki_hnsw_children(h))
            return ki_fail(err, KITH_CORRUPT, "H4: node %u has more than %zu children", parent,
                           ki_hnsw_children(h));
    }
    if (roots != (h->n_used > 0)) return ki_fail(err, KITH_CORRUPT, "H4: %zu nodes have no parent", roots);
    size_t words = ki_bits_words(h->n_nodes);
    uint64_t *safe = ki_alloc_zero(h->base.env->allocator, words, sizeof *safe);
    if (!safe) return ki_fail_nomem(err, words * sizeof *safe);
    kith_status status = prove_ways(h, safe, err);
    ki_free(h->base.env->allocator, safe);
    return status;
}

/* H5. */
static kith_status prove_codes_differ(const ki_hnsw *h, kith_error *err)
{
    size_t size;
    uint32_t twice;
    uint32_t *table = make_table(h, h->n_used, &size, &twice);
    if (!table) return ki_fail_nomem(err, size * sizeof *table);
    ki_free(h->base.env->allocator, table);
    if (twice == KI_GRAPH_NONE) return KITH_OK;
    return ki_fail(err, KITH_CORRUPT, "H5: node %u is equal to another", twice);
}

static kith_status hnsw_check(const ki_structure *structure, const ki_rows *rows, kith_error *err)
{
    const ki_hnsw *h = (const ki_hnsw *)structure;
    const kith_allocator *allocator = structure->env->allocator;
    /* On a copy: what is proved about slots is filled in at the same time, and others may be reading. */
    ki_hnsw copy = *h;
    copy.n_slots = rows->n_slots;
    copy.prev = NULL;
    copy.node_of = ki_alloc(allocator, rows->n_slots, sizeof *copy.node_of);
    uint8_t *children = ki_alloc(allocator, h->n_nodes, 1);
    kith_status status = copy.node_of && children
                             ? KITH_OK
                             : ki_fail_nomem(err, rows->n_slots * sizeof *copy.node_of + h->n_nodes);
    if (status == KITH_OK) status = prove_slots(&copy, rows, err);
    for (size_t i = 0; status == KITH_OK && i < rows->n_slots; i++)
        if (copy.node_of[i] != h->node_of[i])
            status = ki_fail(err, KITH_CORRUPT, "H1: slot %zu is looked for in node %u", i, h->node_of[i]);
    if (status == KITH_OK) status = prove_graph(h, 1, err);
    if (status == KITH_OK) status = prove_tree(h, children, err);
    ki_free(allocator, copy.node_of);
    ki_free(allocator, children);
    KI_TRY(status);
    KI_TRY(prove_codes_differ(h, err));
    status = ki_row_codes_check(&h->codes, structure->env->codec, h->n_nodes, err);
    if (status == KITH_CORRUPT) ki_error_prefix(err, "H6");
    return status;
}

/* ---- Save and load ---- */

static kith_status hnsw_save(const ki_structure *structure, size_t n_slots, ki_store_writer *writer,
                             kith_error *err)
{
    const ki_hnsw *h = (const ki_hnsw *)structure;
    ki_record record;
    ki_record_init(&record, structure->env->allocator);
    ki_record_put_u64(&record, "nodes", h->n_nodes);
    ki_record_put_u64(&record, "used", h->n_used);
    ki_record_put_u64(&record, "entry", h->entry);
    ki_record_put_u64(&record, "rings", h->next != NULL);
    kith_status status = ki_store_put_record(writer, PREFIX, &record, err);
    ki_record_clear(&record);
    if (status != KITH_OK) return status;
    KI_TRY(ki_store_put(writer, PREFIX ".links", h->links, h->n_nodes, 2 * h->m * sizeof *h->links, err));
    KI_TRY(ki_store_put(writer, PREFIX ".upper", h->upper, h->n_upper, h->m * sizeof *h->upper, err));
    KI_TRY(ki_store_put(writer, PREFIX ".parents", h->parent, h->n_nodes, sizeof *h->parent, err));
    KI_TRY(ki_store_put(writer, PREFIX ".first", h->first, h->n_nodes, sizeof *h->first, err));
    if (h->next) KI_TRY(ki_store_put(writer, PREFIX ".next", h->next, n_slots, sizeof *h->next, err));
    return ki_row_codes_save(&h->codes, structure->env->codec, PREFIX, h->n_nodes, writer, err);
}

/* n rows of `width` numbers: where they lie in the map, or a copy. */
static kith_status load_array(ki_hnsw *h, ki_store *store, const char *name, size_t n, size_t width,
                              int mapped, uint32_t **own, const uint32_t **view, kith_error *err)
{
    size_t bytes = width * sizeof **own;
    const void *data;
    if (mapped) {
        KI_TRY(ki_store_array(store, name, n, bytes, &data, err));
        *view = data;
        return KITH_OK;
    }
    uint64_t count; /* before anything is allocated: whether the file holds so much */
    KI_TRY(ki_store_count(store, name, bytes, &count, err));
    if (count != n)
        return ki_fail(err, KITH_CORRUPT, "%s: section %s holds %llu rows, not %zu", ki_store_path(store),
                       name, (unsigned long long)count, n);
    *own = ki_alloc(h->base.env->allocator, n, bytes);
    if (!*own) return ki_fail_nomem(err, n * bytes);
    *view = *own;
    return ki_store_load(store, name, n, bytes, *own, err);
}

/* Where the upper rows of each node begin, and how many there are. */
static kith_status number_upper(ki_hnsw *h, kith_error *err)
{
    h->upper_row = ki_alloc(h->base.env->allocator, h->n_nodes, sizeof *h->upper_row);
    if (!h->upper_row) return ki_fail_nomem(err, h->n_nodes * sizeof *h->upper_row);
    uint64_t rows = 0;
    for (size_t i = 0; i < h->n_nodes; i++) {
        h->upper_row[i] = (uint32_t)rows;
        rows += (uint64_t)ki_hnsw_level(h, (uint32_t)i);
    }
    if (rows > UINT32_MAX)
        return ki_fail(err, KITH_CORRUPT, "%llu rows of upper links", (unsigned long long)rows);
    h->n_upper = (size_t)rows;
    return KITH_OK;
}

static kith_status load_arrays(ki_hnsw *h, ki_store *store, int mapped, int rings, kith_error *err)
{
    size_t n = h->n_nodes;
    KI_TRY(load_array(h, store, PREFIX ".first", n, 1, mapped, &h->own_first, &h->first, err));
    KI_TRY(load_array(h, store, PREFIX ".parents", n, 1, mapped, &h->own_parent, &h->parent, err));
    KI_TRY(load_array(h, store, PREFIX ".links", n, 2 * h->m, mapped, &h->own_links, &h->links, err));
    KI_TRY(number_upper(h, err));
    KI_TRY(load_array(h, store, PREFIX ".upper", h->n_upper, h->m, mapped, &h->own_upper, &h->upper, err));
    if (rings)
        KI_TRY(load_array(h, store, PREFIX ".next", h->n_slots, 1, mapped, &h->own_next, &h->next, err));
    const kith_allocator *allocator = h->base.env->allocator;
    h->node_of = ki_alloc(allocator, h->n_slots, sizeof *h->node_of);
    if (!h->node_of) return ki_fail_nomem(err, h->n_slots * sizeof *h->node_of);
    if (mapped) return KITH_OK;
    h->room = n;
    h->upper_room = h->n_upper;
    h->slot_room = h->n_slots;
    h->children = ki_alloc(allocator, n, 1);
    if (rings) h->prev = ki_alloc(allocator, h->n_slots, sizeof *h->prev);
    if (!h->children || (rings && !h->prev)) return ki_fail_nomem(err, n + h->n_slots * sizeof *h->prev);
    return KITH_OK;
}

/* What the file must keep for this code to be safe; a mapped index is never changed and needs no tree. */
static kith_status prove_loaded(ki_hnsw *h, const ki_rows *rows, int mapped, kith_error *err)
{
    size_t used = 0;
    KI_TRY(prove_slots(h, rows, err));
    for (size_t i = 0; i < h->n_nodes; i++) used += h->first[i] != KI_GRAPH_NONE;
    if (used != h->n_used || (used == 0 && h->n_nodes > 0))
        return ki_fail(err, KITH_CORRUPT, "H1: %zu nodes are in use, %zu are said to be", used, h->n_used);
    KI_TRY(prove_graph(h, !mapped, err)); /* adding and removing rely on it */
    if (!mapped) KI_TRY(prove_tree(h, h->children, err));
    h->top = used > 0 ? ki_hnsw_level(h, h->entry) : -1;
    if (used == 0) h->entry = KI_GRAPH_NONE;
    return KITH_OK;
}

static kith_status hnsw_load(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                             kith_error *err)
{
    ki_hnsw *h = (ki_hnsw *)structure;
    ki_record_view record;
    uint64_t nodes, used, entry, rings;
    KI_TRY(ki_store_record_open(store, PREFIX, &record, err));
    KI_TRY(ki_record_get_u64(&record, "nodes", 0, KI_GRAPH_NODES, &nodes, err));
    KI_TRY(ki_record_get_u64(&record, "used", 0, nodes, &used, err));
    KI_TRY(ki_record_get_u64(&record, "entry", 0, KI_GRAPH_NONE, &entry, err));
    KI_TRY(ki_record_get_u64(&record, "rings", 0, 1, &rings, err));
    /* Before memory follows from a number in the file: whether the file is as long as that. */
    uint64_t count;
    KI_TRY(ki_store_count(store, PREFIX ".first", sizeof *h->first, &count, err));
    if (count != nodes)
        return ki_fail(err, KITH_CORRUPT, "%s: %llu nodes, and %llu first slots", ki_store_path(store),
                       (unsigned long long)nodes, (unsigned long long)count);
    if (!rings && rows->n != used) /* with rings it is the section of these that proves the number of slots */
        return ki_fail(err, KITH_CORRUPT, "%s: H1: %zu rows, and %llu nodes without rings",
                       ki_store_path(store), (size_t)rows->n, (unsigned long long)used);
    h->n_nodes = (size_t)nodes;
    h->n_used = (size_t)used;
    h->entry = (uint32_t)entry;
    h->n_slots = rows->n_slots;
    KI_TRY(load_arrays(h, store, mapped, (int)rings, err));
    KI_TRY(ki_row_codes_load(&h->codes, structure->env->codec, PREFIX, h->n_nodes, mapped, store, err));
    kith_status status = prove_loaded(h, rows, mapped, err);
    if (status == KITH_CORRUPT) ki_error_prefix(err, "%s", ki_store_path(store));
    return status;
}

static uint64_t hnsw_bytes(const ki_structure *structure)
{
    const ki_hnsw *h = (const ki_hnsw *)structure;
    uint64_t node = (2 * h->m + 3) * sizeof(uint32_t) + 1; /* links, parent, first, upper_row, children */
    uint64_t slot = h->next ? 3 * sizeof(uint32_t) : sizeof(uint32_t);
    return ki_row_codes_bytes(&h->codes, structure->env->codec) + h->n_nodes * node +
           h->n_upper * h->m * sizeof(uint32_t) + h->n_slots * slot;
}

static const ki_structure_ops hnsw_ops = {
    .create = hnsw_create,
    .free = hnsw_free,
    .add = ki_hnsw_add,
    .reserve = ki_hnsw_reserve,
    .prepare_remove = ki_hnsw_prepare_remove,
    .remove = ki_hnsw_remove,
    .decode = hnsw_decode,
    .decode_bits = hnsw_decode_bits,
    .scratch_create = ki_hnsw_scratch_create,
    .scratch_free = ki_hnsw_scratch_free,
    .prepare = ki_hnsw_prepare,
    .search = ki_hnsw_search,
    .save = hnsw_save,
    .load = hnsw_load,
    .check = hnsw_check,
    .bytes = hnsw_bytes,
};

const ki_structure_part ki_structure_hnsw = {
    .part = {.info = {.pattern = "HNSW<M>",
                      .about =
                          "structure: a graph of M to 2M links a row with express levels; the fastest single "
                          "queries at high recall, for slow builds and some 100 bytes of links a row",
                      .params = params,
                      .n_params = sizeof params / sizeof *params},
             .args = {{"M", 2, 128, 0}}},
    .main_param = "ef",
    .metrics = KI_FLOAT_METRICS,
    .ops = &hnsw_ops,
};

/* The same graph over bits: its codec has encode_bits and query_bits, and nothing else differs. */
const ki_structure_part ki_structure_bhnsw = {
    .part =
        {.info = {.pattern = "BHNSW<M>",
                  .about =
                      "structure over bits: HNSW by the Hamming distance; approximate, the fastest for codes "
                      "whose neighbours are far apart (128 bits and more)",
                  .params = params,
                  .n_params = sizeof params / sizeof *params},
         .args = {{"M", 2, 128, 0}}},
    .main_param = "ef",
    .metrics = KI_METRIC_BIT(KITH_HAMMING),
    .ops = &hnsw_ops,
    .codec = &ki_codec_part_bits,
};
