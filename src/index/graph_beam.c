#include "index/graph_beam.h"

#include <string.h>

#include "base/bitset.h"
#include "base/error.h"

#define EXPANDED (UINT32_C(1) << 31)

/* Of each code this much is fetched ahead; beyond that the hardware has seen where it goes. */
#define PREFETCH_BYTES 1024

/* Nodes that one step scores at most: as many as a node may have neighbours. */
#define STEP KI_GRAPH_DEGREE

/* ---- Memory ---- */

void ki_beam_init(ki_beam *beam, const kith_allocator *allocator)
{
    memset(beam, 0, sizeof *beam);
    beam->allocator = allocator;
}

void ki_beam_clear(ki_beam *beam)
{
    ki_free(beam->allocator, beam->near);
    ki_free(beam->allocator, beam->marks);
    ki_free(beam->allocator, beam->marked);
    ki_beam_init(beam, beam->allocator);
}

kith_status ki_beam_reserve(ki_beam *beam, size_t nodes, size_t limit, kith_error *err)
{
    if (limit + 1 > beam->room) {
        ki_near *near = ki_alloc(beam->allocator, limit + 1, sizeof *near);
        if (!near) return ki_fail_nomem(err, limit * sizeof *near);
        ki_free(beam->allocator, beam->near);
        beam->near = near;
        beam->room = limit + 1;
        beam->n = 0;
    }
    if (nodes > beam->nodes || !beam->marks) {
        /* Past an entry a word of the bitset it is cheaper to clear the bitset. */
        size_t words = ki_bits_words(nodes), room = words + STEP;
        uint64_t *marks = ki_alloc_zero(beam->allocator, 2 * words, sizeof *marks);
        uint32_t *marked = ki_alloc(beam->allocator, room, sizeof *marked);
        if (!marks || !marked) {
            ki_free(beam->allocator, marks);
            ki_free(beam->allocator, marked);
            return ki_fail_nomem(err, 2 * words * sizeof *marks + room * sizeof *marked);
        }
        ki_free(beam->allocator, beam->marks);
        ki_free(beam->allocator, beam->marked);
        beam->marks = marks;
        beam->barred = marks + words;
        beam->marked = marked;
        beam->marked_room = room;
        beam->nodes = nodes;
        beam->n_marked = 0;
    }
    return KITH_OK;
}

static void forget(ki_beam *beam)
{
    if (beam->n_marked < beam->marked_room) {
        for (size_t i = 0; i < beam->n_marked; i++) beam->marks[beam->marked[i] / 64] = 0;
        for (size_t i = 0; i < beam->n_marked && beam->bars; i++) beam->barred[beam->marked[i] / 64] = 0;
    } else {
        memset(beam->marks, 0, 2 * ki_bits_words(beam->nodes) * sizeof *beam->marks);
    }
    beam->n_marked = 0;
    beam->bars = 0;
}

void ki_beam_start(ki_beam *beam, size_t limit)
{
    forget(beam);
    beam->n = beam->next = 0;
    beam->limit = limit;
}

/* Set the bit of a node in one of the two bitsets; whether it was not set. */
static inline int mark(ki_beam *beam, uint64_t *bits, uint32_t node)
{
    uint64_t *word = &bits[node / 64], bit = (uint64_t)1 << (node % 64);
    if (*word & bit) return 0;
    *word |= bit;
    /* A list that is full stays full: forget() then clears everything. */
    if (beam->n_marked < beam->marked_room) beam->marked[beam->n_marked++] = node;
    return 1;
}

int ki_beam_visit(ki_beam *beam, uint32_t node)
{
    return mark(beam, beam->marks, node);
}

void ki_beam_restart(ki_beam *beam)
{
    forget(beam);
    for (size_t i = 0; i < beam->n; i++) {
        beam->near[i].node &= ~EXPANDED;
        (void)ki_beam_visit(beam, beam->near[i].node);
    }
    beam->next = 0;
}

/* ---- The sorted array ---- */

void ki_beam_offer(ki_beam *beam, float dist, uint32_t node)
{
    if (!(dist < INFINITY)) dist = INFINITY; /* also NaN: last, but reachable */
    if (beam->n == beam->limit) {
        if (!(dist < beam->near[beam->n - 1].dist)) return;
        beam->n--;
    }
    /* The first entry that is farther: equals keep the order in which they came. */
    size_t low = 0, count = beam->n;
    while (count > 0) {
        size_t half = count / 2;
        int after = beam->near[low + half].dist <= dist;
        low = after ? low + half + 1 : low;
        count = after ? count - half - 1 : half;
    }
    memmove(&beam->near[low + 1], &beam->near[low], (beam->n - low) * sizeof *beam->near);
    beam->near[low] = (ki_near){dist, node};
    beam->n++;
    if (low < beam->next) beam->next = low;
}

/* The nearest node that was not expanded; marks it so. 0: there is none. */
static int take(ki_beam *beam, uint32_t *node)
{
    size_t i = beam->next;
    while (i < beam->n && beam->near[i].node & EXPANDED) i++;
    beam->next = i;
    if (i == beam->n) return 0;
    *node = beam->near[i].node;
    if (beam->n_trace < beam->trace_room) beam->trace[beam->n_trace++] = beam->near[i];
    beam->near[i].node |= EXPANDED;
    beam->next++;
    beam->expanded++;
    return 1;
}

/* ---- Walking ---- */

static inline void fetch(const void *data, size_t bytes)
{
    const char *from = data;
    if (bytes > PREFETCH_BYTES) bytes = PREFETCH_BYTES;
    for (size_t i = 0; i < bytes; i += KI_CACHE_LINE) __builtin_prefetch(from + i);
}

/* The rows about to be scored. */
typedef struct step {
    uint32_t node[STEP];
    float dist[STEP];
    size_t n;
} step;

/* The neighbours of a node that were not visited; their codes are on the way when it returns. */
static void gather(ki_beam *beam, const ki_graph *graph, ki_codes codes, size_t code_size, uint32_t node,
                   step *s)
{
    const uint32_t *links = ki_graph_links(graph, node);
    size_t n = 0;
    for (size_t i = 0; i < graph->degree; i++) {
        uint32_t next = ki_graph_load(&links[i]);
        if (next == KI_GRAPH_NONE) break;
        s->node[n] = next;
        n += (size_t)ki_beam_visit(beam, next);
    }
    for (size_t i = 0; i < n; i++) fetch(codes.code + (size_t)s->node[i] * code_size, code_size);
    s->n = n;
}

static void score(ki_beam *beam, const ki_graph *graph, ki_scorer *scorer, ki_codes codes, step *s)
{
    scorer->ops->score(scorer, codes, s->node, s->n, ki_beam_worst(beam), s->dist);
    beam->scored += s->n;
    for (size_t i = 0; i < s->n; i++) {
        if (beam->n == beam->limit && !(s->dist[i] < beam->near[beam->n - 1].dist)) continue;
        fetch(ki_graph_links(graph, s->node[i]), graph->degree * sizeof(uint32_t));
        ki_beam_offer(beam, s->dist[i], s->node[i]);
    }
}

void ki_beam_walk(ki_beam *beam, const ki_graph *graph, ki_scorer *scorer, ki_codes codes, ki_query *query)
{
    size_t code_size = scorer->codec->code_size;
    step steps[2], *now = &steps[0], *then = &steps[1];
    uint32_t node;
    now->n = 0;
    for (;;) {
        if (query && ki_query_stop(query)) return;
        int more = take(beam, &node);
        then->n = 0;
        if (more) gather(beam, graph, codes, code_size, node, then);
        if (now->n > 0) score(beam, graph, scorer, codes, now);
        if (!more && now->n == 0) return;
        step *swap = now;
        now = then;
        then = swap;
    }
}

/* What a walk through a filter asks of nodes. */
typedef struct judge {
    ki_beam_counts counts;
    const void *ctx;
    const ki_query *query;
} judge;

/* Whether a node counts. One that does not is asked once: its rows may be many. */
static inline int counted(ki_beam *beam, const judge *j, uint32_t node)
{
    if (ki_bits_get(beam->barred, node)) return 0;
    if (j->counts(j->ctx, j->query, node)) return 1;
    (void)mark(beam, beam->barred, node);
    beam->bars = 1;
    return 0;
}

/* The neighbours of a node that count and were not visited and, as long as these are fewer than a node has links, those of
 * the neighbours that do not count. */
static void gather_some(ki_beam *beam, const ki_graph *graph, const judge *j, uint32_t node, step *s)
{
    uint32_t other[STEP];
    size_t n_other = 0;
    const uint32_t *links = ki_graph_links(graph, node);
    s->n = 0;
    for (size_t i = 0; i < graph->degree; i++) {
        uint32_t next = ki_graph_load(&links[i]);
        if (next == KI_GRAPH_NONE) break;
        if (ki_bits_get(beam->marks, next)) continue;
        if (counted(beam, j, next)) {
            (void)ki_beam_visit(beam, next);
            s->node[s->n++] = next;
        } else {
            fetch(ki_graph_links(graph, next), graph->degree * sizeof(uint32_t));
            other[n_other++] = next;
        }
    }
    for (size_t i = 0; i < n_other && s->n < graph->degree; i++) {
        (void)ki_beam_visit(beam, other[i]);
        const uint32_t *far = ki_graph_links(graph, other[i]);
        for (size_t k = 0; k < graph->degree && s->n < graph->degree; k++) {
            uint32_t next = ki_graph_load(&far[k]);
            if (next == KI_GRAPH_NONE) break;
            /* One that does not count is barred but stays unvisited: met again as a neighbour, it leads further. */
            if (ki_bits_get(beam->marks, next) || !counted(beam, j, next)) continue;
            (void)ki_beam_visit(beam, next);
            s->node[s->n++] = next;
        }
    }
}

void ki_beam_walk_some(ki_beam *beam, const ki_graph *graph, ki_scorer *scorer, ki_codes codes,
                       ki_query *query, ki_beam_counts counts, const void *ctx)
{
    size_t code_size = scorer->codec->code_size;
    judge j = {counts, ctx, query};
    step s;
    uint32_t node;
    while (take(beam, &node) && !ki_query_stop(query)) {
        gather_some(beam, graph, &j, node, &s);
        for (size_t i = 0; i < s.n; i++) fetch(codes.code + (size_t)s.node[i] * code_size, code_size);
        score(beam, graph, scorer, codes, &s);
    }
}

/* ---- Walks that go on ---- */

void ki_spare_init(ki_spare *spare, const kith_allocator *allocator)
{
    memset(spare, 0, sizeof *spare);
    spare->allocator = allocator;
}

void ki_spare_clear(ki_spare *spare)
{
    ki_free(spare->allocator, spare->near);
    ki_spare_init(spare, spare->allocator);
}

kith_status ki_spare_reserve(ki_spare *spare, size_t n, kith_error *err)
{
    if (spare->n + n <= spare->room) return KITH_OK;
    size_t room = ki_grown(spare->room, spare->n + n);
    ki_near *near = ki_realloc(spare->allocator, spare->near, spare->n, room, sizeof *near);
    if (!near) return ki_fail_nomem(err, room * sizeof *near);
    spare->near = near;
    spare->room = room;
    return KITH_OK;
}

/* A binary heap, the nearest on top; of equally near ones the lower number, so that the order is one. */
static int nearer(ki_near a, ki_near b)
{
    return a.dist < b.dist || (a.dist == b.dist && (a.node & ~EXPANDED) < (b.node & ~EXPANDED));
}

void ki_spare_put(ki_spare *spare, float dist, uint32_t node)
{
    ki_near entry = {dist < INFINITY ? dist : INFINITY, node};
    size_t i = spare->n++;
    for (; i > 0 && nearer(entry, spare->near[(i - 1) / 2]); i = (i - 1) / 2)
        spare->near[i] = spare->near[(i - 1) / 2];
    spare->near[i] = entry;
}

static ki_near spare_take(ki_spare *spare)
{
    ki_near top = spare->near[0], last = spare->near[--spare->n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < spare->n; i = child) {
        child += child + 1 < spare->n && nearer(spare->near[child + 1], spare->near[child]);
        if (!nearer(spare->near[child], last)) break;
        spare->near[i] = spare->near[child];
    }
    if (spare->n > 0) spare->near[i] = last;
    return top;
}

void ki_beam_refill(ki_beam *beam, ki_spare *spare)
{
    while (beam->n < beam->limit && spare->n > 0) {
        ki_near entry = spare_take(spare);
        ki_beam_offer(beam, entry.dist, entry.node);
    }
}

void ki_beam_drop(ki_beam *beam, size_t n)
{
    memmove(beam->near, beam->near + n, (beam->n - n) * sizeof *beam->near);
    beam->n -= n;
    beam->next = beam->next > n ? beam->next - n : 0;
}

static void score_all(ki_beam *beam, const ki_graph *graph, ki_scorer *scorer, ki_codes codes, step *s,
                      ki_spare *spare)
{
    scorer->ops->score(scorer, codes, s->node, s->n, INFINITY, s->dist);
    beam->scored += s->n;
    for (size_t i = 0; i < s->n; i++) {
        ki_near entry = {s->dist[i] < INFINITY ? s->dist[i] : INFINITY, s->node[i]};
        if (beam->n == beam->limit) {
            ki_near last = beam->near[beam->n - 1];
            if (!(entry.dist < last.dist)) {
                ki_spare_put(spare, entry.dist, entry.node);
                continue;
            }
            ki_spare_put(spare, last.dist, last.node);
            beam->n--;
        }
        fetch(ki_graph_links(graph, entry.node), graph->degree * sizeof(uint32_t));
        ki_beam_offer(beam, entry.dist, entry.node);
    }
}

kith_status ki_beam_walk_on(ki_beam *beam, const ki_graph *graph, ki_scorer *scorer, ki_codes codes,
                            ki_query *query, ki_spare *spare, kith_error *err)
{
    size_t code_size = scorer->codec->code_size;
    step steps[2], *now = &steps[0], *then = &steps[1];
    kith_status status = KITH_OK;
    uint32_t node;
    now->n = 0;
    for (;;) {
        /* Room for this step and the next: the one that is on its way is scored in any case. */
        int more = !ki_query_stop(query);
        if (more) status = ki_spare_reserve(spare, 2 * graph->degree, err);
        more = more && status == KITH_OK && take(beam, &node);
        then->n = 0;
        if (more) gather(beam, graph, codes, code_size, node, then);
        if (now->n > 0) score_all(beam, graph, scorer, codes, now, spare);
        if (!more && (now->n == 0 || status != KITH_OK || query->stopped)) return status;
        step *swap = now;
        now = then;
        then = swap;
    }
}

uint64_t ki_graph_descend(const ki_graph *graph, ki_scorer *scorer, ki_codes codes, uint32_t *node,
                          float *dist)
{
    float found[KI_GRAPH_DEGREE];
    uint32_t near[KI_GRAPH_DEGREE];
    uint64_t scored = 0;
    for (;;) {
        const uint32_t *links = ki_graph_links(graph, *node);
        size_t n = 0;
        for (; n < graph->degree && (near[n] = ki_graph_load(&links[n])) != KI_GRAPH_NONE; n++)
            fetch(codes.code + (size_t)near[n] * scorer->codec->code_size, scorer->codec->code_size);
        size_t best = n;
        scorer->ops->score(scorer, codes, near, n, *dist, found);
        scored += n;
        for (size_t i = 0; i < n; i++)
            if (found[i] < *dist) {
                *dist = found[i];
                best = i;
            }
        if (best == n) return scored;
        *node = near[best];
    }
}

void ki_graph_keep_more(ki_found *found, size_t before)
{
    size_t now = found->n - before;
    if (before == 0) return;
    if (now < before) {
        found->n = before;
        return;
    }
    memmove(found->dist, found->dist + before, now * sizeof *found->dist);
    memmove(found->id, found->id + before, now * sizeof *found->id);
    found->n = now;
}
