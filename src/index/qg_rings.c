/* qg_rings.c - equal rows: one of them stands in the graph, the others hang on it in a ring of slots, so that however many
 * there are they neither fill each other's links nor a walk's pool. The essay is in qg.c. */
#include "index/qg_internal.h"

#include <string.h>

#include "base/error.h"
#include "index/rowcodes.h"

/* Of very many equal rows this many are offered to one query (all to a range search): the first in the order of the ring. */
#define EQUALS 1024

kith_status ki_qg_rings_reserve(ki_qg *g, kith_error *err)
{
    const kith_allocator *allocator = g->base.env->allocator;
    if (g->next) return KITH_OK;
    uint32_t *next = ki_alloc(allocator, g->room, sizeof *next);
    uint32_t *prev = ki_alloc(allocator, g->room, sizeof *prev);
    if (!next || !prev) {
        ki_free(allocator, next);
        ki_free(allocator, prev);
        return ki_fail_nomem(err, 2 * g->room * sizeof *next);
    }
    for (size_t i = 0; i < g->room; i++) next[i] = prev[i] = (uint32_t)i;
    g->next = next;
    g->prev = prev;
    return KITH_OK;
}

int ki_qg_equal(const ki_qg *g, uint32_t a, uint32_t b)
{
    const ki_codec *codec = g->base.env->codec;
    ki_codes x = ki_qg_code(g, a), y = ki_qg_code(g, b);
    return memcmp(x.code, y.code, codec->code_size) == 0 &&
           memcmp(x.factor, y.factor, codec->n_factors * sizeof(float)) == 0;
}

/* ---- By hash: open addressing, linear probing ---- */

/* Where a row of the vector of `slot` stands, or the empty place where it would. */
static uint32_t *place_of(const ki_qg *g, uint32_t slot)
{
    ki_codes code = ki_qg_code(g, slot);
    size_t mask = g->n_twins - 1, i = ki_row_hash(g->base.env->codec, code.code, code.factor) & mask;
    while (g->twins[i] != KI_GRAPH_NONE && !ki_qg_equal(g, g->twins[i], slot)) i = (i + 1) & mask;
    return &g->twins[i];
}

kith_status ki_qg_twins_reserve(ki_qg *g, size_t n, kith_error *err)
{
    size_t size = 16;
    if (g->twins && g->n_twins >= 2 * n) return KITH_OK;
    while (size < 2 * n) size *= 2;
    ki_qg_twins_forget(g);
    g->twins = ki_alloc(g->base.env->allocator, size, sizeof *g->twins);
    if (!g->twins) return ki_fail_nomem(err, size * sizeof *g->twins);
    g->n_twins = size;
    memset(g->twins, 0xff, size * sizeof *g->twins);
    for (size_t i = 0; i < g->n_slots; i++)
        if (ki_bits_get(g->used, i)) (void)ki_qg_twin(g, (uint32_t)i);
    return KITH_OK;
}

void ki_qg_twins_forget(ki_qg *g)
{
    ki_free(g->base.env->allocator, g->twins);
    g->twins = NULL;
    g->n_twins = 0;
}

uint32_t ki_qg_twin(ki_qg *g, uint32_t slot)
{
    uint32_t *place = place_of(g, slot), node = *place;
    if (node == KI_GRAPH_NONE) *place = slot;
    return node;
}

/* ---- Rings ---- */

void ki_qg_join(ki_qg *g, uint32_t node, uint32_t slot)
{
    uint32_t last = g->prev[node];
    g->next[last] = slot;
    g->prev[slot] = last;
    g->next[slot] = node;
    g->prev[node] = slot;
}

uint32_t ki_qg_leave(ki_qg *g, uint32_t slot)
{
    if (!g->next || g->next[slot] == slot) return KI_GRAPH_NONE;
    uint32_t next = g->next[slot], prev = g->prev[slot];
    g->next[prev] = next;
    g->prev[next] = prev;
    g->next[slot] = g->prev[slot] = slot;
    return next;
}

int ki_qg_allowed(const ki_qg *g, const ki_query *query, uint32_t node)
{
    uint32_t slot = node;
    do {
        if (ki_query_allows(query, slot)) return 1;
        slot = g->next ? g->next[slot] : node;
    } while (slot != node);
    return 0;
}

void ki_qg_offer(const ki_qg *g, ki_query *query, float dist, uint32_t node)
{
    uint32_t slot = node;
    size_t most = query->found ? SIZE_MAX : query->top.k > EQUALS ? query->top.k : EQUALS;
    do {
        if (!ki_query_selective(query) || ki_query_allows(query, slot)) {
            ki_query_offer(query, dist, slot);
            most--;
        }
        slot = g->next ? g->next[slot] : node;
    } while (slot != node && most > 0 && !(query->found && query->found->failed));
}

/* The slots of the ring of a node, counted; KITH_CORRUPT when there is another node among them, or no end. */
static kith_status count_ring(const ki_qg *g, const ki_rows *rows, size_t node, size_t *n, kith_error *err)
{
    uint32_t slot = (uint32_t)node;
    do {
        if (*n > rows->n || (slot != node && ki_bits_get(g->used, slot)))
            return ki_fail(err, KITH_CORRUPT, "Q1: the ring of row %zu is none", node);
        ++*n;
        uint32_t next = g->next ? g->next[slot] : (uint32_t)node;
        if (next >= g->n_slots || !ki_rows_used(rows, next) || (g->prev && g->prev[next] != slot))
            return ki_fail(err, KITH_CORRUPT, "Q1: row %u is followed by %u", slot, next);
        slot = next;
    } while (slot != node);
    return KITH_OK;
}

kith_status ki_qg_rings_prove(const ki_qg *g, const ki_rows *rows, kith_error *err)
{
    size_t n = 0, nodes = 0;
    for (size_t i = 0; i < g->n_slots; i++) {
        if (!ki_bits_get(g->used, i)) continue;
        nodes++;
        if (!ki_rows_used(rows, (uint32_t)i))
            return ki_fail(err, KITH_CORRUPT, "Q1: slot %zu is in the graph, and not in use", i);
        KI_TRY(count_ring(g, rows, i, &n, err));
    }
    if (n == rows->n && nodes == g->n_used) return KITH_OK;
    return ki_fail(err, KITH_CORRUPT, "Q1: rings hold %zu rows of %zu, in %zu nodes of %zu", n,
                   (size_t)rows->n, nodes, g->n_used);
}
