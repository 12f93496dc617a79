/* live_recall.h - measuring searches by rows of the collection, which are left out of what they find. */
#ifndef KI_ENGINE_LIVE_RECALL_H
#define KI_ENGINE_LIVE_RECALL_H

#include "engine/engine.h"

typedef struct ki_measuring {
    kith_collection *c;
    kith_recall_options o;
    size_t m, taken, dim, k; /* queries, those read; k: with the query's own row */
    uint64_t *picked;        /* [m], ascending */
    float *x;                /* [m][dim] */
    int64_t *own;            /* [m] */
    int64_t *keys, *truth;   /* [m][k] */
    float *dist, *true_dist;
    double exact_seconds;
    char spec[256]; /* of the segment; "": there is none */
} ki_measuring;

/* Draw the rows and search for the truth. Set c and o before; pinned or in a batch. Clear it even on failure. */
kith_status ki_measure_begin(ki_measuring *s, kith_error *err);

/* How good a search is that is done in a certain way, and how long it takes for all rows together. */
kith_status ki_measure_at(ki_measuring *s, const kith_collection_query *how, double *recall, double *seconds,
                          kith_error *err);

void ki_measure_clear(ki_measuring *s);

#endif
