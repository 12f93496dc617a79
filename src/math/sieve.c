/* sieve.c - see sieve.h.
 *
 * Let m be the middle of the columns. A column c is close to c' = m + q s, s whole numbers within -127..127 and q the step
 * of all columns; a row x to x' = m + p w, w within -128..127, p the step of a block of rows. Then
 *
 *     |x' - c'|^2 = p^2 |w|^2 + 2 p q (|s|^2 q / (2 p) - w.s)
 *
 * What stands in brackets is a whole number, but for the rounding of its first term, and the kernel makes it of bytes: w + 128
 * without a sign, s with one, 128 sum(s) and the first term to begin with. Call it v(c), and e what both roundings
 * take off at most: | |x - c| - |x' - c'| | <= |x - x'| + |c - c'| <= e, where |x - x'| is measured for each row and |c - c'| is the
 * largest of all columns. When some column is known to be no farther than t, only those with
 *
 *     v(c) <= ((t + e)^2 - p^2 |w|^2) / (2 p q) + 1
 *
 * can be nearer or as near. At first t comes from the least v of the row, then from each distance measured, beginning with that
 * of the least v. On sift1m, 4,096 centroids, 1.6 columns a row are measured.
 *
 * Rounding. l2sq_f32 is within (dim + 2) 2^-24 of the truth, relatively, wherever it is used as t or compared; x - m is rounded
 * once a component, w p once; errors are summed in float32. What these add is in `slack` and `own` below; sums that
 * underflow lose less than dim 2^-70 of a distance. The whole numbers are exact: |v| < 2^31 up to KI_SIEVE_DIM components, because
 * p is at least a quarter of q. */
#include "math/sieve.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/pool.h"
#include "simd/kernels.h"

/* Below these the product of floats is as fast. */
#define MIN_COLUMNS 256
#define MIN_DIM 48

#define BLOCK_ROWS KI_SIEVE_BLOCK
static_assert(BLOCK_ROWS % KI_SIEVE_ROWS == 0, "a block is whole tiles");
#define COLUMN_BYTES (256u << 10) /* of columns at a time: they and their values stay in a small L2 */
#define MAX_SHARE 16    /* measuring more than one column in so many is no faster than the product */
#define HUGE_VALUE 1e17 /* beyond, squares come near the end of float32: all columns are measured */

struct ki_sieve {
    const ki_kernels *kernels;
    const kith_allocator *allocator;
    const float *y; /* [m][dim], the caller's */
    size_t m, dim, quads, panels;
    float *middle;    /* [dim] */
    int8_t *b;        /* [panels][quads][16][4]: -s */
    int32_t *squares; /* [panels * 16]: |s|^2 */
    int32_t *sums;    /* [panels * 16]: 128 sum(s) */
    double step;      /* q */
    double radius;    /* the largest |c - c'| */
};

/* ---- the columns ---- */

int ki_sieve_pays(size_t m, size_t dim)
{
    return ki_kernels_get()->sieves && m >= MIN_COLUMNS && dim >= MIN_DIM && dim <= KI_SIEVE_DIM;
}

/* The middle of each component's range; returns half of the widest range. */
static double find_middle(ki_sieve *s)
{
    double half = 0;
    for (size_t d = 0; d < s->dim; d++) {
        float low = s->y[d], high = low;
        for (size_t c = 1; c < s->m; c++) {
            float value = s->y[c * s->dim + d];
            low = value < low ? value : low;
            high = value > high ? value : high;
        }
        s->middle[d] = low / 2 + high / 2;
        half = fmax(half, fmax((double)high - (double)s->middle[d], (double)s->middle[d] - (double)low));
    }
    return half;
}

static void put_column(ki_sieve *s, size_t c)
{
    const float *y = s->y + c * s->dim;
    int8_t *b = s->b + (c / KI_PANEL * s->quads * KI_PANEL + c % KI_PANEL) * 4;
    int32_t squares = 0, sum = 0;
    double error2 = 0, inverse = 1 / s->step;
    for (size_t d = 0; d < s->dim; d++) {
        double value = (double)y[d] - (double)s->middle[d];
        long whole = lrint(value * inverse);
        whole = whole > 127 ? 127 : whole < -127 ? -127 : whole;
        double rest = value - (double)whole * s->step;
        b[d / 4 * 4 * KI_PANEL + d % 4] = (int8_t)-whole;
        squares += (int32_t)(whole * whole);
        sum += (int32_t)whole;
        error2 += rest * rest;
    }
    s->squares[c] = squares;
    s->sums[c] = 128 * sum;
    s->radius = fmax(s->radius, sqrt(error2) * (1 + 1e-9));
}

void ki_sieve_refill(ki_sieve *s, const float *y)
{
    s->y = y;
    s->radius = 0;
    double half = find_middle(s);
    s->step = half > 1e-30 ? half / 127 : 1e-30;
    for (size_t c = 0; c < s->m; c++) put_column(s, c);
}

kith_status ki_sieve_create(const float *y, size_t m, size_t dim, const kith_allocator *allocator,
                            ki_sieve **out, kith_error *err)
{
    *out = NULL;
    assert(m > 0 && dim > 0 && dim <= KI_SIEVE_DIM);
    ki_sieve *s = ki_alloc_zero(allocator, 1, sizeof *s);
    if (!s) return ki_fail_nomem(err, sizeof *s);
    *s = (ki_sieve){.kernels = ki_kernels_get(), .allocator = allocator, .m = m, .dim = dim};
    s->quads = (dim + 3) / 4;
    s->panels = (m + KI_PANEL - 1) / KI_PANEL;
    s->middle = ki_alloc(allocator, dim, sizeof *s->middle);
    s->b = ki_alloc_zero(allocator, s->panels * KI_PANEL, 4 * s->quads);
    s->squares = ki_alloc_zero(allocator, s->panels * KI_PANEL, sizeof *s->squares);
    s->sums = ki_alloc_zero(allocator, s->panels * KI_PANEL, sizeof *s->sums);
    if (!s->middle || !s->b || !s->squares || !s->sums) {
        size_t bytes = ki_sieve_bytes(s);
        ki_sieve_free(s);
        return ki_fail_nomem(err, bytes);
    }
    ki_sieve_refill(s, y);
    *out = s;
    return KITH_OK;
}

void ki_sieve_free(ki_sieve *s)
{
    if (!s) return;
    ki_free(s->allocator, s->middle);
    ki_free(s->allocator, s->b);
    ki_free(s->allocator, s->squares);
    ki_free(s->allocator, s->sums);
    ki_free(s->allocator, s);
}

size_t ki_sieve_bytes(const ki_sieve *s)
{
    return sizeof *s + s->dim * sizeof *s->middle +
           s->panels * KI_PANEL * (4 * s->quads + sizeof *s->squares + sizeof *s->sums);
}

/* ---- the rows ---- */

/* A row as the sieve sees it, and the nearest column so far. */
typedef struct sieved {
    double length2; /* p^2 |w|^2 */
    double error;   /* e */
    float best;     /* its distance, squared */
    uint32_t index;
    int32_t limit; /* a column whose value is above cannot be nearer or as near */
} sieved;

/* What one thread needs. */
typedef struct scratch {
    float *row;       /* [dim]: x - m */
    uint8_t *bytes;   /* [4 * quads] */
    uint8_t *a;       /* [tiles][quads][KI_SIEVE_ROWS][4] */
    int32_t *start;   /* [panels * 16]: what values begin with */
    int32_t *values;  /* [KI_SIEVE_ROWS][columns of a block] */
    uint32_t *picked; /* [columns of a block] */
    sieved *rows;     /* [BLOCK_ROWS] */
} scratch;

typedef struct job {
    const ki_sieve *sieve;
    const float *x;
    size_t n;
    int guessed;
    uint32_t *index;
    float *dist;      /* or NULL */
    size_t columns;   /* of a block: panels */
    scratch *scratch; /* [threads] */
    void *memory;
    int too_many; /* atomic */
} job;

static size_t aligned(size_t bytes)
{
    return (bytes + KI_CACHE_LINE - 1) / KI_CACHE_LINE * KI_CACHE_LINE;
}

static kith_status job_prepare(job *j, size_t threads, kith_error *err)
{
    const ki_sieve *s = j->sieve;
    j->columns = COLUMN_BYTES / (s->quads * 4 * KI_PANEL) / 2 * 2;
    if (j->columns < 2) j->columns = 2;
    if (j->columns > s->panels) j->columns = s->panels;
    const size_t sizes[] = {aligned(s->dim * sizeof(float)),
                            aligned(4 * s->quads),
                            aligned(BLOCK_ROWS * 4 * s->quads),
                            aligned(s->panels * KI_PANEL * sizeof(int32_t)),
                            aligned(KI_SIEVE_ROWS * j->columns * KI_PANEL * sizeof(int32_t)),
                            aligned(j->columns * KI_PANEL * sizeof(uint32_t)),
                            aligned(BLOCK_ROWS * sizeof(sieved))};
    size_t each = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) each += sizes[i];
    j->scratch = ki_alloc(s->allocator, threads, sizeof *j->scratch);
    j->memory = ki_alloc(s->allocator, threads, each);
    if (!j->scratch || !j->memory) {
        ki_free(s->allocator, j->scratch);
        ki_free(s->allocator, j->memory);
        return ki_fail_nomem(err, threads * each);
    }
    for (size_t t = 0; t < threads; t++) {
        char *at = (char *)j->memory + t * each;
        scratch *c = &j->scratch[t];
        c->row = (float *)(void *)at;
        c->bytes = (uint8_t *)(at += sizes[0]);
        c->a = (uint8_t *)(at += sizes[1]);
        c->start = (int32_t *)(void *)(at += sizes[2]);
        c->values = (int32_t *)(void *)(at += sizes[3]);
        c->picked = (uint32_t *)(void *)(at += sizes[4]);
        c->rows = (sieved *)(void *)(at + sizes[5]);
    }
    return KITH_OK;
}

/* The values of columns that may be no farther than t, a distance, from the row. */
static int32_t limit_of(const ki_sieve *s, const sieved *row, double step, double t)
{
    double slack = (double)(s->dim + 8) * 0x1p-23, far = t * (1 + slack) + row->error;
    double limit = floor((far * far - row->length2) / (2 * step * s->step)) + 1;
    return limit >= INT32_MAX ? INT32_MAX - 1 : limit <= INT32_MIN ? INT32_MIN : (int32_t)limit;
}

/* The step of a block of rows x[n][dim]: their widest component is 127 of it. */
static double step_of(const ki_sieve *s, const float *x, size_t n, float *row)
{
    float widest = 0;
    for (size_t i = 0; i < n; i++) {
        s->kernels->sub_f32(row, x + i * s->dim, s->middle, s->dim);
        float most = s->kernels->absmax_f32(row, s->dim);
        widest = most > widest ? most : widest;
    }
    if (!((double)widest < HUGE_VALUE) || !(s->step < HUGE_VALUE)) return INFINITY;
    return (double)(float)fmax((double)widest / 127, s->step / 4);
}

/* Row number r of a block into its tile. */
static void put_row(const ki_sieve *s, scratch *c, double step, const float *x, size_t r)
{
    uint8_t *a = c->a + (r / KI_SIEVE_ROWS * s->quads * KI_SIEVE_ROWS + r % KI_SIEVE_ROWS) * 4;
    s->kernels->sub_f32(c->row, x, s->middle, s->dim);
    ki_sieve_sums sums = s->kernels->sieve_round(c->row, s->dim, (float)step, (float)(1 / step), c->bytes);
    for (size_t j = 0; j < s->quads; j++) memcpy(a + j * 4 * KI_SIEVE_ROWS, c->bytes + 4 * j, 4);
    double terms = (double)s->dim + 8, length2 = step * step * (double)sums.squares,
           error2 = (double)sums.error2;
    double own = sqrt(error2) * (1 + terms * 0x1p-24) + (sqrt(length2) + sqrt(error2)) * 0x1p-22;
    c->rows[r] = (sieved){.length2 = length2,
                          .error = own + s->radius + terms * 0x1p-70,
                          .best = INFINITY,
                          .limit = INT32_MAX - 1};
}

static void start_values(const ki_sieve *s, double step, int32_t *start)
{
    double scale = s->step / (2 * step);
    for (size_t c = 0; c < s->panels * KI_PANEL; c++)
        start[c] = (int32_t)lrint((double)s->squares[c] * scale) + s->sums[c];
    for (size_t c = s->m; c < s->panels * KI_PANEL; c++) start[c] = INT32_MAX; /* never picked */
}

/* Measure column `column` for a row; returns whether it is the nearest so far. */
static int measure(const ki_sieve *s, sieved *row, const float *x, size_t column)
{
    float distance = s->kernels->l2sq_f32(x, s->y + column * s->dim, s->dim);
    if (!(distance < row->best || (distance == row->best && column < row->index))) return 0;
    row->best = distance;
    row->index = (uint32_t)column;
    return 1;
}

/* Columns first.. of a row, by their values, of which `least` is the least. Returns how many were measured. */
static size_t look(const ki_sieve *s, scratch *c, sieved *row, double step, const float *x, size_t first,
                   size_t columns, const int32_t *values, int32_t least)
{
    if (least > row->limit) return 0;
    /* The column of the least value is no farther than this. */
    double rough2 = row->length2 + 2 * step * s->step * ((double)least + 1);
    int32_t limit = limit_of(s, row, step, (rough2 > 0 ? sqrt(rough2) : 0) + row->error);
    if (limit < least) limit = least; /* it is not, but by rounding */
    if (limit < row->limit) row->limit = limit;
    size_t n = s->kernels->select_le_s32(values, columns, row->limit, c->picked), measured = 0, lowest = 0;
    while (lowest < n && values[c->picked[lowest]] != least) lowest++;
    for (size_t i = 0; i < n; i++) {
        /* That one first, the others in their order. */
        uint32_t at = c->picked[i == 0 ? lowest : i <= lowest ? i - 1 : i];
        if (values[at] > row->limit || (first + at == row->index && row->best < INFINITY)) continue;
        measured++;
        if (!measure(s, row, x, first + at)) continue;
        limit = limit_of(s, row, step, sqrt((double)row->best));
        if (limit < row->limit) row->limit = limit;
    }
    return measured;
}

/* Numbers too large for bytes and bounds. */
static void measure_all(const ki_sieve *s, scratch *c, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        c->rows[i] = (sieved){.best = INFINITY};
        for (size_t column = 0; column < s->m; column++) measure(s, &c->rows[i], x + i * s->dim, column);
    }
}

/* All columns for the rows of a block. Returns how many were measured. */
static size_t run_columns(const job *j, scratch *c, double step, const float *x, size_t n)
{
    const ki_sieve *s = j->sieve;
    size_t measured = 0;
    for (size_t panel = 0; panel < s->panels; panel += j->columns) {
        size_t panels = s->panels - panel < j->columns ? s->panels - panel : j->columns;
        size_t first = panel * KI_PANEL, columns = panels * KI_PANEL;
        for (size_t r = 0; r < n; r += KI_SIEVE_ROWS) {
            int32_t least[KI_SIEVE_ROWS];
            size_t rows = n - r < KI_SIEVE_ROWS ? n - r : KI_SIEVE_ROWS;
            s->kernels->sieve_tile(c->a + r * s->quads * 4, s->quads, s->b + first * s->quads * 4, panels,
                                   c->start + first, c->values, columns, least);
            for (size_t i = 0; i < rows; i++)
                measured += look(s, c, &c->rows[r + i], step, x + (r + i) * s->dim, first, columns,
                                 c->values + i * columns, least[i]);
        }
    }
    return measured;
}

static void run_block(void *ctx, size_t block, size_t worker)
{
    job *j = ctx;
    const ki_sieve *s = j->sieve;
    scratch *c = &j->scratch[worker];
    if (__atomic_load_n(&j->too_many, __ATOMIC_RELAXED)) return;
    size_t first = block * BLOCK_ROWS, n = j->n - first < BLOCK_ROWS ? j->n - first : BLOCK_ROWS;
    const float *x = j->x + first * s->dim;
    double step = step_of(s, x, n, c->row);
    if (step < INFINITY) {
        memset(c->a, 0, (n + KI_SIEVE_ROWS - 1) / KI_SIEVE_ROWS * KI_SIEVE_ROWS * s->quads * 4);
        memset(c->bytes, 0, 4 * s->quads);
        start_values(s, step, c->start);
        for (size_t i = 0; i < n; i++) {
            put_row(s, c, step, x + i * s->dim, i);
            if (!j->guessed) continue;
            measure(s, &c->rows[i], x + i * s->dim, j->index[first + i]);
            c->rows[i].limit = limit_of(s, &c->rows[i], step, sqrt((double)c->rows[i].best));
        }
        if (run_columns(j, c, step, x, n) > n * (s->m / MAX_SHARE + 1))
            __atomic_store_n(&j->too_many, 1, __ATOMIC_RELAXED);
    } else {
        measure_all(s, c, x, n);
    }
    for (size_t i = 0; i < n; i++) {
        j->index[first + i] = c->rows[i].index;
        if (j->dist) j->dist[first + i] = c->rows[i].best;
    }
}

kith_status ki_sieve_argmin(kith_pool *pool, const ki_sieve *sieve, const float *x, size_t n, int guessed,
                            uint32_t *index, float *dist, int *done, kith_error *err)
{
    job j = {.sieve = sieve, .x = x, .n = n, .guessed = guessed, .index = index, .dist = dist};
    *done = 1;
    if (n == 0) return KITH_OK;
    KI_TRY(job_prepare(&j, kith_pool_threads(pool), err));
    ki_pool_run(pool, (n + BLOCK_ROWS - 1) / BLOCK_ROWS, run_block, &j);
    ki_free(sieve->allocator, j.scratch);
    ki_free(sieve->allocator, j.memory);
    *done = !j.too_many;
    return KITH_OK;
}
