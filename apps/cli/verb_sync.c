/* verb_sync.c - `kith sync`: make a collection a copy of another, or bring the copy that it is up to date. */
#include "copies.h"
#include "rows.h"

struct options {
    int replace, no_index;
};

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    return copies_make(cli, kith_collection_sync, o->replace, o->no_index,
                       "--replace makes it the same, whatever is lost of it");
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
        "COPY.part and no verb opens it. A COPY that was written to since, and one of what "
        "COLLECTION was before it was restored, is not touched unless --replace says so.",
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
