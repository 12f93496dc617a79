/* ivf_train.c - the centroids of IVF: k-means at once, or as a tree. The essay is in ivf.c. */
#include "index/ivf_internal.h"

#include <math.h>
#include <string.h>

#include <kith/kmeans.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/run.h"
#include "cluster/kmeans_balance.h"

/* From this many cells on a graph's cells are trained as a tree: below, k-means at once takes seconds. */
#define TREE_CELLS 4096

/* How many cells each branch gets: in proportion to its rows, what rounding leaves over to those with most rows a cell;
 * never more than it has rows. There are at least as many rows as cells. */
static void share_cells(size_t n_cells, size_t n_branches, const size_t *rows, size_t n, size_t *cells)
{
    size_t given = 0;
    for (size_t j = 0; j < n_branches; j++) given += cells[j] = (size_t)((uint64_t)n_cells * rows[j] / n);
    for (; given < n_cells; given++) {
        size_t most = 0;
        double load = -1;
        for (size_t j = 0; j < n_branches; j++) {
            double next = (double)rows[j] / (double)(cells[j] + 1);
            if (cells[j] < rows[j] && next > load) load = next, most = j;
        }
        cells[most]++;
    }
}

/* The work of train_tree; clear frees what is there. */
typedef struct tree_work {
    size_t branches;
    float *roots;     /* [branches][dim] */
    uint32_t *branch; /* [n] */
    size_t *rows;     /* [branches], then cells[branches], then next[branches] */
    float *sorted;    /* [n][dim], branch by branch */
} tree_work;

static void tree_clear(const kith_allocator *allocator, tree_work *w)
{
    ki_free(allocator, w->roots);
    ki_free(allocator, w->branch);
    ki_free(allocator, w->rows);
    ki_free(allocator, w->sorted);
}

/* The branches, and the sample sorted by them. */
static kith_status tree_branches(const ki_ivf *ivf, const float *x, size_t n,
                                 const kith_kmeans_options *options, const kith_run *run, tree_work *w,
                                 kith_error *err)
{
    const ki_structure_env *env = ivf->base.env;
    size_t dim = env->dim, b = w->branches;
    w->roots = ki_alloc(env->allocator, b, dim * sizeof *w->roots);
    w->branch = ki_alloc(env->allocator, n, sizeof *w->branch);
    w->rows = ki_alloc_zero(env->allocator, 3 * b, sizeof *w->rows);
    w->sorted = ki_alloc(env->allocator, n, dim * sizeof *w->sorted);
    if (!w->roots || !w->branch || !w->rows || !w->sorted)
        return ki_fail_nomem(err, n * dim * sizeof *w->sorted);
    KI_TRY(kith_kmeans_train(x, n, dim, b, options, run, w->roots, NULL, err));
    kith_run quiet = ki_run_quiet(run);
    KI_TRY(kith_kmeans_assign(x, n, dim, w->roots, b, env->allocator, &quiet, w->branch, NULL, err));
    size_t *next = w->rows + 2 * b, first = 0;
    for (size_t i = 0; i < n; i++) w->rows[w->branch[i]]++;
    for (size_t j = 0; j < b; j++) next[j] = first, first += w->rows[j];
    for (size_t i = 0; i < n; i++)
        memcpy(w->sorted + next[w->branch[i]]++ * dim, x + i * dim, dim * sizeof *x);
    return KITH_OK;
}

static kith_status train_tree(ki_ivf *ivf, size_t b, const float *x, size_t n,
                              const kith_kmeans_options *options, const kith_run *run, kith_error *err)
{
    const ki_structure_env *env = ivf->base.env;
    size_t dim = env->dim, first = 0, cell = 0;
    tree_work w = {.branches = b};
    kith_kmeans_options each = *options; /* a branch is small: no batches of its rows */
    each.mini_batch = 0;
    kith_status status = tree_branches(ivf, x, n, options, run, &w, err);
    if (status == KITH_OK) share_cells(ivf->n_cells, b, w.rows, n, w.rows + b);
    for (size_t j = 0; j < b && status == KITH_OK; j++) {
        size_t cells = w.rows[b + j];
        if (cells > 0)
            status = kith_kmeans_train(w.sorted + first * dim, w.rows[j], dim, cells, &each, run,
                                       ivf->centroids + cell * dim, NULL, err);
        first += w.rows[j];
        cell += cells;
    }
    tree_clear(env->allocator, &w);
    return status;
}

/* Branches of the tree that trains the cells; 0: none. Where cells are so many that a graph finds them, a tree trains them
 * in any case. */
static size_t branches(const ki_ivf *ivf)
{
    const uint64_t *args = ivf->base.env->args;
    if (args[KI_IVF_BRANCHES] > 0 || args[KI_IVF_LINKS] == 0) return (size_t)args[KI_IVF_BRANCHES];
    return ivf->n_cells < TREE_CELLS ? 0 : (size_t)sqrt((double)ivf->n_cells);
}

kith_status ki_ivf_train_centroids(ki_ivf *ivf, const float *x, size_t n, const kith_run *run,
                                   kith_error *err)
{
    const ki_structure_env *env = ivf->base.env;
    const double *params = env->params;
    size_t b = branches(ivf);
    kith_kmeans_options options;
    kith_kmeans_options_init(&options);
    options.max_iterations = (size_t)params[KI_IVF_ITERATIONS];
    options.max_points_per_centroid = 0; /* x is the sample */
    options.seed = env->seed;
    options.allocator = env->allocator;
    options.spherical = env->unit && params[KI_IVF_SPHERICAL] > 0;
    options.mini_batch = (size_t)params[KI_IVF_MINI_BATCH];
    if (b > 0)
        KI_TRY(train_tree(ivf, b, x, n, &options, run, err));
    else
        KI_TRY(kith_kmeans_train(x, n, env->dim, ivf->n_cells, &options, run, ivf->centroids, NULL, err));
    options.max_cell = params[KI_IVF_MAX_CELL];
    if (options.max_cell == 0) return KITH_OK;
    kith_kmeans_result result = {0};
    return ki_kmeans_balance(x, n, env->dim, ivf->n_cells, &options, run, ivf->centroids, &result, err);
}
