/* svg_plot.c - curves as SVG 1.1 without scripts or outside references, so that any browser, editor or converter shows
 * them. Colours are those of Okabe & Ito ("Color universal design", 2008), which colour-blind readers tell apart;
 * marks differ too. */
#include "svg_plot.h"

#include <math.h>
#include <string.h>

enum {
    WIDTH = 640, /* of the area between the axes */
    HEIGHT = 420,
    LEFT = 84,
    TOP = 64,
    BOTTOM = 60,
    LEGEND_GAP = 24,
    LEGEND_LINE = 20,
    CHARACTER = 7 /* width of one at 12 px, on the wide side */
};

static const char *const colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                      "#e69f00", "#56b4e9", "#000000", "#999933"};
enum { COLOURS = sizeof colours / sizeof *colours, SHAPES = 4 };

/* Text of the user's in XML: the five characters that mean something there are written as entities, control characters
 * as question marks. */
static void text(FILE *out, const char *s)
{
    for (; *s; s++) {
        switch (*s) {
        case '&': fputs("&amp;", out); break;
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '"': fputs("&quot;", out); break;
        case '\'': fputs("&#39;", out); break;
        default: fputc((unsigned char)*s < 0x20 ? '?' : *s, out);
        }
    }
}

/* ---- scales ---- */

/* An axis with its ends on round numbers. */
typedef struct scale {
    bool log;
    double low, high;
    double step;     /* linear: from one grid line to the next */
    double from, to; /* in pixels */
} scale;

/* The round number (1, 2 or 5 times a power of ten) nearest above. */
static double round_step(double rough)
{
    double power = pow(10, floor(log10(rough)));
    double digit = rough / power;
    return (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10) * power;
}

static scale make_scale(const plot_axis *axis, double from, double to)
{
    scale s = {.log = axis->log, .low = axis->low, .high = axis->high, .from = from, .to = to};
    if (s.log) {
        s.low =
            pow(10, floor(log10(s.low) * 2 - 1e-9) / 2); /* half decades: less empty room than whole ones */
        s.high = pow(10, ceil(log10(s.high) * 2 + 1e-9) / 2);
        return s;
    }
    double span = s.high - s.low;
    if (!(span > 0)) span = fabs(s.high) > 0 ? fabs(s.high) * 0.1 : 1;
    s.step = round_step(span / 6);
    s.low = floor(s.low / s.step + 1e-9) * s.step;
    s.high = ceil(s.high / s.step - 1e-9) * s.step;
    if (!(s.high > s.low)) s.high = s.low + s.step;
    return s;
}

static double place(const scale *s, double value)
{
    double part = s->log ? (log10(value) - log10(s->low)) / (log10(s->high) - log10(s->low))
                         : (value - s->low) / (s->high - s->low);
    return s->from + part * (s->to - s->from);
}

static void number(FILE *out, double value)
{
    if (value >= 1e6)
        fprintf(out, "%gM", value / 1e6);
    else if (value >= 1e4)
        fprintf(out, "%gk", value / 1e3);
    else
        fprintf(out, "%.6g", value);
}

/* ---- parts ---- */

static void grid_line(FILE *out, const scale *s, bool is_x, double value, bool labelled)
{
    double at = place(s, value);
    const char *class = labelled ? "grid" : "grid minor";
    if (is_x)
        fprintf(out, "<line class=\"%s\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>\n", class, at, TOP, at,
                TOP + HEIGHT);
    else
        fprintf(out, "<line class=\"%s\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>\n", class, LEFT, at,
                LEFT + WIDTH, at);
    if (!labelled) return;
    if (is_x)
        fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", at, TOP + HEIGHT + 18);
    else
        fprintf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", LEFT - 8, at + 4);
    number(out, value);
    fputs("</text>\n", out);
}

static void grid(FILE *out, const scale *s, bool is_x)
{
    if (!s->log) {
        size_t lines = (size_t)lround((s->high - s->low) / s->step);
        for (size_t i = 0; i <= lines && i < 100; i++)
            grid_line(out, s, is_x, s->low + (double)i * s->step, true);
        return;
    }
    bool narrow = s->high / s->low < 1001; /* up to three decades there is room for labels at 2 and 5 */
    for (int power = (int)floor(log10(s->low)); power <= (int)ceil(log10(s->high)); power++)
        for (int digit = 1; digit < 10; digit++) {
            double value = digit * pow(10, power);
            if (value < s->low * 0.999 || value > s->high * 1.001) continue;
            grid_line(out, s, is_x, value, digit == 1 || (narrow && (digit == 2 || digit == 5)));
        }
}

/* Shape number i around a point. */
static void mark(FILE *out, size_t i, double x, double y)
{
    switch (i % SHAPES) {
    case 0: fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\"", x, y); break;
    case 1: fprintf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"7\" height=\"7\"", x - 3.5, y - 3.5); break;
    case 2: fprintf(out, "<path d=\"M%.1f %.1fl4.5 8h-9z\"", x, y - 5); break;
    default: fprintf(out, "<path d=\"M%.1f %.1fl5 5l-5 5l-5 -5z\"", x, y - 5);
    }
}

static void curve(FILE *out, const plot_series *series, size_t i, const scale *x, const scale *y)
{
    const char *colour = colours[i % COLOURS];
    bool begun = false;
    for (size_t p = 0; p < series->n; p++) {
        const plot_point *point = &series->points[p];
        if (!point->on_curve) continue;
        fprintf(out, "%s%.1f,%.1f", begun ? " " : "<polyline class=\"curve\" points=\"", place(x, point->x),
                place(y, point->y));
        begun = true;
    }
    /* From the ninth curve on the colours come again, broken. */
    if (begun)
        fprintf(out, "\" stroke=\"%s\"%s/>\n", colour, i >= COLOURS ? " stroke-dasharray=\"6 3\"" : "");
    for (size_t p = 0; p < series->n; p++) {
        const plot_point *point = &series->points[p];
        mark(out, i, place(x, point->x), place(y, point->y));
        fprintf(out, " fill=\"%s\"%s><title>", colour, point->on_curve ? "" : " fill-opacity=\"0.3\"");
        text(out, series->label);
        text(out, point->note ? point->note : "");
        fprintf(out, "</title></%s>\n", i % SHAPES == 0 ? "circle" : i % SHAPES == 1 ? "rect" : "path");
    }
}

static void legend(FILE *out, const plot *p)
{
    int x = LEFT + WIDTH + LEGEND_GAP;
    for (size_t i = 0; i < p->n; i++) {
        double y = TOP + 8 + (double)i * LEGEND_LINE;
        const char *colour = colours[i % COLOURS];
        fprintf(out, "<line class=\"curve\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"%s\"%s/>\n",
                x, y, x + 26, y, colour, i >= COLOURS ? " stroke-dasharray=\"6 3\"" : "");
        mark(out, i, x + 13, y);
        fprintf(out, " fill=\"%s\"/>\n<text x=\"%d\" y=\"%.1f\">", colour, x + 34, y + 4);
        text(out, p->series[i].label);
        fputs("</text>\n", out);
    }
}

void plot_write(const plot *p, FILE *out)
{
    size_t longest = 0;
    for (size_t i = 0; i < p->n; i++)
        if (strlen(p->series[i].label) > longest) longest = strlen(p->series[i].label);
    size_t width = LEFT + WIDTH + LEGEND_GAP + 34 + longest * CHARACTER + 16;
    size_t needed = TOP + p->n * LEGEND_LINE + 16;
    size_t height = TOP + HEIGHT + BOTTOM;
    if (needed > height) height = needed;
    scale x = make_scale(&p->x, LEFT, LEFT + WIDTH), y = make_scale(&p->y, TOP + HEIGHT, TOP);

    fprintf(
        out,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%zu\" height=\"%zu\" viewBox=\"0 0 %zu %zu\">\n"
        "<style>text{font:12px sans-serif;fill:#222}.grid{stroke:#ccc}.minor{stroke:#eee}"
        ".curve{fill:none;stroke-width:2}.title{font-size:16px}</style>\n"
        "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
        width, height, width, height);
    fprintf(out, "<text class=\"title\" x=\"%d\" y=\"26\">", LEFT);
    text(out, p->title);
    fprintf(out, "</text>\n<text x=\"%d\" y=\"46\">", LEFT);
    text(out, p->subtitle);
    fputs("</text>\n", out);
    grid(out, &x, true);
    grid(out, &y, false);
    fprintf(out, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#888\"/>\n", LEFT,
            TOP, WIDTH, HEIGHT);
    fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">", LEFT + WIDTH / 2, TOP + HEIGHT + 42);
    text(out, p->x.title);
    fprintf(out, "</text>\n<text transform=\"translate(20 %d) rotate(-90)\" text-anchor=\"middle\">",
            TOP + HEIGHT / 2);
    text(out, p->y.title);
    fputs("</text>\n", out);
    for (size_t i = 0; i < p->n; i++) curve(out, &p->series[i], i, &x, &y);
    legend(out, p);
    fputs("</svg>\n", out);
}
