/* shingle.h - the set of shingles of one text, in memory that is used again for the next. */
#ifndef KI_TEXT_SHINGLE_H
#define KI_TEXT_SHINGLE_H

#include "text/normalise.h"

typedef struct ki_shingler {
    kith_shingle_kind kind;
    size_t length, min_words;
    ki_normaliser normaliser;
    uint64_t *items; /* hashes of tokens or characters, then of shingles */
    size_t room;
} ki_shingler;

/* The set of a text: items[*n], ascending, each once. */
kith_status ki_shingle(ki_shingler *shingler, const char *text, size_t size, size_t *n, kith_error *err);
void ki_shingler_clear(ki_shingler *shingler);

#endif
