/* verb_compact.c - `kith compact`: put an index with cells in order after it has grown. */
#include "cli_options.h"

struct options {
    const char *output;
    double max_cell;
};

static int report(cli_context *cli, const char *path, const kith_index *index,
                  const kith_compact_result *result)
{
    kith_error err;
    kith_index_info info = {.struct_size = sizeof info};
    if (kith_index_get_info(index, &info, &err) != KITH_OK) return cli_fail_error(cli, path, &err);
    if (cli->json)
        return cli_json_line(
            cli, json_pack("{s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "file", cli_json_text(path),
                           "spec", info.spec, "rows", (json_int_t)info.n, "cells_before",
                           (json_int_t)result->cells_before, "cells", (json_int_t)result->cells_after,
                           "largest_before", (json_int_t)result->largest_before, "largest",
                           (json_int_t)result->largest_after, "bytes_before",
                           (json_int_t)result->bytes_before, "bytes", (json_int_t)result->bytes_after));
    printf("%s: %s, %s; %s (%s before), the largest of %s (%s before); %s\n", path, info.spec,
           cli_counted(info.n, "row"), cli_counted(result->cells_after, "cell"),
           cli_thousands(result->cells_before), cli_counted(result->largest_after, "row"),
           cli_thousands(result->largest_before), cli_bytes(info.bytes));
    return cli_flush(cli);
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    const char *path = cli->args[0], *output = o->output ? o->output : path;
    kith_error err;
    kith_index *index = NULL;
    kith_compact_result result;
    kith_compact_options compact;
    kith_compact_options_init(&compact);
    compact.max_cell = o->max_cell;
    if (o->max_cell != 0 && o->max_cell < 1.5)
        return cli_usage(cli, "--max-cell", "%g is below 1.5: parts of a cell are not all of one size",
                         o->max_cell);
    int status = cli_output_check(cli, output);
    if (status != CLI_OK) return status;
    if (kith_index_open(path, KITH_OPEN_READ, NULL, NULL, &index, &err) != KITH_OK ||
        kith_index_compact(index, &compact, &cli->run, &result, &err) != KITH_OK)
        status = cli_fail_message(cli, path, &err);
    if (status == CLI_OK && kith_index_save(index, output, NULL, &err) != KITH_OK)
        status = cli_fail_message(cli, output, &err);
    if (status == CLI_OK) status = report(cli, output, index, &result);
    kith_index_free(index);
    return status;
}

const cli_verb verb_compact = {
    .name = "compact",
    .group = CLI_VECTORS,
    .summary = "split the large cells of an inverted file that has grown",
    .description =
        "Reads an index with cells (IVF<n>), lays its lists out anew without room between them, splits cells "
        "of "
        "more than --max-cell times the mean number of rows by k-means of their rows, and writes it: to FILE "
        "itself, which stands as it was until the new one is complete, or to another. Codes stay as they "
        "are; the "
        "number of cells in the spec grows. `kith info` tells when it is time.",
    .arguments = (const cli_argument[]){{.name = "FILE", .help = "the index"}, {0}},
    .options =
        (const cli_option[]){CLI_OPTION_OUTPUT("the index file to write; FILE itself when not given"),
                             {.name = "max-cell",
                              .kind = CLI_NUMBER,
                              .argument = "C",
                              .low = 0,
                              .high = 1e6,
                              .into = offsetof(struct options, max_cell),
                              .help = "rows of a cell at the most, in terms of the mean; 0 splits none"},
                             {0}},
    .common = CLI_JSON | CLI_THREADS,
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){
            {"kith compact base.kidx --max-cell 4", "no cell with more than four times the mean"}, {0}},
    .run = run,
};
