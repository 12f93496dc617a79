/* nndescent.c - NNDescent: the k-NN graph itself, searched.
 *
 * The idea. Every row knows its k nearest rows; a walk from neighbour to neighbour leads to a query as in other graphs. Links
 * are all short and none is left out, so walks are longer and rows in far clusters are met only from a start among them:
 * it is here because the graph is wanted for itself (kith/knng.h) and as the measure of what pruning gains (nsg.c).
 *
 * Paper. W. Dong, C. Moses, K. Li, "Efficient k-nearest neighbor graph construction for generic similarity measures", WWW
 * 2011; how the graph is made stands in knn_graph.c. For searching, each row keeps links back from rows whose neighbour it
 * is, up to 2 k links in all, the nearest ones; walks begin at the row nearest to the mean and at some rows drawn from the
 * seed. A row that comes later is linked to the 2 k nearest that a walk finds, and back: the others take it in where it is
 * nearer than what they hold. A tree keeps all within reach: graph_flat.h, with layout, invariants G1, G2, N1..N3
 * and sections; the prefix is "nndescent".
 *
 * Cost:        build   knn_graph.h
 *              search  more rows scored than with NSG at the same recall
 *              memory  code_size + 8 k + 14 bytes a row; while it is made 40 k more, and the rows in float32 */
#include "index/graph_flat.h"

static const kith_param_info params[] = {
    [KI_FLAT_EF] = KI_FLAT_PARAM_EF,
    [KI_FLAT_EF_CONSTRUCTION] = KI_FLAT_PARAM_EF_CONSTRUCTION(100),
    [KI_FLAT_STARTS] = KI_FLAT_PARAM_STARTS(64),
};

static kith_status bulk(const ki_flat_bulk *b, kith_error *err)
{
    return ki_flat_bulk_nearest(b, (size_t)b->graph->base.env->args[0], err);
}

static const ki_flat_kind kind = {.prefix = "nndescent", .links = 2, .chosen = 2, .bulk = bulk};

static kith_status create(const ki_structure_env *env, ki_structure **structure, kith_error *err)
{
    return ki_flat_create(env, &kind, structure, err);
}

static const ki_structure_ops ops = KI_FLAT_OPS(create);

const ki_structure_part ki_structure_nndescent = {
    .part = {.info = {.pattern = "NNDescent<k>",
                      .about =
                          "structure: the graph of the k nearest neighbours of every row; quickest graph to "
                          "build, `kith knng` writes it as a file",
                      .params = params,
                      .n_params = sizeof params / sizeof *params},
             .args = {{"k", 4, 256, 0}}},
    .main_param = "ef",
    .metrics = KI_FLOAT_METRICS,
    .ops = &ops,
};
