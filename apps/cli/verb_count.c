/* verb_count.c - `kith count`: how many rows a filter lets through. */
#include "rows.h"

struct options {
    const char *filter;
};

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    kith_error err;
    kith_collection *collection;
    uint64_t rows = 0;
    int status = rows_open(cli, true, &collection);
    if (status != CLI_OK) return status;
    kith_status counted = o->filter ? kith_collection_count_where(collection, o->filter, &rows, &err)
                                    : kith_collection_count(collection, &rows, NULL, &err);
    status = counted == KITH_OK ? CLI_OK : cli_fail_message(cli, cli->args[0], &err);
    if (status == CLI_OK && rows == 0) rows_filter_hint(cli, collection, o->filter);
    kith_collection_close(collection);
    if (status != CLI_OK) return status;
    if (cli->json)
        return cli_json_line(
            cli, json_pack("{so sI}", "collection", cli_json_text(cli->args[0]), "rows", (json_int_t)rows));
    printf("%llu\n", (unsigned long long)rows);
    return cli_flush(cli);
}

const cli_verb verb_count = {
    .name = "count",
    .group = CLI_ROWS,
    .summary = "count the rows of a collection that a filter lets through",
    .description =
        "Prints how many rows of COLLECTION the filter lets through; without one, how many there are. The "
        "language of filters is docs/filters.md: conditions over the members of the payload, such as "
        "year >= 1990 and array_contains(tags, \"a\").",
    .arguments = (const cli_argument[]){ROWS_ARGUMENT_COLLECTION, {0}},
    .options = (const cli_option[]){ROWS_OPTION_FILTER("count only the rows for which this is true"), {0}},
    .common = CLI_JSON,
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){{"kith count Pictures.kith", "all rows"},
                              {"kith count Pictures.kith --filter 'folder like \"2004/%\" and width > 1000'",
                               "the large pictures of a year"},
                              {0}},
    .run = run,
};
