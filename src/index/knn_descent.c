/* knn_descent.c - rounds of local joins: neighbours of the same row are compared with each other. The essay is in
 * knn_graph.c.
 *
 * A round, Dong et al. 2011, Alg. 2 NNDESCENTFULL:
 *   1. of every row some new neighbours, now marked as old, and the old ones are written down (lines 6 to 8)
 *   2. so are, for every row, those that it is a neighbour of (lines 9 to 13)
 *   3. new ones are compared with each other and with old ones (lines 15 to 18)
 * What a round compares is fixed by 1 and 2, a list ends up with the nearest of what it held and what was offered, whatever the
 * order: so threads may offer at once, a lock a list, and the outcome is always the same. */
#include "index/knn_graph_internal.h"

#include <string.h>

#include "base/error.h"
#include "base/pool.h"
#include "base/run.h"

#define BLOCK 64   /* rows that a thread takes at a time */
#define STEP 16384 /* rows between two looks at the cancel flag */

/* What a round takes of a row: new ones at the front, old ones from the back. */
typedef struct taken {
    uint32_t *node;          /* [n][width] */
    uint16_t *fresh, *stale; /* [n] how many new and old ones */
    size_t width;
} taken;

typedef struct descent {
    ki_knn *g;
    taken forward, back;
    size_t sample, first; /* the first row of this run */
    float *x;             /* [threads][2 * (forward.width + back.width)][dim] */
    _Atomic uint64_t changes;
} descent;

static kith_status taken_init(const ki_knn *g, taken *t, size_t width, kith_error *err)
{
    t->width = width;
    t->node = ki_alloc(g->allocator, g->n * width, sizeof *t->node);
    t->fresh = ki_alloc(g->allocator, g->n, sizeof *t->fresh);
    t->stale = ki_alloc(g->allocator, g->n, sizeof *t->stale);
    if (t->node && t->fresh && t->stale) return KITH_OK;
    return ki_fail_nomem(err, g->n * width * sizeof *t->node);
}

static void taken_clear(const ki_knn *g, taken *t)
{
    ki_free(g->allocator, t->node);
    ki_free(g->allocator, t->fresh);
    ki_free(g->allocator, t->stale);
}

/* 1. The nearest `sample` new ones; nearer ones lead to more. */
static void take_block(void *ctx, size_t block, size_t worker)
{
    descent *d = ctx;
    ki_knn *g = d->g;
    taken *t = &d->forward;
    (void)worker;
    for (size_t at = block * STEP; at < g->n && at < (block + 1) * STEP; at++) {
        ki_near *list = ki_knn_list(g, at);
        uint32_t *out = t->node + at * t->width;
        size_t fresh = 0, stale = 0;
        for (size_t i = 0; i < g->k && list[i].node != KI_GRAPH_NONE; i++) {
            if (!(list[i].node & KI_KNN_NEW)) {
                out[t->width - ++stale] = list[i].node;
            } else if (fresh < d->sample) {
                list[i].node &= ~KI_KNN_NEW;
                out[fresh++] = list[i].node;
            }
        }
        t->fresh[at] = (uint16_t)fresh;
        t->stale[at] = (uint16_t)stale;
    }
}

/* 2. In the order of rows; beyond `sample` a row is passed over. */
static void turn(descent *d)
{
    const ki_knn *g = d->g;
    const taken *from = &d->forward;
    taken *to = &d->back;
    memset(to->fresh, 0, g->n * sizeof *to->fresh);
    memset(to->stale, 0, g->n * sizeof *to->stale);
    for (size_t at = 0; at < g->n; at++) {
        const uint32_t *node = from->node + at * from->width;
        for (size_t i = 0; i < from->fresh[at]; i++)
            if (to->fresh[node[i]] < d->sample)
                to->node[node[i] * to->width + to->fresh[node[i]]++] = (uint32_t)at;
        for (size_t i = 1; i <= from->stale[at]; i++) {
            uint32_t target = node[from->width - i];
            if (to->stale[target] < d->sample)
                to->node[target * to->width + to->width - ++to->stale[target]] = (uint32_t)at;
        }
    }
}

/* ---- 3. The joins ---- */

static void offer(ki_knn *g, uint32_t to, float dist, uint32_t node)
{
    ki_near *list = ki_knn_list(g, to);
    while (atomic_flag_test_and_set_explicit(&g->locks[to], memory_order_acquire)) {
    }
    ki_knn_insert(list, g->k, dist, node | KI_KNN_NEW);
    atomic_store_explicit(&g->worst[to], list[g->k - 1].dist, memory_order_relaxed);
    atomic_flag_clear_explicit(&g->locks[to], memory_order_release);
}

/* Append those of t that are not among node[n]: how many there are then. */
static size_t gather(const uint32_t *from, size_t count, uint32_t *node, size_t n)
{
    size_t had = n;
    for (size_t i = 0; i < count; i++) {
        size_t j = 0;
        while (j < had && node[j] != from[i]) j++;
        if (j == had) node[n++] = from[i];
    }
    return n;
}

static void join(descent *d, size_t at, float *x)
{
    ki_knn *g = d->g;
    const taken *f = &d->forward, *b = &d->back;
    uint32_t node[4 * KI_KNN_WIDE];
    float dist[4 * KI_KNN_WIDE], worst[4 * KI_KNN_WIDE];
    const uint32_t *out = f->node + at * f->width, *in = b->node + at * b->width;
    size_t fresh = gather(out, f->fresh[at], node, 0);
    if (fresh + b->fresh[at] == 0) return;
    fresh = gather(in, b->fresh[at], node, fresh);
    size_t n = gather(out + f->width - f->stale[at], f->stale[at], node, fresh);
    n = gather(in + b->width - b->stale[at], b->stale[at], node, n);
    for (size_t i = 0; i < n; i++) {
        memcpy(x + i * g->dim, ki_knn_row(g, node[i]), g->dim * sizeof *x);
        worst[i] = atomic_load_explicit(&g->worst[node[i]], memory_order_relaxed);
    }
    ki_rows_fn rows = ki_rows_of(g->kernels, g->options.metric);
    for (size_t i = 0; i < fresh && i + 1 < n; i++) {
        size_t count = n - i - 1;
        rows(x + i * g->dim, x + (i + 1) * g->dim, count, g->dim, dist);
        for (size_t j = 0; j < count; j++) {
            size_t other = i + 1 + j;
            if (dist[j] <= worst[i]) offer(g, node[i], dist[j], node[other]);
            if (dist[j] <= worst[other]) offer(g, node[other], dist[j], node[i]);
        }
    }
}

static void join_block(void *ctx, size_t block, size_t worker)
{
    descent *d = ctx;
    const ki_knn *g = d->g;
    size_t width = d->forward.width + d->back.width;
    float *x = d->x + worker * width * g->dim;
    for (size_t at = d->first + block * BLOCK, end = at + BLOCK; at < g->n && at < end; at++) join(d, at, x);
}

/* How many neighbours came in. */
static void count_block(void *ctx, size_t block, size_t worker)
{
    descent *d = ctx;
    const ki_knn *g = d->g;
    uint64_t changes = 0;
    (void)worker;
    for (size_t at = block * STEP; at < g->n && at < (block + 1) * STEP; at++) {
        const ki_near *list = ki_knn_list(g, at);
        for (size_t i = 0; i < g->k; i++)
            changes += list[i].node != KI_GRAPH_NONE && (list[i].node & KI_KNN_NEW);
    }
    atomic_fetch_add_explicit(&d->changes, changes, memory_order_relaxed);
}

static kith_status round_of(descent *d, ki_stage *stage, size_t number, kith_error *err)
{
    ki_knn *g = d->g;
    kith_pool *pool = ki_run_pool(g->run);
    ki_pool_run(pool, (g->n + STEP - 1) / STEP, take_block, d);
    turn(d);
    atomic_store(&d->changes, 0);
    for (d->first = 0; d->first < g->n; d->first += STEP) {
        KI_TRY(ki_run_check(g->run, err));
        ki_pool_run(pool, STEP / BLOCK, join_block, d);
        ki_stage_report(stage, number * g->n + d->first);
    }
    ki_pool_run(pool, (g->n + STEP - 1) / STEP, count_block, d);
    return KITH_OK;
}

kith_status ki_knn_descend(ki_knn *g, size_t *rounds, kith_error *err)
{
    descent d = {.g = g, .sample = g->options.sample ? g->options.sample : g->options.k};
    if (d.sample > g->k) d.sample = g->k;
    *rounds = 0;
    if (g->options.rounds == 0 || g->n <= g->options.leaf) return KITH_OK;
    for (size_t i = 0; i < g->n; i++) g->worst[i] = ki_knn_list(g, i)[g->k - 1].dist;
    kith_status status = taken_init(g, &d.forward, g->k, err);
    if (status == KITH_OK) status = taken_init(g, &d.back, 2 * d.sample, err);
    size_t width = d.forward.width + d.back.width;
    d.x = ki_alloc(g->allocator, g->threads * width * g->dim, sizeof *d.x);
    if (status == KITH_OK && !d.x) status = ki_fail_nomem(err, g->threads * width * g->dim * sizeof *d.x);
    ki_stage stage;
    ki_stage_begin(&stage, g->run, "joining", g->options.rounds * g->n);
    while (status == KITH_OK && *rounds < g->options.rounds) {
        status = round_of(&d, &stage, *rounds, err);
        ++*rounds;
        if ((double)d.changes <= g->options.delta * (double)g->n * (double)g->k) break;
    }
    if (status == KITH_OK) ki_stage_report(&stage, g->options.rounds * g->n);
    taken_clear(g, &d.forward);
    taken_clear(g, &d.back);
    ki_free(g->allocator, d.x);
    return status;
}
