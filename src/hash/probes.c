#include "hash/probes.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"

/* A set of moves of one table. */
typedef struct entry {
    float cost;
    uint32_t order; /* when it was made: decides between equal costs */
    uint64_t moves; /* bit j: move j is in it */
    uint64_t key;   /* of the bucket */
    uint32_t table, last;
} entry;

struct ki_probes {
    const kith_allocator *allocator;
    size_t n_tables, n_moves;
    int paired;
    ki_move *moves; /* [n_tables][n_moves] */
    uint64_t *keys; /* [n_tables] */
    entry *heap;    /* [room], the cheapest first */
    size_t n, room;
    uint32_t made;
    size_t turn; /* tables whose own bucket was given out */
};

kith_status ki_probes_create(size_t tables, size_t moves, int paired, const kith_allocator *allocator,
                             ki_probes **probes, kith_error *err)
{
    *probes = NULL;
    ki_probes *p = ki_alloc_zero(allocator, 1, sizeof *p);
    if (!p) return ki_fail_nomem(err, sizeof *p);
    p->allocator = allocator;
    p->n_tables = tables;
    p->n_moves = moves;
    p->paired = paired;
    p->moves = ki_alloc(allocator, tables, moves * sizeof *p->moves);
    p->keys = ki_alloc(allocator, tables, sizeof *p->keys);
    if (!p->moves || !p->keys) {
        ki_probes_free(p);
        return ki_fail_nomem(err, tables * (moves * sizeof *p->moves + sizeof *p->keys));
    }
    *probes = p;
    return KITH_OK;
}

void ki_probes_free(ki_probes *p)
{
    if (!p) return;
    ki_free(p->allocator, p->moves);
    ki_free(p->allocator, p->keys);
    ki_free(p->allocator, p->heap);
    ki_free(p->allocator, p);
}

kith_status ki_probes_reserve(ki_probes *p, size_t count, kith_error *err)
{
    /* One set a table to begin with; each that comes off puts two on. Sets that are not valid come off too, but put on no
     * more than valid ones: see ki_probes_next. */
    size_t room = p->n_tables + count + 1;
    if (room <= p->room) return KITH_OK;
    entry *heap = ki_alloc(p->allocator, room, sizeof *heap);
    if (!heap) return ki_fail_nomem(err, room * sizeof *heap);
    ki_free(p->allocator, p->heap);
    p->heap = heap;
    p->room = room;
    p->n = 0;
    return KITH_OK;
}

void ki_probes_begin(ki_probes *p)
{
    p->n = 0;
    p->made = 0;
    p->turn = 0;
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

void ki_probes_table(ki_probes *p, uint32_t table, uint64_t key, const ki_move *moves)
{
    memcpy(p->moves + table * p->n_moves, moves, p->n_moves * sizeof *moves);
    p->keys[table] = key;
}

static const ki_move *moves_of(const ki_probes *p, const entry *e)
{
    return p->moves + e->table * p->n_moves;
}

/* The last move is replaced by the next one. 0: there is none. */
static int shift(const ki_probes *p, entry *e)
{
    const ki_move *moves = moves_of(p, e);
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
    const ki_move *moves = moves_of(p, e);
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

static void seed(ki_probes *p)
{
    for (uint32_t t = 0; t < p->n_tables; t++) {
        const ki_move *first = p->moves + t * p->n_moves;
        p->heap[p->n] = (entry){first->cost, p->made++, 1, p->keys[t] + first->delta, t, 0};
        sift_up(p->heap, p->n++);
    }
}

int ki_probes_next(ki_probes *p, ki_probe *probe)
{
    if (p->turn < p->n_tables) {
        *probe = (ki_probe){(uint32_t)p->turn, p->keys[p->turn]};
        p->turn++;
        if (p->turn == p->n_tables && p->room > p->n_tables) seed(p);
        return 1;
    }
    if (p->n == 0) return 0;
    entry top = p->heap[0], shifted = top, expanded = top;
    *probe = (ki_probe){top.table, top.key};
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
