/* verb_index.c - `kith index`: a folder of pictures becomes a collection, and is kept in step with it. */
#include "cli_options.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <kith/gallery.h>

struct options {
    const char *output, *descriptor, *model, *mean, *scale;
    cli_list exclude;
    uint64_t jobs, input, batch, seed;
    double megapixels, seconds;
    int hidden, retrain, prune, relocate, retry, watch;
};

/* What the run is told about a call of the library: for the callback of --watch. */
struct session {
    cli_context *cli;
    const char *collection;
    kith_gallery *gallery;
    int shown; /* reports so far */
};

/* "FOLDER's name".kith in the current folder. The caller frees it; NULL after a message. */
static char *default_output(cli_context *cli, const char *folder)
{
    char *full = realpath(folder, NULL);
    if (!full) {
        cli_fail(cli, folder, "%s", strerror(errno));
        return NULL;
    }
    const char *name = strrchr(full, '/') + 1;
    if (!*name) name = "pictures";
    char *path = malloc(strlen(name) + sizeof ".kith");
    if (path)
        sprintf(path, "%s.kith", name);
    else
        cli_fail(cli, NULL, "out of memory");
    free(full);
    return path;
}

/* "FILE" or "FILE:LAYER": the file there is decides. The caller frees *file. */
static int split_model(cli_context *cli, const char *text, char **file, const char **layer)
{
    *layer = NULL;
    *file = strdup(text);
    if (!*file) return cli_fail(cli, NULL, "out of memory");
    if (access(text, F_OK) == 0) return CLI_OK;
    char *ending = strstr(*file, ".onnx:");
    char *colon = ending ? ending + 5 : strrchr(*file, ':');
    if (!colon) return CLI_OK; /* the library says what is wrong with it */
    *colon = 0;
    *layer = colon + 1;
    return CLI_OK;
}

/* One number for all three colours, or three with commas between. */
static int parse_mean(cli_context *cli, const char *text, float mean[3])
{
    char copy[128];
    double value[3];
    size_t n = 0;
    if (strlen(text) >= sizeof copy) return cli_usage(cli, "--mean", "too long");
    strcpy(copy, text);
    for (char *part = strtok(copy, ","); part; part = strtok(NULL, ",")) {
        if (n == 3 || !cli_parse_number(part, &value[n]))
            return cli_usage(cli, "--mean", "%s: one number, or three with commas between, is wanted", text);
        n++;
    }
    if (n != 1 && n != 3)
        return cli_usage(cli, "--mean", "%s: one number, or three with commas between, is wanted", text);
    for (size_t i = 0; i < 3; i++) mean[i] = (float)value[n == 1 ? 0 : i];
    return CLI_OK;
}

/* A factor as a number or as a fraction, since 1/127.5 is what models are said to want. */
static int parse_scale(cli_context *cli, const char *text, float *scale)
{
    char copy[64];
    double above, below = 1;
    if (strlen(text) >= sizeof copy) return cli_usage(cli, "--scale", "too long");
    strcpy(copy, text);
    char *slash = strchr(copy, '/');
    if (slash) *slash = 0;
    if (!cli_parse_number(copy, &above) || (slash && !cli_parse_number(slash + 1, &below)) || below == 0)
        return cli_usage(cli, "--scale", "%s: a number or a fraction is wanted", text);
    *scale = (float)(above / below);
    return CLI_OK;
}

/* What the command line says about features. *given is 0 when it says nothing. The caller frees *file. */
static int read_features(cli_context *cli, const struct options *o, kith_features_options *features,
                         int *given, char **file)
{
    kith_features_options_init(features);
    *given = o->descriptor || o->model;
    if (o->descriptor && o->model) return cli_usage(cli, "--descriptor", "not together with --model");
    features->kind = o->model                                               ? KITH_FEATURES_MODEL
                     : o->descriptor && strcmp(o->descriptor, "plain") == 0 ? KITH_FEATURES_PLAIN
                                                                            : KITH_FEATURES_CLASSIC;
    features->seed = o->seed;
    features->input = (uint32_t)o->input;
    static const char *const of_model[] = {"input-size", "mean", "scale", NULL};
    for (size_t i = 0; of_model[i] && !o->model; i++)
        if (cli_given(cli, of_model[i])) return cli_usage(cli, of_model[i], "only together with --model");
    if (!o->model) return CLI_OK;
    int status = parse_mean(cli, o->mean, features->mean);
    if (status == CLI_OK) status = parse_scale(cli, o->scale, &features->scale);
    if (status == CLI_OK) status = split_model(cli, o->model, file, &features->layer);
    features->model = *file;
    return status;
}

static json_t *report_json(const struct session *s, const kith_gallery_report *r)
{
    json_t *stages = json_pack(
        "{so so so so so so so}", "walk", cli_json_number(r->seconds_walk), "train",
        cli_json_number(r->seconds_train), "read", cli_json_number(r->seconds_read), "decode",
        cli_json_number(r->seconds_decode), "features", cli_json_number(r->seconds_features), "thumbnail",
        cli_json_number(r->seconds_thumbnail), "fold", cli_json_number(r->seconds_fold));
    return json_pack("{so sI sI sI sI sI sI sI sI so so so}", "collection", cli_json_text(s->collection),
                     "found", (json_int_t)r->found, "read", (json_int_t)r->read, "added",
                     (json_int_t)r->added, "changed", (json_int_t)r->changed, "moved", (json_int_t)r->moved,
                     "removed", (json_int_t)r->removed, "unchanged", (json_int_t)r->unchanged, "bad",
                     (json_int_t)r->bad, "features", cli_json_text(kith_gallery_description(s->gallery)),
                     "seconds", cli_json_number(r->seconds), "stages", stages);
}

static int print_report(struct session *s, const kith_gallery_report *r)
{
    cli_context *cli = s->cli;
    if (cli->json) return cli_json_line(cli, report_json(s, r));
    cli_progress_clear(cli);
    printf("%s: %s in %s\n", s->collection, cli_counted(r->found, "picture"),
           kith_gallery_folder(s->gallery));
    printf("  %s added, %s changed, %s moved, %s removed, %s unchanged, %s bad; %.1f s",
           cli_thousands(r->added), cli_thousands(r->changed), cli_thousands(r->moved),
           cli_thousands(r->removed), cli_thousands(r->unchanged), cli_thousands(r->bad), r->seconds);
    uint64_t done = r->added + r->changed;
    if (done && r->seconds > 0) printf(" (%.1f pictures/s)", (double)done / r->seconds);
    printf("\n  features: %s\n", kith_gallery_description(s->gallery));
    if (r->bad) printf("  `kith bad %s` lists the bad ones\n", s->collection);
    return cli_flush(cli);
}

static void told(void *ctx, const kith_gallery_report *r)
{
    struct session *s = ctx;
    if (s->shown++ == 0 || r->added + r->changed + r->moved + r->removed + r->bad_new > 0) print_report(s, r);
}

static int fail_index(cli_context *cli, const char *collection, const kith_gallery_report *r,
                      const kith_error *err)
{
    if (err->code != KITH_CANCELLED) return cli_fail_error(cli, NULL, err);
    uint64_t kept = r->added + r->changed + r->moved + r->unchanged;
    if (kept == 0)
        return cli_fail(cli, NULL,
                        "interrupted before the first pictures were done; the same command begins again");
    return cli_fail(cli, NULL, "interrupted; %s has the %s done so far, and the same command goes on",
                    collection, cli_counted(kept, "picture"));
}

static int index_gallery(struct session *s, const struct options *o, const kith_features_options *features)
{
    cli_context *cli = s->cli;
    kith_error err;
    kith_gallery_index_options options;
    kith_gallery_index_options_init(&options);
    options.features = features;
    if (cli_given(cli, "exclude")) {
        /* An empty pattern alone says: leave nothing out any more. */
        options.exclude = o->exclude.items;
        options.n_exclude = o->exclude.n == 1 && !o->exclude.items[0][0] ? 0 : o->exclude.n;
    }
    if (cli_given(cli, "hidden")) options.hidden = 1;
    options.retrain = o->retrain;
    options.prune = o->prune;
    options.relocate = o->relocate;
    options.retry = o->retry;
    options.batch = (size_t)o->batch;
    kith_gallery_report report;
    kith_gallery_report_init(&report);
    if (o->watch) {
        kith_status status = kith_gallery_watch(s->gallery, cli->args[0], &options, &cli->run, told, s, &err);
        return status == KITH_OK ? CLI_OK : fail_index(cli, s->collection, &report, &err);
    }
    kith_status status = kith_gallery_index(s->gallery, cli->args[0], &options, &cli->run, &report, &err);
    return status == KITH_OK ? print_report(s, &report) : fail_index(cli, s->collection, &report, &err);
}

/* The gallery comes first and the threads second: its processes are forked from one that has no threads. */
static int open_and_index(cli_context *cli, const struct options *o, const char *collection,
                          const kith_features_options *features)
{
    kith_error err;
    struct session s = {.cli = cli, .collection = collection};
    kith_gallery_options options;
    kith_gallery_options_init(&options);
    options.jobs = (size_t)o->jobs;
    options.max_megapixels = o->megapixels;
    options.seconds = o->seconds;
    options.wait_ms = cli->wait_ms;
    if (kith_gallery_open(collection, &options, &s.gallery, &err) != KITH_OK)
        return cli_fail_message(cli, collection, &err);
    int status = CLI_OK;
    if (o->jobs != 1 && kith_pool_create((size_t)o->jobs, NULL, &cli->run.pool, &err) != KITH_OK)
        status = cli_fail_error(cli, "--jobs", &err);
    if (status == CLI_OK) status = index_gallery(&s, o, features);
    kith_gallery_close(s.gallery);
    return status;
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    kith_features_options features;
    char *model = NULL, *chosen = NULL;
    int given, status = read_features(cli, o, &features, &given, &model);
    if (status == CLI_OK && !o->output) {
        chosen = default_output(cli, cli->args[0]);
        if (!chosen) status = CLI_FAILED;
    }
    if (status == CLI_OK)
        status = open_and_index(cli, o, chosen ? chosen : o->output, given ? &features : NULL);
    free(model);
    free(chosen);
    return status;
}

const cli_verb verb_index = {
    .name = "index",
    .group = CLI_PICTURES,
    .summary = "make a folder of pictures searchable, and keep it so",
    .description =
        "Finds the pictures below FOLDER (JPEG, PNG, WebP, GIF, TIFF), computes what they look like, and "
        "keeps "
        "that with a thumbnail and what the files say of themselves in a collection.\n"
        "\n"
        "Run it again whenever you like: only files that are new or have changed are read, moved ones are "
        "recognised by their content, and the rows of those that are gone are removed. When it is "
        "interrupted, "
        "even killed, what was done is kept and the next run goes on from there. Files that cannot be read "
        "stop "
        "nothing: `kith bad` lists them with the reason, and they are tried again when they change.\n"
        "\n"
        "A folder that is missing, or empty all of a sudden, is an error as long as --prune does not insist: "
        "more often than not it is a disk that is not mounted.\n"
        "\n"
        "Pictures are described by the classic descriptor, which learns its codebook from up to 1,000 of "
        "them "
        "at the first run (a folder of fewer than 100 does without, until it has grown), or by a "
        "convolutional "
        "network. A collection remembers which, and refuses another without --retrain. --exclude and "
        "--hidden "
        "are remembered, too.",
    .arguments = (const cli_argument[]){{.name = "FOLDER", .help = "the folder with the pictures"}, {0}},
    .options =
        (const cli_option[]){
            {.name = "output",
             .letter = 'o',
             .kind = CLI_TEXT,
             .argument = "FILE",
             .into = offsetof(struct options, output),
             .help = "the collection; when left out, FOLDER's name and .kith, in the current folder"},
            {.name = "descriptor",
             .kind = CLI_TEXT,
             .argument = "NAME",
             .choices = "classic|plain",
             .into = offsetof(struct options, descriptor),
             .help = "how pictures are described: classic, or its parts that need no training"},
            CLI_OPTION_TEXT(model, "model", "FILE[:LAYER]",
                            "describe pictures by a layer of a network in an ONNX file; when left out, what "
                            "goes into the last fully connected layer"),
            CLI_OPTION_COUNT(input, "input-size", "N", "224", 16, 2048,
                             "width and height of the network's input, in pixels"),
            CLI_OPTION_USUAL(mean, "mean", "M[,M,M]", "127.5",
                             "what the network wants subtracted from red, green and blue (0 to 255)"),
            CLI_OPTION_USUAL(scale, "scale", "S", "1/127.5",
                             "and what it wants the difference multiplied by"),
            {.name = "jobs",
             .letter = 'j',
             .kind = CLI_COUNT,
             .argument = "N",
             .fallback = "0",
             .high = 1024,
             .into = offsetof(struct options, jobs),
             .help = "how many processes decode pictures; 0 means one for each processor"},
            CLI_OPTION_LIST(exclude, "exclude", "PATTERN",
                            "leave out files and folders of this name (may hold * and ?), or of this path "
                            "below FOLDER when it has a slash; may be repeated; \"\" forgets earlier ones"),
            CLI_OPTION_FLAG(hidden, "hidden", "look at names that begin with a dot, too"),
            CLI_OPTION_NUMBER(megapixels, "max-megapixels", "N", "150", 0.001, 100000,
                              "list larger pictures as bad"),
            CLI_OPTION_NUMBER(seconds, "timeout", "SECONDS", "60", 0.1, 86400,
                              "list pictures that take longer as bad"),
            CLI_OPTION_COUNT(batch, "batch", "N", "128", 1, 100000,
                             "pictures that are written in one transaction"),
            CLI_OPTION_SEED("of the codebook"),
            CLI_OPTION_FLAG(
                retrain, "retrain",
                "learn a new codebook, or change to another descriptor: all pictures are read again"),
            CLI_OPTION_FLAG(retry, "retry", "try the bad files again, even those that did not change"),
            CLI_OPTION_FLAG(prune, "prune",
                            "believe that the pictures are gone when FOLDER is missing (give -o and its "
                            "absolute path) or empty"),
            CLI_OPTION_FLAG(relocate, "relocate",
                            "the collection was made of this folder, which has been elsewhere then"),
            {.name = "watch",
             .letter = 'w',
             .kind = CLI_FLAG,
             .into = offsetof(struct options, watch),
             .help = "go on watching FOLDER, and follow its changes until interrupted"},
            {0}},
    .common = CLI_JSON | CLI_WAIT,
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){
            {"kith index ~/Pictures", "make or renew Pictures.kith"},
            {"kith index ~/Pictures -o all.kith --exclude thumbs --exclude '*.gif'", "leave some out"},
            {"kith index ~/Pictures --watch", "keep it fresh"},
            {"kith index ~/Pictures -o cnn.kith --model mobilenet_v2.onnx", "describe pictures by a network"},
            {0}},
    .run = run,
};
