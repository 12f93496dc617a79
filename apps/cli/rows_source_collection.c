/* rows_source_collection.c - a collection as a source, with all that its rows have, and as a sink. */
#include "rows_source.h"

#include <stdlib.h>
#include <string.h>

typedef struct collection_source {
    rows_source base;
    const rows_reading *reading;
    kith_collection *collection;
    int64_t key; /* of the row read last */
} collection_source;

static kith_status take_rest(collection_source *s, rows_item *item, kith_error *err)
{
    const rows_shape *shape = &s->base.shape;
    int64_t key = item->row.key;
    kith_status status = kith_collection_text_of(s->collection, key, &item->text, err);
    if (status == KITH_OK && shape->n_partitions > 0)
        status = kith_collection_get_partition(s->collection, key, &item->partition, err);
    if (status == KITH_OK) status = kith_collection_get_expiry(s->collection, key, &item->expires, err);
    return status;
}

/* The vectors in vector fields: each call ends the one before, so they are copied. */
static kith_status take_vectors(collection_source *s, rows_item *item, kith_error *err)
{
    for (size_t i = 0; i < s->base.shape.n_vectors; i++) {
        const char *field = s->base.shape.vectors[i].name;
        const float *x = NULL;
        size_t dim = 0;
        kith_status status = kith_collection_get_vector(s->collection, item->row.key, field, &x, &dim, err);
        if (status != KITH_OK) return status;
        if (!x) continue;
        float *copy = malloc(dim * sizeof *copy);
        if (!copy) {
            *err = (kith_error){.code = KITH_NOMEM, .message = "out of memory"};
            return KITH_NOMEM;
        }
        memcpy(copy, x, dim * sizeof *copy);
        item->vectors[item->n_vectors++] = (rows_vector){field, copy, dim};
    }
    return KITH_OK;
}

typedef struct held {
    collection_source source;
    float *copies[KITH_COLLECTION_MAX_VECTOR_FIELDS];
    size_t n;
} held;

static void let_go(held *h)
{
    for (size_t i = 0; i < h->n; i++) free(h->copies[i]);
    h->n = 0;
}

static int next(cli_context *cli, rows_source *base, rows_item *item, int *end)
{
    held *h = (held *)base;
    collection_source *s = &h->source;
    const char *filter = s->reading->filter;
    kith_error err;
    let_go(h);
    *item = (rows_item){.parts = KITH_ROW_ALL};
    kith_status status =
        filter ? kith_collection_next_where(s->collection, filter, s->key, KITH_ROW_ALL, &item->row, &err)
               : kith_collection_next(s->collection, s->key, KITH_ROW_ALL, &item->row, &err);
    *end = status == KITH_OK && item->row.key == 0;
    if (status == KITH_OK && !*end) status = take_rest(s, item, &err);
    if (status == KITH_OK && !*end) {
        status = take_vectors(s, item, &err);
        for (size_t i = 0; i < item->n_vectors; i++)
            h->copies[h->n++] = (float *)(uintptr_t)item->vectors[i].x;
    }
    if (status != KITH_OK) return cli_fail_message(cli, base->rows_path, &err);
    if (!*end) s->key = item->row.key;
    return CLI_OK;
}

static uint64_t place(rows_source *base)
{
    return (uint64_t)((collection_source *)base)->key;
}

static int seek(cli_context *cli, rows_source *base, uint64_t rows, uint64_t key)
{
    (void)cli;
    (void)rows;
    ((collection_source *)base)->key = (int64_t)key;
    return CLI_OK;
}

static void close_source(rows_source *base)
{
    let_go((held *)base);
    kith_collection_close(((collection_source *)base)->collection);
    free(base);
}

static int open_collection(cli_context *cli, collection_source *s)
{
    kith_error err;
    uint64_t rows = 0, version = 0;
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.read_only = 1;
    kith_status status = kith_collection_open(s->reading->path, &options, &s->collection, &err);
    if (status == KITH_OK) status = kith_collection_pin(s->collection, &err);
    if (status == KITH_OK)
        status = s->reading->filter
                     ? kith_collection_count_where(s->collection, s->reading->filter, &rows, &err)
                     : kith_collection_count(s->collection, &rows, NULL, &err);
    if (status == KITH_OK) status = kith_collection_version(s->collection, &version, &err);
    if (status != KITH_OK) return cli_fail_message(cli, s->reading->path, &err);
    s->base.total = rows;
    snprintf(s->base.state, sizeof s->base.state, "version %llu", (unsigned long long)version);
    return rows_shape_read(cli, s->reading->path, s->collection, &s->base.shape);
}

int rows_open_collection(cli_context *cli, const rows_reading *reading, rows_source **source)
{
    held *h = calloc(1, sizeof *h);
    if (!h) return cli_fail(cli, NULL, "out of memory");
    rows_source *base = &h->source.base;
    base->next = next;
    base->place = place;
    base->seek = seek;
    base->close = close_source;
    base->rows_path = reading->path;
    base->whole = 1;
    h->source.reading = reading;
    int status = open_collection(cli, &h->source);
    if (status == CLI_OK) {
        *source = base;
        return CLI_OK;
    }
    rows_shape_clear(&base->shape);
    close_source(base);
    return status;
}

/* ---- Into a collection ---- */

static int has_field(const rows_target *t, const char *name)
{
    for (size_t i = 0; i < t->n_fields; i++)
        if (strcmp(t->fields[i].name, name) == 0) return 1;
    return 0;
}

static kith_status list_fields(rows_target *t, kith_error *err)
{
    t->n_fields = KITH_COLLECTION_MAX_VECTOR_FIELDS;
    t->listed = 1;
    return kith_collection_vector_fields(t->collection, t->fields, &t->n_fields, err);
}

/* Make a vector field as the source has it, or like the vectors of the rows. */
static kith_status need_field(rows_target *t, const char *name, size_t dim, kith_error *err)
{
    kith_metric metric = kith_collection_metric(t->collection);
    const char *spec = NULL;
    kith_status status = t->listed ? KITH_OK : list_fields(t, err);
    if (status != KITH_OK || has_field(t, name)) return status;
    for (size_t i = 0; i < t->shape->n_vectors; i++)
        if (strcmp(t->shape->vectors[i].name, name) == 0) {
            metric = t->shape->vectors[i].metric;
            spec = t->shape->vectors[i].spec;
        }
    status = kith_collection_vector_field_add(t->collection, name, dim, metric, spec, err);
    return status == KITH_OK ? list_fields(t, err) : status;
}

static kith_status need_partition(rows_target *t, const char *name, kith_error *err)
{
    if (strcmp(t->known, name) == 0) return KITH_OK;
    kith_status status = kith_collection_partition_add(t->collection, name, err);
    if (status != KITH_OK && status != KITH_EXISTS) return status;
    snprintf(t->known, sizeof t->known, "%s", name);
    return KITH_OK;
}

kith_status rows_declare(rows_target *t, kith_error *err)
{
    const rows_shape *shape = t->shape;
    kith_status status = t->partition ? need_partition(t, t->partition, err) : KITH_OK;
    t->listed = 0;
    for (size_t i = 0; i < shape->n_vectors && status == KITH_OK; i++)
        status = need_field(t, shape->vectors[i].name, shape->vectors[i].dim, err);
    for (size_t i = 0; i < shape->n_partitions && !t->partition && status == KITH_OK; i++)
        status = need_partition(t, shape->partitions[i].name, err);
    return status;
}

kith_status rows_declare_fields(rows_target *t, kith_error *err)
{
    for (size_t i = 0; i < t->shape->n_fields; i++) {
        const kith_field *f = &t->shape->fields[i];
        kith_status status = kith_collection_field_add(t->collection, f->name, f->kind, err);
        if (status != KITH_OK && status != KITH_EXISTS) return status;
    }
    return KITH_OK;
}

/* The row itself: by its text, where one has it, else by its key, else a new one. *replaced: it was there. */
static kith_status put_row(rows_target *t, const rows_item *item, int64_t *key, int *replaced,
                           kith_error *err)
{
    kith_row row = item->row, there;
    *replaced = 0;
    if (item->text) {
        kith_status status = kith_collection_key_of(t->collection, item->text, &row.key, err);
        if (status != KITH_OK && status != KITH_NOTFOUND) return status;
        *replaced = status == KITH_OK;
        /* Another row has this key already: the text gets a number of its own. */
        if (!*replaced && row.key && kith_collection_get(t->collection, row.key, 0, &there, NULL) == KITH_OK)
            row.key = 0;
        return kith_collection_put_text(t->collection, item->text, item->parts, &row, key, err);
    }
    if (t->whole && row.key)
        *replaced = kith_collection_get(t->collection, row.key, 0, &there, NULL) == KITH_OK;
    return kith_collection_put(t->collection, item->parts, &row, key, err);
}

static kith_status put_vectors(rows_target *t, const rows_item *item, int64_t key, int replaced,
                               kith_error *err)
{
    kith_status status = replaced && !t->listed ? list_fields(t, err) : KITH_OK;
    for (size_t i = 0; i < t->n_fields && replaced && status == KITH_OK; i++)
        status = kith_collection_put_vector(t->collection, key, t->fields[i].name, NULL, 0, err);
    for (size_t i = 0; i < item->n_vectors && status == KITH_OK; i++) {
        const rows_vector *v = &item->vectors[i];
        status = need_field(t, v->field, v->dim, err);
        if (status == KITH_OK)
            status = kith_collection_put_vector(t->collection, key, v->field, v->x, v->dim, err);
    }
    return status;
}

kith_status rows_put(rows_target *t, const rows_item *item, kith_error *err)
{
    int64_t key = 0;
    int replaced = 0;
    kith_status status = put_row(t, item, &key, &replaced, err);
    if (status != KITH_OK) return status;
    const char *partition = t->partition ? t->partition : item->partition;
    int anew = t->whole && replaced;
    if (partition) status = need_partition(t, partition, err);
    if (status == KITH_OK && (partition || anew))
        status = kith_collection_set_partition(t->collection, key, partition, err);
    if (status == KITH_OK && (item->expires || anew))
        status = kith_collection_set_expiry(t->collection, key, item->expires, err);
    return status == KITH_OK ? put_vectors(t, item, key, anew, err) : status;
}

/* ---- A collection as a sink ---- */

/* Rows that become durable together. */
enum { BATCH_ROWS = 10000 };

typedef struct collection_sink {
    rows_sink base;
    const rows_writing *writing;
    kith_collection *collection;
    rows_target target;
} collection_sink;

static int fail(cli_context *cli, const collection_sink *s, const kith_error *err)
{
    return cli_fail_message(cli, s->writing->path, err);
}

static int put(cli_context *cli, rows_sink *base, const rows_item *item)
{
    collection_sink *s = (collection_sink *)base;
    kith_error err;
    kith_status status = KITH_OK;
    if (base->rows % BATCH_ROWS == 0) {
        if (base->rows > 0) status = kith_collection_commit(s->collection, &err);
        if (status == KITH_OK) status = kith_collection_begin(s->collection, &err);
    }
    if (status == KITH_OK) status = rows_put(&s->target, item, &err);
    base->rows += status == KITH_OK;
    return status == KITH_OK ? CLI_OK : fail(cli, s, &err);
}

static int finish(cli_context *cli, rows_sink *base)
{
    collection_sink *s = (collection_sink *)base;
    kith_error err;
    kith_status status = base->rows > 0 ? KITH_OK : kith_collection_begin(s->collection, &err);
    if (status == KITH_OK) status = rows_declare_fields(&s->target, &err);
    if (status == KITH_OK) status = kith_collection_commit(s->collection, &err);
    return status == KITH_OK ? CLI_OK : fail(cli, s, &err);
}

static void close_sink(rows_sink *base)
{
    kith_collection_close(((collection_sink *)base)->collection);
    free(base);
}

/* A new collection, or one that is there: rows with the same keys are replaced. */
static kith_status open_target(collection_sink *s, kith_error *err)
{
    const rows_writing *w = s->writing;
    kith_status status = kith_collection_open(w->path, NULL, &s->collection, err);
    if (status == KITH_NOTFOUND)
        status = kith_collection_create(w->path, w->shape->dim, w->shape->metric, NULL, &s->collection, err);
    if (status != KITH_OK) return status;
    s->target = (rows_target){.collection = s->collection, .shape = w->shape, .whole = 1};
    status = kith_collection_begin(s->collection, err);
    if (status == KITH_OK) status = rows_declare(&s->target, err);
    return status == KITH_OK ? kith_collection_commit(s->collection, err) : status;
}

int rows_write_collection(cli_context *cli, const rows_writing *writing, rows_sink **sink)
{
    kith_error err;
    collection_sink *s = calloc(1, sizeof *s);
    if (!s) return cli_fail(cli, NULL, "out of memory");
    s->base.put = put;
    s->base.finish = finish;
    s->base.close = close_sink;
    s->writing = writing;
    if (open_target(s, &err) == KITH_OK) {
        *sink = &s->base;
        return CLI_OK;
    }
    int status = fail(cli, s, &err);
    close_sink(&s->base);
    return status;
}
