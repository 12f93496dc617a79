/* tuning.c - recall asked for, instead of parameters.
 *
 * The curve is measured on rows of the collection, themselves left out, through the very search that will use it: segment,
 * tail and all. It is kept as the named value "tune" ("tune/FIELD" of another vector field), a line of JSON:
 *
 *     {"target":0.95,"k":10,"param":"nprobe","cells":4000,"points":[[0.41,1,4],[0.55,2,4],...]}
 *
 * points: recall (the mean less its standard error), value of the parameter, refine_k; ascending, each cheaper than all that
 * have more recall. The value of nprobe is a number of cells: when a later index has more of them, so many more are taken. */
#include "engine/tuning.h"

#include "base/options.h"
#include "base/run.h"
#include "engine/live_recall.h"
#include "engine/spaces.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Values of the parameter grow by this factor; what is between two is not worth a measurement. */
#define STEP 1.5

/* More recall than this is not looked for by larger values. */
#define ENOUGH 0.9995

#define MOST_TRIALS 96

/* ---- Keeping ---- */

static void name_of(const char *field, char name[KITH_COLLECTION_MAX_FIELD_NAME + 8])
{
    snprintf(name, KITH_COLLECTION_MAX_FIELD_NAME + 8, field && *field ? "tune/%s" : "tune%s",
             field ? field : "");
}

/* A named value is anybody's to write: what is no curve counts as none. KITH_NOMEM. */
static kith_status parse(const void *text, size_t size, ki_tuning *t, kith_error *err)
{
    json_t *root = NULL;
    kith_status status = ki_json_parse("tune", text, size, &root, err);
    if (status != KITH_OK) return status == KITH_INVALID ? KITH_OK : status;
    json_t *points = json_object_get(root, "points"), *point;
    const char *param = json_string_value(json_object_get(root, "param"));
    double target = json_number_value(json_object_get(root, "target"));
    size_t i;
    if (target > 0 && target <= 1) t->target = target;
    t->k = (size_t)json_integer_value(json_object_get(root, "k"));
    t->cells = json_number_value(json_object_get(root, "cells"));
    snprintf(t->param, sizeof t->param, "%s", param ? param : "");
    json_array_foreach(points, i, point)
    {
        double recall = json_number_value(json_array_get(point, 0)),
               value = json_number_value(json_array_get(point, 1)),
               refine = json_number_value(json_array_get(point, 2));
        if (t->n == KI_TUNING_POINTS || !(value > 0) || !(refine >= 0) || !(recall >= 0)) break;
        t->points[t->n].recall = recall;
        t->points[t->n].value = value;
        t->points[t->n++].refine = refine;
    }
    json_decref(root);
    return KITH_OK;
}

kith_status ki_tuning_load(kith_collection *c, ki_tuning *t, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    char name[KITH_COLLECTION_MAX_FIELD_NAME + 8];
    if (t->loaded && t->version == c->state.version && t->stamp == c->state.stamp) return KITH_OK;
    *t = (ki_tuning){.version = c->state.version, .stamp = c->state.stamp};
    name_of(c->at ? c->at->name : NULL, name);
    KI_TRY(ki_db_prepare(c, KI_SQL_NAMED_GET, &stmt, err));
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    KI_TRY(ki_db_step(c, KI_SQL_NAMED_GET, &row, err));
    kith_status status = KITH_OK;
    if (row) {
        const void *value = sqlite3_column_blob(stmt, 1);
        size_t size = (size_t)sqlite3_column_bytes(stmt, 1);
        if (value)
            status = parse(value, size, t, err);
        else if (sqlite3_errcode(c->db) == SQLITE_NOMEM)
            status = ki_fail_nomem(err, size);
        ki_db_reset(c, KI_SQL_NAMED_GET);
    }
    t->loaded = status == KITH_OK && c->mode != KI_BATCH;
    return status;
}

double ki_tuned_target(kith_collection *c)
{
    ki_tuning t = {.loaded = 0};
    return ki_tuning_load(c, &t, NULL) == KITH_OK ? t.target : 0;
}

/* Whether a curve is of an index like this one. */
static int is_of(const ki_tuning *t, const ki_segment *segment)
{
    return t->n > 0 && segment->main && strcmp(t->param, segment->main) == 0;
}

/* How many cells there are for each one when the curve was measured. */
static double more_cells(const ki_tuning *t, const ki_segment *segment)
{
    return t->cells > 0 && segment->max_nprobe > 0 ? segment->max_nprobe / t->cells : 1;
}

int ki_tuned_values(const ki_tuning *t, const ki_segment *segment, double target, double *value,
                    double *refine)
{
    if (!is_of(t, segment)) return 0;
    size_t i = 0;
    while (i + 1 < t->n && t->points[i].recall < target) i++;
    *value = t->points[i].value * more_cells(t, segment);
    *refine = segment->max_refine > 0 ? t->points[i].refine : 0;
    return 1;
}

double ki_tuned_recall(const ki_tuning *t, const ki_segment *segment, double value, double refine)
{
    double recall = (double)NAN;
    if (!is_of(t, segment)) return recall;
    for (size_t i = 0; i < t->n; i++)
        if (t->points[i].value * more_cells(t, segment) <= value && t->points[i].refine <= refine)
            recall = t->points[i].recall;
    return recall;
}

/* ---- Measuring ---- */

typedef struct trial {
    double recall, value, refine, seconds;
} trial;

typedef struct tuner {
    ki_measuring m;
    const ki_segment *segment;
    double target;
    trial trials[MOST_TRIALS];
    size_t n;
} tuner;

static kith_status try_values(tuner *t, double value, double refine, kith_error *err)
{
    kith_collection_query q;
    trial *made = &t->trials[t->n];
    kith_collection_query_init(&q);
    q.nprobe = (size_t)value;
    q.refine = (size_t)refine;
    KI_TRY(ki_measure_at(&t->m, &q, &made->recall, &made->seconds, err));
    /* The standard error of a mean of values between 0 and 1 is no larger than this. */
    double r = made->recall;
    made->recall = fmax(0, r - sqrt(r * (1 - r) / (double)t->m.taken));
    made->value = value;
    made->refine = refine;
    made->seconds /= (double)t->m.taken;
    t->n++;
    return KITH_OK;
}

/* All values with one refinement, until more of them find no more. */
static kith_status climb(tuner *t, double refine, kith_error *err)
{
    double best = -1, low = t->segment->main_low < 1 ? 1 : t->segment->main_low, high = t->segment->main_high;
    for (double value = low; t->n < MOST_TRIALS; value = ceil(value * STEP)) {
        if (value > high) value = high;
        KI_TRY(try_values(t, value, refine, err));
        double recall = t->trials[t->n - 1].recall;
        int useless = recall <= best && value > 4 * low && recall > 0.5;
        best = recall > best ? recall : best;
        if (value >= high || recall >= ENOUGH || useless) break;
    }
    return KITH_OK;
}

static int by_seconds(const void *a, const void *b)
{
    const trial *x = a, *y = b;
    return (x->seconds > y->seconds) - (x->seconds < y->seconds);
}

/* Keep the trials that no cheaper one has as much recall as, in the order of both. */
static void keep_best(tuner *t)
{
    size_t kept = 0;
    qsort(t->trials, t->n, sizeof *t->trials, by_seconds);
    for (size_t i = 0; i < t->n; i++)
        if (kept == 0 || t->trials[i].recall > t->trials[kept - 1].recall) t->trials[kept++] = t->trials[i];
    t->n = kept < KI_TUNING_POINTS ? kept : KI_TUNING_POINTS;
}

/* Pinned. */
static kith_status measure(tuner *t, kith_error *err)
{
    static const double refines[] = {4, 10, 32};
    KI_TRY(ki_measure_begin(&t->m, err));
    if (!t->m.spec[0]) return KITH_OK;
    kith_collection *c = t->m.c;
    KI_TRY(ki_space_enter(c, t->m.o.field, err));
    t->segment = &c->vectors->segment; /* pinned, it stays */
    ki_space_leave(c);
    if (!t->segment->main) return KITH_OK;
    for (size_t i = 0; i < 3; i++) {
        if (t->segment->max_refine == 0 && i > 0) break;
        if (t->segment->max_refine > 0 && refines[i] > t->segment->max_refine) break;
        KI_TRY(climb(t, t->segment->max_refine > 0 ? refines[i] : 0, err));
    }
    keep_best(t);
    return KITH_OK;
}

/* ---- The doors ---- */

static json_t *to_json(const tuner *t)
{
    json_t *points = json_array();
    for (size_t i = 0; i < t->n; i++)
        json_array_append_new(
            points, json_pack("[fff]", t->trials[i].recall, t->trials[i].value, t->trials[i].refine));
    return json_pack("{sf sI ss sf so}", "target", t->target, "k", (json_int_t)t->m.o.k, "param",
                     t->n > 0 ? t->segment->main : "", "cells", t->n > 0 ? t->segment->max_nprobe : 0.0,
                     "points", points);
}

static kith_status keep(const tuner *t, kith_error *err)
{
    kith_collection *c = t->m.c;
    char name[KITH_COLLECTION_MAX_FIELD_NAME + 8];
    json_t *root = to_json(t);
    char *text = ki_json_dump(root, JSON_COMPACT | JSON_REAL_PRECISION(9), c->allocator);
    json_decref(root);
    if (!text) return ki_fail_nomem(err, 0);
    name_of(t->m.o.field, name);
    kith_status status = kith_collection_begin(c, err);
    if (status == KITH_OK) status = kith_collection_meta_set(c, name, text, strlen(text), err);
    if (status == KITH_OK) status = kith_collection_commit(c, err);
    kith_collection_rollback(c);
    ki_free(c->allocator, text);
    return status;
}

static void give(const ki_tuning *t, kith_collection_tuning *out)
{
    size_t i = 0;
    while (i + 1 < t->n && t->points[i].recall < t->target) i++;
    *out = (kith_collection_tuning){.struct_size = sizeof *out, .target_recall = t->target, .points = t->n};
    memcpy(out->param, t->param, sizeof out->param);
    out->recall = t->n ? t->points[i].recall : 1;
    out->value = t->n ? t->points[i].value : 0;
    out->refine_k = t->n ? t->points[i].refine : 0;
}

static kith_status check_out(const kith_collection_tuning *tuning, kith_error *err)
{
    if (tuning && tuning->struct_size == sizeof *tuning) return KITH_OK;
    return ki_fail(err, KITH_INVALID, "tuning.struct_size is %zu, expected %zu",
                   tuning ? tuning->struct_size : 0, sizeof *tuning);
}

kith_status kith_collection_get_tuning(kith_collection *c, const char *field, kith_collection_tuning *tuning,
                                       kith_error *err)
{
    ki_tuning t = {.loaded = 0};
    KI_TRY(check_out(tuning, err));
    KI_TRY(ki_read_begin(c, err));
    kith_status status = ki_space_enter(c, field, err);
    if (status == KITH_OK) status = ki_tuning_load(c, &t, err);
    ki_space_leave(c);
    ki_read_end(c);
    if (status == KITH_OK && t.target <= 0) status = ki_fail(err, KITH_NOTFOUND, "%s: is not tuned", c->path);
    if (status == KITH_OK) give(&t, tuning);
    return status;
}

static kith_status tune(tuner *t, kith_error *err)
{
    kith_collection *c = t->m.c;
    KI_TRY(kith_collection_pin(c, err));
    kith_status status = measure(t, err);
    kith_collection_unpin(c);
    return status == KITH_OK ? keep(t, err) : status;
}

kith_status kith_collection_tune(kith_collection *c, const kith_collection_tune_options *given,
                                 kith_collection_tuning *tuning, kith_error *err)
{
    kith_collection_tune_options o;
    kith_collection_tune_options_init(&o);
    KI_TRY(ki_options_read(&o, sizeof o, given, "options", err));
    if (tuning) KI_TRY(check_out(tuning, err));
    if (!(o.target_recall > 0 && o.target_recall <= 1))
        return ki_fail(err, KITH_INVALID, "target_recall is %g, allowed above 0, 1 at most", o.target_recall);
    if (c->mode != KI_IDLE)
        return ki_fail(err, KITH_INVALID, "the collection is %s",
                       c->mode == KI_PINNED ? "pinned" : "in a batch");
    if (c->read_only) return ki_fail(err, KITH_READONLY, "%s: was opened for reading only", c->path);
    tuner *t = ki_alloc_zero(c->allocator, 1, sizeof *t);
    if (!t) return ki_fail_nomem(err, sizeof *t);
    t->m.c = c;
    kith_recall_options_init(&t->m.o);
    t->m.o.k = o.k;
    t->m.o.queries = o.queries;
    t->m.o.seed = o.seed;
    t->m.o.run = o.run;
    t->m.o.field = o.field;
    t->target = o.target_recall;
    kith_status status = tune(t, err);
    double seconds = t->m.taken ? t->m.exact_seconds / (double)t->m.taken : 0;
    for (size_t i = 0; i < t->n; i++) {
        seconds = t->trials[i].seconds;
        if (t->trials[i].recall >= t->target) break;
    }
    ki_measure_clear(&t->m);
    ki_free(c->allocator, t);
    if (status == KITH_OK && tuning) {
        status = kith_collection_get_tuning(c, o.field, tuning, err);
        if (status == KITH_OK) tuning->seconds = seconds;
    }
    return status;
}
