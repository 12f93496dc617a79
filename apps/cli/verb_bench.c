/* verb_bench.c - `kith bench`: recall, speed, size and distortion of indexes at their operating points. */
#include "cli_options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <kith/simd.h>

#include "curves.h"

struct options {
    const char *metric, *index, *plot;
    uint64_t k, queries, seed, batch;
    cli_list spec, set, sweep;
};

enum {
    PASSES = 3,
    MAX_SWEEPS = 4,
    MAX_VALUES = 64,
    MAX_SPECS = 200,
    SPEC_ROOM = 128,
    DISTORTION_ROWS = 10000 /* given back to measure distortion: its mean is known to a percent or two then */
};

/* One --sweep: a parameter and the values to try. */
typedef struct sweep {
    char name[64];
    double values[MAX_VALUES];
    size_t n;
} sweep;

/* One of the indexes that are measured: --spec as it was written, and one of the specs that it stands for. */
typedef struct wanted {
    const char *pattern;
    char spec[SPEC_ROOM];
} wanted;

/* The diagrams of --plot. */
static const struct diagram {
    const char *name, *x, *y;
} diagrams[] = {{"recall-bytes", "bytes_per_vector", "recall"},
                {"recall-time", "mean_us", "recall"},
                {"distortion-bytes", "bytes_per_vector", "distortion_relative"},
                {"distortion-time", "build_seconds", "distortion_relative"}};
enum { DIAGRAMS = sizeof diagrams / sizeof *diagrams };

/* All that a run of the verb holds. */
typedef struct bench {
    const struct options *options;
    wanted *specs;
    size_t n_specs;
    const wanted *now; /* the one that is measured */
    curves drawn[DIAGRAMS];
    cli_vectors base, queries;
    cli_truth truth;
    cli_settings given; /* --set, build and search parameters together */
    sweep sweeps[MAX_SWEEPS];
    size_t n_sweeps;
    kith_index *index;
    kith_index_info info;
    kith_metric metric;
    double build_seconds, build_cpu_seconds, train_seconds; /* NAN when an index was used again */
    double distortion,
        variance; /* mean |x - as the index gives it back|^2; mean |x - mean|^2. NAN: not known */
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

/* Whether it is a parameter of the spec, and when it acts. */
static int param_when(cli_context *cli, const char *spec, const char *name, bool *known,
                      kith_param_when *when)
{
    kith_error err;
    size_t n = 0;
    *known = false;
    if (kith_spec_params(spec, NULL, &n, &err) != KITH_OK) return cli_fail_error(cli, "--spec", &err);
    kith_param_info *params = calloc(n + 1, sizeof *params);
    if (!params) return cli_fail(cli, NULL, "out of memory");
    if (kith_spec_params(spec, params, &n, &err) != KITH_OK) n = 0;
    for (size_t i = 0; i < n; i++)
        if (strcmp(params[i].name, name) == 0) {
            *when = params[i].when;
            *known = true;
        }
    free(params);
    return CLI_OK;
}

/* ---- Patterns: "IVF{256,1024},PQ{8,16}" stands for four specs ---- */

/* Appends what text stands for behind `done`: every alternative of its first braces, and of the braces in what follows. */
static int expand(cli_context *cli, bench *b, const char *pattern, const char *done, const char *text)
{
    char spec[SPEC_ROOM];
    const char *open = strchr(text, '{'), *close = open ? strchr(open, '}') : NULL;
    size_t length = strlen(done) + (open ? (size_t)(open - text) : strlen(text));
    if (strchr(text, '}') != close || (open && (!close || memchr(open + 1, '{', (size_t)(close - open - 1)))))
        return cli_usage(cli, "--spec", "%s: braces come in pairs, one pair not within another", pattern);
    if (length >= sizeof spec) return cli_usage(cli, "--spec", "%s: too long", pattern);
    memcpy(spec, done, strlen(done));
    memcpy(spec + strlen(done), text, length - strlen(done));
    spec[length] = 0;
    if (!open) {
        if (b->n_specs == MAX_SPECS)
            return cli_usage(cli, "--spec", "stands for more than %d specs", MAX_SPECS);
        wanted *w = &b->specs[b->n_specs++];
        w->pattern = pattern;
        memcpy(w->spec, spec, sizeof w->spec);
        return CLI_OK;
    }
    int status = CLI_OK;
    for (const char *at = open + 1; status == CLI_OK; at++) {
        size_t one = strcspn(at, ",}");
        if (length + one >= sizeof spec) return cli_usage(cli, "--spec", "%s: too long", pattern);
        snprintf(spec + length, sizeof spec - length, "%.*s", (int)one, at);
        status = expand(cli, b, pattern, spec, close + 1);
        at += one;
        if (*at == '}') break;
    }
    return status;
}

/* A parameter of --set or --sweep: some spec must know it; those that do not do without. */
static int check_param(cli_context *cli, const bench *b, const char *option, const char *name,
                       bool search_only)
{
    bool any = false;
    for (size_t i = 0; i < b->n_specs; i++) {
        bool known;
        kith_param_when when = KITH_AT_SEARCH;
        int status = param_when(cli, b->specs[i].spec, name, &known, &when);
        if (status != CLI_OK) return status;
        if (known && search_only && when != KITH_AT_SEARCH)
            return cli_usage(cli, option, "%s is a parameter at build: use --set", name);
        any = any || known;
    }
    return any ? CLI_OK : cli_fail(cli, name, "%s has no parameter of this name", b->specs[0].spec);
}

static int list_specs(cli_context *cli, bench *b)
{
    const struct options *o = b->options;
    int status = CLI_OK;
    b->specs = calloc(MAX_SPECS, sizeof *b->specs);
    if (!b->specs) return cli_fail(cli, NULL, "out of memory");
    for (size_t i = 0; i < o->spec.n && status == CLI_OK; i++)
        status = expand(cli, b, o->spec.items[i], "", o->spec.items[i]);
    if (status == CLI_OK && o->index && b->n_specs > 1)
        status = cli_usage(cli, "--index", "keeps one index; --spec stands for %zu", b->n_specs);
    for (; status == CLI_OK && b->n_sweeps < o->sweep.n; b->n_sweeps++) {
        status = parse_sweep(cli, o->sweep.items[b->n_sweeps], &b->sweeps[b->n_sweeps]);
        if (status == CLI_OK) status = check_param(cli, b, "--sweep", b->sweeps[b->n_sweeps].name, true);
    }
    if (status == CLI_OK) status = cli_settings_parse(cli, "--set", &o->set, &b->given);
    for (size_t i = 0; i < b->given.n && status == CLI_OK; i++)
        status = check_param(cli, b, "--set", b->given.items[i].name, false);
    kith_error err;
    for (size_t i = 0, n; i < b->n_specs && status == CLI_OK; i++) /* before the first hour is spent */
        if (n = 0, kith_spec_params(b->specs[i].spec, NULL, &n, &err) != KITH_OK)
            status = cli_fail_error(cli, "--spec", &err);
    return status;
}

/* ---- Vectors and index ---- */

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
    if (kith_index_create(b->now->spec, b->base.dim, options, &b->index, &err) != KITH_OK)
        return cli_fail_error(cli, "--spec", &err);
    for (size_t i = 0; i < b->given.n; i++) {
        bool known;
        kith_param_when when = KITH_AT_SEARCH;
        int status = param_when(cli, b->now->spec, b->given.items[i].name, &known, &when);
        if (status != CLI_OK) return status;
        if (known && when == KITH_AT_BUILD &&
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

/* Whether an index is of the spec that is asked for, which may leave parts of its whole name out. */
static int check_spec(cli_context *cli, const bench *b, const kith_index_options *options)
{
    kith_error err;
    kith_index *empty = NULL;
    kith_index_info info = {.struct_size = sizeof info};
    int status = CLI_OK;
    if (kith_index_create(b->now->spec, b->base.dim, options, &empty, &err) != KITH_OK ||
        kith_index_get_info(empty, &info, &err) != KITH_OK)
        status = cli_fail_error(cli, "--spec", &err);
    else if (strcmp(b->info.spec, info.spec) != 0)
        status = cli_fail(cli, b->options->index, "holds %s, --spec is %s", b->info.spec, info.spec);
    kith_index_free(empty);
    return status;
}

/* An index that an earlier run kept: it must be the one that was asked for. Build-time parameters are taken as they were. */
static int reuse_index(cli_context *cli, bench *b, const kith_index_options *options)
{
    const struct options *o = b->options;
    kith_error err;
    if (kith_index_open(o->index, KITH_OPEN_READ, NULL, NULL, &b->index, &err) != KITH_OK ||
        kith_index_get_info(b->index, &b->info, &err) != KITH_OK)
        return cli_fail_message(cli, o->index, &err);
    int status = check_spec(cli, b, options);
    if (status != CLI_OK) return status;
    if (b->info.metric != options->metric || b->info.dim != b->base.dim || b->info.n != b->base.n ||
        b->info.seed != options->seed)
        return cli_fail(cli, o->index, "was built of other data, or with another metric or seed");
    b->build_seconds = b->build_cpu_seconds = b->train_seconds = NAN;
    cli_note(cli, "%s: used again, as it was built", o->index);
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
    if (kith_index_get_info(b->index, &b->info, &err) != KITH_OK)
        return cli_fail_error(cli, b->now->spec, &err);
    return CLI_OK;
}

/* A row as an index is to give it back: of unit length under COSINE. */
static void wanted_row(const bench *b, size_t i, float *x)
{
    double norm2 = 0;
    memcpy(x, b->base.x + i * b->base.dim, b->base.dim * sizeof *x);
    for (size_t d = 0; d < b->base.dim; d++) norm2 += (double)x[d] * (double)x[d];
    if (b->metric != KITH_COSINE || !(norm2 > 0)) return;
    for (size_t d = 0; d < b->base.dim; d++) x[d] = (float)((double)x[d] / sqrt(norm2));
}

/* How far rows, evenly spread over BASE, are from what the index gives back of them, and from their mean. */
static int measure_distortion(cli_context *cli, bench *b)
{
    size_t dim = b->base.dim, n = b->base.n < DISTORTION_ROWS ? b->base.n : DISTORTION_ROWS, known = 0;
    double squares = 0, error = 0, of_mean = 0;
    b->distortion = b->variance = NAN;
    if (!b->base.x || n == 0) return CLI_OK; /* rows of bits */
    float *x = malloc(2 * dim * sizeof *x), *back = x + dim;
    double *sum = calloc(dim, sizeof *sum);
    if (!x || !sum) {
        free(x);
        free(sum);
        return cli_fail(cli, NULL, "out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        size_t row = (size_t)((double)i * ((double)b->base.n / (double)n));
        wanted_row(b, row, x);
        if (kith_index_reconstruct(b->index, row, back, NULL) != KITH_OK) break;
        known++;
        for (size_t d = 0; d < dim; d++) {
            squares += (double)x[d] * (double)x[d];
            sum[d] += (double)x[d];
            error += ((double)x[d] - (double)back[d]) * ((double)x[d] - (double)back[d]);
        }
    }
    for (size_t d = 0; d < dim; d++) of_mean += sum[d] * sum[d] / (double)n;
    if (known == n) {
        b->distortion = error / (double)n;
        b->variance = (squares - of_mean) / (double)n;
    }
    free(x);
    free(sum);
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
        status = cli_fail_error(cli, b->now->spec, &err);
    double best = INFINITY;
    for (int i = 0; status == CLI_OK && i < PASSES; i++) {
        double seconds = pass(searcher, b, &options, batch, ids, dist, stats, times, &err);
        if (seconds < 0)
            status = cli_fail_error(cli, b->now->spec, &err);
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

static json_t *point_json(const bench *b, const cli_settings *settings, const point *p, size_t threads)
{
    json_t *params = json_object();
    for (size_t i = 0; params && i < b->given.n; i++)
        json_object_set_new(params, b->given.items[i].name, cli_json_number(b->given.items[i].value));
    for (size_t i = 0; params && i < settings->n; i++)
        json_object_set_new(params, settings->items[i].name, cli_json_number(settings->items[i].value));
    double n = (double)b->info.n;
    json_t *line = json_pack("{s:s, s:s, s:o, s:I, s:I, s:s, s:I, s:I}", "spec", b->info.spec, "pattern",
                             b->now->pattern, "params", params, "n", (json_int_t)b->info.n, "dim",
                             (json_int_t)b->info.dim, "metric", kith_metric_name(b->info.metric), "k",
                             (json_int_t)b->options->k, "queries", (json_int_t)b->queries.n);
    json_t *built = json_pack(
        "{s:o, s:o, s:o, s:o, s:I, s:o, s:o}", "build_seconds", cli_json_number(b->build_seconds),
        "build_cpu_seconds", cli_json_number(b->build_cpu_seconds), "train_seconds",
        cli_json_number(b->train_seconds), "bytes_per_vector",
        cli_json_number(n > 0 ? (double)b->info.bytes / n : NAN), "peak_rss_bytes",
        (json_int_t)peak_rss_bytes(), "distortion", cli_json_number(b->distortion), "distortion_relative",
        cli_json_number(b->variance > 0 ? b->distortion / b->variance : NAN));
    json_t *found = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:s}", "recall",
                              cli_json_number(p->recall), "qps", cli_json_number(p->qps), "mean_us",
                              cli_json_number(1e6 / p->qps), "p50_us", cli_json_number(p->p50_us), "p99_us",
                              cli_json_number(p->p99_us), "scored", cli_json_number(p->scored), "threads",
                              (json_int_t)threads, "simd", kith_simd_name(kith_simd_level()));
    bool whole = line && built && found && json_object_update(line, built) == 0 &&
                 json_object_update(line, found) == 0;
    json_decref(built);
    json_decref(found);
    if (whole) return line;
    json_decref(line);
    return NULL;
}

/* Rows are printed as they are measured: a table that waits for the last one would hide an hour's progress. */
static int print_row(cli_context *cli, bench *b, const cli_settings *settings, const point *p, bool first)
{
    json_t *line = cli->json || b->options->plot ? point_json(b, settings, p, cli_threads(cli)) : NULL;
    int status = CLI_OK;
    for (size_t i = 0; b->options->plot && line && i < DIAGRAMS && status == CLI_OK; i++)
        status = curves_add(&b->drawn[i], b->now->spec, line);
    if (cli->json) return status == CLI_OK ? cli_json_line(cli, line) : status;
    json_decref(line);
    if (status != CLI_OK) return status;
    cli_progress_clear(cli);
    if (first) {
        printf("%s over %s x %zu, %s, k = %llu, %zu thread%s, %s", b->info.spec, cli_thousands(b->info.n),
               b->info.dim, kith_metric_name(b->info.metric), (unsigned long long)b->options->k,
               cli_threads(cli), cli_threads(cli) == 1 ? "" : "s", kith_simd_name(kith_simd_level()));
        if (b->info.n) printf(", %.1f bytes a vector", (double)b->info.bytes / (double)b->info.n);
        if (b->variance > 0)
            printf(", distortion %.4g (%.3g of the variance)", b->distortion, b->distortion / b->variance);
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
static int measure_all(cli_context *cli, bench *b)
{
    kith_setting items[64];
    cli_settings settings = {.items = items};
    const sweep *sweeps[MAX_SWEEPS];
    size_t n_sweeps = 0;
    bool known;
    kith_param_when when = KITH_AT_SEARCH;
    for (size_t i = 0; i < b->given.n && settings.n < 32; i++) {
        int status = param_when(cli, b->now->spec, b->given.items[i].name, &known, &when);
        if (status != CLI_OK) return status;
        if (known && when == KITH_AT_SEARCH) items[settings.n++] = b->given.items[i];
    }
    for (size_t i = 0; i < b->n_sweeps; i++) {
        int status = param_when(cli, b->now->spec, b->sweeps[i].name, &known, &when);
        if (status != CLI_OK) return status;
        if (known) sweeps[n_sweeps++] = &b->sweeps[i];
    }
    size_t fixed = settings.n, turn[MAX_SWEEPS] = {0};
    settings.n += n_sweeps;
    for (bool first = true;; first = false) {
        for (size_t s = 0; s < n_sweeps; s++)
            items[fixed + s] = (kith_setting){sweeps[s]->name, sweeps[s]->values[turn[s]]};
        point p = {0};
        int status = measure(cli, b, &settings, &p);
        if (status == CLI_OK) status = print_row(cli, b, &settings, &p, first);
        if (status != CLI_OK) return status;
        size_t s = n_sweeps;
        while (s > 0 && ++turn[s - 1] == sweeps[s - 1]->n) turn[--s] = 0;
        if (s == 0) return CLI_OK;
    }
}

/* The four diagrams, PREFIX-recall-bytes.svg and so on. */
static int draw(cli_context *cli, bench *b)
{
    int status = CLI_OK;
    for (size_t i = 0; i < DIAGRAMS && status == CLI_OK; i++) {
        char path[4200];
        if ((size_t)snprintf(path, sizeof path, "%s-%s.svg", b->options->plot, diagrams[i].name) >=
            sizeof path)
            return cli_fail(cli, "--plot", "%s", strerror(ENAMETOOLONG));
        if (b->drawn[i].points > 0)
            status = curves_draw(&b->drawn[i], path, NULL);
        else
            cli_note(cli, "%s: no point has both quantities, not drawn", path);
    }
    return status;
}

/* An index that is used again holds the rows of BASE: what codes give back is nearer to these than their mean is, rows of another
 * set are twice as far, if it is alike. */
static int check_rows(cli_context *cli, const bench *b)
{
    bool reused = isnan(b->build_seconds);
    if (!reused || !(b->distortion > 1.5 * b->variance)) return CLI_OK;
    return cli_fail(cli, b->options->index, "was built of other data than %s", cli->args[0]);
}

static int bench_one(cli_context *cli, bench *b, const wanted *now)
{
    b->now = now;
    b->info = (kith_index_info){.struct_size = sizeof b->info};
    int status = make_index(cli, b);
    if (status == CLI_OK) status = measure_distortion(cli, b);
    if (status == CLI_OK) status = check_rows(cli, b);
    if (status == CLI_OK) status = measure_all(cli, b);
    kith_index_free(b->index);
    b->index = NULL;
    return status;
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    if (o->spec.n == 0) return cli_usage(cli, "--spec", "missing: the kind of index, see `kith families`");
    bench b = {.options = o};
    kith_error err;
    if (kith_metric_parse(o->metric, &b.metric, &err) != KITH_OK)
        return cli_usage(cli, "--metric", "%s", err.message);
    if (o->sweep.n > MAX_SWEEPS) return cli_usage(cli, "--sweep", "given more than %d times", MAX_SWEEPS);
    for (size_t i = 0; i < DIAGRAMS; i++)
        b.drawn[i] = (curves){.cli = cli,
                              .x = curves_quantity_of(cli, "--plot", diagrams[i].x),
                              .y = curves_quantity_of(cli, "--plot", diagrams[i].y),
                              .by_pattern = true};
    int status = list_specs(cli, &b);
    if (status == CLI_OK) status = load(cli, &b);
    for (size_t i = 0; i < b.n_specs && status == CLI_OK; i++) status = bench_one(cli, &b, &b.specs[i]);
    if (status == CLI_OK && o->plot) status = draw(cli, &b);
    for (size_t i = 0; i < DIAGRAMS; i++) curves_clear(&b.drawn[i]);
    free(b.specs);
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
        "vectors of BASE included. Distortion is the mean squared distance of rows to what the index gives "
        "back "
        "of them, also as a part of their variance.\n\n"
        "--spec may be given more than once, and braces in it stand for each of their parts: "
        "'IVF1024,PQ{8,16,32}' is three indexes, measured one after the other (quoted, for shells know "
        "braces "
        "too). A sweep of a parameter that only some of them have leaves the others alone. --plot draws what "
        "was measured, a curve for each --spec: recall and distortion against bytes a vector, recall "
        "against the time of a query, distortion against that of building.\n\n"
        "With --metric hamming each component of BASE and QUERIES is a byte of 8 "
        "bits.",
    .arguments =
        (const cli_argument[]){
            {.name = "BASE", .help = "the vectors to index, in any format that kith reads"},
            {.name = "QUERIES", .help = "the vectors to search for"},
            {.name = "GT", .help = "their true neighbours, .ivecs or HDF5: see `kith gt`"},
            {0}},
    .options =
        (const cli_option[]){
            {.name = "spec",
             .letter = 's',
             .kind = CLI_LIST,
             .argument = "SPEC",
             .into = offsetof(struct options, spec),
             .help = "the kind of index: see `kith families`; {A,B} stands for A and B"},
            CLI_OPTION_LIST(sweep, "sweep", "NAME=V1,V2,...", "a search parameter and the values to try"),
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
            CLI_OPTION_SEED("seed of everything random in the index"),
            CLI_OPTION_TEXT(index, "index", "FILE",
                            "keep the built index in this file, and use it again when it is there"),
            CLI_OPTION_TEXT(plot, "plot", "PREFIX", "draw PREFIX-recall-bytes.svg and three diagrams more"),
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
            {"kith bench base.fvecs query.fvecs gt.ivecs -s 'IVF1024,PQ{8,16,32}' -s 'IVF1024,SQ{4,8}' "
             "--sweep nprobe=4,16,64 --plot codes",
             "what a byte more buys, as diagrams"},
            {0}},
    .run = run,
};
