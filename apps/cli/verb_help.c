/* verb_help.c - `kith help`, `kith help VERB`. */
#include "cli.h"

static int run(cli_context *cli, void *options)
{
    (void)options;
    if (cli->n_args == 0) {
        cli_help(stdout);
        return cli_flush(cli);
    }
    size_t used;
    const cli_verb *verb = cli_verb_match(cli->n_args, cli->args, &used);
    if (!verb || used < cli->n_args)
        return cli_usage(cli, cli->args[0], "unknown verb; `kith help` lists them");
    cli_verb_help(verb, stdout);
    return cli_flush(cli);
}

const cli_verb verb_help = {
    .name = "help",
    .group = CLI_OTHER,
    .summary = "show what a verb does, its options and examples",
    .description = "Without a verb, lists all verbs.",
    .arguments =
        (const cli_argument[]){
            {.name = "VERB", .help = "the verb to be explained", .optional = true, .many = true}, {0}},
    .examples = (const cli_example[]){{"kith help build", "shows what `kith build --help` shows"}, {0}},
    .run = run,
};
