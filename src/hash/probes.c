#include "hash/probes.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"

/* A set of moves. */
typedef struct entry {
    float cost;
    uint32_t order; /* when it was made: decides between equal costs */
    uint64_t moves; /* bit j: move j is in it */
    uint64_t key;   /* of the bucket */
    uint32_t last;  /* its dearest move */
} entry;

struct ki_probes {
    const kith_allocator *allocator;
    size_t n_moves;
    int paired;
    ki_move moves[KI_PROBE_MOVES];
    uint64_t key; /* the query's own bucket */
    int begun;    /* it was not given out yet */
    entry *heap;  /* [room], the cheapest first */
    size_t n, room;
    uint32_t made;
};

kith_status ki_probes_create(size_t moves, int paired, const kith_allocator *allocator, ki_probes **probes,
                             kith_error *err)
{
    *probes = NULL;
    ki_probes *p = ki_alloc_zero(allocator, 1, sizeof *p);
    if (!p) return ki_fail_nomem(err, sizeof *p);
    p->allocator = allocator;
    p->n_moves = moves;
    p->paired = paired;
    *probes = p;
    return KITH_OK;
}

void ki_probes_free(ki_probes *p)
{
    if (!p) return;
    ki_free(p->allocator, p->heap);
    ki_free(p->allocator, p);
}

kith_status ki_probes_reserve(ki_probes *p, size_t count, kith_error *err)
{
    size_t room = count + 1; /* one set to begin with; each that comes off puts two on at most */
    if (room <= p->room) return KITH_OK;
    entry *heap = ki_alloc(p->allocator, room, sizeof *heap);
    if (!heap) return ki_fail_nomem(err, room * sizeof *heap);
    ki_free(p->allocator, p->heap);
    p->heap = heap;
    p->room = room;
    p->n = 0;
    return KITH_OK;
}

/* ---- The heap ---- */

static int before(const entry *a, const entry *b)
{
    return a->cost < b->cost || (a->cost == b->cost && a->order < b->order);
}

static void sift_up(entry *heap, size_t i)
{
    entry moved = heap[i];
    while (i > 0 && before(&moved, &heap[(i - 1) / 2])) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = moved;
}

static void sift_down(entry *heap, size_t n, size_t i)
{
    entry moved = heap[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(&heap[child + 1], &heap[child])) child++;
        if (!before(&heap[child], &moved)) break;
        heap[i] = heap[child];
    }
    heap[i] = moved;
}

/* ---- Sets of moves ---- */

void ki_probes_begin(ki_probes *p, uint64_t key, const ki_move *moves)
{
    memcpy(p->moves, moves, p->n_moves * sizeof *moves);
    p->key = key;
    p->begun = 1;
    p->n = p->made = 0;
}

/* The last move is replaced by the next one. 0: there is none. */
static int shift(const ki_probes *p, entry *e)
{
    const ki_move *moves = p->moves;
    uint32_t next = e->last + 1;
    if (next == p->n_moves) return 0;
    e->cost += moves[next].cost - moves[e->last].cost;
    e->key += moves[next].delta - moves[e->last].delta;
    e->moves ^= (uint64_t)3 << e->last;
    e->last = next;
    return 1;
}

/* The next move joins. 0: there is none. */
static int expand(const ki_probes *p, entry *e)
{
    const ki_move *moves = p->moves;
    uint32_t next = e->last + 1;
    if (next == p->n_moves) return 0;
    e->cost += moves[next].cost;
    e->key += moves[next].delta;
    e->moves |= (uint64_t)1 << next;
    e->last = next;
    return 1;
}

/* Whether the last move excludes another of the set. A set that does cannot be mended by expanding it. */
static int contradicts(const ki_probes *p, const entry *e)
{
    size_t other = p->n_moves - 1 - e->last;
    return p->paired && other < e->last && (e->moves >> other & 1);
}

/* A set on its way to the heap: one that contradicts itself is passed over for its next shift, the only one of
 * its two successors that may be valid. So the heap holds valid sets only, and two go on for one that comes off. */
static int next_valid(const ki_probes *p, entry *e)
{
    while (contradicts(p, e))
        if (!shift(p, e)) return 0;
    return 1;
}

int ki_probes_next(ki_probes *p, uint64_t *key)
{
    if (p->begun) {
        p->begun = 0;
        *key = p->key;
        if (p->room > 0)
            p->heap[p->n++] = (entry){p->moves[0].cost, p->made++, 1, p->key + p->moves[0].delta, 0};
        return 1;
    }
    if (p->n == 0) return 0;
    entry top = p->heap[0], shifted = top, expanded = top;
    *key = top.key;
    if (shift(p, &shifted) && next_valid(p, &shifted)) {
        shifted.order = p->made++;
        p->heap[0] = shifted;
    } else {
        p->heap[0] = p->heap[--p->n];
    }
    if (p->n > 0) sift_down(p->heap, p->n, 0);
    if (p->n < p->room && expand(p, &expanded) && next_valid(p, &expanded)) {
        expanded.order = p->made++;
        p->heap[p->n] = expanded;
        sift_up(p->heap, p->n++);
    }
    return 1;
}
