/* vamana.c - Vamana: the graph of DiskANN, NSG's with longer links.
 *
 * The idea. As in NSG a walk begins at the row nearest to the mean, and a link is left out where another kept link leads nearer
 * to its end; but only where it leads alpha times nearer. With alpha beyond 1 more and longer links stay, and a walk
 * needs fewer steps: each step comes nearer by a factor, not just nearer. Made for rows on disk, where a step is a read.
 *
 * Paper. S. J. Subramanya, Devvrit, R. Kadekodi, R. Krishaswamy, H. V. Simhadri, "DiskANN: fast accurate billion-point
 * nearest neighbor search on a single node", NeurIPS 2019: Alg. 1 GREEDYSEARCH is graph_beam.c, Alg. 2 ROBUSTPRUNE
 * graph_prune.c, Alg. 3 INDEXING graph_flat_bulk.c. Adding: A. Singh et al., "FreshDiskANN", 2021. Our ways apart from it:
 *   - It begins with the k-NN graph, where the paper begins with random links and goes over all rows twice: the first pass
 *     only gets near what the k-NN graph holds from the start. So one pass, whose walks run through the k-NN graph.
 *   - Walks begin at seven rows drawn from the seed as well, as in nsg.c.
 *   - Candidates are the expanded nodes (the paper's V), the rest of the beam, and the neighbours.
 *   - alpha applies to distances, so alpha squared to squared ones; dot products of rows that are not of unit length know no
 *     such factor: alpha is 1 there.
 *   - A tree keeps all rows within reach: the paper relies on luck for that. graph_flat.h, with layout, invariants G1, G2,
 *     N1..N3 and sections; the prefix is "vamana".
 *
 * Cost: as NSG's. */
#include "index/graph_flat.h"

enum { KNN = KI_FLAT_PARAMS, ALPHA };

static const kith_param_info params[] = {
    [KI_FLAT_EF] = KI_FLAT_PARAM_EF,
    [KI_FLAT_EF_CONSTRUCTION] = KI_FLAT_PARAM_EF_CONSTRUCTION(60),
    [KI_FLAT_STARTS] = KI_FLAT_PARAM_STARTS(8),
    [KNN] = {"knn", KITH_PARAM_INT, KITH_AT_BUILD, 4, 256, 24,
             "neighbours of a row in the graph that it is made from"},
    [ALPHA] = {"alpha", KITH_PARAM_FLOAT, KITH_AT_BUILD, 1, 4, 1.2,
               "a link is left out where another leads this many times nearer to its end; 1: NSG's rule"},
};

static kith_status bulk(const ki_flat_bulk *b, kith_error *err)
{
    return ki_flat_bulk_refined(b, (size_t)b->graph->base.env->params[KNN], err);
}

static const ki_flat_kind kind = {
    .prefix = "vamana", .links = 1, .chosen = 1, .diversify = 1, .alpha = ALPHA, .bulk = bulk};

static kith_status create(const ki_structure_env *env, ki_structure **structure, kith_error *err)
{
    return ki_flat_create(env, &kind, structure, err);
}

static const ki_structure_ops ops = KI_FLAT_OPS(create);

const ki_structure_part ki_structure_vamana = {
    .part = {.info = {.pattern = "Vamana<R>",
                      .about =
                          "structure: the graph of DiskANN, at most R links a row, longer ones than NSG's; "
                          "fewer steps to a query",
                      .params = params,
                      .n_params = sizeof params / sizeof *params},
             .args = {{"R", 4, 512, 0}}},
    .main_param = "ef",
    .metrics = KI_FLOAT_METRICS,
    .ops = &ops,
};
