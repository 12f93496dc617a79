/* verb_partitions.c - `kith partitions`: the named parts of a collection's rows; making and dropping them. */
#include "rows.h"

#include <stdlib.h>

struct options {
    cli_list add, drop;
};

/* All of them or, on any failure, none. */
static int change(cli_context *cli, kith_collection *collection, const struct options *o)
{
    kith_error err;
    uint64_t rows, dropped = 0;
    kith_status status = kith_collection_begin(collection, &err);
    for (size_t i = 0; i < o->drop.n && status == KITH_OK; i++) {
        status = kith_collection_partition_drop(collection, o->drop.items[i], &rows, &err);
        if (status == KITH_OK) dropped += rows;
    }
    for (size_t i = 0; i < o->add.n && status == KITH_OK; i++)
        status = kith_collection_partition_add(collection, o->add.items[i], &err);
    if (status == KITH_OK) status = kith_collection_commit(collection, &err);
    if (status != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
    if (o->drop.n > 0) cli_note(cli, "%s deleted", cli_counted(dropped, "row"));
    return CLI_OK;
}

static int print(cli_context *cli, const kith_partition *list, size_t n)
{
    static const char *const headings[] = {"partition", ">rows"};
    cli_table table;
    for (size_t i = 0; cli->json && i < n; i++) {
        int status = cli_json_line(cli, json_pack("{so sI}", "partition", cli_json_text(list[i].name), "rows",
                                                  (json_int_t)list[i].rows));
        if (status != CLI_OK) return status;
    }
    if (cli->json || n == 0) return cli_flush(cli);
    cli_table_init(&table, headings, 2);
    for (size_t i = 0; i < n; i++) {
        cli_table_cell(&table, "%s", list[i].name);
        cli_table_cell(&table, "%s", cli_thousands(list[i].rows));
    }
    return cli_table_print(cli, &table);
}

/* The list, of one state. */
static kith_status read_list(kith_collection *collection, kith_partition **list, size_t *n, kith_error *err)
{
    *n = 0;
    kith_status status = kith_collection_pin(collection, err);
    if (status == KITH_OK) status = kith_collection_partitions(collection, NULL, n, err);
    if (status == KITH_OK && *n > 0) {
        *list = calloc(*n, sizeof **list);
        if (*list)
            status = kith_collection_partitions(collection, *list, n, err);
        else
            *err = (kith_error){.code = status = KITH_NOMEM, .message = "out of memory"};
    }
    kith_collection_unpin(collection);
    return status;
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    kith_error err;
    kith_collection *collection;
    kith_partition *list = NULL;
    size_t n;
    int changes = o->add.n + o->drop.n > 0, status = rows_open(cli, !changes, &collection);
    if (status != CLI_OK) return status;
    if (changes) status = change(cli, collection, o);
    if (status == CLI_OK && !changes)
        status = read_list(collection, &list, &n, &err) == KITH_OK
                     ? print(cli, list, n)
                     : cli_fail_message(cli, cli->args[0], &err);
    free(list);
    kith_collection_close(collection);
    return status;
}

const cli_verb verb_partitions = {
    .name = "partitions",
    .group = CLI_ROWS,
    .summary = "list, make and drop the partitions of a collection",
    .description =
        "Prints the partitions of COLLECTION and how many rows are in each. A row is in one partition or in "
        "none: `kith import --partition` and `kith set --partition` put it there. `kith search --partition` "
        "searches in some of them only, filters know them as $partition.\n\n"
        "--drop deletes a partition together with its rows.",
    .arguments = (const cli_argument[]){ROWS_ARGUMENT_COLLECTION, {0}},
    .options = (const cli_option[]){{.name = "add",
                                     .kind = CLI_LIST,
                                     .argument = "NAME",
                                     .into = offsetof(struct options, add),
                                     .help = "make a partition; may be given more than once"},
                                    {.name = "drop",
                                     .kind = CLI_LIST,
                                     .argument = "NAME",
                                     .into = offsetof(struct options, drop),
                                     .help = "delete a partition and its rows"},
                                    {0}},
    .common = CLI_JSON | CLI_WAIT,
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){
            {"kith partitions X.kith", "which there are"},
            {"kith partitions X.kith --add 2024 --drop 2019", "a year comes, a year goes"},
            {"kith search X.kith --like 17 --partition 2023 --partition 2024", "search in two of them"},
            {0}},
    .run = run,
};
