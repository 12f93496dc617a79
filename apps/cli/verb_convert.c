/* verb_convert.c - `kith convert`: a vector file in another format, block by block. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

#include <kith/dataset.h>

struct options {
    const char *from, *to, *element;
    uint64_t skip, limit;
    int signs;
};

enum { BLOCK_BYTES = 4 << 20 }; /* large beside the cost of a call, small beside any memory */

typedef struct conversion {
    kith_dataset *in;
    kith_dataset_writer *out;
    const char *in_path, *out_path;
    size_t dim, block; /* rows of a block */
    void *rows;        /* [block][dim] of uint8, int32 or float */
    uint8_t *bits;     /* --signs: [block][kith_bit_bytes(dim)], else NULL */
} conversion;

/* What to store of elements of a type where the format leaves the choice. */
static kith_element element_like(kith_element stored)
{
    switch (stored) {
    case KITH_ELEMENT_U8: return KITH_ELEMENT_U8;
    case KITH_ELEMENT_F16: return KITH_ELEMENT_F16;
    case KITH_ELEMENT_I8:
    case KITH_ELEMENT_I32:
    case KITH_ELEMENT_I64: return KITH_ELEMENT_I32;
    default: return KITH_ELEMENT_F32;
    }
}

static kith_element element_named(const char *name)
{
    for (int element = KITH_ELEMENT_F32; element <= KITH_ELEMENT_I64; element++)
        if (strcmp(kith_element_name((kith_element)element), name) == 0) return (kith_element)element;
    return KITH_ELEMENT_AUTO;
}

static kith_dataset_format format_named(const char *name)
{
    kith_dataset_format format = KITH_DATASET_AUTO;
    if (name) (void)kith_dataset_format_parse(name, &format, NULL); /* the parser let only known words pass */
    return format;
}

/* n rows as a bit a component, 1 for the positive ones. */
static int pack_block(cli_context *cli, conversion *c, uint64_t first, size_t n)
{
    kith_error err;
    const float *x = c->rows;
    size_t row = kith_bit_bytes(c->dim);
    if (kith_dataset_read_f32(c->in, first, n, c->rows, &err) != KITH_OK)
        return cli_fail_message(cli, c->in_path, &err);
    memset(c->bits, 0, n * row);
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < c->dim; d++)
            c->bits[i * row + d / 8] |= (uint8_t)((x[i * c->dim + d] > 0) << d % 8);
    if (kith_dataset_append_u8(c->out, c->bits, n, &err) != KITH_OK)
        return cli_fail_message(cli, c->out_path, &err);
    return CLI_OK;
}

/* Copy n rows in the type that is written, so that no value takes a detour. */
static int copy_block(cli_context *cli, conversion *c, uint64_t first, size_t n)
{
    kith_error err;
    kith_status status;
    kith_element element = kith_dataset_writer_element(c->out);
    if (element == KITH_ELEMENT_U8)
        status = kith_dataset_read_u8(c->in, first, n, c->rows, &err);
    else if (element == KITH_ELEMENT_I32)
        status = kith_dataset_read_i32(c->in, first, n, c->rows, &err);
    else
        status = kith_dataset_read_f32(c->in, first, n, c->rows, &err);
    if (status != KITH_OK) return cli_fail_message(cli, c->in_path, &err);
    if (element == KITH_ELEMENT_U8)
        status = kith_dataset_append_u8(c->out, c->rows, n, &err);
    else if (element == KITH_ELEMENT_I32)
        status = kith_dataset_append_i32(c->out, c->rows, n, &err);
    else
        status = kith_dataset_append_f32(c->out, c->rows, n, &err);
    return status == KITH_OK ? CLI_OK : cli_fail_message(cli, c->out_path, &err);
}

static int copy_all(cli_context *cli, conversion *c, uint64_t first, uint64_t n)
{
    kith_error err;
    for (uint64_t done = 0; done < n;) {
        size_t rows = n - done < c->block ? (size_t)(n - done) : c->block;
        int status =
            c->bits ? pack_block(cli, c, first + done, rows) : copy_block(cli, c, first + done, rows);
        if (status != CLI_OK) return status;
        if (cli_cancelled(cli)) return cli_fail(cli, NULL, "interrupted");
        done += rows;
        if (cli->run.progress) cli->run.progress(cli->run.progress_ctx, "converting", done, n);
    }
    if (kith_dataset_writer_finish(c->out, &err) != KITH_OK) return cli_fail_message(cli, c->out_path, &err);
    return CLI_OK;
}

static int report(cli_context *cli, const conversion *c, uint64_t n)
{
    const char *element = kith_element_name(kith_dataset_writer_element(c->out));
    size_t dim = c->bits ? kith_bit_bytes(c->dim) : c->dim;
    if (cli->json)
        return cli_json_line(cli, json_pack("{s:o, s:o, s:I, s:I, s:s}", "input", cli_json_text(c->in_path),
                                            "output", cli_json_text(c->out_path), "rows", (json_int_t)n,
                                            "dim", (json_int_t)dim, "element", element));
    cli_note(cli, "%s: %s of %zu %s", c->out_path, cli_counted(n, "row"), dim, element);
    return CLI_OK;
}

static int convert(cli_context *cli, const struct options *o, conversion *c)
{
    kith_error err;
    kith_dataset_writer_options writer;
    int status = cli_dataset_open_as(cli, c->in_path, CLI_ROLE_BASE, format_named(o->from), &c->in);
    if (status != CLI_OK) return status;
    uint64_t rows = kith_dataset_rows(c->in);
    if (o->skip >= rows)
        return cli_fail(cli, c->in_path, "has %llu rows, --skip %llu leaves none", (unsigned long long)rows,
                        (unsigned long long)o->skip);
    uint64_t n = rows - o->skip;
    if (o->limit && o->limit < n) n = o->limit;

    kith_dataset_writer_options_init(&writer);
    writer.format = format_named(o->to);
    if (writer.format == KITH_DATASET_AUTO) writer.format = kith_dataset_format_of_path(c->out_path);
    writer.element = o->element ? element_named(o->element) : KITH_ELEMENT_AUTO;
    if (writer.format == KITH_DATASET_NPY && !o->element)
        writer.element = element_like(kith_dataset_element(c->in));
    if (writer.format == KITH_DATASET_NPY && o->signs) writer.element = KITH_ELEMENT_U8;
    c->dim = kith_dataset_dim(c->in);
    size_t dim = o->signs ? kith_bit_bytes(c->dim) : c->dim;
    if (kith_dataset_writer_create(c->out_path, dim, &writer, &c->out, &err) != KITH_OK)
        return cli_fail_message(cli, c->out_path, &err);
    c->block = BLOCK_BYTES / (c->dim * sizeof(float)) + 1;
    c->rows = malloc(c->block * c->dim * sizeof(float));
    if (o->signs) c->bits = malloc(c->block * dim);
    if (!c->rows || (o->signs && !c->bits)) return cli_fail(cli, c->in_path, "out of memory");
    status = copy_all(cli, c, o->skip, n);
    return status == CLI_OK ? report(cli, c, n) : status;
}

static int run(cli_context *cli, void *options)
{
    conversion c = {.in_path = cli->args[0], .out_path = cli->args[1]};
    int status = convert(cli, options, &c);
    kith_dataset_writer_free(c.out);
    kith_dataset_close(c.in);
    free(c.rows);
    free(c.bits);
    return status;
}

#define FORMATS "fvecs|bvecs|ivecs|fbin|u8bin|npy|text"

const cli_verb verb_convert = {
    .name = "convert",
    .group = CLI_VECTORS,
    .summary = "write a vector file in another format",
    .description =
        "Formats are known by their extensions: fvecs, bvecs, ivecs, fbin, u8bin, npy, and txt, csv, tsv or "
        "vec "
        "for text; hdf5 and h5 are read, FILE:NAME names an array in one (the default is train). OUT appears "
        "whole or not at all.\n\n"
        "Values are kept or refused: a fraction does not fit into bvecs, NaN fits nowhere. Only float16 "
        "rounds. --signs writes bits instead, as `kith build --metric hamming` reads them: a byte holds "
        "eight "
        "components, the first in its lowest bit, 1 for those above zero.",
    .arguments = (const cli_argument[]){{.name = "IN", .help = "the file to read"},
                                        {.name = "OUT", .help = "the file to write"},
                                        {0}},
    .options = (const cli_option[]){{.name = "from",
                                     .kind = CLI_TEXT,
                                     .argument = "FORMAT",
                                     .choices = FORMATS,
                                     .into = offsetof(struct options, from),
                                     .help = "the format of IN, whatever its extension"},
                                    {.name = "to",
                                     .kind = CLI_TEXT,
                                     .argument = "FORMAT",
                                     .choices = FORMATS,
                                     .into = offsetof(struct options, to),
                                     .help = "the format of OUT, whatever its extension"},
                                    {.name = "element",
                                     .kind = CLI_TEXT,
                                     .argument = "TYPE",
                                     .choices = "float32|float16|uint8|int32",
                                     .into = offsetof(struct options, element),
                                     .help = "what an npy file stores; as in IN when not given"},
                                    {.name = "signs",
                                     .kind = CLI_FLAG,
                                     .into = offsetof(struct options, signs),
                                     .help = "write a bit a component, 1 where it is positive"},
                                    {.name = "skip",
                                     .kind = CLI_COUNT,
                                     .argument = "N",
                                     .into = offsetof(struct options, skip),
                                     .help = "leave out the first N rows"},
                                    {.name = "limit",
                                     .kind = CLI_COUNT,
                                     .argument = "N",
                                     .into = offsetof(struct options, limit),
                                     .help = "write N rows at the most; 0 means all"},
                                    {0}},
    .common = CLI_JSON,
    .options_size = sizeof(struct options),
    .examples =
        (const cli_example[]){
            {"kith convert base.bvecs base.npy", "bytes for NumPy"},
            {"kith convert glove-100-angular.hdf5:test query.fvecs", "one array of an HDF5 file"},
            {"kith convert base.fvecs first.csv --limit 1000", "the first thousand rows as a table"},
            {0}},
    .run = run,
};
