/* rows.h - what the verbs over the rows of a collection share. */
#ifndef KITH_CLI_ROWS_H
#define KITH_CLI_ROWS_H

#include "cli.h"

#include <kith/collection.h>

/* Open the collection at the first argument. Returns CLI_OK, or CLI_FAILED with a message. */
int rows_open(cli_context *cli, bool read_only, kith_collection **collection);

/* A key as a user writes it: 1..INT64_MAX, or =TEXT for the row that is known by a text. Returns CLI_OK, or CLI_USAGE with a
 * message about `what`. */
int rows_key_check(cli_context *cli, const char *what, const char *text);

/* The same, found: CLI_FAILED with a message when there is no row of this text. */
int rows_key(cli_context *cli, kith_collection *collection, const char *what, const char *text, int64_t *key);

/* Say in an object which text the row is known by, if any. Returns the object, or NULL: no memory. */
json_t *rows_add_text(kith_collection *collection, int64_t key, json_t *object);

/* Where a filter, NULL for none, let nothing through: a remark if it is the filter's own fault. */
void rows_filter_hint(cli_context *cli, kith_collection *collection, const char *filter);

/* {"key":..., "payload":{...}} and, where the row has been read with it, "vector":[...]. NULL: no memory. */
json_t *rows_json(const kith_row *row);

/* An option of the verbs that take a filter; it fills the member `filter` of struct options. */
/* clang-format off */
#define ROWS_OPTION_FILTER(says) \
    {.name = "filter", .letter = 'f', .kind = CLI_TEXT, .argument = "EXPR", \
     .into = offsetof(struct options, filter), .help = says}
#define ROWS_ARGUMENT_COLLECTION {.name = "COLLECTION", .help = "a collection, X.kith"}
/* clang-format on */

/* ---- kith search: rows by vectors ---- */

typedef struct rows_query {
    cli_list vector, vectors; /* one of them: JSON arrays, vector files, */
    cli_list like, unlike;    /* or keys of rows */
    cli_list fields;     /* the vector field of each of the vectors, or of the rows to be like; none: "-", the
                                   * vectors of the rows */
    cli_list weights;    /* of each of the vectors; none: 1 */
    cli_list partitions; /* none: all rows */
    const char *fuse;    /* several vectors: "ranks" or "weights" */
    double radius;       /* with_radius: all rows within, k at most */
    double target_recall; /* 0: as the collection is tuned */
    const char *filter;   /* NULL: all rows */
    const char *group_by; /* NULL: no groups; with them k is their number */
    size_t k, offset, group_size;
    double seconds; /* for each query; 0: as long as it takes */
    int exact, explain, with_radius;
} rows_query;

/* Search the collection at the first argument and print what is found, a line of JSON or a table for each query. */
int rows_search(cli_context *cli, const rows_query *query);

/* Answer the searches of a file of requests (kith/request.h), one a line, "-" for standard input, in the same way. */
int rows_requests(cli_context *cli, const char *path, int explain);

/* Measure the collection at the first argument, keep what reaches the target, and print it. */
int rows_tune(cli_context *cli, double target, size_t k, size_t queries, uint64_t seed, const char *field);

/* What the plan says, as JSON. NULL: no memory. */
json_t *rows_plan_json(const kith_collection_plan *plan);

/* The same as a line of text. */
void rows_plan_print(cli_context *cli, const kith_collection_plan *plan);

#endif
