/* normalise.h - NFKC with case folding into memory that is used again for the next text. */
#ifndef KI_TEXT_NORMALISE_H
#define KI_TEXT_NORMALISE_H

#include <kith/text.h>

#define KI_TEXT_MAX_BYTES ((size_t)1 << 30)

typedef struct ki_normaliser {
    const kith_allocator *allocator;
    char *out; /* the normalised text, out[n] = 0 */
    size_t n, room;
    char *piece; /* a piece of the text as valid UTF-8 */
    int32_t *points;
    size_t points_room;
} ki_normaliser;

/* All but the allocator zero to begin with. */
kith_status ki_normalise(ki_normaliser *normaliser, const char *text, size_t size, kith_error *err);
void ki_normaliser_clear(ki_normaliser *normaliser);

#endif
