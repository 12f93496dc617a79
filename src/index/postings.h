/* postings.h - many lists of rows in one piece of memory: what an inverted file keeps in its cells.
 *
 * Each list is contiguous: its slots, its codes, its factors. All lists share three arrays and one space of
 * positions, list l at start[l] .. start[l] + size[l] - 1, with room up to start[l] + room[l] - 1:
 *
 *     slots    | 7 3 9 . . | 1 . | 4 8 2 6 . |        . : room
 *     codes    | c c c . . | c . | c c c c . |        one code_size each
 *
 * One array instead of one block a list: large pages, one read from a file, no copy when it is mapped. A list that
 * outgrows its room moves to the end of the arrays, to twice the room that it needs, and leaves a gap. The arrays grow by an
 * eighth for that, and when the gaps are more than a quarter of them, all lists are laid out anew with a quarter more room
 * each (twice the memory for the moment of either). So a row is copied some constant number of times, whether rows come evenly
 * or to one list after another. The first rows get exactly the room they need, and files hold neither room nor gaps.
 *
 * Codecs that want blocks of rows (quant/codec.h): every start and room is a multiple of the block, slots included,
 * in memory and in files, where what is beyond a list's size is zero. */
#ifndef KI_INDEX_POSTINGS_H
#define KI_INDEX_POSTINGS_H

#include "index/family.h"

typedef struct ki_postings {
    const kith_allocator *allocator;
    size_t n_lists, code_size, n_factors, block, together;
    uint64_t *start;       /* [n_lists] */
    uint32_t *size, *room; /* [n_lists] */
    const uint32_t *slots; /* [positions], views of our own arrays or of a mapped file */
    const uint8_t *codes;
    const float *factors; /* NULL without factors */
    uint32_t *own_slots;
    uint8_t *own_codes;
    float *own_factors;
    uint64_t positions; /* of our own arrays */
    uint64_t used;      /* of these: up to the end of the last list */
    uint64_t gaps;      /* of these: left by lists that moved */
} ki_postings;

/* Empty lists. ki_postings_clear is allowed after a failure. */
kith_status ki_postings_init(ki_postings *postings, size_t n_lists, const ki_codec *codec,
                             const kith_allocator *allocator, kith_error *err);
void ki_postings_clear(ki_postings *postings);

static inline ki_codes ki_postings_codes(const ki_postings *postings, size_t list)
{
    uint64_t start = postings->start[list];
    return (ki_codes){postings->codes + start * postings->code_size,
                      postings->factors ? postings->factors + start * postings->n_factors : NULL};
}
static inline const uint32_t *ki_postings_slots(const ki_postings *postings, size_t list)
{
    return postings->slots + postings->start[list];
}

/* Make room for more[l] further rows in list l. KITH_NOMEM: the lists are as they were. */
kith_status ki_postings_reserve(ki_postings *postings, const uint32_t *more, kith_error *err);

/* Append a row; there is room. */
void ki_postings_append(ki_postings *postings, size_t list, uint32_t slot, const uint8_t *code,
                        const float *factor);

/* Take a slot out of a list: the last row of the list takes its place. 0 when it is not there. */
int ki_postings_remove(ki_postings *postings, size_t list, uint32_t slot);

/* The place of a slot in a list, or -1. */
ptrdiff_t ki_postings_find(const ki_postings *postings, size_t list, uint32_t slot);

/* Sections "<prefix>.sizes", ".slots", ".codes", ".factors": the lists one after the other without room, but to whole
 * blocks. */
kith_status ki_postings_save(const ki_postings *postings, const char *prefix, ki_store_writer *writer,
                             kith_error *err);

/* Checked: the sizes add up to the number of rows, and every slot in use stands in the lists exactly once. */
kith_status ki_postings_load(ki_postings *postings, const char *prefix, const ki_codec *codec, int mapped,
                             const ki_rows *rows, ki_store *store, kith_error *err);

/* That every slot in use stands in the lists once, and that the codes are sound. */
kith_status ki_postings_check(const ki_postings *postings, const ki_codec *codec, const ki_rows *rows,
                              int deep, kith_error *err);

uint64_t ki_postings_bytes(const ki_postings *postings);

#endif
