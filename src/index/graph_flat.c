/* graph_flat.c - graphs of one level: life, the invariants, files. The essay is in graph_flat.h. */
#include "index/graph_flat.h"

#include <stdio.h>
#include <string.h>

#include "base/bitset.h"
#include "base/error.h"

#define NAME 48 /* of a section */

/* ---- Create and free ---- */

kith_status ki_flat_create(const ki_structure_env *env, const ki_flat_kind *kind, ki_structure **structure,
                           kith_error *err)
{
    *structure = NULL;
    ki_flat *g = ki_alloc_zero(env->allocator, 1, sizeof *g);
    if (!g) return ki_fail_nomem(err, sizeof *g);
    g->base.env = env;
    g->kind = kind;
    g->degree = kind->links * (size_t)env->args[0];
    g->chosen = kind->chosen * (size_t)env->args[0];
    ki_nodes_init(&g->nodes, env);
    ki_flat_reset(g);
    *structure = &g->base;
    return KITH_OK;
}

void ki_flat_free(ki_structure *structure)
{
    ki_flat *g = (ki_flat *)structure;
    const kith_allocator *allocator = structure->env->allocator;
    ki_flat_remover_free(g);
    ki_nodes_clear(&g->nodes);
    ki_free(allocator, g->own_links);
    ki_free(allocator, g->own_parent);
    ki_free(allocator, g->children);
    ki_free(allocator, g);
}

void ki_flat_reset(ki_flat *g)
{
    ki_nodes_reset(&g->nodes);
    g->entry = KI_GRAPH_NONE;
}

void ki_flat_decode(const ki_structure *structure, uint32_t slot, float *out)
{
    const ki_flat *g = (const ki_flat *)structure;
    const ki_codec *codec = structure->env->codec;
    uint32_t node = g->nodes.node_of[slot];
    codec->ops->decode(codec, ki_nodes_code(&g->nodes, node), ki_row_factor(&g->nodes.codes, codec, node),
                       NULL, out);
}

/* ---- The invariants ---- */

/* G1, and that the entry is in use. distinct 0: links may stand twice, which is harmless where the graph is only
 * searched. */
static kith_status prove_graph(const ki_flat *g, int distinct, kith_error *err)
{
    const kith_allocator *allocator = g->base.env->allocator;
    size_t words = ki_bits_words(g->nodes.n) + 1;
    uint64_t *seen = distinct ? ki_alloc_zero(allocator, words, sizeof *seen) : NULL;
    if (distinct && !seen) return ki_fail_nomem(err, words * sizeof *seen);
    kith_status status = KITH_OK;
    ki_graph graph = ki_flat_graph(g);
    for (size_t i = 0; status == KITH_OK && i < g->nodes.n; i++)
        status = ki_nodes_prove_row(&g->nodes, &graph, (uint32_t)i, seen, "G1", err);
    ki_free(allocator, seen);
    KI_TRY(status);
    if (g->nodes.n_used > 0 && (g->entry >= g->nodes.n || !ki_nodes_used(&g->nodes, g->entry)))
        return ki_fail(err, KITH_CORRUPT, "G2: the entry is node %u, which is not in use", g->entry);
    return KITH_OK;
}

/* G2; children[n] is filled. */
static kith_status prove_tree(const ki_flat *g, uint16_t *children, kith_error *err)
{
    memset(children, 0, g->nodes.n * sizeof *children);
    for (size_t i = 0; i < g->nodes.n; i++) {
        uint32_t node = (uint32_t)i, parent = g->parent[i];
        int root = node == g->entry || !ki_nodes_used(&g->nodes, node);
        if (root != (parent == KI_GRAPH_NONE))
            return ki_fail(err, KITH_CORRUPT, "G2: node %u %s", node,
                           root ? "is free or the entry and has a parent" : "has no parent");
        if (root) continue;
        if (parent >= g->nodes.n ||
            !ki_graph_has_link(g->links + (size_t)parent * g->degree, g->degree, node))
            return ki_fail(err, KITH_CORRUPT, "G2: node %u is not linked from its parent %u", node, parent);
        if (children[parent]++ == ki_flat_children(g))
            return ki_fail(err, KITH_CORRUPT, "G2: node %u has more than %zu children", parent,
                           ki_flat_children(g));
    }
    return ki_nodes_prove_ways(&g->nodes, g->parent, "G2", err);
}

kith_status ki_flat_check(const ki_structure *structure, const ki_rows *rows, kith_error *err)
{
    const ki_flat *g = (const ki_flat *)structure;
    KI_TRY(ki_nodes_check(&g->nodes, rows, err));
    KI_TRY(prove_graph(g, 1, err));
    uint16_t *children = ki_alloc(structure->env->allocator, g->nodes.n, sizeof *children);
    if (!children) return ki_fail_nomem(err, g->nodes.n * sizeof *children);
    kith_status status = prove_tree(g, children, err);
    ki_free(structure->env->allocator, children);
    return status;
}

/* ---- Save and load ---- */

kith_status ki_flat_save(const ki_structure *structure, size_t n_slots, ki_store_writer *writer,
                         kith_error *err)
{
    const ki_flat *g = (const ki_flat *)structure;
    const char *prefix = g->kind->prefix;
    char name[NAME];
    ki_record record;
    ki_record_init(&record, structure->env->allocator);
    ki_nodes_save_record(&g->nodes, &record);
    ki_record_put_u64(&record, "entry", g->entry);
    kith_status status = ki_store_put_record(writer, prefix, &record, err);
    ki_record_clear(&record);
    KI_TRY(status);
    snprintf(name, sizeof name, "%s.links", prefix);
    KI_TRY(ki_store_put(writer, name, g->links, g->nodes.n, g->degree * sizeof *g->links, err));
    snprintf(name, sizeof name, "%s.parents", prefix);
    KI_TRY(ki_store_put(writer, name, g->parent, g->nodes.n, sizeof *g->parent, err));
    return ki_nodes_save(&g->nodes, prefix, n_slots, writer, err);
}

static kith_status load_links(ki_flat *g, ki_store *store, int mapped, kith_error *err)
{
    const kith_allocator *allocator = g->base.env->allocator;
    size_t n = g->nodes.n;
    char name[NAME];
    snprintf(name, sizeof name, "%s.links", g->kind->prefix);
    KI_TRY(ki_graph_load_array(allocator, store, name, n, g->degree, mapped, &g->own_links, &g->links, err));
    snprintf(name, sizeof name, "%s.parents", g->kind->prefix);
    KI_TRY(ki_graph_load_array(allocator, store, name, n, 1, mapped, &g->own_parent, &g->parent, err));
    KI_TRY(prove_graph(g, !mapped, err)); /* adding and removing rely on it */
    if (mapped) return KITH_OK;           /* never changed, needs no tree */
    g->room = n;
    g->children = ki_alloc(allocator, n, sizeof *g->children);
    if (!g->children) return ki_fail_nomem(err, n * sizeof *g->children);
    return prove_tree(g, g->children, err);
}

kith_status ki_flat_load(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                         kith_error *err)
{
    ki_flat *g = (ki_flat *)structure;
    ki_record_view record;
    uint64_t entry;
    KI_TRY(ki_store_record_open(store, g->kind->prefix, &record, err));
    KI_TRY(ki_record_get_u64(&record, "entry", 0, KI_GRAPH_NONE, &entry, err));
    g->entry = (uint32_t)entry;
    kith_status status = ki_nodes_load(&g->nodes, g->kind->prefix, &record, store, mapped, rows, err);
    if (status == KITH_OK) status = load_links(g, store, mapped, err);
    if (status == KITH_OK && g->nodes.n_used == 0) g->entry = KI_GRAPH_NONE;
    if (status == KITH_CORRUPT) ki_error_prefix(err, "%s", ki_store_path(store));
    return status;
}

uint64_t ki_flat_bytes(const ki_structure *structure)
{
    const ki_flat *g = (const ki_flat *)structure;
    return ki_nodes_bytes(&g->nodes) + g->nodes.n * ((g->degree + 1) * sizeof(uint32_t) + sizeof(uint16_t));
}
