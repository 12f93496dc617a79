#include "curves.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const curves_quantity quantities[] = {
    {"recall", "recall", false, false, false},
    {"qps", "queries per second", true, false, false},
    {"mean_us", "mean time of a query, microseconds", true, true, false},
    {"p50_us", "median time of a query, microseconds", true, true, false},
    {"p99_us", "99th percentile of a query's time, microseconds", true, true, false},
    {"scored", "rows scored a query", true, true, false},
    {"bytes_per_vector", "bytes per vector", true, true, false},
    {"distortion", "mean squared error of a row given back", true, true, true},
    {"distortion_relative", "mean squared error of a row given back / variance", true, true, true},
    {"build_seconds", "seconds to build", true, true, false},
    {"train_seconds", "seconds to train", true, true, true},
    {"peak_rss_bytes", "peak memory, bytes", true, true, false},
};
enum { QUANTITIES = sizeof quantities / sizeof *quantities };

const curves_quantity *curves_quantity_of(cli_context *cli, const char *option, const char *name)
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
static const char *const traits[CURVES_TRAITS] = {"system", "spec",    "n",     "dim", "metric",
                                                  "k",      "threads", "batch", "simd"};
enum { SYSTEM, SPEC };

/* The member that is looked for: lines of other programs know no patterns. */
static const char *trait_name(const curves *c, const json_t *line, size_t t)
{
    return t == SPEC && c->by_pattern && json_object_get(line, "pattern") ? "pattern" : traits[t];
}

static void *need(cli_context *cli, void *block)
{
    if (!block) exit(cli_fail(cli, NULL, "out of memory"));
    return block;
}

static void *grown(cli_context *cli, void *block, size_t *room, size_t n, size_t size)
{
    if (n < *room) return block;
    *room = n * 2 + 8;
    return need(cli, realloc(block, *room * size));
}

/* A member of a line as text: a string as it is, a number as short as it can be. */
static char *member_text(cli_context *cli, const json_t *line, const char *name)
{
    char text[64];
    const json_t *value = json_object_get(line, name);
    if (json_is_string(value)) return need(cli, strdup(json_string_value(value)));
    if (!json_is_number(value)) return NULL;
    snprintf(text, sizeof text, "%.12g", json_number_value(value));
    return need(cli, strdup(text));
}

static bool same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* The curve that a line belongs to, made when it is the first of it. */
static curves_one *curve_of(curves *c, const json_t *line)
{
    curves_one found = {0};
    for (size_t t = 0; t < CURVES_TRAITS; t++)
        found.trait[t] = member_text(c->cli, line, trait_name(c, line, t));
    for (size_t i = 0; i < c->n; i++) {
        size_t t = 0;
        while (t < CURVES_TRAITS && same(c->items[i].trait[t], found.trait[t])) t++;
        if (t < CURVES_TRAITS) continue;
        for (t = 0; t < CURVES_TRAITS; t++) free(found.trait[t]);
        return &c->items[i];
    }
    c->items = grown(c->cli, c->items, &c->room, c->n, sizeof *c->items);
    c->items[c->n] = found;
    return &c->items[c->n++];
}

/* " nprobe=16 recall=0.97 qps=1234"; by pattern the spec comes first. */
static char *note_of(const curves *c, const json_t *line, double x, double y)
{
    char note[400];
    const char *name, *spec = json_string_value(json_object_get(line, "spec"));
    json_t *value, *params = json_object_get(line, "params");
    int wrote = c->by_pattern && spec ? snprintf(note, sizeof note, " %s", spec) : 0;
    size_t used = wrote > 0 && (size_t)wrote < sizeof note ? (size_t)wrote : 0;
    note[used] = 0;
    json_object_foreach(params, name, value)
    {
        if (!json_is_number(value)) continue;
        wrote = snprintf(note + used, sizeof note - used, " %s=%.9g", name, json_number_value(value));
        if (wrote < 0 || (size_t)wrote >= sizeof note - used) break;
        used += (size_t)wrote;
    }
    snprintf(note + used, sizeof note - used, " %s=%.6g %s=%.6g", c->x->name, x, c->y->name, y);
    return need(c->cli, strdup(note));
}

/* Whether a point cannot be shown, as a matter of course. */
static bool left_out(const curves_quantity *of, const json_t *value)
{
    return json_is_null(value) ||
           (of->may_be_zero && json_is_number(value) && !(json_number_value(value) > 0));
}

int curves_add(curves *c, const char *where, const json_t *line)
{
    const json_t *x = json_object_get(line, c->x->name), *y = json_object_get(line, c->y->name);
    bool nothing = x && y && (left_out(c->x, x) || left_out(c->y, y));
    if (!json_is_object(line) || (!nothing && (!json_is_number(x) || !json_is_number(y))))
        return cli_fail(c->cli, where, "has no numbers %s and %s: not a line of `kith bench --json`",
                        c->x->name, c->y->name);
    if (nothing) {
        c->left_out++;
        return CLI_OK;
    }
    double vx = json_number_value(x), vy = json_number_value(y);
    if ((c->x->log && !(vx > 0)) || (c->y->log && !(vy > 0)))
        return cli_fail(c->cli, where, "%s is %g, which a logarithmic axis cannot show",
                        c->x->log && !(vx > 0) ? c->x->name : c->y->name, c->x->log && !(vx > 0) ? vx : vy);
    plot_series *series = &curve_of(c, line)->series;
    series->points = grown(c->cli, series->points, &series->room, series->n, sizeof *series->points);
    series->points[series->n++] = (plot_point){vx, vy, note_of(c, line, vx, vy), false};
    c->points++;
    return CLI_OK;
}

/* ---- from lines to curves ---- */

static int by_x(const void *a, const void *b)
{
    const plot_point *p = a, *q = b;
    if (p->x != q->x) return p->x < q->x ? -1 : 1;
    return p->y < q->y ? -1 : p->y > q->y;
}

static bool better(const curves_quantity *of, double a, double b)
{
    return of->less_is_better ? a < b : a > b;
}

/* Join the points that no other beats in both quantities: a sweep of two parameters is a cloud, and its edge is what
 * one can get. */
static void find_front(const curves *c, plot_series *series)
{
    qsort(series->points, series->n, sizeof *series->points, by_x);
    for (size_t i = 0; i < series->n; i++) {
        plot_point *p = &series->points[i];
        p->on_curve = true;
        for (size_t j = 0; p->on_curve && j < series->n; j++) {
            const plot_point *q = &series->points[j];
            bool wins = better(c->x, p->x, q->x) || better(c->y, p->y, q->y); /* p, in something */
            bool same_point = p->x == q->x && p->y == q->y;
            if (!wins && (!same_point || j < i)) p->on_curve = false;
        }
    }
}

/* "n=1000000 dim=128 metric=l2" of those traits that are (not) the same for all curves; system and spec by themselves. */
static char *describe(const curves *c, const curves_one *one, bool common)
{
    char text[600];
    size_t used = 0;
    text[0] = 0;
    for (size_t t = 0; t < CURVES_TRAITS; t++) {
        bool all = true;
        for (size_t i = 0; i < c->n; i++) all = all && same(c->items[i].trait[t], one->trait[t]);
        bool wanted = t == SPEC ? !common : all == common;
        if (!wanted || !one->trait[t]) continue;
        bool plain = t == SYSTEM || t == SPEC;
        int wrote = snprintf(text + used, sizeof text - used, "%s%s%s%s", used ? " " : "",
                             plain ? "" : traits[t], plain ? "" : "=", one->trait[t]);
        if (wrote < 0 || (size_t)wrote >= sizeof text - used) break;
        used += (size_t)wrote;
    }
    return need(c->cli, strdup(text[0] ? text : common ? "" : "unnamed"));
}

static void widen(plot_axis *axis, double value, bool first)
{
    if (first || value < axis->low) axis->low = value;
    if (first || value > axis->high) axis->high = value;
}

static plot make_plot(const curves *c, plot_series *series, const char *title, const char *subtitle)
{
    plot p = {.title = title, .subtitle = subtitle, .series = series, .n = c->n};
    p.x = (plot_axis){.title = c->x->title, .log = c->x->log};
    p.y = (plot_axis){.title = c->y->title, .log = c->y->log};
    bool first = true;
    for (size_t i = 0; i < c->n; i++) {
        find_front(c, &c->items[i].series);
        c->items[i].series.label = describe(c, &c->items[i], false);
        series[i] = c->items[i].series;
        for (size_t j = 0; j < series[i].n; j++, first = false) {
            widen(&p.x, series[i].points[j].x, first);
            widen(&p.y, series[i].points[j].y, first);
        }
    }
    return p;
}

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

int curves_draw(curves *c, const char *path, const char *title)
{
    char usual[300];
    plot_series *series = need(c->cli, calloc(c->n, sizeof *series));
    char *subtitle = describe(c, &c->items[0], true);
    snprintf(usual, sizeof usual, "%s against %s", c->y->title, c->x->title);
    plot p = make_plot(c, series, title ? title : usual, subtitle);
    int status = save(c->cli, path, &p);
    if (status == CLI_OK && c->left_out)
        cli_note(c->cli, "%s: %s of %s, %zu without %s or %s left out", path, cli_counted(c->points, "point"),
                 cli_counted(c->n, "curve"), c->left_out, c->y->name, c->x->name);
    else if (status == CLI_OK)
        cli_note(c->cli, "%s: %s of %s", path, cli_counted(c->points, "point"), cli_counted(c->n, "curve"));
    free(subtitle);
    free(series);
    return status;
}

void curves_clear(curves *c)
{
    for (size_t i = 0; i < c->n; i++) {
        for (size_t t = 0; t < CURVES_TRAITS; t++) free(c->items[i].trait[t]);
        for (size_t j = 0; j < c->items[i].series.n; j++) free(c->items[i].series.points[j].note);
        free(c->items[i].series.points);
        free(c->items[i].series.label);
    }
    free(c->items);
}
