/* search_range.c - the rows within a distance.
 *
 * A range is searched as ever deeper searches for the nearest: until one finds a row beyond the radius. Then nothing
 * within it is left that the cells looked into hold; with a segment, cells are added until that changes nothing. All
 * rounds are of one state, and share the budget of the call. */
#include "base/options.h"
#include "base/run.h"
#include "engine/engine.h"

#include <math.h>
#include <string.h>

/* Rows of the first round; four times as many in each further one. Arbitrary. */
#define FIRST_ROWS 64
#define DEEPER 4

typedef struct range {
    kith_collection *c;
    const float *vector;
    size_t dim, most; /* rows wanted, with those to be left out in front */
    float radius;
    kith_collection_query query;
    kith_collection_plan plan;
    kith_collection_answer answer;
    ki_limit limit;
    int64_t *keys; /* [room] of the last round */
    float *distances;
    size_t room, n; /* n: of them within the radius */
} range;

static void clear(range *r)
{
    ki_free(r->c->allocator, r->keys);
    ki_free(r->c->allocator, r->distances);
}

/* One search, `deep` rows deep. */
static kith_status one_round(range *r, size_t deep, kith_error *err)
{
    if (deep > r->room) {
        clear(r);
        r->keys = ki_alloc(r->c->allocator, deep, sizeof *r->keys);
        r->distances = ki_alloc(r->c->allocator, deep, sizeof *r->distances);
        if (!r->keys || !r->distances) return ki_fail_nomem(err, deep * sizeof *r->keys);
        r->room = deep;
    }
    r->query.k = deep;
    if (r->limit.deadline_ns > 0) {
        uint64_t now = ki_now_ns(), end = r->limit.deadline_ns;
        r->query.max_microseconds = now < end ? (end - now) / 1000 + 1 : 1;
    }
    KI_TRY(kith_collection_search(r->c, 1, r->dim, r->vector, &r->query, r->keys, r->distances, &r->answer,
                                  err));
    for (r->n = 0; r->n < deep && r->keys[r->n] != 0 && r->distances[r->n] <= r->radius;) r->n++;
    return KITH_OK;
}

/* Whether a round is the last, else what the next one is like. */
static int is_last(range *r, size_t *deep, size_t *before, int fixed)
{
    const kith_collection_plan *plan = &r->plan;
    if (r->n == r->most || !r->answer.complete || ki_limit_reached(&r->limit)) return 1;
    if (r->n == *deep) { /* all of them within the radius: there may be more */
        *deep = *deep > r->most / DEEPER ? r->most : *deep * DEEPER;
        return 0;
    }
    if (fixed || strcmp(plan->method, "index") != 0 || plan->nprobe >= plan->cells || r->n == *before)
        return 1;
    *before = r->n;
    r->query.nprobe = 2 * plan->nprobe < plan->cells ? 2 * plan->nprobe : plan->cells;
    return 0;
}

static kith_status search(range *r, kith_error *err)
{
    size_t deep = r->most < FIRST_ROWS ? r->most : FIRST_ROWS, before = SIZE_MAX;
    int fixed = r->query.nprobe > 0, last = 0;
    while (!last) {
        KI_TRY(one_round(r, deep, err));
        last = is_last(r, &deep, &before, fixed);
    }
    if (ki_limit_reached(&r->limit)) r->answer.complete = 0;
    return KITH_OK;
}

/* The caller's plan may be of another size; ours is needed in any case. */
static void give_plan(const range *r, kith_collection_plan *out)
{
    if (!out) return;
    size_t own = out->struct_size, size = own < sizeof *out ? own : sizeof *out;
    memcpy(out, &r->plan, size);
    out->struct_size = own;
}

kith_status kith_collection_search_range(kith_collection *c, size_t dim, const float *vector, float radius,
                                         const kith_collection_query *query, int64_t *keys, float *distances,
                                         size_t *n, int *more, kith_collection_answer *answer,
                                         kith_error *err)
{
    range r = {.c = c, .vector = vector, .dim = dim, .radius = radius};
    kith_collection_query_init(&r.query);
    KI_TRY(ki_options_read(&r.query, sizeof r.query, query, "query", err));
    if (!keys || !distances || !n) return ki_fail(err, KITH_INVALID, "keys, distances or n is NULL");
    if (!isfinite(radius)) return ki_fail(err, KITH_INVALID, "radius is not finite");
    size_t k = r.query.k, offset = r.query.offset;
    if (k < 1 || offset >= KITH_COLLECTION_MAX_K || k > KITH_COLLECTION_MAX_K - offset)
        return ki_fail(err, KITH_INVALID, "k is %zu after %zu rows, allowed 1..%d together", k, offset,
                       KITH_COLLECTION_MAX_K);
    kith_collection_plan *given = r.query.plan;
    if (given && given->struct_size < sizeof given->struct_size)
        return ki_fail(err, KITH_INVALID, "plan.struct_size is %zu: set it to the size of the struct",
                       given->struct_size);
    r.plan.struct_size = sizeof r.plan;
    r.query.plan = &r.plan;
    r.query.offset = 0;
    r.most = offset + k < KITH_COLLECTION_MAX_K ? offset + k + 1 : offset + k; /* one more tells of others */
    r.limit = (ki_limit){r.query.cancel, ki_deadline_ns(r.query.max_microseconds)};
    int pins = c->mode == KI_IDLE;
    if (pins) KI_TRY(kith_collection_pin(c, err));
    kith_status status = search(&r, err);
    if (pins) kith_collection_unpin(c);
    if (status == KITH_OK) {
        size_t left = r.n > offset ? r.n - offset : 0;
        *n = left < k ? left : k;
        if (*n > 0) memcpy(keys, r.keys + offset, *n * sizeof *keys);
        if (*n > 0) memcpy(distances, r.distances + offset, *n * sizeof *distances);
        if (more) *more = left > k;
        if (answer) *answer = r.answer;
        give_plan(&r, given);
    }
    clear(&r);
    return status;
}
