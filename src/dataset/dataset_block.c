/* Formats whose rows are one block behind a header: fbin and u8bin (rows and dim as uint32; Simhadri et al.,
 * "Results of the NeurIPS'21 challenge on billion-scale approximate nearest neighbor search", 2022) and npy
 * (NumPy's NEP 1: a magic, a version, and a Python dictionary as text). */
#include "dataset/dataset_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

/* ---- the block ---- */

typedef struct block {
    const ki_dataset_file *file;
    uint64_t data_offset;
    size_t row_bytes;
} block;

static kith_status block_read(void *ctx, uint64_t first, size_t n, void *rows, kith_error *err)
{
    const block *b = ctx;
    return ki_dataset_file_read(b->file, b->data_offset + first * b->row_bytes, rows, n * b->row_bytes, err);
}

static void block_close(void *ctx)
{
    block *b = ctx;
    ki_free(b->file->allocator, b);
}

kith_status ki_dataset_block(const ki_dataset_file *file, uint64_t data_offset, kith_dataset_source *source,
                             kith_error *err)
{
    block *b = ki_alloc(file->allocator, 1, sizeof *b);
    if (!b) return ki_fail_nomem(err, sizeof *b);
    *b = (block){file, data_offset, source->dim * kith_element_bytes(source->element)};
    source->ctx = b;
    source->read = block_read;
    source->close = block_close;
    return KITH_OK;
}

kith_status ki_dataset_open_bin(const ki_dataset_file *file, kith_element element,
                                kith_dataset_source *source, kith_error *err)
{
    uint32_t head[2]; /* rows, dim */
    KI_TRY(ki_dataset_file_read(file, 0, head, sizeof head, err));
    KI_TRY(ki_dataset_check_size(file, sizeof head, head[0], head[1], element, err));
    source->rows = head[0];
    source->dim = head[1];
    source->element = element;
    return ki_dataset_block(file, sizeof head, source, err);
}

/* ---- npy ---- */

#define NPY_MAGIC "\x93NUMPY"
#define NPY_MAGIC_BYTES 6
#define NPY_TEXT_MAX 65536 /* of the dictionary; NumPy itself writes some 118 bytes */

/* The dictionary, walked from left to right. */
typedef struct cursor {
    const char *at, *end;
} cursor;

static void skip_space(cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t')) c->at++;
}

/* Whether the next thing is `text`; steps over it. */
static int take(cursor *c, const char *text)
{
    size_t length = strlen(text);
    skip_space(c);
    if ((size_t)(c->end - c->at) < length || memcmp(c->at, text, length) != 0) return 0;
    c->at += length;
    return 1;
}

/* A quoted string without escapes, into text[size]. */
static int take_string(cursor *c, char *text, size_t size)
{
    skip_space(c);
    if (c->at == c->end || (*c->at != '\'' && *c->at != '"')) return 0;
    const char *end = memchr(c->at + 1, *c->at, (size_t)(c->end - c->at - 1));
    if (!end || (size_t)(end - c->at - 1) >= size) return 0;
    memcpy(text, c->at + 1, (size_t)(end - c->at - 1));
    text[end - c->at - 1] = 0;
    c->at = end + 1;
    return 1;
}

static int take_number(cursor *c, uint64_t *number)
{
    skip_space(c);
    const char *start = c->at;
    *number = 0;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++)
        if (__builtin_mul_overflow(*number, (uint64_t)10, number) ||
            __builtin_add_overflow(*number, (uint64_t)(*c->at - '0'), number))
            return 0;
    return c->at > start;
}

typedef struct npy_head {
    char descr[16];
    int fortran;
    uint64_t rows, dim; /* dim: the product of the axes behind the first */
    size_t axes;
    unsigned seen; /* bit 0 descr, 1 fortran_order, 2 shape */
} npy_head;

/* "(60000, 28, 28)" */
static int take_shape(cursor *c, npy_head *head)
{
    head->dim = 1;
    if (!take(c, "(")) return 0;
    while (!take(c, ")")) {
        uint64_t length;
        if (!take_number(c, &length)) return 0;
        if (head->axes++ == 0)
            head->rows = length;
        else if (__builtin_mul_overflow(head->dim, length, &head->dim))
            return 0;
        if (!take(c, ",")) return take(c, ")");
    }
    return 1;
}

/* The three entries, in any order, each once. */
static int take_dictionary(cursor *c, npy_head *head)
{
    char key[16];
    if (!take(c, "{")) return 0;
    while (!take(c, "}")) {
        unsigned bit;
        int read = take_string(c, key, sizeof key) && take(c, ":");
        if (!read) return 0;
        if (strcmp(key, "descr") == 0) {
            bit = 1;
            read = take_string(c, head->descr, sizeof head->descr);
        } else if (strcmp(key, "fortran_order") == 0) {
            bit = 2;
            head->fortran = take(c, "True");
            read = head->fortran || take(c, "False");
        } else if (strcmp(key, "shape") == 0) {
            bit = 4;
            read = take_shape(c, head);
        } else {
            return 0;
        }
        if (!read || head->seen & bit) return 0;
        head->seen |= bit;
        if (!take(c, ",")) {
            if (!take(c, "}")) return 0;
            break;
        }
    }
    skip_space(c);
    return head->seen == 7 && c->at == c->end;
}

static const struct npy_type {
    const char *descr;
    kith_element element;
} npy_types[] = {
    {"<f4", KITH_ELEMENT_F32}, {"<f2", KITH_ELEMENT_F16}, {"<f8", KITH_ELEMENT_F64}, {"|u1", KITH_ELEMENT_U8},
    {"|i1", KITH_ELEMENT_I8},  {"<i4", KITH_ELEMENT_I32}, {"<i8", KITH_ELEMENT_I64},
};
#define NPY_TYPES (sizeof npy_types / sizeof *npy_types)

static kith_status npy_element(const char *path, const npy_head *head, kith_element *element, kith_error *err)
{
    if (head->descr[0] == '>')
        return ki_fail(err, KITH_FORMAT, "%s: is big-endian ('%s')", path, head->descr);
    for (size_t i = 0; i < NPY_TYPES; i++)
        if (strcmp(head->descr, npy_types[i].descr) == 0) {
            *element = npy_types[i].element;
            return KITH_OK;
        }
    return ki_fail(err, KITH_UNSUPPORTED, "%s: has elements '%s'; f2 f4 f8 u1 i1 i4 i8 are read", path,
                   head->descr);
}

/* Where the dictionary lies. */
static kith_status npy_frame(const ki_dataset_file *file, size_t *start, size_t *length, kith_error *err)
{
    unsigned char head[12] = {0};
    size_t bytes = file->bytes < sizeof head ? (size_t)file->bytes : sizeof head;
    KI_TRY(ki_dataset_file_read(file, 0, head, bytes, err));
    if (bytes < NPY_MAGIC_BYTES || memcmp(head, NPY_MAGIC, NPY_MAGIC_BYTES) != 0)
        return ki_fail(err, KITH_FORMAT, "%s: is not an npy file", file->path);
    if (bytes < sizeof head) return ki_fail(err, KITH_CORRUPT, "%s: ends inside its header", file->path);
    if (head[6] < 1 || head[6] > 3)
        return ki_fail(err, KITH_VERSION, "%s: is of npy version %u.%u, 1.0 to 3.0 are read", file->path,
                       head[6], head[7]);
    *start = head[6] == 1 ? 10 : 12;
    *length = (size_t)head[8] | (size_t)head[9] << 8;
    if (head[6] > 1) *length |= (size_t)head[10] << 16 | (size_t)head[11] << 24;
    if (*length > NPY_TEXT_MAX || *length > file->bytes - *start)
        return ki_fail(err, KITH_CORRUPT, "%s: says that its header has %zu bytes", file->path, *length);
    return KITH_OK;
}

kith_status ki_dataset_open_npy(const ki_dataset_file *file, kith_dataset_source *source, kith_error *err)
{
    size_t start = 0, length = 0;
    npy_head head = {0};
    KI_TRY(npy_frame(file, &start, &length, err));
    char *text = ki_alloc(file->allocator, length, 1);
    if (!text) return ki_fail_nomem(err, length);
    kith_status status = ki_dataset_file_read(file, start, text, length, err);
    cursor c = {text, text + length};
    if (!status && !take_dictionary(&c, &head))
        status = ki_fail(err, KITH_FORMAT, "%s: its header is malformed", file->path);
    ki_free(file->allocator, text);
    KI_TRY(status);
    if (head.fortran && head.axes > 1)
        return ki_fail(err, KITH_FORMAT, "%s: is in Fortran order; save it with numpy.ascontiguousarray",
                       file->path);
    KI_TRY(npy_element(file->path, &head, &source->element, err));
    KI_TRY(ki_dataset_check_size(file, start + length, head.rows, head.dim, source->element, err));
    source->rows = head.rows;
    source->dim = (size_t)head.dim;
    return ki_dataset_block(file, start + length, source, err);
}

void ki_npy_header(kith_element element, uint64_t rows, size_t dim, unsigned char header[KI_NPY_HEADER_BYTES])
{
    const char *descr = "";
    for (size_t i = 0; i < NPY_TYPES; i++)
        if (npy_types[i].element == element) descr = npy_types[i].descr;
    memset(header, ' ', KI_NPY_HEADER_BYTES);
    memcpy(header, NPY_MAGIC "\1", NPY_MAGIC_BYTES + 1);
    header[7] = 0;
    header[8] = KI_NPY_HEADER_BYTES - 10;
    header[9] = 0;
    /* At most 107 characters: the two numbers have 20 and 7 digits at the most. */
    int used = snprintf((char *)header + 10, KI_NPY_HEADER_BYTES - 10,
                        "{'descr': '%s', 'fortran_order': False, 'shape': (%llu, %zu), }", descr,
                        (unsigned long long)rows, dim);
    header[10 + used] = ' ';
    header[KI_NPY_HEADER_BYTES - 1] = '\n';
}
