/* handlers_info.c - whether it runs, how it does, and which collections there are. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <kith/metric.h>

#include "handlers.h"

void get_health(request *r)
{
    http_reply_json(r, 200, json_pack("{ss}", "status", "ok"));
}

void get_metrics(request *r)
{
    static const double ends[] = SERVER_TIMES;
    server *s = r->server;
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
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
    fprintf(out,
            "# HELP kith_connections Open connections.\n# TYPE kith_connections gauge\nkith_connections %u\n",
            atomic_load(&s->connections));
    fclose(out);
    http_reply_bytes(r, "text/plain; version=0.0.4", text, size, NULL);
    free(text);
}

kith_gallery *borrow_named(request *r, size_t *collection)
{
    int found = shelf_find(r->server->shelf, r->args[0]);
    if (found < 0) {
        http_problem(r, 404, "there is no collection of this name");
        return NULL;
    }
    *collection = (size_t)found;
    return shelf_borrow(r->server->shelf, *collection);
}

static json_t *describe(server *s, size_t i, kith_gallery *gallery, kith_error *err)
{
    kith_collection *c = kith_gallery_collection(gallery);
    uint64_t rows, vectors, version;
    if (kith_collection_count(c, &rows, &vectors, err) != KITH_OK ||
        kith_collection_version(c, &version, err) != KITH_OK)
        return NULL;
    json_t *folder = json_string(kith_gallery_folder(gallery));
    json_t *value =
        json_pack("{ss sI sI sI ss sI ss so}", "name", shelf_name(s->shelf, i), "rows", (json_int_t)rows,
                  "vectors", (json_int_t)vectors, "dim", (json_int_t)kith_collection_dim(c), "metric",
                  kith_metric_name(kith_collection_metric(c)), "version", (json_int_t)version, "features",
                  kith_gallery_description(gallery), "folder", folder ? folder : json_null());
    if (!value) *err = (kith_error){.code = KITH_NOMEM};
    return value;
}

void get_collections(request *r)
{
    server *s = r->server;
    kith_error err = {0};
    json_t *list = json_array();
    for (size_t i = 0; i < shelf_size(s->shelf); i++) {
        kith_gallery *gallery = shelf_borrow(s->shelf, i);
        json_t *one = describe(s, i, gallery, &err);
        shelf_return(s->shelf, i, gallery);
        if (!one) {
            json_decref(list);
            http_fail(r, &err);
            return;
        }
        json_array_append_new(list, one);
    }
    http_reply_json(r, 200, json_pack("{so sI}", "collections", list, "max_k", (json_int_t)s->options.max_k));
}

void get_collection(request *r)
{
    size_t i;
    kith_error err = {0};
    kith_gallery *gallery = borrow_named(r, &i);
    if (!gallery) return;
    json_t *value = describe(r->server, i, gallery, &err);
    shelf_return(r->server->shelf, i, gallery);
    if (value)
        http_reply_json(r, 200, value);
    else
        http_fail(r, &err);
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
    size_t i;
    kith_error err = {0};
    kith_gallery *gallery = borrow_named(r, &i);
    if (!gallery) return;
    json_t *list = json_array();
    kith_status status = kith_gallery_list_bad(gallery, add_bad, list, &err);
    shelf_return(r->server->shelf, i, gallery);
    if (status == KITH_OK) {
        http_reply_json(r, 200, json_pack("{so}", "bad", list));
    } else {
        json_decref(list);
        http_fail(r, &err);
    }
}
