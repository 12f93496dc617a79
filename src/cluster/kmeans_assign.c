/* kith_kmeans_assign, and the checks of what comes through the door. */
#include "cluster/kmeans_internal.h"

#include <math.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"

kith_status ki_kmeans_check(const float *x, size_t n, size_t dim, const float *centroids, size_t k,
                            kith_error *err)
{
    size_t bytes;
    if (!centroids) return ki_fail(err, KITH_INVALID, "centroids is NULL");
    if (!x && n > 0) return ki_fail(err, KITH_INVALID, "x is NULL");
    if (dim == 0) return ki_fail(err, KITH_INVALID, "dim is 0, allowed 1..");
    if (k == 0 || k > UINT32_MAX) return ki_fail(err, KITH_INVALID, "k is %zu, allowed 1..%u", k, UINT32_MAX);
    if (!ki_mul_fits(n < k ? k : n, dim, &bytes) || !ki_mul_fits(bytes, sizeof(double), &bytes))
        return ki_fail(err, KITH_INVALID, "n is %zu, dim is %zu: too many floats", n, dim);
    return KITH_OK;
}

kith_status ki_kmeans_check_finite(const float *rows, size_t n, size_t dim, const char *name, kith_error *err)
{
    const ki_kernels *kernels = ki_kernels_get();
    for (size_t i = 0; i < n; i++)
        if (!kernels->finite_f32(rows + i * dim, dim))
            return ki_fail(err, KITH_INVALID, "%s[%zu] holds NaN or infinity", name, i);
    return KITH_OK;
}

void ki_kmeans_scale(float *centroid, size_t dim, size_t j)
{
    double sum = 0;
    for (size_t d = 0; d < dim; d++) sum += (double)centroid[d] * (double)centroid[d];
    double scale = sum > 0 ? 1 / sqrt(sum) : 0;
    for (size_t d = 0; d < dim; d++) centroid[d] = (float)((double)centroid[d] * scale);
    if (!(sum > 0)) centroid[j % dim] = 1;
}

typedef struct assign_job {
    const ki_nearest *nearest;
    const ki_sieve *sieve; /* or NULL */
    const float *x;
    size_t n, block_size;
    const kith_run *run;
    uint32_t *assign;
    float *dist; /* or NULL */
    ki_stage *stage;
    uint64_t done; /* points, atomic */
    int no_memory; /* atomic */
} assign_job;

static void assign_block(void *ctx, size_t block, size_t worker)
{
    assign_job *job = ctx;
    const ki_nearest *nearest = job->nearest;
    size_t first = block * job->block_size, dim = nearest->dim;
    size_t n = job->n - first < job->block_size ? job->n - first : job->block_size;
    if (job->run && kith_cancel_raised(job->run->cancel)) return;
    const float *x = job->x + first * dim;
    uint32_t *assign = job->assign + first;
    float *dist = job->dist ? job->dist + first : NULL;
    int sieved = 0;
    kith_status status = KITH_OK;
    if (job->sieve) status = ki_sieve_argmin(NULL, job->sieve, x, n, 0, assign, dist, &sieved, NULL);
    if (status == KITH_OK && !sieved) status = ki_nearest_find(nearest, x, n, assign);
    if (status != KITH_OK) {
        __atomic_store_n(&job->no_memory, 1, __ATOMIC_RELAXED);
        return;
    }
    for (size_t i = 0; i < n && dist && !sieved; i++)
        dist[i] = nearest->kernels->l2sq_f32(x + i * dim, nearest->centroids + assign[i] * dim, dim);
    uint64_t done = __atomic_add_fetch(&job->done, n, __ATOMIC_RELAXED);
    if (worker == 0) ki_stage_report(job->stage, done);
}

kith_status kith_kmeans_assign(const float *x, size_t n, size_t dim, const float *centroids, size_t k,
                               const kith_allocator *allocator, const kith_run *run, uint32_t *assign,
                               float *dist, kith_error *err)
{
    KI_TRY(ki_kmeans_check(x, n, dim, centroids, k, err));
    if (!assign) return ki_fail(err, KITH_INVALID, "assign is NULL");
    KI_TRY(ki_kmeans_check_finite(centroids, k, dim, "centroids", err));
    KI_TRY(ki_kmeans_check_finite(x, n, dim, "x", err));
    ki_stage stage;
    ki_nearest nearest;
    ki_stage_begin(&stage, run, "assigning", n);
    assign_job job = {.nearest = &nearest, .x = x, .n = n, .run = run, .assign = assign, .dist = dist};
    job.stage = &stage;
    job.block_size = ki_nearest_block(dim, k);
    ki_sieve *sieve = NULL;
    kith_status status = ki_nearest_init(&nearest, dim, k, allocator, err);
    if (status == KITH_OK && ki_sieve_pays(k, dim)) {
        job.block_size = ki_sieve_blocks(job.block_size);
        status = ki_sieve_create(centroids, k, dim, allocator, &sieve, err);
        job.sieve = sieve;
    }
    if (status == KITH_OK) {
        ki_nearest_set(&nearest, centroids);
        ki_pool_run(ki_run_pool(run), (n + job.block_size - 1) / job.block_size, assign_block, &job);
        status = ki_run_check(run, err);
    }
    if (status == KITH_OK && job.no_memory)
        status = ki_fail(err, KITH_NOMEM, "out of memory for the distances of a block");
    if (status == KITH_OK) ki_stage_report(&stage, n);
    ki_sieve_free(sieve);
    ki_nearest_clear(&nearest);
    return status;
}
