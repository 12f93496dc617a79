/* svg_plot.h - a diagram of curves as SVG: what `kith plot` draws. Knows nothing of benchmarks. */
#ifndef KITH_CLI_SVG_PLOT_H
#define KITH_CLI_SVG_PLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct plot_point {
    double x, y;
    char *note;    /* shown when the pointer rests on the point */
    bool on_curve; /* joined to its neighbours; else a faint mark of its own */
} plot_point;

typedef struct plot_series {
    char *label;
    plot_point *points; /* by ascending x */
    size_t n, room;
} plot_series;

typedef struct plot_axis {
    const char *title;
    bool log;
    double low, high; /* of the data; the drawing widens them to round numbers */
} plot_axis;

typedef struct plot {
    const char *title, *subtitle;
    plot_axis x, y;
    const plot_series *series;
    size_t n;
} plot;

/* Write the whole SVG document. Errors are those of the stream: see ferror(). */
void plot_write(const plot *p, FILE *out);

#endif
