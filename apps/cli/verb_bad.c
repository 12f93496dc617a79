/* verb_bad.c - `kith bad`: the files that could not be read, with reasons. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

#include <kith/gallery.h>

struct bad_file {
    char *path, *reason;
    uint64_t size;
    kith_status status;
};

struct bad_list {
    struct bad_file *files;
    size_t n, room;
    int failed;
};

static int add(void *ctx, const kith_gallery_bad *bad)
{
    struct bad_list *list = ctx;
    if (list->n == list->room) {
        size_t room = 2 * list->room + 64;
        struct bad_file *grown = realloc(list->files, room * sizeof *grown);
        if (!grown) return list->failed = 1;
        list->files = grown;
        list->room = room;
    }
    struct bad_file file = {strdup(bad->path), strdup(bad->reason), bad->size, bad->status};
    list->files[list->n++] = file;
    return list->failed = !file.path || !file.reason;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct bad_file *)a)->path, ((const struct bad_file *)b)->path);
}

static int print_list(cli_context *cli, const struct bad_list *list)
{
    static const char *const headings[] = {"path", ">bytes", "reason"};
    cli_table table;
    if (!cli->json) cli_table_init(&table, headings, 3);
    for (size_t i = 0; i < list->n; i++) {
        const struct bad_file *file = &list->files[i];
        if (cli->json) {
            int status = cli_json_line(cli, json_pack("{so so ss sI}", "path", cli_json_text(file->path),
                                                      "reason", cli_json_text(file->reason), "status",
                                                      kith_status_name(file->status), "bytes",
                                                      (json_int_t)file->size));
            if (status != CLI_OK) return status;
            continue;
        }
        cli_table_cell(&table, "%s", file->path[0] ? file->path : ".");
        cli_table_cell(&table, "%s", cli_thousands(file->size));
        cli_table_cell(&table, "%s", file->reason);
    }
    if (cli->json) return cli_flush(cli);
    if (list->n == 0) {
        cli_note(cli, "no bad files");
        return CLI_OK;
    }
    return cli_table_print(cli, &table);
}

static int run(cli_context *cli, void *unused)
{
    (void)unused;
    kith_error err;
    kith_gallery *gallery;
    struct bad_list list = {0};
    kith_gallery_options options;
    kith_gallery_options_init(&options);
    options.read_only = 1;
    options.jobs = 1;
    if (kith_gallery_open(cli->args[0], &options, &gallery, &err) != KITH_OK)
        return cli_fail_message(cli, cli->args[0], &err);
    int status = kith_gallery_list_bad(gallery, add, &list, &err) == KITH_OK
                     ? CLI_OK
                     : cli_fail_message(cli, cli->args[0], &err);
    kith_gallery_close(gallery);
    if (status == CLI_OK && list.failed) status = cli_fail(cli, NULL, "out of memory");
    if (status == CLI_OK && list.n) qsort(list.files, list.n, sizeof *list.files, by_path);
    if (status == CLI_OK) status = print_list(cli, &list);
    for (size_t i = 0; i < list.n; i++) {
        free(list.files[i].path);
        free(list.files[i].reason);
    }
    free(list.files);
    return status;
}

const cli_verb verb_bad = {
    .name = "bad",
    .group = CLI_PICTURES,
    .summary = "list the files that could not be read, with reasons",
    .description =
        "Lists the files of an indexed folder that look like pictures and could not be read: broken, cut "
        "short, "
        "too large, not allowed to be read, or such that the decoder crashed on them or took too long. They "
        "are "
        "tried again when they change, or when the limits do; `kith index --retry` tries them all.",
    .arguments =
        (const cli_argument[]){{.name = "COLLECTION", .help = "a collection made by `kith index`"}, {0}},
    .common = CLI_JSON,
    .examples = (const cli_example[]){{"kith bad Pictures.kith", "what is wrong with which file"},
                                      {"kith bad Pictures.kith --json | jq -r .path", "their paths alone"},
                                      {0}},
    .run = run,
};
