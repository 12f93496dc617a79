/* handlers_write.c - rows put and deleted. Each request is one batch: it is done wholly or not at all. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../common/fail.h"
#include "../common/row_request.h"
#include "handlers.h"

/* Why row i of a request was refused. */
static kith_status name_row(kith_status status, size_t i, kith_error *err)
{
    kith_error copy = *err;
    snprintf(err->message, sizeof err->message, "row %zu: %.450s", i, copy.message);
    return status;
}

/* ---- Putting ---- */

typedef struct putting {
    json_t *rows; /* an array */
    row_mode mode;
    text keys; /* of the rows, as JSON */
} putting;

static kith_status put_all(kith_collection *c, void *ctx, kith_error *err)
{
    putting *p = ctx;
    size_t i;
    json_t *row;
    row_scratch scratch = {0};
    p->keys.size = 0; /* it may be called again */
    text_put(&p->keys, "{\"keys\":[");
    kith_status status = KITH_OK;
    json_array_foreach(p->rows, i, row)
    {
        int64_t key;
        status = row_request_put(c, row, p->mode, &scratch, &key, err);
        if (status != KITH_OK) {
            status = name_row(status, i, err);
            break;
        }
        if (i > 0) text_put(&p->keys, ",");
        text_int(&p->keys, key);
    }
    row_scratch_clear(&scratch);
    return status;
}

/* Put the rows and answer with their keys and the version that has them. */
static void put_and_reply(request *r, putting *p)
{
    uint64_t version = 0;
    kith_error err = {0};
    if (shelf_write(r->server->shelf, r->args[0], put_all, p, &version, &err) == KITH_OK) {
        text_put(&p->keys, "],\"version\":");
        text_int(&p->keys, (int64_t)version);
        text_put(&p->keys, "}");
        http_reply_text(r, 200, &p->keys);
        return;
    }
    text_clear(&p->keys);
    http_fail(r, &err);
}

static int check_batch(request *r, const json_t *list, const char *name)
{
    size_t n = json_array_size(list), most = r->server->options.max_batch;
    if (json_is_array(list) && n >= 1 && n <= most) return 1;
    http_problem(r, 400, "%s must be an array of 1 to %zu", name, most);
    return 0;
}

void post_rows(request *r)
{
    kith_error err = {0};
    json_t *json = http_json(r);
    if (!json) return;
    putting p = {.rows = json_object_get(json, "rows")};
    json_t *mode = json_object_get(json, "mode");
    if (mode && (!json_is_string(mode) || row_mode_parse(json_string_value(mode), &p.mode, &err) != KITH_OK))
        http_problem(r, 400, "mode is upsert, insert or update");
    else if (only_members(r, json, "rows", "mode", NULL) && check_batch(r, p.rows, "rows"))
        put_and_reply(r, &p);
    json_decref(json);
}

/* One row changed in part: its key or text stands in the path. */
void patch_row(request *r)
{
    json_t *json = http_json(r);
    if (!json) return;
    const char *name = r->args[1];
    putting p = {.rows = json_array(), .mode = ROW_UPDATE};
    json_t *key = name[0] == '=' ? json_string(name + 1) : NULL;
    if (name[0] != '=') {
        int64_t number = named_key(r, NULL);
        if (number) key = json_integer((json_int_t)number);
    } else if (!key) {
        http_problem(r, 404, "there is no row of this text");
    }
    if (key && (json_object_get(json, "key") || json_object_get(json, "text"))) {
        http_problem(r, 400, "the path says which row it is");
        json_decref(key);
    } else if (key) {
        json_object_set_new(json, name[0] == '=' ? "text" : "key", key);
        json_array_append(p.rows, json);
        put_and_reply(r, &p);
    }
    json_decref(p.rows);
    json_decref(json);
}

/* ---- Deleting ---- */

typedef struct deleting {
    json_t *keys;       /* an array; NULL: by filter */
    const char *filter; /* or all rows that it lets through */
    uint64_t rows;      /* that were deleted */
} deleting;

static kith_status delete_all(kith_collection *c, void *ctx, kith_error *err)
{
    deleting *d = ctx;
    size_t i;
    json_t *item;
    d->rows = 0; /* it may be called again */
    if (!d->keys) return kith_collection_delete_where(c, d->filter, &d->rows, err);
    json_array_foreach(d->keys, i, item)
    {
        int64_t key;
        kith_status status = row_key_of(c, item, &key, err);
        if (status == KITH_OK) status = kith_collection_delete(c, key, err);
        if (status == KITH_OK) d->rows++;
        if (status != KITH_OK && status != KITH_NOTFOUND) return status;
    }
    return KITH_OK;
}

static void delete_and_reply(request *r, deleting *d)
{
    uint64_t version = 0;
    kith_error err = {0};
    kith_status status = shelf_write(r->server->shelf, r->args[0], delete_all, d, &version, &err);
    reply_or_fail(r, status,
                  json_pack("{sI sI}", "deleted", (json_int_t)d->rows, "version", (json_int_t)version), &err);
}

void post_rows_delete(request *r)
{
    json_t *json = http_json(r);
    if (!json) return;
    deleting d = {.keys = json_object_get(json, "keys"),
                  .filter = json_string_value(json_object_get(json, "filter"))};
    if (!d.keys == !d.filter || json_object_size(json) != 1)
        http_problem(r, 400, "either keys or filter is needed");
    else if (!d.keys || check_batch(r, d.keys, "keys"))
        delete_and_reply(r, &d);
    json_decref(json);
}

typedef struct named_row {
    const char *text; /* NULL: known by its key */
    int64_t key;
} named_row;

static kith_status delete_one(kith_collection *c, void *ctx, kith_error *err)
{
    const named_row *row = ctx;
    int64_t key = row->key;
    kith_status status = row->text ? kith_collection_key_of(c, row->text, &key, err) : KITH_OK;
    return status == KITH_OK ? kith_collection_delete(c, key, err) : status;
}

void delete_row(request *r)
{
    kith_error err = {0};
    named_row row = {.text = r->args[1][0] == '=' ? r->args[1] + 1 : NULL};
    if (!row.text) row.key = named_key(r, NULL);
    if (!row.text && !row.key) return;
    if (shelf_write(r->server->shelf, r->args[0], delete_one, &row, NULL, &err) == KITH_OK)
        http_reply_nothing(r);
    else
        http_fail(r, &err);
}
