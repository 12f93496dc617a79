#include "index/gather.h"

#include <assert.h>
#include <string.h>

#include "base/bitset.h"
#include "base/error.h"
#include "base/memory.h"

void ki_gather_init(ki_gather *g, const kith_allocator *allocator)
{
    memset(g, 0, sizeof *g);
    g->allocator = allocator;
}

void ki_gather_clear(ki_gather *g)
{
    ki_free(g->allocator, g->seen);
    ki_gather_init(g, g->allocator);
}

kith_status ki_gather_reserve(ki_gather *g, size_t n_slots, kith_error *err)
{
    if (n_slots <= g->room) return KITH_OK;
    size_t words = ki_bits_words(ki_grown(g->room, n_slots));
    uint64_t *seen = ki_alloc(g->allocator, words, sizeof *seen);
    if (!seen) return ki_fail_nomem(err, words * sizeof *seen);
    ki_free(g->allocator, g->seen);
    g->seen = seen;
    g->room = words * 64;
    return KITH_OK;
}

void ki_gather_begin(ki_gather *g, ki_query *query, ki_scorer *scorer, ki_codes codes)
{
    g->query = query;
    g->scorer = scorer;
    g->codes = codes;
    g->n_slots = query->rows->n_slots;
    g->n = g->distinct = 0;
    if (g->n_slots > 0) memset(g->seen, 0, ki_bits_words(g->n_slots) * sizeof *g->seen);
    scorer->ops->query(scorer, query->vector);
}

/* Score slots[n], n <= KI_GATHER_BLOCK, and offer them. */
static void score(ki_gather *g, const uint32_t *slots, size_t n)
{
    ki_query *query = g->query;
    uint32_t pick[KI_GATHER_BLOCK], near[KI_GATHER_BLOCK];
    float dist[KI_GATHER_BLOCK];
    if (ki_query_stop(query)) return;
    if (ki_query_selective(query)) {
        n = ki_query_admit(query, slots, 0, n, pick);
        for (size_t i = 0; i < n; i++) pick[i] = slots[pick[i]];
        slots = pick;
    }
    if (n == 0) return;
    g->scorer->ops->score(g->scorer, g->codes, slots, n, ki_query_limit(query), dist);
    query->scored += n;
    size_t n_near = query->kernels->select_le_f32(dist, n, ki_query_limit(query), near);
    for (size_t i = 0; i < n_near; i++) ki_query_offer(query, dist[near[i]], slots[near[i]]);
}

void ki_gather_flush(ki_gather *g)
{
    for (size_t done = 0; done < g->n; done += KI_GATHER_BLOCK)
        score(g, g->slots + done, g->n - done < KI_GATHER_BLOCK ? g->n - done : KI_GATHER_BLOCK);
    g->n = 0;
}

void ki_gather_add(ki_gather *g, const uint32_t *slots, size_t n)
{
    for (size_t done = 0; done < n && !g->query->stopped; done += KI_GATHER_BLOCK) {
        size_t end = n - done < KI_GATHER_BLOCK ? n : done + KI_GATHER_BLOCK, before = g->n;
        for (size_t i = done; i < end; i++) {
            uint32_t slot = slots[i];
            if (slot >= g->n_slots) continue;
            /* Without a branch: most candidates of a good probing sequence were seen before, and many were not. */
            uint64_t *word = &g->seen[slot / 64], bit = (uint64_t)1 << (slot % 64);
            g->slots[g->n] = slot;
            g->n += (*word & bit) == 0;
            *word |= bit;
        }
        g->distinct += g->n - before;
        if (g->n < KI_GATHER_BLOCK) continue;
        score(g, g->slots, KI_GATHER_BLOCK);
        g->n -= KI_GATHER_BLOCK;
        memmove(g->slots, g->slots + KI_GATHER_BLOCK, g->n * sizeof *g->slots);
    }
}

static_assert(2 * KI_GATHER_BLOCK >= 64, "ki_gather_rest collects a word of slots");

void ki_gather_rest(ki_gather *g)
{
    ki_gather_flush(g);
    for (size_t word = 0; word * 64 < g->n_slots && !g->query->stopped; word++) {
        uint64_t left = ~g->seen[word];
        if (g->n_slots - word * 64 < 64) left &= ((uint64_t)1 << (g->n_slots - word * 64)) - 1;
        size_t n = 0;
        for (; left; left &= left - 1)
            g->slots[n++] = (uint32_t)(word * 64) + (uint32_t)__builtin_ctzll(left);
        g->distinct += n;
        g->n = n;
        g->seen[word] = UINT64_MAX;
        ki_gather_flush(g);
    }
}
