/* curse - the curse of dimension: exact trees against the scan of all rows, as the dimension grows.
 *
 *     curse [ROWS [OUT.svg [DIM...]]]        100000 rows, no plot ("-"), 2..128 dimensions unless told otherwise
 *
 * Rows and queries are uniform in the unit cube: data that fills its space, the worst case. One query a call, one thread,
 * k = 10, L2; best of three passes that take turns, in CPU time of the thread, so that other work of the machine counts little.
 * Prints a table (microseconds a query, speed beside Flat, rows compared) and fails if an answer differs from Flat's. */
#include <kith/index.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define K 10
#define PASSES 3
#define MAX_QUERIES 200
#define MAX_DIMS 32

enum { N_SPECS = 3 };
static const char *const specs[N_SPECS] = {"Flat", "KDTree", "BallTree"};
static const char *const colors[N_SPECS] = {"#444444", "#c0392b", "#2471a3"};

typedef struct measured {
    double us[N_SPECS], share[N_SPECS]; /* a query; of the rows that were compared */
} measured;

static void must(kith_status status, const kith_error *err)
{
    if (status == KITH_OK) return;
    fprintf(stderr, "curse: %s\n", err->message);
    exit(1);
}

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* splitmix64 in [0, 1) */
static float uniform(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (float)((x ^ (x >> 31)) >> 40) * 0x1p-24f;
}

static float *points(size_t n, size_t dim, uint64_t seed)
{
    float *x = malloc(n * dim * sizeof *x);
    if (!x) {
        fprintf(stderr, "curse: no memory for %zu x %zu\n", n, dim);
        exit(1);
    }
    for (size_t i = 0; i < n * dim; i++) x[i] = uniform(&seed);
    return x;
}

/* One pass: CPU seconds a query; answers to ids[nq][K], dist[nq][K]. */
static double pass(kith_searcher *searcher, const float *queries, size_t nq, size_t dim, uint64_t *ids,
                   float *dist, double *scored)
{
    kith_error err;
    kith_search_stats stats;
    *scored = 0;
    double start = cpu_seconds();
    for (size_t q = 0; q < nq; q++) {
        must(kith_search(searcher, queries + q * dim, 1, K, NULL, ids + q * K, dist + q * K, &stats, &err),
             &err);
        *scored += (double)stats.scored;
    }
    return (cpu_seconds() - start) / (double)nq;
}

static measured measure(size_t n, size_t dim)
{
    static uint64_t ids[N_SPECS][MAX_QUERIES * K];
    static float dist[N_SPECS][MAX_QUERIES * K];
    measured m;
    kith_error err;
    kith_index *index[N_SPECS];
    kith_searcher *searcher[N_SPECS];
    /* Some 0.1 s of Flat a pass. */
    size_t nq = (size_t)(4e7 / ((double)n * (1 + (double)dim / 16)));
    nq = nq < 10 ? 10 : nq > MAX_QUERIES ? MAX_QUERIES : nq;
    float *x = points(n, dim, 1), *queries = points(nq, dim, 2);
    for (size_t s = 0; s < N_SPECS; s++) {
        must(kith_index_create(specs[s], dim, NULL, &index[s], &err), &err);
        must(kith_index_add(index[s], x, NULL, n, NULL, &err), &err);
        must(kith_searcher_create(index[s], &searcher[s], &err), &err);
        m.us[s] = INFINITY;
    }
    for (size_t p = 0; p < PASSES; p++)
        for (size_t s = 0; s < N_SPECS; s++) {
            double scored, us = 1e6 * pass(searcher[s], queries, nq, dim, ids[s], dist[s], &scored);
            m.us[s] = fmin(m.us[s], us);
            m.share[s] = scored / (double)nq / (double)n;
        }
    for (size_t s = 1; s < N_SPECS; s++) {
        if (memcmp(ids[0], ids[s], nq * K * sizeof **ids) ||
            memcmp(dist[0], dist[s], nq * K * sizeof **dist)) {
            fprintf(stderr, "curse: %s does not answer as Flat does at %zu dimensions\n", specs[s], dim);
            exit(1);
        }
    }
    for (size_t s = 0; s < N_SPECS; s++) {
        kith_searcher_free(searcher[s]);
        kith_index_free(index[s]);
    }
    free(x);
    free(queries);
    return m;
}

/* ---- The plot: both axes logarithmic ---- */

enum { WIDTH = 720, HEIGHT = 440, LEFT = 70, RIGHT = 20, TOP = 30, BOTTOM = 50 };

static double place(double value, double low, double high, double from, double to)
{
    return from + (to - from) * (log(value) - log(low)) / (log(high) - log(low));
}

static void plot(const char *path, size_t n, const size_t *dims, const measured *m, size_t count)
{
    FILE *out = fopen(path, "w");
    if (!out) {
        fprintf(stderr, "curse: %s cannot be written\n", path);
        exit(1);
    }
    double low = INFINITY, high = 0, first = (double)dims[0], last = (double)dims[count - 1];
    for (size_t i = 0; i < count; i++)
        for (size_t s = 0; s < N_SPECS; s++) {
            low = fmin(low, m[i].us[s]);
            high = fmax(high, m[i].us[s]);
        }
    low = pow(10, floor(log10(low)));
    high = pow(10, ceil(log10(high)));
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" "
            "font-size=\"13\">\n<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT);
    for (double y = low; y <= high * 1.01; y *= 10) {
        double at = place(y, low, high, HEIGHT - BOTTOM, TOP);
        fprintf(out,
                "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#dddddd\"/>"
                "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                LEFT, WIDTH - RIGHT, at, at, LEFT - 6, at + 4, y);
    }
    for (size_t i = 0; i < count; i++)
        fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%zu</text>\n",
                place((double)dims[i], first, last, LEFT, WIDTH - RIGHT), HEIGHT - BOTTOM + 18, dims[i]);
    fprintf(out,
            "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">dimensions</text>\n<text x=\"%d\" y=\"18\">"
            "microseconds a query, %zu uniform rows, k = %d</text>\n",
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, LEFT, n, K);
    for (size_t s = 0; s < N_SPECS; s++) {
        fprintf(out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colors[s]);
        for (size_t i = 0; i < count; i++)
            fprintf(out, "%.1f,%.1f ", place((double)dims[i], first, last, LEFT, WIDTH - RIGHT),
                    place(m[i].us[s], low, high, HEIGHT - BOTTOM, TOP));
        fprintf(out, "\"/>\n<text x=\"%d\" y=\"%zu\" fill=\"%s\">%s</text>\n", LEFT + 14, TOP + 24 + 18 * s,
                colors[s], specs[s]);
    }
    fprintf(out, "</svg>\n");
    if (fclose(out) != 0) exit(1);
}

int main(int argc, char **argv)
{
    static const size_t usual[] = {2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128};
    size_t dims[MAX_DIMS], count = 0, n = argc > 1 ? (size_t)strtoull(argv[1], NULL, 10) : 100000;
    measured m[MAX_DIMS];
    for (int i = 3; i < argc && count < MAX_DIMS; i++) dims[count++] = (size_t)strtoull(argv[i], NULL, 10);
    for (size_t i = 0; argc <= 3 && i < sizeof usual / sizeof *usual; i++) dims[count++] = usual[i];
    if (n < 1000 || dims[0] == 0) {
        fprintf(stderr, "usage: curse [ROWS [OUT.svg [DIM...]]], at least 1000 rows\n");
        return 2;
    }
    printf("| dimensions | Flat us | KDTree us | beside Flat | compared | BallTree us | beside Flat | "
           "compared |\n"
           "|--:|--:|--:|--:|--:|--:|--:|--:|\n");
    for (size_t i = 0; i < count; i++) {
        m[i] = measure(n, dims[i]);
        printf("| %zu | %.0f | %.1f | %.3g x | %.3g %% | %.1f | %.3g x | %.3g %% |\n", dims[i], m[i].us[0],
               m[i].us[1], m[i].us[0] / m[i].us[1], 100 * m[i].share[1], m[i].us[2], m[i].us[0] / m[i].us[2],
               100 * m[i].share[2]);
        fflush(stdout);
    }
    if (argc > 2 && strcmp(argv[2], "-") != 0) plot(argv[2], n, dims, m, count);
    return 0;
}
