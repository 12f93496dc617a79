#include "index/calibration.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "index/family.h"

#define SECTION "calibration"
#define COLUMNS 4 /* of the section */

void ki_calibration_clear(ki_calibration *calibration, const kith_allocator *allocator)
{
    ki_free(allocator, calibration->points);
    *calibration = (ki_calibration){0};
}

const char *ki_calibration_param(const ki_spec *spec, kith_metric metric)
{
    const ki_structure_part *part = spec->structure;
    return part->main_param_l2 && (metric == KITH_L2SQ || metric == KITH_COSINE) ? part->main_param_l2
                                                                                 : part->main_param;
}

int ki_calibration_main(const ki_spec *spec, kith_metric metric, size_t *position)
{
    const char *name = ki_calibration_param(spec, metric);
    for (size_t i = 0; name && i < spec->structure->part.info.n_params; i++) {
        if (strcmp(spec->structure->part.info.params[i].name, name) != 0) continue;
        *position = i;
        return 1;
    }
    return 0;
}

kith_status ki_calibration_resolve(const ki_calibration *calibration, const ki_spec *spec, kith_metric metric,
                                   size_t k, double target, double *settings, kith_error *err)
{
    const kith_calibration_point *points = calibration->points;
    size_t n = calibration->n, first = 0, end, main_position;
    if (n == 0)
        return ki_fail(
            err, KITH_UNTRAINED,
            "target_recall is %g, and the index is not calibrated: kith_index_calibrate, or `kith tune`",
            target);
    if (k == 0)
        return ki_fail(err, KITH_INVALID, "target_recall is %g: a range search has no k to measure it by",
                       target);
    if (k > points[n - 1].k)
        return ki_fail(err, KITH_INVALID, "target_recall is calibrated for k up to %zu, k is %zu",
                       points[n - 1].k, k);
    while (points[first].k < k) first++;
    for (end = first; end < n && points[end].k == points[first].k;) end++;
    size_t i = first;
    while (i < end && points[i].recall < target) i++;
    if (i == end)
        return ki_fail(err, KITH_INVALID,
                       "target_recall is %g, the calibration for k = %zu reached %.4f at most", target,
                       points[first].k, points[end - 1].recall);
    /* A measured point, not one between two: a count of leaves or rows may have steps between them. */
    const kith_calibration_point *p = &points[i];
    if (ki_calibration_main(spec, metric, &main_position)) settings[main_position] = p->value;
    if (spec->refinement) settings[ki_spec_refinement_params(spec)] = p->refine_k;
    return KITH_OK;
}

/* ---- Save and load ---- */

kith_status ki_calibration_save(const ki_calibration *calibration, ki_store_writer *writer, kith_error *err)
{
    if (calibration->n == 0) return KITH_OK;
    KI_TRY(ki_store_begin(writer, SECTION, COLUMNS * sizeof(double),
                          calibration->n * COLUMNS * sizeof(double), err));
    for (size_t i = 0; i < calibration->n; i++) {
        const kith_calibration_point *p = &calibration->points[i];
        double row[COLUMNS] = {(double)p->k, p->recall, p->value, p->refine_k};
        KI_TRY(ki_store_append(writer, row, sizeof row, err));
    }
    return ki_store_end(writer, err);
}

static int in_range(double value, const kith_param_info *info)
{
    return value >= info->low && value <= info->high &&
           (info->kind == KITH_PARAM_FLOAT || value == floor(value));
}

/* Whether a row of the section may follow the point before it (NULL: is the first). */
static int row_fits(const ki_spec *spec, kith_metric metric, const double *row,
                    const kith_calibration_point *before)
{
    size_t position;
    if (!(row[0] >= 1 && row[0] <= (double)KITH_MAX_ROWS && row[0] == floor(row[0]))) return 0;
    if (!(row[1] >= 0 && row[1] <= 1)) return 0;
    if (ki_calibration_main(spec, metric, &position) ? !in_range(row[2], ki_spec_param(spec, position))
                                                     : row[2] != 0)
        return 0;
    if (spec->refinement ? !in_range(row[3], ki_spec_param(spec, ki_spec_refinement_params(spec)))
                         : row[3] != 0)
        return 0;
    if (!before) return 1;
    return row[0] > (double)before->k || (row[0] == (double)before->k && row[1] > before->recall);
}

kith_status ki_calibration_load(ki_calibration *calibration, const ki_spec *spec, kith_metric metric,
                                ki_store *store, const kith_allocator *allocator, kith_error *err)
{
    uint64_t n;
    const void *data;
    if (!ki_store_has(store, SECTION)) return KITH_OK;
    KI_TRY(ki_store_count(store, SECTION, COLUMNS * sizeof(double), &n, err));
    if (n < 1 || n > KI_CALIBRATION_MAX)
        return ki_fail(err, KITH_CORRUPT, "%s: a calibration of %llu points, allowed 1..%d",
                       ki_store_path(store), (unsigned long long)n, KI_CALIBRATION_MAX);
    KI_TRY(ki_store_array(store, SECTION, n, COLUMNS * sizeof(double), &data, err));
    calibration->points = ki_alloc(allocator, n, sizeof *calibration->points);
    if (!calibration->points) return ki_fail_nomem(err, n * sizeof *calibration->points);
    const double *row = data;
    for (size_t i = 0; i < n; i++, row += COLUMNS) {
        if (!row_fits(spec, metric, row, i > 0 ? &calibration->points[i - 1] : NULL))
            return ki_fail(err, KITH_CORRUPT, "%s: point %zu of the calibration is out of range or order",
                           ki_store_path(store), i);
        calibration->points[i] = (kith_calibration_point){(size_t)row[0], row[1], row[2], row[3]};
    }
    calibration->n = n;
    return KITH_OK;
}
