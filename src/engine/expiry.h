/* expiry.h - the rows that are past their time and not removed yet: searches and reads pass them over. */
#ifndef KI_ENGINE_EXPIRY_H
#define KI_ENGINE_EXPIRY_H

#include "engine/engine.h"
#include "engine/keyset.h"

typedef struct ki_expired {
    ki_keyset keys;
    int64_t at, next; /* what they were loaded for; when the next row expires: seconds since 1970 */
    int loaded;
    uint64_t version, stamp; /* of the state that they belong to */
} ki_expired;

/* The rows of the open transaction's state that are past their time at c->now; NULL in *keys when there are none. */
kith_status ki_expired_load(kith_collection *c, const ki_keyset **keys, kith_error *err);

/* Whether one row is past its time, without looking at the others. Inside a batch. */
kith_status ki_is_expired(kith_collection *c, int64_t key, int *expired, kith_error *err);

/* The row expires no more; the caller logs the change. Inside a batch. */
kith_status ki_expiry_clear(kith_collection *c, int64_t key, kith_error *err);

void ki_expired_clear(kith_collection *c);

#endif
