#include "index/postings.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/bitset.h"
#include "base/error.h"
#include "base/memory.h"
#include "quant/layout.h"

kith_status ki_postings_init(ki_postings *p, size_t n_lists, const ki_codec *codec,
                             const kith_allocator *allocator, kith_error *err)
{
    memset(p, 0, sizeof *p);
    p->allocator = allocator;
    p->n_lists = n_lists;
    p->code_size = codec->code_size;
    p->n_factors = codec->n_factors;
    p->block = codec->block;
    p->together = codec->block ? codec->together : 0;
    p->start = ki_alloc_zero(allocator, n_lists, sizeof *p->start);
    p->size = ki_alloc_zero(allocator, n_lists, sizeof *p->size);
    p->room = ki_alloc_zero(allocator, n_lists, sizeof *p->room);
    if (!p->start || !p->size || !p->room)
        return ki_fail_nomem(err, n_lists * (sizeof *p->start + sizeof *p->size + sizeof *p->room));
    return KITH_OK;
}

static void drop_rows(ki_postings *p)
{
    ki_free(p->allocator, p->own_slots);
    ki_free(p->allocator, p->own_codes);
    ki_free(p->allocator, p->own_factors);
}

void ki_postings_clear(ki_postings *p)
{
    drop_rows(p);
    ki_free(p->allocator, p->start);
    ki_free(p->allocator, p->size);
    ki_free(p->allocator, p->room);
    memset(p, 0, sizeof *p);
}

/* ---- Room ---- */

/* What the arrays grow by when lists move to their end, and the part of them that gaps may take, or lists that move at once
 * (arbitrary: memory against copies). */
#define GROWTH 8
#define MOST_GAPS 4

static ki_layout layout_of(const ki_postings *p)
{
    return (ki_layout){p->block, p->code_size, p->n_factors, p->together};
}

/* Room for a list that will hold `need` rows: exactly that in the first layout, a quarter more later; whole blocks. */
static uint32_t room_for(const ki_postings *p, uint32_t need, int first)
{
    uint64_t room = first || need == 0 ? need : (uint64_t)need + need / 4 + 4;
    room = ki_layout_padded(p->block, room);
    uint64_t most = p->block ? UINT32_MAX / p->block * p->block : UINT32_MAX;
    return room > most ? (uint32_t)most : (uint32_t)room;
}

/* Three arrays for `positions` rows. */
static int alloc_rows(const ki_postings *p, size_t positions, uint32_t **slots, uint8_t **codes,
                      float **factors)
{
    *slots = ki_alloc(p->allocator, positions, sizeof **slots);
    *codes = ki_alloc(p->allocator, positions, p->code_size);
    *factors = p->n_factors ? ki_alloc(p->allocator, positions, p->n_factors * sizeof **factors) : NULL;
    if (*slots && *codes && (*factors || !p->n_factors)) return 1;
    ki_free(p->allocator, *slots);
    ki_free(p->allocator, *codes);
    ki_free(p->allocator, *factors);
    return 0;
}

/* Positions from .. from + n - 1 of the arrays to `at` of others. */
static void copy_positions(const ki_postings *p, uint64_t from, size_t n, uint32_t *slots, uint8_t *codes,
                           float *factors, uint64_t at)
{
    if (n == 0) return;
    memcpy(slots + at, p->own_slots + from, n * sizeof *slots);
    memcpy(codes + at * p->code_size, p->own_codes + from * p->code_size, n * p->code_size);
    if (factors)
        memcpy(factors + at * p->n_factors, p->own_factors + from * p->n_factors,
               n * p->n_factors * sizeof *factors);
}

static void take_rows(ki_postings *p, size_t positions, uint32_t *slots, uint8_t *codes, float *factors)
{
    drop_rows(p);
    p->slots = p->own_slots = slots;
    p->codes = p->own_codes = codes;
    p->factors = p->own_factors = factors;
    p->positions = positions;
}

static kith_status no_memory(const ki_postings *p, size_t positions, kith_error *err)
{
    return ki_fail_nomem(err,
                         positions * (sizeof *p->slots + p->code_size + p->n_factors * sizeof *p->factors));
}

/* All lists anew, one after the other without gaps. */
static kith_status lay_out(ki_postings *p, const uint32_t *more, kith_error *err)
{
    int first = p->own_slots == NULL;
    size_t positions = 0;
    uint32_t *slots;
    uint8_t *codes;
    float *factors;
    for (size_t l = 0; l < p->n_lists; l++) positions += room_for(p, p->size[l] + more[l], first);
    if (!alloc_rows(p, positions, &slots, &codes, &factors)) return no_memory(p, positions, err);
    uint64_t at = 0;
    for (size_t l = 0; l < p->n_lists; l++) {
        copy_positions(p, p->start[l], ki_layout_padded(p->block, p->size[l]), slots, codes, factors, at);
        p->start[l] = at;
        p->room[l] = room_for(p, p->size[l] + more[l], first);
        at += p->room[l];
    }
    take_rows(p, positions, slots, codes, factors);
    p->used = at;
    p->gaps = 0;
    return KITH_OK;
}

static int overflows(const ki_postings *p, const uint32_t *more, size_t l)
{
    return more[l] > p->room[l] - p->size[l];
}

/* The room of a list that moves: twice what it needs. */
static uint32_t room_to_grow(const ki_postings *p, uint32_t need)
{
    return room_for(p, need > UINT32_MAX / 2 ? UINT32_MAX : 2 * need, 1);
}

/* The lists that overflow to the end, which takes `need` positions. */
static kith_status move_lists(ki_postings *p, const uint32_t *more, uint64_t need, kith_error *err)
{
    if (p->positions - p->used < need) {
        uint64_t positions = p->positions + p->positions / GROWTH;
        uint32_t *slots;
        uint8_t *codes;
        float *factors;
        if (positions < p->used + need) positions = p->used + need;
        if (!alloc_rows(p, positions, &slots, &codes, &factors)) return no_memory(p, positions, err);
        copy_positions(p, 0, p->used, slots, codes, factors, 0);
        take_rows(p, positions, slots, codes, factors);
    }
    for (size_t l = 0; l < p->n_lists; l++) {
        if (!overflows(p, more, l)) continue;
        copy_positions(p, p->start[l], ki_layout_padded(p->block, p->size[l]), p->own_slots, p->own_codes,
                       p->own_factors, p->used);
        p->gaps += p->room[l];
        p->start[l] = p->used;
        p->room[l] = room_to_grow(p, p->size[l] + more[l]);
        p->used += p->room[l];
    }
    return KITH_OK;
}

kith_status ki_postings_reserve(ki_postings *p, const uint32_t *more, kith_error *err)
{
    uint64_t need = 0, gaps = p->gaps;
    int fits = 1;
    for (size_t l = 0; l < p->n_lists; l++) {
        if (!overflows(p, more, l)) continue;
        fits = 0;
        need += room_to_grow(p, p->size[l] + more[l]);
        gaps += p->room[l];
    }
    if (fits) return KITH_OK;
    if (!p->own_slots || gaps > p->positions / MOST_GAPS || need > p->positions / MOST_GAPS)
        return lay_out(p, more, err);
    return move_lists(p, more, need, err);
}

/* ---- Rows in and out ---- */

void ki_postings_append(ki_postings *p, size_t list, uint32_t slot, const uint8_t *code, const float *factor)
{
    assert(p->size[list] < p->room[list]);
    uint64_t at = p->start[list] + p->size[list]++;
    ki_layout layout = layout_of(p);
    p->own_slots[at] = slot;
    ki_layout_put(&layout, p->own_codes, p->own_factors, at, code, factor);
}

ptrdiff_t ki_postings_find(const ki_postings *p, size_t list, uint32_t slot)
{
    const uint32_t *slots = ki_postings_slots(p, list);
    for (size_t i = 0; i < p->size[list]; i++)
        if (slots[i] == slot) return (ptrdiff_t)i;
    return -1;
}

int ki_postings_remove(ki_postings *p, size_t list, uint32_t slot)
{
    ptrdiff_t place = ki_postings_find(p, list, slot);
    if (place < 0) return 0;
    uint64_t at = p->start[list] + (uint64_t)place, last = p->start[list] + --p->size[list];
    if (at == last) return 1;
    ki_layout layout = layout_of(p);
    p->own_slots[at] = p->own_slots[last];
    ki_layout_move(&layout, p->own_codes, p->own_factors, at, last);
    return 1;
}

/* ---- Save, load, check ---- */

/* Positions of all lists in a file. */
static uint64_t saved_positions(const ki_postings *p)
{
    uint64_t n = 0;
    for (size_t l = 0; l < p->n_lists; l++) n += ki_layout_padded(p->block, p->size[l]);
    return n;
}

/* One array of all lists, without the room between them. In blocks: elements of `width` bytes, `size` / `width` of them
 * a row, interleaved; tail[block * size] is scratch for the last block of a list, zero beyond its rows. */
static kith_status save_array(const ki_postings *p, const char *prefix, const char *what, const void *data,
                              size_t size, size_t together, size_t width, uint8_t *tail,
                              ki_store_writer *writer, kith_error *err)
{
    char name[KI_STORE_NAME_BYTES];
    snprintf(name, sizeof name, "%s.%s", prefix, what);
    KI_TRY(ki_store_begin(writer, name, size, saved_positions(p) * size, err));
    for (size_t l = 0; l < p->n_lists; l++) {
        const uint8_t *from = (const uint8_t *)data + p->start[l] * size;
        size_t rest = p->block ? p->size[l] % p->block : 0, whole = p->size[l] - rest;
        if (whole > 0) KI_TRY(ki_store_append(writer, from, whole * size, err));
        if (rest == 0) continue;
        ki_layout_tail(p->block, from + whole * size, size, together, width, rest, tail);
        KI_TRY(ki_store_append(writer, tail, p->block * size, err));
    }
    return ki_store_end(writer, err);
}

static kith_status save_arrays(const ki_postings *p, const char *prefix, uint8_t *tail,
                               ki_store_writer *writer, kith_error *err)
{
    size_t slot = sizeof *p->slots, factor = sizeof *p->factors;
    KI_TRY(save_array(p, prefix, "slots", p->slots, slot, 0, slot, tail, writer, err));
    KI_TRY(save_array(p, prefix, "codes", p->codes, p->code_size, p->together, 1, tail, writer, err));
    if (p->n_factors == 0) return KITH_OK;
    return save_array(p, prefix, "factors", p->factors, p->n_factors * factor, 0, factor, tail, writer, err);
}

kith_status ki_postings_save(const ki_postings *p, const char *prefix, ki_store_writer *writer,
                             kith_error *err)
{
    char name[KI_STORE_NAME_BYTES];
    snprintf(name, sizeof name, "%s.sizes", prefix);
    KI_TRY(ki_store_put(writer, name, p->size, p->n_lists, sizeof *p->size, err));
    uint8_t *tail = ki_alloc(p->allocator, p->block, ki_layout_tail_bytes(p->code_size, p->n_factors));
    if (!tail) return ki_fail_nomem(err, p->block * p->code_size);
    kith_status status = save_arrays(p, prefix, tail, writer, err);
    ki_free(p->allocator, tail);
    return status;
}

/* An array of n elements: a view of the map, or read into `own`. */
static kith_status load_array(const char *prefix, const char *what, size_t n, size_t size, void *own,
                              ki_store *store, const void **view, kith_error *err)
{
    char name[KI_STORE_NAME_BYTES];
    snprintf(name, sizeof name, "%s.%s", prefix, what);
    if (!own) return ki_store_array(store, name, n, size, view, err);
    *view = own;
    return ki_store_load(store, name, n, size, own, err);
}

kith_status ki_postings_load(ki_postings *p, const char *prefix, const ki_codec *codec, int mapped,
                             const ki_rows *rows, ki_store *store, kith_error *err)
{
    const void *view;
    KI_TRY(load_array(prefix, "sizes", p->n_lists, sizeof *p->size, p->size, store, &view, err));
    uint64_t n = 0, held_rows = 0; /* positions, rows */
    for (size_t l = 0; l < p->n_lists; l++) {
        uint64_t padded = ki_layout_padded(p->block, p->size[l]);
        if (padded > UINT32_MAX)
            return ki_fail(err, KITH_CORRUPT, "%s: list %zu of %u rows", ki_store_path(store), l, p->size[l]);
        p->start[l] = n;
        p->room[l] = (uint32_t)padded;
        n += padded;
        held_rows += p->size[l];
    }
    if (held_rows != rows->n)
        return ki_fail(err, KITH_CORRUPT, "%s: lists of %llu rows, %zu in the index", ki_store_path(store),
                       (unsigned long long)held_rows, rows->n);
    if (!mapped) {
        char name[KI_STORE_NAME_BYTES];
        uint64_t held; /* before anything is allocated: whether the file holds so much */
        snprintf(name, sizeof name, "%s.codes", prefix);
        KI_TRY(ki_store_count(store, name, p->code_size, &held, err));
        if (held != n)
            return ki_fail(err, KITH_CORRUPT, "%s: %llu codes for %zu rows", ki_store_path(store),
                           (unsigned long long)held, rows->n);
        if (!alloc_rows(p, n, &p->own_slots, &p->own_codes, &p->own_factors)) {
            p->own_slots = NULL, p->own_codes = NULL, p->own_factors = NULL;
            return ki_fail_nomem(err, n * (sizeof *p->own_slots + p->code_size));
        }
        p->positions = p->used = n;
    }
    KI_TRY(load_array(prefix, "slots", n, sizeof *p->slots, p->own_slots, store, &view, err));
    p->slots = view;
    KI_TRY(load_array(prefix, "codes", n, p->code_size, p->own_codes, store, &view, err));
    p->codes = view;
    if (p->n_factors > 0) {
        KI_TRY(load_array(prefix, "factors", n, p->n_factors * sizeof *p->factors, p->own_factors, store,
                          &view, err));
        p->factors = view;
    }
    kith_status status = ki_postings_check(p, codec, rows, 0, err);
    if (status == KITH_CORRUPT) ki_error_prefix(err, "%s", ki_store_path(store));
    return status;
}

/* Each slot in use once: as many as there are rows, all different, all in use. */
static kith_status check_slots(const ki_postings *p, const ki_rows *rows, kith_error *err)
{
    size_t words = ki_bits_words(rows->n_slots), n = 0;
    uint64_t *seen = ki_alloc_zero(p->allocator, words, sizeof *seen);
    if (!seen) return ki_fail_nomem(err, words * sizeof *seen);
    kith_status status = KITH_OK;
    for (size_t l = 0; l < p->n_lists && status == KITH_OK; l++) {
        const uint32_t *slots = ki_postings_slots(p, l);
        for (size_t i = 0; i < p->size[l] && status == KITH_OK; i++, n++) {
            uint32_t slot = slots[i];
            if (slot >= rows->n_slots || !ki_rows_used(rows, slot))
                status = ki_fail(err, KITH_CORRUPT, "list %zu holds slot %u, which no row has", l, slot);
            else if (ki_bits_get(seen, slot))
                status = ki_fail(err, KITH_CORRUPT, "slot %u stands in list %zu and once before", slot, l);
            else
                ki_bits_set(seen, slot);
        }
    }
    ki_free(p->allocator, seen);
    if (status == KITH_OK && n != rows->n)
        status = ki_fail(err, KITH_CORRUPT, "%zu rows in the lists, %zu in the index", n, rows->n);
    return status;
}

kith_status ki_postings_check(const ki_postings *p, const ki_codec *codec, const ki_rows *rows, int deep,
                              kith_error *err)
{
    KI_TRY(check_slots(p, rows, err));
    if (!codec->ops->check) return KITH_OK;
    for (size_t l = 0; l < p->n_lists; l++) {
        if (p->size[l] == 0) continue;
        kith_status status = codec->ops->check(codec, ki_postings_codes(p, l), p->size[l], deep, err);
        if (status != KITH_OK) {
            ki_error_prefix(err, "list %zu", l);
            return status;
        }
    }
    return KITH_OK;
}

uint64_t ki_postings_bytes(const ki_postings *p)
{
    size_t row = sizeof *p->slots + p->code_size + p->n_factors * sizeof *p->factors;
    uint64_t positions = p->positions;
    for (size_t l = 0; l < p->n_lists && !p->own_slots; l++) positions += p->room[l]; /* mapped */
    return positions * row + p->n_lists * (sizeof *p->start + sizeof *p->size + sizeof *p->room);
}
