/* verb_plot.c - `kith plot`: the lines of `kith bench --json` as curves. */
#include "cli_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "curves.h"

struct options {
    const char *output, *x, *y, *by, *title;
};

static int read_file(curves *c, const char *path)
{
    char *line = NULL;
    size_t room = 0;
    int status = CLI_OK;
    bool standard = strcmp(path, "-") == 0;
    FILE *in = standard ? stdin : fopen(path, "r");
    if (!in) return cli_fail(c->cli, path, "cannot be opened: %s", strerror(errno));
    for (unsigned long number = 1; status == CLI_OK; number++) {
        errno = 0;
        ssize_t length = getline(&line, &room, in);
        if (length < 0 && errno) status = cli_fail(c->cli, path, "cannot be read: %s", strerror(errno));
        if (length < 0) break;
        if (line[strspn(line, " \t\r\n")] == 0) continue;
        char where[4200];
        json_error_t error;
        snprintf(where, sizeof where, "%s:%lu", path, number);
        json_t *object = json_loadb(line, (size_t)length, JSON_REJECT_DUPLICATES, &error);
        status =
            object ? curves_add(c, where, object) : cli_fail(c->cli, where, "is no JSON: %s", error.text);
        json_decref(object);
    }
    free(line);
    if (!standard) fclose(in);
    return status;
}

static int run(cli_context *cli, void *options)
{
    const struct options *o = options;
    if (!o->output) return cli_usage(cli, "--output", "missing: the .svg file to write");
    curves c = {.cli = cli,
                .x = curves_quantity_of(cli, "--x", o->x),
                .y = curves_quantity_of(cli, "--y", o->y),
                .by_pattern = strcmp(o->by, "pattern") == 0};
    if (!c.x || !c.y) return CLI_USAGE;
    int status = CLI_OK;
    for (size_t i = 0; i < cli->n_args && status == CLI_OK; i++) status = read_file(&c, cli->args[i]);
    if (status == CLI_OK && c.points == 0) status = cli_fail(cli, cli->args[0], "holds no lines to draw");
    if (status == CLI_OK) status = curves_draw(&c, o->output, o->title);
    curves_clear(&c);
    return status;
}

const cli_verb verb_plot = {
    .name = "plot",
    .group = CLI_VECTORS,
    .summary = "draw the curves of `kith bench --json` as SVG",
    .description =
        "One curve for each spec (and metric, k, number of threads, ... where they differ). "
        "Points that another of the "
        "same curve beats in both quantities are drawn faint. Time and size have logarithmic "
        "axes. Lines may also carry "
        "a member \"system\", the name of another program measured on the same data.\n\n"
        "QUANTITY is recall, qps (queries a second), mean_us, p50_us, p99_us (microseconds a query), "
        "scored (rows a query), bytes_per_vector, distortion, distortion_relative (to the variance), "
        "build_seconds, train_seconds or peak_rss_bytes. With --by pattern all specs that one --spec of "
        "`kith bench` stood for make one curve.",
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
                                    {.name = "by",
                                     .kind = CLI_TEXT,
                                     .argument = "WHAT",
                                     .fallback = "spec",
                                     .choices = "spec|pattern",
                                     .into = offsetof(struct options, by),
                                     .help = "what makes a curve"},
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
            {"kith plot pq.jsonl --by pattern -x bytes_per_vector -y distortion_relative -o memory.svg",
             "how much more exact rows are for more bytes"},
            {0}},
    .run = run,
};
