/* fields.h - declared fields: members of payloads that have one kind, and whose values stand sorted in `field_value`. */
#ifndef KI_ENGINE_FIELDS_H
#define KI_ENGINE_FIELDS_H

#include "engine/engine.h"

/* A declared field, as a handle knows it. */
typedef struct ki_field {
    int64_t id;
    kith_field_kind kind;
    char name[KITH_COLLECTION_MAX_FIELD_NAME + 1]; /* as it was declared, in the language of filters */
    size_t path_size;
    unsigned char path[2 * KITH_COLLECTION_MAX_FIELD_NAME + 16]; /* engine/expr.h */
} ki_field;

typedef struct ki_fields {
    ki_field *items, *spare; /* [KITH_COLLECTION_MAX_FIELDS]: the list; where the next one is read */
    size_t n;
    int loaded;
    uint64_t version, stamp; /* of the state they belong to */
} ki_fields;

/* Bring c->fields, which is then not NULL, to the state of the open transaction. */
kith_status ki_fields_load(kith_collection *c, kith_error *err);
void ki_fields_clear(kith_collection *c);

/* The declared field with this path; NULL: none. */
const ki_field *ki_field_by_path(const ki_fields *fields, const void *path, size_t size);

/* Whether the payload in c->canonical has values of the declared kinds: KITH_INVALID names the field that has not. */
kith_status ki_fields_check(const kith_collection *c, kith_error *err);

/* Take the values of the row in a slot out of the index, as its stored payload says; put those of c->canonical in. */
kith_status ki_fields_take_out(kith_collection *c, int64_t slot, int64_t key, kith_error *err);
kith_status ki_fields_put_in(kith_collection *c, int64_t key, kith_error *err);

/* Invariant C9 of docs/collection-format.md. */
kith_status ki_fields_prove(kith_collection *c, kith_error *err);

/* ---- payload_sql.c ---- */

/* What stands at a path: nothing (or null), a value of the kind, another value, or no canonical JSON. */
typedef enum ki_fit { KI_FIT_NOTHING, KI_FIT_GOOD, KI_FIT_WRONG, KI_FIT_BROKEN } ki_fit;

/* The bytes of the value at a path, in canonical form. Returns 0 for nothing, null, and what is not canonical. */
int ki_payload_value(const void *payload, size_t size, const void *path, size_t path_size, const char **value,
                     size_t *value_size);

ki_fit ki_payload_fit(const void *payload, size_t size, const void *path, size_t path_size,
                      kith_field_kind kind);

#endif
