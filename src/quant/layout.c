#include "quant/layout.h"

/* Places of row `row`: its first element, and how far it is from one element to the next. */
static size_t place(const ki_layout *layout, size_t row, size_t width, size_t *step)
{
    *step = layout->block ? layout->block : 1;
    if (!layout->block) return row * width;
    return row / layout->block * layout->block * width + row % layout->block;
}

/* Where the bytes of a row that lie together begin. */
static size_t place_together(const ki_layout *layout, size_t row)
{
    size_t in_block = row % layout->block, apart = layout->code_size - layout->together;
    return (row - in_block) * layout->code_size + layout->block * apart + in_block * layout->together;
}

void ki_layout_put(const ki_layout *layout, uint8_t *codes, float *factors, size_t row, const uint8_t *code,
                   const float *factor)
{
    size_t step, at = place(layout, row, layout->code_size, &step),
                 apart = layout->code_size - layout->together;
    if (step == 1)
        memcpy(codes + at, code, apart);
    else
        for (size_t j = 0; j < apart; j++) codes[at + j * step] = code[j];
    if (layout->together) memcpy(codes + place_together(layout, row), code + apart, layout->together);
    at = place(layout, row, layout->n_factors, &step);
    for (size_t f = 0; f < layout->n_factors; f++) factors[at + f * step] = factor[f];
}

void ki_layout_get(const ki_layout *layout, const uint8_t *codes, const float *factors, size_t row,
                   uint8_t *code, float *factor)
{
    size_t step, at = place(layout, row, layout->code_size, &step),
                 apart = layout->code_size - layout->together;
    if (step == 1)
        memcpy(code, codes + at, apart);
    else
        for (size_t j = 0; j < apart; j++) code[j] = codes[at + j * step];
    if (layout->together) memcpy(code + apart, codes + place_together(layout, row), layout->together);
    at = place(layout, row, layout->n_factors, &step);
    for (size_t f = 0; f < layout->n_factors; f++) factor[f] = factors[at + f * step];
}

void ki_layout_move(const ki_layout *layout, uint8_t *codes, float *factors, size_t to, size_t from)
{
    size_t step, source = place(layout, from, layout->code_size, &step),
                 target = place(layout, to, layout->code_size, &step);
    size_t apart = layout->code_size - layout->together;
    if (step == 1)
        memmove(codes + target, codes + source, apart);
    else
        for (size_t j = 0; j < apart; j++) codes[target + j * step] = codes[source + j * step];
    if (layout->together)
        memmove(codes + place_together(layout, to), codes + place_together(layout, from), layout->together);
    source = place(layout, from, layout->n_factors, &step);
    target = place(layout, to, layout->n_factors, &step);
    for (size_t f = 0; f < layout->n_factors; f++) factors[target + f * step] = factors[source + f * step];
}

void ki_layout_clear(const ki_layout *layout, uint8_t *codes, float *factors, size_t first, size_t end)
{
    size_t apart = layout->code_size - layout->together;
    for (size_t row = first; row < end; row++) {
        size_t step, at = place(layout, row, layout->code_size, &step);
        if (step == 1)
            memset(codes + at, 0, apart);
        else
            for (size_t j = 0; j < apart; j++) codes[at + j * step] = 0;
        if (layout->together) memset(codes + place_together(layout, row), 0, layout->together);
        at = place(layout, row, layout->n_factors, &step);
        for (size_t f = 0; f < layout->n_factors; f++) factors[at + f * step] = 0;
    }
}

void ki_layout_tail(size_t block, const void *from, size_t size, size_t together, size_t width, size_t rows,
                    uint8_t *tail)
{
    const uint8_t *source = from;
    size_t apart = block * (size - together);
    memset(tail, 0, block * size);
    for (size_t at = 0; at < apart; at += block * width) memcpy(tail + at, source + at, rows * width);
    if (together) memcpy(tail + apart, source + apart, rows * together);
}

void ki_layout_decode(const ki_codec *codec, ki_codes codes, size_t row, const float *origin, float *out)
{
    ki_layout layout = ki_layout_of(codec);
    if (!layout.block) {
        codec->ops->decode(codec, codes.code + row * codec->code_size,
                           codes.factor ? codes.factor + row * codec->n_factors : NULL, origin, out);
        return;
    }
    uint8_t code[KI_BLOCK_MAX_CODE];
    float factor[KI_BLOCK_MAX_FACTORS];
    ki_layout_get(&layout, codes.code, codes.factor, row, code, factor);
    codec->ops->decode(codec, code, codes.factor ? factor : NULL, origin, out);
}
