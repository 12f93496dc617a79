/* verb_build.c - `kith build`: an index over any vector file. */
#include "cli_options.h"

#include <time.h>

struct options {
    const char *output, *metric;
    uint64_t seed, limit;
    cli_list set;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int report(cli_context *cli, const kith_index *index, const char *path, double train, double add,
                  double save)
{
    kith_error err;
    kith_index_info info = {.struct_size = sizeof info};
    if (kith_index_get_info(index, &info, &err) != KITH_OK) return cli_fail_error(cli, path, &err);
    if (cli->json)
        return cli_json_line(
            cli, json_pack("{s:o, s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "file", cli_json_text(path),
                           "spec", info.spec, "metric", kith_metric_name(info.metric), "n",
                           (json_int_t)info.n, "dim", (json_int_t)info.dim, "seed", (json_int_t)info.seed,
                           "bytes", (json_int_t)info.bytes, "train_seconds", cli_json_number(train),
                           "add_seconds", cli_json_number(add), "save_seconds", cli_json_number(save)));
    printf("%s: %s, %s of %zu, %s, %s; trained in %.2f s, added in %.2f s, saved in %.2f s\n", path,
           info.spec, cli_counted(info.n, "row"), info.dim, kith_metric_name(info.metric),
           cli_bytes(info.bytes), train, add, save);
    return cli_flush(cli);
}

/* Train, add, save, tell. */
static int fill(cli_context *cli, kith_index *index, const cli_vectors *base, const char *base_path,
                const char *output)
{
    kith_error err;
    double begun = now();
    if (cli_index_train(index, base, &cli->run, &err) != KITH_OK) return cli_fail_error(cli, base_path, &err);
    double trained = now();
    if (cli_index_add(index, base, &cli->run, &err) != KITH_OK) return cli_fail_error(cli, base_path, &err);
    double added = now();
    if (kith_index_save(index, output, NULL, &err) != KITH_OK) return cli_fail_message(cli, output, &err);
    return report(cli, index, output, trained - begun, added - trained, now() - added);
}

static int build(cli_context *cli, const struct options *o, const cli_settings *settings)
{
    const char *spec = cli->args[0], *base_path = cli->args[1];
    kith_error err;
    kith_index_options options;
    kith_index_options_init(&options);
    options.seed = o->seed;
    if (kith_metric_parse(o->metric, &options.metric, &err) != KITH_OK)
        return cli_usage(cli, "--metric", "%s", err.message);
    int status = cli_output_check(cli, o->output);
    if (status != CLI_OK) return status;

    cli_vectors base = {0};
    kith_index *index = NULL;
    status = cli_vectors_load(cli, base_path, CLI_ROLE_BASE, options.metric, o->limit, &base);
    if (status == CLI_OK && kith_index_create(spec, base.dim, &options, &index, &err) != KITH_OK)
        status = cli_fail_error(cli, spec, &err);
    for (size_t i = 0; status == CLI_OK && i < settings->n; i++)
        if (kith_index_set(index, settings->items[i].name, settings->items[i].value, &err) != KITH_OK)
            status = cli_fail_error(cli, "--set", &err);
    if (status == CLI_OK) status = fill(cli, index, &base, base_path, o->output);
    kith_index_free(index);
    cli_vectors_clear(&base);
    return status;
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
    .description = "Reads the vectors of BASE, trains and fills an index of the kind that SPEC names, and "
                   "writes it to one file. A "
                   "row's id is its position in BASE, from 0. With --metric hamming the rows are bits: each "
                   "component of BASE (u8bin, bvecs, npy of uint8) is a byte of 8.\n\n"
                   "The same data, spec, seed and instruction set give the same file, byte for byte, with "
                   "any number of threads. An "
                   "existing file is replaced only when the new one is complete.",
    .arguments =
        (const cli_argument[]){{.name = "SPEC", .help = "the kind of index: see `kith families`"},
                               {.name = "BASE", .help = "fvecs, bvecs, ivecs, fbin, u8bin, npy or HDF5 file"},
                               {0}},
    .options = (const cli_option[]){CLI_OPTION_OUTPUT("the index file to write"),
                                    CLI_OPTION_METRIC,
                                    CLI_OPTION_SEED("seed of everything random in the index"),
                                    CLI_OPTION_SET("parameters at build: see `kith families SPEC`"),
                                    CLI_OPTION_LIMIT,
                                    {0}},
    .common = CLI_JSON | CLI_THREADS,
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){
            {"kith build IVF4096,Flat base.fvecs -o base.kidx", "an inverted file of 4,096 cells"},
            {"kith build IVF1024,PQ16,RFlat base.npy -o base.kidx --metric cosine --threads 4",
             "compressed rows with exact re-ranking, by cosine, with four threads"},
            {"kith build BFlat codes.u8bin -o codes.kidx --metric hamming",
             "binary codes, eight bits to a byte of the file"},
            {0}},
    .run = run,
};
