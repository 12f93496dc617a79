/* By the bound where the centroids' own directions make it pay (kmeans_bound.c): guess in the map, then look at what
 * the bound cannot exclude. Otherwise by the plain product. */
#include "cluster/assigner.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "cluster/kmeans_internal.h"

/* Learning the map costs some 10^8 multiply-adds; a plain product of fewer than this is not worth it. */
#define WORTH_A_MAP ((size_t)1 << 31)

struct ki_assigner {
    const kith_allocator *allocator;
    const float *centroids;
    size_t k, dim;
    ki_map *map; /* NULL: the plain product */
    ki_filter *filter;
    ki_nearest nearest;
};

kith_status ki_assigner_create(const float *centroids, size_t k, size_t dim, size_t rows,
                               const kith_allocator *allocator, ki_assigner **out, kith_error *err)
{
    *out = NULL;
    ki_assigner *a = ki_alloc_zero(allocator, 1, sizeof *a);
    if (!a) return ki_fail_nomem(err, sizeof *a);
    *a = (ki_assigner){.allocator = allocator, .centroids = centroids, .k = k, .dim = dim};
    a->nearest.allocator = allocator;
    kith_status status = KITH_OK;
    if (rows >= WORTH_A_MAP / dim / k)
        status = ki_map_create(centroids, k, dim, k, 1, allocator, &a->map, err);
    if (status == KITH_OK && a->map) {
        status = ki_filter_create(a->map, k, &a->filter, err);
        if (status == KITH_OK) status = ki_filter_set(a->filter, centroids, err);
    } else if (status == KITH_OK) {
        status = ki_nearest_init(&a->nearest, dim, k, allocator, err);
        if (status == KITH_OK) ki_nearest_set(&a->nearest, centroids);
    }
    if (status == KITH_OK)
        *out = a;
    else
        ki_assigner_free(a);
    return status;
}

void ki_assigner_free(ki_assigner *a)
{
    if (!a) return;
    ki_filter_free(a->filter);
    ki_map_free(a->map);
    ki_nearest_clear(&a->nearest);
    ki_free(a->allocator, a);
}

typedef struct assign_job {
    const ki_assigner *assigner;
    const float *x;
    size_t n, block_size;
    const kith_run *run;
    uint32_t *assign;
    float *dist;    /* or NULL */
    float *scratch; /* [threads][each] */
    size_t each;    /* floats */
    int no_memory;  /* atomic */
} assign_job;

static kith_status by_bound(const assign_job *job, const float *x, size_t n, float *scratch, uint32_t *assign,
                            float *dist)
{
    const ki_assigner *a = job->assigner;
    float *e = scratch + ki_map_scratch(a->map), *limit = e + job->block_size * ki_map_depth(a->map);
    size_t looked_at;
    KI_TRY(ki_map_rows(a->map, x, n, scratch, e));
    KI_TRY(ki_filter_guess(a->filter, e, n, assign));
    return ki_filter_find(a->filter, x, e, n, assign, dist ? dist : limit + job->block_size, limit,
                          &looked_at);
}

static kith_status by_product(const ki_assigner *a, const float *x, size_t n, uint32_t *assign, float *dist)
{
    KI_TRY(ki_nearest_find(&a->nearest, x, n, assign));
    for (size_t i = 0; i < n && dist; i++)
        dist[i] = a->nearest.kernels->l2sq_f32(x + i * a->dim, a->centroids + assign[i] * a->dim, a->dim);
    return KITH_OK;
}

static void assign_block(void *ctx, size_t block, size_t worker)
{
    assign_job *job = ctx;
    const ki_assigner *a = job->assigner;
    size_t first = block * job->block_size;
    size_t n = job->n - first < job->block_size ? job->n - first : job->block_size;
    if (job->run && kith_cancel_raised(job->run->cancel)) return;
    const float *x = job->x + first * a->dim;
    uint32_t *assign = job->assign + first;
    float *dist = job->dist ? job->dist + first : NULL;
    kith_status status = a->map ? by_bound(job, x, n, job->scratch + worker * job->each, assign, dist)
                                : by_product(a, x, n, assign, dist);
    if (status != KITH_OK) __atomic_store_n(&job->no_memory, 1, __ATOMIC_RELAXED);
}

kith_status ki_assigner_find(const ki_assigner *a, const float *x, size_t n, const kith_run *run,
                             uint32_t *assign, float *dist, kith_error *err)
{
    assign_job job = {.assigner = a, .x = x, .n = n, .run = run, .assign = assign, .dist = dist};
    job.block_size = ki_nearest_block(a->dim, a->k);
    if (a->map) job.each = ki_map_scratch(a->map) + job.block_size * (ki_map_depth(a->map) + 2);
    size_t floats = kith_pool_threads(ki_run_pool(run)) * job.each;
    job.scratch = ki_alloc(a->allocator, floats, sizeof *job.scratch);
    if (!job.scratch) return ki_fail_nomem(err, floats * sizeof *job.scratch);
    ki_pool_run(ki_run_pool(run), (n + job.block_size - 1) / job.block_size, assign_block, &job);
    ki_free(a->allocator, job.scratch);
    KI_TRY(ki_run_check(run, err));
    return job.no_memory ? ki_fail(err, KITH_NOMEM, "out of memory for the distances of a block") : KITH_OK;
}
