/* verb_build.c - `kith build`: an index over any vector file. */
#include "cli_options.h"

#include <stdlib.h>
#include <time.h>

#include <kith/dataset.h>

/* Of a base that is read block by block: what is trained with. */
enum {
    SAMPLE_ROWS = 1 << 20,  /* more than any family takes of a large base, but for very many cells; */
    SAMPLE_BYTES = 1 << 30, /* fewer where rows are long, */
    SAMPLE_LEAST = 1 << 16, /* but so many in any case */
    PIECE = 256             /* rows of it that lie together: arbitrary */
};

enum { TRUTH_K = 100 }; /* neighbours of a query to calibrate with: the largest k that it is done for */

struct options {
    const char *output, *metric, *calibrate;
    uint64_t seed, limit, block;
    cli_list set;
};

/* Seconds of each step. */
typedef struct timing {
    double train, add, calibrate, save;
} timing;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds since *since, which becomes now. */
static double lap(double *since)
{
    double then = *since;
    *since = now();
    return *since - then;
}

static int report(cli_context *cli, const kith_index *index, const char *path, const timing *took)
{
    kith_error err;
    kith_index_info info = {.struct_size = sizeof info};
    if (kith_index_get_info(index, &info, &err) != KITH_OK) return cli_fail_error(cli, path, &err);
    if (cli->json)
        return cli_json_line(
            cli, json_pack("{s:o, s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:o*, s:o}", "file",
                           cli_json_text(path), "spec", info.spec, "metric", kith_metric_name(info.metric),
                           "n", (json_int_t)info.n, "dim", (json_int_t)info.dim, "seed",
                           (json_int_t)info.seed, "bytes", (json_int_t)info.bytes, "train_seconds",
                           cli_json_number(took->train), "add_seconds", cli_json_number(took->add),
                           "calibrate_seconds", took->calibrate > 0 ? cli_json_number(took->calibrate) : NULL,
                           "save_seconds", cli_json_number(took->save)));
    printf("%s: %s, %s of %zu, %s, %s; trained in %.2f s, added in %.2f s, ", path, info.spec,
           cli_counted(info.n, "row"), info.dim, kith_metric_name(info.metric), cli_bytes(info.bytes),
           took->train, took->add);
    if (took->calibrate > 0) printf("calibrated in %.2f s, ", took->calibrate);
    printf("saved in %.2f s\n", took->save);
    return cli_flush(cli);
}

/* ---- --calibrate ---- */

/* The queries to calibrate with; n 0 where none are wanted. */
static int load_queries(cli_context *cli, const struct options *o, kith_metric metric, size_t dim,
                        cli_vectors *queries)
{
    if (!o->calibrate) return CLI_OK;
    int status = cli_vectors_load(cli, o->calibrate, CLI_ROLE_QUERIES, metric, 0, queries);
    if (status == CLI_OK && queries->n == 0) status = cli_fail(cli, o->calibrate, "holds no vectors");
    if (status == CLI_OK && queries->dim != dim)
        status =
            cli_fail(cli, o->calibrate, "has %zu dimensions, %s has %zu", queries->dim, cli->args[1], dim);
    return status;
}

/* What recall each value of the search-time parameters gives, by the true neighbours among the rows of base. */
static int calibrate(cli_context *cli, kith_index *index, kith_metric metric, const cli_vectors *queries,
                     const cli_vectors *base)
{
    kith_error err;
    kith_calibrate_options options;
    kith_calibrate_options_init(&options);
    options.truth_k = base->n < TRUTH_K ? base->n : TRUTH_K;
    uint64_t *truth = calloc(queries->n * options.truth_k + 1, sizeof *truth);
    int status = truth ? cli_neighbours(cli, metric, base, queries, options.truth_k, truth)
                       : cli_fail(cli, NULL, "out of memory");
    options.truth = truth;
    if (status == CLI_OK && cli_index_calibrate(index, queries, &options, &cli->run, &err) != KITH_OK)
        status = cli_fail_error(cli, "--calibrate", &err);
    free(truth);
    return status;
}

/* ---- a base in memory ---- */

/* Train, add, calibrate, save, tell. */
static int fill(cli_context *cli, kith_index *index, kith_metric metric, const cli_vectors *base,
                const cli_vectors *queries, const char *output)
{
    kith_error err;
    timing took = {0, 0, 0, 0};
    double begun = now();
    if (cli_index_train(index, base, &cli->run, &err) != KITH_OK)
        return cli_fail_error(cli, cli->args[1], &err);
    took.train = lap(&begun);
    if (cli_index_add(index, base, &cli->run, &err) != KITH_OK)
        return cli_fail_error(cli, cli->args[1], &err);
    took.add = lap(&begun);
    if (queries->n > 0) {
        /* Kept first, so that a calibration that fails, or is interrupted, costs itself alone. */
        if (kith_index_save(index, output, NULL, &err) != KITH_OK) return cli_fail_message(cli, output, &err);
        took.save = lap(&begun);
        int status = calibrate(cli, index, metric, queries, base);
        if (status != CLI_OK) return status;
        took.calibrate = lap(&begun);
    }
    if (kith_index_save(index, output, NULL, &err) != KITH_OK) return cli_fail_message(cli, output, &err);
    took.save += lap(&begun);
    return report(cli, index, output, &took);
}

/* An empty index as the options want it. */
static int create(cli_context *cli, size_t dim, const kith_index_options *options,
                  const cli_settings *settings, kith_index **index)
{
    kith_error err;
    if (kith_index_create(cli->args[0], dim, options, index, &err) != KITH_OK)
        return cli_fail_error(cli, cli->args[0], &err);
    for (size_t i = 0; i < settings->n; i++)
        if (kith_index_set(*index, settings->items[i].name, settings->items[i].value, &err) != KITH_OK)
            return cli_fail_error(cli, "--set", &err);
    return CLI_OK;
}

static int build_whole(cli_context *cli, const struct options *o, const kith_index_options *options,
                       const cli_settings *settings)
{
    cli_vectors base = {0}, queries = {0};
    kith_index *index = NULL;
    int status = cli_vectors_load(cli, cli->args[1], CLI_ROLE_BASE, options->metric, o->limit, &base);
    if (status == CLI_OK) status = load_queries(cli, o, options->metric, base.dim, &queries);
    if (status == CLI_OK) status = create(cli, base.dim, options, settings, &index);
    if (status == CLI_OK) status = fill(cli, index, options->metric, &base, &queries, o->output);
    kith_index_free(index);
    cli_vectors_clear(&queries);
    cli_vectors_clear(&base);
    return status;
}

/* ---- a base that is read block by block ---- */

typedef struct stream {
    cli_context *cli;
    const char *path;
    kith_dataset *base;
    size_t n, dim, block;
    float *rows; /* the sample, then each block */
} stream;

static int read_rows(stream *s, size_t first, size_t n, float *rows)
{
    kith_error err;
    if (kith_dataset_read_f32(s->base, first, n, rows, &err) != KITH_OK)
        return cli_fail_message(s->cli, s->path, &err);
    return cli_cancelled(s->cli) ? cli_fail(s->cli, NULL, "interrupted") : CLI_OK;
}

/* Rows spread evenly over the base: all of it, where it is not larger than the sample. */
static int read_sample(stream *s, size_t wanted)
{
    if (wanted == s->n) return read_rows(s, 0, s->n, s->rows);
    size_t pieces = wanted / PIECE;
    for (size_t i = 0; i < pieces; i++) {
        size_t first = (size_t)((double)(s->n - PIECE) * (double)i / (double)(pieces - 1));
        int status = read_rows(s, first, PIECE, s->rows + i * PIECE * s->dim);
        if (status != CLI_OK) return status;
        if (s->cli->run.progress)
            s->cli->run.progress(s->cli->run.progress_ctx, "sampling", (i + 1) * PIECE, wanted);
    }
    return CLI_OK;
}

static int make_room(stream *s, size_t n)
{
    free(s->rows);
    s->rows = n > SIZE_MAX / (s->dim * sizeof(float)) ? NULL : malloc(n * s->dim * sizeof(float));
    return s->rows ? CLI_OK : cli_fail(s->cli, s->path, "out of memory for %zu x %zu numbers", n, s->dim);
}

static size_t sample_rows(const stream *s)
{
    size_t n = SAMPLE_BYTES / (s->dim * sizeof(float)) / PIECE * PIECE;
    if (n < SAMPLE_LEAST) n = SAMPLE_LEAST;
    if (n > SAMPLE_ROWS) n = SAMPLE_ROWS;
    return n < s->n ? n : s->n;
}

static int train_by_sample(stream *s, kith_index *index)
{
    kith_error err;
    size_t n = sample_rows(s);
    int status = make_room(s, n);
    if (status == CLI_OK) status = read_sample(s, n);
    if (status == CLI_OK && kith_index_train(index, s->rows, n, &s->cli->run, &err) != KITH_OK)
        status = cli_fail_error(s->cli, s->path, &err);
    return status;
}

/* The progress is that of the base: a block is too little to tell how long the rest takes. */
static int add_blocks(stream *s, kith_index *index)
{
    kith_error err;
    kith_run run = s->cli->run;
    run.progress = NULL;
    int status = make_room(s, s->block < s->n ? s->block : s->n);
    for (size_t first = 0; status == CLI_OK && first < s->n; first += s->block) {
        size_t n = s->n - first < s->block ? s->n - first : s->block;
        status = read_rows(s, first, n, s->rows);
        if (status == CLI_OK && kith_index_add(index, s->rows, NULL, n, &run, &err) != KITH_OK)
            status = cli_fail_error(s->cli, s->path, &err);
        if (status == CLI_OK && s->cli->run.progress)
            s->cli->run.progress(s->cli->run.progress_ctx, "adding", first + n, s->n);
    }
    return status;
}

static int fill_by_blocks(stream *s, kith_index *index, const char *output)
{
    kith_error err;
    timing took = {0, 0, 0, 0};
    double begun = now();
    int status = train_by_sample(s, index);
    took.train = lap(&begun);
    if (status == CLI_OK) status = add_blocks(s, index);
    took.add = lap(&begun);
    if (status == CLI_OK && kith_index_save(index, output, NULL, &err) != KITH_OK)
        status = cli_fail_message(s->cli, output, &err);
    took.save = lap(&begun);
    return status == CLI_OK ? report(s->cli, index, output, &took) : status;
}

static int build_by_blocks(cli_context *cli, const struct options *o, const kith_index_options *options,
                           const cli_settings *settings)
{
    if (kith_metric_rows(options->metric) == KITH_ROWS_BITS)
        return cli_usage(cli, "--block", "not with --metric %s", o->metric);
    if (o->calibrate)
        return cli_usage(cli, "--calibrate", "not with --block: `kith tune %s %s` calibrates the file",
                         o->output, o->calibrate);
    stream s = {.cli = cli, .path = cli->args[1], .block = o->block};
    kith_index *index = NULL;
    int status = cli_dataset_open(cli, s.path, CLI_ROLE_BASE, &s.base);
    if (status != CLI_OK) return status;
    s.n = kith_dataset_rows(s.base);
    s.dim = kith_dataset_dim(s.base);
    if (o->limit && o->limit < s.n) s.n = o->limit;
    if (status == CLI_OK) status = create(cli, s.dim, options, settings, &index);
    if (status == CLI_OK) status = fill_by_blocks(&s, index, o->output);
    kith_index_free(index);
    kith_dataset_close(s.base);
    free(s.rows);
    return status;
}

static int build(cli_context *cli, const struct options *o, const cli_settings *settings)
{
    kith_error err;
    kith_index_options options;
    kith_index_options_init(&options);
    options.seed = o->seed;
    if (kith_metric_parse(o->metric, &options.metric, &err) != KITH_OK)
        return cli_usage(cli, "--metric", "%s", err.message);
    int status = cli_output_check(cli, o->output);
    if (status != CLI_OK) return status;
    return o->block ? build_by_blocks(cli, o, &options, settings) : build_whole(cli, o, &options, settings);
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    if (!o->output) return cli_usage(cli, "--output", "missing: the file to write the index to");
    cli_settings settings;
    int status = cli_settings_parse(cli, "--set", &o->set, &settings);
    if (status == CLI_OK) status = build(cli, o, &settings);
    cli_settings_clear(&settings);
    return status;
}

const cli_verb verb_build = {
    .name = "build",
    .group = CLI_VECTORS,
    .summary = "make an index over a vector file",
    .description =
        "Reads the vectors of BASE, trains and fills an index of the kind that SPEC names, and "
        "writes it to one file. A "
        "row's id is its position in BASE, from 0. With --metric hamming the rows are bits: each "
        "component of BASE (u8bin, bvecs, npy of uint8) is a byte of 8.\n\n"
        "The same data, spec, seed and instruction set give the same file, byte for byte, with "
        "any number of threads. An "
        "existing file is replaced only when the new one is complete.\n\n"
        "BASE is read into memory as float32, unless --block is given: then so many rows at a time, after a "
        "sample of up to a million rows from all over it to train with. Of a base that is no larger than the "
        "sample an index without links (any but graphs) becomes the same file either way.\n\n"
        "With --calibrate the index, once it is written, learns what recall its search-time parameters give "
        "for k of 1, 10 and "
        "100: "
        "from then on a search may ask for a recall instead. Its vectors should be like the queries to come, "
        "a thousand of them, and none a row of BASE. `kith tune` does the same for an index that is there.",
    .arguments =
        (const cli_argument[]){{.name = "SPEC", .help = "the kind of index: see `kith families`"},
                               {.name = "BASE", .help = "fvecs, bvecs, ivecs, fbin, u8bin, npy or HDF5 file"},
                               {0}},
    .options =
        (const cli_option[]){CLI_OPTION_OUTPUT("the index file to write"),
                             CLI_OPTION_METRIC,
                             CLI_OPTION_SEED("seed of everything random in the index"),
                             CLI_OPTION_SET("parameters at build: see `kith families SPEC`"),
                             CLI_OPTION_LIMIT,
                             {.name = "block",
                              .kind = CLI_COUNT,
                              .argument = "N",
                              .into = offsetof(struct options, block),
                              .help = "read BASE N rows at a time, such as 131072, for files larger than "
                                      "memory; 0 reads it whole"},
                             {.name = "calibrate",
                              .kind = CLI_TEXT,
                              .argument = "QUERIES",
                              .into = offsetof(struct options, calibrate),
                              .help = "measure recall with the vectors of this file, so that a search may "
                                      "say target_recall; not with --block"},
                             {0}},
    .common = CLI_JSON | CLI_THREADS,
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){
            {"kith build IVF4096,Flat base.fvecs -o base.kidx", "an inverted file of 4,096 cells"},
            {"kith build IVF1024,PQ16,RFlat base.npy -o base.kidx --metric cosine --threads 4",
             "compressed rows with exact re-ranking, by cosine, with four threads"},
            {"kith build IVF16384,RaBitQ6 base.bvecs -o base.kidx --block 131072",
             "ten million rows of 128 bytes in 3 GB of memory"},
            {"kith build HNSW16 base.fvecs -o base.kidx --calibrate query.fvecs",
             "a graph that knows what recall each ef gives"},
            {"kith build BFlat codes.u8bin -o codes.kidx --metric hamming",
             "binary codes, eight bits to a byte of the file"},
            {0}},
    .run = run,
};
