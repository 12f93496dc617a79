/* calibrate.c - measuring which search-time values give which recall (kith/tune.h).
 *
 * For each k, and with a refinement for each of a ladder of refine_k, the main parameter climbs a ladder of its own until
 * recall is 1, stays where it is, or the range ends. Each rung is one search of all queries. What is kept is the
 * frontier: the rungs that no cheaper one equals in recall. Cost is counted, not timed, in bytes of codes that were looked
 * at, so that the same data give the same curve on any machine. */
#include <kith/tune.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/run.h"
#include "base/topk.h"
#include "index/front.h"

#define STEP 1.25       /* from one rung to the next: what a target between two costs at most (arbitrary) */
#define FLOAT_RUNGS 256 /* the first rung of a real-valued parameter is this part of its range (arbitrary) */
#define FLAT_GAIN 0.0005
#define FLAT_STEPS \
    4 /* rungs without gain after which a ladder ends, if twice as many rows were scored meanwhile */
#define IDLE_STEPS 24  /* rungs at which nothing changes: the foot of a ladder may lie within one leaf */
#define ALL_ROWS 0.999 /* share of the rows; when a mean query has scored so many, no more are to come */
#define MAX_RUNGS 512  /* of one k */
#define REFINE_STEP 2  /* from one refine_k to the next */
#define RANDOM_READ \
    4 /* a refined row costs so many rows in sequence, per byte (measured for float32 of 128-d) */
#define CHUNK_ROWS 65536 /* rows that exact search sees at a time */

typedef struct rung {
    kith_calibration_point point;
    double mean, scored, cost;
} rung;

typedef struct calibrator {
    kith_index *index;
    kith_searcher *searcher;
    const ki_input *queries;
    const kith_run *run;
    ki_stage stage;
    uint64_t *truth; /* [nq][truth_k], ours when own is set */
    float *truth_dist;
    size_t truth_k;
    int own;
    uint64_t *ids; /* [nq][k_max], of one search */
    float *dist;
    kith_search_stats *stats; /* [nq] */
    rung *rungs;              /* [MAX_RUNGS] */
    size_t n_rungs, done;
    size_t ks[KITH_MAX_CALIBRATED_K], n_ks;
    ki_calibration curve; /* being made: room for KI_CALIBRATION_MAX */
} calibrator;

/* ---- Exact search ---- */

static int holds_rows(const kith_index *index)
{
    if (kith_metric_rows(index->metric) == KITH_ROWS_BITS) return 1;
    if (kith_metric_rows(index->metric) != KITH_ROWS_F32) return 0;
    return index->refine_codec ? index->spec.refinement->exact
                               : index->spec.codec->exact && !index->transform;
}

/* The rows of slots first..end-1 that are in use, under their ids; how many. */
static size_t rows_of(const kith_index *index, size_t first, size_t end, unsigned char *rows,
                      size_t row_bytes, uint64_t *ids)
{
    size_t n = 0;
    for (size_t slot = first; slot < end; slot++) {
        if (!ki_rows_used(&index->rows, (uint32_t)slot)) continue;
        ids[n] = ki_rows_id(&index->rows, (uint32_t)slot);
        void *row = rows + n++ * row_bytes;
        if (kith_metric_rows(index->metric) == KITH_ROWS_BITS)
            index->structure->ops->decode_bits(index->structure, (uint32_t)slot, row);
        else
            ki_index_exact_row(index, (uint32_t)slot, row);
    }
    return n;
}

/* The nearest of a chunk of rows, merged into what earlier chunks gave. */
static kith_status search_chunk(calibrator *c, const void *rows, const uint64_t *ids, size_t n, ki_topk *tops,
                                kith_error *err)
{
    const ki_input *q = c->queries;
    kith_index_options how;
    kith_search_options options;
    kith_index_options_init(&how);
    kith_search_options_init(&options);
    how.metric = c->index->metric;
    how.allocator = c->index->allocator;
    options.pool = ki_run_pool(c->run);
    kith_index *flat = NULL;
    kith_searcher *searcher = NULL;
    KI_TRY(kith_index_create(q->bits ? "BFlat" : "Flat", c->index->dim, &how, &flat, err));
    kith_run quiet = {.pool = options.pool};
    kith_status status = q->bits ? kith_index_add_bits(flat, rows, ids, n, &quiet, err)
                                 : kith_index_add(flat, rows, ids, n, &quiet, err);
    if (status == KITH_OK) status = kith_searcher_create(flat, &searcher, err);
    if (status == KITH_OK) status = ki_search(searcher, q, c->truth_k, &options, c->ids, c->dist, NULL, err);
    for (size_t i = 0; status == KITH_OK && i < q->n; i++)
        for (size_t j = 0; j < c->truth_k && c->ids[i * c->truth_k + j] != KITH_NO_ID; j++)
            ki_topk_push(&tops[i], c->dist[i * c->truth_k + j], c->ids[i * c->truth_k + j]);
    kith_searcher_free(searcher);
    kith_index_free(flat);
    return status;
}

/* truth and truth_dist of the rows that the index holds. */
static kith_status find_truth(calibrator *c, kith_error *err)
{
    const kith_index *index = c->index;
    size_t nq = c->queries->n, n_slots = index->rows.n_slots;
    size_t chunk = n_slots < CHUNK_ROWS ? n_slots : CHUNK_ROWS;
    size_t row_bytes = c->queries->bits ? kith_bit_bytes(index->dim) : index->dim * sizeof(float);
    ki_topk *tops = ki_alloc(index->allocator, nq, sizeof *tops);
    unsigned char *rows = ki_alloc(index->allocator, chunk, row_bytes);
    uint64_t *ids = ki_alloc(index->allocator, chunk, sizeof *ids);
    kith_status status = tops && rows && ids ? KITH_OK : ki_fail_nomem(err, chunk * row_bytes);
    for (size_t i = 0; status == KITH_OK && i < nq; i++)
        ki_topk_init(&tops[i], c->truth_k, c->truth_dist + i * c->truth_k, c->truth + i * c->truth_k);
    ki_stage_begin(&c->stage, c->run, "exact search", n_slots);
    for (size_t first = 0; first < n_slots && status == KITH_OK; first += chunk) {
        size_t end = n_slots - first < chunk ? n_slots : first + chunk;
        size_t n = rows_of(index, first, end, rows, row_bytes, ids);
        if (n > 0) status = search_chunk(c, rows, ids, n, tops, err);
        if (status == KITH_OK) status = ki_run_check(c->run, err);
        ki_stage_report(&c->stage, end);
    }
    for (size_t i = 0; status == KITH_OK && i < nq; i++) ki_topk_sort(&tops[i]);
    ki_free(index->allocator, tops);
    ki_free(index->allocator, rows);
    ki_free(index->allocator, ids);
    return status;
}

/* ---- One rung ---- */

/* How many of the k results of a query are among the true ones; with distances of our own also those as near. */
static size_t hits_of(const calibrator *c, size_t q, size_t k)
{
    const uint64_t *truth = c->truth + q * c->truth_k, *ids = c->ids + q * k;
    const float *dist = c->dist + q * k;
    size_t hits = 0;
    float limit = -INFINITY;
    if (c->own) limit = c->truth_dist[q * c->truth_k + k - 1];
    limit += 1e-5f * fabsf(limit); /* the two searches may round differently */
    for (size_t i = 0; i < k && ids[i] != KITH_NO_ID; i++) {
        int hit = c->own && dist[i] <= limit;
        for (size_t j = 0; j < k && !hit; j++) hit = truth[j] == ids[i];
        hits += (size_t)hit;
    }
    return hits;
}

static kith_status measure(calibrator *c, size_t k, double value, double refine_k, rung *r, kith_error *err)
{
    const kith_index *index = c->index;
    size_t nq = c->queries->n, n_settings = 0;
    kith_setting settings[2];
    if (kith_index_main_param(index))
        settings[n_settings++] = (kith_setting){kith_index_main_param(index), value};
    if (index->refine_codec) settings[n_settings++] = (kith_setting){"refine_k", refine_k};
    kith_search_options options;
    kith_search_options_init(&options);
    options.settings = settings;
    options.n_settings = n_settings;
    options.cancel = c->run ? c->run->cancel : NULL;
    options.pool = ki_run_pool(c->run);
    KI_TRY(ki_search(c->searcher, c->queries, k, &options, c->ids, c->dist, c->stats, err));
    KI_TRY(ki_run_check(c->run, err));
    double sum = 0, squares = 0, scored = 0;
    for (size_t q = 0; q < nq; q++) {
        double recall = (double)hits_of(c, q, k) / (double)k;
        sum += recall;
        squares += recall * recall;
        scored += (double)c->stats[q].scored;
    }
    double mean = sum / (double)nq, variance = squares / (double)nq - mean * mean;
    double error = variance > 0 ? sqrt(variance / (double)nq) : 0;
    const ki_codec *codec = index->env.codec, *refine = index->refine_codec;
    r->point = (kith_calibration_point){k, mean > error ? mean - error : 0, value, refine_k};
    r->mean = mean;
    r->scored = scored / (double)nq;
    r->cost = r->scored * (double)(codec->code_size + codec->n_factors * sizeof(float));
    if (refine) r->cost += refine_k * (double)k * RANDOM_READ * (double)refine->code_size;
    ki_stage_report(&c->stage, ++c->done);
    return KITH_OK;
}

/* ---- Ladders ---- */

static double first_value(const kith_param_info *info)
{
    if (info->kind == KITH_PARAM_FLOAT) return info->low + (info->high - info->low) / FLOAT_RUNGS;
    return info->low > 1 ? info->low : 1;
}

static double next_value(const kith_param_info *info, double value)
{
    double next = value * STEP;
    if (info->kind != KITH_PARAM_FLOAT) next = floor(next) > value ? floor(next) : value + 1;
    return next;
}

/* The rungs of one refine_k from `start` on. Out: *best, the mean recall reached. */
static kith_status climb(calibrator *c, size_t k, double start, double refine_k, double *best,
                         kith_error *err)
{
    size_t position, flat = 0, first = c->n_rungs;
    const kith_param_info *info = ki_calibration_main(&c->index->spec, c->index->metric, &position)
                                      ? ki_spec_param(&c->index->spec, position)
                                      : NULL;
    double rows = 4.0 * (double)c->index->rows.n_slots, value = start, scored = 0;
    *best = 0;
    while (c->n_rungs < MAX_RUNGS) {
        rung *r = &c->rungs[c->n_rungs];
        KI_TRY(measure(c, k, value, refine_k, r, err));
        c->n_rungs++;
        /* What is looked into is counted in rows at most: beyond their number a whole parameter says nothing new. */
        if (!info || r->mean >= 1 || value >= info->high) break;
        if (info->kind != KITH_PARAM_FLOAT && value > rows) break;
        if (r->mean > *best + FLAT_GAIN) flat = 0, *best = r->mean, scored = r->scored;
        if (r->scored >= ALL_ROWS * (double)c->index->rows.n) break;
        flat++;
        if (flat > IDLE_STEPS || (flat > FLAT_STEPS && r->scored >= 2 * scored)) break;
        value = next_value(info, value);
        if (value > info->high) value = info->high;
    }
    for (size_t i = first; i < c->n_rungs; i++)
        if (c->rungs[i].mean > *best) *best = c->rungs[i].mean;
    return KITH_OK;
}

static int by_cost(const void *a, const void *b)
{
    const rung *x = a, *y = b;
    if (x->cost != y->cost) return x->cost < y->cost ? -1 : 1;
    if (x->point.recall != y->point.recall) return x->point.recall > y->point.recall ? -1 : 1;
    return (x->point.value > y->point.value) - (x->point.value < y->point.value);
}

/* The frontier of the rungs, appended to the curve. */
static void keep_frontier(calibrator *c)
{
    double best = -1;
    qsort(c->rungs, c->n_rungs, sizeof *c->rungs, by_cost);
    for (size_t i = 0; i < c->n_rungs && c->curve.n < KI_CALIBRATION_MAX; i++) {
        if (c->rungs[i].point.recall <= best) continue;
        best = c->rungs[i].point.recall;
        c->curve.points[c->curve.n++] = c->rungs[i].point;
    }
}

static kith_status calibrate_k(calibrator *c, size_t k, kith_error *err)
{
    const ki_spec *spec = &c->index->spec;
    size_t position;
    double start = ki_calibration_main(spec, c->index->metric, &position)
                       ? first_value(ki_spec_param(spec, position))
                       : 0;
    c->n_rungs = 0;
    if (!spec->refinement) {
        double best;
        KI_TRY(climb(c, k, start, 0, &best, err));
    } else {
        const kith_param_info *info = ki_spec_param(spec, ki_spec_refinement_params(spec));
        double before = -1, rows = (double)c->index->rows.n;
        for (double r = info->low; r <= info->high && c->n_rungs < MAX_RUNGS; r *= REFINE_STEP) {
            double best;
            size_t first = c->n_rungs;
            KI_TRY(climb(c, k, start, r, &best, err));
            if (best >= 1 || best < before + FLAT_GAIN || r * (double)k >= rows) break;
            before = best;
            /* Where the structure misses many rows, more candidates do not bring them back. */
            while (first + 1 < c->n_rungs && c->rungs[first].mean < best / 2) first++;
            start = c->rungs[first].point.value;
        }
    }
    keep_frontier(c);
    return KITH_OK;
}

/* ---- The calls ---- */

static kith_status check_options(calibrator *c, const kith_calibrate_options *o, kith_error *err)
{
    static const size_t usual[] = {1, 10, 100};
    const kith_index *index = c->index;
    const size_t *ks = o->ks ? o->ks : usual;
    size_t n_ks = o->ks ? o->n_ks : sizeof usual / sizeof *usual;
    if (n_ks < 1 || n_ks > KITH_MAX_CALIBRATED_K)
        return ki_fail(err, KITH_INVALID, "options.n_ks is %zu, allowed 1..%d", n_ks, KITH_MAX_CALIBRATED_K);
    if (o->truth && o->truth_k == 0) return ki_fail(err, KITH_INVALID, "options.truth_k is 0");
    if (!o->truth && !holds_rows(index))
        return ki_fail(err, KITH_INVALID,
                       "options.truth is NULL, and %s does not hold its rows exactly: give the truth",
                       index->spec.canonical);
    for (size_t i = 0; i < n_ks; i++) {
        if (ks[i] < 1 || (i > 0 && ks[i] <= ks[i - 1]))
            return ki_fail(err, KITH_INVALID, "options.ks[%zu] is %zu: ascending numbers from 1 are wanted",
                           i, ks[i]);
        if (ks[i] <= index->rows.n && (!o->truth || ks[i] <= o->truth_k)) c->ks[c->n_ks++] = ks[i];
    }
    if (c->n_ks == 0)
        return ki_fail(err, KITH_INVALID, "options.ks: the least is %zu, there are only %zu nearest rows",
                       ks[0], o->truth && o->truth_k < index->rows.n ? o->truth_k : index->rows.n);
    c->own = !o->truth;
    c->truth_k = o->truth ? o->truth_k : c->ks[c->n_ks - 1];
    return KITH_OK;
}

static kith_status reserve(calibrator *c, const uint64_t *truth, kith_error *err)
{
    const kith_allocator *allocator = c->index->allocator;
    size_t nq = c->queries->n, room = c->ks[c->n_ks - 1];
    c->truth = c->own ? ki_alloc(allocator, nq, c->truth_k * sizeof *c->truth) : (uint64_t *)(uintptr_t)truth;
    c->truth_dist = c->own ? ki_alloc(allocator, nq, c->truth_k * sizeof *c->truth_dist) : NULL;
    c->ids = ki_alloc(allocator, nq, room * sizeof *c->ids);
    c->dist = ki_alloc(allocator, nq, room * sizeof *c->dist);
    c->stats = ki_alloc(allocator, nq, sizeof *c->stats);
    c->rungs = ki_alloc(allocator, MAX_RUNGS, sizeof *c->rungs);
    c->curve.points = ki_alloc(allocator, KI_CALIBRATION_MAX, sizeof *c->curve.points);
    if (!c->truth || (c->own && !c->truth_dist) || !c->ids || !c->dist || !c->stats || !c->rungs ||
        !c->curve.points)
        return ki_fail_nomem(err, nq * room * (sizeof *c->ids + sizeof *c->dist));
    return kith_searcher_create(c->index, &c->searcher, err);
}

static void calibrator_clear(calibrator *c)
{
    const kith_allocator *allocator = c->index->allocator;
    kith_searcher_free(c->searcher);
    if (c->own) ki_free(allocator, c->truth);
    ki_free(allocator, c->truth_dist);
    ki_free(allocator, c->ids);
    ki_free(allocator, c->dist);
    ki_free(allocator, c->stats);
    ki_free(allocator, c->rungs);
    ki_calibration_clear(&c->curve, allocator);
}

/* queries of the kind of the index, checked. */
static kith_status calibrate(kith_index *index, const ki_input *queries, const kith_calibrate_options *given,
                             const kith_run *run, kith_error *err)
{
    kith_calibrate_options options;
    kith_calibrate_options_init(&options);
    KI_TRY(ki_options_read(&options, sizeof options, given, "options", err));
    if (index->rows.n == 0) return ki_fail(err, KITH_INVALID, "the index is empty");
    calibrator c = {.index = index, .queries = queries, .run = run};
    KI_TRY(check_options(&c, &options, err));
    kith_status status = reserve(&c, options.truth, err);
    if (status == KITH_OK && c.own) status = find_truth(&c, err);
    /* How many rungs there will be is not known: the stage is told as done at the last one. */
    ki_stage_begin(&c.stage, run, "calibrating", c.n_ks * MAX_RUNGS);
    for (size_t i = 0; i < c.n_ks && status == KITH_OK; i++) {
        c.done = i * MAX_RUNGS;
        status = calibrate_k(&c, c.ks[i], err);
    }
    if (status == KITH_OK) {
        ki_stage_report(&c.stage, c.n_ks * MAX_RUNGS);
        ki_calibration_clear(&index->calibration, index->allocator);
        index->calibration = c.curve;
        c.curve = (ki_calibration){0};
    }
    calibrator_clear(&c);
    return status;
}

/* Whether an index may be calibrated with nq queries. */
static kith_status check_call(const kith_index *index, const void *queries, size_t nq, kith_error *err)
{
    if (!index || !queries) return ki_fail(err, KITH_INVALID, "%s is NULL", index ? "queries" : "index");
    if (index->store)
        return ki_fail(err, KITH_READONLY, "the index is mapped from %s", ki_store_path(index->store));
    if (!index->trained)
        return ki_fail(err, KITH_UNTRAINED, "%s must be trained before it is calibrated",
                       index->spec.canonical);
    return nq > 0 ? KITH_OK : ki_fail(err, KITH_INVALID, "nq is 0");
}

kith_status kith_index_calibrate(kith_index *index, const float *queries, size_t nq,
                                 const kith_calibrate_options *options, const kith_run *run, kith_error *err)
{
    ki_input input;
    KI_TRY(check_call(index, queries, nq, err));
    KI_TRY(ki_input_floats(index, "queries", queries, nq, &input, err));
    return calibrate(index, &input, options, run, err);
}

kith_status kith_index_calibrate_bits(kith_index *index, const uint8_t *queries, size_t nq,
                                      const kith_calibrate_options *options, const kith_run *run,
                                      kith_error *err)
{
    ki_input input;
    KI_TRY(check_call(index, queries, nq, err));
    KI_TRY(ki_input_bits(index, "queries", queries, nq, &input, err));
    return calibrate(index, &input, options, run, err);
}

kith_status kith_index_calibrate_sets(kith_index *index, const kith_sets *queries,
                                      const kith_calibrate_options *options, const kith_run *run,
                                      kith_error *err)
{
    ki_input input;
    uint8_t *own = NULL;
    KI_TRY(check_call(index, queries, queries ? queries->n : 0, err));
    kith_status status = ki_input_sets(index, "queries", queries, run, &input, &own, err);
    if (status == KITH_OK) status = calibrate(index, &input, options, run, err);
    ki_free(index->allocator, own);
    return status;
}

kith_status kith_index_calibration(const kith_index *index, kith_calibration_point *points, size_t *n,
                                   kith_error *err)
{
    if (!index || !n) return ki_fail(err, KITH_INVALID, "%s is NULL", index ? "n" : "index");
    size_t have = index->calibration.n;
    if (points && *n < have)
        return ki_fail(err, KITH_INVALID, "n is %zu, the calibration has %zu points", *n, have);
    if (points && have > 0) memcpy(points, index->calibration.points, have * sizeof *points);
    *n = have;
    return KITH_OK;
}

const char *kith_index_main_param(const kith_index *index)
{
    return index ? ki_calibration_param(&index->spec, index->metric) : NULL;
}
