/* Finding the nearest centroid of points with few components, the segments of a product quantiser, by whole numbers first.
 *
 * All points are put on one grid, its middle m and step p such that the widest component takes W steps to each side: w, whole
 * numbers of 16 bits. So are the centroids of an iteration: s. In steps of the grid,
 *
 *     |w - s|^2 = |w|^2 + 2 (|s|^2 / 2 - w.s)
 *
 * and CPUs with VNNI sum up two products of 16 bits where they have room for one of floats. |x - c| and |w - s| differ by what
 * rounding took off, e(x) + e(c) at most: the one is measured for each point, the other is the largest of all centroids. The
 * centroids go by groups of KI_GRID_GROUP. When the least |w - s| of all groups but one exceeds that one's by more than
 * 2 (e(x) + e(c)), the nearest centroid is in it and is found by measuring the group; otherwise (2 points of 100 in 8 components of
 * SIFT) all centroids are measured. The outcome is that of measuring all of them, whatever the rounding.
 *
 * With W = sqrt(2^29 / dim) a sum of products stays within 2^29 and |w - s|^2 within 2^31: 32 bits hold all of them.
 *
 * Rounding. Points are put on the grid in float64, which loses nothing to speak of. A measured distance is within
 * (dim + 3) 2^-24 of the truth, relatively, and the float32 operations that judge the roots add some 2^-24 each: `slack`. Half of
 * |s|^2 is rounded up, which the judge makes up for by taking 1 off the farther side. Steps between TINY and HUGE keep squares of
 * differences away from both ends of float32. */
#include "cluster/kmeans_internal.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"

/* Below these the product of floats is as fast; above MAX_DIM groups take more registers' worth of loads than they save. */
#define MIN_CENTROIDS 64
#define MAX_DIM 16

#define TINY_STEP 1e-14
#define HUGE_STEP 1e14

#define GROUP KI_GRID_GROUP
#define PART (1024 * KI_GRID_ROWS) /* points that a thread puts on the grid at a time */
static_assert(KI_GRID_ROWS == KI_SMALL_ROWS, "blocks of rows are those of the kernel");

struct ki_grid {
    const kith_allocator *allocator;
    const ki_kernels *kernels;
    const float *x; /* [n][dim], the caller's */
    size_t dim, pairs, k, groups, panels;
    double middle[MAX_DIM];
    double step;   /* p */
    double widest; /* W */
    float slack;
    float radius;     /* 2 e(c), in steps */
    int16_t *rows;    /* [blocks][pairs][KI_GRID_ROWS][2]: w */
    int32_t *squares; /* [blocks][KI_GRID_ROWS]: |w|^2 */
    float *error;     /* [blocks][KI_GRID_ROWS]: 2 e(x), in steps */
    int16_t *columns; /* [groups][pairs][GROUP][2]: -s */
    int32_t *start;   /* [groups][GROUP]: what values begin with */
    float *exact;     /* [panels][dim][KI_PANEL]: the centroids */
};

/* ---- the grid ---- */

/* The middle of each component's range; returns half of the widest range. */
static double find_middle(ki_grid *g, size_t n)
{
    float low[MAX_DIM], high[MAX_DIM];
    double half = 0;
    memcpy(low, g->x, g->dim * sizeof *low);
    memcpy(high, g->x, g->dim * sizeof *high);
    for (size_t i = 1; i < n; i++)
        for (size_t d = 0; d < g->dim; d++) {
            float value = g->x[i * g->dim + d];
            low[d] = value < low[d] ? value : low[d];
            high[d] = value > high[d] ? value : high[d];
        }
    for (size_t d = 0; d < g->dim; d++) {
        g->middle[d] = (double)low[d] / 2 + (double)high[d] / 2;
        half = fmax(half, (double)high[d] / 2 - (double)low[d] / 2);
    }
    return half;
}

/* The nearest point of the grid: whole[2 * pairs], the sum of its squares, and twice the distance to it in steps. */
static int32_t put(const ki_grid *g, const float *x, int16_t *whole, float *error)
{
    double error2 = 0;
    int32_t squares = 0;
    for (size_t d = 0; d < g->dim; d++) {
        double steps = ((double)x[d] - g->middle[d]) / g->step;
        double nearest = rint(fmin(fmax(steps, -g->widest), g->widest));
        error2 += (steps - nearest) * (steps - nearest);
        whole[d] = (int16_t)nearest;
        squares += whole[d] * whole[d];
    }
    *error = (float)(2 * sqrt(error2) * (1 + 1e-6) + 1e-6);
    return squares;
}

typedef struct filling {
    ki_grid *grid;
    size_t n;
    const kith_run *run;
} filling;

/* Some blocks of points. */
static void put_points(void *ctx, size_t part, size_t worker)
{
    const filling *f = ctx;
    const ki_grid *g = f->grid;
    size_t first = part * PART, end = f->n - first < PART ? f->n : first + PART;
    (void)worker;
    if (f->run && kith_cancel_raised(f->run->cancel)) return;
    for (size_t i = first; i < end; i++) {
        int16_t whole[MAX_DIM + 1] = {0};
        int16_t *block = g->rows + i / KI_GRID_ROWS * g->pairs * KI_GRID_ROWS * 2;
        g->squares[i] = put(g, g->x + i * g->dim, whole, &g->error[i]);
        for (size_t p = 0; p < g->pairs; p++)
            memcpy(block + (p * KI_GRID_ROWS + i % KI_GRID_ROWS) * 2, whole + 2 * p, 2 * sizeof *whole);
    }
}

kith_status ki_grid_create(const float *x, size_t n, size_t dim, size_t k, const kith_allocator *allocator,
                           const kith_run *run, ki_grid **out, kith_error *err)
{
    *out = NULL;
    const ki_kernels *kernels = ki_kernels_get();
    if (!kernels->grids || dim > MAX_DIM || k < MIN_CENTROIDS) return KITH_OK;
    ki_grid *g = ki_alloc_zero(allocator, 1, sizeof *g);
    if (!g) return ki_fail_nomem(err, sizeof *g);
    *g = (ki_grid){.allocator = allocator, .kernels = kernels, .x = x, .dim = dim, .k = k};
    g->widest = floor(sqrt((double)(1 << KI_GRID_BITS) / (double)dim));
    g->step = find_middle(g, n) / g->widest;
    if (!(g->step > TINY_STEP && g->step < HUGE_STEP)) {
        ki_grid_free(g);
        return KITH_OK;
    }
    g->slack = (float)(dim + 16) * 0x1p-24f;
    g->pairs = (dim + 1) / 2;
    g->panels = (k + KI_PANEL - 1) / KI_PANEL;
    g->groups = g->panels * (KI_PANEL / GROUP);
    size_t rows = (n + KI_GRID_ROWS - 1) / KI_GRID_ROWS * KI_GRID_ROWS, columns = g->panels * KI_PANEL;
    g->rows = ki_alloc_zero(allocator, rows, 2 * g->pairs * sizeof *g->rows);
    g->squares = ki_alloc_zero(allocator, rows, sizeof *g->squares);
    g->error = ki_alloc_zero(allocator, rows, sizeof *g->error);
    g->columns = ki_alloc_zero(allocator, columns, 2 * g->pairs * sizeof *g->columns);
    g->start = ki_alloc(allocator, columns, sizeof *g->start);
    g->exact = ki_alloc(allocator, columns, dim * sizeof *g->exact);
    if (!g->rows || !g->squares || !g->error || !g->columns || !g->start || !g->exact) {
        size_t bytes = rows * 2 * g->pairs * sizeof *g->rows;
        ki_grid_free(g);
        return ki_fail_nomem(err, bytes);
    }
    filling f = {.grid = g, .n = n, .run = run};
    ki_pool_run(ki_run_pool(run), (n + PART - 1) / PART, put_points, &f);
    kith_status status = ki_run_check(run, err);
    if (status == KITH_OK)
        *out = g;
    else
        ki_grid_free(g);
    return status;
}

void ki_grid_free(ki_grid *g)
{
    if (!g) return;
    ki_free(g->allocator, g->rows);
    ki_free(g->allocator, g->squares);
    ki_free(g->allocator, g->error);
    ki_free(g->allocator, g->columns);
    ki_free(g->allocator, g->start);
    ki_free(g->allocator, g->exact);
    ki_free(g->allocator, g);
}

/* ---- the centroids ---- */

void ki_grid_set(ki_grid *g, const float *centroids)
{
    g->radius = 0;
    for (size_t c = 0; c < g->panels * KI_PANEL; c++) {
        const float *centroid = c < g->k ? centroids + c * g->dim
                                         : NULL; /* NULL: fills up the last panel, is never the nearest */
        int16_t whole[MAX_DIM + 1] = {0};
        int16_t *column = g->columns + (c / GROUP * g->pairs * GROUP + c % GROUP) * 2;
        float *exact = g->exact + c / KI_PANEL * g->dim * KI_PANEL + c % KI_PANEL, error = 0;
        g->start[c] = KI_GRID_FAR;
        if (centroid) g->start[c] = KI_GRID_OFFSET + (put(g, centroid, whole, &error) + 1) / 2;
        g->radius = error > g->radius ? error : g->radius;
        for (size_t d = 0; d < 2 * g->pairs; d++) column[d / 2 * GROUP * 2 + d % 2] = (int16_t)-whole[d];
        for (size_t d = 0; d < g->dim; d++) exact[d * KI_PANEL] = centroid ? centroid[d] : INFINITY;
    }
}

/* ---- the points ---- */

void ki_grid_find(const ki_grid *g, size_t first, size_t n, uint32_t *index, float *dist, size_t *unsure)
{
    uint32_t group[KI_GRID_ROWS];
    *unsure = 0;
    for (size_t i = 0; i < n; i += KI_GRID_ROWS) {
        size_t row = first + i, rows = n - i < KI_GRID_ROWS ? n - i : KI_GRID_ROWS;
        g->kernels->grid_groups(g->rows + row * g->pairs * 2, g->pairs, g->columns, g->start, g->groups,
                                g->squares + row, g->error + row, g->radius, g->slack, group);
        for (size_t r = 0; r < rows; r++) *unsure += group[r] == KI_GRID_UNSURE;
        g->kernels->grid_nearest(g->x + row * g->dim, rows, g->dim, g->exact, g->panels, group, index + i,
                                 dist + i);
    }
}
