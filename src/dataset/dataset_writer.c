/* Writing datasets: every format is rows behind an optional header that is completed at the end. */
#include <kith/dataset.h>

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/options.h"
#include "dataset/dataset_internal.h"

#define TEXT_BYTES 32 /* of one printed number and its separator */

struct kith_dataset_writer {
    ki_outfile *out;
    const kith_allocator *allocator;
    char *path;
    kith_dataset_format format;
    kith_element element;
    size_t dim;
    uint64_t rows;
    int failed;         /* an append failed: the rows so far are not all that the caller meant */
    size_t head_bytes;  /* of the file */
    char separator;     /* text */
    unsigned char *row; /* one row as stored (text: as float32), behind its dim (vecs) */
    size_t row_head, row_bytes;
    char *line; /* text */
};

/* The element that a format stores when `wanted` is asked for; AUTO when it cannot. */
static kith_element element_for(kith_dataset_format format, kith_element wanted)
{
    kith_element own = KITH_ELEMENT_F32;
    if (format == KITH_DATASET_BVECS || format == KITH_DATASET_U8BIN) own = KITH_ELEMENT_U8;
    if (format == KITH_DATASET_IVECS) own = KITH_ELEMENT_I32;
    if (format == KITH_DATASET_NPY &&
        (wanted == KITH_ELEMENT_F16 || wanted == KITH_ELEMENT_U8 || wanted == KITH_ELEMENT_I32))
        return wanted;
    return wanted == KITH_ELEMENT_AUTO || wanted == own ? own : KITH_ELEMENT_AUTO;
}

static int is_vecs(kith_dataset_format format)
{
    return format == KITH_DATASET_FVECS || format == KITH_DATASET_BVECS || format == KITH_DATASET_IVECS;
}

static char separator_for(const char *path)
{
    const char *dot = strrchr(path, '.');
    if (dot && strcasecmp(dot, ".csv") == 0) return ',';
    if (dot && strcasecmp(dot, ".tsv") == 0) return '\t';
    return ' ';
}

static kith_status check(kith_dataset_writer_options *own, const char *path, size_t dim, kith_error *err)
{
    if (own->format == KITH_DATASET_AUTO) own->format = kith_dataset_format_of_path(path);
    if (!kith_dataset_format_name(own->format))
        return ki_fail(err, KITH_INVALID, "%s: its extension names no vector file format", path);
    if (dim < 1 || dim > KITH_DATASET_MAX_DIM)
        return ki_fail(err, KITH_INVALID, "%s: dim is %zu, allowed 1..%d", path, dim, KITH_DATASET_MAX_DIM);
    kith_element element = element_for(own->format, own->element);
    if (element == KITH_ELEMENT_AUTO) {
        const char *name = kith_element_name(own->element);
        return ki_fail(err, KITH_UNSUPPORTED, "%s: %s is not written with elements %s", path,
                       kith_dataset_format_name(own->format), name ? name : "of unknown type");
    }
    own->element = element;
    return KITH_OK;
}

/* What follows from format, element and dim: the room for a row, the space for a header. */
static kith_status prepare(kith_dataset_writer *w, kith_error *err)
{
    static const unsigned char space[KI_NPY_HEADER_BYTES];
    w->separator = separator_for(w->path);
    w->row_head = is_vecs(w->format) ? sizeof(int32_t) : 0;
    w->row_bytes = w->row_head + w->dim * kith_element_bytes(w->element);
    if (w->format == KITH_DATASET_FBIN || w->format == KITH_DATASET_U8BIN) w->head_bytes = 8;
    if (w->format == KITH_DATASET_NPY) w->head_bytes = KI_NPY_HEADER_BYTES;
    w->row = ki_alloc(w->allocator, w->row_bytes, 1);
    if (!w->row) return ki_fail_nomem(err, w->row_bytes);
    if (w->format == KITH_DATASET_TEXT && !(w->line = ki_alloc(w->allocator, w->dim, TEXT_BYTES)))
        return ki_fail_nomem(err, w->dim * TEXT_BYTES);
    if (w->row_head) {
        int32_t dim = (int32_t)w->dim;
        memcpy(w->row, &dim, sizeof dim);
    }
    return ki_outfile_write(w->out, space, w->head_bytes, err);
}

kith_status kith_dataset_writer_create(const char *path, size_t dim,
                                       const kith_dataset_writer_options *options,
                                       kith_dataset_writer **writer, kith_error *err)
{
    kith_dataset_writer_options own;
    if (!writer) return ki_fail(err, KITH_INVALID, "writer is NULL");
    *writer = NULL;
    if (!path) return ki_fail(err, KITH_INVALID, "path is NULL");
    kith_dataset_writer_options_init(&own);
    KI_TRY(ki_options_read(&own, sizeof own, options, "options", err));
    KI_TRY(check(&own, path, dim, err));
    kith_dataset_writer *w = ki_alloc_zero(own.allocator, 1, sizeof *w);
    if (!w) return ki_fail_nomem(err, sizeof *w);
    w->allocator = own.allocator;
    w->format = own.format;
    w->element = own.element;
    w->dim = dim;
    w->path = ki_strdup(own.allocator, path);
    kith_status status = w->path ? KITH_OK : ki_fail_nomem(err, strlen(path) + 1);
    if (!status) status = ki_outfile_create(path, own.io, own.allocator, &w->out, err);
    if (!status) status = prepare(w, err);
    if (status) {
        kith_dataset_writer_free(w);
        return status;
    }
    *writer = w;
    return KITH_OK;
}

kith_element kith_dataset_writer_element(const kith_dataset_writer *w)
{
    return w->element;
}

static kith_status write_line(kith_dataset_writer *w, kith_error *err)
{
    size_t used = 0;
    for (size_t d = 0; d < w->dim; d++) {
        float value;
        memcpy(&value, w->row + d * sizeof value, sizeof value);
        used += ki_text_print(value, w->line + used);
        w->line[used++] = d + 1 < w->dim ? w->separator : '\n';
    }
    return ki_outfile_write(w->out, w->line, used, err);
}

static kith_status append_rows(kith_dataset_writer *w, kith_element from, const void *rows, size_t n,
                               kith_error *err)
{
    size_t step = w->dim * kith_element_bytes(from);
    for (size_t i = 0; i < n; i++) {
        const char *row = (const char *)rows + i * step;
        size_t at = ki_elements_convert(from, row, w->element, w->row + w->row_head, w->dim);
        if (at < w->dim)
            return ki_fail(err, KITH_INVALID, "%s: row %llu, component %zu is %.9g, which %s does not hold",
                           w->path, (unsigned long long)w->rows, at, ki_element_value(from, row, at),
                           kith_element_name(w->element));
        if (w->format == KITH_DATASET_TEXT)
            KI_TRY(write_line(w, err));
        else
            KI_TRY(ki_outfile_write(w->out, w->row, w->row_bytes, err));
        w->rows++;
    }
    return KITH_OK;
}

static kith_status append(kith_dataset_writer *w, kith_element from, const void *rows, size_t n,
                          kith_error *err)
{
    if (w->failed) return ki_fail(err, KITH_INVALID, "%s: writing failed before", w->path);
    kith_status status = append_rows(w, from, rows, n, err);
    w->failed = status != KITH_OK;
    return status;
}

kith_status kith_dataset_append_f32(kith_dataset_writer *w, const float *rows, size_t n, kith_error *err)
{
    return append(w, KITH_ELEMENT_F32, rows, n, err);
}

kith_status kith_dataset_append_u8(kith_dataset_writer *w, const uint8_t *rows, size_t n, kith_error *err)
{
    return append(w, KITH_ELEMENT_U8, rows, n, err);
}

kith_status kith_dataset_append_i32(kith_dataset_writer *w, const int32_t *rows, size_t n, kith_error *err)
{
    return append(w, KITH_ELEMENT_I32, rows, n, err);
}

kith_status kith_dataset_writer_finish(kith_dataset_writer *w, kith_error *err)
{
    unsigned char head[KI_NPY_HEADER_BYTES];
    if (w->failed) return ki_fail(err, KITH_INVALID, "%s: writing failed before", w->path);
    if (w->rows == 0) return ki_fail(err, KITH_INVALID, "%s: no row was written", w->path);
    if (w->format == KITH_DATASET_NPY) ki_npy_header(w->element, w->rows, w->dim, head);
    if (w->format == KITH_DATASET_FBIN || w->format == KITH_DATASET_U8BIN) {
        uint32_t numbers[2] = {(uint32_t)w->rows, (uint32_t)w->dim};
        if (w->rows > UINT32_MAX)
            return ki_fail(err, KITH_UNSUPPORTED, "%s: has %llu rows, %s holds 4294967295 at the most",
                           w->path, (unsigned long long)w->rows, kith_dataset_format_name(w->format));
        memcpy(head, numbers, sizeof numbers);
    }
    if (w->head_bytes) KI_TRY(ki_outfile_patch(w->out, 0, head, w->head_bytes, err));
    return ki_outfile_commit(w->out, err);
}

void kith_dataset_writer_free(kith_dataset_writer *w)
{
    if (!w) return;
    ki_outfile_free(w->out);
    ki_free(w->allocator, w->line);
    ki_free(w->allocator, w->row);
    ki_free(w->allocator, w->path);
    ki_free(w->allocator, w);
}
