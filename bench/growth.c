/* growth - how the cost of a query grows with the number of rows: queries a second at recall@10 0.95 against n.
 *
 *     growth BASE QUERY OUT [N...]          e.g. growth base.fvecs query.fvecs docs/growth 10000 100000 1000000
 *     growth - - OUT                        only draw
 *
 * Over the first n rows of BASE, for each n (10,000 and 100,000 unless told otherwise) and each spec: an index, the value of its
 * search parameter that reaches the recall (interpolated), the queries a second there on one thread, one query a call, best of
 * three passes in CPU time of the thread. Points stand in OUT.tsv, where those of the same spec and n are replaced, so that large
 * sizes can be measured on another day; OUT.svg is drawn of all, both axes logarithmic. The printed slope is the exponent
 * of n between the two largest sizes: 1 for a scan, 0 for a cost that does not grow. 1,000 queries. */
#include "measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_SPECS = 4, MAX_POINTS = 256, MAX_SIZES = 16, QUERIES = 1000, PASSES = 3 };

#define RECALL 0.95

typedef struct family {
    const char *name, *spec, *param, *more;
    double low, high, more_value;
    const char *color;
} family;

/* The cells of IVF are 4 sqrt(n), a power of two: %zu. Half a component a segment is what fast scans want at 128-d. */
static const family families[N_SPECS] = {
    {"Flat", "Flat", NULL, NULL, 0, 0, 0, "#444444"},
    {"IVF, PQ64x4fs, RFlat", "IVF%zu,PQ%zux4fs,RFlat", "nprobe", "refine_k", 1, 4096, 20, "#2471a3"},
    {"HNSW16", "HNSW16", "ef", NULL, 10, 4000, 0, "#c0392b"},
    {"QG32, SQ8", "QG32,SQ8", "ef", NULL, 10, 4000, 0, "#1e8449"},
};

typedef struct point {
    size_t family, n;
    double qps, scored, value, cpu, bytes;
} point;

typedef struct points {
    point at[MAX_POINTS];
    size_t n;
} points;

static void stop(const char *what, const char *path)
{
    fprintf(stderr, "growth: %s%s\n", path, what);
    exit(1);
}

/* ---- What was measured ---- */

static void put(points *all, point p)
{
    size_t i = 0;
    while (i < all->n && (all->at[i].family != p.family || all->at[i].n < p.n)) i++;
    if (i < all->n && all->at[i].family == p.family && all->at[i].n == p.n) {
        all->at[i] = p;
        return;
    }
    if (all->n == MAX_POINTS) stop("more than 256 points", "");
    /* by family, then by n */
    for (i = 0; i < all->n &&
                (all->at[i].family < p.family || (all->at[i].family == p.family && all->at[i].n < p.n));
         i++)
        continue;
    memmove(&all->at[i + 1], &all->at[i], (all->n - i) * sizeof *all->at);
    all->at[i] = p;
    all->n++;
}

static void load_points(const char *path, points *all)
{
    FILE *in = fopen(path, "r");
    char line[512], name[128];
    all->n = 0;
    if (!in) return;
    while (fgets(line, sizeof line, in)) {
        point p = {0};
        if (sscanf(line, "%127[^\t]\t%zu\t%lf\t%lf\t%lf\t%lf\t%lf", name, &p.n, &p.qps, &p.scored, &p.value,
                   &p.cpu, &p.bytes) != 7)
            continue; /* the heading */
        while (p.family < N_SPECS && strcmp(name, families[p.family].name) != 0) p.family++;
        if (p.family < N_SPECS) put(all, p);
    }
    fclose(in);
}

static void save_points(const char *path, const points *all)
{
    FILE *out = fopen(path, "w");
    if (!out) stop(" cannot be written", path);
    fprintf(out, "index\trows\tqueries/s\trows compared\tparameter\tbuild CPU s\tbytes a row\n");
    for (size_t i = 0; i < all->n; i++) {
        const point *p = &all->at[i];
        fprintf(out, "%s\t%zu\t%.1f\t%.0f\t%.1f\t%.2f\t%.0f\n", families[p->family].name, p->n, p->qps,
                p->scored, p->value, p->cpu, p->bytes);
    }
    if (fclose(out) != 0) stop(" cannot be written", path);
}

/* ---- Measuring ---- */

static point measure(size_t f, const bench_set *set, size_t n, const kith_run *run)
{
    const family *kind = &families[f];
    char spec[64];
    size_t cells = 16;
    while ((double)cells * 1.42 < 4 * sqrt((double)n)) cells *= 2;
    if (strchr(kind->spec, '%'))
        snprintf(spec, sizeof spec, "IVF%zu,PQ%zux4fs,RFlat", cells, set->base.dim / 2);
    else
        snprintf(spec, sizeof spec, "%s", kind->spec);
    point p = {.family = f, .n = n};
    kith_error err;
    kith_index *index = bench_build(spec, set, n, run, &p.cpu);
    kith_index_info info = {.struct_size = sizeof info};
    bench_must(kith_index_get_info(index, &info, &err), &err);
    p.bytes = (double)info.bytes / (double)n;
    bench_point at;
    if (kind->param) {
        double high = kind->high < (double)cells || kind->low > 1 ? kind->high : (double)cells;
        at = bench_at_recall(index, set, kind->param, kind->low, high, kind->more, kind->more_value, RECALL,
                             PASSES);
    } else { /* exact: some queries are enough */
        bench_set few = *set;
        few.query.n = n > 100000 ? 50 : 200;
        at = bench_ask(index, &few, NULL, "target_recall", 0, NULL, 0, 1);
    }
    p.qps = at.qps;
    p.scored = at.scored;
    p.value = at.value;
    if (p.qps == 0) fprintf(stderr, "growth: %s reaches recall %.3f only at %zu rows\n", spec, at.recall, n);
    kith_index_free(index);
    return p;
}

/* ---- The plot ---- */

enum { WIDTH = 720, HEIGHT = 440, LEFT = 80, RIGHT = 20, TOP = 34, BOTTOM = 50 };

static double place(double value, double low, double high, double from, double to)
{
    return from + (to - from) * (log(value) - log(low)) / (log(high) - log(low));
}

/* Powers of ten and their lines, along one axis. */
static void grid(FILE *out, double low, double high, int across)
{
    for (double v = pow(10, ceil(log10(low) - 1e-9)); v <= high * 1.001; v *= 10) {
        double x = place(v, low, high, LEFT, WIDTH - RIGHT), y = place(v, low, high, HEIGHT - BOTTOM, TOP);
        if (across)
            fprintf(out,
                    "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"#dddddd\"/>"
                    "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>\n",
                    x, x, TOP, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 18, v);
        else
            fprintf(out,
                    "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#dddddd\"/>"
                    "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.0f</text>\n",
                    LEFT, WIDTH - RIGHT, y, y, LEFT - 6, y + 4, v);
    }
}

static void plot(const char *path, const points *all)
{
    double few = INFINITY, many = 0, low = INFINITY, high = 0;
    for (size_t i = 0; i < all->n; i++) {
        if (all->at[i].qps == 0) continue;
        few = fmin(few, (double)all->at[i].n);
        many = fmax(many, (double)all->at[i].n);
        low = fmin(low, all->at[i].qps);
        high = fmax(high, all->at[i].qps);
    }
    if (!(few < many)) return; /* nothing to be joined by a line */
    low = pow(10, floor(log10(low)));
    high = pow(10, ceil(log10(high)));
    FILE *out = fopen(path, "w");
    if (!out) stop(" cannot be written", path);
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" "
            "font-size=\"13\">\n<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n"
            "<text x=\"%d\" y=\"20\">queries a second at recall@10 %.2f</text>\n"
            "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">rows</text>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT, LEFT, RECALL, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10);
    grid(out, few, many, 1);
    grid(out, low, high, 0);
    for (size_t f = 0; f < N_SPECS; f++) {
        fprintf(out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", families[f].color);
        for (size_t i = 0; i < all->n; i++)
            if (all->at[i].family == f && all->at[i].qps > 0)
                fprintf(out, "%.1f,%.1f ", place((double)all->at[i].n, few, many, LEFT, WIDTH - RIGHT),
                        place(all->at[i].qps, low, high, HEIGHT - BOTTOM, TOP));
        fprintf(out, "\"/>\n<text x=\"%d\" y=\"%zu\" fill=\"%s\">%s</text>\n", LEFT + 14,
                HEIGHT - BOTTOM - 14 - 18 * (N_SPECS - 1 - f), families[f].color, families[f].name);
    }
    fprintf(out, "</svg>\n");
    if (fclose(out) != 0) stop(" cannot be written", path);
}

static void print(const points *all)
{
    printf("| index | rows | queries/s | rows compared | parameter | build CPU s | bytes a row | slope |\n"
           "|---|--:|--:|--:|--:|--:|--:|--:|\n");
    for (size_t i = 0; i < all->n; i++) {
        const point *p = &all->at[i], *last = i > 0 ? p - 1 : p;
        printf("| %s | %zu | %.0f | %.0f | %.0f | %.1f | %.0f |", families[p->family].name, p->n, p->qps,
               p->scored, p->value, p->cpu, p->bytes);
        if (last->family == p->family && last->n < p->n && last->qps > 0 && p->qps > 0)
            printf(" %.2f |\n", log(last->qps / p->qps) / log((double)p->n / (double)last->n));
        else
            printf(" |\n");
    }
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: growth BASE QUERY OUT [N...], or growth - - OUT to draw\n");
        return 2;
    }
    size_t sizes[MAX_SIZES] = {10000, 100000}, count = argc > 4 ? 0 : 2, most = 0;
    char tsv[1024], svg[1024];
    static points all;
    snprintf(tsv, sizeof tsv, "%s.tsv", argv[3]);
    snprintf(svg, sizeof svg, "%s.svg", argv[3]);
    for (int i = 4; i < argc && count < MAX_SIZES; i++) sizes[count++] = (size_t)strtoull(argv[i], NULL, 10);
    for (size_t i = 0; i < count; i++) most = sizes[i] > most ? sizes[i] : most;
    load_points(tsv, &all);
    if (strcmp(argv[1], "-") != 0) {
        bench_set set = {.base = bench_load(argv[1], most), .query = bench_load(argv[2], QUERIES)};
        kith_run run;
        kith_error err;
        kith_run_init(&run);
        bench_must(kith_pool_create(0, NULL, &run.pool, &err), &err);
        for (size_t i = 0; i < count; i++) {
            if (sizes[i] < 1000 || sizes[i] > set.base.n)
                stop(" has fewer rows than that, or they are fewer than 1,000", argv[1]);
            bench_truth(&set, NULL, sizes[i], &run);
            for (size_t f = 0; f < N_SPECS; f++) {
                put(&all, measure(f, &set, sizes[i], &run));
                save_points(tsv, &all); /* the next one may take an hour */
            }
        }
        kith_pool_free(run.pool);
        free(set.base.x);
        free(set.query.x);
        free(set.limit);
    }
    print(&all);
    plot(svg, &all);
    return 0;
}
