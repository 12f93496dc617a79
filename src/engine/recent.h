/* recent.h - what was read of rows lately: payloads and texts, as of the state of the collection that is open.
 *
 * Reading a payload is a search of two trees in pages that may be anywhere in the file, and a proof that it is JSON. Answers show the
 * same rows again and again, so what was read stays in a ring: the oldest goes when there is no room. A change of the
 * collection, by whomever, makes all of it void. */
#ifndef KI_ENGINE_RECENT_H
#define KI_ENGINE_RECENT_H

#include "engine/engine.h"

typedef enum ki_recent_kind { KI_RECENT_PAYLOAD, KI_RECENT_TEXT } ki_recent_kind;

/* What is kept of a row. 0: nothing; else *bytes[*size] are valid until the next ki_recent_put. Within a read. */
int ki_recent_get(kith_collection *c, ki_recent_kind kind, int64_t key, const void **bytes, size_t *size);

/* Keep it. Nothing happens for what is long, within a batch, in a handle with a bound on its memory, or when there is none. */
void ki_recent_put(kith_collection *c, ki_recent_kind kind, int64_t key, const void *bytes, size_t size);

void ki_recent_free(kith_collection *c);

#endif
