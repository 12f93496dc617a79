/* rpforest.c - a forest of random projection trees.
 *
 * The idea. A tree cuts the rows in half along a random direction, then each half along another. Rows near each other mostly
 * stay together; where one tree parts them, another does not. The rows that share a leaf with the query in some tree are
 * candidates; those that do so in several trees (`votes`) are nearly always near, so asking for a few votes leaves most
 * rows unread. Two ways to choose directions, by the build-time parameter `split`:
 *
 *     0  sparse: a few components of weight +1 or -1, the same for all nodes of a level (V. Hyvonen et al., "Fast nearest
 *        neighbor search through sparse random projections and voting", IEEE Big Data 2016, MRPT; the weights of
 *        P. Li, T. Hastie, K. Church, "Very sparse random projections", KDD 2006): no memory a node, cheap
 *     1  two means: the line between two centroids that follow a random walk through the rows of the node (E. Bernhardsson's
 *        Annoy): adapts to the data, costs dim floats a node
 *
 * S. Dasgupta and Y. Freund, "Random projection trees and low dimensional manifolds", STOC 2008, tell why it works.
 * Our ways:
 *   - All cuts are at the median, as in MRPT; Annoy cuts in the middle between its means. Trees are complete then
 *     (tree_forest.h), and every leaf costs the same.
 *   - MRPT looks into one leaf a tree, Annoy puts nodes by their margin into one heap over all trees. Here: the heap, and
 *     votes over all leaves reached. The cost of a node is the sum of squared margins along its path, where Annoy takes the
 *     worst margin alone.
 *   - Weights are +1 and -1, not Gaussian: they are drawn without the C library's logarithm, so a file means the same
 *     everywhere. They are made again from the seed, not stored.
 *
 * Layout:      tree_forest.h; a cut is {threshold}, or {threshold, direction[dim]}.
 * Invariants:  T1..T4 (tree_rows.c), O1, O2 (tree_forest.c).
 * Cost:        build t n log2(n / leaf_size) projections of sqrt(dim) (split 1: dim) multiply-adds, a tree a thread; search
 *              as search_nodes and votes say; memory beside the codes: 4 t + 8 bytes a row, and the cuts
 * Sections:    "rpforest", "rpforest.parts", ".slots", ".places", ".codes", ".factors", ".nodes", ".order". */
#include "index/tree_forest.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

#define PREFIX "rpforest"
#define STEPS 200 /* of the walk of two means; Annoy's number */
#define STREAM 0x7270666f72657374u

enum { LEAF_SIZE, SPLIT, SEARCH_NODES, VOTES };

static const kith_param_info params[] = {
    [LEAF_SIZE] = {"leaf_size", KITH_PARAM_INT, KITH_AT_BUILD, 2, KI_TREE_MAX_LEAF, 64,
                   "rows in a leaf at most"},
    [SPLIT] = {"split", KITH_PARAM_INT, KITH_AT_BUILD, 0, 1, 1,
               "how a node is cut: 0 sparse random projections (MRPT), 1 two means (Annoy)"},
    [SEARCH_NODES] =
        {"search_nodes", KITH_PARAM_INT, KITH_AT_SEARCH, 1, 4294967295.0, 2000,
         "rows in the leaves that a query reaches, counted in every tree; more is slower and finds more"},
    [VOTES] = {"votes", KITH_PARAM_INT, KITH_AT_SEARCH, 1, 200, 1,
               "leaves that must hold a row before it is compared; more with more trees and search_nodes"},
};

/* One component of a sparse direction. */
typedef struct component {
    uint32_t axis;
    float weight;
} component;

/* Components of a direction: a density of 1 / sqrt(dim), as MRPT has it. */
static size_t components(size_t dim)
{
    return (size_t)ceil(sqrt((double)dim));
}

static size_t node_floats(const ki_structure_env *env)
{
    return env->params[SPLIT] > 0 ? env->dim + 1 : 1;
}

static int fits(const ki_structure_env *env, uint64_t n)
{
    return n == 1 || n == env->dim + 1;
}

static int is_sparse(const ki_forest *forest)
{
    return forest->node_floats == 1;
}

/* ---- Sparse directions ---- */

static void draw(const ki_structure_env *env, size_t tree, size_t level, component *out, uint64_t *axes)
{
    size_t n = components(env->dim);
    ki_rng rng;
    ki_rng_init(&rng, env->seed ^ STREAM, (uint64_t)tree << 32 | level);
    ki_rng_sample(&rng, env->dim, n, axes);
    for (size_t i = 0; i < n; i++)
        out[i] = (component){(uint32_t)axes[i], ki_rng_u64(&rng) >> 63 ? 1.0f : -1.0f};
}

/* shared: component[trees][shared_levels][components(dim)]. */
static kith_status ready(ki_forest *forest, unsigned levels, kith_error *err)
{
    const ki_structure_env *env = forest->base.env;
    size_t n = components(env->dim);
    if (!is_sparse(forest) || levels <= forest->shared_levels) return KITH_OK;
    component *all = ki_alloc(env->allocator, forest->trees * levels, n * sizeof *all);
    uint64_t *axes = ki_alloc(env->allocator, n, sizeof *axes);
    if (!all || !axes) {
        ki_free(env->allocator, all);
        ki_free(env->allocator, axes);
        return ki_fail_nomem(err, forest->trees * levels * n * sizeof *all);
    }
    for (size_t tree = 0; tree < forest->trees; tree++)
        for (size_t level = 0; level < levels; level++)
            draw(env, tree, level, all + (tree * levels + level) * n, axes);
    ki_free(env->allocator, axes);
    ki_free(env->allocator, forest->shared);
    forest->shared = all;
    forest->shared_levels = levels;
    return KITH_OK;
}

/* ---- Two means ---- */

/* mean = (weight mean + x) / (weight + 1) */
static void draw_near(float *mean, const float *x, size_t dim, float weight)
{
    float share = 1 / (weight + 1);
    for (size_t d = 0; d < dim; d++) mean[d] += (x[d] - mean[d]) * share;
}

/* Two centroids start at random rows; each of a number of random rows goes to the nearer one, distances weighted
 * by what a centroid has already, so that neither takes all. */
static void two_means(const ki_forest *forest, const ki_forest_node *node, float *line)
{
    const ki_structure_env *env = forest->base.env;
    const ki_kernels *kernels = env->kernels;
    size_t dim = env->dim, row = dim * sizeof(float);
    float *a = node->scratch + dim, *b = node->scratch + 2 * dim;
    uint64_t first = ki_rng_below(node->rng, node->n), second = ki_rng_below(node->rng, node->n - 1);
    second += second >= first;
    memcpy(a, ki_forest_vector(node, first), row);
    memcpy(b, ki_forest_vector(node, second), row);
    float a_weight = 1, b_weight = 1;
    for (size_t step = 0; step < STEPS; step++) {
        const float *x = ki_forest_vector(node, ki_rng_below(node->rng, node->n));
        float to_a = a_weight * kernels->l2sq_f32(a, x, dim), to_b = b_weight * kernels->l2sq_f32(b, x, dim);
        if (to_a < to_b) {
            draw_near(a, x, dim, a_weight);
            a_weight++;
        } else if (to_b < to_a) {
            draw_near(b, x, dim, b_weight);
            b_weight++;
        }
    }
    double norm2 = 0;
    for (size_t d = 0; d < dim; d++) {
        double off = (double)b[d] - (double)a[d];
        norm2 += off * off;
    }
    double scale = norm2 > 0 ? 1 / sqrt(norm2) : 0;
    for (size_t d = 0; d < dim; d++) line[d] = (float)(((double)b[d] - (double)a[d]) * scale);
}

/* ---- The vtable ---- */

static void choose(const ki_forest *forest, const ki_forest_node *node, float *cut)
{
    if (!is_sparse(forest)) two_means(forest, node, cut);
}

static float project(const ki_forest *forest, size_t tree, unsigned level, const float *cut, const float *x)
{
    const ki_structure_env *env = forest->base.env;
    if (!is_sparse(forest)) return env->kernels->dot_f32(cut, x, env->dim);
    size_t n = components(env->dim), i = 0;
    const component *c = (const component *)forest->shared + (tree * forest->shared_levels + level) * n;
    float sum[4] = {0};
    for (; i + 4 <= n; i += 4)
        for (size_t j = 0; j < 4; j++) sum[j] += c[i + j].weight * x[c[i + j].axis];
    for (; i < n; i++) sum[0] += c[i].weight * x[c[i].axis];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

static const ki_forest_kind kind = {.prefix = PREFIX,
                                    .node_floats = node_floats,
                                    .fits = fits,
                                    .choose = choose,
                                    .project = project,
                                    .ready = ready};

static kith_status rp_create(const ki_structure_env *env, ki_structure **structure, kith_error *err)
{
    return ki_forest_create(env, &kind, structure, err);
}

static void rp_search(const ki_structure *structure, ki_scratch *scratch, ki_query *query)
{
    ki_forest_budget budget = {UINT64_MAX, (uint64_t)query->settings[SEARCH_NODES],
                               (unsigned)query->settings[VOTES]};
    ki_forest_search((const ki_forest *)structure, scratch, query, budget);
}

static const ki_structure_ops ops = KI_FOREST_OPS(rp_create, rp_search);

const ki_structure_part ki_structure_rpforest = {
    .part = {.info = {.pattern = "RPForest<t>",
                      .about =
                          "structure: t random projection trees, by sparse projections (MRPT) or two means "
                          "(Annoy), with votes; approximate, for up to some hundred dimensions and more",
                      .params = params,
                      .n_params = sizeof params / sizeof *params},
             .args = {{"t", 1, 1024, 0}}},
    .main_param = "search_nodes",
    .metrics = KI_METRIC_BIT(KITH_L2SQ) | KI_METRIC_BIT(KITH_COSINE) | KI_METRIC_BIT(KITH_L1),
    .ops = &ops,
};
