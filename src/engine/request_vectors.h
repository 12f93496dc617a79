/* request_vectors.h - the vectors of a request, read before the rest of it.
 *
 * A JSON library makes an object on the heap of each number, and most of a request is numbers: of a search by 128 of them
 * that took as long as all the rest of an answer. So the arrays that stand under "vector" are read straight into floats, and the
 * library gets a text in which each of them is a whole number, its place among them. Whatever is not plainly such an array
 * (or is a number that takes care to round) leaves the whole text to the library, which then says what is wrong. */
#ifndef KI_ENGINE_REQUEST_VECTORS_H
#define KI_ENGINE_REQUEST_VECTORS_H

#include <kith/fusion.h>

#include "base/memory.h"

typedef struct ki_request_vectors {
    char *text; /* what is left of the request, not 0-terminated */
    size_t size;
    size_t n;                               /* arrays; 0: the text is as it was, and not here */
    float *x;                               /* the components of all, one behind the other */
    size_t ends[KITH_COLLECTION_MAX_FUSED]; /* of each, in x */
} ki_request_vectors;

/* Read them. KITH_NOMEM is the only failure; clear *v in either case. */
kith_status ki_request_vectors_read(const char *text, size_t size, const kith_allocator *allocator,
                                    ki_request_vectors *v, kith_error *err);

/* The vector of a place, which is checked; NULL: there is none. */
const float *ki_request_vectors_at(const ki_request_vectors *v, int64_t place, size_t *dim);

void ki_request_vectors_clear(ki_request_vectors *v, const kith_allocator *allocator);

#endif
