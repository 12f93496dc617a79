/* verb_dups.c - `kith dups`: pictures of a collection that are there more than once. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

#include <kith/gallery.h>

#include "contact_sheet.h"

struct options {
    const char *html;
    uint64_t bits;
    double min_score;
};

static int print_json(cli_context *cli, const kith_gallery_group *group, size_t number)
{
    int status = CLI_OK;
    for (size_t i = 0; i < group->n && status == CLI_OK; i++) {
        const kith_gallery_hit *hit = &group->hits[i];
        status = cli_json_line(cli, json_pack("{sI sI so sb sI so}", "group", (json_int_t)number, "key",
                                              (json_int_t)hit->key, "path", cli_json_text(hit->path), "keep",
                                              i == 0, "bits", (json_int_t)group->bits[i], "score",
                                              cli_json_float(hit->score)));
    }
    return status;
}

static int print_table(cli_context *cli, const kith_gallery_duplicates *found)
{
    static const char *const headings[] = {">group", "keep", ">pixels", ">bits", ">score", "path"};
    cli_table table;
    cli_table_init(&table, headings, 6);
    for (size_t c = 0; c < found->n; c++)
        for (size_t i = 0; i < found->groups[c].n; i++) {
            const kith_gallery_hit *hit = &found->groups[c].hits[i];
            json_t *payload = json_loads(hit->payload, 0, NULL);
            cli_table_cell(&table, "%zu", c + 1);
            cli_table_cell(&table, "%s", i == 0 ? "keep" : "");
            cli_table_cell(&table, "%lldx%lld",
                           (long long)json_integer_value(json_object_get(payload, "width")),
                           (long long)json_integer_value(json_object_get(payload, "height")));
            cli_table_cell(&table, "%u", found->groups[c].bits[i]);
            cli_table_cell(&table, "%.4f", (double)hit->score);
            cli_table_cell(&table, "%s", hit->path);
            json_decref(payload);
        }
    return cli_table_print(cli, &table);
}

static int write_sheet(cli_context *cli, const kith_gallery_duplicates *found, const char *path,
                       const char *description)
{
    contact_sheet sheet;
    int status = contact_sheet_begin(cli, &sheet, path, cli->args[0], description);
    for (size_t c = 0; c < found->n && status == CLI_OK; c++)
        status = contact_sheet_add_group(cli, &sheet, &found->groups[c], c + 1);
    if (status == CLI_OK) status = contact_sheet_end(cli, &sheet);
    if (status == CLI_OK) cli_note(cli, "the report is %s", path);
    return status;
}

static int print_found(cli_context *cli, const struct options *o, const kith_gallery_duplicates *found,
                       const char *description)
{
    int status = CLI_OK;
    size_t pictures = 0;
    for (size_t c = 0; c < found->n && status == CLI_OK; c++) {
        pictures += found->groups[c].n;
        if (cli->json) status = print_json(cli, &found->groups[c], c + 1);
    }
    if (status == CLI_OK && !cli->json && found->n) status = print_table(cli, found);
    if (status == CLI_OK && cli->json) status = cli_flush(cli);
    if (status == CLI_OK && o->html) status = write_sheet(cli, found, o->html, description);
    if (status == CLI_OK)
        cli_note(cli, "%s of %s among %s; %s could go", cli_counted(found->n, "group"),
                 cli_counted(pictures, "picture"), cli_thousands(found->pictures),
                 cli_thousands(pictures - found->n));
    return status;
}

/* The gallery forks before the threads are started. */
static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    kith_error err;
    kith_gallery *gallery;
    kith_gallery_options how;
    kith_gallery_options_init(&how);
    how.read_only = 1;
    how.jobs = 1;
    if (o->html) {
        int status = cli_output_check(cli, o->html);
        if (status != CLI_OK) return status;
    }
    if (kith_gallery_open(cli->args[0], &how, &gallery, &err) != KITH_OK)
        return cli_fail_message(cli, cli->args[0], &err);
    kith_gallery_duplicates_options what;
    kith_gallery_duplicates_options_init(&what);
    what.bits = (unsigned)o->bits;
    what.min_score = (float)o->min_score;
    what.thumbnails = o->html != NULL;
    kith_gallery_duplicates *found = NULL;
    int status = CLI_OK;
    if (kith_pool_create(0, NULL, &cli->run.pool, &err) != KITH_OK)
        status = cli_fail_error(cli, NULL, &err);
    else if (kith_gallery_find_duplicates(gallery, &what, &cli->run, &found, &err) != KITH_OK)
        status = err.code == KITH_CANCELLED ? cli_fail(cli, NULL, "interrupted")
                                            : cli_fail_message(cli, cli->args[0], &err);
    if (status == CLI_OK) status = print_found(cli, o, found, kith_gallery_description(gallery));
    kith_gallery_duplicates_free(found);
    kith_gallery_close(gallery);
    return status;
}

const cli_verb verb_dups = {
    .name = "dups",
    .group = CLI_PICTURES,
    .summary = "find pictures that are there more than once",
    .description = "Finds the pictures of COLLECTION that are copies of each other: the same file twice, "
                   "saved again at another "
                   "quality, scaled, brightened. Crops, turned and mirrored ones are not found. Two opinions "
                   "must agree: the "
                   "perceptual hashes of the pictures differ in at most --bits bits of 64, and the score of "
                   "their features, as in "
                   "`kith search`, is at least --min-score; without the second, smooth and dark pictures "
                   "would be taken for one "
                   "another.\n\n"
                   "Each group names the picture to keep first: the one with the most pixels, then the "
                   "largest file, then the oldest. "
                   "Nothing is deleted. With --json, each picture is a line "
                   "{\"group\":N,\"key\":N,\"path\":TEXT,\"keep\":BOOL, ...}.",
    .arguments =
        (const cli_argument[]){{.name = "COLLECTION", .help = "a collection made by `kith index`"}, {0}},
    .options =
        (const cli_option[]){
            {.name = "bits",
             .letter = 'b',
             .kind = CLI_COUNT,
             .argument = "N",
             .fallback = "10",
             .low = 0,
             .high = 32,
             .into = offsetof(struct options, bits),
             .help = "how many of the 64 bits of the perceptual hash may differ"},
            {.name = "min-score",
             .kind = CLI_NUMBER,
             .argument = "S",
             .fallback = "0.55",
             .low = 0,
             .high = 1,
             .into = offsetof(struct options, min_score),
             .help = "how alike the features must be; 0 leaves the hash to decide alone"},
            {.name = "html",
             .kind = CLI_TEXT,
             .argument = "FILE",
             .into = offsetof(struct options, html),
             .help = "write a report, too: one page with the groups and their thumbnails in it"},
            {0}},
    .common = CLI_JSON,
    .options_size = sizeof(struct options),
    .examples = (const cli_example[]){{"kith dups Pictures.kith --html dups.html",
                                       "groups as a page for the browser"},
                                      {"kith dups Pictures.kith --json | jq -r 'select(.keep | not).path'",
                                       "the paths of all copies that could go"},
                                      {0}},
    .run = run,
};
