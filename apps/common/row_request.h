/* row_request.h - a row as a JSON object, put into a collection: an element of `POST .../rows`, a line of an import.
 *
 *     {"key":7 or "text":"a/b", "payload":{..}, "vector":[..] or null, "vectors":{"FIELD":[..] or null}, "partition":"P" or null,
 *      "expires":SECONDS or null}
 *
 * All members may be left out; without key and text the row gets the next free key.
 */
#ifndef KITH_COMMON_ROW_REQUEST_H
#define KITH_COMMON_ROW_REQUEST_H

#include <jansson.h>

#include <kith/collection.h>

#include "text.h"

typedef enum row_mode {
    ROW_UPSERT, /* the row is what is said, whatever was there; only an attachment stays */
    ROW_INSERT, /* KITH_EXISTS when there is a row */
    ROW_UPDATE  /* KITH_NOTFOUND when there is none; what is not said stays, payloads are merged (RFC 7396) */
} row_mode;

/* "upsert", "insert", "update". KITH_INVALID for another word. */
kith_status row_mode_parse(const char *word, row_mode *mode, kith_error *err);

/* Memory for one row after the other. */
typedef struct row_scratch {
    float *x;
    size_t room;
} row_scratch;
void row_scratch_clear(row_scratch *scratch);

/* Put a row, inside a batch.
 * Out:      *key: the row's.
 * Errors:   KITH_INVALID naming the member, KITH_EXISTS, KITH_NOTFOUND (also for a partition or field): the batch goes on, but
 *           part of the row may be in it: roll it back. Others as kith_collection_put. */
kith_status row_request_put(kith_collection *collection, json_t *row, row_mode mode, row_scratch *scratch,
                            int64_t *key, kith_error *err);

/* A key as JSON says it: a whole number from 1, or the text of a row. KITH_INVALID, KITH_NOTFOUND. */
kith_status row_key_of(kith_collection *collection, const json_t *json, int64_t *key, kith_error *err);

/* Which parts of a row are shown beside its key and text. */
typedef struct row_shown {
    int payload, vector, rest; /* rest: vectors of fields, partition, expiry */
} row_shown;

/* Write a row that was read with kith_collection_get or _next as a JSON object, the reverse of row_request_put. */
kith_status row_write(kith_collection *collection, const kith_row *row, row_shown shown, text *out,
                      kith_error *err);

#endif
