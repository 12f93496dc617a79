/* search_fused.c - several vector fields searched together: one list of their answers, by rank or by weight.
 *
 * Cormack, Clarke, Buettcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods", SIGIR
 * 2009: a row's score is the sum over the lists of 1 / (60 + its rank there), ranks from 1. Fusing by weight needs the
 * distance of each candidate in each field: those that a field did not propose itself are compared exactly. */
#include <kith/fusion.h>

#include "base/options.h"
#include "base/run.h"
#include "engine/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_DEPTH 100
#define MOST_DEPTH 100000

typedef struct scored {
    int64_t key;
    double score;
} scored;

typedef struct fusing {
    kith_collection *c;
    const kith_fused_part *parts;
    size_t n;
    kith_fusion_options how;
    kith_collection_query query;
    kith_collection_answer answer;
    ki_limit limit;
    size_t depth;
    int64_t *keys;      /* [n * depth]: of one list; by weight: every candidate, ascending */
    float *distances;   /* [n * depth] */
    scored *candidates; /* [n * depth] */
    size_t n_candidates;
} fusing;

static int by_key(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    return (x->key > y->key) - (x->key < y->key);
}

static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return by_key(a, b);
}

/* Candidates with the same key become one, in the order of the keys. */
static void join(fusing *f)
{
    size_t kept = 0;
    qsort(f->candidates, f->n_candidates, sizeof *f->candidates, by_key);
    for (size_t i = 0; i < f->n_candidates; i++) {
        if (kept > 0 && f->candidates[kept - 1].key == f->candidates[i].key)
            f->candidates[kept - 1].score += f->candidates[i].score;
        else
            f->candidates[kept++] = f->candidates[i];
    }
    f->n_candidates = kept;
}

/* How like two vectors are, from their distance. */
static double likeness(kith_metric metric, double distance)
{
    switch (metric) {
    case KITH_COSINE: return 1 - distance;
    case KITH_DOT: return -distance;
    case KITH_L1: return 1 / (1 + distance);
    default: return 1 / (1 + sqrt(distance > 0 ? distance : 0));
    }
}

static kith_status metric_of(kith_collection *c, const char *field, kith_metric *metric, kith_error *err)
{
    kith_vector_field fields[KITH_COLLECTION_MAX_VECTOR_FIELDS];
    size_t n = KITH_COLLECTION_MAX_VECTOR_FIELDS;
    *metric = kith_collection_metric(c);
    if (!field || !*field) return KITH_OK;
    KI_TRY(kith_collection_vector_fields(c, fields, &n, err));
    for (size_t i = 0; i < n; i++)
        if (strcmp(fields[i].name, field) == 0) *metric = fields[i].metric;
    return KITH_OK;
}

static kith_status ask(fusing *f, const kith_fused_part *part, kith_error *err)
{
    kith_collection_answer answer;
    f->query.field = part->field;
    if (f->limit.deadline_ns > 0) {
        uint64_t now = ki_now_ns(), end = f->limit.deadline_ns;
        f->query.max_microseconds = now < end ? (end - now) / 1000 + 1 : 1;
    }
    KI_TRY(kith_collection_search(f->c, 1, part->dim, part->vector, &f->query, f->keys, f->distances, &answer,
                                  err));
    f->answer.complete &= answer.complete;
    f->answer.exact &= answer.exact;
    f->answer.rows_scored += answer.rows_scored;
    f->answer.version = answer.version;
    return KITH_OK;
}

/* What each part proposes, with the score of its rank. */
static kith_status propose(fusing *f, kith_error *err)
{
    f->query.k = f->depth;
    for (size_t p = 0; p < f->n; p++) {
        KI_TRY(ask(f, &f->parts[p], err));
        for (size_t i = 0; i < f->depth && f->keys[i] != 0; i++)
            f->candidates[f->n_candidates++] =
                (scored){f->keys[i], f->parts[p].weight / (f->how.constant + (double)(i + 1))};
    }
    join(f);
    return KITH_OK;
}

/* The score of each candidate by its distance in every part, instead of that by ranks. */
static kith_status weigh(fusing *f, kith_error *err)
{
    size_t n = f->n_candidates;
    int64_t *only = ki_alloc(f->c->allocator, n, sizeof *only);
    if (!only) return ki_fail_nomem(err, n * sizeof *only);
    for (size_t i = 0; i < n; i++) {
        only[i] = f->candidates[i].key;
        f->candidates[i].score = 0;
    }
    f->query.only_keys = only;
    f->query.only_n = n;
    f->query.k = n;
    f->query.exact = 1;
    kith_status status = KITH_OK;
    for (size_t p = 0; p < f->n && status == KITH_OK; p++) {
        kith_metric metric;
        status = metric_of(f->c, f->parts[p].field, &metric, err);
        if (status == KITH_OK) status = ask(f, &f->parts[p], err);
        for (size_t i = 0; status == KITH_OK && i < n && f->keys[i] != 0; i++) {
            scored wanted = {.key = f->keys[i]};
            scored *found = bsearch(&wanted, f->candidates, n, sizeof *found, by_key);
            if (found) found->score += f->parts[p].weight * likeness(metric, (double)f->distances[i]);
        }
    }
    ki_free(f->c->allocator, only);
    return status;
}

static kith_status fuse(fusing *f, kith_error *err)
{
    size_t room = f->n * f->depth;
    f->keys = ki_alloc(f->c->allocator, room, sizeof *f->keys);
    f->distances = ki_alloc(f->c->allocator, room, sizeof *f->distances);
    f->candidates = ki_alloc(f->c->allocator, room, sizeof *f->candidates);
    if (!f->keys || !f->distances || !f->candidates) return ki_fail_nomem(err, room * sizeof *f->candidates);
    KI_TRY(propose(f, err));
    if (f->how.by == KITH_FUSE_WEIGHTS && f->n_candidates > 0) KI_TRY(weigh(f, err));
    qsort(f->candidates, f->n_candidates, sizeof *f->candidates, by_score);
    return KITH_OK;
}

/* ---- The door ---- */

static kith_status check(const fusing *f, const int64_t *keys, const double *scores, kith_error *err)
{
    if (!f->parts || !keys || !scores) return ki_fail(err, KITH_INVALID, "parts, keys or scores is NULL");
    if (f->n < 1 || f->n > KITH_COLLECTION_MAX_FUSED)
        return ki_fail(err, KITH_INVALID, "n is %zu, allowed 1..%d parts", f->n, KITH_COLLECTION_MAX_FUSED);
    for (size_t p = 0; p < f->n; p++)
        if (!(f->parts[p].weight > 0) || !isfinite(f->parts[p].weight))
            return ki_fail(err, KITH_INVALID, "the weight of part %zu is %g, allowed above 0", p,
                           f->parts[p].weight);
    if (f->query.field || f->query.only_keys)
        return ki_fail(err, KITH_INVALID, "field and only_keys are not for a search over several fields");
    if (f->how.by != KITH_FUSE_RANKS && f->how.by != KITH_FUSE_WEIGHTS)
        return ki_fail(err, KITH_INVALID, "by is %d, allowed 0 (ranks), 1 (weights)", (int)f->how.by);
    if (!(f->how.constant > 0) || !isfinite(f->how.constant))
        return ki_fail(err, KITH_INVALID, "constant is %g, allowed above 0", f->how.constant);
    if (f->how.depth > MOST_DEPTH || f->query.k < 1 || f->query.offset >= MOST_DEPTH ||
        f->query.k > MOST_DEPTH - f->query.offset)
        return ki_fail(err, KITH_INVALID, "k + offset or depth is beyond 1..%d", MOST_DEPTH);
    return KITH_OK;
}

static void give(const fusing *f, size_t k, size_t offset, int64_t *keys, double *scores)
{
    for (size_t i = 0; i < k; i++) {
        int there = offset + i < f->n_candidates;
        keys[i] = there ? f->candidates[offset + i].key : 0;
        scores[i] = there ? f->candidates[offset + i].score : 0;
    }
}

kith_status kith_collection_search_fused(kith_collection *c, const kith_fused_part *parts, size_t n,
                                         const kith_fusion_options *options,
                                         const kith_collection_query *query, int64_t *keys, double *scores,
                                         kith_collection_answer *answer, kith_error *err)
{
    fusing f = {.c = c, .parts = parts, .n = n, .answer = {.complete = 1, .exact = 1}};
    kith_fusion_options_init(&f.how);
    kith_collection_query_init(&f.query);
    KI_TRY(ki_options_read(&f.how, sizeof f.how, options, "options", err));
    KI_TRY(ki_options_read(&f.query, sizeof f.query, query, "query", err));
    KI_TRY(check(&f, keys, scores, err));
    size_t k = f.query.k, offset = f.query.offset, wanted = k + offset;
    f.depth = f.how.depth ? f.how.depth : 4 * wanted;
    if (!f.how.depth && f.depth < LEAST_DEPTH) f.depth = LEAST_DEPTH;
    if (f.depth > MOST_DEPTH) f.depth = MOST_DEPTH;
    if (f.depth < wanted) f.depth = wanted;
    f.query.offset = 0;
    f.query.plan = NULL;
    f.limit = (ki_limit){f.query.cancel, ki_deadline_ns(f.query.max_microseconds)};
    int pins = c->mode == KI_IDLE;
    if (pins) KI_TRY(kith_collection_pin(c, err));
    kith_status status = fuse(&f, err);
    if (pins) kith_collection_unpin(c);
    if (status == KITH_OK) {
        give(&f, k, offset, keys, scores);
        if (answer) *answer = f.answer;
    }
    ki_free(c->allocator, f.keys);
    ki_free(c->allocator, f.distances);
    ki_free(c->allocator, f.candidates);
    return status;
}
