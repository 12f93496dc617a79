/* verb_bench.c - `kith bench`: recall, speed and size of an index at its operating points. */
#include "cli_options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <kith/simd.h>

struct options {
    const char *spec, *metric, *index;
    uint64_t k, queries, seed, batch;
    cli_list set, sweep;
};

enum { PASSES = 3, MAX_SWEEPS = 4, MAX_VALUES = 64 };

/* One --sweep: a parameter and the values to try. */
typedef struct sweep {
    char name[64];
    double values[MAX_VALUES];
    size_t n;
} sweep;

/* All that a run of the verb holds. */
typedef struct bench {
    const struct options *options;
    cli_vectors base, queries;
    cli_truth truth;
    cli_settings given; /* --set, build and search parameters together */
    sweep sweeps[MAX_SWEEPS];
    size_t n_sweeps;
    kith_index *index;
    kith_index_info info;
    kith_metric metric;
    double build_seconds, build_cpu_seconds, train_seconds; /* NAN when an index was used again */
} bench;

/* What one operating point measured. */
typedef struct point {
    double recall, qps, p50_us, p99_us;
    double scored; /* rows compared with a query, on average */
} point;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static uint64_t peak_rss_bytes(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_maxrss * 1024;
}

/* "nprobe=1,2,4": here a comma separates values, not pairs. */
static int parse_sweep(cli_context *cli, const char *text, sweep *s)
{
    size_t length = strcspn(text, "=");
    if (length == 0 || length >= sizeof s->name || text[length] != '=')
        return cli_usage(cli, "--sweep", "'%s' is not of the form name=value,value", text);
    memcpy(s->name, text, length);
    s->name[length] = 0;
    s->n = 0;
    for (const char *at = text + length + 1;; at++) {
        char value[64];
        length = strcspn(at, ",");
        snprintf(value, sizeof value, "%.*s", (int)length, at);
        if (s->n == MAX_VALUES)
            return cli_usage(cli, "--sweep", "more than %d values of %s", MAX_VALUES, s->name);
        if (length >= sizeof value || !cli_parse_number(value, &s->values[s->n]))
            return cli_usage(cli, "--sweep", "%s: '%.*s' is not a number", s->name, (int)length, at);
        s->n++;
        at += length;
        if (*at == 0) return CLI_OK;
    }
}

/* Is it a parameter of the spec, and when does it act? */
static int param_when(cli_context *cli, const char *spec, const char *name, kith_param_when *when)
{
    kith_error err;
    size_t n = 0;
    if (kith_spec_params(spec, NULL, &n, &err) != KITH_OK) return cli_fail_error(cli, "--spec", &err);
    kith_param_info *params = calloc(n + 1, sizeof *params);
    if (!params) return cli_fail(cli, NULL, "out of memory");
    int status = CLI_FAILED;
    if (kith_spec_params(spec, params, &n, &err) != KITH_OK) n = 0;
    for (size_t i = 0; i < n; i++)
        if (strcmp(params[i].name, name) == 0) {
            *when = params[i].when;
            status = CLI_OK;
        }
    free(params);
    return status == CLI_OK ? CLI_OK : cli_fail(cli, name, "%s has no parameter of this name", spec);
}

static int load(cli_context *cli, bench *b)
{
    const struct options *o = b->options;
    int status = cli_vectors_load(cli, cli->args[0], CLI_ROLE_BASE, b->metric, 0, &b->base);
    if (status == CLI_OK)
        status = cli_vectors_load(cli, cli->args[1], CLI_ROLE_QUERIES, b->metric, o->queries, &b->queries);
    if (status == CLI_OK) status = cli_truth_load(cli, cli->args[2], &b->truth);
    if (status != CLI_OK) return status;
    if (b->base.dim != b->queries.dim)
        return cli_fail(cli, cli->args[1], "has %zu dimensions, %s has %zu", b->queries.dim, cli->args[0],
                        b->base.dim);
    if (b->queries.n == 0) return cli_fail(cli, cli->args[1], "holds no vectors");
    if (b->truth.n < b->queries.n || b->truth.k < o->k)
        return cli_fail(cli, cli->args[2], "holds %zu x %zu neighbours, %zu x %llu are needed", b->truth.n,
                        b->truth.k, b->queries.n, (unsigned long long)o->k);
    return cli_truth_check(cli, cli->args[2], &b->truth, b->base.n);
}

static int build_index(cli_context *cli, bench *b, const kith_index_options *options)
{
    const struct options *o = b->options;
    kith_error err;
    if (kith_index_create(o->spec, b->base.dim, options, &b->index, &err) != KITH_OK)
        return cli_fail_error(cli, "--spec", &err);
    for (size_t i = 0; i < b->given.n; i++) {
        kith_param_when when;
        int status = param_when(cli, o->spec, b->given.items[i].name, &when);
        if (status != CLI_OK) return status;
        if (when == KITH_AT_BUILD &&
            kith_index_set(b->index, b->given.items[i].name, b->given.items[i].value, &err) != KITH_OK)
            return cli_fail_error(cli, "--set", &err);
    }
    double begun = now(), cpu = cpu_seconds();
    if (cli_index_train(b->index, &b->base, &cli->run, &err) != KITH_OK)
        return cli_fail_error(cli, cli->args[0], &err);
    b->train_seconds = now() - begun;
    if (cli_index_add(b->index, &b->base, &cli->run, &err) != KITH_OK)
        return cli_fail_error(cli, cli->args[0], &err);
    b->build_seconds = now() - begun;
    b->build_cpu_seconds = cpu_seconds() - cpu;
    if (o->index && kith_index_save(b->index, o->index, NULL, &err) != KITH_OK)
        return cli_fail_message(cli, o->index, &err);
    return CLI_OK;
}

/* An index that an earlier run kept: it must be the one that was asked for. */
static int reuse_index(cli_context *cli, bench *b, const kith_index_options *options)
{
    const struct options *o = b->options;
    kith_error err;
    if (kith_index_open(o->index, KITH_OPEN_READ, NULL, NULL, &b->index, &err) != KITH_OK ||
        kith_index_get_info(b->index, &b->info, &err) != KITH_OK)
        return cli_fail_message(cli, o->index, &err);
    if (strcmp(b->info.spec, o->spec) != 0)
        return cli_fail(cli, o->index, "holds %s, --spec is %s", b->info.spec, o->spec);
    if (b->info.metric != options->metric || b->info.dim != b->base.dim || b->info.n != b->base.n ||
        b->info.seed != options->seed)
        return cli_fail(cli, o->index, "was built of other data, or with another metric or seed");
    b->build_seconds = b->build_cpu_seconds = b->train_seconds = NAN;
    cli_note(cli, "%s: used again", o->index);
    return CLI_OK;
}

static int make_index(cli_context *cli, bench *b)
{
    const struct options *o = b->options;
    kith_error err;
    kith_index_options options;
    kith_index_options_init(&options);
    options.seed = o->seed;
    options.metric = b->metric;
    bool reuse = o->index && access(o->index, F_OK) == 0;
    if (o->index && !reuse) {
        int status = cli_output_check(cli, o->index);
        if (status != CLI_OK) return status;
    }
    int status = reuse ? reuse_index(cli, b, &options) : build_index(cli, b, &options);
    cli_progress_clear(cli);
    if (status != CLI_OK) return status;
    b->info.struct_size = sizeof b->info;
    if (kith_index_get_info(b->index, &b->info, &err) != KITH_OK) return cli_fail_error(cli, o->spec, &err);
    return CLI_OK;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One pass over all queries: `batch` a call. times[calls] gets the seconds of each call; returns the whole. */
static double pass(kith_searcher *searcher, const bench *b, const kith_search_options *options, size_t batch,
                   uint64_t *ids, float *dist, kith_search_stats *stats, double *times, kith_error *err)
{
    size_t k = b->options->k, nq = b->queries.n;
    double begun = now(), last = begun;
    for (size_t q = 0, call = 0; q < nq; q += batch, call++) {
        size_t n = nq - q < batch ? nq - q : batch;
        if (cli_search(searcher, &b->queries, q, n, k, options, ids + q * k, dist + q * k, stats + q, err) !=
            KITH_OK)
            return -1;
        double t = now();
        times[call] = t - last;
        last = t;
    }
    return last - begun;
}

/* Best of PASSES passes. */
static int measure(cli_context *cli, const bench *b, const cli_settings *settings, point *p)
{
    size_t k = b->options->k, nq = b->queries.n, batch = b->options->batch ? b->options->batch : nq;
    size_t calls = (nq + batch - 1) / batch;
    kith_error err;
    kith_searcher *searcher = NULL;
    kith_search_options options;
    kith_search_options_init(&options);
    options.settings = settings->items;
    options.n_settings = settings->n;
    options.pool = cli->run.pool;
    uint64_t *ids = malloc(nq * k * sizeof *ids);
    float *dist = malloc(nq * k * sizeof *dist);
    kith_search_stats *stats = malloc(nq * sizeof *stats);
    double *times = malloc(calls * sizeof *times);
    int status = ids && dist && stats && times ? CLI_OK : cli_fail(cli, NULL, "out of memory");
    if (status == CLI_OK && kith_searcher_create(b->index, &searcher, &err) != KITH_OK)
        status = cli_fail_error(cli, b->options->spec, &err);
    double best = INFINITY;
    for (int i = 0; status == CLI_OK && i < PASSES; i++) {
        double seconds = pass(searcher, b, &options, batch, ids, dist, stats, times, &err);
        if (seconds < 0)
            status = cli_fail_error(cli, b->options->spec, &err);
        else if (cli_cancelled(cli))
            status = cli_fail(cli, NULL, "interrupted");
        if (status != CLI_OK || seconds >= best) continue;
        best = seconds;
        qsort(times, calls, sizeof *times, by_value);
        p->p50_us = batch == 1 ? 1e6 * times[(calls - 1) / 2] : NAN;
        p->p99_us = batch == 1 ? 1e6 * times[(size_t)((double)(calls - 1) * 0.99 + 0.5)] : NAN;
    }
    if (status == CLI_OK) {
        p->qps = (double)nq / best;
        for (size_t q = 0; q < nq; q++) p->scored += (double)stats[q].scored / (double)nq;
        p->recall = cli_recall(b->info.metric, &b->base, &b->queries, &b->truth, ids, k);
    }
    kith_searcher_free(searcher);
    free(ids);
    free(dist);
    free(stats);
    free(times);
    return status;
}

static int print_json(cli_context *cli, const bench *b, const cli_settings *settings, const point *p)
{
    json_t *params = json_object();
    for (size_t i = 0; params && i < b->given.n; i++)
        json_object_set_new(params, b->given.items[i].name, cli_json_number(b->given.items[i].value));
    for (size_t i = 0; params && i < settings->n; i++)
        json_object_set_new(params, settings->items[i].name, cli_json_number(settings->items[i].value));
    double n = (double)b->info.n;
    json_t *line = json_pack("{s:s, s:o, s:I, s:I, s:s, s:I, s:I}", "spec", b->info.spec, "params", params,
                             "n", (json_int_t)b->info.n, "dim", (json_int_t)b->info.dim, "metric",
                             kith_metric_name(b->info.metric), "k", (json_int_t)b->options->k, "queries",
                             (json_int_t)b->queries.n);
    json_t *rest =
        json_pack("{s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:I, s:s}", "build_seconds",
                  cli_json_number(b->build_seconds), "build_cpu_seconds",
                  cli_json_number(b->build_cpu_seconds), "train_seconds", cli_json_number(b->train_seconds),
                  "bytes_per_vector", cli_json_number(n > 0 ? (double)b->info.bytes / n : NAN),
                  "peak_rss_bytes", (json_int_t)peak_rss_bytes(), "recall", cli_json_number(p->recall), "qps",
                  cli_json_number(p->qps), "p50_us", cli_json_number(p->p50_us), "p99_us",
                  cli_json_number(p->p99_us), "scored", cli_json_number(p->scored), "threads",
                  (json_int_t)cli_threads(cli), "simd", kith_simd_name(kith_simd_level()));
    if (line && rest && json_object_update(line, rest) != 0) {
        json_decref(line);
        line = NULL;
    }
    json_decref(rest);
    return cli_json_line(cli, line);
}

/* Rows are printed as they are measured: a table that waits for the last one would hide an hour's progress. */
static int print_row(cli_context *cli, const bench *b, const cli_settings *settings, const point *p,
                     bool first)
{
    if (cli->json) return print_json(cli, b, settings, p);
    cli_progress_clear(cli);
    if (first) {
        printf("%s over %s x %zu, %s, k = %llu, %zu thread%s, %s", b->info.spec, cli_thousands(b->info.n),
               b->info.dim, kith_metric_name(b->info.metric), (unsigned long long)b->options->k,
               cli_threads(cli), cli_threads(cli) == 1 ? "" : "s", kith_simd_name(kith_simd_level()));
        if (b->info.n) printf(", %.1f bytes a vector", (double)b->info.bytes / (double)b->info.n);
        if (!isnan(b->build_seconds))
            printf("; built in %.1f s (%.1f s of it training, %.1f CPU s)", b->build_seconds,
                   b->train_seconds, b->build_cpu_seconds);
        printf("\n%8s  %10s  %8s  %8s  %10s  parameters\n", "recall", "queries/s", "p50 us", "p99 us",
               "scored");
    }
    printf("%8.4f  %10.0f", p->recall, p->qps);
    if (isnan(p->p50_us))
        printf("  %8s  %8s", "-", "-");
    else
        printf("  %8.0f  %8.0f", p->p50_us, p->p99_us);
    printf("  %10.0f", p->scored);
    for (size_t i = 0; i < settings->n; i++)
        printf("%s%s=%g", i ? "," : "  ", settings->items[i].name, settings->items[i].value);
    putchar('\n');
    return cli_flush(cli);
}

/* Every combination of the sweeps' values, the last one turning fastest, upon the search parameters of --set. */
static int measure_all(cli_context *cli, const bench *b)
{
    kith_setting items[64];
    cli_settings settings = {.items = items};
    for (size_t i = 0; i < b->given.n && settings.n < 32; i++) {
        kith_param_when when;
        int status = param_when(cli, b->options->spec, b->given.items[i].name, &when);
        if (status != CLI_OK) return status;
        if (when == KITH_AT_SEARCH) items[settings.n++] = b->given.items[i];
    }
    size_t fixed = settings.n, turn[MAX_SWEEPS] = {0};
    settings.n += b->n_sweeps;
    for (bool first = true;; first = false) {
        for (size_t s = 0; s < b->n_sweeps; s++)
            items[fixed + s] = (kith_setting){b->sweeps[s].name, b->sweeps[s].values[turn[s]]};
        point p = {0};
        int status = measure(cli, b, &settings, &p);
        if (status == CLI_OK) status = print_row(cli, b, &settings, &p, first);
        if (status != CLI_OK) return status;
        size_t s = b->n_sweeps;
        while (s > 0 && ++turn[s - 1] == b->sweeps[s - 1].n) turn[--s] = 0;
        if (s == 0) return CLI_OK;
    }
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    if (!o->spec) return cli_usage(cli, "--spec", "missing: the kind of index, see `kith families`");
    bench b = {.options = o, .info = {.struct_size = sizeof b.info}};
    kith_error err;
    if (kith_metric_parse(o->metric, &b.metric, &err) != KITH_OK)
        return cli_usage(cli, "--metric", "%s", err.message);
    if (o->sweep.n > MAX_SWEEPS) return cli_usage(cli, "--sweep", "given more than %d times", MAX_SWEEPS);
    int status = CLI_OK;
    for (; status == CLI_OK && b.n_sweeps < o->sweep.n; b.n_sweeps++) {
        kith_param_when when = KITH_AT_SEARCH;
        status = parse_sweep(cli, o->sweep.items[b.n_sweeps], &b.sweeps[b.n_sweeps]);
        if (status == CLI_OK) status = param_when(cli, o->spec, b.sweeps[b.n_sweeps].name, &when);
        if (status == CLI_OK && when != KITH_AT_SEARCH)
            status =
                cli_usage(cli, "--sweep", "%s is a parameter at build: use --set", b.sweeps[b.n_sweeps].name);
    }
    if (status == CLI_OK) status = cli_settings_parse(cli, "--set", &o->set, &b.given);
    if (status == CLI_OK) status = load(cli, &b);
    if (status == CLI_OK) status = make_index(cli, &b);
    if (status == CLI_OK) status = measure_all(cli, &b);
    kith_index_free(b.index);
    cli_settings_clear(&b.given);
    cli_truth_clear(&b.truth);
    cli_vectors_clear(&b.base);
    cli_vectors_clear(&b.queries);
    return status;
}

const cli_verb verb_bench = {
    .name = "bench",
    .group = CLI_VECTORS,
    .summary = "measure an index: recall, speed, size",
    .description =
        "Builds an index over BASE, searches it for QUERIES at every operating point that --sweep "
        "names, and prints for "
        "each the recall against the true neighbours GT, queries per second, and the median and "
        "99th percentile of a "
        "query's time. Each figure is the best of three passes, one query a call, on one thread, "
        "unless told otherwise.\n\n"
        "recall@k is the part of the returned rows whose true distance is at most that of the "
        "true k-th neighbour. Several "
        "sweeps are combined, each value of one with each of the others. Peak memory is that of "
        "the whole process, the "
        "vectors of BASE included. With --metric hamming each component of BASE and QUERIES is a byte of 8 "
        "bits.",
    .arguments =
        (const cli_argument[]){
            {.name = "BASE", .help = "the vectors to index, in any format that kith reads"},
            {.name = "QUERIES", .help = "the vectors to search for"},
            {.name = "GT", .help = "their true neighbours, .ivecs or HDF5: see `kith gt`"},
            {0}},
    .options =
        (const cli_option[]){{.name = "spec",
                              .letter = 's',
                              .kind = CLI_TEXT,
                              .argument = "SPEC",
                              .into = offsetof(struct options, spec),
                              .help = "the kind of index: see `kith families`"},
                             {.name = "sweep",
                              .kind = CLI_LIST,
                              .argument = "NAME=V1,V2,...",
                              .into = offsetof(struct options, sweep),
                              .help = "a search parameter and the values to try"},
                             CLI_OPTION_SET("other parameters, at build and at search"),
                             CLI_OPTION_METRIC,
                             CLI_OPTION_NEIGHBOURS("10", 65536, "how many results for each query"),
                             {.name = "queries",
                              .kind = CLI_COUNT,
                              .argument = "N",
                              .into = offsetof(struct options, queries),
                              .help = "take the first N queries only; 0 means all"},
                             {.name = "batch",
                              .kind = CLI_COUNT,
                              .argument = "N",
                              .fallback = "1",
                              .into = offsetof(struct options, batch),
                              .help = "queries a call; 0 means all at once"},
                             CLI_OPTION_SEED,
                             {.name = "index",
                              .kind = CLI_TEXT,
                              .argument = "FILE",
                              .into = offsetof(struct options, index),
                              .help = "keep the built index in this file, and use it again when it is there"},
                             {0}},
    .common = CLI_JSON | CLI_THREADS,
    .threads = "1",
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){
            {"kith bench base.fvecs query.fvecs gt.ivecs --spec IVF4096,Flat --sweep nprobe=1,4,16,64",
             "the curve of an inverted file"},
            {"kith bench base.fvecs query.fvecs gt.ivecs -s IVF4096,PQ16,RFlat --sweep nprobe=16,64 --sweep "
             "refine_k=2,8 "
             "--index /tmp/ivfpq.kidx --json",
             "a grid of two parameters as JSON lines, keeping the index for the next run"},
            {0}},
    .run = run,
};
