/* rows_source_lines.c - rows as JSON, one a line, with all that they have: the form that loses nothing.
 *
 *     {"collection":{"dim":2,"metric":"l2","vector_fields":[..],"fields":[..],"partitions":[..]}}
 *     {"key":1,"text":"a","partition":"new","expires":1700000000,"payload":{..},"vector":[0.5,1],"vectors":{"title":[..]}}
 *
 * The first line may be missing, and so may every member of the others. */
#include "rows_source.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct numbers {
    float *x;
    size_t n, room;
} numbers;

typedef struct lines_source {
    rows_source base;
    const char *path;
    FILE *file;
    uint64_t bytes, line;
    char *text; /* of getline */
    size_t room;
    json_t *root;  /* of the row at hand */
    char *payload; /* of it, as text */
    numbers vector, vectors[KITH_COLLECTION_MAX_VECTOR_FIELDS];
} lines_source;

static int fail(cli_context *cli, const lines_source *s, const char *why)
{
    return cli_fail(cli, s->path, "line %" PRIu64 ": %s", s->line, why);
}

/* The object of the next line that is not empty; *root NULL: there is none. */
static int read_line(cli_context *cli, lines_source *s, json_t **root)
{
    json_error_t fault;
    ssize_t size;
    *root = NULL;
    do {
        errno = 0;
        size = getline(&s->text, &s->room, s->file);
        if (size < 0 && errno) return cli_fail(cli, s->path, "%s", strerror(errno));
        if (size < 0) return CLI_OK;
        s->bytes += (uint64_t)size;
        s->line++;
    } while (strspn(s->text, " \t\r\n") == (size_t)size);
    *root = json_loadb(s->text, (size_t)size, JSON_REJECT_DUPLICATES, &fault);
    if (json_is_object(*root)) return CLI_OK;
    int status = fail(cli, s, *root ? "not an object" : fault.text);
    json_decref(*root);
    *root = NULL;
    return status;
}

/* ---- A row ---- */

static int take_vectors(cli_context *cli, lines_source *s, rows_item *item, const json_t *vectors)
{
    const char *name;
    json_t *array;
    if (vectors && !json_is_object(vectors)) return fail(cli, s, "vectors must be an object");
    json_object_foreach((json_t *)(uintptr_t)vectors, name, array)
    {
        if (item->n_vectors == KITH_COLLECTION_MAX_VECTOR_FIELDS) return fail(cli, s, "too many vectors");
        numbers *v = &s->vectors[item->n_vectors];
        v->n = 0;
        if (rows_json_numbers(array, &v->x, &v->n, &v->room) != 0)
            return fail(cli, s, "each of vectors must be an array of numbers");
        item->vectors[item->n_vectors++] = (rows_vector){name, v->x, v->n};
    }
    return CLI_OK;
}

static int take_payload(cli_context *cli, lines_source *s, rows_item *item, const json_t *payload)
{
    if (!payload) return CLI_OK;
    if (!json_is_object(payload)) return fail(cli, s, "payload must be an object");
    s->payload = json_dumps(payload, JSON_COMPACT | JSON_REAL_PRECISION(17));
    if (!s->payload) return cli_fail(cli, NULL, "out of memory");
    item->row.payload = s->payload;
    item->row.payload_size = strlen(s->payload);
    return CLI_OK;
}

static int take_vector(cli_context *cli, lines_source *s, rows_item *item, const json_t *vector)
{
    numbers *v = &s->vector;
    if (!vector || json_is_null(vector)) return CLI_OK;
    v->n = 0;
    if (rows_json_numbers(vector, &v->x, &v->n, &v->room) != 0 || v->n == 0)
        return fail(cli, s, "vector must be an array of numbers");
    item->row.vector = v->x;
    item->row.dim = v->n;
    return CLI_OK;
}

static int take_member(cli_context *cli, lines_source *s, rows_item *item, const char *name,
                       const json_t *value)
{
    if (strcmp(name, "key") == 0) {
        item->row.key = (int64_t)json_integer_value(value);
        return json_is_integer(value) && item->row.key >= 1
                   ? CLI_OK
                   : fail(cli, s, "key must be a whole number from 1 on");
    }
    if (strcmp(name, "text") == 0) {
        item->text = json_string_value(value);
        return item->text ? CLI_OK : fail(cli, s, "text must be a string");
    }
    if (strcmp(name, "partition") == 0) {
        item->partition = json_string_value(value);
        return item->partition ? CLI_OK : fail(cli, s, "partition must be a string");
    }
    if (strcmp(name, "expires") == 0) {
        item->expires = (int64_t)json_integer_value(value);
        return json_is_integer(value) ? CLI_OK
                                      : fail(cli, s, "expires must be a whole number, seconds since 1970");
    }
    if (strcmp(name, "payload") == 0) return take_payload(cli, s, item, value);
    if (strcmp(name, "vector") == 0) return take_vector(cli, s, item, value);
    if (strcmp(name, "vectors") == 0) return take_vectors(cli, s, item, value);
    return cli_fail(cli, s->path,
                    "line %" PRIu64 ": a row has no member '%.80s'; those of the payload stand in payload",
                    s->line, name);
}

static void let_go(lines_source *s)
{
    json_decref(s->root);
    free(s->payload);
    s->root = NULL;
    s->payload = NULL;
}

static int next(cli_context *cli, rows_source *base, rows_item *item, int *end)
{
    lines_source *s = (lines_source *)base;
    const char *name;
    json_t *value;
    let_go(s);
    *item = (rows_item){.parts = KITH_ROW_PAYLOAD | KITH_ROW_VECTOR};
    int status = read_line(cli, s, &s->root);
    if (s->line == 1 && json_object_get(s->root, "collection")) { /* that was read when the file was opened */
        json_decref(s->root);
        status = read_line(cli, s, &s->root);
    }
    *end = status == CLI_OK && !s->root;
    base->line = s->line;
    json_object_foreach(s->root, name, value)
    {
        if (status == CLI_OK) status = take_member(cli, s, item, name, value);
    }
    return status;
}

static uint64_t place(rows_source *base)
{
    return ((lines_source *)base)->bytes;
}

static int seek(cli_context *cli, rows_source *base, uint64_t rows, uint64_t bytes)
{
    lines_source *s = (lines_source *)base;
    s->bytes = bytes;
    s->line = bytes ? rows + 1 : 0; /* as far as messages go */
    if (fseeko(s->file, (off_t)bytes, SEEK_SET) != 0) return cli_fail(cli, s->path, "%s", strerror(errno));
    return CLI_OK;
}

static void close_source(rows_source *base)
{
    lines_source *s = (lines_source *)base;
    let_go(s);
    if (s->file) fclose(s->file);
    free(s->text);
    free(s->vector.x);
    for (size_t i = 0; i < KITH_COLLECTION_MAX_VECTOR_FIELDS; i++) free(s->vectors[i].x);
    free(s);
}

/* ---- The first line ---- */

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

static int take_fields(rows_shape *shape, const json_t *fields, const json_t *vectors)
{
    size_t i;
    json_t *f;
    json_array_foreach(fields, i, f)
    {
        if (i == KITH_COLLECTION_MAX_FIELDS) return -1;
        kith_field *to = &shape->fields[shape->n_fields++];
        snprintf(to->name, sizeof to->name, "%s", text_of(f, "name"));
        if (kith_field_kind_parse(text_of(f, "kind"), &to->kind, NULL) != KITH_OK) return -1;
    }
    json_array_foreach(vectors, i, f)
    {
        if (i == KITH_COLLECTION_MAX_VECTOR_FIELDS) return -1;
        kith_vector_field *to = &shape->vectors[shape->n_vectors++];
        to->dim = (size_t)json_integer_value(json_object_get(f, "dim"));
        snprintf(to->name, sizeof to->name, "%s", text_of(f, "name"));
        snprintf(to->spec, sizeof to->spec, "%s", text_of(f, "spec"));
        if (kith_metric_parse(text_of(f, "metric"), &to->metric, NULL) != KITH_OK) return -1;
    }
    return 0;
}

static int take_shape(rows_shape *shape, const json_t *head)
{
    size_t i;
    json_t *name, *dim = json_object_get(head, "dim"), *list = json_object_get(head, "partitions");
    if (!json_is_object(head) || (dim && !(json_is_integer(dim) && json_integer_value(dim) >= 0))) return -1;
    shape->dim = (size_t)json_integer_value(dim);
    shape->has_metric = json_object_get(head, "metric") != NULL;
    if (shape->has_metric && kith_metric_parse(text_of(head, "metric"), &shape->metric, NULL) != KITH_OK)
        return -1;
    shape->partitions = calloc(json_array_size(list) + 1, sizeof *shape->partitions);
    if (!shape->partitions) return -1;
    json_array_foreach(list, i, name)
    {
        kith_partition *p = &shape->partitions[shape->n_partitions++];
        snprintf(p->name, sizeof p->name, "%s", json_is_string(name) ? json_string_value(name) : "");
    }
    return take_fields(shape, json_object_get(head, "fields"), json_object_get(head, "vector_fields"));
}

/* What the first line says, or else the first vector. */
static int learn(cli_context *cli, lines_source *s)
{
    int end = 0;
    rows_item item;
    int status = read_line(cli, s, &s->root);
    json_t *head = json_object_get(s->root, "collection");
    if (status == CLI_OK && head && take_shape(&s->base.shape, head) != 0)
        status = fail(cli, s, "what stands in collection is no shape of one");
    if (status == CLI_OK) status = seek(cli, &s->base, 0, 0);
    while (status == CLI_OK && !head && !end && s->base.shape.dim == 0) {
        status = next(cli, &s->base, &item, &end);
        s->base.shape.dim = status == CLI_OK ? item.row.dim : 0;
    }
    return status == CLI_OK ? seek(cli, &s->base, 0, 0) : status;
}

int rows_open_lines(cli_context *cli, const rows_reading *reading, rows_source **source)
{
    lines_source *s = calloc(1, sizeof *s);
    if (!s) return cli_fail(cli, NULL, "out of memory");
    s->base.next = next;
    s->base.place = place;
    s->base.seek = seek;
    s->base.close = close_source;
    s->base.rows_path = s->path = reading->path;
    s->base.whole = 1;
    s->file = fopen(s->path, "r");
    int status = s->file ? learn(cli, s) : cli_fail(cli, s->path, "%s", strerror(errno));
    if (status == CLI_OK) {
        *source = &s->base;
        return CLI_OK;
    }
    rows_shape_clear(&s->base.shape);
    close_source(&s->base);
    return status;
}

/* ---- Writing ---- */

typedef struct lines_sink {
    rows_sink base;
    rows_file file;
} lines_sink;

static int fail_write(cli_context *cli, const lines_sink *s)
{
    return cli_fail(cli, s->file.path, "%s", strerror(errno));
}

/* An object, and behind its members the payload of a row as the collection keeps it: that text has every digit, and vectors
 * need no more than nine. */
static int write_line(cli_context *cli, lines_sink *s, json_t *object, const kith_row *row)
{
    FILE *f = s->file.file;
    char *text = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(object);
    if (!text) return cli_fail(cli, NULL, "out of memory");
    size_t size = strlen(text);
    int failed = fwrite(text, 1, row ? size - 1 : size, f) < size - (row != NULL);
    if (row)
        failed |= fputs(",\"payload\":", f) < 0 ||
                  fwrite(row->payload, 1, row->payload_size, f) < row->payload_size || fputc('}', f) < 0;
    failed |= fputc('\n', f) < 0;
    free(text);
    return failed ? fail_write(cli, s) : CLI_OK;
}

static json_t *shape_json(const rows_shape *shape)
{
    json_t *vectors = json_array(), *fields = json_array(), *partitions = json_array();
    for (size_t i = 0; i < shape->n_vectors; i++) {
        const kith_vector_field *f = &shape->vectors[i];
        json_array_append_new(vectors, json_pack("{ss sI ss ss}", "name", f->name, "dim", (json_int_t)f->dim,
                                                 "metric", kith_metric_name(f->metric), "spec", f->spec));
    }
    for (size_t i = 0; i < shape->n_fields; i++)
        json_array_append_new(fields, json_pack("{ss ss}", "name", shape->fields[i].name, "kind",
                                                kith_field_kind_name(shape->fields[i].kind)));
    for (size_t i = 0; i < shape->n_partitions; i++)
        json_array_append_new(partitions, json_string(shape->partitions[i].name));
    return json_pack("{s{sI ss so so so}}", "collection", "dim", (json_int_t)shape->dim, "metric",
                     kith_metric_name(shape->metric), "vector_fields", vectors, "fields", fields,
                     "partitions", partitions);
}

static json_t *item_json(const rows_item *item)
{
    json_t *vectors = item->n_vectors ? json_object() : NULL;
    for (size_t i = 0; i < item->n_vectors; i++)
        json_object_set_new(vectors, item->vectors[i].field,
                            rows_vector_json(item->vectors[i].x, item->vectors[i].dim));
    return json_pack(
        "{sI ss* ss* so* so* so*}", "key", (json_int_t)item->row.key, "text", item->text, "partition",
        item->partition, "expires", item->expires ? json_integer((json_int_t)item->expires) : NULL, "vector",
        item->row.vector ? rows_vector_json(item->row.vector, item->row.dim) : NULL, "vectors", vectors);
}

static int put(cli_context *cli, rows_sink *base, const rows_item *item)
{
    base->rows++;
    return write_line(cli, (lines_sink *)base, item_json(item), &item->row);
}

static int finish(cli_context *cli, rows_sink *base)
{
    return rows_file_finish(cli, &((lines_sink *)base)->file);
}

static void close_sink(rows_sink *base)
{
    rows_file_close(&((lines_sink *)base)->file);
    free(base);
}

int rows_write_lines(cli_context *cli, const rows_writing *writing, rows_sink **sink)
{
    lines_sink *s = calloc(1, sizeof *s);
    if (!s) return cli_fail(cli, NULL, "out of memory");
    s->base.put = put;
    s->base.finish = finish;
    s->base.close = close_sink;
    int status = rows_file_open(cli, writing->path, &s->file);
    if (status == CLI_OK) status = write_line(cli, s, shape_json(writing->shape), NULL);
    if (status == CLI_OK)
        *sink = &s->base;
    else
        close_sink(&s->base);
    return status;
}
