/* kdtree.c - a k-d tree: space cut in half along one axis after the other.
 *
 * The idea. The rows are cut at their median along the axis on which they are spread widest, then each half again, until
 * a few rows are left: a leaf. Every node keeps the smallest box around its rows. A query goes down to the nearest
 * leaf, and then only into boxes that are nearer than the k-th best row so far. In few dimensions that is a handful of
 * leaves; from some ten on, boxes around the answer are so many that the scan of all rows wins (docs/perf.md plots
 * it: the curse of dimension).
 *
 * Papers. J. L. Bentley, "Multidimensional binary search trees used for associative searching", CACM 18(9), 1975;
 * Friedman, Bentley and Finkel, ACM TOMS 3(3), 1977 (median of the widest axis, leaves as buckets). Our ways:
 *   - A box per node instead of the plane of the cut: 2 dim floats a node, which with 32 rows a leaf is an eighth of
 *     the rows, and bounds that are far tighter where data is clustered; nothing is added up on the way down, so
 *     nothing is rounded twice.
 *   - The tree is complete and the rows lie in the order of its leaves: no pointers, and a leaf is one call of the
 *     kernel that Flat uses (tree_rows.h).
 *   - max_leaves stops after that many leaves, nearest first (best-bin-first): approximate, for more dimensions.
 *
 * Layout:      volumes: lo[dim], hi[dim] of every node; rows, parts and slots as tree_rows.h draws them.
 * Invariants:  T1..T4 (tree_rows.c), E1..E3 (tree_exact.c).
 * Cost:        build n log2(n / leaf_size) keys and selections, in parallel below the root; search: see the curve;
 *              memory 4 dim + 8 bytes a row, and 16 dim / leaf_size bytes a row of boxes (twice that at worst)
 * Sections:    "kdtree.parts", ".slots", ".places", ".codes", ".volumes". */
#include "index/tree_exact.h"

#include <string.h>

#define PREFIX "kdtree"

static const kith_param_info params[] = {
    [KI_EXACT_LEAF_SIZE] = {"leaf_size", KITH_PARAM_INT, KITH_AT_BUILD, 2, KI_TREE_MAX_LEAF, 32,
                            "rows in a leaf at most"},
    [KI_EXACT_MAX_LEAVES] =
        {"max_leaves", KITH_PARAM_INT, KITH_AT_SEARCH, 0, 4294967295.0, 0,
         "leaves that a query compares, nearest first; 0: as many as an exact answer takes"},
};

static size_t volume_floats(size_t dim)
{
    return 2 * dim;
}

static void volume(const ki_exact_node *node, float *box)
{
    size_t dim = node->rows->env->dim;
    float *lo = box, *hi = box + dim;
    for (size_t i = 0; i < node->n; i++) {
        const float *x = ki_tree_vector(node->rows, node->order[i], node->scratch);
        if (i == 0) {
            memcpy(lo, x, dim * sizeof *x);
            memcpy(hi, x, dim * sizeof *x);
        }
        for (size_t d = 0; d < dim; d++) {
            lo[d] = x[d] < lo[d] ? x[d] : lo[d];
            hi[d] = x[d] > hi[d] ? x[d] : hi[d];
        }
    }
}

static void keys(const ki_exact_node *node, const float *box, float *key)
{
    size_t dim = node->rows->env->dim, axis = 0;
    float widest = -1;
    for (size_t d = 0; d < dim; d++) {
        float spread = box[dim + d] - box[d];
        if (spread <= widest) continue;
        widest = spread;
        axis = d;
    }
    for (size_t i = 0; i < node->n; i++)
        key[i] = ki_tree_vector(node->rows, node->order[i], node->scratch)[axis];
}

/* How far q is outside [lo, hi]. */
static inline float outside(float q, float lo, float hi)
{
    float below = lo - q, above = q - hi;
    float off = below > above ? below : above;
    return off > 0 ? off : 0;
}

static float bound(const float *query, const float *box, size_t dim, int l1, const ki_kernels *kernels)
{
    (void)kernels;
    const float *lo = box, *hi = box + dim;
    float lane[8] = {0}, sum = 0;
    size_t d = 0;
    for (; d + 8 <= dim; d += 8) /* eight sums side by side, so that the compiler may use vectors */
        for (size_t j = 0; j < 8; j++) {
            float off = outside(query[d + j], lo[d + j], hi[d + j]);
            lane[j] += l1 ? off : off * off;
        }
    for (; d < dim; d++) {
        float off = outside(query[d], lo[d], hi[d]);
        sum += l1 ? off : off * off;
    }
    for (size_t j = 0; dim >= 8 && j < 8; j++) sum += lane[j];
    return sum;
}

static int holds(const ki_tree_rows *rows, const float *box, size_t position)
{
    size_t dim = rows->env->dim;
    const float *x = ki_tree_vector(rows, position, NULL);
    for (size_t d = 0; d < dim; d++)
        if (!(box[d] <= x[d] && x[d] <= box[dim + d])) return 0;
    return 1;
}

static const ki_exact_kind kind = {.prefix = PREFIX,
                                   .volume_floats = volume_floats,
                                   .volume = volume,
                                   .keys = keys,
                                   .bound = bound,
                                   .holds = holds};

static kith_status kdtree_create(const ki_structure_env *env, ki_structure **structure, kith_error *err)
{
    return ki_exact_create(env, &kind, "KDTree", structure, err);
}

static const ki_structure_ops ops = KI_EXACT_OPS(kdtree_create);

const ki_structure_part ki_structure_kdtree = {
    .part = {.info = {.pattern = "KDTree",
                      .about = "structure: k-d tree; exact, and many times faster than Flat up to some ten "
                               "dimensions; float32 rows only",
                      .params = params,
                      .n_params = sizeof params / sizeof *params}},
    .main_param = "max_leaves",
    .metrics = KI_METRIC_BIT(KITH_L2SQ) | KI_METRIC_BIT(KITH_COSINE) | KI_METRIC_BIT(KITH_L1),
    .ops = &ops,
};
