/* knn_public.c - kith/knng.h: the checks, and the graph in the caller's terms. */
#include <kith/knng.h>

#include <math.h>

#include "base/error.h"
#include "base/options.h"
#include "index/knn_graph.h"

static kith_status check(const kith_knng_options *options, const float *x, size_t n, size_t dim, size_t k,
                         const uint64_t *ids, kith_error *err)
{
    if (!x || !ids) return ki_fail(err, KITH_INVALID, "%s is NULL", x ? "ids" : "x");
    if (n == 0 || n >= KI_GRAPH_NODES)
        return ki_fail(err, KITH_INVALID, "n is %zu, allowed 1..%zu", n, KI_GRAPH_NODES - 1);
    if (dim == 0) return ki_fail(err, KITH_INVALID, "dim is 0, allowed 1..");
    if (k == 0 || k > KITH_KNNG_MAX_K)
        return ki_fail(err, KITH_INVALID, "k is %zu, allowed 1..%d", k, KITH_KNNG_MAX_K);
    if (!kith_metric_name(options->metric))
        return ki_fail(err, KITH_INVALID, "metric is %d, which is none", (int)options->metric);
    if (!((1u << options->metric) & KI_FLOAT_METRICS))
        return ki_fail(err, KITH_UNSUPPORTED, "metric: a graph of %s is not made",
                       kith_metric_name(options->metric));
    if (options->trees == 0 || options->trees > 256)
        return ki_fail(err, KITH_INVALID, "trees is %zu, allowed 1..256", options->trees);
    /* Leaves are halves of what is too large for one: at least k + 1 rows, so that none lacks neighbours. */
    size_t least = 2 * k + 2;
    if (options->leaf != 0 && (options->leaf < least || options->leaf > 65536))
        return ki_fail(err, KITH_INVALID, "leaf is %zu, allowed 0 or %zu..65536", options->leaf, least);
    if (options->rounds > 100)
        return ki_fail(err, KITH_INVALID, "rounds is %zu, allowed 0..100", options->rounds);
    if (!(options->delta >= 0 && options->delta <= 1))
        return ki_fail(err, KITH_INVALID, "delta is %g, allowed 0..1", options->delta);
    const ki_kernels *kernels = ki_kernels_get();
    for (size_t i = 0; i < n; i++)
        if (!kernels->finite_f32(x + i * dim, dim))
            return ki_fail(err, KITH_INVALID, "x: row %zu has a component that is not finite", i);
    return KITH_OK;
}

kith_status kith_knng(const float *x, size_t n, size_t dim, size_t k, const kith_knng_options *given,
                      const kith_run *run, uint64_t *ids, float *distances, kith_knng_result *result,
                      kith_error *err)
{
    kith_knng_options own;
    kith_knng_options_init(&own);
    KI_TRY(ki_options_read(&own, sizeof own, given, "options", err));
    KI_TRY(check(&own, x, n, dim, k, ids, err));
    int cosine = own.metric == KITH_COSINE;
    ki_input input = {.x = x, .n = n, .dim = dim, .unit = cosine, .kernels = ki_kernels_get()};
    ki_knn_options options;
    ki_knn_options_init(&options, k, cosine ? KITH_DOT : own.metric, own.seed);
    options.trees = own.trees;
    options.rounds = own.rounds;
    options.delta = own.delta;
    if (own.leaf != 0) options.leaf = own.leaf;
    ki_near *near = ki_alloc(own.allocator, n * k, sizeof *near);
    if (!near) return ki_fail_nomem(err, n * k * sizeof *near);
    ki_knn_result made;
    kith_status status = ki_knn_graph(&input, NULL, n, &options, own.allocator, run, near, &made, err);
    for (size_t i = 0; status == KITH_OK && i < n * k; i++) {
        ids[i] = near[i].node == KI_GRAPH_NONE ? UINT64_MAX : near[i].node;
        if (distances) distances[i] = cosine ? fmaxf(0, 1 + near[i].dist) : near[i].dist;
    }
    if (status == KITH_OK && result) *result = (kith_knng_result){made.rounds, made.distances};
    ki_free(own.allocator, near);
    return status;
}
