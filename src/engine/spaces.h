/* spaces.h - vector fields: the vectors that a row has beside that of its record, each field with a dim, a metric, segments
 * and an in-memory index of its own.
 *
 * What searches, folds and scans work on is c->state's dim, metric, vectors and reset_version, c->vectors and c->folder.
 * ki_space_enter exchanges these with those of a field, so that the same code works on it; ki_space_leave brings them back.
 * Between the two no state is read or written, and no row is changed. */
#ifndef KI_ENGINE_SPACES_H
#define KI_ENGINE_SPACES_H

#include <kith/fusion.h>

#include "engine/engine.h"

typedef struct ki_space {
    int64_t id; /* 1..KITH_COLLECTION_MAX_VECTOR_FIELDS */
    char name[KITH_COLLECTION_MAX_FIELD_NAME + 1];
    char spec[KITH_COLLECTION_MAX_SPEC + 1]; /* "": chosen by each fold */
    size_t dim;
    kith_metric metric;
    uint64_t vectors;
    uint64_t made;             /* the version that declared it: what is older is of another field */
    struct ki_vectors *memory; /* engine/vectors.h */
    char *folder;              /* of its segments; NULL: not made up yet */
    int dirty;                 /* vectors has to be written by the commit */
} ki_space;

typedef struct ki_spaces {
    ki_space *items[KITH_COLLECTION_MAX_VECTOR_FIELDS];
    size_t n;
    int loaded;
    uint64_t version, stamp; /* of the state that they belong to */
} ki_spaces;

/* Bring c->spaces, which is then not NULL, to the state of the open transaction. No field is entered. */
kith_status ki_spaces_load(kith_collection *c, kith_error *err);

/* Within a transaction: go over to a field; NULL and "" are the vectors of the records. KITH_NOTFOUND. */
kith_status ki_space_enter(kith_collection *c, const char *name, kith_error *err);
void ki_space_leave(kith_collection *c);

/* Call a function within each field in turn, the records last. */
void ki_spaces_each(kith_collection *c, void (*f)(kith_collection *));

void ki_spaces_free(kith_collection *c);

/* The bits of the change log that mean a change of the vectors at hand; the bit of a put of one. */
unsigned ki_vector_change(const kith_collection *c);
static inline unsigned ki_vector_changes(const kith_collection *c)
{
    return ki_vector_change(c) | KI_CHANGE_DELETED;
}

/* A condition over `record` in SQL: the row has a vector at hand. */
#define KI_HAS_VECTOR_BYTES 96
void ki_has_vector_sql(const kith_collection *c, char sql[KI_HAS_VECTOR_BYTES]);

/* The statements that scan all vectors at hand, and fetch one by key (?1), ready to be stepped. */
kith_status ki_space_scan(kith_collection *c, enum ki_sql *which, sqlite3_stmt **stmt, kith_error *err);
kith_status ki_space_get(kith_collection *c, int64_t key, enum ki_sql *which, sqlite3_stmt **stmt,
                         kith_error *err);

/* KI_SQL_SPACE_SCAN_KEYS of the field that was entered: its vectors in the order of the keys. */
kith_status ki_space_scan_keys(kith_collection *c, sqlite3_stmt **stmt, kith_error *err);

/* ---- Changes, inside a batch ---- */

/* A row goes, or becomes a new one: its vectors in all fields do. */
kith_status ki_spaces_take_out(kith_collection *c, int64_t slot, kith_error *err);

/* Write the counts that have changed. */
kith_status ki_spaces_write(kith_collection *c, kith_error *err);

/* ---- Proof and hash ---- */

/* Invariant C12, and what vector fields add to a content hash: nothing, where there are none. */
kith_status ki_spaces_prove(kith_collection *c, const kith_run *run, kith_error *err);
kith_status ki_spaces_hash(kith_collection *c, const kith_run *run, uint64_t *hash, kith_error *err);

#endif
