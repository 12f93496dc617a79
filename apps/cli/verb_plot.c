/* verb_plot.c - `kith plot`: the lines of `kith bench --json` as curves. */
#include "cli_options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "svg_plot.h"

struct options {
    const char *output, *x, *y, *title;
};

/* What an axis may show. */
static const struct quantity {
    const char *name, *title;
    bool log, less_is_better;
} quantities[] = {
    {"recall", "recall", false, false},
    {"qps", "queries per second", true, false},
    {"p50_us", "median time of a query, microseconds", true, true},
    {"p99_us", "99th percentile of a query's time, microseconds", true, true},
    {"scored", "rows scored a query", true, true},
    {"bytes_per_vector", "bytes per vector", true, true},
    {"build_seconds", "seconds to build", true, true},
    {"train_seconds", "seconds to train", true, true},
    {"peak_rss_bytes", "peak memory, bytes", true, true},
};
enum { QUANTITIES = sizeof quantities / sizeof *quantities };

/* NULL, after a message, for a name that is none. */
static const struct quantity *quantity_of(cli_context *cli, const char *option, const char *name)
{
    const char *names[QUANTITIES + 1] = {0};
    for (size_t i = 0; i < QUANTITIES; i++) {
        if (strcmp(quantities[i].name, name) == 0) return &quantities[i];
        names[i] = quantities[i].name;
    }
    const char *near = cli_nearest(name, names);
    if (near)
        cli_usage(cli, option, "'%s' is no quantity; did you mean %s?", name, near);
    else
        cli_usage(cli, option, "'%s' is no quantity", name);
    return NULL;
}

/* What tells curves apart. Those that are the same for all stand in the subtitle, the others in the labels. */
static const char *const traits[] = {"system", "spec", "n", "dim", "metric", "k", "threads", "batch", "simd"};
enum { TRAITS = sizeof traits / sizeof *traits };

/* A curve while the lines are read. */
typedef struct curve {
    char *trait[TRAITS]; /* as text; NULL: the lines do not say */
    plot_series series;
} curve;

typedef struct reading {
    cli_context *cli;
    const struct quantity *x, *y;
    curve *curves;
    size_t n, room;
    size_t points;
} reading;

static void *grown(void *block, size_t *room, size_t n, size_t size)
{
    if (n < *room) return block;
    *room = n * 2 + 8;
    void *moved = realloc(block, *room * size);
    if (!moved) {
        fputs("kith plot: out of memory\n", stderr);
        exit(CLI_FAILED);
    }
    return moved;
}

static char *copy_of(const char *text)
{
    char *copy = strdup(text);
    if (!copy) {
        fputs("kith plot: out of memory\n", stderr);
        exit(CLI_FAILED);
    }
    return copy;
}

/* A member of a line as text: a string as it is, a number as short as it can be. */
static char *member_text(const json_t *line, const char *name)
{
    char text[64];
    const json_t *value = json_object_get(line, name);
    if (json_is_string(value)) return copy_of(json_string_value(value));
    if (!json_is_number(value)) return NULL;
    snprintf(text, sizeof text, "%.12g", json_number_value(value));
    return copy_of(text);
}

static bool same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* The curve that a line belongs to, made when it is the first of it. */
static curve *curve_of(reading *r, const json_t *line)
{
    curve found = {0};
    for (size_t t = 0; t < TRAITS; t++) found.trait[t] = member_text(line, traits[t]);
    for (size_t i = 0; i < r->n; i++) {
        size_t t = 0;
        while (t < TRAITS && same(r->curves[i].trait[t], found.trait[t])) t++;
        if (t < TRAITS) continue;
        for (t = 0; t < TRAITS; t++) free(found.trait[t]);
        return &r->curves[i];
    }
    r->curves = grown(r->curves, &r->room, r->n, sizeof *r->curves);
    r->curves[r->n] = found;
    return &r->curves[r->n++];
}

/* " nprobe=16 recall=0.97 qps=1234" */
static char *note_of(const reading *r, const json_t *line, double x, double y)
{
    char note[400];
    size_t used = 0;
    const char *name;
    json_t *value;
    json_t *params = json_object_get(line, "params");
    note[0] = 0;
    json_object_foreach(params, name, value)
    {
        if (!json_is_number(value)) continue;
        int wrote = snprintf(note + used, sizeof note - used, " %s=%.9g", name, json_number_value(value));
        if (wrote < 0 || (size_t)wrote >= sizeof note - used) break;
        used += (size_t)wrote;
    }
    snprintf(note + used, sizeof note - used, " %s=%.6g %s=%.6g", r->x->name, x, r->y->name, y);
    return copy_of(note);
}

static int add_line(reading *r, const char *where, const json_t *line)
{
    const json_t *x = json_object_get(line, r->x->name), *y = json_object_get(line, r->y->name);
    if (!json_is_object(line) || !json_is_number(x) || !json_is_number(y))
        return cli_fail(r->cli, where, "has no numbers %s and %s: not a line of `kith bench --json`",
                        r->x->name, r->y->name);
    double vx = json_number_value(x), vy = json_number_value(y);
    if ((r->x->log && !(vx > 0)) || (r->y->log && !(vy > 0)))
        return cli_fail(r->cli, where, "%s is %g, which a logarithmic axis cannot show",
                        r->x->log && !(vx > 0) ? r->x->name : r->y->name, r->x->log && !(vx > 0) ? vx : vy);
    plot_series *series = &curve_of(r, line)->series;
    series->points = grown(series->points, &series->room, series->n, sizeof *series->points);
    series->points[series->n++] = (plot_point){vx, vy, note_of(r, line, vx, vy), false};
    r->points++;
    return CLI_OK;
}

static int read_file(reading *r, const char *path)
{
    char *line = NULL;
    size_t room = 0;
    int status = CLI_OK;
    bool standard = strcmp(path, "-") == 0;
    FILE *in = standard ? stdin : fopen(path, "r");
    if (!in) return cli_fail(r->cli, path, "cannot be opened: %s", strerror(errno));
    for (unsigned long number = 1; status == CLI_OK; number++) {
        errno = 0;
        ssize_t length = getline(&line, &room, in);
        if (length < 0 && errno) status = cli_fail(r->cli, path, "cannot be read: %s", strerror(errno));
        if (length < 0) break;
        if (line[strspn(line, " \t\r\n")] == 0) continue;
        char where[4200];
        json_error_t error;
        snprintf(where, sizeof where, "%s:%lu", path, number);
        json_t *object = json_loadb(line, (size_t)length, JSON_REJECT_DUPLICATES, &error);
        status = object ? add_line(r, where, object) : cli_fail(r->cli, where, "is no JSON: %s", error.text);
        json_decref(object);
    }
    free(line);
    if (!standard) fclose(in);
    return status;
}

/* ---- from lines to curves ---- */

static int by_x(const void *a, const void *b)
{
    const plot_point *p = a, *q = b;
    if (p->x != q->x) return p->x < q->x ? -1 : 1;
    return p->y < q->y ? -1 : p->y > q->y;
}

static bool better(const struct quantity *of, double a, double b)
{
    return of->less_is_better ? a < b : a > b;
}

/* Join the points that no other beats in both quantities: a sweep of two parameters is a cloud, and its edge is what
 * one can get. */
static void find_front(const reading *r, plot_series *series)
{
    qsort(series->points, series->n, sizeof *series->points, by_x);
    for (size_t i = 0; i < series->n; i++) {
        plot_point *p = &series->points[i];
        p->on_curve = true;
        for (size_t j = 0; p->on_curve && j < series->n; j++) {
            const plot_point *q = &series->points[j];
            bool wins = better(r->x, p->x, q->x) || better(r->y, p->y, q->y); /* p, in something */
            bool same_point = p->x == q->x && p->y == q->y;
            if (!wins && (!same_point || j < i)) p->on_curve = false;
        }
    }
}

/* "n=1000000 dim=128 metric=l2" of those traits that are (not) the same for all curves; system and spec by themselves. */
static char *describe(const reading *r, const curve *c, bool common)
{
    char text[600];
    size_t used = 0;
    text[0] = 0;
    for (size_t t = 0; t < TRAITS; t++) {
        bool all = true;
        for (size_t i = 0; i < r->n; i++) all = all && same(r->curves[i].trait[t], c->trait[t]);
        bool wanted = strcmp(traits[t], "spec") == 0 ? !common : all == common;
        if (!wanted || !c->trait[t]) continue;
        bool plain = t < 2; /* system, spec */
        int wrote = snprintf(text + used, sizeof text - used, "%s%s%s%s", used ? " " : "",
                             plain ? "" : traits[t], plain ? "" : "=", c->trait[t]);
        if (wrote < 0 || (size_t)wrote >= sizeof text - used) break;
        used += (size_t)wrote;
    }
    return copy_of(text[0] ? text : common ? "" : "unnamed");
}

static void widen(plot_axis *axis, double value, bool first)
{
    if (first || value < axis->low) axis->low = value;
    if (first || value > axis->high) axis->high = value;
}

static plot make_plot(const reading *r, plot_series *series, const char *title, const char *subtitle)
{
    plot p = {.title = title, .subtitle = subtitle, .series = series, .n = r->n};
    p.x = (plot_axis){.title = r->x->title, .log = r->x->log};
    p.y = (plot_axis){.title = r->y->title, .log = r->y->log};
    bool first = true;
    for (size_t i = 0; i < r->n; i++) {
        find_front(r, &r->curves[i].series);
        r->curves[i].series.label = describe(r, &r->curves[i], false);
        series[i] = r->curves[i].series;
        for (size_t j = 0; j < series[i].n; j++, first = false) {
            widen(&p.x, series[i].points[j].x, first);
            widen(&p.y, series[i].points[j].y, first);
        }
    }
    return p;
}

/* The file appears whole or not at all. */
static int save(cli_context *cli, const char *path, const plot *p)
{
    char temporary[4200];
    if (strcmp(path, "-") == 0) {
        plot_write(p, stdout);
        return cli_flush(cli);
    }
    if ((size_t)snprintf(temporary, sizeof temporary, "%s.tmp-%ld", path, (long)getpid()) >= sizeof temporary)
        return cli_fail(cli, path, "%s", strerror(ENAMETOOLONG));
    FILE *out = fopen(temporary, "w");
    if (!out) return cli_fail(cli, path, "cannot be written: %s", strerror(errno));
    plot_write(p, out);
    bool failed = ferror(out) != 0;
    failed = fclose(out) != 0 || failed;
    if (failed || rename(temporary, path) != 0) {
        int status = cli_fail(cli, path, "cannot be written: %s", strerror(errno));
        unlink(temporary);
        return status;
    }
    return CLI_OK;
}

static int draw(reading *r, const struct options *o)
{
    plot_series *series = calloc(r->n, sizeof *series);
    if (!series) return cli_fail(r->cli, NULL, "out of memory");
    char *subtitle = describe(r, &r->curves[0], true);
    char title[300];
    snprintf(title, sizeof title, "%s against %s", r->y->title, r->x->title);
    plot p = make_plot(r, series, o->title ? o->title : title, subtitle);
    int status = save(r->cli, o->output, &p);
    if (status == CLI_OK) cli_note(r->cli, "%s: %zu points of %zu curves", o->output, r->points, r->n);
    free(subtitle);
    free(series);
    return status;
}

static void clear(reading *r)
{
    for (size_t i = 0; i < r->n; i++) {
        for (size_t t = 0; t < TRAITS; t++) free(r->curves[i].trait[t]);
        for (size_t j = 0; j < r->curves[i].series.n; j++) free(r->curves[i].series.points[j].note);
        free(r->curves[i].series.points);
        free(r->curves[i].series.label);
    }
    free(r->curves);
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    if (!o->output) return cli_usage(cli, "--output", "missing: the .svg file to write");
    reading r = {.cli = cli, .x = quantity_of(cli, "--x", o->x), .y = quantity_of(cli, "--y", o->y)};
    if (!r.x || !r.y) return CLI_USAGE;
    int status = CLI_OK;
    for (size_t i = 0; i < cli->n_args && status == CLI_OK; i++) status = read_file(&r, cli->args[i]);
    if (status == CLI_OK && r.points == 0) status = cli_fail(cli, cli->args[0], "holds no lines to draw");
    if (status == CLI_OK) status = draw(&r, o);
    clear(&r);
    return status;
}

const cli_verb verb_plot = {
    .name = "plot",
    .group = CLI_VECTORS,
    .summary = "draw the curves of `kith bench --json` as SVG",
    .description = "One curve for each spec (and metric, k, number of threads, ... where they differ). "
                   "Points that another of the "
                   "same curve beats in both quantities are drawn faint. Time and size have logarithmic "
                   "axes. Lines may also carry "
                   "a member \"system\", the name of another program measured on the same data.\n\n"
                   "QUANTITY is recall, qps (queries a second), p50_us, p99_us (microseconds a query), "
                   "scored (rows a query), bytes_per_vector, "
                   "build_seconds, train_seconds or peak_rss_bytes.",
    .arguments =
        (const cli_argument[]){
            {.name = "BENCH", .help = "a file of JSON lines; - is standard input", .many = true}, {0}},
    .options = (const cli_option[]){CLI_OPTION_OUTPUT("the .svg file to write; - is standard output"),
                                    {.name = "x",
                                     .letter = 'x',
                                     .kind = CLI_TEXT,
                                     .argument = "QUANTITY",
                                     .fallback = "recall",
                                     .into = offsetof(struct options, x),
                                     .help = "what goes to the right"},
                                    {.name = "y",
                                     .letter = 'y',
                                     .kind = CLI_TEXT,
                                     .argument = "QUANTITY",
                                     .fallback = "qps",
                                     .into = offsetof(struct options, y),
                                     .help = "what goes up"},
                                    {.name = "title",
                                     .kind = CLI_TEXT,
                                     .argument = "TEXT",
                                     .into = offsetof(struct options, title),
                                     .help = "the heading"},
                                    {0}},
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){
            {"kith plot ivf.jsonl flat.jsonl -o curves.svg", "queries per second against recall"},
            {"kith plot pq.jsonl -x bytes_per_vector -y recall -o memory.svg", "what recall costs in memory"},
            {0}},
    .run = run,
};
