/* balltree.c - a ball tree: rows in balls within balls.
 *
 * The idea. A node keeps the centroid of its rows and the distance to the farthest of them. By the triangle inequality
 * no row of it is nearer to a query than |q - centroid| - radius. The rows of a node are cut in two along the line through
 * two of its farthest points. Balls know nothing of axes: where the data lies in few dimensions that run askew
 * through many, they keep pruning when boxes no longer do.
 *
 * Paper. S. M. Omohundro, "Five balltree construction algorithms", ICSI TR-89-063, 1989. Our ways:
 *   - The two farthest points are found in two passes: the point a farthest from the centroid, the point b
 *     farthest from a. (The true pair costs n^2.)
 *   - Rows are cut at the median of their position along a -> b (L1: of their distance to a less that to b), not at the
 *     middle between a and b: the tree is complete, so n log n holds for any data, and lies flat in memory (tree_rows.h).
 *
 * Layout:      volumes: centroid[dim], radius of every node (radius in the metric: a root under L2).
 * Invariants:  T1..T4 (tree_rows.c), E1..E3 (tree_exact.c).
 * Cost:        build 4 n log2(n / leaf_size) distances; search one distance a node visited, and the rows of leaves;
 *              memory 4 dim + 8 bytes a row, and 8 dim / leaf_size bytes a row of balls (twice that at worst)
 * Sections:    "balltree.parts", ".slots", ".places", ".codes", ".volumes". */
#include "index/tree_exact.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define PREFIX "balltree"
#define BLOCK 256 /* rows of one call to a kernel */

static const kith_param_info params[] = {
    [KI_EXACT_LEAF_SIZE] = {"leaf_size", KITH_PARAM_INT, KITH_AT_BUILD, 2, KI_TREE_MAX_LEAF, 32,
                            "rows in a leaf at most"},
    [KI_EXACT_MAX_LEAVES] =
        {"max_leaves", KITH_PARAM_INT, KITH_AT_SEARCH, 0, 4294967295.0, 0,
         "leaves that a query compares, nearest first; 0: as many as an exact answer takes"},
};

static size_t volume_floats(size_t dim)
{
    return dim + 1;
}

/* The kernel of distances between rows: L1, or L2 squared (COSINE works on the unit sphere). */
static ki_gather_fn gather_of(const ki_structure_env *env)
{
    return env->metric == KITH_L1 ? env->kernels->l1_f32_gather : env->kernels->l2sq_f32_gather;
}

/* out[n] = kernel(point, rows of the node); returns the place of the largest, the first of equals. */
static size_t distances(const ki_exact_node *node, ki_gather_fn gather, const float *point, float *out)
{
    const ki_structure_env *env = node->rows->env;
    size_t far = 0;
    gather(point, node->rows->codes.code, env->codec->code_size, node->order, node->n, env->dim, out);
    for (size_t i = 1; i < node->n; i++)
        if (out[i] > out[far]) far = i;
    return far;
}

/* A radius that is not below the true distance, from a kernel's value. */
static double radius_of(const ki_structure_env *env, float value)
{
    double up = (double)value * (1 + 2 * ki_exact_slack(env->dim)) + (double)env->dim * 0x1p-148;
    return env->metric == KITH_L1 ? up : sqrt(up);
}

static void centroid(const ki_exact_node *node, float *center)
{
    size_t dim = node->rows->env->dim;
    double *sum = (double *)(void *)node->scratch;
    memset(sum, 0, dim * sizeof *sum);
    for (size_t i = 0; i < node->n; i++) {
        const float *x = ki_tree_vector(node->rows, node->order[i], NULL);
        for (size_t d = 0; d < dim; d++) sum[d] += (double)x[d];
    }
    for (size_t d = 0; d < dim; d++) center[d] = (float)(sum[d] / (double)node->n);
}

static void volume(const ki_exact_node *node, float *ball)
{
    const ki_structure_env *env = node->rows->env;
    ki_gather_fn gather = gather_of(env);
    float dist[BLOCK], farthest = 0;
    centroid(node, ball);
    for (size_t done = 0; done < node->n; done += BLOCK) {
        size_t n = node->n - done < BLOCK ? node->n - done : BLOCK;
        ki_exact_node block = {node->rows, node->order + done, n, NULL};
        float far = dist[distances(&block, gather, ball, dist)];
        if (far > farthest) farthest = far;
    }
    ball[env->dim] = nextafterf((float)radius_of(env, farthest), INFINITY);
}

static void keys(const ki_exact_node *node, const float *ball, float *key)
{
    const ki_structure_env *env = node->rows->env;
    size_t dim = env->dim;
    ki_gather_fn gather = gather_of(env);
    const float *a = ki_tree_vector(node->rows, node->order[distances(node, gather, ball, key)], NULL);
    const float *b = ki_tree_vector(node->rows, node->order[distances(node, gather, a, key)], NULL);
    if (env->metric == KITH_L1) { /* key holds the distances to a */
        for (size_t i = 0; i < node->n; i++)
            key[i] -= env->kernels->l1_f32(b, ki_tree_vector(node->rows, node->order[i], NULL), dim);
        return;
    }
    float *line = node->scratch;
    for (size_t d = 0; d < dim; d++) line[d] = a[d] - b[d];
    (void)distances(node, env->kernels->negdot_f32_gather, line, key);
}

static float bound(const float *query, const float *ball, size_t dim, int l1, const ki_kernels *kernels)
{
    double e = ki_exact_slack(dim), radius = (double)ball[dim];
    if (l1) {
        double norm = (double)kernels->l1_f32(query, ball, dim);
        if (norm > (double)FLT_MAX) norm = (double)FLT_MAX; /* overflowed: it is at least that */
        return (float)(norm * (1 - e) - radius);
    }
    double norm2 = (double)kernels->l2sq_f32(query, ball, dim);
    if (norm2 > (double)FLT_MAX) norm2 = (double)FLT_MAX; /* overflowed: it is at least that */
    double gap = sqrt(norm2) * (1 - e) - radius;
    return (float)(gap * fabs(gap));
}

static int holds(const ki_tree_rows *rows, const float *ball, size_t position)
{
    const ki_structure_env *env = rows->env;
    const float *x = ki_tree_vector(rows, position, NULL);
    double radius = (double)ball[env->dim];
    if (env->metric == KITH_L1) return (double)env->kernels->l1_f32(ball, x, env->dim) <= radius;
    return sqrt((double)env->kernels->l2sq_f32(ball, x, env->dim)) <= radius;
}

static const ki_exact_kind kind = {.prefix = PREFIX,
                                   .volume_floats = volume_floats,
                                   .volume = volume,
                                   .keys = keys,
                                   .bound = bound,
                                   .holds = holds};

static kith_status balltree_create(const ki_structure_env *env, ki_structure **structure, kith_error *err)
{
    return ki_exact_create(env, &kind, "BallTree", structure, err);
}

static const ki_structure_ops ops = KI_EXACT_OPS(balltree_create);

const ki_structure_part ki_structure_balltree = {
    .part = {.info = {.pattern = "BallTree",
                      .about =
                          "structure: ball tree; exact, for few dimensions, or many in which the data fills "
                          "few; float32 rows only",
                      .params = params,
                      .n_params = sizeof params / sizeof *params}},
    .main_param = "max_leaves",
    .metrics = KI_METRIC_BIT(KITH_L2SQ) | KI_METRIC_BIT(KITH_COSINE) | KI_METRIC_BIT(KITH_L1),
    .ops = &ops,
};
