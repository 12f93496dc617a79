/* copies.c - what was copied, and whether two collections are the same. */
#include "copies.h"

#include <inttypes.h>
#include <string.h>

#include "rows.h"

int copies_report(cli_context *cli, const char *copy, const kith_copy_report *r)
{
    if (cli->json)
        return cli_json_line(cli, json_pack("{so sI sI sI sI sI sb}", "copy", cli_json_text(copy), "version",
                                            (json_int_t)r->version, "rows", (json_int_t)r->rows, "deleted",
                                            (json_int_t)r->deleted, "resumed", (json_int_t)r->resumed_rows,
                                            "index_bytes", (json_int_t)r->segment_bytes, "whole", r->whole));
    printf("%s copied, %s deleted", cli_counted(r->rows, "row"), cli_thousands(r->deleted));
    if (r->resumed_rows) printf(", %s were there already", cli_thousands(r->resumed_rows));
    if (r->segment_bytes) printf(", an index of %s", cli_bytes(r->segment_bytes));
    printf("\n");
    return cli_flush(cli);
}

int copies_fail(cli_context *cli, const kith_error *err, const char *taken)
{
    if (err->code != KITH_EXISTS) return cli_fail_message(cli, cli->args[1], err);
    return cli_fail(cli, NULL, "%s; %s", err->message, taken);
}

int copies_make(cli_context *cli, copies_way *way, bool replace, bool without_segment, const char *taken)
{
    kith_error err;
    kith_collection *source;
    kith_copy_options how;
    kith_copy_report report = {.struct_size = sizeof report};
    int status = rows_open(cli, true, &source);
    if (status != CLI_OK) return status;
    kith_copy_options_init(&how);
    how.replace = replace;
    how.without_segment = without_segment;
    how.run = &cli->run;
    kith_status copied = way(source, cli->args[1], &how, &report, &err);
    kith_collection_close(source);
    if (copied != KITH_OK) return copies_fail(cli, &err, taken);
    return copies_report(cli, cli->args[1], &report);
}

static kith_status compare_paths(cli_context *cli, const char *first, const char *second, bool everything,
                                 kith_difference *difference, kith_error *err)
{
    kith_collection *a = NULL, *b = NULL;
    kith_collection_options open;
    kith_compare_options options;
    kith_collection_options_init(&open);
    open.read_only = 1;
    kith_compare_options_init(&options);
    options.everything = everything;
    options.run = &cli->run;
    kith_status status = kith_collection_open(first, &open, &a, err);
    if (status == KITH_OK) status = kith_collection_open(second, &open, &b, err);
    if (status == KITH_OK) status = kith_collection_compare(a, b, &options, difference, err);
    kith_collection_close(a);
    kith_collection_close(b);
    return status;
}

int copies_compare(cli_context *cli, const char *first, const char *second, bool everything)
{
    kith_error err;
    kith_difference d = {.struct_size = sizeof d};
    if (compare_paths(cli, first, second, everything, &d, &err) != KITH_OK)
        return cli_fail_message(cli, second, &err);
    if (cli->json) {
        json_t *line = json_pack("{so so sb}", "file", cli_json_text(first), "against", cli_json_text(second),
                                 "same", !d.different);
        if (line && d.different)
            json_object_update_new(line, json_pack("{sI so so so}", "key", (json_int_t)d.key, "field",
                                                   cli_json_text(d.field), "here", cli_json_text(d.first),
                                                   "there", cli_json_text(d.second)));
        int status = cli_json_line(cli, line);
        if (status != CLI_OK) return status;
    }
    if (!d.different) return CLI_OK;
    if (d.key == 0)
        return cli_fail(cli, second, "differs from %s: its %s is %s, there it is %s", first, d.field,
                        d.second, d.first);
    if (strcmp(d.field, "row") == 0)
        return cli_fail(cli, second, "differs from %s: row %" PRId64 " is only in %s", first, d.key,
                        strcmp(d.first, "nothing") == 0 ? second : first);
    return cli_fail(cli, second, "differs from %s: row %" PRId64 ": %s is %s, there it is %s", first, d.key,
                    d.field, d.second, d.first);
}
