/* nsg.c - NSG: a navigating spreading-out graph, made from the k-NN graph of the rows.
 *
 * The idea. A graph in which from every node to every other there is a path that comes nearer at each step (a monotonic
 * search network) lets a greedy walk arrive without ever turning back. NSG comes near one with few links: for each row, what a
 * walk towards it from one fixed node meets is pruned so that no link is kept which is the longest side of a triangle with
 * another (the MRNG rule). All walks begin at that navigating node, the row nearest to the mean.
 *
 * Paper. C. Fu, C. Xiang, C. Wang, D. Cai, "Fast approximate nearest neighbor search with the navigating spreading-out
 * graph", PVLDB 12(5), 2019. Alg. 1 SEARCH-ON-GRAPH is graph_beam.c, Alg. 2 NSGBUILD graph_flat_bulk.c. Our ways apart
 * from it:
 *   - The k-NN graph has 24 neighbours where the authors take 100 to 400, and candidates are the nodes in the beam, those
 *     expanded, and the neighbours, where the paper takes every node whose distance was computed.
 *   - Walks begin at seven rows drawn from the seed as well, when the graph is made and in searches: of data in clusters far apart
 *     the k-NN graph falls to pieces, and a walk from the middle alone stays in its own.
 *   - Links are offered back, as the authors' program does.
 *   - The spanning tree that repairs connectivity is kept and maintained, so that rows can be added and removed: a paper's NSG
 *     is made once. Both are in graph_flat.h, with layout, invariants G1, G2, N1..N3 and sections; the prefix is "nsg".
 *
 * Cost:        build   the k-NN graph, a walk a row, some R^2 distances of selection
 *              add     the same walk in the graph itself; remove: a pass over all links a call
 *              search  some 8 x ef rows scored, at random places
 *              memory  code_size + 4 R + 14 bytes a row; while it is made 300 more, and the rows in float32 */
#include "index/graph_flat.h"

enum { KNN = KI_FLAT_PARAMS };

static const kith_param_info params[] = {
    [KI_FLAT_EF] = KI_FLAT_PARAM_EF,
    [KI_FLAT_EF_CONSTRUCTION] = KI_FLAT_PARAM_EF_CONSTRUCTION(60),
    [KI_FLAT_STARTS] = KI_FLAT_PARAM_STARTS(8),
    [KNN] = {"knn", KITH_PARAM_INT, KITH_AT_BUILD, 4, 256, 24,
             "neighbours of a row in the graph that it is made from"},
};

static kith_status bulk(const ki_flat_bulk *b, kith_error *err)
{
    return ki_flat_bulk_refined(b, (size_t)b->graph->base.env->params[KNN], err);
}

static const ki_flat_kind kind = {.prefix = "nsg", .links = 1, .chosen = 1, .diversify = 1, .bulk = bulk};

static kith_status create(const ki_structure_env *env, ki_structure **structure, kith_error *err)
{
    return ki_flat_create(env, &kind, structure, err);
}

static const ki_structure_ops ops = KI_FLAT_OPS(create);

const ki_structure_part ki_structure_nsg = {
    .part = {.info = {.pattern = "NSG<R>",
                      .about =
                          "structure: a graph of at most R links a row made from the k-NN graph, walked from "
                          "its middle; quick to build, small, for rows that mostly stay",
                      .params = params,
                      .n_params = sizeof params / sizeof *params},
             .args = {{"R", 4, 512, 0}}},
    .main_param = "ef",
    .metrics = KI_FLOAT_METRICS,
    .ops = &ops,
};
