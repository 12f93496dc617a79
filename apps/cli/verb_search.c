/* verb_search.c - `kith search`: the pictures of a collection that are most like given ones, or the rows nearest to
 * vectors. */
#include "cli_options.h"
#include "rows.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <kith/gallery.h>

#include "contact_sheet.h"

struct options {
    const char *html, *model, *filter, *group_by, *fuse, *request;
    cli_list like, unlike, vector, vectors, fields, weights, partitions;
    uint64_t k, offset, group_size;
    double min_score, seconds, radius, target_recall;
    int exact, explain;
};

static json_t *hit_json(const kith_gallery_hit *hit, size_t rank)
{
    json_t *payload = json_loads(hit->payload, 0, NULL);
    return json_pack("{sI sI so so so so}", "rank", (json_int_t)rank, "key", (json_int_t)hit->key, "path",
                     cli_json_text(hit->path), "distance", cli_json_float(hit->distance), "score",
                     cli_json_float(hit->score), "payload", payload ? payload : json_object());
}

/* plan: NULL, or how it was found, to be shown. */
static int print_json(cli_context *cli, const char *picture, const kith_gallery_answer *answer,
                      const kith_collection_plan *plan)
{
    json_t *results = json_array();
    for (size_t i = 0; results && i < answer->n; i++) {
        if (json_array_append_new(results, hit_json(&answer->hits[i], i + 1)) != 0) {
            json_decref(results);
            results = NULL;
        }
    }
    if (!results) return cli_json_line(cli, NULL);
    return cli_json_line(cli,
                         json_pack("{so so sb so*}", "query", cli_json_text(picture), "results", results,
                                   "complete", answer->complete, "plan", plan ? rows_plan_json(plan) : NULL));
}

/* A name that may hold anything, for a terminal: control characters would move the cursor or worse. */
static char *printable(const char *path)
{
    char *copy = strdup(path);
    for (char *c = copy; c && *c; c++)
        if (iscntrl((unsigned char)*c)) *c = '?';
    return copy;
}

static int print_table(cli_context *cli, const char *picture, const kith_gallery_answer *answer,
                       const kith_collection_plan *plan)
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
    if (plan) rows_plan_print(cli, plan);
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
    query.filter = o->filter;
    kith_collection_plan plan = {.struct_size = sizeof plan}, *shown = o->explain ? &plan : NULL;
    query.plan = shown;
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
        int printed =
            cli->json ? print_json(cli, picture, answer, shown) : print_table(cli, picture, answer, shown);
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

static int search_pictures(cli_context *cli, const struct options *o)
{
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

/* A request says itself what is wanted: of options only --explain goes with it. */
static int search_requests(cli_context *cli, const struct options *o, int by_rows)
{
    static const char *const others[] = {"results", "min-score", "html",   "model",     "filter",
                                         "offset",  "group-by",  "radius", "partition", "target-recall",
                                         "exact",   "seconds",   "field",  "weight",    "unlike"};
    if (by_rows || cli->n_args > 1) return cli_usage(cli, "--request", "says itself what is searched by");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (cli_given(cli, others[i])) return cli_usage(cli, others[i], "stands in the request");
    return rows_requests(cli, o->request, o->explain);
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    int by_vectors = (o->vector.n > 0) + (o->vectors.n > 0), by_rows = by_vectors + (o->like.n > 0);
    size_t several = o->vector.n + o->vectors.n > 1;
    if (o->request) return search_requests(cli, o, by_rows);
    if (by_rows + (cli->n_args > 1) != 1)
        return cli_usage(cli, "PICTURE",
                         "give pictures, or one of --vector, --like, --vectors and --request");
    if (!by_rows && o->exact) return cli_usage(cli, "--exact", "is for --vector, --like and --vectors");
    if (o->unlike.n > 0 && o->like.n == 0)
        return cli_usage(cli, "--unlike", "needs a row to be like: --like");
    if (o->group_by && (!by_vectors || several))
        return cli_usage(cli, "--group-by", "is for --vector and --vectors, of one field");
    if (cli_given(cli, "radius") && (!by_vectors || several || o->group_by))
        return cli_usage(cli, "--radius", "is for --vector and --vectors, of one field and without groups");
    if (!by_rows && o->target_recall > 0)
        return cli_usage(cli, "--target-recall", "is for --vector, --like and --vectors");
    if (!by_rows && o->fields.n + o->weights.n + o->partitions.n > 0)
        return cli_usage(cli, "--field, --weight, --partition", "are for --vector, --like and --vectors");
    if (!by_rows && (o->offset > 0 || o->seconds > 0))
        return cli_usage(cli, "--offset, --seconds", "are for --vector, --like and --vectors");
    if (!by_rows) return search_pictures(cli, o);
    if (o->html || o->model || o->min_score > 0)
        return cli_usage(cli, "--html, --model, --min-score", "are for searching by pictures");
    rows_query query = {.vector = o->vector,
                        .like = o->like,
                        .unlike = o->unlike,
                        .offset = (size_t)o->offset,
                        .group_by = o->group_by,
                        .group_size = (size_t)o->group_size,
                        .seconds = o->seconds,
                        .vectors = o->vectors,
                        .fields = o->fields,
                        .weights = o->weights,
                        .partitions = o->partitions,
                        .fuse = o->fuse,
                        .radius = o->radius,
                        .target_recall = o->target_recall,
                        .with_radius = cli_given(cli, "radius"),
                        .filter = o->filter,
                        .k = (size_t)o->k,
                        .exact = o->exact,
                        .explain = o->explain};
    return rows_search(cli, &query);
}

const cli_verb verb_search = {
    .name = "search",
    .group = CLI_PICTURES,
    .summary = "find the pictures, or the rows, most like a given one",
    .description =
        "Prints the K pictures of COLLECTION that are most like each PICTURE, which need not be "
        "in it. The score "
        "is 1 for the same picture and falls towards 0; what counts as similar depends on the "
        "features that the "
        "collection was made with.\n\n"
        "With --like, --vector or --vectors it prints the K rows of any collection that are nearest to a "
        "row, "
        "to a vector, or to each vector of a file.\n\n"
        "With --filter only rows are found for which the condition over their payload is true "
        "(docs/filters.md), and as many as there are, up to K. Payloads of pictures hold path, folder, size, "
        "mtime, format, width, height, taken and camera.",
    .arguments =
        (const cli_argument[]){
            {.name = "COLLECTION", .help = "a collection made by `kith index`"},
            {.name = "PICTURE", .help = "the pictures to search by", .optional = true, .many = true},
            {0}},
    .options =
        (const cli_option[]){
            {.name = "results",
             .letter = 'k',
             .kind = CLI_COUNT,
             .argument = "K",
             .fallback = "10",
             .low = 1,
             .high = 1000000,
             .into = offsetof(struct options, k),
             .help = "how many to find for each picture"},
            CLI_OPTION_NUMBER(min_score, "min-score", "S", "0", 0, 1, "leave out those that score less"),
            CLI_OPTION_TEXT(html, "html", "FILE",
                            "write a contact sheet, too: one page with the thumbnails in it"),
            CLI_OPTION_TEXT(model, "model", "FILE",
                            "where the network is now that the collection was made with, if it has moved"),
            ROWS_OPTION_FILTER("find only rows for which this is true"),
            CLI_OPTION_LIST(like, "like", "KEY",
                            "search by the vector of a row, which itself is left out; =TEXT for a row known "
                            "by a text; given more than once: by their mean"),
            CLI_OPTION_LIST(unlike, "unlike", "KEY",
                            "with --like: away from this row; may be given more than once"),
            CLI_OPTION_COUNT(offset, "offset", "N", "0", 0, 999999, "leave out the N nearest: the next page"),
            CLI_OPTION_TEXT(group_by, "group-by", "FIELD",
                            "with --vector or --vectors: K values of this member of the payload, and the "
                            "nearest rows of each"),
            CLI_OPTION_COUNT(group_size, "group-size", "N", "1", 1, 10000,
                             "with --group-by: how many rows of each value"),
            CLI_OPTION_NUMBER(seconds, "seconds", "S", "0", 0, 86400,
                              "end each search after so long with the best so far; 0 means never"),
            CLI_OPTION_LIST(vector, "vector", "JSON",
                            "search by a vector, a JSON array of numbers; given more than once, with a "
                            "--field each: by all of them together"),
            CLI_OPTION_LIST(vectors, "vectors", "FILE",
                            "search by each vector of a file; given more than once: by the i-th vectors of "
                            "all files together"),
            CLI_OPTION_LIST(fields, "field", "NAME",
                            "the vector field that the vectors are for, one for each --vector or --vectors; "
                            "- stands for the vectors of the rows"),
            CLI_OPTION_LIST(weights, "weight", "W", "how much each of several --vector or --vectors counts"),
            CLI_OPTION_CHOICE(fuse, "fuse", "HOW", "ranks", "ranks|weights",
                              "several fields: by reciprocal ranks, or by weighted likeness"),
            CLI_OPTION_NUMBER(radius, "radius", "R", "0", -3.4e38, 3.4e38,
                              "only rows within this distance (squared for l2), K of them at most"),
            CLI_OPTION_LIST(partitions, "partition", "NAME",
                            "only rows in this partition; given more than once: in one of these"),
            CLI_OPTION_TEXT(request, "request", "FILE",
                            "answer the searches of a file, a JSON object a line (kith/request.h: vectors of "
                            "several fields, filter, fusion, k, ...); - stands for standard input"),
            CLI_OPTION_NUMBER(
                target_recall, "target-recall", "R", "0", 0, 1,
                "the recall wanted, as `kith tune` measured it; 0: what the collection is tuned to"),
            CLI_OPTION_FLAG(exact, "exact", "compare every row, even if there is an index"),
            CLI_OPTION_FLAG(explain, "explain", "say how the rows were found"),
            {0}},
    .common = CLI_JSON,
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){
            {"kith search Pictures.kith cat.jpg", "the ten most similar pictures"},
            {"kith search Pictures.kith *.jpg -k 30 --html found.html", "as a page for the browser"},
            {"kith search Pictures.kith cat.jpg --json | jq -r '.results[].path'", "paths for a script"},
            {"kith search Pictures.kith cat.jpg --filter 'folder like \"2004/%\" and width > 1000'",
             "among the large pictures of a year"},
            {"kith search X.kith --like 17 --filter 'year >= 1990' --explain",
             "rows like row 17, and how they were found"},
            {"kith search X.kith --vectors q.fvecs --radius 0.8 -k 1000 --json",
             "all rows within a distance"},
            {"kith search X.kith --field title --vector '[1,0]' --field - --vector '[3,1,2]'",
             "by two vector fields together"},
            {"kith search X.kith --like 17 --like =beach --unlike 9", "towards two rows, away from a third"},
            {0}},
    .run = run,
};
