/* verb_delete.c - `kith delete`: rows of a collection, by key or by filter. */
#include "rows.h"

struct options {
    const char *filter;
    int missing_ok;
};

static kith_status delete_keys(cli_context *cli, kith_collection *collection, const struct options *o,
                               uint64_t *rows, kith_error *err)
{
    for (size_t i = 1; i < cli->n_args; i++) {
        uint64_t key = 0;
        (void)cli_parse_count(cli->args[i], &key); /* they were looked at before */
        kith_status status = kith_collection_delete(collection, (int64_t)key, err);
        *rows += status == KITH_OK;
        if (status != KITH_OK && !(status == KITH_NOTFOUND && o->missing_ok)) return status;
    }
    return KITH_OK;
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    kith_error err;
    kith_collection *collection;
    uint64_t rows = 0;
    int64_t key;
    if ((cli->n_args > 1) == (o->filter != NULL))
        return cli_usage(cli, "KEY", "give either keys or --filter");
    for (size_t i = 1; i < cli->n_args; i++) {
        int status = rows_key(cli, "KEY", cli->args[i], &key);
        if (status != CLI_OK) return status;
    }
    int opened = rows_open(cli, false, &collection);
    if (opened != CLI_OK) return opened;
    kith_status status = kith_collection_begin(collection, &err);
    if (status == KITH_OK)
        status = o->filter ? kith_collection_delete_where(collection, o->filter, &rows, &err)
                           : delete_keys(cli, collection, o, &rows, &err);
    if (status == KITH_OK) status = kith_collection_commit(collection, &err);
    kith_collection_close(collection);
    if (status != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
    if (cli->json)
        return cli_json_line(cli, json_pack("{so sI}", "collection", cli_json_text(cli->args[0]), "deleted",
                                            (json_int_t)rows));
    printf("%s rows deleted\n", cli_thousands(rows));
    return cli_flush(cli);
}

const cli_verb verb_delete = {
    .name = "delete",
    .group = CLI_ROWS,
    .summary = "delete rows of a collection, by key or by filter",
    .description =
        "Deletes the rows with the given keys, or all rows that the filter lets through, as one change: all "
        "of "
        "them or, on any failure, none. `kith count` with the same filter says beforehand how many that are.",
    .arguments =
        (const cli_argument[]){ROWS_ARGUMENT_COLLECTION,
                               {.name = "KEY", .help = "keys of rows", .optional = true, .many = true},
                               {0}},
    .options =
        (const cli_option[]){ROWS_OPTION_FILTER("delete the rows for which this is true (docs/filters.md)"),
                             {.name = "missing-ok",
                              .kind = CLI_FLAG,
                              .into = offsetof(struct options, missing_ok),
                              .help = "a key that is not there is no failure"},
                             {0}},
    .common = CLI_JSON,
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){{"kith delete X.kith 17 18", "two rows"},
                              {"kith delete X.kith --filter 'expires < 1700000000'", "what is out of date"},
                              {0}},
    .run = run,
};
