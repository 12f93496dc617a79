#include "index/rowcodes.h"

#include <stdio.h>
#include <string.h>

#include "base/checksum.h"
#include "base/error.h"
#include "base/memory.h"
#include "quant/layout.h"

/* Rows that are encoded at a time when they need scratch memory: 16,384 rows of 128 components are 8 MB. */
#define PUT_BLOCK 16384

void ki_row_codes_init(ki_row_codes *rows, const kith_allocator *allocator)
{
    memset(rows, 0, sizeof *rows);
    rows->allocator = allocator;
}

void ki_row_codes_clear(ki_row_codes *rows)
{
    ki_free(rows->allocator, rows->own_code);
    ki_free(rows->allocator, rows->own_factor);
    ki_row_codes_init(rows, rows->allocator);
}

kith_status ki_row_codes_reserve(ki_row_codes *rows, const ki_codec *codec, size_t n_slots, kith_error *err)
{
    if (n_slots > rows->capacity) {
        size_t capacity = rows->capacity == 0 ? n_slots : ki_grown(rows->capacity, n_slots);
        capacity = ki_layout_padded(codec->block, capacity);
        size_t held = ki_layout_padded(codec->block, rows->n_slots);
        uint8_t *code = ki_realloc(rows->allocator, rows->own_code, held, capacity, codec->code_size);
        if (!code) return ki_fail_nomem(err, capacity * codec->code_size);
        rows->own_code = code;
        rows->codes.code = code;
        if (codec->n_factors > 0) {
            size_t size = codec->n_factors * sizeof(float);
            float *factor = ki_realloc(rows->allocator, rows->own_factor, held, capacity, size);
            if (!factor) return ki_fail_nomem(err, capacity * size);
            rows->own_factor = factor;
            rows->codes.factor = factor;
        }
        rows->capacity = capacity;
    }
    return KITH_OK;
}

/* Encode a block and put each code into its slot. */
static kith_status put_block(ki_row_codes *rows, const ki_codec *codec, const float *x, size_t n,
                             const uint32_t *slots, size_t first_slot, uint8_t *code, float *factor,
                             const kith_run *run, kith_error *err)
{
    ki_layout layout = ki_layout_of(codec);
    KI_TRY(codec->ops->encode(codec, x, n, (ki_origins){0}, run, code, factor, err));
    for (size_t i = 0; i < n; i++)
        ki_layout_put(&layout, rows->own_code, rows->own_factor, slots ? slots[i] : first_slot + i,
                      code + i * codec->code_size, factor + i * codec->n_factors);
    return KITH_OK;
}

/* Block by block; straight into their places where these are in a row. */
static kith_status put_blocks(ki_row_codes *rows, const ki_codec *codec, const ki_input *input,
                              const uint32_t *slots, uint32_t first_slot, const kith_run *run,
                              kith_error *err)
{
    const kith_allocator *allocator = rows->allocator;
    size_t block = input->n < PUT_BLOCK ? input->n : PUT_BLOCK;
    float *x = ki_alloc(allocator, input->unit ? block * input->dim : 1, sizeof *x);
    int scattered = slots || codec->block;
    uint8_t *code = ki_alloc(allocator, scattered ? block : 1, codec->code_size);
    float *factor = ki_alloc(allocator, scattered ? block * codec->n_factors : 1, sizeof *factor);
    kith_status status = KITH_OK;
    if (!x || !code || !factor)
        status = ki_fail_nomem(err, block * (input->dim * sizeof *x + codec->code_size));
    for (size_t first = 0; first < input->n && status == KITH_OK; first += block) {
        size_t n = input->n - first < block ? input->n - first : block;
        const float *from = ki_input_block(input, first, n, x);
        size_t slot = first_slot + first;
        if (scattered) {
            status =
                put_block(rows, codec, from, n, slots ? slots + first : NULL, slot, code, factor, run, err);
        } else {
            status = codec->ops->encode(
                codec, from, n, (ki_origins){0}, run, rows->own_code + slot * codec->code_size,
                rows->own_factor ? rows->own_factor + slot * codec->n_factors : NULL, err);
        }
    }
    ki_free(allocator, x);
    ki_free(allocator, code);
    ki_free(allocator, factor);
    return status;
}

/* Rows of bits: their codes need no scratch. */
static void put_bits(ki_row_codes *rows, const ki_codec *codec, const ki_input *input, const uint32_t *slots,
                     uint32_t first_slot)
{
    if (!slots) {
        codec->ops->encode_bits(codec, input->bits, input->n,
                                rows->own_code + (size_t)first_slot * codec->code_size);
        return;
    }
    size_t row = kith_bit_bytes(input->dim);
    for (size_t i = 0; i < input->n; i++)
        codec->ops->encode_bits(codec, input->bits + i * row, 1,
                                rows->own_code + slots[i] * codec->code_size);
}

kith_status ki_row_codes_put(ki_row_codes *rows, const ki_codec *codec, const ki_input *input,
                             const uint32_t *slots, uint32_t first_slot, size_t n_slots, const kith_run *run,
                             kith_error *err)
{
    KI_TRY(ki_row_codes_reserve(rows, codec, n_slots, err));
    if (input->bits)
        put_bits(rows, codec, input, slots, first_slot);
    else
        KI_TRY(put_blocks(rows, codec, input, slots, first_slot, run, err));
    if (n_slots > rows->n_slots) rows->n_slots = n_slots;
    return KITH_OK;
}

void ki_row_codes_erase(ki_row_codes *rows, const ki_codec *codec, const uint32_t *slots, size_t n)
{
    ki_layout layout = ki_layout_of(codec);
    for (size_t i = 0; i < n; i++)
        ki_layout_clear(&layout, rows->own_code, rows->own_factor, slots[i], slots[i] + 1);
}

uint64_t ki_row_hash(const ki_codec *codec, const uint8_t *code, const float *factor)
{
    uint64_t hash = ki_checksum(code, codec->code_size);
    if (codec->n_factors == 0) return hash;
    return ki_checksum_seeded(factor, codec->n_factors * sizeof *factor, hash);
}

int ki_row_equals(const ki_row_codes *rows, const ki_codec *codec, uint32_t slot, const uint8_t *code,
                  const float *factor)
{
    if (memcmp(ki_row_code(rows, codec, slot), code, codec->code_size) != 0) return 0;
    if (codec->n_factors == 0) return 1;
    return memcmp(ki_row_factor(rows, codec, slot), factor, codec->n_factors * sizeof *factor) == 0;
}

/* Codes in blocks: the last block goes out with zeros beyond the rows. */
static kith_status save_section(const ki_row_codes *rows, const ki_codec *codec, const char *name,
                                const void *data, size_t n, size_t size, size_t together, size_t width,
                                ki_store_writer *writer, kith_error *err)
{
    size_t rest = codec->block ? n % codec->block : 0, whole = n - rest;
    if (rest == 0) return ki_store_put(writer, name, data, n, size, err);
    uint8_t *tail = ki_alloc(rows->allocator, codec->block, size);
    if (!tail) return ki_fail_nomem(err, codec->block * size);
    const uint8_t *from = data;
    ki_layout_tail(codec->block, from + whole * size, size, together, width, rest, tail);
    kith_status status = ki_store_begin(writer, name, size, (whole + codec->block) * size, err);
    if (status == KITH_OK && whole > 0) status = ki_store_append(writer, from, whole * size, err);
    if (status == KITH_OK) status = ki_store_append(writer, tail, codec->block * size, err);
    if (status == KITH_OK) status = ki_store_end(writer, err);
    ki_free(rows->allocator, tail);
    return status;
}

kith_status ki_row_codes_save(const ki_row_codes *rows, const ki_codec *codec, const char *prefix,
                              size_t n_slots, ki_store_writer *writer, kith_error *err)
{
    char name[KI_STORE_NAME_BYTES];
    snprintf(name, sizeof name, "%s.codes", prefix);
    KI_TRY(save_section(rows, codec, name, rows->codes.code, n_slots, codec->code_size,
                        ki_layout_of(codec).together, 1, writer, err));
    if (codec->n_factors == 0) return KITH_OK;
    snprintf(name, sizeof name, "%s.factors", prefix);
    return save_section(rows, codec, name, rows->codes.factor, n_slots, codec->n_factors * sizeof(float), 0,
                        sizeof(float), writer, err);
}

/* One section of n elements: where it lies in the map, or a copy. */
static kith_status load_section(ki_row_codes *rows, const char *name, size_t n, size_t size, int mapped,
                                ki_store *store, const void **data, void **own, kith_error *err)
{
    if (mapped) return ki_store_array(store, name, n, size, data, err);
    uint64_t count;
    KI_TRY(ki_store_count(store, name, size, &count, err));
    if (count != n)
        return ki_fail(err, KITH_CORRUPT, "%s: section %s holds %llu rows, not %zu", ki_store_path(store),
                       name, (unsigned long long)count, n);
    void *copy = ki_alloc(rows->allocator, n, size);
    if (!copy) return ki_fail_nomem(err, n * size);
    *own = copy;
    *data = copy;
    return ki_store_load(store, name, n, size, copy, err);
}

kith_status ki_row_codes_load(ki_row_codes *rows, const ki_codec *codec, const char *prefix, size_t n_slots,
                              int mapped, ki_store *store, kith_error *err)
{
    char name[KI_STORE_NAME_BYTES];
    const void *data;
    void *own = NULL;
    size_t held = ki_layout_padded(codec->block, n_slots);
    snprintf(name, sizeof name, "%s.codes", prefix);
    kith_status status = load_section(rows, name, held, codec->code_size, mapped, store, &data, &own, err);
    rows->own_code = own;
    if (status != KITH_OK) return status;
    rows->codes.code = data;
    if (codec->n_factors > 0) {
        own = NULL;
        snprintf(name, sizeof name, "%s.factors", prefix);
        status =
            load_section(rows, name, held, codec->n_factors * sizeof(float), mapped, store, &data, &own, err);
        rows->own_factor = own;
        if (status != KITH_OK) return status;
        rows->codes.factor = data;
    }
    rows->n_slots = n_slots;
    rows->capacity = mapped ? 0 : held;
    return codec->ops->check ? codec->ops->check(codec, rows->codes, n_slots, 0, err) : KITH_OK;
}

kith_status ki_row_codes_check(const ki_row_codes *rows, const ki_codec *codec, size_t n_slots,
                               kith_error *err)
{
    if (rows->n_slots < n_slots)
        return ki_fail(err, KITH_CORRUPT, "%zu codes for %zu slots", rows->n_slots, n_slots);
    return codec->ops->check ? codec->ops->check(codec, rows->codes, n_slots, 1, err) : KITH_OK;
}

uint64_t ki_row_codes_bytes(const ki_row_codes *rows, const ki_codec *codec)
{
    return (uint64_t)ki_layout_padded(codec->block, rows->n_slots) *
           (codec->code_size + codec->n_factors * sizeof(float));
}
