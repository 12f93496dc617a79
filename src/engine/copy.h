/* copy.h - the parts of making a copy: what is copied (copy_rows.c, copy_lists.c), and into which file (copy.c). */
#ifndef KI_ENGINE_COPY_H
#define KI_ENGINE_COPY_H

#include <kith/copies.h>

#include "base/run.h"
#include "engine/engine.h"

typedef struct ki_copy {
    kith_collection *from; /* pinned while it is read */
    kith_collection *to;   /* its changes are not logged: it takes over the log of `from` in the end */
    const kith_run *run;
    ki_stage stage;
    kith_copy_report report;
    int first;     /* `to` is new and grows, under another name */
    int from_zero; /* its rows do not belong to a state of `from`: each has to be looked at */
    int replace;
    kith_error *err;
} ki_copy;

/* Within transactions of both: make `to`, which is empty, a copy of `from` without its rows. */
kith_status ki_copy_begin(ki_copy *x);

/* Copy the rows that `to` has not got so far, in the order of their keys and in batches, each from the state that `from` has
 * then. */
kith_status ki_copy_fill(ki_copy *x);

/* In one transaction of each: bring `to` to the state of `from`. KITH_EXISTS when it is no copy of that and replace is 0. */
kith_status ki_copy_finish(ki_copy *x);

/* ---- copy_lists.c: within transactions of both ---- */

kith_status ki_copy_names(ki_copy *x);

/* Declared fields that `from` has not, before the rows, whose payloads may not be what they demand; those that it has, after
 * them. */
kith_status ki_copy_drop_fields(ki_copy *x);
kith_status ki_copy_add_fields(ki_copy *x);

/* Vector fields, with the ids and versions that they have in `from`, without vectors. x->to->state.version is that of `from`. */
kith_status ki_copy_spaces(ki_copy *x);
kith_status ki_copy_same_spaces(ki_copy *x, int *same);

/* Partitions, when those that are to go have no rows any more. */
kith_status ki_copy_partitions(ki_copy *x);

/* ---- copy.c ---- */

/* Copy the newest good segment of `from`, which is pinned, into the folder of the collection at `path`, unless it is there. */
kith_status ki_copy_segment(ki_copy *x, const char *path);

#endif
