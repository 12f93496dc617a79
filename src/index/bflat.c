/* bflat.c - rows of bits, every one compared.
 *
 * The idea. Rows lie one after the other as they came, dim / 8 bytes each. A query goes through all of them, 256 at a
 * time: the kernel counts the bits that differ (VPOPCNTDQ where the machine has it: 64 bytes of rows an instruction),
 * and the k smallest counts are kept. The answer is exact, and it is the yardstick of the other families over bits.
 * There is no arithmetic to speak of: the scan runs as fast as memory is read, and a row of 64 bits is an eighth of
 * the bytes of a product-quantised one of usual size, a 64th of a float32 row of 128 components.
 *
 * Paper. None: it is what "Hamming ranking" means everywhere. Counting bits in registers: W. Mula, N. Kurz,
 * D. Lemire, "Faster population counts using AVX2 instructions", The Computer Journal 61(1), 2018.
 *
 * Layout:      code[n_slots][code_size]; removed rows are zeroed holes.
 *
 * Invariants:
 *   B1  there are as many codes as slots
 *   B2  bits of the last byte beyond dim are zero
 *
 * Cost:        n * dim / 8 bytes read once a query; memory: the same.
 * Sections:    "bflat.codes".
 */
#include "index/rowcodes.h"

#include "base/error.h"
#include "base/memory.h"

#define PREFIX "bflat"

typedef struct bflat {
    ki_structure base;
    ki_row_codes rows;
} bflat;

struct ki_scratch {
    ki_scorer *scorer;
};

static kith_status bflat_create(const ki_structure_env *env, ki_structure **structure, kith_error *err)
{
    *structure = NULL;
    bflat *f = ki_alloc_zero(env->allocator, 1, sizeof *f);
    if (!f) return ki_fail_nomem(err, sizeof *f);
    f->base.env = env;
    ki_row_codes_init(&f->rows, env->allocator);
    *structure = &f->base;
    return KITH_OK;
}

static void bflat_free(ki_structure *structure)
{
    ki_row_codes_clear(&((bflat *)structure)->rows);
    ki_free(structure->env->allocator, structure);
}

/* ---- Rows in and out ---- */

static kith_status bflat_add(ki_structure *structure, const ki_input *input, const uint32_t *slots,
                             uint32_t first_slot, size_t n_slots, const kith_run *run, kith_error *err)
{
    return ki_row_codes_put(&((bflat *)structure)->rows, structure->env->codec, input, slots, first_slot,
                            n_slots, run, err);
}

static void bflat_remove(ki_structure *structure, const uint32_t *slots, size_t n)
{
    ki_row_codes_erase(&((bflat *)structure)->rows, structure->env->codec, slots, n);
}

static void bflat_decode_bits(const ki_structure *structure, uint32_t slot, uint8_t *out)
{
    const ki_codec *codec = structure->env->codec;
    codec->ops->decode_bits(codec, ki_row_code(&((const bflat *)structure)->rows, codec, slot), out);
}

/* ---- Search ---- */

static kith_status bflat_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err)
{
    return ki_scratch_make(structure, sizeof **scratch, scratch, err);
}

static void bflat_scratch_free(const ki_structure *structure, ki_scratch *scratch)
{
    ki_scorer_free(scratch->scorer);
    ki_free(structure->env->allocator, scratch);
}

static void bflat_search(const ki_structure *structure, ki_scratch *scratch, ki_query *query)
{
    const bflat *f = (const bflat *)structure;
    scratch->scorer->ops->query_bits(scratch->scorer, query->bits);
    ki_query_scan(query, scratch->scorer, f->rows.codes, NULL, 0, query->rows->n_slots);
}

/* ---- Save, load, check ---- */

static kith_status bflat_save(const ki_structure *structure, size_t n_slots, ki_store_writer *writer,
                              kith_error *err)
{
    return ki_row_codes_save(&((const bflat *)structure)->rows, structure->env->codec, PREFIX, n_slots,
                             writer, err);
}

static kith_status bflat_load(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                              kith_error *err)
{
    return ki_row_codes_load(&((bflat *)structure)->rows, structure->env->codec, PREFIX, rows->n_slots,
                             mapped, store, err);
}

static kith_status bflat_check(const ki_structure *structure, const ki_rows *rows, kith_error *err)
{
    kith_status status =
        ki_row_codes_check(&((const bflat *)structure)->rows, structure->env->codec, rows->n_slots, err);
    if (status != KITH_OK) ki_error_prefix(err, "B1, B2");
    return status;
}

static uint64_t bflat_bytes(const ki_structure *structure)
{
    return ki_row_codes_bytes(&((const bflat *)structure)->rows, structure->env->codec);
}

static const ki_structure_ops bflat_ops = {
    .create = bflat_create,
    .free = bflat_free,
    .add = bflat_add,
    .remove = bflat_remove,
    .decode_bits = bflat_decode_bits,
    .scratch_create = bflat_scratch_create,
    .scratch_free = bflat_scratch_free,
    .search = bflat_search,
    .save = bflat_save,
    .load = bflat_load,
    .check = bflat_check,
    .bytes = bflat_bytes,
};

const ki_structure_part ki_structure_bflat = {
    .part = {.info = {.pattern = "BFlat",
                      .about =
                          "structure over bits: every row is compared; exact, at the speed of memory up to "
                          "some million rows"}},
    .metrics = KI_METRIC_BIT(KITH_HAMMING),
    .ops = &bflat_ops,
    .codec = &ki_codec_part_bits,
};
