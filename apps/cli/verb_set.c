/* verb_set.c - `kith set`: change members of a row's payload, or when it expires. */
#include "rows.h"

#include <string.h>
#include <time.h>

struct options {
    const char *merge, *expires, *partition;
    int no_partition;
};

/* Seconds since 1970, +SECONDS from now, or "never". */
static int parse_moment(cli_context *cli, const char *text, int64_t *at)
{
    uint64_t value;
    int relative = text[0] == '+';
    *at = 0;
    if (strcmp(text, "never") == 0) return CLI_OK;
    if (!cli_parse_count(text + relative, &value) || value < 1 || value > INT64_MAX / 2)
        return cli_usage(cli, "--expires", "'%s' is no time: seconds since 1970, +SECONDS from now, or never",
                         text);
    *at = (int64_t)value + (relative ? (int64_t)time(NULL) : 0);
    return CLI_OK;
}

static int change(cli_context *cli, kith_collection *collection, const struct options *o, int64_t at)
{
    kith_error err;
    if (kith_collection_begin(collection, &err) != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
    for (size_t i = 1; i < cli->n_args; i++) {
        int64_t key;
        int status = rows_key(cli, collection, "KEY", cli->args[i], &key);
        if (status != CLI_OK) return status;
        kith_status set = KITH_OK;
        if (o->merge) set = kith_collection_merge(collection, key, o->merge, 0, &err);
        if (set == KITH_OK && o->expires) set = kith_collection_set_expiry(collection, key, at, &err);
        if (set == KITH_OK && (o->partition || o->no_partition))
            set = kith_collection_set_partition(collection, key, o->partition, &err);
        if (set == KITH_INVALID && o->merge) return cli_fail_error(cli, "--merge", &err);
        if (set != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
    }
    if (kith_collection_commit(collection, &err) != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
    return CLI_OK;
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    kith_collection *collection;
    int64_t at = 0;
    if (!o->merge && !o->expires && !o->partition && !o->no_partition)
        return cli_usage(cli, "--merge", "give --merge, --expires, --partition or --no-partition");
    if (o->partition && o->no_partition)
        return cli_usage(cli, "--no-partition", "goes not together with --partition");
    int status = o->expires ? parse_moment(cli, o->expires, &at) : CLI_OK;
    for (size_t i = 1; i < cli->n_args && status == CLI_OK; i++)
        status = rows_key_check(cli, "KEY", cli->args[i]);
    if (status == CLI_OK) status = rows_open(cli, false, &collection);
    if (status != CLI_OK) return status;
    status = change(cli, collection, o, at);
    kith_collection_close(collection);
    return status;
}

const cli_verb verb_set = {
    .name = "set",
    .group = CLI_ROWS,
    .summary = "change rows of a collection: members of the payload, expiry, partition",
    .description = "Changes the rows with the given keys, all of them or, on any failure, none. --merge "
                   "takes a JSON merge patch (RFC "
                   "7396): members named in it are replaced, those that are null there are taken away, the "
                   "others stay. From the time "
                   "given by --expires on a row is not found any more; `kith delete --expired` removes it.",
    .arguments = (const cli_argument[]){ROWS_ARGUMENT_COLLECTION,
                                        {.name = "KEY", .help = "keys of rows, or =TEXT", .many = true},
                                        {0}},
    .options = (const cli_option[]){{.name = "merge",
                                     .kind = CLI_TEXT,
                                     .argument = "JSON",
                                     .into = offsetof(struct options, merge),
                                     .help = "a JSON object, merged into the payload"},
                                    {.name = "expires",
                                     .kind = CLI_TEXT,
                                     .argument = "TIME",
                                     .into = offsetof(struct options, expires),
                                     .help = "seconds since 1970, +SECONDS from now, or never"},
                                    {.name = "partition",
                                     .kind = CLI_TEXT,
                                     .argument = "NAME",
                                     .into = offsetof(struct options, partition),
                                     .help = "put the rows into this partition (see `kith partitions`)"},
                                    {.name = "no-partition",
                                     .kind = CLI_FLAG,
                                     .into = offsetof(struct options, no_partition),
                                     .help = "take the rows out of their partitions"},
                                    {0}},
    .common = CLI_WAIT,
    .options_size = sizeof(struct options),
    .examples = (const cli_example[]){{"kith set X.kith 17 --merge '{\"seen\":true,\"note\":null}'",
                                       "two members of a row"},
                                      {"kith set X.kith =session/9 --expires +3600", "gone in an hour"},
                                      {0}},
    .run = run,
};
