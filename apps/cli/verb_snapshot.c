/* verb_snapshot.c - `kith snapshot`: one state of a collection, as a collection of its own. */
#include "copies.h"
#include "rows.h"

struct options {
    int no_index;
};

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    return copies_make(cli, kith_collection_snapshot, false, o->no_index,
                       "a snapshot is made at a new path, and `kith sync` brings a copy up to date");
}

const cli_verb verb_snapshot = {
    .name = "snapshot",
    .group = CLI_ROWS,
    .summary = "copy one state of a collection, while others read and write it",
    .description =
        "Makes SNAPSHOT, which must not be there yet: a collection that holds the rows of COLLECTION as they "
        "are when the copying ends, all of one state. Nobody has to wait for it. Interrupted or "
        "killed, the next one to the same path goes on where it was; until it is whole it is named "
        "SNAPSHOT.part, and no verb opens it.",
    .arguments =
        (const cli_argument[]){ROWS_ARGUMENT_COLLECTION, {.name = "SNAPSHOT", .help = "a new path"}, {0}},
    .options = (const cli_option[]){COPIES_OPTION_NO_SEGMENT, {0}},
    .common = CLI_JSON,
    .options_size = sizeof(struct options),
    .examples = (const cli_example[]){{"kith snapshot X.kith X-monday.kith", "today's state"},
                                      {"kith restore X-monday.kith X.kith --replace", "and back to it"},
                                      {0}},
    .run = run,
};
