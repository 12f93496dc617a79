/* content.h - what belongs to a row beside its record, as a table (content.def) that hash, proof, comparison and copy go by. */
#ifndef KI_ENGINE_CONTENT_H
#define KI_ENGINE_CONTENT_H

#include "engine/engine.h"

typedef struct ki_content {
    const char *name; /* as messages call it */
    int schema;       /* the first version of the file that has the table */
    uint64_t number;  /* in the content hash */
    enum ki_sql scan, of, empty, remove, put, stray;
} ki_content;

enum {
#define X(name, called, schema, number) KI_CONTENT_##name,
#include "engine/content.def"
#undef X
    KI_CONTENT_COUNT
};

extern const ki_content ki_contents[KI_CONTENT_COUNT];

/* Invariants C10 and C11: what belongs to a row belongs to one that is there. */
kith_status ki_contents_prove(kith_collection *c, kith_error *err);

/* What the tables add to a content hash: nothing where they are empty. */
kith_status ki_contents_hash(kith_collection *c, uint64_t *hash, kith_error *err);

/* Step a scan. KITH_CORRUPT for a key that cannot be, KITH_NOMEM for a value that cannot be read. */
kith_status ki_content_step(kith_collection *c, const ki_content *content, int *row, int64_t *key,
                            kith_error *err);

/* The bytes of the value in column 1 of a stepped scan, which is no integer; NULL: no memory. */
const void *ki_content_bytes(sqlite3_stmt *stmt, size_t *size);

/* Take away what key has; give it the value that stands in a column of a stepped statement of another collection. */
kith_status ki_content_remove(kith_collection *c, const ki_content *content, int64_t key, kith_error *err);
kith_status ki_content_put(kith_collection *c, const ki_content *content, int64_t key, sqlite3_stmt *from,
                           int column, kith_error *err);

#endif
