/* handlers_jobs.c - jobs begun, seen and cancelled; what each kind does. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../common/fail.h"
#include "handlers.h"

#define RECALL_NAME "recall" /* where `kith recall` keeps what was measured */
enum { RECALL_KEPT = 100 };

/* What a job was asked to do. */
typedef struct order {
    json_t *json; /* the request */
    collection_work work;
    loan l;
    struct shelf *shelf;
} order;

static void order_free(void *ctx)
{
    order *o = ctx;
    shelf_return(o->shelf, &o->l);
    json_decref(o->json);
    free(o);
}

static const char *word_of(json_t *json, const char *name)
{
    return json_string_value(json_object_get(json, name));
}

static size_t count_of(json_t *json, const char *name, size_t fallback)
{
    json_t *value = json_object_get(json, name);
    return value ? (size_t)json_integer_value(value) : fallback;
}

static double number_of(json_t *json, const char *name, double fallback)
{
    json_t *value = json_object_get(json, name);
    return value ? json_number_value(value) : fallback;
}

/* ---- Index ---- */

static kith_status index_work(job *j, kith_collection *c, json_t *json, json_t **result, kith_error *err)
{
    kith_run run = job_run(j);
    kith_fold_options options;
    kith_fold_options_init(&options);
    options.spec = word_of(json, "spec");
    options.field = word_of(json, "field");
    options.always = json_is_true(json_object_get(json, "always"));
    options.seed = count_of(json, "seed", 1);
    options.run = &run;
    kith_status status = kith_pool_create(0, NULL, &run.pool, err);
    if (status == KITH_OK) status = kith_collection_optimize(c, &options, err);
    kith_pool_free(run.pool);
    kith_collection_stats stats = {.struct_size = sizeof stats};
    if (status == KITH_OK) status = kith_collection_get_stats(c, &stats, err);
    if (status == KITH_OK)
        *result =
            json_pack("{ss sI sI sI}", "spec", stats.segment_spec, "rows", (json_int_t)stats.segment_rows,
                      "bytes", (json_int_t)stats.segment_bytes, "uncovered", (json_int_t)stats.uncovered);
    return status;
}

/* ---- Tune and recall ---- */

static kith_status tune_work(job *j, kith_collection *c, json_t *json, json_t **result, kith_error *err)
{
    kith_run run = job_run(j);
    kith_collection_tuning tuning = {.struct_size = sizeof tuning};
    kith_collection_tune_options options;
    kith_collection_tune_options_init(&options);
    options.target_recall = number_of(json, "target_recall", options.target_recall);
    options.k = count_of(json, "k", options.k);
    options.queries = count_of(json, "queries", options.queries);
    options.field = word_of(json, "field");
    options.run = &run;
    kith_status status = kith_collection_tune(c, &options, &tuning, err);
    if (status == KITH_OK)
        *result = json_pack("{sf sf ss sf sf sI}", "target_recall", tuning.target_recall, "recall",
                            tuning.recall, "param", tuning.param, "value", tuning.value, "ms",
                            tuning.seconds * 1e3, "points", (json_int_t)tuning.points);
    return status;
}

/* Add a measurement to those that are kept, as `kith recall` does. */
static kith_status keep_recall(kith_collection *c, void *ctx, kith_error *err)
{
    kith_meta meta;
    kith_status status = kith_collection_meta_get(c, RECALL_NAME, &meta, err);
    if (status != KITH_OK && status != KITH_NOTFOUND) return status;
    json_t *history = status == KITH_OK ? json_loadb(meta.value, meta.size, 0, NULL) : NULL;
    if (!json_is_array(history)) {
        json_decref(history);
        history = json_array();
    }
    json_array_append(history, ctx);
    while (json_array_size(history) > RECALL_KEPT) json_array_remove(history, 0);
    char *words = json_dumps(history, JSON_COMPACT);
    json_decref(history);
    status =
        words ? kith_collection_meta_set(c, RECALL_NAME, words, strlen(words), err) : common_fail_nomem(err);
    free(words);
    return status;
}

static kith_status recall_work(job *j, kith_collection *c, json_t *json, json_t **result, kith_error *err)
{
    kith_run run = job_run(j);
    kith_recall recall = {.struct_size = sizeof recall};
    kith_recall_options options;
    kith_recall_options_init(&options);
    options.k = count_of(json, "k", options.k);
    options.queries = count_of(json, "queries", options.queries);
    options.run = &run;
    kith_status status = kith_collection_recall(c, &options, &recall, err);
    if (status != KITH_OK) return status;
    double each = 1e3 / (double)recall.queries;
    *result = json_pack("{sI sf sI sI ss sI sf sf}", "time", (json_int_t)time(NULL), "recall", recall.recall,
                        "k", (json_int_t)recall.k, "queries", (json_int_t)recall.queries, "spec", recall.spec,
                        "version", (json_int_t)recall.version, "ms", recall.seconds * each, "exact_ms",
                        recall.exact_seconds * each);
    return *result ? in_batch(c, keep_recall, *result, err) : common_fail_nomem(err);
}

/* ---- Verify ---- */

static kith_status verify_work(job *j, kith_collection *c, json_t *json, json_t **result, kith_error *err)
{
    (void)json;
    kith_run run = job_run(j);
    uint64_t hash;
    char digits[17];
    kith_status status = kith_collection_check(c, &run, err);
    if (status == KITH_OK) status = kith_collection_hash(c, &run, &hash, err);
    if (status != KITH_OK) return status;
    snprintf(digits, sizeof digits, "%016" PRIx64, hash);
    *result = json_pack("{ss}", "hash", digits);
    return KITH_OK;
}

/* ---- Beginning ---- */

typedef struct kind {
    const char *name;
    collection_work work;
    const char *words[8];   /* members that are texts, */
    const char *counts[8];  /* whole numbers from 1, */
    const char *numbers[4]; /* other numbers above 0, */
    const char *flags[4];   /* true or false */
} kind;

static const kind kinds[] = {
    {"index", index_work, {"spec", "field"}, {"seed"}, {0}, {"always"}},
    {"tune", tune_work, {"field"}, {"k", "queries"}, {"target_recall"}, {0}},
    {"recall", recall_work, {0}, {"k", "queries"}, {0}, {0}},
    {"verify", verify_work, {0}, {0}, {0}, {0}},
};

static int is_listed(const char *const *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n && list[i]; i++)
        if (strcmp(list[i], name) == 0) return 1;
    return 0;
}

/* Whether a request has only members that this kind knows, of their kinds. */
static int check_order(request *r, const kind *k, json_t *json)
{
    const char *name;
    json_t *value;
    json_object_foreach(json, name, value)
    {
        int good = strcmp(name, "kind") == 0 || (is_listed(k->words, 8, name) && json_is_string(value)) ||
                   (is_listed(k->counts, 8, name) && json_integer_value(value) > 0) ||
                   (is_listed(k->numbers, 4, name) && json_number_value(value) > 0) ||
                   (is_listed(k->flags, 4, name) && json_is_boolean(value));
        if (good) continue;
        http_problem(r, 400, "%.100s is no member of such a job, or of another kind", name);
        return 0;
    }
    return 1;
}

static kith_status run_order(job *j, void *ctx, json_t **result, kith_error *err)
{
    order *o = ctx;
    return o->work(j, o->l.collection, o->json, result, err);
}

void begin_job(request *r, const char *name, collection_work what, json_t *json)
{
    char id[JOB_ID];
    kith_error err = {0};
    order *o = calloc(1, sizeof *o);
    if (!o) {
        http_problem(r, 503, "out of memory");
        return;
    }
    o->shelf = r->server->shelf;
    o->work = what;
    o->json = json_incref(json);
    if (!borrow_named(r, LOAN_OWN, &o->l)) {
        order_free(o);
        return;
    }
    if (jobs_begin(r->server->jobs, name, r->args[0], run_order, o, order_free, id, &err) == KITH_OK)
        http_reply_json(r, 202, jobs_show(r->server->jobs, id));
    else
        http_fail(r, &err);
}

void post_job(request *r)
{
    json_t *json = http_json(r);
    if (!json) return;
    const char *name = json_string_value(json_object_get(json, "kind"));
    const kind *k = NULL;
    for (size_t i = 0; name && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, name) == 0) k = &kinds[i];
    if (!k)
        http_problem(r, 400, "kind is index, tune, recall or verify");
    else if (check_order(r, k, json))
        begin_job(r, k->name, k->work, json);
    json_decref(json);
}

/* ---- Seen and cancelled ---- */

void get_jobs(request *r)
{
    http_reply_json(r, 200, json_pack("{so}", "jobs", jobs_list(r->server->jobs)));
}

void get_job(request *r)
{
    json_t *json = jobs_show(r->server->jobs, r->args[0]);
    if (json)
        http_reply_json(r, 200, json);
    else
        http_problem(r, 404, "there is no job of this id, or it is long done");
}

void delete_job(request *r)
{
    if (jobs_cancel(r->server->jobs, r->args[0]))
        http_reply_nothing(r);
    else
        http_problem(r, 404, "there is no job of this id at work");
}

void post_import(request *r)
{
    (void)r; /* import.c has answered: the body is worked in as it comes */
}
