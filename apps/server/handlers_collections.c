/* handlers_collections.c - collections made, renamed and dropped; their partitions, declared fields and vector fields. */
#include <stdlib.h>
#include <string.h>

#include <kith/fusion.h>
#include <kith/metric.h>

#include "../common/fail.h"
#include "handlers.h"

void reply_or_fail(request *r, kith_status status, json_t *value, const kith_error *err)
{
    if (status == KITH_OK) {
        http_reply_json(r, 200, value);
        return;
    }
    json_decref(value);
    http_fail(r, err);
}

kith_status in_batch(kith_collection *c,
                     kith_status (*change)(kith_collection *c, void *ctx, kith_error *err), void *ctx,
                     kith_error *err)
{
    kith_status status = kith_collection_begin(c, err);
    if (status == KITH_OK) status = change(c, ctx, err);
    if (status == KITH_OK) return kith_collection_commit(c, err);
    kith_collection_rollback(c);
    return status;
}

/* Change the named collection in a batch; 204. */
static void change_named(request *r, kith_status (*change)(kith_collection *c, void *ctx, kith_error *err),
                         void *ctx)
{
    loan l;
    kith_error err = {0};
    if (!borrow_named(r, LOAN_WRITE, &l)) return;
    kith_status status = in_batch(l.collection, change, ctx, &err);
    shelf_return(r->server->shelf, &l);
    if (status == KITH_OK)
        http_reply_nothing(r);
    else
        http_fail(r, &err);
}

/* ---- Collections ---- */

/* A member that is a whole number; absent: 0. */
static int take_dim(request *r, json_t *json, size_t *dim)
{
    json_t *value = json_object_get(json, "dim");
    size_t most = r->server->options.max_dim;
    json_int_t n = json_integer_value(value);
    *dim = (size_t)n;
    if (!value || (json_is_integer(value) && n >= 1 && (uint64_t)n <= most)) return 1;
    http_problem(r, 400, "dim must be a whole number, 1 to %zu", most);
    return 0;
}

static int take_metric(request *r, json_t *json, kith_metric *metric)
{
    json_t *value = json_object_get(json, "metric");
    const char *word = value ? json_string_value(value) : "l2";
    if (word && kith_metric_parse(word, metric, NULL) == KITH_OK &&
        kith_metric_rows(*metric) == KITH_ROWS_F32)
        return 1;
    http_problem(r, 400, "metric must be l2, dot, cosine or l1");
    return 0;
}

void put_collection(request *r)
{
    size_t dim;
    kith_metric metric;
    kith_error err = {0};
    json_t *json = http_json(r);
    if (!json) return;
    if (only_members(r, json, "dim", "metric", NULL) && take_dim(r, json, &dim) &&
        take_metric(r, json, &metric)) {
        if (shelf_create(r->server->shelf, r->args[0], dim, metric, NULL, &err) == KITH_OK)
            http_reply_json(r, 201,
                            json_pack("{ss sI ss}", "name", r->args[0], "dim", (json_int_t)dim, "metric",
                                      kith_metric_name(metric)));
        else
            http_fail(r, &err);
    }
    json_decref(json);
}

void patch_collection(request *r)
{
    kith_error err = {0};
    json_t *json = http_json(r);
    if (!json) return;
    const char *name = json_string_value(json_object_get(json, "name"));
    if (!name || json_object_size(json) != 1)
        http_problem(r, 400, "the new name is needed, {\"name\":\"..\"}, and nothing else");
    else if (shelf_rename(r->server->shelf, r->args[0], name, &err) == KITH_OK)
        http_reply_nothing(r);
    else
        http_fail(r, &err);
    json_decref(json);
}

void delete_collection(request *r)
{
    kith_error err = {0};
    if (shelf_drop(r->server->shelf, r->args[0], &err) == KITH_OK)
        http_reply_nothing(r);
    else
        http_fail(r, &err);
}

/* ---- Partitions ---- */

void get_partitions(request *r)
{
    loan l;
    size_t n = 0;
    kith_partition *list = NULL;
    kith_error err = {0};
    json_t *names = json_array();
    if (!borrow_named(r, LOAN_READ, &l)) {
        json_decref(names);
        return;
    }
    kith_status status = kith_collection_partitions(l.collection, NULL, &n, &err);
    if (status == KITH_OK) {
        size_t room = n;
        list = calloc(n + 1, sizeof *list);
        status = list ? kith_collection_partitions(l.collection, list, &n, &err) : common_fail_nomem(&err);
        n = n < room ? n : room;
    }
    shelf_return(r->server->shelf, &l);
    for (size_t i = 0; status == KITH_OK && i < n; i++)
        json_array_append_new(names,
                              json_pack("{ss sI}", "name", list[i].name, "rows", (json_int_t)list[i].rows));
    free(list);
    reply_or_fail(r, status, json_pack("{so}", "partitions", names), &err);
}

static kith_status add_partition(kith_collection *c, void *ctx, kith_error *err)
{
    return kith_collection_partition_add(c, ctx, err);
}

static kith_status drop_partition(kith_collection *c, void *ctx, kith_error *err)
{
    return kith_collection_partition_drop(c, ctx, NULL, err);
}

void put_partition(request *r)
{
    change_named(r, add_partition, r->args[1]);
}

void delete_partition(request *r)
{
    change_named(r, drop_partition, r->args[1]);
}

/* ---- Fields ---- */

static kith_status fields_json(kith_collection *c, json_t *fields, json_t *vectors, kith_error *err)
{
    kith_field list[KITH_COLLECTION_MAX_FIELDS];
    kith_vector_field spaces[KITH_COLLECTION_MAX_VECTOR_FIELDS];
    size_t n = KITH_COLLECTION_MAX_FIELDS, n_spaces = KITH_COLLECTION_MAX_VECTOR_FIELDS;
    kith_status status = kith_collection_fields(c, list, &n, err);
    if (status == KITH_OK) status = kith_collection_vector_fields(c, spaces, &n_spaces, err);
    if (status != KITH_OK) return status;
    for (size_t i = 0; i < n; i++)
        json_array_append_new(
            fields, json_pack("{ss ss}", "name", list[i].name, "kind", kith_field_kind_name(list[i].kind)));
    for (size_t i = 0; i < n_spaces; i++)
        json_array_append_new(vectors, json_pack("{ss sI ss ss sI}", "name", spaces[i].name, "dim",
                                                 (json_int_t)spaces[i].dim, "metric",
                                                 kith_metric_name(spaces[i].metric), "spec", spaces[i].spec,
                                                 "vectors", (json_int_t)spaces[i].vectors));
    return KITH_OK;
}

void get_fields(request *r)
{
    loan l;
    kith_error err = {0};
    if (!borrow_named(r, LOAN_READ, &l)) return;
    json_t *fields = json_array(), *vectors = json_array();
    kith_status status = fields_json(l.collection, fields, vectors, &err);
    shelf_return(r->server->shelf, &l);
    reply_or_fail(r, status, json_pack("{so so}", "fields", fields, "vectors", vectors), &err);
}

typedef struct declaration {
    const char *name, *spec;
    kith_field_kind kind;
    size_t dim;
    kith_metric metric;
} declaration;

static kith_status add_field(kith_collection *c, void *ctx, kith_error *err)
{
    const declaration *d = ctx;
    return kith_collection_field_add(c, d->name, d->kind, err);
}

static kith_status drop_field(kith_collection *c, void *ctx, kith_error *err)
{
    return kith_collection_field_drop(c, ctx, err);
}

static kith_status add_vector_field(kith_collection *c, void *ctx, kith_error *err)
{
    const declaration *d = ctx;
    return kith_collection_vector_field_add(c, d->name, d->dim, d->metric, d->spec, err);
}

static kith_status drop_vector_field(kith_collection *c, void *ctx, kith_error *err)
{
    return kith_collection_vector_field_drop(c, ctx, err);
}

void put_field(request *r)
{
    json_t *json = http_json(r);
    if (!json) return;
    declaration d = {.name = r->args[1]};
    const char *kind = json_string_value(json_object_get(json, "kind"));
    if (!kind || kith_field_kind_parse(kind, &d.kind, NULL) != KITH_OK)
        http_problem(r, 400, "kind must be int, float, text, bool, time or geo");
    else if (only_members(r, json, "kind", NULL))
        change_named(r, add_field, &d);
    json_decref(json);
}

void delete_field(request *r)
{
    change_named(r, drop_field, r->args[1]);
}

void put_vector_field(request *r)
{
    json_t *json = http_json(r);
    if (!json) return;
    declaration d = {.name = r->args[1], .spec = json_string_value(json_object_get(json, "spec"))};
    json_t *spec = json_object_get(json, "spec");
    if (spec && !json_is_string(spec))
        http_problem(r, 400, "spec must be a text");
    else if (only_members(r, json, "dim", "metric", "spec", NULL) && take_dim(r, json, &d.dim) &&
             take_metric(r, json, &d.metric))
        change_named(r, add_vector_field, &d);
    json_decref(json);
}

void delete_vector_field(request *r)
{
    change_named(r, drop_vector_field, r->args[1]);
}
