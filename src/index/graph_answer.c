#include "index/graph_answer.h"

#include "base/error.h"
#include "index/graph_search.h"

/* Up to this many times ef, comparing all rows is as fast as a walk and exact (arbitrary within a factor of two:
 * bench on 128-d float32, a walk with ef = 64 scores some 1,000 rows at a fifth of the rate of a scan). */
#define SCAN_BELOW 4

/* Processor time of each way of 40,000 and 200,000 rows of sift1m in HNSW16 with random bitmaps, by turns (the table in
 * docs/families/graphs.md): 65 ns a row compared by a scan; 1 ns a slot; 1.5 us an entry of a beam; 9 to 12 us an entry of a walk in
 * two hops, nearly all of it for asking the neighbours of neighbours, whatever the share. It counts as a little more, for it
 * finds a little less. */
static const ki_graph_costs costs = {.slot = 0.015, .entry = 23, .hops = 200, .least = 0.005};

/* ---- Memory ---- */

kith_status ki_answer_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err)
{
    KI_TRY(ki_scratch_make(structure, sizeof **scratch, scratch, err));
    ki_beam_init(&(*scratch)->beam, structure->env->allocator);
    ki_spare_init(&(*scratch)->spare, structure->env->allocator);
    return KITH_OK;
}

void ki_answer_scratch_free(const ki_structure *structure, ki_scratch *scratch)
{
    ki_scorer_free(scratch->scorer);
    ki_beam_clear(&scratch->beam);
    ki_spare_clear(&scratch->spare);
    ki_free(structure->env->allocator, scratch);
}

/* The width of the beam for k results. */
static size_t width(const ki_answer *a, size_t k)
{
    size_t ef = a->ef < k ? k : a->ef;
    return ef < a->room ? ef : a->room + 1;
}

kith_status ki_answer_prepare(const ki_answer *a, ki_scratch *s, size_t k, kith_error *err)
{
    return ki_beam_reserve(&s->beam, a->room, ki_graph_widest(&costs, a->room, width(a, k)), err);
}

/* The scorer learns the query. */
static void ask(ki_scratch *s, const ki_query *query)
{
    if (query->bits)
        s->scorer->ops->query_bits(s->scorer, query->bits);
    else
        s->scorer->ops->query(s->scorer, query->vector);
}

/* ---- The walk ---- */

void ki_answer_enter(const ki_answer *a, ki_scratch *s, ki_query *query, uint32_t node)
{
    float dist;
    if (!ki_beam_visit(&s->beam, node)) return;
    s->scorer->ops->score(s->scorer, a->nodes->codes.codes, &node, 1, INFINITY, &dist);
    query->scored++;
    ki_spare_put(&s->spare, dist, node);
}

static void walk(const ki_answer *a, ki_scratch *s, ki_query *query, size_t ef, int two_hop)
{
    ki_codes codes = a->nodes->codes.codes;
    s->beam.scored = s->beam.expanded = 0;
    if (a->walk) {
        a->walk(a, s, query, ef, two_hop);
    } else {
        ki_beam_start(&s->beam, ef);
        a->enter(a, s, query);
        if (two_hop)
            ki_beam_walk_some(&s->beam, &a->graph, s->scorer, codes, query, ki_nodes_allowed, a->nodes);
        else
            ki_beam_walk(&s->beam, &a->graph, s->scorer, codes, query);
    }
    query->scored += s->beam.scored;
    query->visited += s->beam.expanded;
}

/* Offer what the beam holds of nodes from number `from` on, nearest first, as long as it can enter. Also when the walk was
 * stopped: its best so far are the answer. */
static void harvest(const ki_answer *a, ki_scratch *s, ki_query *query, size_t from)
{
    for (size_t i = 0; i < s->beam.n && !(query->found && query->found->failed); i++) {
        uint32_t node = ki_beam_node(&s->beam, i);
        if (s->beam.near[i].dist > ki_query_limit(query)) break;
        if (node >= from) ki_nodes_offer(a->nodes, query, s->beam.near[i].dist, node);
    }
    (void)ki_query_stop(query); /* time that ran out meanwhile: nothing else is begun */
}

/* ---- All rows ---- */

/* Whether the nodes first..end-1 have one slot each and these follow one another, as they do where no rows are equal and none
 * were removed: then nobody needs to look at them one by one. */
static int straight(const ki_nodes *nodes, size_t first, size_t end)
{
    uint32_t slot = ki_nodes_first(nodes, (uint32_t)first), off = 0;
    if (slot == KI_GRAPH_NONE) return 0;
    for (size_t i = first; i < end; i++)
        off |= (ki_nodes_first(nodes, (uint32_t)i) - slot) ^ (uint32_t)(i - first);
    if (off || !nodes->next) return off == 0;
    for (uint32_t i = 0; i < end - first; i++) off |= ki_nodes_next(nodes, slot + i) ^ (slot + i);
    return off == 0;
}

/* Of the nodes first..end-1, a block at most, those that have a row which may be returned: into node[]; how many. */
static size_t admit(const ki_nodes *nodes, const ki_query *query, size_t first, size_t end, uint32_t *node)
{
    uint32_t slot[KI_SCAN_BLOCK], pick[KI_SCAN_BLOCK];
    size_t n = 0, passed = 0;
    int selective = ki_query_selective(query);
    if (selective && straight(nodes, first, end)) {
        n = ki_query_admit(query, NULL, ki_nodes_first(nodes, (uint32_t)first), end - first, pick);
        for (size_t i = 0; i < n; i++) node[i] = (uint32_t)first + pick[i];
        return n;
    }
    for (size_t i = first; i < end; i++) {
        node[n] = (uint32_t)i;
        slot[n] = ki_nodes_first(nodes, (uint32_t)i);
        n += slot[n] != KI_GRAPH_NONE;
    }
    if (!selective) return n;
    size_t n_pick = ki_query_admit(query, slot, 0, n, pick);
    for (size_t i = 0, at = 0; i < n; i++) {
        int passes = at < n_pick && pick[at] == i;
        at += (size_t)passes;
        /* Another row of the node may pass where the first does not. */
        if (passes || (ki_nodes_next(nodes, slot[i]) != slot[i] && ki_nodes_allowed(nodes, query, node[i])))
            node[passed++] = node[i];
    }
    return passed;
}

/* Compare every node that has a row which may be returned, by number. Up to which it came: all, unless it was stopped. */
static size_t scan(const ki_answer *a, ki_scratch *s, ki_query *query)
{
    uint32_t node[KI_SCAN_BLOCK], near[KI_SCAN_BLOCK];
    float dist[KI_SCAN_BLOCK];
    size_t first = 0, nodes = a->nodes->n;
    for (; first < nodes && !ki_query_stop(query); first += KI_SCAN_BLOCK) {
        size_t end = nodes - first < KI_SCAN_BLOCK ? nodes : first + KI_SCAN_BLOCK;
        size_t n = admit(a->nodes, query, first, end, node);
        s->scorer->ops->score(s->scorer, a->nodes->codes.codes, node, n, ki_query_limit(query), dist);
        query->scored += n;
        size_t n_near = query->kernels->select_le_f32(dist, n, ki_query_limit(query), near);
        for (size_t i = 0; i < n_near; i++) ki_nodes_offer(a->nodes, query, dist[near[i]], node[near[i]]);
    }
    return first;
}

/* ---- The ways to the rows: graph_search.h ---- */

typedef struct asked {
    const ki_answer *answer;
    ki_scratch *scratch;
} asked;

static uint32_t slot_of(const void *ctx, uint32_t node)
{
    return ki_nodes_first(((const asked *)ctx)->answer->nodes, node);
}

static kith_status way_reserve(void *ctx, size_t ef)
{
    asked *w = ctx;
    return ki_beam_reserve(&w->scratch->beam, w->answer->room, ef, NULL);
}

static void way_walk(void *ctx, ki_query *query, size_t ef, int two_hop)
{
    asked *w = ctx;
    walk(w->answer, w->scratch, query, ef, two_hop);
    harvest(w->answer, w->scratch, query, 0);
}

static int way_reached(const void *ctx, const ki_query *query, size_t ef)
{
    const ki_beam *beam = &((const asked *)ctx)->scratch->beam;
    return beam->n < ef || beam->near[beam->n - 1].dist > ki_query_limit(query);
}

static size_t way_scan(void *ctx, ki_query *query)
{
    return scan(((asked *)ctx)->answer, ((asked *)ctx)->scratch, query);
}

static void way_again(void *ctx, ki_query *query, size_t from)
{
    harvest(((asked *)ctx)->answer, ((asked *)ctx)->scratch, query, from);
}

void ki_answer_search(const ki_answer *a, ki_scratch *s, ki_query *query)
{
    query->holes = 0; /* nodes have slots in use only */
    if (a->nodes->n == 0) {
        (void)ki_query_stop(query);
        return;
    }
    ask(s, query);
    size_t ef = width(a, query->top.k);
    asked ctx = {a, s};
    const ki_graph_ways ways = {.ctx = &ctx,
                                .n = a->nodes->n,
                                .used = a->nodes->n,
                                .scan_below = SCAN_BELOW,
                                .costs = costs,
                                .slot = slot_of,
                                .reserve = way_reserve,
                                .walk = way_walk,
                                .reached = way_reached,
                                .scan = way_scan,
                                .again = way_again};
    ki_graph_search(&ways, query, ef);
}

/* ---- Row after row ---- */

/* All nodes into the spare entries, as if a walk had been everywhere: of few nodes the order is exact then. */
static kith_status score_all(const ki_answer *a, ki_scratch *s, ki_query *query, kith_error *err)
{
    size_t nodes = a->nodes->n; /* more may be coming beside this */
    KI_TRY(ki_spare_reserve(&s->spare, nodes, err));
    uint32_t node[KI_SCAN_BLOCK];
    float dist[KI_SCAN_BLOCK];
    for (size_t first = 0; first < nodes; first += KI_SCAN_BLOCK) {
        size_t end = nodes - first < KI_SCAN_BLOCK ? nodes : first + KI_SCAN_BLOCK, n = 0;
        for (size_t i = first; i < end; i++) {
            node[n] = (uint32_t)i;
            n += (size_t)ki_nodes_used(a->nodes, (uint32_t)i);
        }
        s->scorer->ops->score(s->scorer, a->nodes->codes.codes, node, n, INFINITY, dist);
        query->scored += n;
        for (size_t i = 0; i < n; i++) ki_spare_put(&s->spare, dist[i], ki_beam_done(node[i]));
    }
    return KITH_OK;
}

/* The beam keeps ef nodes that were not handed out; those for which it has no room are spare and come back when it has. So all
 * that was walked counts, and the next rows cost as many steps as they are, where a wider search would begin anew. At
 * most half of the beam is handed out at a time: beyond each row that leaves as many nodes again were looked at. */
kith_status ki_answer_next(const ki_answer *a, ki_scratch *s, ki_query *query, size_t n, int anew,
                           kith_error *err)
{
    query->holes = 0;
    if (anew) {
        ki_beam_start(&s->beam, width(a, 2));
        s->spare.n = 0;
        ask(s, query);
        if (SCAN_BELOW * s->beam.limit >= a->nodes->n) {
            KI_TRY(score_all(a, s, query, err));
        } else {
            KI_TRY(ki_spare_reserve(&s->spare, a->entries, err));
            a->enter(a, s, query);
        }
    }
    ki_found *found = query->found;
    for (size_t before = found->n; found->n - before < n && !found->failed;) {
        s->beam.scored = s->beam.expanded = 0;
        ki_beam_refill(&s->beam, &s->spare);
        KI_TRY(ki_beam_walk_on(&s->beam, &a->graph, s->scorer, a->nodes->codes.codes, query, &s->spare, err));
        query->scored += s->beam.scored;
        query->visited += s->beam.expanded;
        if (query->stopped || s->beam.n == 0) break;
        size_t half = (s->beam.n + 1) / 2, out = 0;
        for (; out < half && found->n - before < n; out++) {
            ki_nodes_offer(a->nodes, query, s->beam.near[out].dist, ki_beam_node(&s->beam, out));
            if (found->failed) break; /* it stays in the beam and is offered again */
        }
        ki_beam_drop(&s->beam, out);
    }
    return found->failed ? ki_fail_nomem(err, found->n * (sizeof *found->dist + sizeof *found->id)) : KITH_OK;
}
