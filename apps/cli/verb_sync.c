/* verb_sync.c - `kith sync`: make a collection a copy of another, or bring the copy that it is up to date. */
#include "copies.h"
#include "rows.h"

struct options {
    int replace, no_index;
};

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    kith_error err;
    kith_collection *source;
    kith_copy_options how;
    kith_copy_report report = {.struct_size = sizeof report};
    int status = rows_open(cli, true, &source);
    if (status != CLI_OK) return status;
    kith_copy_options_init(&how);
    how.replace = o->replace;
    how.without_segment = o->no_index;
    how.run = &cli->run;
    kith_status copied = kith_collection_sync(source, cli->args[1], &how, &report, &err);
    kith_collection_close(source);
    if (copied != KITH_OK) return cli_fail_message(cli, cli->args[1], &err);
    return copies_report(cli, cli->args[1], &report);
}

const cli_verb verb_sync = {
    .name = "sync",
    .group = CLI_ROWS,
    .summary = "make a collection a copy of another, or bring the copy up to date",
    .description =
        "Makes COPY what COLLECTION is. Where there is nothing yet, all rows are copied; where there is a "
        "copy that an earlier sync, snapshot or restore made, only the rows that have changed since, and the "
        "search index if it is another one. Others may write to COLLECTION and read COPY meanwhile: they see "
        "the "
        "old rows or the new ones.\n\n"
        "A sync that was interrupted or killed is taken up by the next one. Until a first copy is whole it "
        "is named "
        "COPY.part and no verb opens it. A COPY that was written to since is not touched unless --replace "
        "says "
        "so.",
    .arguments = (const cli_argument[]){ROWS_ARGUMENT_COLLECTION,
                                        {.name = "COPY", .help = "a path, or an earlier copy"},
                                        {0}},
    .options = (const cli_option[]){{.name = "replace",
                                     .kind = CLI_FLAG,
                                     .into = offsetof(struct options, replace),
                                     .help = "what is in COPY and not in COLLECTION may be lost"},
                                    COPIES_OPTION_NO_SEGMENT,
                                    {0}},
    .common = CLI_JSON,
    .options_size = sizeof(struct options),
    .examples = (const cli_example[]){{"kith sync X.kith /backup/X.kith", "every night: what has changed"},
                                      {"kith verify X.kith --against /backup/X.kith", "that it is the same"},
                                      {0}},
    .run = run,
};
