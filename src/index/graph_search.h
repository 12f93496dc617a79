/* graph_search.h - a search of any graph: which way to its rows is least work, and what follows a walk that found too little.
 *
 * A filter is met in one of three ways. A wider walk goes through rows that do not pass as if they did, with a beam wider by as much as
 * there are more of them. A walk in two hops scores rows that pass only, and looks through the others at their neighbours
 * (after ACORN: Patel, Kraft, Guestrin, Zaharia, SIGMOD 2024, section 5.2). A scan compares all rows that pass. What each will
 * cost follows from the share of rows that pass, which is learnt from a sample. */
#ifndef KI_INDEX_GRAPH_SEARCH_H
#define KI_INDEX_GRAPH_SEARCH_H

#include "index/graph_beam.h"

/* What the ways cost in a graph, in comparisons of one row by a scan. */
typedef struct ki_graph_costs {
    double slot;  /* a scan, for each row: to find whether it passes */
    double entry; /* a walk, for each entry of its beam */
    double hops;  /* a walk in two hops, the same; 0: the graph has none */
    double least; /* below this share a filter is met by a scan whatever it costs */
} ki_graph_costs;

/* How a graph walks and scans. */
typedef struct ki_graph_ways {
    void *ctx;
    size_t n;    /* numbers of nodes, and nodes that a beam may have to hold */
    size_t used; /* of these, numbers that are not free */
    double
        scan_below; /* all rows are compared where there are no more than this many times the width of a walk */
    ki_graph_costs costs;
    /* A slot of a node, or KI_GRAPH_NONE: the number is free. */
    uint32_t (*slot)(const void *ctx, uint32_t node);
    /* Room for walks of that width. */
    kith_status (*reserve)(void *ctx, size_t ef);
    /* Walk, through the filter where two_hop is set, and offer what was found. */
    void (*walk)(void *ctx, ki_query *query, size_t ef, int two_hop);
    /* Whether the last walk came to an end beyond the radius, or everywhere. */
    int (*reached)(const void *ctx, const ki_query *query, size_t ef);
    /* Compare all rows that may be returned. Up to which number it came: all, unless it was stopped. */
    size_t (*scan)(void *ctx, ki_query *query);
    /* Offer again what the last walk found of numbers from `from` on. */
    void (*again)(void *ctx, ki_query *query, size_t from);
} ki_graph_ways;

/* The widest walk that a filter makes of one of ef, of graphs with n nodes. */
size_t ki_graph_widest(const ki_graph_costs *cost, size_t n, size_t ef);

/* Answer a query by a walk of ef, or by what is less work or finds more: min(need, those that pass) rows of a filter, all rows within a
 * radius. */
void ki_graph_search(const ki_graph_ways *ways, ki_query *query, size_t ef);

#endif
