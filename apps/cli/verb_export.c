/* verb_export.c - `kith export`: rows of a collection as a vector file and a file of payloads. */
#include "rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <kith/dataset.h>

struct options {
    const char *filter, *payload, *key;
};

typedef struct exporting {
    const struct options *o;
    kith_collection *collection;
    kith_dataset_writer *vectors;
    FILE *payloads; /* NULL: none */
    uint64_t rows, without;
} exporting;

/* The payload of a row as a line, with its key as the member that --key names. */
static int write_payload(cli_context *cli, exporting *e, const kith_row *row)
{
    if (!e->payloads) return CLI_OK;
    int failed;
    if (e->o->key) {
        json_t *payload = json_loadb(row->payload, row->payload_size, 0, NULL);
        char *text = NULL;
        if (json_object_set_new(payload, e->o->key, json_integer((json_int_t)row->key)) == 0)
            text = json_dumps(payload, JSON_COMPACT | JSON_SORT_KEYS);
        json_decref(payload);
        if (!text) return cli_fail(cli, NULL, "out of memory");
        failed = fputs(text, e->payloads) < 0 || fputc('\n', e->payloads) < 0;
        free(text);
    } else {
        failed = fwrite(row->payload, 1, row->payload_size, e->payloads) != row->payload_size ||
                 fputc('\n', e->payloads) < 0;
    }
    return failed ? cli_fail(cli, e->o->payload, "%s", strerror(errno)) : CLI_OK;
}

static int write_row(cli_context *cli, exporting *e, const kith_row *row)
{
    kith_error err;
    if (!row->vector) {
        e->without++;
        return CLI_OK;
    }
    if (kith_dataset_append_f32(e->vectors, row->vector, 1, &err) != KITH_OK)
        return cli_fail_message(cli, cli->args[1], &err);
    e->rows++;
    return write_payload(cli, e, row);
}

static int write_all(cli_context *cli, exporting *e)
{
    kith_error err;
    kith_row row = {0};
    uint64_t seen = 0;
    for (;;) {
        kith_status status = e->o->filter
                                 ? kith_collection_next_where(e->collection, e->o->filter, row.key,
                                                              KITH_ROW_ALL & ~KITH_ROW_ATTACHMENT, &row, &err)
                                 : kith_collection_next(e->collection, row.key,
                                                        KITH_ROW_ALL & ~KITH_ROW_ATTACHMENT, &row, &err);
        if (status != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
        if (row.key == 0) return CLI_OK;
        int written = write_row(cli, e, &row);
        if (written != CLI_OK) return written;
        if (cli_cancelled(cli)) return cli_fail(cli, NULL, "interrupted");
        if (++seen % 1000 == 0 && cli->run.progress)
            cli->run.progress(cli->run.progress_ctx, "exporting", seen, 0);
    }
}

static int finish(cli_context *cli, exporting *e)
{
    kith_error err;
    if (e->rows == 0) return cli_fail(cli, cli->args[0], "no row with a vector is let through");
    if (kith_dataset_writer_finish(e->vectors, &err) != KITH_OK)
        return cli_fail_message(cli, cli->args[1], &err);
    if (e->without) cli_note(cli, "%s rows without a vector are left out", cli_thousands(e->without));
    if (cli->json)
        return cli_json_line(cli, json_pack("{so so sI sI}", "collection", cli_json_text(cli->args[0]),
                                            "vectors", cli_json_text(cli->args[1]), "rows",
                                            (json_int_t)e->rows, "left_out", (json_int_t)e->without));
    cli_note(cli, "%s: %s rows", cli->args[1], cli_thousands(e->rows));
    return CLI_OK;
}

static int export_with_payloads(cli_context *cli, exporting *e, const char *part)
{
    e->payloads = fopen(part, "w");
    if (!e->payloads) return cli_fail(cli, part, "%s", strerror(errno));
    int status = write_all(cli, e);
    if (fclose(e->payloads) != 0 && status == CLI_OK)
        status = cli_fail(cli, e->o->payload, "%s", strerror(errno));
    if (status == CLI_OK) status = finish(cli, e);
    if (status == CLI_OK && rename(part, e->o->payload) != 0)
        status = cli_fail(cli, e->o->payload, "%s", strerror(errno));
    return status;
}

static int export_rows(cli_context *cli, exporting *e)
{
    kith_error err;
    size_t dim = kith_collection_dim(e->collection);
    if (dim == 0) return cli_fail(cli, cli->args[0], "it has no vectors");
    if (kith_collection_pin(e->collection, &err) != KITH_OK) return cli_fail_message(cli, cli->args[0], &err);
    if (kith_dataset_writer_create(cli->args[1], dim, NULL, &e->vectors, &err) != KITH_OK)
        return cli_fail_message(cli, cli->args[1], &err);
    if (!e->o->payload) {
        int status = write_all(cli, e);
        return status == CLI_OK ? finish(cli, e) : status;
    }
    /* Beside its place until all is written: what was there stays when this fails. */
    char *part = malloc(strlen(e->o->payload) + sizeof ".part");
    if (!part) return cli_fail(cli, NULL, "out of memory");
    sprintf(part, "%s.part", e->o->payload);
    int status = export_with_payloads(cli, e, part);
    if (status != CLI_OK) (void)unlink(part);
    free(part);
    return status;
}

static int run(cli_context *cli, void *options)
{
    exporting e = {.o = options};
    if (e.o->key && !e.o->payload)
        return cli_usage(cli, "--key", "needs --payload: the key is written there");
    int status = rows_open(cli, true, &e.collection);
    if (status == CLI_OK) status = export_rows(cli, &e);
    kith_dataset_writer_free(e.vectors);
    kith_collection_close(e.collection);
    return status;
}

const cli_verb verb_export = {
    .name = "export",
    .group = CLI_ROWS,
    .summary = "write rows of a collection as a vector file and payloads",
    .description =
        "Writes the vectors of the rows that the filter lets through, in the order of their keys and as of "
        "one "
        "moment, to VECTORS, whose extension says the format (.npy, .fvecs, .fbin, ...). With --payload line "
        "i "
        "of that file is the payload of vector i; with --key it holds the row's key, too, as the member "
        "FIELD, "
        "so that `kith import --key FIELD` makes the same collection of it. Rows without a vector are left "
        "out; attachments are not exported.",
    .arguments = (const cli_argument[]){ROWS_ARGUMENT_COLLECTION,
                                        {.name = "VECTORS", .help = "the vector file to write"},
                                        {0}},
    .options = (const cli_option[]){ROWS_OPTION_FILTER("only rows for which this is true (docs/filters.md)"),
                                    {.name = "payload",
                                     .letter = 'p',
                                     .kind = CLI_TEXT,
                                     .argument = "ROWS.jsonl",
                                     .into = offsetof(struct options, payload),
                                     .help = "write the payloads, too, a JSON object a line"},
                                    {.name = "key",
                                     .kind = CLI_TEXT,
                                     .argument = "FIELD",
                                     .into = offsetof(struct options, key),
                                     .help = "the member of the written payloads that is the key"},
                                    {0}},
    .common = CLI_JSON,
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){{"kith export X.kith x.npy --payload x.jsonl --key id", "all of it"},
                              {"kith export X.kith new.fvecs --filter 'year >= 2020'", "some vectors"},
                              {0}},
    .run = run,
};
