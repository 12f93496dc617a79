/* verb_tune.c - `kith tune`: which index, and which parameters, for a recall that is asked for.
 *
 * Successive halving (K. Jamieson, A. Talwalkar, "Non-stochastic best arm identification and hyperparameter
 * optimization", AISTATS 2016): every candidate is built over a small sample of the rows, calibrated, and timed at the target;
 * the better half goes on to a sample of four times the size, until one is left or the sample is everything. */
#include "cli_options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <kith/tune.h>

#ifdef KITH_WITH_PICTURES
#include "rows.h"
#endif
#include "svg_plot.h"

struct options {
    const char *output, *metric, *plot, *field, *gt, *base;
    double target, max_bytes;
    uint64_t k, seed, limit, queries;
};

enum {
    MAX_CANDIDATES = 40,
    MAX_ROUNDS = 8,
    FIRST_ROWS =
        20000,  /* of the first sample: below, what is best tells little of what will be (arbitrary) */
    GROWTH = 4, /* of the sample, from round to round */
    TIMED_QUERIES = 500,
    TIMED_PASSES = 3,
    TRUTH_K = 100
};

/* A candidate, and what was measured of it last. */
typedef struct candidate {
    char spec[64];     /* for the sample of this round: the number of cells goes with its rows */
    const char *shape; /* of candidates[] */
    double recall, qps, bytes, build_seconds;
    double value, refine_k; /* the parameters that reach the target */
    bool alive, reached;
} candidate;

/* One measurement, kept for the front. */
typedef struct trial {
    char spec[64];
    size_t round, rows;
    double bytes_per_row, qps, recall;
    bool front; /* no other of the round is smaller and as fast, or faster and as small */
} trial;

typedef struct tune {
    cli_context *cli;
    const struct options *o;
    kith_metric metric;
    cli_vectors base, queries, sample, learn, judge; /* learn and judge: the two halves of the queries */
    uint64_t *truth;                                 /* [queries][truth_k] of the sample */
    size_t truth_k;
    candidate candidates[MAX_CANDIDATES];
    size_t n_candidates;
    trial trials[MAX_CANDIDATES * MAX_ROUNDS];
    size_t n_trials;
    double smallest;  /* bytes of the smallest index looked at; 0: none yet */
    kith_index *best; /* of the last round */
    char best_spec[64];
} tune;

/* Shapes of specs: %c is the number of cells, %d a quarter of it, %h, %q and %e a half, a quarter and an eighth of the
 * components. Those that this build does not know, or that do not fit the rows, are passed over. */
static const char *const float_shapes[] = {"Flat",
                                           "IVF%c,Flat",
                                           "IVF%c,SQ8",
                                           "IVF%c,SQ8,RFlat",
                                           "IVF%c,PQ%q,RFlat",
                                           "IVF%c,PQ%h",
                                           "IVF%c,PQ%hx4,RFlat",
                                           "HNSW16,Flat",
                                           "HNSW32,Flat",
                                           "HNSW16,SQ8,RFlat",
                                           "IVF%c,F16",
                                           "SQ8,RFlat",
                                           "RPForest16,Flat",
                                           "IVF%c,PQ%hx4fs,RFlat",
                                           "KDTree,Flat",
                                           "IVF%c,RaBitQ,RFlat",
                                           "IVF%c,RaBitQ4",
                                           "QG32"};
/* Small ones, tried as well where there is a limit of bytes. The centroids count then: fewer cells. */
static const char *const small_shapes[] = {"IVF%d,Flat",
                                           "IVF%d,SQ8",
                                           "IVF%d,SQ4",
                                           "IVF%d,RaBitQ7",
                                           "IVF%d,RaBitQ4",
                                           "IVF%d,RaBitQ",
                                           "IVF%d,RaBitQ,Refine(SQ8)",
                                           "IVF%d,PQ%e,Refine(SQ8)",
                                           "IVF%d,PQ%h",
                                           "IVF%d,PQ%q",
                                           "IVF%d,PQ%e",
#ifdef KITH_WITH_LAPACK
                                           "OPQ%q,IVF%d,PQ%q",
                                           "OPQ%e,IVF%d,PQ%e",
#endif
                                           "SQ4",
                                           "RaBitQ4",
                                           "RaBitQ",
                                           "PQ%q",
                                           "PQ%e"};
static const char *const bit_shapes[] = {"BFlat", "BIVF%c", "BHNSW16", "BMIH8", "BMIH16"};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- Specs ---- */

/* Cells for n rows: four times the root of their number, as a power of two. */
static size_t cells_for(size_t n)
{
    size_t cells = 16;
    while ((double)cells * 1.5 < 4 * sqrt((double)n)) cells *= 2;
    return cells;
}

static void fill_shape(const char *shape, size_t n, size_t dim, char spec[64])
{
    size_t used = 0;
    for (const char *p = shape; *p && used < 60; p++) {
        if (*p != '%') {
            spec[used++] = *p;
            continue;
        }
        p++;
        size_t number = *p == 'c'   ? cells_for(n)
                        : *p == 'd' ? cells_for(n) / 4
                        : *p == 'h' ? dim / 2
                        : *p == 'q' ? dim / 4
                                    : dim / 8;
        used += (size_t)snprintf(spec + used, 64 - used, "%zu", number);
    }
    spec[used < 63 ? used : 63] = 0;
}

/* What the centroids of a spec take: as they are, packed, and a byte a component. */
static double cell_bytes(const char *spec, size_t dim)
{
    const char *ivf = strstr(spec, "IVF");
    return (ivf ? strtod(ivf + 3, NULL) : 0) * (double)dim * 2.25 * sizeof(float);
}

/* Bytes that an index of this spec over n rows of floats takes at the least: its codes, refinements and centroids. */
static double least_bytes(const char *spec, size_t n, size_t dim)
{
    double row = 0, d = (double)dim;
    for (const char *part = spec; part; part = strchr(part, ',')) {
        part += *part == ',';
        unsigned a = 0, bits = 8;
        if (sscanf(part, "PQ%ux%u", &a, &bits) >= 1)
            row += a * bits / 8.0;
        else if (strncmp(part, "Flat", 4) == 0 || strncmp(part, "RFlat", 5) == 0)
            row += 4 * d;
        else if (strncmp(part, "SQ8", 3) == 0 || strncmp(part, "Refine(SQ8)", 11) == 0)
            row += d;
        else if (strncmp(part, "SQ4", 3) == 0)
            row += d / 2;
        else if (strncmp(part, "F16", 3) == 0)
            row += 2 * d;
        else if (strncmp(part, "RaBitQ", 6) == 0)
            row += (part[6] >= '2' && part[6] <= '8' ? part[6] - '0' : 1) * d / 8;
    }
    if (row == 0) row = 4 * d; /* a structure that says no codec keeps float32 */
    return row * (double)n + cell_bytes(spec, dim);
}

static void note_bytes(tune *t, double bytes)
{
    if (t->smallest == 0 || bytes < t->smallest) t->smallest = bytes;
}

static void list_shapes(tune *t, const char *const *shapes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        kith_index *index;
        kith_index_options options;
        kith_index_options_init(&options);
        options.metric = t->metric;
        candidate *c = &t->candidates[t->n_candidates];
        fill_shape(shapes[i], t->base.n, t->base.dim, c->spec);
        if (kith_index_create(c->spec, t->base.dim, &options, &index, NULL) != KITH_OK) continue;
        kith_index_free(index);
        double least = t->metric == KITH_HAMMING ? 0 : least_bytes(c->spec, t->base.n, t->base.dim);
        if (t->o->max_bytes > 0 && least > t->o->max_bytes) { /* known before it is built */
            note_bytes(t, least);
            continue;
        }
        c->shape = shapes[i];
        c->alive = true;
        t->n_candidates++;
    }
}

static void list_candidates(tune *t)
{
    if (t->metric == KITH_HAMMING) {
        list_shapes(t, bit_shapes, sizeof bit_shapes / sizeof *bit_shapes);
        return;
    }
    list_shapes(t, float_shapes, sizeof float_shapes / sizeof *float_shapes);
    if (t->o->max_bytes > 0) list_shapes(t, small_shapes, sizeof small_shapes / sizeof *small_shapes);
}

/* What an index that takes `bytes` over the sample would take over all rows: these have more cells, but fewer a row. */
static double bytes_over_all(const tune *t, const candidate *c, double bytes)
{
    char whole[64];
    fill_shape(c->shape, t->base.n, t->base.dim, whole);
    double rows = bytes - cell_bytes(c->spec, t->base.dim);
    if (rows < 0) rows = 0;
    return rows / (double)t->sample.n * (double)t->base.n + cell_bytes(whole, t->base.dim);
}

/* ---- Samples and truth ---- */

static size_t row_bytes(const cli_vectors *v)
{
    return v->bits ? kith_bit_bytes(v->dim) : v->dim * sizeof(float);
}

static const void *row_of(const cli_vectors *v, size_t i)
{
    return v->bits ? (const void *)(v->bits + i * row_bytes(v)) : (const void *)(v->x + i * v->dim);
}

/* Rows first, first + step, ... of v, n of them. */
static int take(cli_context *cli, const cli_vectors *v, size_t first, double step, size_t n, cli_vectors *out)
{
    unsigned char *rows = malloc(n * row_bytes(v) + 1);
    if (!rows) return cli_fail(cli, NULL, "out of memory");
    for (size_t i = 0; i < n; i++)
        memcpy(rows + i * row_bytes(v), row_of(v, first + (size_t)((double)i * step)), row_bytes(v));
    cli_vectors_clear(out);
    *out = (cli_vectors){.n = n, .dim = v->dim};
    if (v->bits)
        out->bits = rows;
    else
        out->x = (float *)(void *)rows;
    return CLI_OK;
}

/* An index over rows; *index NULL after a message. */
static int build(tune *t, const char *spec, const cli_vectors *rows, kith_index **index)
{
    kith_error err;
    kith_index_options options;
    kith_index_options_init(&options);
    options.metric = t->metric;
    options.seed = t->o->seed;
    if (kith_index_create(spec, rows->dim, &options, index, &err) != KITH_OK)
        return cli_fail_error(t->cli, spec, &err);
    if (cli_index_train(*index, rows, &t->cli->run, &err) == KITH_OK &&
        cli_index_add(*index, rows, &t->cli->run, &err) == KITH_OK)
        return CLI_OK;
    kith_index_free(*index);
    *index = NULL;
    return cli_fail_error(t->cli, spec, &err);
}

/* The true neighbours of all queries in the sample. */
static int find_truth(tune *t)
{
    t->truth_k = t->o->k > TRUTH_K ? t->o->k : TRUTH_K;
    if (t->truth_k > t->sample.n) t->truth_k = t->sample.n;
    free(t->truth);
    t->truth = calloc(t->queries.n * t->truth_k, sizeof *t->truth);
    if (!t->truth) return cli_fail(t->cli, NULL, "out of memory");
    return cli_neighbours(t->cli, t->metric, &t->sample, &t->queries, t->truth_k, t->truth);
}

/* ---- One candidate ---- */

static kith_status calibrate(tune *t, kith_index *index, const size_t *ks, size_t n_ks, const uint64_t *truth,
                             kith_error *err)
{
    kith_calibrate_options options;
    kith_calibrate_options_init(&options);
    options.truth = truth;
    options.truth_k = truth ? t->truth_k : 0;
    options.ks = ks;
    options.n_ks = n_ks;
    return cli_index_calibrate(index, &t->learn, &options, &t->cli->run, err);
}

/* Recall and speed at the target, by the queries that were not calibrated with; one at a time, on one thread. */
static int time_at_target(tune *t, const kith_index *index, candidate *c)
{
    size_t k = t->o->k, nq = t->judge.n < TIMED_QUERIES ? t->judge.n : TIMED_QUERIES, hits = 0;
    kith_setting setting = {"target_recall", t->o->target};
    kith_search_options options;
    kith_search_options_init(&options);
    options.settings = &setting;
    options.n_settings = 1;
    kith_searcher *searcher;
    kith_error err;
    uint64_t *ids = malloc(nq * k * sizeof *ids);
    float *dist = malloc(nq * k * sizeof *dist);
    if (!ids || !dist || kith_searcher_create(index, &searcher, &err) != KITH_OK) {
        free(ids);
        free(dist);
        return cli_fail(t->cli, NULL, "out of memory");
    }
    double best = INFINITY;
    c->reached = true;
    for (int pass = 0; pass < TIMED_PASSES && c->reached; pass++) {
        double begun = now();
        for (size_t q = 0; q < nq && c->reached; q++) /* refused: the calibration does not reach so far */
            c->reached = cli_search(searcher, &t->judge, q, 1, k, &options, ids + q * k, dist + q * k, NULL,
                                    &err) == KITH_OK;
        if (now() - begun < best) best = now() - begun;
    }
    for (size_t q = 0; q < nq && c->reached; q++)
        for (size_t i = 0; i < k; i++)
            for (size_t j = 0; j < k; j++)
                hits += ids[q * k + i] == t->truth[(t->learn.n + q) * t->truth_k + j];
    c->recall = c->reached ? (double)hits / (double)(nq * k) : 0;
    c->qps = c->reached ? (double)nq / best : 0;
    kith_searcher_free(searcher);
    free(ids);
    free(dist);
    return CLI_OK;
}

/* Build, calibrate and time a candidate over the sample. The index is kept when it is the best so far. */
static int try_candidate(tune *t, candidate *c, size_t round)
{
    kith_index *index;
    kith_error err;
    kith_index_info info = {.struct_size = sizeof info};
    size_t k = t->o->k;
    double begun = now(), best = 0;
    for (size_t i = 0; i < t->n_candidates; i++)
        if (&t->candidates[i] < c && t->candidates[i].alive && t->candidates[i].qps > best)
            best = t->candidates[i].qps;
    fill_shape(c->shape, t->sample.n, t->sample.dim, c->spec);
    int status = build(t, c->spec, &t->sample, &index);
    if (status != CLI_OK) return status;
    c->build_seconds = now() - begun;
    (void)kith_index_get_info(index, &info, NULL);
    c->bytes = (double)info.bytes / (double)t->sample.n;
    double over_all = bytes_over_all(t, c, (double)info.bytes);
    note_bytes(t, over_all);
    if (t->o->max_bytes > 0 && over_all > t->o->max_bytes) {
        c->reached = false;
        c->qps = c->recall = 0;
    } else if (calibrate(t, index, &k, 1, t->truth, &err) != KITH_OK) {
        status = cli_fail_error(t->cli, c->spec, &err);
    } else {
        status = time_at_target(t, index, c);
    }
    if (status == CLI_OK && c->reached) {
        trial *tr = &t->trials[t->n_trials++];
        *tr = (trial){.round = round,
                      .rows = t->sample.n,
                      .bytes_per_row = c->bytes,
                      .qps = c->qps,
                      .recall = c->recall};
        memcpy(tr->spec, c->spec, sizeof tr->spec);
        if (c->qps > best) {
            kith_index_free(t->best);
            t->best = index;
            memcpy(t->best_spec, c->spec, sizeof t->best_spec);
            return CLI_OK;
        }
    }
    kith_index_free(index);
    return status;
}

static int tell(tune *t, const candidate *c, size_t round, bool kept)
{
    cli_context *cli = t->cli;
    if (cli->json)
        return cli_json_line(cli,
                             json_pack("{s:I, s:I, s:s, s:b, s:o, s:o, s:o, s:o, s:b}", "round",
                                       (json_int_t)round, "rows", (json_int_t)t->sample.n, "spec", c->spec,
                                       "reached", c->reached, "recall", cli_json_number(c->recall), "qps",
                                       cli_json_number(c->qps), "bytes_per_row", cli_json_number(c->bytes),
                                       "build_seconds", cli_json_number(c->build_seconds), "kept", kept));
    cli_progress_clear(cli);
    if (c->reached)
        printf("%-28s %8.4f %10.0f %10.1f %9.1f  %s\n", c->spec, c->recall, c->qps, c->bytes,
               c->build_seconds, kept ? "kept" : "");
    else
        printf("%-28s %8s %10s %10.1f %9.1f  %s\n", c->spec, "-", "-", c->bytes, c->build_seconds,
               "does not reach it, or too large");
    return cli_flush(cli);
}

/* ---- Rounds ---- */

static int by_speed(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    return (x->qps < y->qps) - (x->qps > y->qps);
}

/* One round over n rows; leaves half of the candidates alive, or one after the last. */
static int play(tune *t, size_t round, size_t n)
{
    cli_context *cli = t->cli;
    int status = take(cli, &t->base, 0, (double)t->base.n / (double)n, n, &t->sample);
    if (status == CLI_OK) status = find_truth(t);
    if (status == CLI_OK && !cli->json) {
        cli_progress_clear(cli);
        printf("round %zu, %s, recall@%llu of %g\n", round, cli_counted(n, "row"),
               (unsigned long long)t->o->k, t->o->target);
        printf("%-28s %8s %10s %10s %9s\n", "SPEC", "RECALL", "QUERIES/S", "BYTES/ROW", "BUILD S");
    }
    kith_index_free(t->best);
    t->best = NULL;
    for (size_t i = 0; i < t->n_candidates; i++) t->candidates[i].qps = 0;
    for (size_t i = 0; i < t->n_candidates && status == CLI_OK; i++) {
        status = try_candidate(t, &t->candidates[i], round);
        if (status == CLI_OK && cli_cancelled(cli)) status = cli_fail(cli, NULL, "interrupted");
    }
    if (status != CLI_OK) return status;
    qsort(t->candidates, t->n_candidates, sizeof *t->candidates, by_speed);
    size_t reached = 0;
    while (reached < t->n_candidates && t->candidates[reached].reached) reached++;
    size_t keep = n == t->base.n ? 1 : (reached + 1) / 2;
    for (size_t i = 0; i < t->n_candidates && status == CLI_OK; i++)
        status = tell(t, &t->candidates[i], round, i < keep && i < reached);
    t->n_candidates = keep;
    if (status == CLI_OK && reached == 0 && t->o->max_bytes > 0)
        status =
            cli_fail(cli, NULL,
                     "no index reaches recall %g within that many bytes (the smallest of those known takes "
                     "%.0f); --target-recall takes a lower one",
                     t->o->target, t->smallest);
    else if (status == CLI_OK && reached == 0)
        status = cli_fail(cli, NULL, "no index reaches recall %g", t->o->target);
    return status;
}

/* ---- The front: what nothing else of its round beats in size and speed ---- */

static int by_round_and_bytes(const void *a, const void *b)
{
    const trial *x = a, *y = b;
    if (x->round != y->round) return x->round < y->round ? -1 : 1;
    if (x->bytes_per_row != y->bytes_per_row) return x->bytes_per_row < y->bytes_per_row ? -1 : 1;
    return (x->qps < y->qps) - (x->qps > y->qps);
}

static void find_front(tune *t)
{
    double best = 0;
    qsort(t->trials, t->n_trials, sizeof *t->trials, by_round_and_bytes);
    for (size_t i = 0; i < t->n_trials; i++) {
        trial *tr = &t->trials[i];
        if (i == 0 || tr->round != tr[-1].round) best = 0;
        tr->front = tr->qps > best;
        if (tr->front) best = tr->qps;
    }
}

/* The front of every round, from small to fast: the first, over a small sample, has all kinds in it, the last what is left. */
static int tell_front(tune *t)
{
    cli_context *cli = t->cli;
    int status = CLI_OK;
    cli_progress_clear(cli);
    for (size_t i = 0; i < t->n_trials && status == CLI_OK; i++) {
        const trial *tr = &t->trials[i];
        bool begins = i == 0 || tr->round != tr[-1].round;
        if (begins && !cli->json) {
            printf("front of round %zu, %s: no other is smaller and as fast\n", tr->round,
                   cli_counted(tr->rows, "row"));
            printf("%-28s %10s %10s %8s\n", "SPEC", "BYTES/ROW", "QUERIES/S", "RECALL");
        }
        if (!tr->front) continue;
        if (cli->json)
            status = cli_json_line(
                cli, json_pack("{s:b, s:I, s:I, s:s, s:o, s:o, s:o}", "front", 1, "round",
                               (json_int_t)tr->round, "rows", (json_int_t)tr->rows, "spec", tr->spec,
                               "bytes_per_row", cli_json_number(tr->bytes_per_row), "qps",
                               cli_json_number(tr->qps), "recall", cli_json_number(tr->recall)));
        else
            printf("%-28s %10.1f %10.0f %8.4f\n", tr->spec, tr->bytes_per_row, tr->qps, tr->recall);
    }
    return status == CLI_OK ? cli_flush(cli) : status;
}

static int draw(tune *t)
{
    cli_context *cli = t->cli;
    plot_series series[MAX_ROUNDS];
    plot_point points[MAX_CANDIDATES * MAX_ROUNDS];
    char labels[MAX_ROUNDS][32];
    plot p = {.title = "Indexes tried by kith tune",
              .subtitle = "each at the target recall; lines join those that no other beats in size and speed",
              .x = {.title = "bytes a row", .log = true},
              .y = {.title = "queries per second, one thread", .log = true},
              .series = series};
    for (size_t i = 0; i < t->n_trials; i++) {
        trial *tr = &t->trials[i];
        if (i == 0 || tr->round != tr[-1].round) {
            snprintf(labels[p.n], sizeof labels[p.n], "round %zu, %zu rows", tr->round, tr->rows);
            series[p.n] = (plot_series){.label = labels[p.n], .points = points + i};
            p.n++;
        }
        plot_series *s = &series[p.n - 1];
        s->points[s->n++] = (plot_point){tr->bytes_per_row, tr->qps, tr->spec, tr->front};
        if (i == 0) p.x.low = p.x.high = tr->bytes_per_row, p.y.low = p.y.high = tr->qps;
        p.x.low = fmin(p.x.low, tr->bytes_per_row), p.x.high = fmax(p.x.high, tr->bytes_per_row);
        p.y.low = fmin(p.y.low, tr->qps), p.y.high = fmax(p.y.high, tr->qps);
    }
    FILE *out = t->o->plot ? fopen(t->o->plot, "w") : NULL;
    if (t->o->plot && !out) return cli_fail(cli, t->o->plot, "cannot be written: %s", strerror(errno));
    if (!out) return CLI_OK;
    plot_write(&p, out);
    bool bad = ferror(out) != 0;
    if (fclose(out) != 0 || bad) return cli_fail(cli, t->o->plot, "cannot be written: %s", strerror(errno));
    return CLI_OK;
}

/* ---- The end: a calibration for several k, the file ---- */

static int finish(tune *t, kith_index *index, const char *path, const char *spec, const uint64_t *truth)
{
    cli_context *cli = t->cli;
    size_t ks[4] = {1, 10, 100, 0}, n_ks = 3, k = t->o->k;
    for (size_t i = 0; i <= n_ks; i++) { /* k in its place among the usual ones */
        if (i < n_ks && ks[i] == k) break;
        if (i < n_ks && ks[i] < k) continue;
        memmove(ks + i + 1, ks + i, (n_ks - i) * sizeof *ks);
        ks[i] = k;
        n_ks++;
        break;
    }
    kith_error err;
    kith_setting found[2] = {{NULL, 0}, {NULL, 0}};
    size_t n = 0;
    kith_status status = calibrate(t, index, ks, n_ks, truth, &err);
    if (status == KITH_INVALID && !truth && strstr(err.message, "options.truth"))
        return cli_fail(
            cli, path,
            "%s does not hold its rows exactly: give them (--base FILE), or the true neighbours of "
            "QUERIES (--gt FILE, see `kith gt`)",
            spec);
    if (status != KITH_OK) return cli_fail_error(cli, path, &err);
    if (path && kith_index_save(index, path, NULL, &err) != KITH_OK) return cli_fail_message(cli, path, &err);
    (void)kith_index_calibration(index, NULL, &n, NULL);
    kith_calibration_point *points = calloc(n + 1, sizeof *points);
    if (!points) return cli_fail(cli, NULL, "out of memory");
    (void)kith_index_calibration(index, points, &n, NULL);
    double most = 0, value = 0, refine_k = 0;
    bool reached = false;
    for (size_t i = 0; i < n; i++) {
        if (points[i].k != k) continue;
        most = points[i].recall;
        if (reached || most < t->o->target) continue;
        reached = true, value = points[i].value, refine_k = points[i].refine_k;
    }
    free(points);
    found[0] = (kith_setting){kith_index_main_param(index), value};
    found[1] = (kith_setting){refine_k > 0 ? "refine_k" : NULL, refine_k};
    if (cli->json)
        return cli_json_line(cli, json_pack("{s:s, s:o, s:o, s:b, s:o, s:o}", "spec", spec, "file",
                                            path ? cli_json_text(path) : json_null(), "target_recall",
                                            cli_json_number(t->o->target), "reached", reached,
                                            found[0].name ? found[0].name : "value",
                                            cli_json_number(found[0].value), "refine_k",
                                            found[1].name ? cli_json_number(refine_k) : json_null()));
    cli_progress_clear(cli);
    if (!reached)
        return cli_fail(cli, path, "%s reaches recall %.4f at most; that calibration is kept", spec, most);
    printf("%s%s%s: recall %g by", path ? path : "", path ? ": " : "", spec, t->o->target);
    for (int i = 0; i < 2; i++)
        if (found[i].name) printf(" %s=%g", found[i].name, found[i].value);
    printf("%s\n", found[0].name || found[1].name ? "" : " any search");
    return cli_flush(cli);
}

/* ---- The two ways ---- */

/* The queries in two halves, the first to learn from. */
static int split_queries(tune *t)
{
    size_t half = t->queries.n / 2;
    if (half == 0)
        return cli_fail(t->cli, t->cli->args[1], "holds %zu vectors, at least 2 are needed", t->queries.n);
    int status = take(t->cli, &t->queries, 0, 1, half, &t->learn);
    return status == CLI_OK ? take(t->cli, &t->queries, half, 1, t->queries.n - half, &t->judge) : status;
}

static int tune_rows(tune *t)
{
    cli_context *cli = t->cli;
    const struct options *o = t->o;
    int status = o->output ? cli_output_check(cli, o->output) : CLI_OK;
    if (status == CLI_OK)
        status = cli_vectors_load(cli, cli->args[0], CLI_ROLE_BASE, t->metric, o->limit, &t->base);
    if (status == CLI_OK)
        status = cli_vectors_load(cli, cli->args[1], CLI_ROLE_QUERIES, t->metric, o->queries, &t->queries);
    if (status != CLI_OK) return status;
    if (t->base.dim != t->queries.dim)
        return cli_fail(cli, cli->args[1], "has %zu dimensions, %s has %zu", t->queries.dim, cli->args[0],
                        t->base.dim);
    if (t->base.n < o->k) return cli_fail(cli, cli->args[0], "holds %zu vectors, fewer than k", t->base.n);
    status = split_queries(t);
    list_candidates(t);
    size_t n = t->base.n < FIRST_ROWS ? t->base.n : FIRST_ROWS;
    for (size_t round = 1; status == CLI_OK; round++) {
        if (round == MAX_ROUNDS) n = t->base.n;
        status = play(t, round, n);
        if (n == t->base.n) break;
        n = t->n_candidates == 1 || n > t->base.n / GROWTH ? t->base.n : n * GROWTH;
    }
    find_front(t);
    if (status == CLI_OK) status = tell_front(t);
    if (status == CLI_OK) status = draw(t);
    return status == CLI_OK ? finish(t, t->best, o->output, t->best_spec, t->truth) : status;
}

/* The true neighbours by --gt, or found in the rows of --base, which are numbered as the index has them; none with
 * neither: the index finds them among its own rows. */
static int truth_of_index(tune *t, uint64_t rows, kith_metric metric)
{
    cli_context *cli = t->cli;
    const struct options *o = t->o;
    cli_truth truth = {0};
    int status = CLI_OK;
    t->metric = metric;
    if (o->base) {
        status = cli_vectors_load(cli, o->base, CLI_ROLE_BASE, metric, 0, &t->sample);
        if (status == CLI_OK && (t->sample.dim != t->queries.dim || t->sample.n != rows))
            status = cli_fail(cli, o->base, "holds %zu x %zu, the index %llu x %zu", t->sample.n,
                              t->sample.dim, (unsigned long long)rows, t->queries.dim);
        return status == CLI_OK ? find_truth(t) : status;
    }
    if (!o->gt) return CLI_OK;
    status = cli_truth_load(cli, o->gt, &truth);
    if (status == CLI_OK && (truth.n < t->queries.n || truth.k < o->k))
        status = cli_fail(cli, o->gt, "holds %zu x %zu neighbours, %zu x %llu are needed", truth.n, truth.k,
                          t->queries.n, (unsigned long long)o->k);
    if (status == CLI_OK) status = cli_truth_check(cli, o->gt, &truth, rows);
    t->truth_k = truth.k;
    t->truth = status == CLI_OK ? malloc(t->queries.n * truth.k * sizeof *t->truth) : NULL;
    if (status == CLI_OK && !t->truth) status = cli_fail(cli, NULL, "out of memory");
    for (size_t i = 0; status == CLI_OK && i < t->queries.n * truth.k; i++)
        t->truth[i] = truth.ids[i] < 0 ? KITH_NO_ID : (uint64_t)truth.ids[i];
    cli_truth_clear(&truth);
    return status;
}

/* An index that is there: its own rows are the truth, where it has them and no other is given. */
static int tune_index(tune *t)
{
    cli_context *cli = t->cli;
    const char *path = cli->args[0];
    kith_error err;
    kith_index_info info = {.struct_size = sizeof info};
    if (kith_index_open(path, KITH_OPEN_READ, NULL, NULL, &t->best, &err) != KITH_OK)
        return cli_fail_error(cli, path, &err);
    (void)kith_index_get_info(t->best, &info, NULL);
    int status =
        cli_vectors_load(cli, cli->args[1], CLI_ROLE_QUERIES, info.metric, t->o->queries, &t->queries);
    if (status == CLI_OK && t->queries.dim != info.dim)
        status =
            cli_fail(cli, cli->args[1], "has %zu dimensions, %s has %zu", t->queries.dim, path, info.dim);
    if (status == CLI_OK) status = take(cli, &t->queries, 0, 1, t->queries.n, &t->learn);
    if (status == CLI_OK) status = truth_of_index(t, info.n, info.metric);
    return status == CLI_OK ? finish(t, t->best, t->o->output ? t->o->output : path, info.spec, t->truth)
                            : status;
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    tune t = {.cli = cli, .o = o};
    kith_error err;
    if (kith_metric_parse(o->metric, &t.metric, &err) != KITH_OK)
        return cli_usage(cli, "--metric", "%s", err.message);
    if (!(o->target > 0 && o->target <= 1))
        return cli_usage(cli, "--target-recall", "a number above 0, 1 at most, is wanted");
    const char *ending = strrchr(cli->args[0], '.');
#ifdef KITH_WITH_PICTURES
    if (ending && strcmp(ending, ".kith") == 0) {
        if (cli->n_args > 1) return cli_usage(cli, "QUERIES", "a collection is tuned with rows of its own");
        if (o->output || o->plot || o->max_bytes > 0 || o->gt || o->base)
            return cli_usage(cli, "--output, --plot, --max-bytes, --gt, --base", "are not for a collection");
        /* Its default is for queries from a file. */
        return rows_tune(cli, o->target, (size_t)o->k, cli_given(cli, "queries") ? (size_t)o->queries : 500,
                         o->seed, o->field);
    }
#endif
    if (o->field) return cli_usage(cli, "--field", "is for a collection");
    if (cli->n_args < 2) return cli_usage(cli, "QUERIES", "are missing");
    bool there = ending && strcmp(ending, ".kidx") == 0;
    if (!there && (o->gt || o->base)) return cli_usage(cli, "--gt, --base", "are for an index, NAME.kidx");
    if (o->gt && o->base) return cli_usage(cli, "--gt, --base", "one of them is enough");
    int status = there ? tune_index(&t) : tune_rows(&t);
    kith_index_free(t.best);
    free(t.truth);
    cli_vectors_clear(&t.base);
    cli_vectors_clear(&t.queries);
    cli_vectors_clear(&t.sample);
    cli_vectors_clear(&t.learn);
    cli_vectors_clear(&t.judge);
    return status;
}

const cli_verb verb_tune = {
    .name = "tune",
    .group = CLI_VECTORS,
    .summary = "choose an index and its parameters for a recall",
    .description =
        "Finds by measurement which kind of index answers fastest at the recall asked for. "
        "Candidates are built over "
        "a small sample of BASE, calibrated with one half of QUERIES and timed with the other; "
        "the faster half goes "
        "on to a sample four times as large, until the sample is all of BASE. Then the front of "
        "each round is printed: the indexes than which no other was smaller and as fast. The one that is "
        "left is written to "
        "--output with its calibration, so that a search may say target_recall instead of nprobe "
        "or ef. Timings are of "
        "one query at a time on one thread.\n\n"
        "When BASE is an index file (NAME.kidx), it is only calibrated, and saved. One that does not hold "
        "its rows exactly (neither Flat nor RFlat) needs them in --base, or the true neighbours in --gt.\n\n"
        "When BASE is a collection (NAME.kith), searches by rows of its own are measured, and what reaches "
        "the recall is kept in it: from then on it is what a search does that says nothing, and "
        "`kith search --target-recall` may ask for another. `kith stats` shows it.",
    .arguments =
        (const cli_argument[]){
            {.name = "BASE", .help = "vectors in any format that kith reads, NAME.kidx or NAME.kith"},
            {.name = "QUERIES",
             .help = "vectors to search for, like those to come; not for NAME.kith",
             .optional = true},
            {0}},
    .options =
        (const cli_option[]){{.name = "target-recall",
                              .kind = CLI_NUMBER,
                              .argument = "R",
                              .fallback = "0.9",
                              .into = offsetof(struct options, target),
                              .help = "the mean recall wanted, above 0, 1 at most"},
                             {.name = "max-bytes",
                              .kind = CLI_NUMBER,
                              .argument = "B",
                              .fallback = "0",
                              .into = offsetof(struct options, max_bytes),
                              .help = "no index larger than this: small ones are tried as well then, "
                                      "and those known to be larger are not built; 0 means any"},
                             {.name = "gt",
                              .kind = CLI_TEXT,
                              .argument = "FILE",
                              .into = offsetof(struct options, gt),
                              .help = "of NAME.kidx: the true neighbours of QUERIES (`kith gt`)"},
                             {.name = "base",
                              .kind = CLI_TEXT,
                              .argument = "FILE",
                              .into = offsetof(struct options, base),
                              .help = "of NAME.kidx: the vectors that it was built of, to find the true "
                                      "neighbours in"},
                             CLI_OPTION_NEIGHBOURS("10", 1000, "how many results for each query"),
                             CLI_OPTION_METRIC,
                             CLI_OPTION_OUTPUT("where the index is written; none is kept without it"),
                             {.name = "plot",
                              .kind = CLI_TEXT,
                              .argument = "FILE",
                              .into = offsetof(struct options, plot),
                              .help = "draw all that was tried, speed against size, as SVG"},
                             {.name = "queries",
                              .kind = CLI_COUNT,
                              .argument = "N",
                              .fallback = "2000",
                              .into = offsetof(struct options, queries),
                              .help = "take the first N queries only; 0 means all"},
                             CLI_OPTION_LIMIT,
                             CLI_OPTION_SEED("seed of everything random in the index"),
                             {.name = "field",
                              .kind = CLI_TEXT,
                              .argument = "NAME",
                              .into = offsetof(struct options, field),
                              .help = "of a collection: the vector field to tune"},
                             {0}},
    .common = CLI_JSON | CLI_THREADS | CLI_WAIT,
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){
            {"kith tune base.fvecs query.fvecs --target-recall 0.95 -o base.kidx --plot tried.svg",
             "the fastest index for recall 0.95, and a picture of the others"},
            {"kith tune base.fvecs query.fvecs --target-recall 0.9 --max-bytes 100e6 -o small.kidx",
             "the fastest that fits into 100 MB"},
            {"kith tune X.kith --target-recall 0.95", "the searches of a collection"},
            {"kith tune base.kidx query.fvecs --target-recall 0.95", "calibrate an index that is there"},
            {"kith tune pq.kidx query.fvecs --base base.fvecs", "the same for one that holds codes only"},
            {0}},
    .run = run,
};
