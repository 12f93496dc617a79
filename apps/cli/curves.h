/* curves.h - lines of `kith bench --json` gathered into curves of two quantities: what `kith plot` and `kith bench --plot`
 * draw. */
#ifndef KITH_CLI_CURVES_H
#define KITH_CLI_CURVES_H

#include "cli.h"
#include "svg_plot.h"

/* What an axis may show. */
typedef struct curves_quantity {
    const char *name; /* the member of a line */
    const char *title;
    bool log, less_is_better;
    bool may_be_zero; /* where a logarithmic axis leaves points out rather than refusing them */
} curves_quantity;

/* The quantity of a name; NULL, after a message about `option`, for a name that is none. */
const curves_quantity *curves_quantity_of(cli_context *cli, const char *option, const char *name);

enum { CURVES_TRAITS = 9 };

/* A curve while lines are added. */
typedef struct curves_one {
    char *trait[CURVES_TRAITS]; /* as text; NULL: the lines do not say */
    plot_series series;
} curves_one;

/* Begins as {.cli, .x, .y}, all else 0. */
typedef struct curves {
    cli_context *cli;
    const curves_quantity *x, *y;
    bool
        by_pattern; /* a curve for each --spec as it was written, instead of for each spec that it stands for */
    curves_one *items;
    size_t n, room;
    size_t points, left_out;
} curves;

/* Add a line; `where` it stands, for messages. Points without one of the quantities (null), or at zero where the axis is
 * logarithmic and that is a matter of course, are left out and counted. CLI_FAILED after a message. */
int curves_add(curves *c, const char *where, const json_t *line);

/* Write the diagram: whole or not at all. title NULL: "y against x". path "-": standard output. At least one point was added. */
int curves_draw(curves *c, const char *path, const char *title);

void curves_clear(curves *c);

#endif
