#include "index/graph_nodes.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/bitset.h"
#include "base/error.h"

/* Of a node with very many equal rows this many are offered to one query (all to a range search): the first in the
 * order in which they came. */
#define EQUALS 1024

/* ---- Life ---- */

void ki_nodes_init(ki_nodes *nodes, const ki_structure_env *env)
{
    memset(nodes, 0, sizeof *nodes);
    nodes->env = env;
    ki_row_codes_init(&nodes->codes, env->allocator);
}

void ki_nodes_clear(ki_nodes *nodes)
{
    const kith_allocator *allocator = nodes->env->allocator;
    ki_row_codes_clear(&nodes->codes);
    ki_free(allocator, nodes->own_first);
    ki_free(allocator, nodes->own_next);
    ki_free(allocator, nodes->prev);
    ki_free(allocator, nodes->node_of);
    ki_free(allocator, nodes->table);
}

void ki_nodes_reset(ki_nodes *nodes)
{
    if (nodes->n > 0) /* what was removed does not stay in memory that files are written from */
        memset(nodes->codes.own_code, 0, nodes->n * nodes->env->codec->code_size);
    if (nodes->table) memset(nodes->table, 0xff, nodes->table_size * sizeof *nodes->table);
    nodes->n = nodes->n_used = nodes->lowest_free = 0;
    nodes->codes.n_slots = 0;
}

/* ---- Nodes by code: open addressing, linear probing ---- */

/* The place of a code and its factors in a table, or the empty one where it would stand. */
static size_t place(const ki_nodes *nodes, const uint32_t *table, size_t size, const uint8_t *code,
                    const float *factor)
{
    const ki_codec *codec = nodes->env->codec;
    size_t i = ki_row_hash(codec, code, factor) & (size - 1);
    while (table[i] != KI_GRAPH_NONE && !ki_row_equals(&nodes->codes, codec, table[i], code, factor))
        i = (i + 1) & (size - 1);
    return i;
}

/* The same for a node. */
static size_t place_of(const ki_nodes *nodes, const uint32_t *table, size_t size, uint32_t node)
{
    return place(nodes, table, size, ki_nodes_code(nodes, node), ki_nodes_factor(nodes, node));
}

/* A table for n nodes that holds those in use. *twice: a node equal to another, or KI_GRAPH_NONE. NULL: no
 * memory. */
static uint32_t *make_table(const ki_nodes *nodes, size_t n, size_t *size, uint32_t *twice)
{
    *size = 16;
    while (*size < 2 * n) *size *= 2;
    *twice = KI_GRAPH_NONE;
    uint32_t *table = ki_alloc(nodes->env->allocator, *size, sizeof *table);
    if (!table) return NULL;
    memset(table, 0xff, *size * sizeof *table);
    for (size_t i = 0; i < nodes->n; i++) {
        if (!ki_nodes_used(nodes, (uint32_t)i)) continue;
        size_t at = place_of(nodes, table, *size, (uint32_t)i);
        if (table[at] != KI_GRAPH_NONE) *twice = (uint32_t)i;
        table[at] = (uint32_t)i;
    }
    return table;
}

static kith_status reserve_table(ki_nodes *nodes, size_t n, kith_error *err)
{
    if (nodes->table && nodes->table_size >= 2 * n) return KITH_OK;
    size_t size;
    uint32_t twice;
    uint32_t *table = make_table(nodes, nodes->table ? ki_grown(nodes->n, n) : n, &size, &twice);
    if (!table) return ki_fail_nomem(err, size * sizeof *table);
    ki_free(nodes->env->allocator, nodes->table);
    nodes->table = table;
    nodes->table_size = size;
    return KITH_OK;
}

/* Take a node out and close the gap, so that no probe stops too early (Knuth, TAOCP 3, 6.4, algorithm R). */
static void table_take(ki_nodes *nodes, uint32_t node)
{
    if (!nodes->table) return;
    const ki_codec *codec = nodes->env->codec;
    size_t mask = nodes->table_size - 1, gap = place_of(nodes, nodes->table, nodes->table_size, node);
    for (size_t i = (gap + 1) & mask; nodes->table[i] != KI_GRAPH_NONE; i = (i + 1) & mask) {
        uint32_t other = nodes->table[i];
        size_t home = ki_row_hash(codec, ki_nodes_code(nodes, other), ki_nodes_factor(nodes, other)) & mask;
        if (((i - home) & mask) < ((i - gap) & mask)) continue; /* its home lies behind the gap */
        nodes->table[gap] = nodes->table[i];
        gap = i;
    }
    nodes->table[gap] = KI_GRAPH_NONE;
}

/* ---- Rows come ---- */

kith_status ki_graph_grow(const kith_allocator *allocator, uint32_t **array, const uint32_t **view, size_t n,
                          size_t room, size_t width, kith_error *err)
{
    uint32_t *grown = ki_realloc(allocator, *array, n * width, room * width, sizeof *grown);
    if (!grown) return ki_fail_nomem(err, room * width * sizeof *grown);
    *array = grown;
    if (view) *view = grown;
    return KITH_OK;
}

size_t ki_nodes_need(const ki_nodes *nodes, size_t rows)
{
    return nodes->n_used + rows > nodes->n ? nodes->n_used + rows : nodes->n;
}

static kith_status reserve_slots(ki_nodes *nodes, size_t n_slots, kith_error *err)
{
    const kith_allocator *allocator = nodes->env->allocator;
    if (n_slots > nodes->slot_room) {
        size_t room = nodes->slot_room == 0 ? n_slots : ki_grown(nodes->slot_room, n_slots);
        KI_TRY(ki_graph_grow(allocator, &nodes->node_of, NULL, nodes->n_slots, room, 1, err));
        if (nodes->own_next) {
            KI_TRY(ki_graph_grow(allocator, &nodes->own_next, &nodes->next, nodes->n_slots, room, 1, err));
            KI_TRY(ki_graph_grow(allocator, &nodes->prev, NULL, nodes->n_slots, room, 1, err));
        }
        nodes->slot_room = room;
    }
    for (size_t i = nodes->n_slots; i < n_slots; i++) {
        nodes->node_of[i] = KI_GRAPH_NONE;
        if (nodes->own_next) nodes->own_next[i] = nodes->prev[i] = (uint32_t)i;
    }
    if (n_slots > nodes->n_slots) nodes->n_slots = n_slots;
    return KITH_OK;
}

kith_status ki_nodes_reserve(ki_nodes *nodes, size_t rows, size_t n_slots, kith_error *err)
{
    const ki_structure_env *env = nodes->env;
    size_t need = ki_nodes_need(nodes, rows);
    if (need > KI_GRAPH_NODES)
        return ki_fail(err, KITH_INVALID, "%zu rows in a graph, allowed %zu", need, KI_GRAPH_NODES);
    if (need > nodes->room) {
        size_t room = nodes->room == 0 ? need : ki_grown(nodes->room, need);
        KI_TRY(ki_graph_grow(env->allocator, &nodes->own_first, &nodes->first, nodes->n, room, 1, err));
        nodes->room = room;
    }
    KI_TRY(ki_row_codes_reserve(&nodes->codes, env->codec, need, err));
    KI_TRY(reserve_table(nodes, need, err));
    return reserve_slots(nodes, n_slots, err);
}

/* Made from the first pair of equal rows on. */
kith_status ki_nodes_reserve_rings(ki_nodes *nodes, kith_error *err)
{
    if (nodes->own_next) return KITH_OK;
    const kith_allocator *allocator = nodes->env->allocator;
    uint32_t *next = ki_alloc(allocator, nodes->slot_room, sizeof *next);
    uint32_t *prev = ki_alloc(allocator, nodes->slot_room, sizeof *prev);
    if (!next || !prev) {
        ki_free(allocator, next);
        ki_free(allocator, prev);
        return ki_fail_nomem(err, 2 * nodes->slot_room * sizeof *next);
    }
    for (size_t i = 0; i < nodes->n_slots; i++) next[i] = prev[i] = (uint32_t)i;
    nodes->next = nodes->own_next = next;
    nodes->prev = prev;
    return KITH_OK;
}

/* A slot joins the ring of a node, as its last. */
static void join(ki_nodes *nodes, uint32_t node, uint32_t slot)
{
    uint32_t first = nodes->first[node], last = nodes->prev[first];
    nodes->own_next[slot] = first;
    nodes->prev[slot] = last;
    nodes->prev[first] = slot;
    nodes->node_of[slot] = node;
    ki_graph_store(&nodes->own_next[last], slot);
}

/* A number for a new node: the lowest free one. */
static uint32_t number(ki_nodes *nodes)
{
    uint32_t node = (uint32_t)nodes->n;
    if (nodes->n_used < nodes->n) {
        while (ki_nodes_used(nodes, (uint32_t)nodes->lowest_free)) nodes->lowest_free++;
        node = (uint32_t)nodes->lowest_free;
    } else {
        ki_graph_store(&nodes->own_first[node], KI_GRAPH_NONE); /* searches look at all numbers below n */
        nodes->codes.n_slots = ++nodes->n;
    }
    nodes->n_used++;
    return node;
}

kith_status ki_nodes_take(ki_nodes *nodes, const uint8_t *code, const float *factor, uint32_t slot,
                          uint32_t *node, int *fresh, kith_error *err)
{
    const ki_codec *codec = nodes->env->codec;
    size_t at = place(nodes, nodes->table, nodes->table_size, code, factor);
    *node = nodes->table[at];
    *fresh = *node == KI_GRAPH_NONE;
    if (!*fresh) {
        KI_TRY(ki_nodes_reserve_rings(nodes, err));
        join(nodes, *node, slot);
        return KITH_OK;
    }
    *node = nodes->table[at] = number(nodes);
    memcpy(nodes->codes.own_code + (size_t)*node * codec->code_size, code, codec->code_size);
    if (codec->n_factors > 0)
        memcpy(nodes->codes.own_factor + (size_t)*node * codec->n_factors, factor,
               codec->n_factors * sizeof *factor);
    nodes->node_of[slot] = *node;
    ki_graph_store(&nodes->own_first[*node], slot);
    return KITH_OK;
}

/* ---- Rows go ---- */

uint32_t ki_nodes_leave(ki_nodes *nodes, uint32_t slot)
{
    uint32_t node = nodes->node_of[slot];
    nodes->node_of[slot] = KI_GRAPH_NONE;
    if (nodes->own_next && nodes->own_next[slot] != slot) {
        uint32_t next = nodes->own_next[slot], prev = nodes->prev[slot];
        nodes->own_next[prev] = next;
        nodes->prev[next] = prev;
        nodes->own_next[slot] = nodes->prev[slot] = slot;
        if (nodes->first[node] == slot) nodes->own_first[node] = next;
        return KI_GRAPH_NONE;
    }
    nodes->own_first[node] = KI_GRAPH_NONE;
    nodes->n_used--;
    return node;
}

void ki_nodes_erase(ki_nodes *nodes, uint32_t node)
{
    table_take(nodes, node);
    ki_row_codes_erase(&nodes->codes, nodes->env->codec, &node, 1);
    if (node < nodes->lowest_free) nodes->lowest_free = node;
}

void ki_nodes_trim(ki_nodes *nodes)
{
    while (nodes->n > 0 && !ki_nodes_used(nodes, (uint32_t)nodes->n - 1)) nodes->n--;
    nodes->codes.n_slots = nodes->n;
}

void ki_nodes_forget_slots(ki_nodes *nodes, size_t n_slots)
{
    if (n_slots < nodes->n_slots) nodes->n_slots = n_slots;
}

/* ---- Trees ---- */

/* A child of a node that has some. */
static uint32_t a_child(const ki_graph *graph, const ki_graph_tree *tree, uint32_t node,
                        const uint32_t *fresh, size_t n)
{
    const uint32_t *links = ki_graph_links(graph, node);
    for (size_t i = 0; i < graph->degree && links[i] != KI_GRAPH_NONE; i++)
        if (tree->parent[links[i]] == node) return links[i];
    size_t i = 0;
    while (i < n && tree->parent[fresh[i]] != node) i++;
    assert(i < n);
    return fresh[i];
}

uint32_t ki_graph_roomy(const ki_graph *graph, const ki_graph_tree *tree, uint32_t node,
                        const uint32_t *fresh, size_t n)
{
    while (tree->children[node] >= tree->most) node = a_child(graph, tree, node, fresh, n);
    return node;
}

/* ---- Searching ---- */

int ki_nodes_allowed(const void *ctx, const ki_query *query, uint32_t node)
{
    const ki_nodes *nodes = ctx;
    uint32_t first = ki_nodes_first(nodes, node), slot = first;
    do {
        if (ki_query_allows(query, slot)) return 1;
        slot = ki_nodes_next(nodes, slot);
    } while (slot != first);
    return 0;
}

void ki_nodes_offer(const ki_nodes *nodes, ki_query *query, float dist, uint32_t node)
{
    uint32_t first = ki_nodes_first(nodes, node), slot = first;
    size_t most = query->found ? SIZE_MAX : query->top.k > EQUALS ? query->top.k : EQUALS;
    do {
        if (!ki_query_selective(query) || ki_query_allows(query, slot)) {
            ki_query_offer(query, dist, slot);
            most--;
        }
        slot = ki_nodes_next(nodes, slot);
    } while (slot != first && most > 0 && !(query->found && query->found->failed));
}

/* ---- The invariants ---- */

/* N1, and what follows from it: node_of, prev. */
static kith_status prove_slots(ki_nodes *nodes, const ki_rows *rows, kith_error *err)
{
    size_t n = 0;
    memset(nodes->node_of, 0xff, nodes->n_slots * sizeof *nodes->node_of);
    for (size_t i = 0; i < nodes->n_slots && nodes->prev; i++) nodes->prev[i] = (uint32_t)i;
    for (size_t node = 0; node < nodes->n; node++) {
        uint32_t first = nodes->first[node], slot = first;
        if (first == KI_GRAPH_NONE) continue;
        do {
            if (slot >= nodes->n_slots || !ki_rows_used(rows, slot))
                return ki_fail(err, KITH_CORRUPT, "N1: node %zu has slot %u, which no row has", node, slot);
            if (nodes->node_of[slot] != KI_GRAPH_NONE)
                return ki_fail(err, KITH_CORRUPT, "N1: slot %u stands in node %zu and once before", slot,
                               node);
            nodes->node_of[slot] = (uint32_t)node;
            uint32_t next = nodes->next ? nodes->next[slot] : first;
            if (nodes->prev && next < nodes->n_slots) nodes->prev[next] = slot;
            slot = next;
            n++;
        } while (slot != first);
    }
    if (n != rows->n)
        return ki_fail(err, KITH_CORRUPT, "N1: %zu rows in the nodes, %zu in the index", n, rows->n);
    for (size_t i = 0; i < nodes->n_slots && nodes->next; i++)
        if (nodes->node_of[i] == KI_GRAPH_NONE && nodes->next[i] != i)
            return ki_fail(err, KITH_CORRUPT, "N1: slot %zu has no row and stands in a ring", i);
    return KITH_OK;
}

static kith_status prove_codes_differ(const ki_nodes *nodes, kith_error *err)
{
    size_t size;
    uint32_t twice;
    uint32_t *table = make_table(nodes, nodes->n_used, &size, &twice);
    if (!table) return ki_fail_nomem(err, size * sizeof *table);
    ki_free(nodes->env->allocator, table);
    if (twice == KI_GRAPH_NONE) return KITH_OK;
    return ki_fail(err, KITH_CORRUPT, "N2: node %u is equal to another", twice);
}

kith_status ki_nodes_check(const ki_nodes *nodes, const ki_rows *rows, kith_error *err)
{
    const kith_allocator *allocator = nodes->env->allocator;
    /* On a copy: what is proved about slots is filled in at the same time, and others may be reading. */
    ki_nodes copy = *nodes;
    copy.n_slots = rows->n_slots;
    copy.prev = NULL;
    copy.node_of = ki_alloc(allocator, rows->n_slots, sizeof *copy.node_of);
    if (!copy.node_of) return ki_fail_nomem(err, rows->n_slots * sizeof *copy.node_of);
    kith_status status = prove_slots(&copy, rows, err);
    for (size_t i = 0; status == KITH_OK && i < rows->n_slots; i++)
        if (copy.node_of[i] != nodes->node_of[i])
            status =
                ki_fail(err, KITH_CORRUPT, "N1: slot %zu is looked for in node %u", i, nodes->node_of[i]);
    ki_free(allocator, copy.node_of);
    KI_TRY(status);
    KI_TRY(prove_codes_differ(nodes, err));
    status = ki_row_codes_check(&nodes->codes, nodes->env->codec, nodes->n, err);
    if (status == KITH_CORRUPT) ki_error_prefix(err, "N3");
    return status;
}

/* Whether none of n links stands twice. */
static kith_status prove_distinct(const uint32_t *links, size_t n, uint32_t node, uint64_t *seen,
                                  const char *name, kith_error *err)
{
    size_t twice = n;
    for (size_t i = 0; i < n; i++) {
        if (ki_bits_get(seen, links[i])) twice = i;
        ki_bits_set(seen, links[i]);
    }
    for (size_t i = 0; i < n; i++) ki_bits_clear(seen, links[i]);
    if (twice == n) return KITH_OK;
    return ki_fail(err, KITH_CORRUPT, "%s: node %u has two links to %u", name, node, links[twice]);
}

kith_status ki_nodes_prove_row(const ki_nodes *nodes, const ki_graph *graph, uint32_t node, uint64_t *seen,
                               const char *name, kith_error *err)
{
    const uint32_t *links = ki_graph_links(graph, node);
    size_t n = ki_graph_degree(links, graph->degree);
    if (!ki_nodes_used(nodes, node) && n > 0)
        return ki_fail(err, KITH_CORRUPT, "%s: node %u is free and has links", name, node);
    for (size_t i = n; i < graph->degree; i++)
        if (links[i] != KI_GRAPH_NONE)
            return ki_fail(err, KITH_CORRUPT, "%s: the links of node %u have a gap", name, node);
    for (size_t i = 0; i < n; i++)
        if (links[i] >= nodes->n || !ki_nodes_used(nodes, links[i]) || links[i] == node)
            return ki_fail(err, KITH_CORRUPT, "%s: node %u has a link to %u", name, node, links[i]);
    return seen ? prove_distinct(links, n, node, seen, name, err) : KITH_OK;
}

kith_status ki_nodes_prove_ways(const ki_nodes *nodes, const uint32_t *parent, const char *name,
                                kith_error *err)
{
    const kith_allocator *allocator = nodes->env->allocator;
    size_t words = ki_bits_words(nodes->n) + 1;
    uint64_t *safe = ki_alloc_zero(allocator, words, sizeof *safe); /* nodes that are known to lead there */
    if (!safe) return ki_fail_nomem(err, words * sizeof *safe);
    kith_status status = KITH_OK;
    for (size_t i = 0; i < nodes->n && status == KITH_OK; i++) {
        if (!ki_nodes_used(nodes, (uint32_t)i)) continue;
        size_t steps = 0;
        uint32_t at = (uint32_t)i;
        for (; at != KI_GRAPH_NONE && !ki_bits_get(safe, at) && steps <= nodes->n_used; at = parent[at])
            steps++;
        if (steps > nodes->n_used)
            status = ki_fail(err, KITH_CORRUPT, "%s: the parents of node %zu go round", name, i);
        for (at = (uint32_t)i; status == KITH_OK && at != KI_GRAPH_NONE && !ki_bits_get(safe, at);
             at = parent[at])
            ki_bits_set(safe, at);
    }
    ki_free(allocator, safe);
    return status;
}

/* ---- Files ---- */

#define NAME 48 /* of a section */

void ki_nodes_save_record(const ki_nodes *nodes, ki_record *record)
{
    ki_record_put_u64(record, "nodes", nodes->n);
    ki_record_put_u64(record, "used", nodes->n_used);
    ki_record_put_u64(record, "rings", nodes->next != NULL);
}

kith_status ki_nodes_save(const ki_nodes *nodes, const char *prefix, size_t n_slots, ki_store_writer *writer,
                          kith_error *err)
{
    char name[NAME];
    snprintf(name, sizeof name, "%s.first", prefix);
    KI_TRY(ki_store_put(writer, name, nodes->first, nodes->n, sizeof *nodes->first, err));
    snprintf(name, sizeof name, "%s.next", prefix);
    if (nodes->next) KI_TRY(ki_store_put(writer, name, nodes->next, n_slots, sizeof *nodes->next, err));
    return ki_row_codes_save(&nodes->codes, nodes->env->codec, prefix, nodes->n, writer, err);
}

kith_status ki_graph_load_array(const kith_allocator *allocator, ki_store *store, const char *name, size_t n,
                                size_t width, int mapped, uint32_t **own, const uint32_t **view,
                                kith_error *err)
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
    *own = ki_alloc(allocator, n, bytes);
    if (!*own) return ki_fail_nomem(err, n * bytes);
    *view = *own;
    return ki_store_load(store, name, n, bytes, *own, err);
}

static kith_status load_arrays(ki_nodes *nodes, const char *prefix, ki_store *store, int mapped, int rings,
                               kith_error *err)
{
    const kith_allocator *allocator = nodes->env->allocator;
    char name[NAME];
    snprintf(name, sizeof name, "%s.first", prefix);
    KI_TRY(ki_graph_load_array(allocator, store, name, nodes->n, 1, mapped, &nodes->own_first, &nodes->first,
                               err));
    snprintf(name, sizeof name, "%s.next", prefix);
    if (rings)
        KI_TRY(ki_graph_load_array(allocator, store, name, nodes->n_slots, 1, mapped, &nodes->own_next,
                                   &nodes->next, err));
    nodes->node_of = ki_alloc(allocator, nodes->n_slots, sizeof *nodes->node_of);
    if (!nodes->node_of) return ki_fail_nomem(err, nodes->n_slots * sizeof *nodes->node_of);
    if (mapped) return KITH_OK;
    nodes->room = nodes->n;
    nodes->slot_room = nodes->n_slots;
    if (rings && !(nodes->prev = ki_alloc(allocator, nodes->n_slots, sizeof *nodes->prev)))
        return ki_fail_nomem(err, nodes->n_slots * sizeof *nodes->prev);
    return KITH_OK;
}

kith_status ki_nodes_load(ki_nodes *nodes, const char *prefix, ki_record_view *record, ki_store *store,
                          int mapped, const ki_rows *rows, kith_error *err)
{
    uint64_t n, used, rings;
    KI_TRY(ki_record_get_u64(record, "nodes", 0, KI_GRAPH_NODES, &n, err));
    KI_TRY(ki_record_get_u64(record, "used", 0, n, &used, err));
    KI_TRY(ki_record_get_u64(record, "rings", 0, 1, &rings, err));
    /* Before memory follows from the number of slots: with rings it is the section of these that proves it. */
    if (!rings && rows->n != used)
        return ki_fail(err, KITH_CORRUPT, "N1: %zu rows, and %llu nodes without rings", (size_t)rows->n,
                       (unsigned long long)used);
    nodes->n = (size_t)n;
    nodes->n_used = (size_t)used;
    nodes->n_slots = rows->n_slots;
    KI_TRY(load_arrays(nodes, prefix, store, mapped, (int)rings, err));
    KI_TRY(ki_row_codes_load(&nodes->codes, nodes->env->codec, prefix, nodes->n, mapped, store, err));
    KI_TRY(prove_slots(nodes, rows, err));
    size_t count = 0;
    for (size_t i = 0; i < nodes->n; i++) count += ki_nodes_used(nodes, (uint32_t)i);
    if (count != nodes->n_used || (count == 0 && nodes->n > 0))
        return ki_fail(err, KITH_CORRUPT, "N1: %zu nodes are in use, %zu are said to be", count,
                       nodes->n_used);
    return KITH_OK;
}

uint64_t ki_nodes_bytes(const ki_nodes *nodes)
{
    uint64_t slot = nodes->next ? 3 * sizeof(uint32_t) : sizeof(uint32_t);
    return ki_row_codes_bytes(&nodes->codes, nodes->env->codec) + nodes->n * sizeof(uint32_t) +
           nodes->n_slots * slot;
}
