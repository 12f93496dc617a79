/* qg_remove.c - rows leave the graph at once: every row that was linked to one of them chooses its links anew, from those
 * that are left and those that the removed ones had (Singh et al., "FreshDiskANN", 2021, Alg. 4). Nothing is left of them, and
 * rows that no path leads to any more become entries. The essay is in qg.c. */
#include "index/qg_internal.h"

#include <string.h>

#include "base/error.h"

struct ki_qg_remover {
    uint64_t *gone, *seen; /* [n_slots] bits, of seen twice */
    uint32_t *stack;       /* [n_slots] */
    uint32_t *heir;        /* [n_slots] the slot that a row moved to, KI_GRAPH_NONE: it did not */
    size_t n_gone, n_moved;
    ki_qg_chooser chooser;
};

void ki_qg_remover_free(ki_qg *g)
{
    ki_qg_remover *r = g->remover;
    const kith_allocator *allocator = g->base.env->allocator;
    if (!r) return;
    ki_free(allocator, r->gone);
    ki_free(allocator, r->seen);
    ki_free(allocator, r->stack);
    ki_free(allocator, r->heir);
    ki_qg_chooser_clear(g, &r->chooser);
    ki_free(allocator, r);
    g->remover = NULL;
}

kith_status ki_qg_prepare_remove(ki_structure *structure, const ki_rows *rows, kith_error *err)
{
    (void)rows;
    ki_qg *g = (ki_qg *)structure;
    const kith_allocator *allocator = structure->env->allocator;
    size_t words = ki_bits_words(g->n_slots);
    ki_qg_remover *r = ki_alloc_zero(allocator, 1, sizeof *r);
    if (!r) return ki_fail_nomem(err, sizeof *r);
    g->remover = r;
    r->gone = ki_alloc_zero(allocator, words, sizeof *r->gone);
    r->seen = ki_alloc_zero(allocator, 2 * words, sizeof *r->seen);
    r->stack = ki_alloc(allocator, g->n_slots, sizeof *r->stack);
    r->heir = ki_alloc(allocator, g->n_slots, sizeof *r->heir);
    kith_status status = KITH_OK;
    if (!r->gone || !r->seen || !r->stack || !r->heir)
        status = ki_fail_nomem(err, g->n_slots * sizeof *r->stack);
    if (status == KITH_OK) status = ki_qg_chooser_init(g, &r->chooser, err);
    if (status == KITH_OK) status = ki_qg_root_reserve(g, g->n_slots, err);
    if (status != KITH_OK) ki_qg_remover_free(g);
    return status;
}

/* A candidate, unless it is one already, gone, or the row itself. */
static void consider(ki_qg *g, size_t *n, uint32_t slot, uint32_t link)
{
    ki_qg_remover *r = g->remover;
    uint32_t to = ki_qg_to(link);
    if (*n == KI_QG_CANDIDATES || to == slot || ki_bits_get(r->gone, to)) return;
    for (size_t i = 0; i < *n; i++)
        if (r->chooser.near[i].node == to) return;
    r->chooser.near[(*n)++].node = to;
}

/* Choose the links of a row that has lost some. */
static void mend(ki_qg *g, uint32_t slot)
{
    ki_qg_remover *r = g->remover;
    ki_qg_chooser *c = &r->chooser;
    const uint32_t *links = ki_qg_links(g, slot);
    size_t n = 0, degree = g->at.degree, lost = 0;
    for (size_t i = 0; i < degree && links[i] != KI_GRAPH_NONE; i++) {
        lost += (size_t)ki_bits_get(r->gone, ki_qg_to(links[i]));
        consider(g, &n, slot, links[i]);
    }
    if (lost == 0) return;
    for (size_t i = 0; i < degree && links[i] != KI_GRAPH_NONE; i++) {
        if (!ki_bits_get(r->gone, ki_qg_to(links[i]))) continue;
        const uint32_t *far = ki_qg_links(g, ki_qg_to(links[i]));
        for (size_t j = 0; j < degree && far[j] != KI_GRAPH_NONE; j++) consider(g, &n, slot, far[j]);
    }
    ki_qg_ask(g, c->ask, slot);
    for (size_t i = 0; i < n; i++) c->near[i].dist = ki_qg_distance(g, c->ask, c->near[i].node);
    ki_near_sort(c->near, n, NULL);
    ki_qg_choose(g, c, slot, n);
}

/* The slot of a row leaves; where it stood in the graph for others of its vector, one of them takes its place. */
static void leave(ki_qg *g, uint32_t slot)
{
    ki_qg_remover *r = g->remover;
    uint32_t heir = ki_qg_leave(g, slot);
    int node = ki_bits_get(g->used, slot);
    r->heir[slot] = node ? heir : KI_GRAPH_NONE;
    if (!node) return;
    ki_bits_clear(g->used, slot);
    if (heir == KI_GRAPH_NONE) {
        ki_bits_set(r->gone, slot);
        r->n_gone++;
        return;
    }
    memcpy(ki_qg_own_row(g, heir), ki_qg_row(g, slot), g->at.stride);
    ki_bits_set(g->used, heir);
    r->n_moved++;
}

/* Links to rows that moved follow them. */
static void follow_heirs(ki_qg *g)
{
    const uint32_t *heir = g->remover->heir;
    for (size_t i = 0; i < g->n_slots && g->remover->n_moved > 0; i++) {
        uint32_t *links = ki_qg_own_links(g, (uint32_t)i);
        for (size_t j = 0; j < g->at.degree && links[j] != KI_GRAPH_NONE; j++) {
            uint32_t to = ki_qg_to(links[j]), filler = links[j] & KI_QG_FILLER;
            while (heir[to] != KI_GRAPH_NONE) to = heir[to];
            links[j] = to | filler;
        }
    }
}

void ki_qg_drop(ki_qg *g, const uint32_t *slots, uint32_t first_slot, size_t n)
{
    ki_qg_remover *r = g->remover;
    ki_qg_twins_forget(g); /* made anew by the next add: it reads less than was looked through here */
    memset(r->heir, 0xff, g->n_slots * sizeof *r->heir);
    for (size_t i = 0; i < n; i++) leave(g, slots ? slots[i] : first_slot + (uint32_t)i);
    follow_heirs(g);
    g->n_used -= r->n_gone;
    for (size_t i = 0; i < g->n_slots && r->n_gone > 0; i++)
        if (ki_bits_get(g->used, i)) mend(g, (uint32_t)i);
    for (size_t i = 0; i < n; i++) ki_qg_erase(g, slots ? slots[i] : first_slot + (uint32_t)i);
    ki_qg_root_sample(g, &r->chooser.self, &r->chooser.other, n > 0);
    ki_qg_root_orphans(g, &r->chooser.self, &r->chooser.other, r->seen, r->stack);
}

void ki_qg_remove(ki_structure *structure, const uint32_t *slots, size_t n)
{
    ki_qg *g = (ki_qg *)structure;
    ki_qg_drop(g, slots, 0, n);
    ki_qg_remover_free(g);
}
