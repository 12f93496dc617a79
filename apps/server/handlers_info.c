/* handlers_info.c - whether it runs, how it does, and which collections there are. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <kith/metric.h>

#include "../common/fail.h"
#include "handlers.h"

void get_health(request *r)
{
    http_reply_json(r, 200, json_pack("{ss}", "status", "ok"));
}

/* Bytes of memory that this process occupies, 0 when that cannot be read. */
static uint64_t resident_bytes(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file) return 0;
    if (fscanf(file, "%*u %llu", &pages) != 1) pages = 0;
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void write_gauge(FILE *out, const char *name, const char *kind, const char *help, double value)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.15g\n", name, help, name, kind, name, value);
}

void get_metrics(request *r)
{
    static const double ends[] = SERVER_TIMES;
    server *s = r->server;
    char *page = NULL;
    size_t size;
    FILE *out = open_memstream(&page, &size);
    if (!out) {
        http_problem(r, 503, "out of memory");
        return;
    }
    fprintf(out, "# HELP kith_requests_total Requests answered, by class of status.\n"
                 "# TYPE kith_requests_total counter\n");
    for (size_t c = 1; c < 6; c++)
        fprintf(out, "kith_requests_total{class=\"%zuxx\"} %" PRIu64 "\n", c,
                (uint64_t)atomic_load(&s->by_class[c]));
    fprintf(out, "# HELP kith_request_seconds Time from the head of a request to the end of its answer.\n"
                 "# TYPE kith_request_seconds histogram\n");
    uint64_t sum = 0;
    for (size_t t = 0; t < SERVER_N_TIMES; t++) {
        sum += atomic_load(&s->by_time[t]);
        fprintf(out, "kith_request_seconds_bucket{le=\"%g\"} %" PRIu64 "\n", ends[t], sum);
    }
    sum += atomic_load(&s->by_time[SERVER_N_TIMES]);
    fprintf(out, "kith_request_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\nkith_request_seconds_sum %.6f\n", sum,
            (double)atomic_load(&s->micros) * 1e-6);
    fprintf(out, "kith_request_seconds_count %" PRIu64 "\n", sum);
    write_gauge(out, "kith_connections", "gauge", "Open connections.", atomic_load(&s->connections));
    write_gauge(out, "kith_jobs", "gauge", "Jobs and imports at work.", (double)jobs_running(s->jobs));
    write_gauge(out, "kith_resident_bytes", "gauge", "Memory of the process.", (double)resident_bytes());
    write_gauge(out, "kith_search_cpu_seconds_total", "counter",
                "Processor time spent in searches of vectors.", (double)atomic_load(&s->search_ns) * 1e-9);
    uint64_t batches, commits;
    shelf_written(s->shelf, &batches, &commits);
    write_gauge(out, "kith_write_batches_total", "counter", "Batches of rows that shared commits.",
                (double)batches);
    write_gauge(out, "kith_write_commits_total", "counter", "Commits that made them durable.",
                (double)commits);
    fclose(out);
    http_reply_bytes(r, "text/plain; version=0.0.4", page, size, NULL);
    free(page);
}

int borrow_named(request *r, loan_kind kind, loan *l)
{
    kith_error err = {0};
    if (shelf_borrow(r->server->shelf, r->args[0], kind, l, &err) == KITH_OK) return 1;
    http_fail(r, &err);
    return 0;
}

int only_members(request *r, json_t *json, ...)
{
    const char *name;
    json_t *value;
    json_object_foreach(json, name, value)
    {
        va_list list;
        char members[100] = "";
        size_t n = 0;
        const char *known;
        va_start(list, json);
        while ((known = va_arg(list, const char *)) && strcmp(known, name) != 0)
            if (n < sizeof members)
                n += (size_t)snprintf(members + n, sizeof members - n, "%s%s", n > 0 ? ", " : "", known);
        va_end(list);
        if (known) continue;
        http_problem(r, 400, "%.100s is no member of such a request, which has: %s", name, members);
        return 0;
    }
    return 1;
}

static json_t *describe(const char *name, const loan *l, kith_error *err)
{
    kith_collection *c = l->collection;
    uint64_t rows, vectors, version;
    if (kith_collection_count(c, &rows, &vectors, err) != KITH_OK ||
        kith_collection_version(c, &version, err) != KITH_OK)
        return NULL;
    json_t *folder = l->gallery ? json_string(kith_gallery_folder(l->gallery)) : NULL;
    json_t *value =
        json_pack("{ss sI sI sI ss sI ss so sb}", "name", name, "rows", (json_int_t)rows, "vectors",
                  (json_int_t)vectors, "dim", (json_int_t)kith_collection_dim(c), "metric",
                  kith_metric_name(kith_collection_metric(c)), "version", (json_int_t)version, "features",
                  l->gallery ? kith_gallery_description(l->gallery) : "", "folder",
                  folder ? folder : json_null(), "pictures", l->gallery != NULL);
    if (!value) (void)common_fail_nomem(err);
    return value;
}

static kith_status describe_all(server *s, json_t *list, kith_error *err)
{
    size_t n;
    char **names = shelf_names(s->shelf, &n);
    kith_status status = names ? KITH_OK : common_fail_nomem(err);
    for (size_t i = 0; status == KITH_OK && i < n; i++) {
        loan l;
        status = shelf_borrow(s->shelf, names[i], LOAN_READ, &l, err);
        if (status == KITH_NOTFOUND) { /* dropped in between */
            status = KITH_OK;
            continue;
        }
        json_t *one = status == KITH_OK ? describe(names[i], &l, err) : NULL;
        if (status == KITH_OK && !one) status = err->code;
        json_array_append_new(list, one);
        shelf_return(s->shelf, &l);
    }
    if (names) shelf_free_names(names, n);
    return status;
}

void get_collections(request *r)
{
    kith_error err = {0};
    json_t *list = json_array();
    static const char *const roles[] = {
        [ROLE_NONE] = "none", [ROLE_READ] = "read", [ROLE_WRITE] = "write", [ROLE_ADMIN] = "admin"};
    kith_status status = describe_all(r->server, list, &err);
    reply_or_fail(r, status,
                  json_pack("{so sI ss}", "collections", list, "max_k", (json_int_t)r->server->options.max_k,
                            "role", roles[r->role]),
                  &err);
}

void get_collection(request *r)
{
    loan l;
    kith_error err = {0};
    if (!borrow_named(r, LOAN_READ, &l)) return;
    json_t *value = describe(r->args[0], &l, &err);
    shelf_return(r->server->shelf, &l);
    reply_or_fail(r, value ? KITH_OK : err.code, value, &err);
}

static int add_bad(void *ctx, const kith_gallery_bad *bad)
{
    json_t *path = json_string(bad->path);
    json_array_append_new(ctx, json_pack("{so ss sI}", "path", path ? path : json_string("(not UTF-8)"),
                                         "reason", bad->reason, "size", (json_int_t)bad->size));
    return 0;
}

void get_bad(request *r)
{
    loan l;
    kith_error err = {0};
    if (!borrow_named(r, LOAN_READ, &l)) return;
    json_t *list = json_array();
    kith_status status = l.gallery ? kith_gallery_list_bad(l.gallery, add_bad, list, &err) : KITH_OK;
    shelf_return(r->server->shelf, &l);
    reply_or_fail(r, status, json_pack("{so}", "bad", list), &err);
}

/* ---- What it costs, and how good it is ---- */

/* The measurements that `kith recall` and the job keep. */
static json_t *recall_json(kith_collection *c)
{
    kith_meta meta;
    json_t *history = kith_collection_meta_get(c, "recall", &meta, NULL) == KITH_OK
                          ? json_loadb(meta.value, meta.size, 0, NULL)
                          : NULL;
    if (json_is_array(history)) return history;
    json_decref(history);
    return json_array();
}

static json_t *tuning_json(kith_collection *c)
{
    kith_collection_tuning t = {.struct_size = sizeof t};
    if (kith_collection_get_tuning(c, NULL, &t, NULL) != KITH_OK) return json_null();
    return json_pack("{sf sf ss sf}", "target_recall", t.target_recall, "recall", t.recall, "param", t.param,
                     "value", t.value);
}

/* NULL on failure. */
static json_t *stats_json(kith_collection *c, kith_error *err)
{
    kith_collection_stats s = {.struct_size = sizeof s};
    kith_fold_plan plan = {.struct_size = sizeof plan, .why = ""};
    if (kith_collection_get_stats(c, &s, err) != KITH_OK) return NULL;
    (void)kith_collection_plan_fold(c, NULL, &plan, NULL); /* without one the members are empty */
    json_t *json = json_pack(
        "{ss sI ss sI sI sI sI sI s{ss sI sI sI sI} s{ss ss sI} so so}", "id", s.id, "dim", (json_int_t)s.dim,
        "metric", kith_metric_name(s.metric), "version", (json_int_t)s.version, "rows", (json_int_t)s.rows,
        "vectors", (json_int_t)s.vectors, "free_slots", (json_int_t)s.free_slots, "database_bytes",
        (json_int_t)s.database_bytes, "index", "spec", s.segment_spec, "rows", (json_int_t)s.segment_rows,
        "bytes", (json_int_t)s.segment_bytes, "uncovered", (json_int_t)s.uncovered, "cells",
        (json_int_t)s.cells, "next_index", "why", plan.why, "spec", plan.spec, "peak_bytes",
        (json_int_t)plan.peak_bytes, "tuned", tuning_json(c), "recall", recall_json(c));
    if (!json) (void)common_fail_nomem(err);
    return json;
}

void get_stats(request *r)
{
    loan l;
    kith_error err = {0};
    if (!borrow_named(r, LOAN_READ, &l)) return;
    json_t *json = stats_json(l.collection, &err);
    shelf_return(r->server->shelf, &l);
    reply_or_fail(r, json ? KITH_OK : err.code, json, &err);
}
