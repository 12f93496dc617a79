/* live_recall.c - how good the answers of a collection are, measured on rows of its own. */
#include "engine/live_recall.h"

#include "base/options.h"
#include "base/rng.h"
#include "base/run.h"
#include "engine/rowblock.h"
#include "engine/spaces.h"
#include "engine/vectors.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static kith_status take_picked(void *ctx, uint64_t i, int64_t key, const float *x, kith_error *err)
{
    ki_measuring *s = ctx;
    (void)err;
    if (s->taken == s->m || s->picked[s->taken] != i) return KITH_OK;
    s->own[s->taken] = key;
    memcpy(s->x + s->dim * s->taken++, x, s->dim * sizeof *x);
    return KITH_OK;
}

static kith_status make_room(ki_measuring *s, kith_error *err)
{
    const kith_allocator *a = s->c->allocator;
    s->picked = ki_alloc(a, s->m, sizeof *s->picked);
    s->own = ki_alloc(a, s->m, sizeof *s->own);
    s->x = ki_alloc(a, s->m * s->dim, sizeof *s->x);
    s->keys = ki_alloc(a, s->m * s->k, sizeof *s->keys);
    s->truth = ki_alloc(a, s->m * s->k, sizeof *s->truth);
    s->dist = ki_alloc(a, s->m * s->k, sizeof *s->dist);
    s->true_dist = ki_alloc(a, s->m * s->k, sizeof *s->true_dist);
    return s->picked && s->own && s->x && s->keys && s->truth && s->dist && s->true_dist
               ? KITH_OK
               : ki_fail_nomem(err, s->m * (s->dim + 4 * s->k) * sizeof *s->x);
}

void ki_measure_clear(ki_measuring *s)
{
    void *blocks[] = {s->picked, s->own, s->x, s->keys, s->truth, s->dist, s->true_dist};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) ki_free(s->c->allocator, blocks[i]);
}

/* Without the query's own row: whichever of k + 1 it is, or the last when equal rows took its place. */
static size_t others(const ki_measuring *s, size_t query, const int64_t *keys, const float *dist, float *out)
{
    size_t n = 0, most = s->k - 1;
    for (size_t i = 0; i < s->k && n < most; i++)
        if (keys[query * s->k + i] != 0 && keys[query * s->k + i] != s->own[query])
            out[n++] = dist[query * s->k + i];
    return n;
}

/* The share of the rows found that are not farther than the k-th true one; of rounding of distances nothing is made. */
static kith_status compare(const ki_measuring *s, double *recall, kith_error *err)
{
    size_t good = 0, expected = 0;
    float *found = ki_alloc(s->c->allocator, 2 * s->k, sizeof *found), *truth = found + s->k;
    if (!found) return ki_fail_nomem(err, 2 * s->k * sizeof *found);
    for (size_t query = 0; query < s->taken; query++) {
        size_t n = others(s, query, s->keys, s->dist, found),
               m = others(s, query, s->truth, s->true_dist, truth);
        for (size_t i = 0; i < n && m > 0; i++) {
            float slack = 1e-5f * (fabsf(truth[m - 1]) + 1e-6f);
            good += found[i] <= truth[m - 1] + slack;
        }
        expected += m;
    }
    ki_free(s->c->allocator, found);
    *recall = expected ? (double)(good < expected ? good : expected) / (double)expected : 1;
    return KITH_OK;
}

static kith_status search(ki_measuring *s, const kith_collection_query *how, int64_t *keys, float *dist,
                          double *seconds, kith_error *err)
{
    kith_collection_query q = *how;
    kith_collection_answer answer;
    q.k = s->k;
    q.field = s->o.field;
    q.pool = ki_run_pool(s->o.run);
    q.cancel = s->o.run ? s->o.run->cancel : NULL;
    uint64_t begin = ki_now_ns();
    KI_TRY(kith_collection_search(s->c, s->taken, s->dim, s->x, &q, keys, dist, &answer, err));
    *seconds = (double)(ki_now_ns() - begin) * 1e-9;
    return answer.complete ? KITH_OK : ki_run_check(s->o.run, err);
}

/* Draw the rows to search by, of the vectors at hand. */
static kith_status draw(ki_measuring *s, kith_error *err)
{
    const ki_state *state = &s->c->state;
    if (state->vectors < 2)
        return ki_fail(err, KITH_UNTRAINED, "%s: recall needs two rows with a vector at least", s->c->path);
    s->dim = state->dim;
    s->m = s->o.queries < state->vectors ? s->o.queries : (size_t)state->vectors;
    s->k = s->o.k + 1;
    KI_TRY(make_room(s, err));
    ki_rng rng;
    ki_rng_init(&rng, s->o.seed, 0);
    ki_rng_sample(&rng, state->vectors, s->m, s->picked);
    KI_TRY(ki_vectors_scan(s->c, s->o.run, "sampling", take_picked, s, err));
    KI_TRY(kith_collection_warm(s->c, err));
    const ki_vectors *v = s->c->vectors;
    snprintf(s->spec, sizeof s->spec, "%s", v && v->segment.index ? v->segment.spec : "");
    return KITH_OK;
}

kith_status ki_measure_begin(ki_measuring *s, kith_error *err)
{
    kith_collection_query q;
    if (s->o.k < 1 || s->o.k > 1000) return ki_fail(err, KITH_INVALID, "k is %zu, allowed 1..1000", s->o.k);
    if (s->o.queries < 1 || s->o.queries > 100000)
        return ki_fail(err, KITH_INVALID, "queries is %zu, allowed 1..100000", s->o.queries);
    KI_TRY(ki_space_enter(s->c, s->o.field, err));
    kith_status status = draw(s, err);
    ki_space_leave(s->c);
    KI_TRY(status);
    kith_collection_query_init(&q);
    q.exact = 1;
    return search(s, &q, s->truth, s->true_dist, &s->exact_seconds, err);
}

kith_status ki_measure_at(ki_measuring *s, const kith_collection_query *how, double *recall, double *seconds,
                          kith_error *err)
{
    KI_TRY(search(s, how, s->keys, s->dist, seconds, err));
    return compare(s, recall, err);
}

/* All of it of one state: the handle is pinned, or in a batch. */
static kith_status measure(ki_measuring *s, kith_recall *out, kith_error *err)
{
    kith_collection_query q;
    kith_collection_query_init(&q);
    q.nprobe = s->o.nprobe;
    q.target_recall = s->o.target_recall;
    KI_TRY(ki_measure_begin(s, err));
    KI_TRY(ki_measure_at(s, &q, &out->recall, &out->seconds, err));
    out->exact_seconds = s->exact_seconds;
    out->queries = s->taken;
    out->k = s->o.k;
    out->version = s->c->state.version;
    memcpy(out->spec, s->spec, sizeof out->spec);
    return KITH_OK;
}

kith_status kith_collection_recall(kith_collection *c, const kith_recall_options *options,
                                   kith_recall *recall, kith_error *err)
{
    ki_measuring s = {.c = c};
    kith_recall out = {.struct_size = sizeof out};
    kith_recall_options_init(&s.o);
    KI_TRY(ki_options_read(&s.o, sizeof s.o, options, "options", err));
    if (!recall || recall->struct_size != sizeof *recall)
        return ki_fail(err, KITH_INVALID, "recall.struct_size is %zu, expected %zu",
                       recall ? recall->struct_size : 0, sizeof *recall);
    int pins = c->mode == KI_IDLE;
    if (pins) KI_TRY(kith_collection_pin(c, err));
    kith_status status = measure(&s, &out, err);
    if (pins) kith_collection_unpin(c);
    ki_measure_clear(&s);
    if (status == KITH_OK) *recall = out;
    return status;
}
