#include "index/graph_search.h"

#include <math.h>

#include "base/rng.h"

/* Nodes that are looked at to learn how many rows a filter lets through: a share of a tenth is known within a fifth of it. */
#define SAMPLE 256

/* About the share of nodes that may be returned, from 0 to 1. */
static double share_of(const ki_graph_ways *ways, const ki_query *query)
{
    size_t n = ways->n, sample = n < SAMPLE ? n : SAMPLE, used = 0, passed = 0;
    for (size_t i = 0; i < sample; i++) {
        /* One of each run of numbers, drawn: at equal distances a filter with a period would show one of its faces. */
        size_t from = i * n / sample, to = (i + 1) * n / sample;
        uint32_t slot = ways->slot(ways->ctx, (uint32_t)(from + ki_mix64(i) % (to - from)));
        if (slot == KI_GRAPH_NONE) continue;
        used++;
        passed += (size_t)ki_query_allows(query, slot);
    }
    return used > 0 ? (double)passed / (double)used : 1;
}

/* Rows that pass lie within two hops of each other down to about this share; below, fewer and fewer ways are left, and a beam that
 * is wider by the root of how much rarer they are keeps the recall (200,000 rows of sift1m, ef 64: docs/families/graphs.md). */
#define TWO_HOPS_FROM 0.1

/* What a caller's function costs for each row, more than a bit (13 ns for one that divides twice, beside 65 for a row of sift1m). */
#define ASK 0.2

/* A width that is some times another. */
static size_t wider(size_t n, size_t ef, double times)
{
    double wide = (double)ef * times;
    return wide < (double)n ? (size_t)wide : n + 1;
}

static double hops_wider(double share)
{
    return share < TWO_HOPS_FROM ? sqrt(TWO_HOPS_FROM / share) : 1;
}

size_t ki_graph_widest(const ki_graph_costs *cost, size_t n, size_t ef)
{
    if (cost->hops <= 0) return wider(n, ef, 1 / cost->least);
    /* The walk through everything is wider the smaller the share, until the other is less work. */
    return wider(n, ef, fmax(cost->hops / cost->entry, hops_wider(cost->least)));
}

/* The width of the walk, or 0: a scan. */
static size_t choose(const ki_graph_ways *ways, const ki_query *query, size_t ef, int *two_hop)
{
    const ki_graph_costs *cost = &ways->costs;
    double share = share_of(ways, query), n = (double)ways->n;
    *two_hop = 0;
    if (share < cost->least) return 0;
    *two_hop = cost->hops > 0 && cost->hops * share < cost->entry;
    double times = *two_hop ? hops_wider(share) : 1 / share;
    double walk = (*two_hop ? cost->hops : cost->entry) * (double)ef * times;
    double slot = cost->slot + (query->filter && query->filter->allow ? ASK : 0);
    return walk < n * (slot + share) ? wider(ways->n, ef, times) : 0;
}

/* Finds min(need, those that pass) rows. */
static void search_filtered(const ki_graph_ways *ways, ki_query *query, size_t ef)
{
    int two_hop;
    size_t width = choose(ways, query, ef, &two_hop);
    if (width > 0) {
        ways->walk(ways->ctx, query, width, two_hop);
        if (query->stopped || ki_query_taken(query) >= query->need) return;
        query->top.n = 0; /* what was offered will be offered again */
    }
    size_t end = ways->scan(ways->ctx, query);
    /* Where the scan was stopped, what the walk found behind that place is as good as ever. */
    if (width > 0 && query->stopped) ways->again(ways->ctx, query, end);
}

/* Finds all rows within the radius, as far as walks do. */
static void search_range(const ki_graph_ways *ways, ki_query *query, size_t ef)
{
    size_t before = 0; /* what the walk before this one found: one that is stopped may have found less */
    for (;;) {
        if (ways->reserve(ways->ctx, ef) != KITH_OK) {
            query->found->failed = query->stopped = 1;
            return;
        }
        ways->walk(ways->ctx, query, ef, 0);
        ki_graph_keep_more(query->found, before);
        before = query->found->n;
        if (query->stopped || query->by_slot || ways->reached(ways->ctx, query, ef)) return;
        ef *= 4;
        if (ef < ways->n && ways->scan_below * (double)ef < (double)ways->n) continue;
        (void)ways->scan(ways->ctx, query);
        ki_graph_keep_more(query->found, before);
        return;
    }
}

void ki_graph_search(const ki_graph_ways *ways, ki_query *query, size_t ef)
{
    if (ways->scan_below * (double)ef >= (double)ways->used)
        (void)ways->scan(ways->ctx, query);
    else if (query->found)
        search_range(ways, query, ef);
    else if (ki_query_selective(query))
        search_filtered(ways, query, ef);
    else
        ways->walk(ways->ctx, query, ef, 0);
}
