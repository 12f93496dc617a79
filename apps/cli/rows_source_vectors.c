/* rows_source_vectors.c - a source: a vector file of any format, a payload for each of its rows, and files of further vectors. */
#include "rows_source.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <kith/dataset.h>
#ifdef KITH_WITH_HDF5
#include <kith/hdf5.h>
#endif

/* Vectors that are read at a time. */
enum { BLOCK_BYTES = 4 << 20 };

typedef struct vectors_file {
    char *field; /* NULL: of the rows */
    const char *path;
    kith_dataset *dataset;
    size_t dim;
    float *x; /* [block][dim] */
} vectors_file;

typedef struct vectors_source {
    rows_source base;
    const rows_reading *reading;
    vectors_file files[1 + KITH_COLLECTION_MAX_VECTOR_FIELDS];
    size_t n_files, block;
    uint64_t at, first, last; /* the next row; of the block that is read: first .. last - 1 */
    FILE *payloads;           /* NULL: none */
    uint64_t bytes;           /* of them, read so far */
    char *line;               /* of getline */
    size_t line_room;
    char *text; /* of the row at hand */
} vectors_source;

static int read_block(cli_context *cli, vectors_source *s)
{
    kith_error err;
    uint64_t left = s->base.total - s->at;
    size_t n = left < s->block ? (size_t)left : s->block;
    for (size_t i = 0; i < s->n_files; i++)
        if (kith_dataset_read_f32(s->files[i].dataset, s->at, n, s->files[i].x, &err) != KITH_OK)
            return cli_fail_message(cli, s->files[i].path, &err);
    s->first = s->at;
    s->last = s->at + n;
    return CLI_OK;
}

static int fail_line(cli_context *cli, const vectors_source *s, const char *why)
{
    return cli_fail(cli, s->reading->payload, "line %" PRIu64 ": %s", s->base.line, why);
}

/* A payload without a key of its own; value NULL: it has no such member. */
static int fail_key(cli_context *cli, const vectors_source *s, const json_t *value)
{
    const rows_reading *r = s->reading;
    const char *name = r->key ? r->key : r->text, *also = "";
    if (!value)
        return cli_fail(cli, r->payload, "line %" PRIu64 ": has no member '%.80s', which %s names",
                        s->base.line, name, r->key ? "--key" : "--text-key");
    if (r->key && json_is_string(value)) also = "; --text-key takes strings";
    if (r->text && json_is_integer(value)) also = "; --key takes whole numbers";
    return cli_fail(cli, r->payload, "line %" PRIu64 ": '%.80s' must be %s to be the key%s", s->base.line,
                    name, r->key ? "a whole number from 1 on" : "a string, not empty,", also);
}

/* What a member of a payload says about the key. */
static int take_key(cli_context *cli, vectors_source *s, size_t size, rows_item *item)
{
    json_error_t fault;
    const rows_reading *r = s->reading;
    json_t *payload = json_loadb(s->line, size, 0, &fault),
           *value = json_object_get(payload, r->key ? r->key : r->text);
    if (r->key && json_is_integer(value)) item->row.key = (int64_t)json_integer_value(value);
    free(s->text);
    s->text = r->text && json_is_string(value) ? strdup(json_string_value(value)) : NULL;
    item->text = s->text;
    int status = CLI_OK;
    if (!payload)
        status = fail_line(cli, s, fault.text);
    else if (!json_is_object(payload))
        status = fail_line(cli, s, "not an object");
    else if (!item->text && item->row.key < 1)
        status = fail_key(cli, s, value);
    json_decref(payload);
    return status;
}

static int take_payload(cli_context *cli, vectors_source *s, rows_item *item)
{
    const rows_reading *r = s->reading;
    errno = 0;
    s->base.line = s->at + 1;
    ssize_t size = getline(&s->line, &s->line_room, s->payloads);
    if (size < 0 && errno) return cli_fail(cli, r->payload, "%s", strerror(errno));
    if (size < 0)
        return cli_fail(cli, r->payload, "it ends after %" PRIu64 " lines, there are %" PRIu64 " vectors",
                        s->at, s->base.total);
    s->bytes += (uint64_t)size;
    while (size > 0 && (s->line[size - 1] == '\n' || s->line[size - 1] == '\r')) size--;
    if (memchr(s->line, 0, (size_t)size) != NULL || size == 0)
        return fail_line(cli, s, size ? "holds a NUL" : "is empty: each vector wants an object, {} at least");
    item->row.payload = s->line;
    item->row.payload_size = (size_t)size;
    return r->key || r->text ? take_key(cli, s, (size_t)size, item) : CLI_OK;
}

/* Behind the last row there are no payloads, but empty lines. */
static int check_end(cli_context *cli, const vectors_source *s)
{
    for (int c; s->payloads && (c = getc(s->payloads)) != EOF;)
        if (c != '\n' && c != '\r')
            return cli_fail(cli, s->reading->payload,
                            "it has more lines than there are vectors (%" PRIu64 ")", s->base.total);
    return CLI_OK;
}

static int next(cli_context *cli, rows_source *base, rows_item *item, int *end)
{
    vectors_source *s = (vectors_source *)base;
    *item = (rows_item){.parts = KITH_ROW_PAYLOAD | KITH_ROW_VECTOR};
    *end = s->at == base->total;
    if (*end) return check_end(cli, s);
    int status = s->at >= s->first && s->at < s->last ? CLI_OK : read_block(cli, s);
    if (status == CLI_OK && s->payloads) status = take_payload(cli, s, item);
    if (status != CLI_OK) return status;
    size_t i = (size_t)(s->at - s->first);
    item->row.vector = s->files[0].x + i * s->files[0].dim;
    item->row.dim = s->files[0].dim;
    for (size_t j = 1; j < s->n_files; j++)
        item->vectors[item->n_vectors++] =
            (rows_vector){s->files[j].field, s->files[j].x + i * s->files[j].dim, s->files[j].dim};
    s->at++;
    return CLI_OK;
}

static uint64_t place(rows_source *base)
{
    return ((vectors_source *)base)->bytes;
}

static int seek(cli_context *cli, rows_source *base, uint64_t rows, uint64_t bytes)
{
    vectors_source *s = (vectors_source *)base;
    if (rows > base->total) return cli_fail(cli, s->files[0].path, "it has fewer rows than were read");
    s->at = rows;
    s->bytes = bytes;
    if (s->payloads && fseeko(s->payloads, (off_t)bytes, SEEK_SET) != 0)
        return cli_fail(cli, s->reading->payload, "%s", strerror(errno));
    return CLI_OK;
}

static void close_source(rows_source *base)
{
    vectors_source *s = (vectors_source *)base;
    for (size_t i = 0; i < s->n_files; i++) {
        kith_dataset_close(s->files[i].dataset);
        free(s->files[i].field);
        free(s->files[i].x);
    }
    if (s->payloads) fclose(s->payloads);
    free(s->line);
    free(s->text);
    free(s);
}

/* NAME=FILE, as many vectors as there are rows. */
static int open_beside(cli_context *cli, vectors_source *s, const char *text)
{
    const char *sign = strchr(text, '=');
    if (!sign || sign == text || !sign[1])
        return cli_usage(cli, "--also", "'%s' is not of the form NAME=FILE", text);
    if (s->n_files == 1 + KITH_COLLECTION_MAX_VECTOR_FIELDS)
        return cli_usage(cli, "--also", "more than %d vector fields", KITH_COLLECTION_MAX_VECTOR_FIELDS);
    vectors_file *f = &s->files[s->n_files++];
    f->field = strndup(text, (size_t)(sign - text));
    f->path = sign + 1;
    if (!f->field) return cli_fail(cli, NULL, "out of memory");
    int status = cli_dataset_open(cli, f->path, CLI_ROLE_BASE, &f->dataset);
    if (status != CLI_OK) return status;
    if (kith_dataset_rows(f->dataset) != s->base.total)
        return cli_fail(cli, f->path, "it has %" PRIu64 " vectors, %s %" PRIu64,
                        (uint64_t)kith_dataset_rows(f->dataset), s->files[0].path, s->base.total);
    return CLI_OK;
}

/* As many rows as make a block of the widest vectors. */
static int make_blocks(cli_context *cli, vectors_source *s)
{
    size_t widest = 1;
    for (size_t i = 0; i < s->n_files; i++) {
        s->files[i].dim = kith_dataset_dim(s->files[i].dataset);
        if (s->files[i].dim > widest) widest = s->files[i].dim;
    }
    s->block = BLOCK_BYTES / (widest * sizeof(float)) + 1;
    for (size_t i = 0; i < s->n_files; i++) {
        s->files[i].x = malloc(s->block * s->files[i].dim * sizeof(float));
        if (!s->files[i].x) return cli_fail(cli, NULL, "out of memory");
    }
    return CLI_OK;
}

/* Rows may come in more than vector files, so the list of those alone would not do. */
static int check_ending(cli_context *cli, const char *path)
{
    char vectors[160] = "";
#ifdef KITH_WITH_HDF5
    if (kith_hdf5_is_path(path)) return CLI_OK;
#endif
    if (kith_dataset_format_of_path(path) != KITH_DATASET_AUTO) return CLI_OK;
    const char *name;
    for (int i = 1; (name = kith_dataset_format_name((kith_dataset_format)i)) != NULL; i++) {
        size_t used = strlen(vectors);
        snprintf(vectors + used, sizeof vectors - used, "%s%s", used ? ", " : "", name);
    }
    return cli_fail(cli, path,
                    "its ending names no format: rows come from .jsonl, .csv, .tsv or .kith, vectors from %s",
                    vectors);
}

static int open_files(cli_context *cli, vectors_source *s)
{
    const rows_reading *r = s->reading;
    int known = check_ending(cli, r->path);
    if (known != CLI_OK) return known;
    s->files[0].path = r->path;
    int status = cli_dataset_open(cli, r->path, CLI_ROLE_BASE, &s->files[0].dataset);
    if (status != CLI_OK) return status;
    s->n_files = 1;
    s->base.total = kith_dataset_rows(s->files[0].dataset);
    for (size_t i = 0; i < r->also.n && status == CLI_OK; i++) status = open_beside(cli, s, r->also.items[i]);
    if (status == CLI_OK) status = make_blocks(cli, s);
    s->base.shape.dim = s->files[0].dim;
#ifdef KITH_WITH_HDF5
    if (status == CLI_OK && kith_hdf5_is_path(r->path))
        s->base.shape.has_metric = kith_hdf5_metric(r->path, &s->base.shape.metric, NULL) == KITH_OK;
#endif
    if (status != CLI_OK || !r->payload) return status;
    s->payloads = fopen(r->payload, "r");
    return s->payloads ? CLI_OK : cli_fail(cli, r->payload, "%s", strerror(errno));
}

int rows_open_vectors(cli_context *cli, const rows_reading *reading, rows_source **source)
{
    if (reading->key && !reading->payload)
        return cli_usage(cli, "--key", "needs --payload: it names a member of the payloads");
    if (reading->text && (!reading->payload || reading->key))
        return cli_usage(cli, "--text-key", "needs --payload, and goes not together with --key");
    vectors_source *s = calloc(1, sizeof *s);
    if (!s) return cli_fail(cli, NULL, "out of memory");
    s->base.next = next;
    s->base.place = place;
    s->base.seek = seek;
    s->base.close = close_source;
    s->base.rows_path = reading->path;
    s->base.payload_path = reading->payload;
    s->reading = reading;
    int status = open_files(cli, s);
    if (status == CLI_OK)
        *source = &s->base;
    else
        close_source(&s->base);
    return status;
}
