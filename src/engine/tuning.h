/* tuning.h - what was measured of the searches of a collection, and what a search that asks for a recall makes of it. */
#ifndef KI_ENGINE_TUNING_H
#define KI_ENGINE_TUNING_H

#include "engine/vectors.h"

/* Bring *tuning to what the open transaction has for the vectors at hand; n is 0 when nothing was measured. */
kith_status ki_tuning_load(kith_collection *c, ki_tuning *tuning, kith_error *err);

/* The recall that searches of the vectors at hand aim at; 0: none was said. Within a transaction. */
double ki_tuned_target(kith_collection *c);

/* The values that reach a recall, or come nearest to it: of the segment's main parameter, and of refine_k (0: none).
 * Returns 0 when nothing was measured that holds for this segment. */
int ki_tuned_values(const ki_tuning *tuning, const ki_segment *segment, double target, double *value,
                    double *refine);

/* The recall that was measured with such values or less; NaN when none was that holds for this segment. */
double ki_tuned_recall(const ki_tuning *tuning, const ki_segment *segment, double value, double refine);

#endif
