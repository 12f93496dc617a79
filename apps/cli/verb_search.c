/* verb_search.c - `kith search`: the pictures of a collection that are most like given ones. */
#include "cli.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <kith/gallery.h>

#include "contact_sheet.h"

struct options {
    const char *html, *model;
    uint64_t k;
    double min_score;
};

static json_t *hit_json(const kith_gallery_hit *hit, size_t rank)
{
    json_t *payload = json_loads(hit->payload, 0, NULL);
    return json_pack("{sI sI so so so so}", "rank", (json_int_t)rank, "key", (json_int_t)hit->key, "path",
                     cli_json_text(hit->path), "distance", cli_json_float(hit->distance), "score",
                     cli_json_float(hit->score), "payload", payload ? payload : json_object());
}

static int print_json(cli_context *cli, const char *picture, const kith_gallery_answer *answer)
{
    json_t *results = json_array();
    for (size_t i = 0; results && i < answer->n; i++) {
        if (json_array_append_new(results, hit_json(&answer->hits[i], i + 1)) != 0) {
            json_decref(results);
            results = NULL;
        }
    }
    if (!results) return cli_json_line(cli, NULL);
    return cli_json_line(cli, json_pack("{so so sb}", "query", cli_json_text(picture), "results", results,
                                        "complete", answer->complete));
}

/* A name that may hold anything, for a terminal: control characters would move the cursor or worse. */
static char *printable(const char *path)
{
    char *copy = strdup(path);
    for (char *c = copy; c && *c; c++)
        if (iscntrl((unsigned char)*c)) *c = '?';
    return copy;
}

static int print_table(cli_context *cli, const char *picture, const kith_gallery_answer *answer)
{
    static const char *const headings[] = {">rank", ">score", "path"};
    cli_table table;
    if (answer->n == 0) {
        cli_note(cli, "%s: nothing similar enough", picture);
        return CLI_OK;
    }
    if (cli->n_args > 2) {
        char *name = printable(picture);
        cli_progress_clear(cli);
        printf("%s:\n", name ? name : "?");
        free(name);
    }
    cli_table_init(&table, headings, 3);
    for (size_t i = 0; i < answer->n; i++) {
        cli_table_cell(&table, "%zu", i + 1);
        cli_table_cell(&table, "%.4f", (double)answer->hits[i].score);
        cli_table_cell(&table, "%s", answer->hits[i].path);
    }
    return cli_table_print(cli, &table);
}

/* One query after the other; one that fails is said so and the rest goes on. */
static int search_all(cli_context *cli, kith_gallery *gallery, const struct options *o, contact_sheet *sheet)
{
    kith_error err;
    kith_gallery_query query;
    kith_gallery_query_init(&query);
    query.k = (size_t)o->k;
    query.min_score = (float)o->min_score;
    query.thumbnails = sheet != NULL;
    query.run = &cli->run;
    int status = CLI_OK;
    for (size_t i = 1; i < cli->n_args; i++) {
        kith_gallery_answer *answer;
        const char *picture = cli->args[i];
        if (kith_gallery_search(gallery, picture, &query, &answer, &err) != KITH_OK) {
            status = err.code == KITH_CANCELLED ? cli_fail(cli, NULL, "interrupted")
                                                : cli_fail_message(cli, picture, &err);
            /* What is wrong with the collection is wrong for all. */
            if (err.code != KITH_CORRUPT && err.code != KITH_UNSUPPORTED && err.code != KITH_NOTFOUND &&
                err.code != KITH_IO && err.code != KITH_INVALID)
                return status;
            continue;
        }
        int printed = cli->json ? print_json(cli, picture, answer) : print_table(cli, picture, answer);
        if (printed == CLI_OK && sheet) printed = contact_sheet_add(cli, sheet, picture, answer);
        kith_gallery_answer_free(answer);
        if (printed != CLI_OK) return printed;
    }
    int flushed = cli_flush(cli);
    return status != CLI_OK ? status : flushed;
}

static int search_gallery(cli_context *cli, kith_gallery *gallery, const struct options *o)
{
    if (!o->html) return search_all(cli, gallery, o, NULL);
    contact_sheet sheet;
    int status = contact_sheet_begin(cli, &sheet, o->html, cli->args[0], kith_gallery_description(gallery));
    if (status != CLI_OK) return status;
    status = search_all(cli, gallery, o, &sheet);
    if (!sheet.file) return CLI_FAILED; /* the disk was full; that was said */
    int ended = contact_sheet_end(cli, &sheet);
    if (ended == CLI_OK) cli_note(cli, "the contact sheet is %s", o->html);
    return status != CLI_OK ? status : ended;
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    kith_error err;
    kith_gallery *gallery;
    kith_gallery_options how;
    kith_gallery_options_init(&how);
    how.read_only = 1;
    how.jobs = 1;
    how.model = o->model;
    if (o->html) {
        int status = cli_output_check(cli, o->html);
        if (status != CLI_OK) return status;
    }
    if (kith_gallery_open(cli->args[0], &how, &gallery, &err) != KITH_OK)
        return cli_fail_message(cli, cli->args[0], &err);
    int status = search_gallery(cli, gallery, o);
    kith_gallery_close(gallery);
    return status;
}

const cli_verb verb_search = {
    .name = "search",
    .group = CLI_PICTURES,
    .summary = "find the pictures that are most like a given one",
    .description = "Prints the K pictures of COLLECTION that are most like each PICTURE, which need not be "
                   "in it. The score "
                   "is 1 for the same picture and falls towards 0; what counts as similar depends on the "
                   "features that the "
                   "collection was made with.",
    .arguments =
        (const cli_argument[]){{.name = "COLLECTION", .help = "a collection made by `kith index`"},
                               {.name = "PICTURE", .help = "the pictures to search by", .many = true},
                               {0}},
    .options =
        (const cli_option[]){{.name = "results",
                              .letter = 'k',
                              .kind = CLI_COUNT,
                              .argument = "K",
                              .fallback = "10",
                              .low = 1,
                              .high = 1000000,
                              .into = offsetof(struct options, k),
                              .help = "how many to find for each picture"},
                             {.name = "min-score",
                              .kind = CLI_NUMBER,
                              .argument = "S",
                              .fallback = "0",
                              .low = 0,
                              .high = 1,
                              .into = offsetof(struct options, min_score),
                              .help = "leave out those that score less"},
                             {.name = "html",
                              .kind = CLI_TEXT,
                              .argument = "FILE",
                              .into = offsetof(struct options, html),
                              .help = "write a contact sheet, too: one page with the thumbnails in it"},
                             {.name = "model",
                              .kind = CLI_TEXT,
                              .argument = "FILE",
                              .into = offsetof(struct options, model),
                              .help = "where the network is now that the collection was made with, if it has "
                                      "moved"},
                             {0}},
    .common = CLI_JSON,
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){
            {"kith search Pictures.kith cat.jpg", "the ten most similar pictures"},
            {"kith search Pictures.kith *.jpg -k 30 --html found.html", "as a page for the browser"},
            {"kith search Pictures.kith cat.jpg --json | jq -r '.results[].path'", "paths for a script"},
            {0}},
    .run = run,
};
