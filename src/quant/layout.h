/* layout.h - where the code of a row lies among others: row after row, or in blocks of rows.
 *
 * Row-major (block 0): row p is code[p * code_size ..], factor[p * n_factors ..].
 *
 * In blocks (block 32, KI_BLOCK_ROWS): byte j of row p lies at
 *
 *     code + (p / 32) * 32 * code_size + 32 * j + p % 32          and factor f, counted in floats, at
 *     factor + (p / 32) * 32 * n_factors + 32 * f + p % 32
 *
 * so a register loaded at byte j holds that byte of 32 rows, which is what look-ups in registers take. With one
 * factor a row both layouts have the factors in the same places. Arrays are whole blocks long (ki_layout_padded), the last
 * may be read to its end, and what begins a list begins a block. Rows beyond the last one hold anything in memory and
 * zeros in files.
 *
 * The last codec->together bytes of a code are not interleaved: behind the block's other bytes they lie row after row, byte
 * j of them at code + (p / 32) * 32 * code_size + 32 * (code_size - together) + p % 32 * together + j, so that looking
 * further into a few rows of a block costs a line or two each. */
#ifndef KI_QUANT_LAYOUT_H
#define KI_QUANT_LAYOUT_H

#include <string.h>

#include "quant/codec.h"

/* Codes up to this long can be in blocks: a row is put together on the stack. */
#define KI_BLOCK_MAX_CODE 16384
#define KI_BLOCK_MAX_FACTORS 8

typedef struct ki_layout {
    size_t block; /* 0 or KI_BLOCK_ROWS */
    size_t code_size, n_factors;
    size_t together; /* bytes at the end of a code; 0 without blocks */
} ki_layout;

static inline ki_layout ki_layout_of(const ki_codec *codec)
{
    return (ki_layout){codec->block, codec->code_size, codec->n_factors, codec->block ? codec->together : 0};
}

/* Rows for which an array of n rows has room. */
static inline size_t ki_layout_padded(size_t block, size_t n)
{
    return block ? (n + block - 1) / block * block : n;
}

/* Row `row` of arrays in this layout from, and to, one code as encode makes it and decode takes it. factor is not looked
 * at where there are none. */
void ki_layout_put(const ki_layout *layout, uint8_t *codes, float *factors, size_t row, const uint8_t *code,
                   const float *factor);
void ki_layout_get(const ki_layout *layout, const uint8_t *codes, const float *factors, size_t row,
                   uint8_t *code, float *factor);

/* Row `from` over row `to` of the same arrays. */
void ki_layout_move(const ki_layout *layout, uint8_t *codes, float *factors, size_t to, size_t from);

/* Rows first .. end - 1 become zeros. */
void ki_layout_clear(const ki_layout *layout, uint8_t *codes, float *factors, size_t first, size_t end);

/* The last block of an array with rows left in it, copied to tail[block * size], zeros in the places of the others: what
 * goes into files. Elements of `width` bytes, (size - together) / width of them a row, and together. ki_layout_tail_bytes: the largest size that an
 * array of an index has (slots, codes, factors). */
void ki_layout_tail(size_t block, const void *from, size_t size, size_t together, size_t width, size_t rows,
                    uint8_t *tail);
static inline size_t ki_layout_tail_bytes(size_t code_size, size_t n_factors)
{
    size_t size = code_size > sizeof(uint32_t) ? code_size : sizeof(uint32_t);
    return size > n_factors * sizeof(float) ? size : n_factors * sizeof(float);
}

/* codec->ops->decode of row `row`. */
void ki_layout_decode(const ki_codec *codec, ki_codes codes, size_t row, const float *origin, float *out);

#endif
