#include "index/graph_answer.h"

#include "base/error.h"

/* Up to this many times ef, comparing all rows is as fast as a walk and exact (arbitrary within a factor of two:
 * bench on 128-d float32, a walk with ef = 64 scores some 1,000 rows at a fifth of the rate of a scan). */
#define SCAN_BELOW 4

/* Nodes that are looked at to learn how many rows a filter lets through. */
#define SAMPLE 256

/* At this share a filter is met by a wider beam; below, by two hops. */
#define WIDER_FROM 0.4

/* Rows that a walk scores for each entry of the beam, about (sift1m, M = 16). */
#define SCORED_PER_ENTRY 10

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

/* The width that a filter which lets this share through asks for. */
static size_t wider(const ki_answer *a, size_t ef, double share)
{
    double wide = (double)ef / share;
    return wide < (double)a->room ? (size_t)wide : a->room + 1;
}

kith_status ki_answer_prepare(const ki_answer *a, ki_scratch *s, size_t k, kith_error *err)
{
    return ki_beam_reserve(&s->beam, a->room, wider(a, width(a, k), WIDER_FROM), err);
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

/* Compare every node that has a row which may be returned, by number. Up to which it came: all, unless it was stopped. */
static size_t scan(const ki_answer *a, ki_scratch *s, ki_query *query)
{
    uint32_t node[KI_SCAN_BLOCK], near[KI_SCAN_BLOCK];
    float dist[KI_SCAN_BLOCK];
    int selective = ki_query_selective(query);
    size_t first = 0, nodes = a->nodes->n;
    for (; first < nodes && !ki_query_stop(query); first += KI_SCAN_BLOCK) {
        size_t end = nodes - first < KI_SCAN_BLOCK ? nodes : first + KI_SCAN_BLOCK, n = 0;
        for (size_t i = first; i < end; i++) {
            node[n] = (uint32_t)i;
            n += ki_nodes_used(a->nodes, (uint32_t)i) &&
                 (!selective || ki_nodes_allowed(a->nodes, query, (uint32_t)i));
        }
        s->scorer->ops->score(s->scorer, a->nodes->codes.codes, node, n, ki_query_limit(query), dist);
        query->scored += n;
        size_t n_near = query->kernels->select_le_f32(dist, n, ki_query_limit(query), near);
        for (size_t i = 0; i < n_near; i++) ki_nodes_offer(a->nodes, query, dist[near[i]], node[near[i]]);
    }
    return first;
}

/* ---- With a filter, within a radius ---- */

/* About the share of rows that may be returned: of some nodes at equal distances. */
static double share(const ki_answer *a, const ki_query *query)
{
    size_t n = a->nodes->n, sample = n < SAMPLE ? n : SAMPLE, used = 0, passed = 0;
    for (size_t i = 0; i < sample; i++) {
        uint32_t slot = ki_nodes_first(a->nodes, (uint32_t)(i * n / sample));
        if (slot == KI_GRAPH_NONE) continue;
        used++;
        passed += (size_t)ki_query_allows(query, slot);
    }
    return used > 0 ? (double)passed / (double)used : 1;
}

/* A wider beam, two hops, or all rows that pass, whichever is least work. */
static void search_filtered(const ki_answer *a, ki_scratch *s, ki_query *query, size_t ef)
{
    double part = share(a, query), n = (double)a->nodes->n;
    if (SCORED_PER_ENTRY * (double)ef >= part * (part * n + n / 16)) {
        (void)scan(a, s, query);
        return;
    }
    int two_hop = part < WIDER_FROM;
    walk(a, s, query, two_hop ? ef : wider(a, ef, part), two_hop);
    harvest(a, s, query, 0);
    if (ki_query_taken(query) >= query->need || query->found || query->stopped) return;
    /* What was offered will be offered again: by the scan or, behind the place where that was stopped, from the beam. */
    query->top.n = 0;
    size_t end = scan(a, s, query);
    if (query->stopped) harvest(a, s, query, end);
}

/* The beam grows until it reaches beyond the radius. */
static void search_range(const ki_answer *a, ki_scratch *s, ki_query *query, size_t ef)
{
    size_t before = 0; /* what the walk before this one found: one that is stopped may have found less */
    for (;;) {
        if (ki_beam_reserve(&s->beam, a->room, ef, NULL) != KITH_OK) {
            query->found->failed = query->stopped = 1;
            return;
        }
        walk(a, s, query, ef, 0);
        harvest(a, s, query, 0);
        ki_graph_keep_more(query->found, before);
        before = query->found->n;
        if (query->stopped || s->beam.n < ef || query->by_slot) return;
        if (s->beam.near[s->beam.n - 1].dist > ki_query_limit(query)) return;
        ef *= 4;
        if (SCAN_BELOW * ef < a->nodes->n) continue;
        (void)scan(a, s, query);
        ki_graph_keep_more(query->found, before);
        return;
    }
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
    if (SCAN_BELOW * ef >= a->nodes->n) {
        (void)scan(a, s, query);
    } else if (query->found) {
        search_range(a, s, query, ef);
    } else if (ki_query_selective(query)) {
        search_filtered(a, s, query, ef);
    } else {
        walk(a, s, query, ef, 0);
        harvest(a, s, query, 0);
    }
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
