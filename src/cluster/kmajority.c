#include "cluster/kmajority.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/run.h"

#define ROW_BLOCK 256      /* rows of one block of parallel work */
#define CENTROID_BLOCK 256 /* distances kept on the stack */

/* ---- Assignment ---- */

typedef struct assignment {
    const ki_kmajority *how;
    const uint8_t *x, *centroids;
    size_t n;
    const kith_run *run;
    uint32_t *cell, *dist;
} assignment;

static uint32_t nearest(const ki_kmajority *how, const uint8_t *row, const uint8_t *centroids, uint32_t *dist)
{
    uint32_t count[CENTROID_BLOCK], best = UINT32_MAX, cell = 0;
    for (size_t first = 0; first < how->k; first += CENTROID_BLOCK) {
        size_t n = how->k - first < CENTROID_BLOCK ? how->k - first : CENTROID_BLOCK;
        how->kernels->hamming_rows(row, centroids + first * how->bytes, n, how->bytes, count);
        for (size_t c = 0; c < n; c++)
            if (count[c] < best) {
                best = count[c];
                cell = (uint32_t)(first + c);
            }
    }
    *dist = best;
    return cell;
}

static void assign_block(void *ctx, size_t block, size_t worker)
{
    (void)worker;
    const assignment *a = ctx;
    size_t end = (block + 1) * ROW_BLOCK < a->n ? (block + 1) * ROW_BLOCK : a->n;
    if (a->run && kith_cancel_raised(a->run->cancel)) return;
    for (size_t i = block * ROW_BLOCK; i < end; i++) {
        uint32_t dist;
        a->cell[i] = nearest(a->how, a->x + i * a->how->bytes, a->centroids, &dist);
        if (a->dist) a->dist[i] = dist;
    }
}

void ki_kmajority_assign(const ki_kmajority *how, const uint8_t *x, size_t n, const uint8_t *centroids,
                         const kith_run *run, uint32_t *cell, uint32_t *dist)
{
    assignment a = {how, x, centroids, n, run, cell, dist};
    ki_pool_run(ki_run_pool(run), (n + ROW_BLOCK - 1) / ROW_BLOCK, assign_block, &a);
}

/* ---- New centroids ---- */

/* What training keeps besides the centroids. */
typedef struct training {
    const ki_kmajority *how;
    const uint8_t *x;
    size_t n;
    uint32_t *cell, *dist; /* [n] */
    uint32_t *size;        /* [k] */
    uint32_t *ones;        /* [bytes * 8], of one cell */
    uint64_t *start;       /* [k + 1], rows by cell: where each cell's begin */
    uint32_t *rows;        /* [n] */
} training;

static void training_clear(training *t)
{
    const kith_allocator *allocator = t->how->allocator;
    ki_free(allocator, t->cell);
    ki_free(allocator, t->dist);
    ki_free(allocator, t->size);
    ki_free(allocator, t->ones);
    ki_free(allocator, t->start);
    ki_free(allocator, t->rows);
}

static kith_status training_init(training *t, const ki_kmajority *how, const uint8_t *x, size_t n,
                                 kith_error *err)
{
    const kith_allocator *allocator = how->allocator;
    *t = (training){.how = how, .x = x, .n = n};
    t->cell = ki_alloc(allocator, n, sizeof *t->cell);
    t->dist = ki_alloc(allocator, n, sizeof *t->dist);
    t->size = ki_alloc(allocator, how->k, sizeof *t->size);
    t->ones = ki_alloc(allocator, how->bytes * 8, sizeof *t->ones);
    t->start = ki_alloc(allocator, how->k + 1, sizeof *t->start);
    t->rows = ki_alloc(allocator, n, sizeof *t->rows);
    if (t->cell && t->dist && t->size && t->ones && t->start && t->rows) return KITH_OK;
    return ki_fail_nomem(err, n * 3 * sizeof *t->cell);
}

/* Rows in the order of their cells. */
static void group(training *t)
{
    size_t k = t->how->k;
    memset(t->size, 0, k * sizeof *t->size);
    for (size_t i = 0; i < t->n; i++) t->size[t->cell[i]]++;
    t->start[0] = 0;
    for (size_t c = 0; c < k; c++) t->start[c + 1] = t->start[c] + t->size[c];
    for (size_t i = t->n; i-- > 0;) t->rows[--t->start[t->cell[i] + 1]] = (uint32_t)i;
    /* start[c + 1] has come down to where cell c begins: one to the left */
    memmove(t->start, t->start + 1, k * sizeof *t->start);
    t->start[k] = t->n;
}

/* Each bit as most rows of the cell have it; where they are halves it stays. */
static void vote(training *t, size_t c, uint8_t *centroid)
{
    size_t bits = t->how->bytes * 8, size = t->size[c];
    memset(t->ones, 0, bits * sizeof *t->ones);
    for (size_t i = 0; i < size; i++) {
        const uint8_t *row = t->x + t->rows[t->start[c] + i] * t->how->bytes;
        for (size_t b = 0; b < bits; b++) t->ones[b] += row[b / 8] >> b % 8 & 1;
    }
    for (size_t b = 0; b < bits; b++) {
        uint8_t mask = (uint8_t)(1 << b % 8);
        if ((size_t)t->ones[b] * 2 > size)
            centroid[b / 8] |= mask;
        else if ((size_t)t->ones[b] * 2 < size)
            centroid[b / 8] &= (uint8_t)~mask;
    }
}

/* A cell without rows takes the farthest row of the largest cell, and from then on counts as one of that row. */
static void reseed(training *t, size_t empty, uint8_t *centroids)
{
    size_t bytes = t->how->bytes, largest = 0;
    for (size_t c = 1; c < t->how->k; c++)
        if (t->size[c] > t->size[largest]) largest = c;
    size_t far = SIZE_MAX;
    for (uint64_t i = t->start[largest]; i < t->start[largest + 1]; i++) {
        size_t row = t->rows[i];
        if (t->dist[row] > 0 && (far == SIZE_MAX || t->dist[row] > t->dist[far])) far = row;
    }
    if (far == SIZE_MAX) return; /* all of it are equal: there is nothing to share */
    memcpy(centroids + empty * bytes, t->x + far * bytes, bytes);
    t->dist[far] = 0;
    t->size[largest]--;
    t->size[empty] = 1;
}

/* One step of Lloyd's algorithm; 0: no centroid moved. */
static int step(training *t, const kith_run *run, uint8_t *centroids, uint8_t *before, uint64_t *objective)
{
    size_t k = t->how->k, bytes = t->how->bytes;
    ki_kmajority_assign(t->how, t->x, t->n, centroids, run, t->cell, t->dist);
    if (run && kith_cancel_raised(run->cancel)) return 0;
    *objective = 0;
    for (size_t i = 0; i < t->n; i++) *objective += t->dist[i];
    memcpy(before, centroids, k * bytes);
    group(t);
    for (size_t c = 0; c < k; c++)
        if (t->size[c] > 0) vote(t, c, centroids + c * bytes);
    for (size_t c = 0; c < k; c++)
        if (t->size[c] == 0) reseed(t, c, centroids);
    return memcmp(before, centroids, k * bytes) != 0;
}

kith_status ki_kmajority_train(const ki_kmajority *how, const uint8_t *x, size_t n, size_t iterations,
                               uint64_t seed, const kith_run *run, uint8_t *centroids, uint64_t *objective,
                               kith_error *err)
{
    training t;
    size_t bytes = how->bytes, k = how->k;
    uint64_t sum = 0, *picked = ki_alloc(how->allocator, k, sizeof *picked);
    uint8_t *before = ki_alloc(how->allocator, k, bytes);
    kith_status status = training_init(&t, how, x, n, err);
    if (status == KITH_OK && (!picked || !before)) status = ki_fail_nomem(err, k * bytes);
    if (status == KITH_OK) {
        ki_rng rng;
        ki_rng_init(&rng, seed, 0);
        ki_rng_sample(&rng, n, k, picked);
        for (size_t c = 0; c < k; c++) memcpy(centroids + c * bytes, x + picked[c] * bytes, bytes);
    }
    ki_stage stage;
    if (status == KITH_OK) ki_stage_begin(&stage, run, "training", iterations);
    for (size_t i = 0, moved = 1; status == KITH_OK && moved && i < iterations; i++) {
        moved = (size_t)step(&t, run, centroids, before, &sum);
        status = ki_run_check(run, err);
        if (status == KITH_OK) ki_stage_report(&stage, moved ? i + 1 : iterations);
    }
    if (objective) *objective = sum;
    ki_free(how->allocator, picked);
    ki_free(how->allocator, before);
    training_clear(&t);
    return status;
}
