/* The front of every dataset: opening by format, ranges, conversion, whole files. */
#include <kith/dataset.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/run.h"
#include "dataset/dataset_internal.h"

struct kith_dataset {
    kith_dataset_source source;
    ki_dataset_file file; /* of a source of our own; else only allocator and path */
    size_t scratch_rows;  /* rows that scratch holds */
    void *scratch;        /* stored elements on their way to another type; made at the first need */
};

/* ---- formats by name ---- */

const char *kith_dataset_format_name(kith_dataset_format format)
{
    switch (format) {
#define KI_NAME(name, number, word) \
    case KITH_DATASET_##name: return word;
        KITH_DATASET_FORMAT_MAP(KI_NAME)
#undef KI_NAME
    case KITH_DATASET_AUTO: break;
    }
    return NULL;
}

static kith_dataset_format format_of_word(const char *word)
{
#define KI_WORD(name, number, text) \
    if (strcasecmp(word, text) == 0) return KITH_DATASET_##name;
    KITH_DATASET_FORMAT_MAP(KI_WORD)
#undef KI_WORD
    return KITH_DATASET_AUTO;
}

#define KI_LIST(name, number, text) " " text
static const char format_list[] = KITH_DATASET_FORMAT_MAP(KI_LIST);
#undef KI_LIST

kith_status kith_dataset_format_parse(const char *word, kith_dataset_format *format, kith_error *err)
{
    kith_dataset_format found = word ? format_of_word(word) : KITH_DATASET_AUTO;
    if (found == KITH_DATASET_AUTO)
        return ki_fail(err, KITH_INVALID, "'%s' is no vector file format; there are%s", word ? word : "NULL",
                       format_list);
    *format = found;
    return KITH_OK;
}

kith_dataset_format kith_dataset_format_of_path(const char *path)
{
    static const char *const text[] = {"txt", "csv", "tsv", "vec"};
    const char *name = strrchr(path, '/');
    const char *dot = strrchr(name ? name : path, '.');
    if (!dot) return KITH_DATASET_AUTO;
    for (size_t i = 0; i < sizeof text / sizeof *text; i++)
        if (strcasecmp(dot + 1, text[i]) == 0) return KITH_DATASET_TEXT;
    return format_of_word(dot + 1);
}

/* ---- opening ---- */

kith_status ki_dataset_file_read(const ki_dataset_file *file, uint64_t offset, void *data, size_t size,
                                 kith_error *err)
{
    int64_t got = ki_io_read(file->io, file->fd, data, size, offset);
    if (got < 0) return ki_fail_errno(err, (int)-got, "%s: cannot be read", file->path);
    if ((size_t)got < size)
        return ki_fail(err, KITH_CORRUPT, "%s: ends at byte %llu, where more must follow", file->path,
                       (unsigned long long)(offset + (uint64_t)got));
    return KITH_OK;
}

kith_status ki_dataset_check_dim(const char *path, uint64_t dim, kith_error *err)
{
    if (dim >= 1 && dim <= KITH_DATASET_MAX_DIM) return KITH_OK;
    return ki_fail(err, KITH_UNSUPPORTED, "%s: its dim is %llu, allowed 1..%d", path, (unsigned long long)dim,
                   KITH_DATASET_MAX_DIM);
}

kith_status ki_dataset_check_size(const ki_dataset_file *file, uint64_t data_offset, uint64_t rows,
                                  uint64_t dim, kith_element element, kith_error *err)
{
    size_t need;
    if (rows == 0) return ki_fail(err, KITH_CORRUPT, "%s: has no rows", file->path);
    KI_TRY(ki_dataset_check_dim(file->path, dim, err));
    if (!ki_mul_fits((size_t)dim * kith_element_bytes(element), rows, &need) ||
        !ki_add_fits(need, data_offset, &need))
        return ki_fail(err, KITH_CORRUPT,
                       "%s: its header says %llu rows of dim %llu, more than any file holds", file->path,
                       (unsigned long long)rows, (unsigned long long)dim);
    if (need != file->bytes)
        return ki_fail(err, KITH_CORRUPT,
                       "%s: has %llu bytes, its header says %llu rows of dim %llu: %zu bytes", file->path,
                       (unsigned long long)file->bytes, (unsigned long long)rows, (unsigned long long)dim,
                       need);
    return KITH_OK;
}

static kith_status open_file(ki_dataset_file *file, kith_error *err)
{
    int fd;
    do fd = file->io->open(file->io->ctx, file->path, O_RDONLY, 0);
    while (fd == -EINTR);
    if (fd < 0) return ki_fail_errno(err, -fd, "%s: cannot be opened", file->path);
    file->fd = fd;
    int failed = file->io->size(file->io->ctx, fd, &file->bytes);
    if (failed) return ki_fail_errno(err, -failed, "%s: cannot be read", file->path);
    if (file->bytes == 0) return ki_fail(err, KITH_CORRUPT, "%s: is empty", file->path);
    return KITH_OK;
}

static kith_status open_format(kith_dataset *ds, kith_dataset_format format, kith_error *err)
{
    const ki_dataset_file *file = &ds->file;
    KI_TRY(open_file(&ds->file, err));
    switch (format) {
    case KITH_DATASET_FVECS: return ki_dataset_open_vecs(file, KITH_ELEMENT_F32, &ds->source, err);
    case KITH_DATASET_BVECS: return ki_dataset_open_vecs(file, KITH_ELEMENT_U8, &ds->source, err);
    case KITH_DATASET_IVECS: return ki_dataset_open_vecs(file, KITH_ELEMENT_I32, &ds->source, err);
    case KITH_DATASET_FBIN: return ki_dataset_open_bin(file, KITH_ELEMENT_F32, &ds->source, err);
    case KITH_DATASET_U8BIN: return ki_dataset_open_bin(file, KITH_ELEMENT_U8, &ds->source, err);
    case KITH_DATASET_NPY: return ki_dataset_open_npy(file, &ds->source, err);
    case KITH_DATASET_TEXT: return ki_dataset_open_text(file, &ds->source, err);
    case KITH_DATASET_AUTO: break;
    }
    return ki_fail(err, KITH_INVALID, "format is %d, which is none", (int)format);
}

static kith_status make(const char *path, const kith_io *io, const kith_allocator *allocator,
                        kith_dataset **dataset, kith_error *err)
{
    kith_dataset *ds = ki_alloc_zero(allocator, 1, sizeof *ds);
    if (!ds) return ki_fail_nomem(err, sizeof *ds);
    kith_dataset_source_init(&ds->source);
    ds->file = (ki_dataset_file){.io = ki_io(io), .allocator = allocator, .fd = -1};
    ds->file.path = ki_strdup(allocator, path);
    if (!ds->file.path) {
        ki_free(allocator, ds);
        return ki_fail_nomem(err, strlen(path) + 1);
    }
    *dataset = ds;
    return KITH_OK;
}

static kith_status read_options(kith_dataset_options *own, const kith_dataset_options *given,
                                const char *path, kith_error *err)
{
    kith_dataset_options_init(own);
    KI_TRY(ki_options_read(own, sizeof *own, given, "options", err));
    if (!path) return ki_fail(err, KITH_INVALID, "path is NULL");
    if (own->format == KITH_DATASET_AUTO) own->format = kith_dataset_format_of_path(path);
    if (own->format == KITH_DATASET_AUTO)
        return ki_fail(err, KITH_INVALID, "%s: its extension names no vector file format; there are%s", path,
                       format_list);
    return KITH_OK;
}

kith_status kith_dataset_open(const char *path, const kith_dataset_options *options, kith_dataset **dataset,
                              kith_error *err)
{
    kith_dataset_options own;
    if (!dataset) return ki_fail(err, KITH_INVALID, "dataset is NULL");
    *dataset = NULL;
    KI_TRY(read_options(&own, options, path, err));
    kith_dataset *ds;
    KI_TRY(make(path, own.io, own.allocator, &ds, err));
    kith_status status = open_format(ds, own.format, err);
    if (status) {
        kith_dataset_close(ds);
        return status;
    }
    ds->source.kind = kith_dataset_format_name(own.format);
    *dataset = ds;
    return KITH_OK;
}

kith_status kith_dataset_from_source(const kith_dataset_source *source, const kith_allocator *allocator,
                                     kith_dataset **dataset, kith_error *err)
{
    kith_dataset_source own;
    if (!dataset) return ki_fail(err, KITH_INVALID, "dataset is NULL");
    *dataset = NULL;
    if (!source) return ki_fail(err, KITH_INVALID, "source is NULL");
    kith_dataset_source_init(&own);
    KI_TRY(ki_options_read(&own, sizeof own, source, "source", err));
    if (!own.read || !own.path || !own.kind || kith_element_bytes(own.element) == 0)
        return ki_fail(err, KITH_INVALID, "source lacks its read function, path, kind or element");
    KI_TRY(ki_dataset_check_dim(own.path, own.dim, err));
    if (own.rows == 0) return ki_fail(err, KITH_INVALID, "%s: has no rows", own.path);
    kith_dataset *ds;
    KI_TRY(make(own.path, NULL, allocator, &ds, err));
    ds->source = own;
    *dataset = ds;
    return KITH_OK;
}

void kith_dataset_close(kith_dataset *ds)
{
    if (!ds) return;
    if (ds->source.close) ds->source.close(ds->source.ctx);
    if (ds->file.fd >= 0) (void)ds->file.io->close(ds->file.io->ctx, ds->file.fd);
    ki_free(ds->file.allocator, ds->scratch);
    ki_free(ds->file.allocator, ds->file.path);
    ki_free(ds->file.allocator, ds);
}

uint64_t kith_dataset_rows(const kith_dataset *ds)
{
    return ds->source.rows;
}

size_t kith_dataset_dim(const kith_dataset *ds)
{
    return ds->source.dim;
}

kith_element kith_dataset_element(const kith_dataset *ds)
{
    return ds->source.element;
}

const char *kith_dataset_path(const kith_dataset *ds)
{
    return ds->file.path;
}

const char *kith_dataset_kind(const kith_dataset *ds)
{
    return ds->source.kind;
}

/* ---- reading ---- */

/* Convert a block of whole rows; a value that does not fit is named by its row and component. */
static kith_status convert(const kith_dataset *ds, uint64_t first, size_t n, const void *stored,
                           kith_element to, void *out, kith_error *err)
{
    size_t dim = ds->source.dim;
    size_t at = ki_elements_convert(ds->source.element, stored, to, out, n * dim);
    if (at == n * dim) return KITH_OK;
    return ki_fail(err, KITH_INVALID, "%s: row %llu, component %zu is %.9g, which %s does not hold",
                   ds->file.path, (unsigned long long)(first + at / dim), at % dim,
                   ki_element_value(ds->source.element, stored, at), kith_element_name(to));
}

static kith_status make_scratch(kith_dataset *ds, kith_error *err)
{
    if (ds->scratch) return KITH_OK;
    size_t row_bytes = ds->source.dim * kith_element_bytes(ds->source.element);
    size_t rows = KI_DATASET_CHUNK / row_bytes;
    if (rows == 0) rows = 1;
    if (rows > ds->source.rows) rows = (size_t)ds->source.rows;
    ds->scratch = ki_alloc(ds->file.allocator, rows, row_bytes);
    if (!ds->scratch) return ki_fail_nomem(err, rows * row_bytes);
    ds->scratch_rows = rows;
    return KITH_OK;
}

static kith_status read_rows(kith_dataset *ds, uint64_t first, size_t n, kith_element to, void *out,
                             kith_error *err)
{
    const kith_dataset_source *source = &ds->source;
    if (first > source->rows || n > source->rows - first)
        return ki_fail(err, KITH_INVALID, "%s: rows %llu..%llu were asked for, it has %llu", ds->file.path,
                       (unsigned long long)first, (unsigned long long)(first + n),
                       (unsigned long long)source->rows);
    if (n == 0) return KITH_OK;
    if (to == source->element) {
        KI_TRY(source->read(source->ctx, first, n, out, err));
        return convert(ds, first, n, out, to, out, err);
    }
    KI_TRY(make_scratch(ds, err));
    for (size_t done = 0; done < n;) {
        size_t rows = n - done < ds->scratch_rows ? n - done : ds->scratch_rows;
        char *place = (char *)out + done * source->dim * kith_element_bytes(to);
        KI_TRY(source->read(source->ctx, first + done, rows, ds->scratch, err));
        KI_TRY(convert(ds, first + done, rows, ds->scratch, to, place, err));
        done += rows;
    }
    return KITH_OK;
}

kith_status kith_dataset_read_f32(kith_dataset *ds, uint64_t first, size_t n, float *rows, kith_error *err)
{
    return read_rows(ds, first, n, KITH_ELEMENT_F32, rows, err);
}

kith_status kith_dataset_read_u8(kith_dataset *ds, uint64_t first, size_t n, uint8_t *rows, kith_error *err)
{
    return read_rows(ds, first, n, KITH_ELEMENT_U8, rows, err);
}

kith_status kith_dataset_read_i32(kith_dataset *ds, uint64_t first, size_t n, int32_t *rows, kith_error *err)
{
    return read_rows(ds, first, n, KITH_ELEMENT_I32, rows, err);
}

/* ---- whole files ---- */

static kith_status read_all(kith_dataset *ds, kith_element to, const kith_run *run, char *rows,
                            kith_error *err)
{
    size_t row_bytes = ds->source.dim * kith_element_bytes(to);
    size_t step = KI_DATASET_CHUNK * 16 / row_bytes + 1;
    ki_stage stage;
    ki_stage_begin(&stage, run, "reading", ds->source.rows);
    for (uint64_t done = 0; done < ds->source.rows;) {
        size_t n = ds->source.rows - done < step ? (size_t)(ds->source.rows - done) : step;
        KI_TRY(ki_run_check(run, err));
        KI_TRY(read_rows(ds, done, n, to, rows + done * row_bytes, err));
        done += n;
        ki_stage_report(&stage, done);
    }
    return KITH_OK;
}

static kith_status load(const char *path, const kith_dataset_options *options, const kith_run *run,
                        kith_element to, void **rows, size_t *n, size_t *dim, kith_error *err)
{
    kith_dataset *ds;
    size_t elements;
    *rows = NULL;
    KI_TRY(kith_dataset_open(path, options, &ds, err));
    kith_status status = KITH_OK;
    void *all = NULL;
    if (!ki_mul_fits(ds->source.rows, ds->source.dim, &elements) ||
        !(all = ki_alloc(ds->file.allocator, elements, kith_element_bytes(to)))) {
        status = ki_fail(err, KITH_NOMEM, "%s: out of memory for %llu rows of dim %zu", path,
                         (unsigned long long)ds->source.rows, ds->source.dim);
    }
    if (!status) status = read_all(ds, to, run, all, err);
    if (status) {
        ki_free(ds->file.allocator, all);
    } else {
        *rows = all;
        *n = (size_t)ds->source.rows;
        *dim = ds->source.dim;
    }
    kith_dataset_close(ds);
    return status;
}

kith_status kith_dataset_load_f32(const char *path, const kith_dataset_options *options, const kith_run *run,
                                  float **rows, size_t *n, size_t *dim, kith_error *err)
{
    void *all;
    kith_status status = load(path, options, run, KITH_ELEMENT_F32, &all, n, dim, err);
    *rows = all;
    return status;
}

kith_status kith_dataset_load_i32(const char *path, const kith_dataset_options *options, const kith_run *run,
                                  int32_t **rows, size_t *n, size_t *dim, kith_error *err)
{
    void *all;
    kith_status status = load(path, options, run, KITH_ELEMENT_I32, &all, n, dim, err);
    *rows = all;
    return status;
}

void kith_dataset_unload(const kith_allocator *allocator, void *rows)
{
    ki_free(allocator, rows);
}
