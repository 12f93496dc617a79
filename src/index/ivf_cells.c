/* ivf_cells.c - what IVF knows of each cell beside its rows: where the middle of all is, how far rows reach, and how far they are
 * on average. */
#include "index/ivf_internal.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

#define RADII "ivf.radii"
#define SPREAD "ivf.spread"
#define TRAINING "ivf.training"

/* ---- The middle ----
 *
 * |x - c|^2 = |x|^2 - 2 x.c + |c|^2 loses digits where x and c are long beside the way between them: about 10,000, with cells 10
 * apart, float32 no longer tells which is nearest. Where all cells lie to one side like that, they and what is compared
 * with them are counted from the middle of the cells instead; elsewhere nothing is to be gained. */

/* The middle is used where it is so many times as long as cells are from it: 4 costs some five bits of the 24 (arbitrary). */
#define FAR 4

/* The mean of the centroids, by sum[dim]; whether it is far. */
static int find_middle(const ki_ivf *ivf, double *sum)
{
    size_t dim = ivf->base.env->dim, n = ivf->n_cells;
    double squares = 0, length2 = 0; /* the mean |c|^2, and |mean|^2 */
    for (size_t c = 0; c < n; c++)
        for (size_t d = 0; d < dim; d++) {
            double value = (double)ivf->centroids[c * dim + d];
            sum[d] += value;
            squares += value * value;
        }
    for (size_t d = 0; d < dim; d++) {
        sum[d] /= (double)n;
        length2 += sum[d] * sum[d];
    }
    return isfinite(squares) && length2 > FAR * FAR * (squares / (double)n - length2);
}

static kith_status use_middle(ki_ivf *ivf, const double *mean, kith_error *err)
{
    const ki_structure_env *env = ivf->base.env;
    ivf->middle = ki_alloc(env->allocator, env->dim, sizeof *ivf->middle);
    ivf->around = ki_alloc(env->allocator, ivf->n_cells, env->dim * sizeof *ivf->around);
    if (!ivf->middle || !ivf->around)
        return ki_fail_nomem(err, (ivf->n_cells + 1) * env->dim * sizeof *ivf->around);
    for (size_t d = 0; d < env->dim; d++) ivf->middle[d] = (float)mean[d];
    (void)ki_ivf_cells_shift(ivf, ivf->centroids, ivf->n_cells, ivf->around);
    return KITH_OK;
}

kith_status ki_ivf_cells_center(ki_ivf *ivf, kith_error *err)
{
    const ki_structure_env *env = ivf->base.env;
    double *mean = ki_alloc_zero(env->allocator, env->dim, sizeof *mean);
    if (!mean) return ki_fail_nomem(err, env->dim * sizeof *mean);
    kith_status status = find_middle(ivf, mean) ? use_middle(ivf, mean, err) : KITH_OK;
    ki_free(env->allocator, mean);
    return status;
}

const float *ki_ivf_cells_shift(const ki_ivf *ivf, const float *x, size_t n, float *room)
{
    const ki_structure_env *env = ivf->base.env;
    if (!ivf->middle) return x;
    for (size_t i = 0; i < n; i++)
        env->kernels->sub_f32(room + i * env->dim, x + i * env->dim, ivf->middle, env->dim);
    return room;
}

/* ---- Radii and spread ---- */

kith_status ki_ivf_cells_init(ki_ivf *ivf, kith_error *err)
{
    const ki_structure_env *env = ivf->base.env;
    ivf->radius = ki_alloc_zero(env->allocator, ivf->n_cells, sizeof *ivf->radius);
    ivf->spread = ki_alloc_zero(env->allocator, ivf->n_cells, sizeof *ivf->spread);
    if (!ivf->radius || !ivf->spread)
        return ki_fail_nomem(err, ivf->n_cells * (sizeof *ivf->radius + sizeof *ivf->spread));
    float most = 0;
    for (size_t c = 0; c < ivf->n_cells; c++) {
        const float *column = ki_ivf_columns(ivf) + c * env->dim;
        float norm2 = env->kernels->dot_f32(column, column, env->dim);
        if (norm2 > most) most = norm2;
    }
    ivf->longest = sqrtf(most);
    return KITH_OK;
}

void ki_ivf_cells_clear(ki_ivf *ivf)
{
    const kith_allocator *allocator = ivf->base.env->allocator;
    ki_free(allocator, ivf->radius);
    ki_free(allocator, ivf->spread);
    ki_free(allocator, ivf->middle);
    ki_free(allocator, ivf->around);
    ivf->middle = ivf->around = NULL;
    ivf->radius = NULL;
    ivf->spread = NULL;
    ivf->trained_spread = 0;
}

/* A float32 sum of dim squares may be too small by this factor at most, and by what underflowed. */
static float rounded_up(float d2, size_t dim)
{
    return d2 * (1 + (float)(dim + 4) * 0x1p-23f) + (float)dim * FLT_MIN;
}

float ki_ivf_cells_distance(const ki_ivf *ivf, const float *x, size_t cell)
{
    size_t dim = ivf->base.env->dim;
    float d2 = ivf->base.env->kernels->l2sq_f32(x, ivf->centroids + cell * dim, dim);
    return d2 <= FLT_MAX ? d2 : FLT_MAX;
}

void ki_ivf_cells_note(ki_ivf *ivf, const float *x, size_t n, const uint32_t *cells)
{
    const ki_structure_env *env = ivf->base.env;
    for (size_t i = 0; i < n; i++) {
        size_t c = cells[i];
        float d2 = ki_ivf_cells_distance(ivf, x + i * env->dim, c);
        float radius = d2 < FLT_MAX ? nextafterf(sqrtf(rounded_up(d2, env->dim)), INFINITY) : INFINITY;
        if (radius > ivf->radius[c]) ivf->radius[c] = radius;
        ivf->spread[c] += (double)d2;
    }
}

void ki_ivf_cells_forget(ki_ivf *ivf, size_t cell, size_t before)
{
    /* Codes do not tell how far a row was: its cell's mean is taken away, and the radius stays a bound. */
    ivf->spread[cell] = before > 1 ? ivf->spread[cell] * (double)(before - 1) / (double)before : 0;
    if (before <= 1) ivf->radius[cell] = 0;
}

kith_status ki_ivf_cells_save(const ki_ivf *ivf, ki_store_writer *writer, kith_error *err)
{
    ki_record record;
    if (!ivf->spread) return KITH_OK; /* of a file that had none */
    ki_record_init(&record, ivf->base.env->allocator);
    ki_record_put_f64(&record, "spread", ivf->trained_spread);
    if (ivf->split) ki_record_put_u64(&record, "split", 1);
    if (ivf->middle) ki_record_put_u64(&record, "middle", 1);
    kith_status status = ki_store_put_record(writer, TRAINING, &record, err);
    ki_record_clear(&record);
    KI_TRY(status);
    KI_TRY(ki_store_put(writer, RADII, ivf->radius, ivf->n_cells, sizeof *ivf->radius, err));
    return ki_store_put(writer, SPREAD, ivf->spread, ivf->n_cells, sizeof *ivf->spread, err);
}

/* A sum of squares from a file. Those of early versions are infinite where a distance was too large for a float32: what a sum
 * is with one such distance. */
static double sum_of(double saved)
{
    return saved == INFINITY ? (double)FLT_MAX : saved;
}

kith_status ki_ivf_cells_load(ki_ivf *ivf, ki_store *store, kith_error *err)
{
    ki_record_view record;
    if (!ki_store_has(store, RADII)) { /* written before there were any: nothing is known */
        ki_free(ivf->base.env->allocator, ivf->spread);
        ivf->spread = NULL;
        for (size_t c = 0; c < ivf->n_cells; c++) ivf->radius[c] = INFINITY;
        return KITH_OK;
    }
    KI_TRY(ki_store_record_open(store, TRAINING, &record, err));
    KI_TRY(ki_record_get_f64(&record, "spread", 0, INFINITY, &ivf->trained_spread, err));
    ivf->trained_spread = sum_of(ivf->trained_spread);
    uint64_t split = 0;
    if (ki_record_has(&record, "split")) KI_TRY(ki_record_get_u64(&record, "split", 0, 1, &split, err));
    /* Rows that were filed without the middle may lie in cells that are not nearest: as after a split. */
    ivf->split = split || (ivf->middle && !ki_record_has(&record, "middle"));
    KI_TRY(ki_store_load(store, RADII, ivf->n_cells, sizeof *ivf->radius, ivf->radius, err));
    KI_TRY(ki_store_load(store, SPREAD, ivf->n_cells, sizeof *ivf->spread, ivf->spread, err));
    for (size_t c = 0; c < ivf->n_cells; c++) {
        if (!(ivf->radius[c] >= 0) || !(ivf->spread[c] >= 0))
            return ki_fail(err, KITH_CORRUPT, "%s: the radius of cell %zu is %g, the sum of its squares %g",
                           ki_store_path(store), c, (double)ivf->radius[c], ivf->spread[c]);
        ivf->spread[c] = sum_of(ivf->spread[c]);
    }
    return KITH_OK;
}

kith_status ki_ivf_cells_info(const ki_structure *structure, kith_cells_info *info, kith_error *err)
{
    const ki_ivf *ivf = (const ki_ivf *)structure;
    double sum = 0;
    (void)err;
    info->cells = ivf->n_cells;
    for (size_t c = 0; c < ivf->n_cells; c++) {
        size_t size = ivf->lists.size[c];
        info->rows += size;
        info->empty += size == 0;
        if (size > info->largest) info->largest = size;
        if (ivf->spread) sum += ivf->spread[c];
    }
    info->mean_rows = (double)info->rows / (double)ivf->n_cells;
    info->spread_trained = ivf->spread ? ivf->trained_spread : NAN;
    info->spread_now = ivf->spread && info->rows > 0 ? sum / (double)info->rows : NAN;
    return KITH_OK;
}
