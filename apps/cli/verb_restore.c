/* verb_restore.c - `kith restore`: a collection is again what a snapshot holds. */
#include "copies.h"

struct options {
    int replace, no_index;
};

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    kith_error err;
    kith_copy_options how;
    kith_copy_report report = {.struct_size = sizeof report};
    kith_copy_options_init(&how);
    how.replace = o->replace;
    how.without_segment = o->no_index;
    how.run = &cli->run;
    if (kith_collection_restore(cli->args[0], cli->args[1], &how, &report, &err) != KITH_OK)
        return copies_fail(cli, &err, "--replace makes it what the snapshot holds, whatever is lost of it");
    return copies_report(cli, cli->args[1], &report);
}

const cli_verb verb_restore = {
    .name = "restore",
    .group = CLI_ROWS,
    .summary = "make a collection what a snapshot holds",
    .description =
        "Proves that SNAPSHOT is sound and makes COLLECTION what it holds. With --replace there may be a "
        "collection, "
        "which others may have open, a server say: it is changed in one step, and they go on with the rows "
        "of "
        "SNAPSHOT.",
    .arguments = (const cli_argument[]){{.name = "SNAPSHOT", .help = "a snapshot, or any collection"},
                                        {.name = "COLLECTION", .help = "a path"},
                                        {0}},
    .options = (const cli_option[]){{.name = "replace",
                                     .kind = CLI_FLAG,
                                     .into = offsetof(struct options, replace),
                                     .help = "what is in COLLECTION and not in SNAPSHOT may be lost"},
                                    COPIES_OPTION_NO_SEGMENT,
                                    {0}},
    .common = CLI_JSON,
    .options_size = sizeof(struct options),
    .examples = (const cli_example[]){{"kith restore X-monday.kith X.kith", "X.kith is not there any more"},
                                      {"kith restore X-monday.kith X.kith --replace",
                                       "it is, and goes back to Monday"},
                                      {0}},
    .run = run,
};
