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
 * Layout, by node number (graph_nodes.h: equal rows share one):
 *
 *      links  [nodes][2M]   level 0, ends with NONE        parent [nodes]       and what graph_nodes.h keeps
 *      upper  [n_upper][M]  levels 1..l of node 0, then those of node 1, ...
 *
 * Invariants beside N1..N3 of graph_nodes.h:
 *   H1  links name nodes in use that stand on that level, not the node itself, none twice; used ones come first; rows of
 *       links of free nodes are empty
 *   H2  the entry point is in use, and no node in use stands higher
 *   H3  one node in use has no parent; every other has one in use, linked in both directions; no node has more than M
 *       children; parents lead to the root: so every node is reachable on level 0
 *
 * Cost:        add     a walk with ef_construction a level, and some M^2 distances of selection; the batch's pairs
 *              search  some 10 x ef rows scored, at random places
 *              remove  a pass over all links (n x M x 8 bytes) a call, and some 100 distances for each link that was lost:
 *                      remove many rows by one call
 *              memory  code_size + 8 M + 8 M / (M - 1) / 2 + 18 bytes a row; while it grows a table of 8 to 16 more
 *              open    every link is looked at once, mapped or not
 * Sections:    "hnsw" (record: nodes, used, entry, rings), "hnsw.links", "hnsw.upper", "hnsw.parents", and those of
 *              graph_nodes.h.
 */
#include "index/hnsw_internal.h"

#include <string.h>

#include "base/bitset.h"
#include "base/error.h"
#include "base/rng.h"
#include "index/graph_answer.h"

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
    [KI_HNSW_ALPHA] =
        {"alpha", KITH_PARAM_FLOAT, KITH_AT_BUILD, 1, 4, 1,
         "a link is left out where another leads this many times nearer to its end; 1: as in the paper"},
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
    ki_nodes_init(&h->nodes, env);
    ki_hnsw_reset(h);
    *structure = &h->base;
    return KITH_OK;
}

static void hnsw_free(ki_structure *structure)
{
    ki_hnsw *h = (ki_hnsw *)structure;
    const kith_allocator *allocator = structure->env->allocator;
    ki_hnsw_remover_free(h);
    ki_nodes_clear(&h->nodes);
    ki_free(allocator, h->own_links);
    ki_free(allocator, h->own_upper);
    ki_free(allocator, h->own_parent);
    ki_free(allocator, h->upper_row);
    ki_free(allocator, h->children);
    ki_free(allocator, h);
}

void ki_hnsw_reset(ki_hnsw *h)
{
    ki_nodes_reset(&h->nodes);
    h->n_upper = 0;
    h->entry = KI_GRAPH_NONE;
    h->top = -1;
}

static void hnsw_decode(const ki_structure *structure, uint32_t slot, float *out)
{
    const ki_nodes *nodes = &((const ki_hnsw *)structure)->nodes;
    const ki_codec *codec = structure->env->codec;
    uint32_t node = nodes->node_of[slot];
    codec->ops->decode(codec, ki_nodes_code(nodes, node), ki_nodes_factor(nodes, node), NULL, out);
}

static void hnsw_decode_bits(const ki_structure *structure, uint32_t slot, uint8_t *out)
{
    const ki_nodes *nodes = &((const ki_hnsw *)structure)->nodes;
    const ki_codec *codec = structure->env->codec;
    codec->ops->decode_bits(codec, ki_nodes_code(nodes, nodes->node_of[slot]), out);
}

/* ---- The invariants ---- */

/* H1 for the rows of a node; seen: or NULL. */
static kith_status prove_node(const ki_hnsw *h, uint32_t node, uint64_t *seen, kith_error *err)
{
    for (int level = ki_hnsw_level(h, node); level >= 0; level--) {
        ki_graph graph = ki_hnsw_graph(h, level);
        KI_TRY(ki_nodes_prove_row(&h->nodes, &graph, node, seen, "H1", err));
        const uint32_t *links = ki_graph_links(&graph, node);
        for (size_t i = 0; level > 0 && i < graph.degree && links[i] != KI_GRAPH_NONE; i++)
            if (ki_hnsw_level(h, links[i]) < level)
                return ki_fail(err, KITH_CORRUPT, "H1: node %u has a link to %u on level %d", node, links[i],
                               level);
    }
    return KITH_OK;
}

/* H1 and H2. distinct 0: links may stand twice, which is harmless where the graph is only searched. */
static kith_status prove_graph(const ki_hnsw *h, int distinct, kith_error *err)
{
    const kith_allocator *allocator = h->base.env->allocator;
    const ki_nodes *nodes = &h->nodes;
    int top = -1;
    size_t words = ki_bits_words(nodes->n) + 1;
    uint64_t *seen = distinct ? ki_alloc_zero(allocator, words, sizeof *seen) : NULL;
    if (distinct && !seen) return ki_fail_nomem(err, words * sizeof *seen);
    kith_status status = KITH_OK;
    for (size_t i = 0; i < nodes->n && status == KITH_OK; i++) {
        int level = ki_hnsw_level(h, (uint32_t)i);
        status = prove_node(h, (uint32_t)i, seen, err);
        if (ki_nodes_used(nodes, (uint32_t)i) && level > top) top = level;
    }
    ki_free(allocator, seen);
    if (status != KITH_OK || nodes->n_used == 0) return status;
    if (h->entry >= nodes->n || !ki_nodes_used(nodes, h->entry) || ki_hnsw_level(h, h->entry) != top)
        return ki_fail(err, KITH_CORRUPT, "H2: the entry point is node %u, the highest level %d", h->entry,
                       top);
    return KITH_OK;
}

static int linked(const ki_hnsw *h, uint32_t from, uint32_t to)
{
    return ki_graph_has_link(h->links + (size_t)from * 2 * h->m, 2 * h->m, to);
}

/* H3; children[nodes] is filled. */
static kith_status prove_tree(const ki_hnsw *h, uint16_t *children, kith_error *err)
{
    const ki_nodes *nodes = &h->nodes;
    size_t roots = 0;
    memset(children, 0, nodes->n * sizeof *children);
    for (size_t i = 0; i < nodes->n; i++) {
        uint32_t node = (uint32_t)i, parent = h->parent[i];
        if (!ki_nodes_used(nodes, node)) {
            if (parent != KI_GRAPH_NONE)
                return ki_fail(err, KITH_CORRUPT, "H3: node %u is free and has a parent", node);
            continue;
        }
        roots += parent == KI_GRAPH_NONE;
        if (parent == KI_GRAPH_NONE) continue;
        if (parent >= nodes->n || !linked(h, node, parent) || !linked(h, parent, node))
            return ki_fail(err, KITH_CORRUPT, "H3: node %u and its parent %u are not linked", node, parent);
        if (children[parent]++ == ki_hnsw_children(h))
            return ki_fail(err, KITH_CORRUPT, "H3: node %u has more than %zu children", parent,
                           ki_hnsw_children(h));
    }
    if (roots != (nodes->n_used > 0))
        return ki_fail(err, KITH_CORRUPT, "H3: %zu nodes have no parent", roots);
    return ki_nodes_prove_ways(nodes, h->parent, "H3", err);
}

static kith_status hnsw_check(const ki_structure *structure, const ki_rows *rows, kith_error *err)
{
    const ki_hnsw *h = (const ki_hnsw *)structure;
    KI_TRY(ki_nodes_check(&h->nodes, rows, err));
    KI_TRY(prove_graph(h, 1, err));
    uint16_t *children = ki_alloc(structure->env->allocator, h->nodes.n, sizeof *children);
    if (!children) return ki_fail_nomem(err, h->nodes.n * sizeof *children);
    kith_status status = prove_tree(h, children, err);
    ki_free(structure->env->allocator, children);
    return status;
}

/* ---- Save and load ---- */

static kith_status hnsw_save(const ki_structure *structure, size_t n_slots, ki_store_writer *writer,
                             kith_error *err)
{
    const ki_hnsw *h = (const ki_hnsw *)structure;
    const ki_nodes *nodes = &h->nodes;
    ki_record record;
    ki_record_init(&record, structure->env->allocator);
    /* Not by ki_nodes_save_record: in the order in which files of the first format have them. */
    ki_record_put_u64(&record, "nodes", nodes->n);
    ki_record_put_u64(&record, "used", nodes->n_used);
    ki_record_put_u64(&record, "entry", h->entry);
    ki_record_put_u64(&record, "rings", nodes->next != NULL);
    kith_status status = ki_store_put_record(writer, PREFIX, &record, err);
    ki_record_clear(&record);
    if (status != KITH_OK) return status;
    KI_TRY(ki_store_put(writer, PREFIX ".links", h->links, nodes->n, 2 * h->m * sizeof *h->links, err));
    KI_TRY(ki_store_put(writer, PREFIX ".upper", h->upper, h->n_upper, h->m * sizeof *h->upper, err));
    KI_TRY(ki_store_put(writer, PREFIX ".parents", h->parent, nodes->n, sizeof *h->parent, err));
    return ki_nodes_save(nodes, PREFIX, n_slots, writer, err);
}

/* Where the upper rows of each node begin, and how many there are. */
static kith_status number_upper(ki_hnsw *h, kith_error *err)
{
    size_t n = h->nodes.n;
    h->upper_row = ki_alloc(h->base.env->allocator, n, sizeof *h->upper_row);
    if (!h->upper_row) return ki_fail_nomem(err, n * sizeof *h->upper_row);
    uint64_t rows = 0;
    for (size_t i = 0; i < n; i++) {
        h->upper_row[i] = (uint32_t)rows;
        rows += (uint64_t)ki_hnsw_level(h, (uint32_t)i);
    }
    if (rows > UINT32_MAX)
        return ki_fail(err, KITH_CORRUPT, "%llu rows of upper links", (unsigned long long)rows);
    h->n_upper = (size_t)rows;
    return KITH_OK;
}

/* Links and tree. What the file must keep for this code to be safe; a mapped index is never changed and needs no tree. */
static kith_status load_links(ki_hnsw *h, ki_store *store, int mapped, kith_error *err)
{
    const kith_allocator *allocator = h->base.env->allocator;
    size_t n = h->nodes.n;
    KI_TRY(ki_graph_load_array(allocator, store, PREFIX ".links", n, 2 * h->m, mapped, &h->own_links,
                               &h->links, err));
    KI_TRY(ki_graph_load_array(allocator, store, PREFIX ".parents", n, 1, mapped, &h->own_parent, &h->parent,
                               err));
    KI_TRY(number_upper(h, err));
    KI_TRY(ki_graph_load_array(allocator, store, PREFIX ".upper", h->n_upper, h->m, mapped, &h->own_upper,
                               &h->upper, err));
    KI_TRY(prove_graph(h, !mapped, err)); /* adding and removing rely on distinct links */
    if (mapped) return KITH_OK;
    h->room = n;
    h->upper_room = h->n_upper;
    h->children = ki_alloc(allocator, n, sizeof *h->children);
    if (!h->children) return ki_fail_nomem(err, n * sizeof *h->children);
    return prove_tree(h, h->children, err);
}

static kith_status hnsw_load(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                             kith_error *err)
{
    ki_hnsw *h = (ki_hnsw *)structure;
    ki_record_view record;
    uint64_t entry;
    KI_TRY(ki_store_record_open(store, PREFIX, &record, err));
    KI_TRY(ki_record_get_u64(&record, "entry", 0, KI_GRAPH_NONE, &entry, err));
    h->entry = (uint32_t)entry;
    kith_status status = ki_nodes_load(&h->nodes, PREFIX, &record, store, mapped, rows, err);
    if (status == KITH_OK) status = load_links(h, store, mapped, err);
    if (status == KITH_CORRUPT) ki_error_prefix(err, "%s", ki_store_path(store));
    if (status != KITH_OK) return status;
    if (h->nodes.n_used == 0) h->entry = KI_GRAPH_NONE;
    h->top = h->nodes.n_used > 0 ? ki_hnsw_level(h, h->entry) : -1;
    return KITH_OK;
}

static uint64_t hnsw_bytes(const ki_structure *structure)
{
    const ki_hnsw *h = (const ki_hnsw *)structure;
    uint64_t node =
        (2 * h->m + 2) * sizeof(uint32_t) + sizeof(uint16_t); /* links, parent, upper_row, children */
    return ki_nodes_bytes(&h->nodes) + h->nodes.n * node + h->n_upper * h->m * sizeof(uint32_t);
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
    .scratch_create = ki_answer_scratch_create,
    .scratch_free = ki_answer_scratch_free,
    .prepare = ki_hnsw_prepare,
    .search = ki_hnsw_search,
    .next = ki_hnsw_next,
    .save = hnsw_save,
    .load = hnsw_load,
    .check = hnsw_check,
    .bytes = hnsw_bytes,
};

const ki_structure_part ki_structure_hnsw = {
    .part =
        {.info = {.pattern = "HNSW<M>",
                  .about =
                      "structure: a graph of M to 2M links a row with express levels, which takes rows in "
                      "and out "
                      "at any time; fast at high recall, for slow builds and some 100 bytes of links a row",
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
