/* rows_sink_vectors.c - a sink: a vector file, a file of payloads beside it, and a file for each vector field that is asked for. */
#include "rows_source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <kith/dataset.h>
#ifdef KITH_WITH_HDF5
#include <kith/hdf5.h>
#endif

/* One file, of whichever format. */
typedef struct vectors_out {
    char *field; /* NULL: of the rows */
    const char *path;
    kith_dataset_writer *writer;
#ifdef KITH_WITH_HDF5
    kith_hdf5_writer *hdf5;
#endif
} vectors_out;

typedef struct vectors_sink {
    rows_sink base;
    const rows_writing *writing;
    vectors_out files[1 + KITH_COLLECTION_MAX_VECTOR_FIELDS];
    size_t n;
    rows_file payloads; /* its file NULL: none */
} vectors_sink;

static kith_status open_out(vectors_out *f, size_t dim, kith_metric metric, kith_error *err)
{
#ifdef KITH_WITH_HDF5
    if (kith_hdf5_is_path(f->path))
        return kith_hdf5_writer_create(f->path, "train", dim, metric, NULL, &f->hdf5, err);
#else
    (void)metric;
#endif
    return kith_dataset_writer_create(f->path, dim, NULL, &f->writer, err);
}

static kith_status append(vectors_out *f, const float *x, kith_error *err)
{
#ifdef KITH_WITH_HDF5
    if (f->hdf5) return kith_hdf5_append(f->hdf5, x, 1, err);
#endif
    return kith_dataset_append_f32(f->writer, x, 1, err);
}

static kith_status finish_out(vectors_out *f, kith_error *err)
{
#ifdef KITH_WITH_HDF5
    if (f->hdf5) return kith_hdf5_writer_finish(f->hdf5, err);
#endif
    return kith_dataset_writer_finish(f->writer, err);
}

/* The payload of a row as a line, with its key as the member that --key names. */
static int write_payload(cli_context *cli, vectors_sink *s, const kith_row *row)
{
    FILE *file = s->payloads.file;
    if (!file) return CLI_OK;
    int failed;
    if (s->writing->key) {
        json_t *payload = json_loadb(row->payload, row->payload_size, 0, NULL);
        char *text = NULL;
        if (json_object_set_new(payload, s->writing->key, json_integer((json_int_t)row->key)) == 0)
            text = json_dumps(payload, JSON_COMPACT | JSON_SORT_KEYS);
        json_decref(payload);
        if (!text) return cli_fail(cli, NULL, "out of memory");
        failed = fputs(text, file) < 0 || fputc('\n', file) < 0;
        free(text);
    } else {
        failed =
            fwrite(row->payload, 1, row->payload_size, file) != row->payload_size || fputc('\n', file) < 0;
    }
    return failed ? cli_fail(cli, s->writing->payload, "%s", strerror(errno)) : CLI_OK;
}

static int put_beside(cli_context *cli, vectors_out *f, const rows_item *item)
{
    kith_error err;
    for (size_t i = 0; i < item->n_vectors; i++) {
        if (strcmp(item->vectors[i].field, f->field) != 0) continue;
        return append(f, item->vectors[i].x, &err) == KITH_OK ? CLI_OK : cli_fail_message(cli, f->path, &err);
    }
    return cli_fail(cli, f->path, "row %lld has no vector in %s: export to .jsonl or .kith",
                    (long long)item->row.key, f->field);
}

static int put(cli_context *cli, rows_sink *base, const rows_item *item)
{
    vectors_sink *s = (vectors_sink *)base;
    kith_error err;
    if (!item->row.vector) {
        base->left_out++;
        return CLI_OK;
    }
    if (append(&s->files[0], item->row.vector, &err) != KITH_OK)
        return cli_fail_message(cli, s->files[0].path, &err);
    int status = CLI_OK;
    for (size_t i = 1; i < s->n && status == CLI_OK; i++) status = put_beside(cli, &s->files[i], item);
    base->rows++;
    return status == CLI_OK ? write_payload(cli, s, &item->row) : status;
}

static int finish(cli_context *cli, rows_sink *base)
{
    vectors_sink *s = (vectors_sink *)base;
    kith_error err;
    if (base->rows == 0) return cli_fail(cli, cli->args[0], "no row with a vector is let through");
    for (size_t i = 0; i < s->n; i++)
        if (finish_out(&s->files[i], &err) != KITH_OK) return cli_fail_message(cli, s->files[i].path, &err);
    return s->payloads.file ? rows_file_finish(cli, &s->payloads) : CLI_OK;
}

static void close_sink(rows_sink *base)
{
    vectors_sink *s = (vectors_sink *)base;
    for (size_t i = 0; i < s->n; i++) {
        kith_dataset_writer_free(s->files[i].writer);
#ifdef KITH_WITH_HDF5
        kith_hdf5_writer_free(s->files[i].hdf5);
#endif
        free(s->files[i].field);
    }
    rows_file_close(&s->payloads);
    free(s);
}

/* NAME=FILE */
static int open_beside(cli_context *cli, vectors_sink *s, const char *text)
{
    kith_error err;
    const char *sign = strchr(text, '=');
    const rows_shape *shape = s->writing->shape;
    size_t i = 0;
    if (!sign || sign == text || !sign[1])
        return cli_usage(cli, "--also", "'%s' is not of the form NAME=FILE", text);
    if (s->n == 1 + KITH_COLLECTION_MAX_VECTOR_FIELDS)
        return cli_usage(cli, "--also", "more than %d vector fields", KITH_COLLECTION_MAX_VECTOR_FIELDS);
    vectors_out *f = &s->files[s->n];
    f->field = strndup(text, (size_t)(sign - text));
    f->path = sign + 1;
    if (!f->field) return cli_fail(cli, NULL, "out of memory");
    s->n++;
    while (i < shape->n_vectors && strcmp(shape->vectors[i].name, f->field) != 0) i++;
    if (i == shape->n_vectors) return cli_fail(cli, cli->args[0], "there is no vector field '%s'", f->field);
    if (open_out(f, shape->vectors[i].dim, shape->vectors[i].metric, &err) == KITH_OK) return CLI_OK;
    return cli_fail_message(cli, f->path, &err);
}

static int open_all(cli_context *cli, vectors_sink *s)
{
    kith_error err;
    const rows_writing *w = s->writing;
    if (w->shape->dim == 0) return cli_fail(cli, cli->args[0], "it has no vectors");
    s->files[0].path = w->path;
    s->n = 1;
    if (open_out(&s->files[0], w->shape->dim, w->shape->metric, &err) != KITH_OK)
        return cli_fail_message(cli, w->path, &err);
    int status = CLI_OK;
    for (size_t i = 0; i < w->also.n && status == CLI_OK; i++) status = open_beside(cli, s, w->also.items[i]);
    return status == CLI_OK && w->payload ? rows_file_open(cli, w->payload, &s->payloads) : status;
}

int rows_write_vectors(cli_context *cli, const rows_writing *writing, rows_sink **sink)
{
    if (writing->key && !writing->payload)
        return cli_usage(cli, "--key", "needs --payload: the key is written there");
    vectors_sink *s = calloc(1, sizeof *s);
    if (!s) return cli_fail(cli, NULL, "out of memory");
    s->base.put = put;
    s->base.finish = finish;
    s->base.close = close_sink;
    s->writing = writing;
    int status = open_all(cli, s);
    if (status == CLI_OK)
        *sink = &s->base;
    else
        close_sink(&s->base);
    return status;
}
