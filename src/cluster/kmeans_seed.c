/* The seeds of k-means: k points at random, or k-means++ (Arthur & Vassilvitskii, SODA 2007).
 *
 * k-means++ draws each next seed with probability proportional to D^2(x), the squared distance of x to the
 * nearest seed so far. Done word for word that is k passes over the points, each bound by memory. We draw a
 * batch of candidates from the D^2 of the batch's beginning and go through them in order: candidate x becomes
 * a seed with probability D^2(x) now / D^2(x) at the beginning. This is rejection sampling, so each accepted
 * candidate has exactly the k-means++ distribution given the seeds before it; the first of a batch is always
 * accepted. One pass, a matrix product, then brings D^2 up to date with all seeds of the batch. A batch is as
 * large as the number of seeds so far, so few candidates fall (most of the old D^2 still stands), at most
 * MAX_BATCH. */
#include "cluster/kmeans_internal.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/rng.h"

#define MAX_BATCH \
    256 /* candidates are compared with each other: MAX_BATCH^2 / 2 distances, next to nothing */

typedef struct seeding {
    const float *x;
    size_t n, dim;
    const kith_allocator *allocator;
    const kith_run *run;
    float *centroids;
    float *distance; /* [n]: D^2 */
    size_t block_size, n_blocks;
    double *block_sum; /* [n_blocks]: of distance */
    uint32_t *which;   /* [threads][block_size]: scratch */
    ki_nearest nearest;
    const ki_kernels *kernels;
    int first;     /* distance[] is not set yet */
    int no_memory; /* a block had none, atomic */
} seeding;

static void update_block(void *ctx, size_t block, size_t worker)
{
    seeding *s = ctx;
    size_t begin = block * s->block_size;
    size_t n = s->n - begin < s->block_size ? s->n - begin : s->block_size;
    if (s->run && kith_cancel_raised(s->run->cancel)) return;
    const float *x = s->x + begin * s->dim;
    float *distance = s->distance + begin;
    uint32_t *which = s->which + worker * s->block_size;
    if (ki_nearest_find(&s->nearest, x, n, which) != KITH_OK) {
        __atomic_store_n(&s->no_memory, 1, __ATOMIC_RELAXED);
        return;
    }
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const float *seed = s->nearest.centroids + which[i] * s->dim;
        float d2 = s->kernels->l2sq_f32(x + i * s->dim, seed, s->dim);
        if (s->first || d2 < distance[i]) distance[i] = d2;
        sum += (double)distance[i];
    }
    s->block_sum[block] = sum;
}

/* Bring D^2 up to date with the seeds from number `from` on, `count` of them. */
static kith_status update_distances(seeding *s, size_t from, size_t count, kith_error *err)
{
    kith_status status = ki_nearest_init(&s->nearest, s->dim, count, s->allocator, err);
    if (status == KITH_OK) {
        ki_nearest_set(&s->nearest, s->centroids + from * s->dim);
        s->first = from == 0;
        ki_pool_run(ki_run_pool(s->run), s->n_blocks, update_block, s);
        status = ki_run_check(s->run, err);
    }
    ki_nearest_clear(&s->nearest);
    if (status == KITH_OK && s->no_memory)
        status = ki_fail(err, KITH_NOMEM, "out of memory for the distances of a block");
    return status;
}

/* A point with probability D^2 / total. */
static size_t draw(const seeding *s, ki_rng *rng, double total)
{
    double left = ki_rng_uniform(rng) * total;
    size_t block = 0;
    while (block + 1 < s->n_blocks && left >= s->block_sum[block]) left -= s->block_sum[block++];
    while (block > 0 && !(s->block_sum[block] > 0)) block--; /* rounding carried us beyond the last weight */
    size_t i = block * s->block_size, end = i + s->block_size < s->n ? i + s->block_size : s->n;
    size_t last = i;
    for (; i < end; i++) {
        if (!(s->distance[i] > 0)) continue;
        last = i;
        if (left < (double)s->distance[i]) break;
        left -= (double)s->distance[i];
    }
    return last;
}

static double current_distance(const seeding *s, size_t point, size_t from, size_t have)
{
    const float *x = s->x + point * s->dim;
    float d2 = s->distance[point];
    for (size_t j = from; j < have; j++) {
        float to_seed = s->kernels->l2sq_f32(x, s->centroids + j * s->dim, s->dim);
        if (to_seed < d2) d2 = to_seed;
    }
    return (double)d2;
}

static void take(seeding *s, size_t have, size_t point)
{
    memcpy(s->centroids + have * s->dim, s->x + point * s->dim, s->dim * sizeof(float));
}

static kith_status seed_plusplus(seeding *s, size_t k, ki_rng *rng, kith_error *err)
{
    take(s, 0, ki_rng_below(rng, s->n));
    size_t have = 1, settled = 0; /* D^2 knows the seeds before `settled` */
    ki_stage stage;
    ki_stage_begin(&stage, s->run, "seeding", k);
    while (have < k) {
        KI_TRY(update_distances(s, settled, have - settled, err));
        settled = have;
        ki_stage_report(&stage, have);
        double total = 0;
        for (size_t block = 0; block < s->n_blocks; block++) total += s->block_sum[block];
        if (!(total > 0)) break;
        size_t batch = have < MAX_BATCH ? have : MAX_BATCH;
        for (size_t b = 0; b < batch && have < k; b++) {
            size_t point = draw(s, rng, total);
            double now = current_distance(s, point, settled, have);
            double chance = ki_rng_uniform(rng) * (double)s->distance[point];
            if (b == 0 || chance < now) take(s, have++, point);
        }
    }
    /* Every point is a seed already: there are fewer than k different ones. */
    while (have < k) take(s, have++, ki_rng_below(rng, s->n));
    ki_stage_report(&stage, k);
    return KITH_OK;
}

static kith_status seed_random(seeding *s, size_t k, ki_rng *rng, kith_error *err)
{
    uint64_t *picked = ki_alloc(s->allocator, k, sizeof *picked);
    if (!picked) return ki_fail_nomem(err, k * sizeof *picked);
    ki_rng_sample(rng, s->n, k, picked);
    for (size_t j = 0; j < k; j++) take(s, j, picked[j]);
    ki_free(s->allocator, picked);
    return KITH_OK;
}

kith_status ki_kmeans_seed(const float *x, size_t n, size_t dim, size_t k, kith_kmeans_init init,
                           uint64_t seed, const kith_allocator *allocator, const kith_run *run,
                           float *centroids, float *distance, kith_error *err)
{
    seeding s = {.x = x,
                 .n = n,
                 .dim = dim,
                 .allocator = allocator,
                 .run = run,
                 .centroids = centroids,
                 .distance = distance,
                 .kernels = ki_kernels_get()};
    ki_rng rng;
    ki_rng_init(&rng, seed, 1);
    if (init == KITH_KMEANS_RANDOM) return seed_random(&s, k, &rng, err);

    s.block_size = ki_nearest_block(dim, MAX_BATCH);
    s.n_blocks = (n + s.block_size - 1) / s.block_size;
    size_t threads = kith_pool_threads(ki_run_pool(run));
    s.block_sum = ki_alloc_zero(allocator, s.n_blocks, sizeof *s.block_sum);
    s.which = ki_alloc(allocator, threads * s.block_size, sizeof *s.which);
    kith_status status = KITH_OK;
    if (!s.block_sum || !s.which) status = ki_fail_nomem(err, s.n_blocks * sizeof *s.block_sum);
    if (status == KITH_OK) status = seed_plusplus(&s, k, &rng, err);
    ki_free(allocator, s.block_sum);
    ki_free(allocator, s.which);
    return status;
}
