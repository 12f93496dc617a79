/* rowcodes.h - codes by slot: row i of the array is the row of slot i. What Flat scans, and what a refinement
 * looks up. In memory of our own, or in a mapped file; in blocks where the codec wants that (quant/layout.h), and then
 * single codes come by ki_layout_get or ki_layout_decode, not by ki_row_code. */
#ifndef KI_INDEX_ROWCODES_H
#define KI_INDEX_ROWCODES_H

#include "index/family.h"

typedef struct ki_row_codes {
    const kith_allocator *allocator;
    ki_codes codes;    /* [n_slots] */
    uint8_t *own_code; /* the same where they are ours, NULL when mapped */
    float *own_factor;
    size_t capacity; /* slots there is room for */
    size_t n_slots;  /* slots that were written; may be more than the index counts after an add that failed */
} ki_row_codes;

void ki_row_codes_init(ki_row_codes *rows, const kith_allocator *allocator);
void ki_row_codes_clear(ki_row_codes *rows);

/* Room for n_slots slots; put does it by itself. KITH_NOMEM: what is there stays. */
kith_status ki_row_codes_reserve(ki_row_codes *rows, const ki_codec *codec, size_t n_slots, kith_error *err);

/* Encode rows into their slots (slots NULL: first_slot + i), all below n_slots. After a failure the rows that
 * were there are as they were, and slots not in use may hold anything. */
kith_status ki_row_codes_put(ki_row_codes *rows, const ki_codec *codec, const ki_input *input,
                             const uint32_t *slots, uint32_t first_slot, size_t n_slots, const kith_run *run,
                             kith_error *err);

/* Zero the codes of removed rows: what was removed is not written to files. */
void ki_row_codes_erase(ki_row_codes *rows, const ki_codec *codec, const uint32_t *slots, size_t n);

static inline const uint8_t *ki_row_code(const ki_row_codes *rows, const ki_codec *codec, uint32_t slot)
{
    return rows->codes.code + (size_t)slot * codec->code_size;
}
static inline const float *ki_row_factor(const ki_row_codes *rows, const ki_codec *codec, uint32_t slot)
{
    return rows->codes.factor ? rows->codes.factor + (size_t)slot * codec->n_factors : NULL;
}

/* A hash of a code and its factors (NULL where the codec has none), and whether a slot holds just these. Codes alone do
 * not tell rows apart: those of RaBitQ are directions, and lengths are factors. */
uint64_t ki_row_hash(const ki_codec *codec, const uint8_t *code, const float *factor);
int ki_row_equals(const ki_row_codes *rows, const ki_codec *codec, uint32_t slot, const uint8_t *code,
                  const float *factor);

/* Sections "<prefix>.codes" and "<prefix>.factors". */
kith_status ki_row_codes_save(const ki_row_codes *rows, const ki_codec *codec, const char *prefix,
                              size_t n_slots, ki_store_writer *writer, kith_error *err);
kith_status ki_row_codes_load(ki_row_codes *rows, const ki_codec *codec, const char *prefix, size_t n_slots,
                              int mapped, ki_store *store, kith_error *err);

/* The codes of n_slots slots, as deep as they can be proved. */
kith_status ki_row_codes_check(const ki_row_codes *rows, const ki_codec *codec, size_t n_slots,
                               kith_error *err);

uint64_t ki_row_codes_bytes(const ki_row_codes *rows, const ki_codec *codec);

#endif
