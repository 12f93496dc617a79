/* batches.h - batches that write a collection in every way there is, each a function of its number alone: whoever has written
 * batches 1..n, in whatever process and however often it was killed, has the same rows. */
#ifndef KI_TEST_BATCHES_H
#define KI_TEST_BATCHES_H

#include "collections.h"

/* Rows have keys 1..BATCH_KEYS, or are known by texts; those alone have keys beyond, and no vector of their own. The collection is
 * made with BATCH_DIM components. Vectors are of small integers: no distance is rounded. */
enum { BATCH_KEYS = 120, BATCH_DIM = 4, BATCH_FIELD_DIM = 3, BATCH_CHANGES = 10 };

/* The vector field that batches declare, fill and drop, and one of the partitions that they do the same to. */
#define BATCH_FIELD "title"
#define BATCH_PARTITION "red"

/* Write batch `number`, 1.., behind number - 1: begin to commit. Rows are inserted, put, in part and whole, merged, deleted, by key, by text
 * and by filter; they expire, go into partitions and have vectors in a field; fields, partitions and vector fields come and
 * go. On failure the batch is rolled back. */
kith_status test_batch(kith_collection *c, uint64_t number, kith_error *err);

/* What is between its begin and its commit. On failure it cannot be committed. */
kith_status test_batch_changes(kith_collection *c, uint64_t number, kith_error *err);

/* A kith_change (kith/writers.h): the batch behind the last one that is there, whichever that is. ctx is a uint64_t, where its number
 * is put. */
kith_status test_batch_next(kith_collection *c, void *ctx, kith_error *err);

/* The same, and then it fails. */
kith_status test_batch_undone(kith_collection *c, void *ctx, kith_error *err);

/* The number of the last batch that is there; 0: none. */
kith_status test_batch_number(kith_collection *c, uint64_t *number, kith_error *err);

/* A query, for drawn 0, 1, ...: whole numbers near the rows. */
void test_batch_query(uint64_t drawn, size_t dim, float *vector);

#endif
