/* nsw.c - NSW: a navigable small world, rows linked to the nearest that were there when they came.
 *
 * The idea. A row that comes is linked, both ways, to its M nearest among the rows that are there. Links made early, when rows
 * were few, are long and serve as motorways; late ones are short. A greedy walk from a random row takes about log n steps
 * to the neighbourhood of a query; several walks from different rows make up for those that end in the wrong one. Simpler than
 * HNSW, which came out of it, and slower.
 *
 * Paper. Y. Malkov, A. Ponomarenko, A. Logvinov, V. Krylov, "Approximate nearest neighbor algorithm based on navigable
 * small world graphs", Information Systems 45, 2014. Alg. 2 K-NNSEARCH (m walks that share what they visited and found) is
 * ki_flat_walk, Alg. 3 NEAREST-NEIGHBOR INSERT ki_flat_add. Our ways apart from it:
 *   - A walk keeps ef rows, where the paper's ends when the next candidate is farther than the k-th found: with ef = k they
 *     are the same.
 *   - The first walk of a search begins at one fixed row, the others at rows drawn from the seed, the same in every search: an
 *     answer can be had again.
 *   - A row has at most 4 M links, where the paper's grow without bound
 *     beyond: the nearest are kept. A link that is dropped on one side stays on the other.
 *   - Rows come in batches, as everywhere here, and a tree keeps them within reach: graph_flat.h, with layout, invariants G1,
 *     G2, N1..N3 and sections; the prefix is "nsw".
 *
 * Cost:        add     `starts` walks with ef_construction; remove: a pass over all links a call
 *              search  `starts` walks
 *              memory  code_size + 16 M + 14 bytes a row */
#include "index/graph_flat.h"

static const kith_param_info params[] = {
    [KI_FLAT_EF] = KI_FLAT_PARAM_EF,
    [KI_FLAT_EF_CONSTRUCTION] = KI_FLAT_PARAM_EF_CONSTRUCTION(100),
    [KI_FLAT_STARTS] = KI_FLAT_PARAM_STARTS(2),
};

static const ki_flat_kind kind = {.prefix = "nsw", .links = 4, .chosen = 1, .apart = 1};

static kith_status create(const ki_structure_env *env, ki_structure **structure, kith_error *err)
{
    return ki_flat_create(env, &kind, structure, err);
}

static const ki_structure_ops ops = KI_FLAT_OPS(create);

const ki_structure_part ki_structure_nsw = {
    .part =
        {.info = {.pattern = "NSW<M>",
                  .about =
                      "structure: a graph of rows linked to the M nearest that were there before; simple, "
                      "slower than HNSW, for comparison",
                  .params = params,
                  .n_params = sizeof params / sizeof *params},
         .args = {{"M", 2, 128, 0}}},
    .main_param = "ef",
    .metrics = KI_FLOAT_METRICS,
    .ops = &ops,
};
