/* rows_source.c - which source or sink a path stands for, and what they share. */
#include "rows_source.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

bool rows_ends_in(const char *path, const char *ending)
{
    size_t size = strlen(path), n = strlen(ending);
    return size > n && strcasecmp(path + size - n, ending) == 0;
}

static bool is_lines(const char *path)
{
    return rows_ends_in(path, ".jsonl") || rows_ends_in(path, ".ndjson");
}

int rows_source_open(cli_context *cli, const rows_reading *reading, rows_source **source)
{
    const char *path = reading->path;
    bool collection = rows_ends_in(path, ".kith"), table = rows_is_table(path), lines = is_lines(path);
    *source = NULL;
    if ((collection || table || lines) && (reading->payload || reading->also.n > 0))
        return cli_usage(cli, "--payload, --also", "are for vector files: %s has it all", path);
    if (!table && reading->as.n > 0)
        return cli_usage(cli, "--as", "is for tables, .csv and .tsv with a line of names");
    if ((collection || lines) && (reading->key || reading->text))
        return cli_usage(cli, "--key, --text-key", "are for payloads and tables: %s has its keys", path);
    if (!collection && reading->filter) return cli_usage(cli, "--filter", "is for rows of a collection");
    if (collection) return rows_open_collection(cli, reading, source);
    if (table) return rows_open_table(cli, reading, source);
    if (lines) return rows_open_lines(cli, reading, source);
    return rows_open_vectors(cli, reading, source);
}

void rows_source_close(rows_source *source)
{
    if (!source) return;
    rows_shape_clear(&source->shape);
    source->close(source);
}

int rows_sink_open(cli_context *cli, const rows_writing *writing, rows_sink **sink)
{
    const char *path = writing->path;
    bool collection = rows_ends_in(path, ".kith"), lines = is_lines(path),
         table = rows_ends_in(path, ".csv") || rows_ends_in(path, ".tsv");
    *sink = NULL;
    if ((collection || table || lines) && (writing->payload || writing->also.n > 0 || writing->key))
        return cli_usage(cli, "--payload, --key, --also", "are for vector files: %s has it all", path);
    if (!table && writing->columns.n > 0) return cli_usage(cli, "--column", "is for tables, .csv and .tsv");
    if (collection) return rows_write_collection(cli, writing, sink);
    if (table) return rows_write_table(cli, writing, sink);
    if (lines) return rows_write_lines(cli, writing, sink);
    return rows_write_vectors(cli, writing, sink);
}

void rows_sink_close(rows_sink *sink)
{
    if (sink) sink->close(sink);
}

/* ---- Shapes ---- */

void rows_shape_clear(rows_shape *shape)
{
    free(shape->partitions);
    *shape = (rows_shape){0};
}

static kith_status read_shape(kith_collection *c, rows_shape *shape, kith_error *err)
{
    size_t n = 0;
    shape->dim = kith_collection_dim(c);
    shape->metric = kith_collection_metric(c);
    shape->has_metric = 1;
    shape->n_vectors = KITH_COLLECTION_MAX_VECTOR_FIELDS;
    kith_status status = kith_collection_vector_fields(c, shape->vectors, &shape->n_vectors, err);
    shape->n_fields = KITH_COLLECTION_MAX_FIELDS;
    if (status == KITH_OK) status = kith_collection_fields(c, shape->fields, &shape->n_fields, err);
    if (status == KITH_OK) status = kith_collection_partitions(c, NULL, &n, err);
    if (status != KITH_OK || n == 0) return status;
    shape->partitions = calloc(n, sizeof *shape->partitions);
    if (!shape->partitions) {
        *err = (kith_error){.code = KITH_NOMEM, .message = "out of memory"};
        return KITH_NOMEM;
    }
    size_t room = n;
    status = kith_collection_partitions(c, shape->partitions, &n, err);
    shape->n_partitions = n < room ? n : room;
    return status;
}

int rows_shape_read(cli_context *cli, const char *path, kith_collection *collection, rows_shape *shape)
{
    kith_error err;
    *shape = (rows_shape){0};
    return read_shape(collection, shape, &err) == KITH_OK ? CLI_OK : cli_fail_message(cli, path, &err);
}

/* ---- Files that are written ---- */

int rows_file_open(cli_context *cli, const char *path, rows_file *f)
{
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode))
        return cli_fail(cli, path, "is a device or a pipe, not a file"); /* and would be replaced by one */
    *f = (rows_file){.path = path, .part = malloc(strlen(path) + sizeof ".part")};
    if (!f->part) return cli_fail(cli, NULL, "out of memory");
    sprintf(f->part, "%s.part", path);
    f->file = fopen(f->part, "w");
    return f->file ? CLI_OK : cli_fail(cli, f->part, "%s", strerror(errno));
}

int rows_file_finish(cli_context *cli, rows_file *f)
{
    errno = 0;
    int failed = fflush(f->file) != 0 || ferror(f->file);
    failed |= fclose(f->file) != 0;
    f->file = NULL;
    if (failed || rename(f->part, f->path) != 0)
        return cli_fail(cli, f->path, "%s", errno ? strerror(errno) : "could not be written");
    free(f->part);
    f->part = NULL;
    return CLI_OK;
}

void rows_file_close(rows_file *f)
{
    if (f->file) fclose(f->file);
    if (f->part) (void)unlink(f->part);
    free(f->part);
    *f = (rows_file){0};
}

/* ---- Numbers ---- */

static int add_number(double value, float **x, size_t *n, size_t *room)
{
    if (*n == *room) {
        size_t more = *room ? 2 * *room : 256;
        float *grown = *n < KITH_COLLECTION_MAX_DIM ? realloc(*x, more * sizeof *grown) : NULL;
        if (!grown) return -1;
        *x = grown;
        *room = more;
    }
    (*x)[(*n)++] = (float)value;
    return 0;
}

int rows_numbers(const char *text, float **x, size_t *n, size_t *room)
{
    size_t open = 0;
    for (; *text && strchr(" \t[", *text); text++) open += *text == '[';
    if (open > 1) return -1;
    while (*text && *text != ']') {
        char *end;
        float value = strtof(text, &end);
        if (end == text || add_number((double)value, x, n, room) != 0) return -1;
        for (text = end; *text && strchr(" \t,;", *text); text++) continue;
    }
    if ((*text == ']') != (open == 1)) return -1;
    if (*text) text++;
    return text[strspn(text, " \t")] ? -1 : 0;
}

int rows_json_numbers(const json_t *array, float **x, size_t *n, size_t *room)
{
    if (!json_is_array(array)) return -1;
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *value = json_array_get(array, i);
        if (!json_is_number(value) || add_number(json_number_value(value), x, n, room) != 0) return -1;
    }
    return 0;
}

json_t *rows_vector_json(const float *x, size_t dim)
{
    json_t *array = json_array();
    for (size_t d = 0; d < dim && array; d++) {
        if (json_array_append_new(array, cli_json_float(x[d])) == 0) continue;
        json_decref(array);
        array = NULL;
    }
    return array;
}
