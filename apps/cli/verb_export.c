/* verb_export.c - `kith export`: rows of a collection into files, or into another collection. */
#include "rows.h"
#include "rows_source.h"

struct options {
    const char *filter, *payload, *key;
    cli_list also, columns;
};

static int copy_rows(cli_context *cli, rows_source *source, rows_sink *sink)
{
    rows_item item;
    int end = 0;
    for (uint64_t seen = 0;; seen++) {
        int status = source->next(cli, source, &item, &end);
        if (status == CLI_OK && !end) status = sink->put(cli, sink, &item);
        if (status != CLI_OK || end) return status;
        if (cli_cancelled(cli)) return cli_fail(cli, NULL, "interrupted");
        if (seen % 1000 == 999 && cli->run.progress)
            cli->run.progress(cli->run.progress_ctx, "exporting", seen, source->total);
    }
}

static int say(cli_context *cli, const rows_sink *sink)
{
    if (sink->left_out) cli_note(cli, "%s without a vector left out", cli_counted(sink->left_out, "row"));
    if (cli->json)
        return cli_json_line(cli, json_pack("{so so sI sI}", "collection", cli_json_text(cli->args[0]),
                                            "vectors", cli_json_text(cli->args[1]), "rows",
                                            (json_int_t)sink->rows, "left_out", (json_int_t)sink->left_out));
    cli_note(cli, "%s: %s", cli->args[1], cli_counted(sink->rows, "row"));
    return CLI_OK;
}

/* The filter lets nothing through. The source has its own handle: this one is for the remark. */
static void hint(cli_context *cli, const char *filter)
{
    kith_collection *collection;
    if (rows_open(cli, true, &collection) != CLI_OK) return;
    rows_filter_hint(cli, collection, filter);
    kith_collection_close(collection);
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    rows_source *source = NULL;
    rows_sink *sink = NULL;
    const rows_reading reading = {.path = cli->args[0], .filter = o->filter};
    int status = rows_open_collection(cli, &reading, &source);
    const rows_writing writing = {.path = cli->args[1],
                                  .payload = o->payload,
                                  .key = o->key,
                                  .also = o->also,
                                  .columns = o->columns,
                                  .shape = source ? &source->shape : NULL};
    if (status == CLI_OK) status = rows_sink_open(cli, &writing, &sink);
    if (status == CLI_OK && source->total == 0 && o->filter) hint(cli, o->filter);
    if (status == CLI_OK) status = copy_rows(cli, source, sink);
    if (status == CLI_OK) status = sink->finish(cli, sink);
    if (status == CLI_OK) status = say(cli, sink);
    rows_sink_close(sink);
    rows_source_close(source);
    return status;
}

const cli_verb verb_export = {
    .name = "export",
    .group = CLI_ROWS,
    .summary = "write rows of a collection to files or another collection",
    .description =
        "Writes the rows that the filter lets through, in the order of their keys and as of one moment, to "
        "TARGET, whose ending says how. A vector file (.npy, .fvecs, .fbin, .hdf5, ...) takes the vectors; "
        "with "
        "--payload line i of that file is the payload of vector i, and with --key it holds the row's key, "
        "too, as "
        "the member FIELD, so that `kith import --key FIELD` makes the same rows of it. Rows without a "
        "vector "
        "are left out.\n\n"
        "A file of rows (.jsonl), a table (.csv, .tsv) and a collection (.kith) take all that a row has: "
        "key, "
        "text, partition, when it expires, payload, the vectors of all fields; .jsonl and .kith also the "
        "declared fields and the partitions; .kith also attachments. A collection that is there keeps its "
        "rows, but for those whose keys come anew. `kith import` reads them all.",
    .arguments =
        (const cli_argument[]){ROWS_ARGUMENT_COLLECTION, {.name = "TARGET", .help = "what to write"}, {0}},
    .options =
        (const cli_option[]){ROWS_OPTION_FILTER("only rows for which this is true (docs/filters.md)"),
                             {.name = "payload",
                              .letter = 'p',
                              .kind = CLI_TEXT,
                              .argument = "ROWS.jsonl",
                              .into = offsetof(struct options, payload),
                              .help = "beside a vector file: the payloads, a JSON object a line"},
                             {.name = "key",
                              .kind = CLI_TEXT,
                              .argument = "FIELD",
                              .into = offsetof(struct options, key),
                              .help = "the member of the written payloads that is the key"},
                             {.name = "also",
                              .kind = CLI_LIST,
                              .argument = "NAME=FILE",
                              .into = offsetof(struct options, also),
                              .help = "beside a vector file: the vectors in the vector field NAME, which "
                                      "every row must have; may be given more than once"},
                             {.name = "column",
                              .kind = CLI_LIST,
                              .argument = "MEMBER",
                              .into = offsetof(struct options, columns),
                              .help = "of a table: a column for this member of the payload, instead of "
                                      "one for all of it; may be given more than once"},
                             {0}},
    .common = CLI_JSON,
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){{"kith export X.kith x.npy --payload x.jsonl --key id", "vectors and payloads"},
                              {"kith export X.kith x.jsonl", "all that its rows have"},
                              {"kith export X.kith new.fvecs --filter 'year >= 2020'", "some vectors"},
                              {"kith export X.kith t.csv --column city --column year", "a table"},
                              {0}},
    .run = run,
};
