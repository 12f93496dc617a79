/* verb_delete.c - `kith delete`: rows of a collection, by key or by filter. */
#include "rows.h"

struct options {
    const char *filter;
    int missing_ok, expired;
};

static int delete_keys(cli_context *cli, kith_collection *collection, const struct options *o, uint64_t *rows)
{
    kith_error err;
    for (size_t i = 1; i < cli->n_args; i++) {
        const char *text = cli->args[i];
        int64_t key;
        if (o->missing_ok && text[0] == '=' &&
            kith_collection_key_of(collection, text + 1, &key, &err) == KITH_NOTFOUND)
            continue;
        int found = rows_key(cli, collection, "KEY", text, &key);
        if (found != CLI_OK) return found;
        kith_status status = kith_collection_delete(collection, key, &err);
        *rows += status == KITH_OK;
        if (status != KITH_OK && !(status == KITH_NOTFOUND && o->missing_ok))
            return cli_fail_message(cli, cli->args[0], &err);
    }
    return CLI_OK;
}

static int delete_rows(cli_context *cli, kith_collection *collection, const struct options *o, uint64_t *rows)
{
    kith_error err;
    if (kith_collection_begin(collection, &err) != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
    int status = CLI_OK;
    kith_status deleted = KITH_OK;
    if (o->expired)
        deleted = kith_collection_remove_expired(collection, 0, rows, &err);
    else if (o->filter)
        deleted = kith_collection_delete_where(collection, o->filter, rows, &err);
    else
        status = delete_keys(cli, collection, o, rows);
    if (status == CLI_OK && deleted == KITH_OK) deleted = kith_collection_commit(collection, &err);
    return status == CLI_OK && deleted != KITH_OK ? cli_fail_message(cli, cli->args[0], &err) : status;
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    kith_collection *collection;
    uint64_t rows = 0;
    if ((cli->n_args > 1) + (o->filter != NULL) + (o->expired != 0) != 1)
        return cli_usage(cli, "KEY", "give either keys or --filter, or --expired");
    for (size_t i = 1; i < cli->n_args; i++) {
        int status = rows_key_check(cli, "KEY", cli->args[i]);
        if (status != CLI_OK) return status;
    }
    int status = rows_open(cli, false, &collection);
    if (status != CLI_OK) return status;
    status = delete_rows(cli, collection, o, &rows);
    if (status == CLI_OK && rows == 0) rows_filter_hint(cli, collection, o->filter);
    kith_collection_close(collection);
    if (status != CLI_OK) return status;
    if (cli->json)
        return cli_json_line(cli, json_pack("{so sI}", "collection", cli_json_text(cli->args[0]), "deleted",
                                            (json_int_t)rows));
    printf("%s deleted\n", cli_counted(rows, "row"));
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
        (const cli_argument[]){
            ROWS_ARGUMENT_COLLECTION,
            {.name = "KEY", .help = "keys of rows, or =TEXT", .optional = true, .many = true},
            {0}},
    .options =
        (const cli_option[]){ROWS_OPTION_FILTER("delete the rows for which this is true (docs/filters.md)"),
                             {.name = "missing-ok",
                              .kind = CLI_FLAG,
                              .into = offsetof(struct options, missing_ok),
                              .help = "a key that is not there is no failure"},
                             {.name = "expired",
                              .kind = CLI_FLAG,
                              .into = offsetof(struct options, expired),
                              .help = "delete the rows that are past their time"},
                             {0}},
    .common = CLI_JSON | CLI_WAIT,
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){{"kith delete X.kith 17 18", "two rows"},
                              {"kith delete X.kith --filter 'expires < 1700000000'", "what is out of date"},
                              {0}},
    .run = run,
};
