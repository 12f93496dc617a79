/* rows_source.h - rows on their way into a collection or out of it, whatever they are kept in.
 *
 *     source -> rows_item -> sink
 *
 * A source is a vector file with a file of payloads, a table, a file of rows in JSON, or a collection; a sink is the same. `kith
 * import` and `kith export` are one loop from a source to a sink, one of which is a collection. */
#ifndef KITH_CLI_ROWS_SOURCE_H
#define KITH_CLI_ROWS_SOURCE_H

#include "cli.h"

#include <kith/collection.h>
#include <kith/fusion.h>

/* A vector of a row in a vector field. */
typedef struct rows_vector {
    const char *field;
    const float *x; /* [dim] */
    size_t dim;
} rows_vector;

/* One row; what it points to is valid until the next one. */
typedef struct rows_item {
    kith_row row;          /* key 0: it has none, vector NULL: none */
    unsigned parts;        /* that are put */
    const char *text;      /* that it is known by; NULL: none */
    const char *partition; /* NULL: none */
    int64_t expires;       /* seconds since 1970; 0: never */
    rows_vector vectors[KITH_COLLECTION_MAX_VECTOR_FIELDS];
    size_t n_vectors;
} rows_item;

/* What there is beside the rows. */
typedef struct rows_shape {
    size_t dim;         /* 0: not known */
    kith_metric metric; /* with has_metric */
    int has_metric;
    kith_vector_field vectors[KITH_COLLECTION_MAX_VECTOR_FIELDS];
    size_t n_vectors;
    kith_field fields[KITH_COLLECTION_MAX_FIELDS];
    size_t n_fields;
    kith_partition *partitions; /* owned */
    size_t n_partitions;
} rows_shape;

void rows_shape_clear(rows_shape *shape);

/* The shape of a collection. Returns CLI_OK, or CLI_FAILED with a message about `path`. */
int rows_shape_read(cli_context *cli, const char *path, kith_collection *collection, rows_shape *shape);

/* ---- Sources ---- */

typedef struct rows_source rows_source;

struct rows_source {
    rows_shape shape;
    uint64_t total;           /* rows; 0: not known */
    int whole;                /* an item is all of a row: what it has not, the row shall not have */
    const char *rows_path;    /* the file of the rows, for messages; */
    const char *payload_path; /* of a vector file: that of the payloads; NULL: none */
    uint64_t line;  /* of the row read last, where its payload stands, from 1 on; 0: there are no lines */
    char state[64]; /* what tells it apart from a changed one; "": size and time of the file */

    /* Read the next row. Returns CLI_OK, with *end 1 when there is none, or an exit status with a message. */
    int (*next)(cli_context *cli, rows_source *source, rows_item *item, int *end);

    /* Where it stands behind the rows read so far, and going there: `rows` of them. */
    uint64_t (*place)(rows_source *source);
    int (*seek)(cli_context *cli, rows_source *source, uint64_t rows, uint64_t place);

    void (*close)(rows_source *source);
};

/* What the user says about a file. */
typedef struct rows_reading {
    const char *path;
    const char *payload;    /* of a vector file: the payloads; NULL: none */
    const char *key, *text; /* the member or column that is the key, or the text it is known by; NULL: none */
    const char *filter;     /* of a collection: these rows alone; NULL: all */
    cli_list also;          /* of a vector file: NAME=FILE */
    cli_list as;            /* of a table: COLUMN=ROLE */
} rows_reading;

/* Open what `reading->path` names. Returns CLI_OK, or an exit status with a message; *source NULL then. */
int rows_source_open(cli_context *cli, const rows_reading *reading, rows_source **source);

/* Close it; NULL is allowed. */
void rows_source_close(rows_source *source);

/* The kinds, each in a file of its own. */
int rows_open_vectors(cli_context *cli, const rows_reading *reading, rows_source **source);
int rows_open_table(cli_context *cli, const rows_reading *reading, rows_source **source);
int rows_open_lines(cli_context *cli, const rows_reading *reading, rows_source **source);
int rows_open_collection(cli_context *cli, const rows_reading *reading, rows_source **source);

/* Whether a file that is called a table has a line of names; one without is a file of vectors. */
bool rows_is_table(const char *path);

/* Whether a path ends so. */
bool rows_ends_in(const char *path, const char *ending);

/* ---- Sinks ---- */

typedef struct rows_sink rows_sink;

struct rows_sink {
    int (*put)(cli_context *cli, rows_sink *sink, const rows_item *item);
    int (*finish)(cli_context *cli, rows_sink *sink); /* all rows are there: keep it */
    void (*close)(rows_sink *sink);                   /* what was not finished leaves nothing behind */
    uint64_t rows, left_out;                          /* put; without a vector, where that cannot be kept */
};

typedef struct rows_writing {
    const char *path;
    const char *payload; /* beside vectors: the payloads; NULL: none */
    const char *key;     /* the member of them that is the key; NULL: none */
    cli_list also;       /* NAME=FILE */
    cli_list columns;    /* of a table: these members instead of the payload */
    const rows_shape *shape;
} rows_writing;

int rows_sink_open(cli_context *cli, const rows_writing *writing, rows_sink **sink);
void rows_sink_close(rows_sink *sink);

int rows_write_vectors(cli_context *cli, const rows_writing *writing, rows_sink **sink);
int rows_write_table(cli_context *cli, const rows_writing *writing, rows_sink **sink);
int rows_write_lines(cli_context *cli, const rows_writing *writing, rows_sink **sink);
int rows_write_collection(cli_context *cli, const rows_writing *writing, rows_sink **sink);

/* A file beside its place until it is whole. */
typedef struct rows_file {
    FILE *file;
    const char *path;
    char *part;
} rows_file;

int rows_file_open(cli_context *cli, const char *path, rows_file *file);
int rows_file_finish(cli_context *cli, rows_file *file);
void rows_file_close(rows_file *file);

/* ---- Into a collection ---- */

/* Puts items into a collection, within a batch of the caller's. Vector fields and partitions are made as rows need them. */
typedef struct rows_target {
    kith_collection *collection;
    const rows_shape *shape; /* of the source */
    const char *partition;   /* every row goes there; NULL: where its item says */
    int whole;
    char known[KITH_COLLECTION_MAX_PARTITION_NAME + 1];
    kith_vector_field fields[KITH_COLLECTION_MAX_VECTOR_FIELDS];
    size_t n_fields;
    int listed;
} rows_target;

kith_status rows_put(rows_target *target, const rows_item *item, kith_error *err);

/* The partitions and the vector fields of the shape, made where they are missing; within a batch. */
kith_status rows_declare(rows_target *target, kith_error *err);

/* The declared fields, which are cheaper to make when the rows are there; within a batch. */
kith_status rows_declare_fields(rows_target *target, kith_error *err);

/* ---- Small parts ---- */

/* A list of numbers, between brackets or not, separated by commas or blanks, added to x[*n] as floats. Returns 0, or -1 when it
 * is none (or does not fit into memory). */
int rows_numbers(const char *text, float **x, size_t *n, size_t *room);

/* The same of a JSON array. */
int rows_json_numbers(const json_t *array, float **x, size_t *n, size_t *room);

/* A vector as a JSON array. NULL: no memory. */
json_t *rows_vector_json(const float *x, size_t dim);

#endif
