/* parts.h - partitions: named parts of the rows. */
#ifndef KI_ENGINE_PARTS_H
#define KI_ENGINE_PARTS_H

#include "engine/engine.h"

/* The filter that a search in partitions is: `expression` (NULL: any row) in one of n partitions, in *text with a zero.
 * Errors:   KITH_NOTFOUND for a partition that is not there; KITH_INVALID for the expression, with places in it. */
kith_status ki_parts_filter(kith_collection *c, const char *const *names, size_t n, const char *expression,
                            ki_buffer *text, kith_error *err);

/* Inside a batch: the row is of no partition any more; the caller logs the change. */
kith_status ki_part_clear(kith_collection *c, int64_t key, kith_error *err);

#endif
