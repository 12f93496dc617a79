/* rkdforest.c - randomised k-d trees: several k-d trees, different by chance, searched together.
 *
 * The idea. A k-d tree alone has to go back into many leaves once there are more dimensions than cuts. Here each of t trees
 * cuts along an axis drawn from the five of largest variance, so the trees cut space differently, and one heap over all
 * of them takes the leaves in the order of how near their cells are. After max_leaves leaves the best rows are the answer:
 * approximate.
 *
 * Papers. C. Silpa-Anan, R. Hartley, "Optimised KD-trees for fast image descriptor matching", CVPR 2008; M. Muja,
 * D. G. Lowe, "Fast approximate nearest neighbors with automatic algorithm configuration", VISAPP 2009 (FLANN), section
 * 3.1. Our ways:
 *   - Cut at the median instead of the mean of a sample: complete trees (tree_forest.h), no bad luck with the depth.
 *   - Leaves hold some rows where FLANN's hold one: the heap is a small part of the work then.
 *
 * Layout:      tree_forest.h; a cut is {threshold, axis}.
 * Invariants:  T1..T4 (tree_rows.c), O1, O2 (tree_forest.c); O2: an axis is a whole number below dim.
 * Cost:        build t n log2(n / leaf_size) keys, a tree a thread; search max_leaves x leaf_size rows at most; memory beside the
 *              codes: 4 t + 8 bytes a row, and 8 t / leaf_size bytes of cuts (twice that at worst)
 * Sections:    "rkd", "rkd.parts", ".slots", ".places", ".codes", ".factors", ".nodes", ".order". */
#include "index/tree_forest.h"

#include <string.h>

#define PREFIX "rkd"
#define SAMPLE 100 /* rows that variances are taken from; FLANN's number */
#define TOP 5      /* axes that one is drawn from; section 3.1 of the paper */

enum { LEAF_SIZE, MAX_LEAVES };

static const kith_param_info params[] = {
    [LEAF_SIZE] = {"leaf_size", KITH_PARAM_INT, KITH_AT_BUILD, 2, KI_TREE_MAX_LEAF, 32,
                   "rows in a leaf at most"},
    [MAX_LEAVES] = {"max_leaves", KITH_PARAM_INT, KITH_AT_SEARCH, 1, 4294967295.0, 100,
                    "leaves that a query reaches, over all trees; more is slower and finds more"},
};

static size_t node_floats(const ki_structure_env *env)
{
    (void)env;
    return 2;
}

static int fits(const ki_structure_env *env, uint64_t n)
{
    (void)env;
    return n == 2;
}

/* var[dim] of a sample, by Welford's recurrence. */
static void variances(const ki_forest_node *node, size_t dim, float *mean, float *var)
{
    memset(mean, 0, dim * sizeof *mean);
    memset(var, 0, dim * sizeof *var);
    size_t count = node->n < SAMPLE ? node->n : SAMPLE;
    for (size_t i = 0; i < count; i++) {
        const float *x = ki_forest_vector(node, count < node->n ? ki_rng_below(node->rng, node->n) : i);
        float share = 1 / (float)(i + 1);
        for (size_t d = 0; d < dim; d++) {
            float off = x[d] - mean[d];
            mean[d] += off * share;
            var[d] += off * (x[d] - mean[d]);
        }
    }
}

static void choose(const ki_forest *forest, const ki_forest_node *node, float *cut)
{
    size_t dim = forest->base.env->dim, top[TOP], n = 0;
    float *var = node->scratch + dim;
    variances(node, dim, node->scratch + 2 * dim, var);
    for (size_t d = 0; d < dim; d++) { /* insertion into the few that are largest so far */
        size_t i = n < TOP ? n++ : TOP;
        if (i == TOP && !(var[d] > var[top[TOP - 1]])) continue;
        if (i == TOP) i--;
        for (; i > 0 && var[d] > var[top[i - 1]]; i--) top[i] = top[i - 1];
        top[i] = d;
    }
    cut[0] = (float)top[ki_rng_below(node->rng, n)]; /* axes are below 2^24 */
}

static float project(const ki_forest *forest, size_t tree, unsigned level, const float *cut, const float *x)
{
    (void)forest, (void)tree, (void)level;
    return x[(size_t)cut[0]];
}

static int sound(const ki_forest *forest, const float *cut)
{
    float dim = (float)forest->base.env->dim;
    return cut[0] >= 0 && cut[0] < dim && cut[0] == (float)(size_t)cut[0];
}

static const ki_forest_kind kind = {.prefix = PREFIX,
                                    .node_floats = node_floats,
                                    .fits = fits,
                                    .choose = choose,
                                    .project = project,
                                    .sound = sound};

static kith_status rkd_create(const ki_structure_env *env, ki_structure **structure, kith_error *err)
{
    return ki_forest_create(env, &kind, structure, err);
}

static void rkd_search(const ki_structure *structure, ki_scratch *scratch, ki_query *query)
{
    ki_forest_budget budget = {(uint64_t)query->settings[MAX_LEAVES], UINT64_MAX, 1};
    ki_forest_search((const ki_forest *)structure, scratch, query, budget);
}

static const ki_structure_ops ops = KI_FOREST_OPS(rkd_create, rkd_search);

const ki_structure_part ki_structure_rkdforest = {
    .part = {.info = {.pattern = "RKDForest<t>",
                      .about =
                          "structure: t randomised k-d trees searched together, best leaves first (FLANN's); "
                          "approximate, for some ten to some hundred dimensions",
                      .params = params,
                      .n_params = sizeof params / sizeof *params},
             .args = {{"t", 1, 1024, 0}}},
    .main_param = "max_leaves",
    .metrics = KI_METRIC_BIT(KITH_L2SQ) | KI_METRIC_BIT(KITH_COSINE) | KI_METRIC_BIT(KITH_L1),
    .ops = &ops,
};
