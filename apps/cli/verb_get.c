/* verb_get.c - `kith get`: rows of a collection, by key or by filter. */
#include "rows.h"

struct options {
    const char *filter;
    uint64_t after, limit;
    int vector;
};

static int print_row(cli_context *cli, kith_collection *collection, const kith_row *row)
{
    if (cli->json || row->vector)
        return cli_json_line(cli, rows_add_text(collection, row->key, rows_json(row)));
    printf("%lld\t%s\n", (long long)row->key, row->payload);
    return CLI_OK;
}

static int get_keys(cli_context *cli, kith_collection *collection, unsigned parts)
{
    kith_error err;
    int worst = CLI_OK;
    for (size_t i = 1; i < cli->n_args; i++) {
        kith_row row;
        int64_t key;
        int status = rows_key(cli, collection, "KEY", cli->args[i], &key);
        if (status == CLI_USAGE) return status;
        if (status != CLI_OK) {
            worst = status;
            continue;
        }
        kith_status found = kith_collection_get(collection, key, parts, &row, &err);
        if (found != KITH_OK && found != KITH_NOTFOUND) return cli_fail_message(cli, cli->args[0], &err);
        status =
            found == KITH_OK ? print_row(cli, collection, &row) : cli_fail_message(cli, cli->args[0], &err);
        if (status != CLI_OK) worst = status;
    }
    return worst;
}

static int get_filtered(cli_context *cli, kith_collection *collection, const struct options *o,
                        unsigned parts)
{
    kith_error err;
    kith_row row = {.key = (int64_t)o->after};
    uint64_t n = 0;
    for (; o->limit == 0 || n < o->limit; n++) {
        kith_status next = o->filter
                               ? kith_collection_next_where(collection, o->filter, row.key, parts, &row, &err)
                               : kith_collection_next(collection, row.key, parts, &row, &err);
        if (next != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
        if (row.key == 0) break;
        int status = print_row(cli, collection, &row);
        if (status != CLI_OK) return status;
        if (cli_cancelled(cli)) return cli_fail(cli, NULL, "interrupted");
    }
    if (n == 0 && o->after == 0) rows_filter_hint(cli, collection, o->filter);
    return CLI_OK;
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    kith_error err;
    kith_collection *collection;
    unsigned parts = KITH_ROW_PAYLOAD | (o->vector ? KITH_ROW_VECTOR : 0);
    if (cli->n_args > 1 && (o->filter || o->after || o->limit))
        return cli_usage(cli, "KEY", "keys are given: --filter, --after and --limit have no meaning");
    int status = rows_open(cli, true, &collection);
    if (status != CLI_OK) return status;
    if (kith_collection_pin(collection, &err) != KITH_OK)
        status = cli_fail_message(cli, cli->args[0], &err);
    else
        status = cli->n_args > 1 ? get_keys(cli, collection, parts) : get_filtered(cli, collection, o, parts);
    kith_collection_close(collection);
    int flushed = cli_flush(cli);
    return status != CLI_OK ? status : flushed;
}

const cli_verb verb_get = {
    .name = "get",
    .group = CLI_ROWS,
    .summary = "print rows of a collection, by key or by filter",
    .description =
        "Prints the rows with the given keys, or else all rows that the filter lets through, in the order of "
        "their keys and as of one moment. A line is the key, a tab and the payload; with --json or --vector "
        "an object.\n\n"
        "To read page by page, give --limit and then, as --after, the last key of the page before.",
    .arguments =
        (const cli_argument[]){
            ROWS_ARGUMENT_COLLECTION,
            {.name = "KEY", .help = "keys of rows, or =TEXT", .optional = true, .many = true},
            {0}},
    .options = (const cli_option[]){ROWS_OPTION_FILTER("only rows for which this is true (docs/filters.md)"),
                                    {.name = "after",
                                     .kind = CLI_COUNT,
                                     .argument = "KEY",
                                     .high = 0x1p63 - 1024,
                                     .into = offsetof(struct options, after),
                                     .help = "only rows with larger keys"},
                                    {.name = "limit",
                                     .kind = CLI_COUNT,
                                     .argument = "N",
                                     .into = offsetof(struct options, limit),
                                     .help = "at most N rows; 0 means all"},
                                    {.name = "vector",
                                     .kind = CLI_FLAG,
                                     .into = offsetof(struct options, vector),
                                     .help = "print the vectors, too"},
                                    {0}},
    .common = CLI_JSON,
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){
            {"kith get X.kith 17 18", "two rows"},
            {"kith get X.kith =img/0017.jpg", "the row that is known by a text"},
            {"kith get X.kith --filter 'year < 1990' --limit 100", "the first hundred of them"},
            {"kith get X.kith --json | jq .payload.path", "a member of every payload"},
            {0}},
    .run = run,
};
