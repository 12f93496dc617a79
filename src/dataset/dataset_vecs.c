/* fvecs, bvecs, ivecs: each row is its dim as int32 and then its components (the TEXMEX corpora, Jegou, Douze &
 * Schmid 2011). The number of rows is the file's size over the size of a row; each row's dim is compared with
 * the first one's when the row is read. */
#include "dataset/dataset_internal.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"

#define HEAD_BYTES 4

typedef struct vecs {
    const ki_dataset_file *file;
    size_t dim;
    size_t row_bytes;  /* with the head */
    size_t chunk_rows; /* that buffer holds */
    unsigned char *buffer;
} vecs;

static kith_status vecs_read(void *ctx, uint64_t first, size_t n, void *rows, kith_error *err)
{
    vecs *v = ctx;
    size_t body = v->row_bytes - HEAD_BYTES;
    unsigned char *out = rows;
    for (size_t done = 0; done < n;) {
        size_t step = n - done < v->chunk_rows ? n - done : v->chunk_rows;
        KI_TRY(ki_dataset_file_read(v->file, (first + done) * v->row_bytes, v->buffer, step * v->row_bytes,
                                    err));
        for (size_t i = 0; i < step; i++, out += body) {
            const unsigned char *row = v->buffer + i * v->row_bytes;
            int32_t dim;
            memcpy(&dim, row, sizeof dim);
            if (dim < 0 || (size_t)dim != v->dim)
                return ki_fail(err, KITH_CORRUPT, "%s: row %llu has dim %d, the first row has %zu",
                               v->file->path, (unsigned long long)(first + done + i), (int)dim, v->dim);
            memcpy(out, row + HEAD_BYTES, body);
        }
        done += step;
    }
    return KITH_OK;
}

static void vecs_close(void *ctx)
{
    vecs *v = ctx;
    const kith_allocator *allocator = v->file->allocator;
    ki_free(allocator, v->buffer);
    ki_free(allocator, v);
}

kith_status ki_dataset_open_vecs(const ki_dataset_file *file, kith_element element,
                                 kith_dataset_source *source, kith_error *err)
{
    int32_t dim;
    KI_TRY(ki_dataset_file_read(file, 0, &dim, sizeof dim, err));
    if (dim < 1 || dim > KITH_DATASET_MAX_DIM)
        return ki_fail(err, KITH_UNSUPPORTED, "%s: its first row has dim %d, allowed 1..%d", file->path,
                       (int)dim, KITH_DATASET_MAX_DIM);
    size_t row_bytes = HEAD_BYTES + (size_t)dim * kith_element_bytes(element);
    if (file->bytes % row_bytes)
        return ki_fail(err, KITH_CORRUPT, "%s: has %llu bytes, which are no whole rows of dim %d (%zu bytes)",
                       file->path, (unsigned long long)file->bytes, (int)dim, row_bytes);
    uint64_t rows = file->bytes / row_bytes;

    vecs *v = ki_alloc_zero(file->allocator, 1, sizeof *v);
    if (!v) return ki_fail_nomem(err, sizeof *v);
    v->file = file;
    v->dim = (size_t)dim;
    v->row_bytes = row_bytes;
    v->chunk_rows = KI_DATASET_CHUNK / row_bytes + 1;
    if (v->chunk_rows > rows) v->chunk_rows = (size_t)rows;
    v->buffer = ki_alloc(file->allocator, v->chunk_rows, row_bytes);
    if (!v->buffer) {
        ki_free(file->allocator, v);
        return ki_fail_nomem(err, KI_DATASET_CHUNK);
    }
    source->ctx = v;
    source->rows = rows;
    source->dim = (size_t)dim;
    source->element = element;
    source->read = vecs_read;
    source->close = vecs_close;
    return KITH_OK;
}
