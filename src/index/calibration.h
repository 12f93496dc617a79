/* calibration.h - the curve of an index: which search-time values were measured to give which recall. Measured in
 * calibrate.c, used by every search that names a target_recall. */
#ifndef KI_INDEX_CALIBRATION_H
#define KI_INDEX_CALIBRATION_H

#include <kith/tune.h>

#include "index/spec.h"
#include "store/index_file.h"

/* By ascending k; of one k by ascending recall, which is ascending cost. */
typedef struct ki_calibration {
    kith_calibration_point *points; /* [n]; NULL: not calibrated */
    size_t n;
} ki_calibration;

#define KI_CALIBRATION_MAX 1024 /* points of all curves together: arbitrary, some hundred are usual */

void ki_calibration_clear(ki_calibration *calibration, const kith_allocator *allocator);

/* The main parameter of an index of a spec, or NULL. */
const char *ki_calibration_param(const ki_spec *spec, kith_metric metric);

/* Which of the parameters of a spec is the main one of its structure; 0 when it has none. */
int ki_calibration_main(const ki_spec *spec, kith_metric metric, size_t *position);

/* Set the main parameter and refine_k in settings[] to what gives `target` at k.
 * Errors:   KITH_UNTRAINED (no calibration), KITH_INVALID (k is above all that were calibrated for, or the target above
 *           what was reached). */
kith_status ki_calibration_resolve(const ki_calibration *calibration, const ki_spec *spec, kith_metric metric,
                                   size_t k, double target, double *settings, kith_error *err);

/* Section "calibration", f64 [n][4]: k, recall, value, refine_k. Absent: not calibrated. */
kith_status ki_calibration_save(const ki_calibration *calibration, ki_store_writer *writer, kith_error *err);
kith_status ki_calibration_load(ki_calibration *calibration, const ki_spec *spec, kith_metric metric,
                                ki_store *store, const kith_allocator *allocator, kith_error *err);

#endif
