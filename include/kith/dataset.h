/* dataset.h - vectors in files: fvecs, bvecs, ivecs, fbin, u8bin, npy and text.
 *
 * | format | what is in it                                              | elements                          |
 * |--------|------------------------------------------------------------|-----------------------------------|
 * | fvecs  | each row: dim as int32, then dim float32 (TEXMEX)           | float32                           |
 * | bvecs  | the same with bytes                                         | uint8                             |
 * | ivecs  | the same with int32 (ground truth)                          | int32                             |
 * | fbin   | rows and dim as uint32, then all float32 (Big-ANN)          | float32                           |
 * | u8bin  | the same with bytes                                         | uint8                             |
 * | npy    | NumPy 1.0-3.0, C order; trailing axes are taken as one,     | f2 f4 f8 u1 i1 i4 i8, read;       |
 * |        | a single axis as rows of one component                      | u1 f2 f4 i4, written              |
 * | text   | a row a line, numbers separated by spaces, tabs or commas;  | float32                           |
 * |        | GloVe's leading word and word2vec's first line are known    |                                   |
 *
 * All are little-endian and row-major. Rows are read piece by piece, so a file may be larger than memory. A
 * file is foreign: its size is compared with what its header says before anything is allocated; rows of
 * another dim than the first, files that end inside a row, files without a row, and NaN or infinity are
 * refused, naming the row and component, both counted from 0. HDF5 files: kith/hdf5.h. */
#ifndef KITH_DATASET_H
#define KITH_DATASET_H

#include <kith/allocator.h>
#include <kith/io.h>
#include <kith/run.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KITH_DATASET_MAX_DIM 1048576

/* X(NAME, number, word). Extensions are the words; text is .txt .csv .tsv .vec too. */
#define KITH_DATASET_FORMAT_MAP(X) \
    X(FVECS, 1, "fvecs")           \
    X(BVECS, 2, "bvecs")           \
    X(IVECS, 3, "ivecs")           \
    X(FBIN, 4, "fbin")             \
    X(U8BIN, 5, "u8bin")           \
    X(NPY, 6, "npy")               \
    X(TEXT, 7, "text")

typedef enum kith_dataset_format {
    KITH_DATASET_AUTO = 0, /* by the file's extension */
#define KITH_DATASET_ENUM(name, number, word) KITH_DATASET_##name = number,
    KITH_DATASET_FORMAT_MAP(KITH_DATASET_ENUM)
#undef KITH_DATASET_ENUM
} kith_dataset_format;

/* X(NAME, number, word, bytes): what a component is stored as. */
#define KITH_ELEMENT_MAP(X) \
    X(F32, 1, "float32", 4) \
    X(F16, 2, "float16", 2) \
    X(F64, 3, "float64", 8) \
    X(U8, 4, "uint8", 1)    \
    X(I8, 5, "int8", 1)     \
    X(I32, 6, "int32", 4)   \
    X(I64, 7, "int64", 8)

typedef enum kith_element {
    KITH_ELEMENT_AUTO = 0, /* for writers: the one that the format is for */
#define KITH_ELEMENT_ENUM(name, number, word, bytes) KITH_ELEMENT_##name = number,
    KITH_ELEMENT_MAP(KITH_ELEMENT_ENUM)
#undef KITH_ELEMENT_ENUM
} kith_element;

/* "fvecs", ..., "text"; NULL for AUTO and unknown numbers. Static. */
KITH_API const char *kith_dataset_format_name(kith_dataset_format format);

/* The format of a word. KITH_INVALID for others, listing the words. */
KITH_API kith_status kith_dataset_format_parse(const char *word, kith_dataset_format *format,
                                               kith_error *err);

/* The format that a path's extension stands for; KITH_DATASET_AUTO for an unknown extension. */
KITH_API kith_dataset_format kith_dataset_format_of_path(const char *path);

/* "float32", ...; NULL for AUTO and unknown numbers. Static. */
KITH_API const char *kith_element_name(kith_element element);

/* The size of an element; 0 for AUTO and unknown numbers. */
KITH_API size_t kith_element_bytes(kith_element element);

/* ---- Reading ---- */

typedef struct kith_dataset kith_dataset;

typedef struct kith_dataset_options {
    size_t struct_size;
    kith_dataset_format format;      /* KITH_DATASET_AUTO: by extension */
    const kith_io *io;               /* NULL: POSIX */
    const kith_allocator *allocator; /* NULL: the C library's */
} kith_dataset_options;

static inline void kith_dataset_options_init(kith_dataset_options *options)
{
    options->struct_size = sizeof *options;
    options->format = KITH_DATASET_AUTO;
    options->io = NULL;
    options->allocator = NULL;
}

/* Open a file.
 * In:       options NULL for the defaults.
 * Out:      *dataset, NULL on failure.
 * Errors:   KITH_INVALID (unknown extension), KITH_FORMAT (not of the format: bad magic, big-endian, Fortran
 *           order, no number where one must be), KITH_CORRUPT (truncated or lying about its size),
 *           KITH_UNSUPPORTED (an element type or a dim that is not read), KITH_NOTFOUND, KITH_IO, KITH_NOMEM.
 *           The message begins with the path.
 * Threads:  a dataset belongs to one thread at a time.
 * Memory:   a megabyte, or one row if that is larger; text also 8 bytes for each 256 rows.
 * Cost:     the header; for text one pass over the file, to count rows. */
KITH_API kith_status kith_dataset_open(const char *path, const kith_dataset_options *options,
                                       kith_dataset **dataset, kith_error *err);

/* Close; NULL is allowed. */
KITH_API void kith_dataset_close(kith_dataset *dataset);

KITH_API uint64_t kith_dataset_rows(const kith_dataset *dataset);        /* at least 1 */
KITH_API size_t kith_dataset_dim(const kith_dataset *dataset);           /* 1..KITH_DATASET_MAX_DIM */
KITH_API kith_element kith_dataset_element(const kith_dataset *dataset); /* as stored */
KITH_API const char *kith_dataset_path(const kith_dataset *dataset);     /* as opened */
KITH_API const char *kith_dataset_kind(const kith_dataset *dataset);     /* "fvecs", "npy", "hdf5" */

/* Read rows [first, first + n).
 * Out:      rows[n][dim], row-major; contents undefined on failure.
 * Errors:   KITH_INVALID: the range is not inside the file; a component is NaN or infinite, or the type asked
 *           for does not hold its value. float64 and text are rounded to the nearest float32; float32 holds
 *           integers to 2^24; uint8 and int32 take whole numbers of their range, whatever they are stored as.
 *           KITH_CORRUPT: a row of another dim; KITH_FORMAT (text that is no number), KITH_IO. */
KITH_API kith_status kith_dataset_read_f32(kith_dataset *dataset, uint64_t first, size_t n, float *rows,
                                           kith_error *err);
KITH_API kith_status kith_dataset_read_u8(kith_dataset *dataset, uint64_t first, size_t n, uint8_t *rows,
                                          kith_error *err);
KITH_API kith_status kith_dataset_read_i32(kith_dataset *dataset, uint64_t first, size_t n, int32_t *rows,
                                           kith_error *err);

/* A whole file in one allocation.
 * Out:      *rows, [*n][*dim], NULL on failure; give it back by kith_dataset_unload with the same allocator.
 * Errors:   those of open and read; KITH_CANCELLED.
 * run:      progress (stage "reading", in rows) and cancellation; may be NULL. */
KITH_API kith_status kith_dataset_load_f32(const char *path, const kith_dataset_options *options,
                                           const kith_run *run, float **rows, size_t *n, size_t *dim,
                                           kith_error *err);
KITH_API kith_status kith_dataset_load_i32(const char *path, const kith_dataset_options *options,
                                           const kith_run *run, int32_t **rows, size_t *n, size_t *dim,
                                           kith_error *err);
KITH_API void kith_dataset_unload(const kith_allocator *allocator, void *rows);

/* Rows that come from elsewhere (another file format, a database), to be used as a dataset. */
typedef struct kith_dataset_source {
    size_t struct_size;
    void *ctx;
    const char *path; /* for messages; copied */
    const char *kind; /* what kith_dataset_kind says; static */
    uint64_t rows;
    size_t dim;
    kith_element element;

    /* Read n rows into rows[n][dim] of the stored element. first + n is at most `rows`. On failure fill err. */
    kith_status (*read)(void *ctx, uint64_t first, size_t n, void *rows, kith_error *err);

    /* Free ctx; may be NULL. */
    void (*close)(void *ctx);
} kith_dataset_source;

static inline void kith_dataset_source_init(kith_dataset_source *source)
{
    source->struct_size = sizeof *source;
    source->ctx = NULL;
    source->path = NULL;
    source->kind = NULL;
    source->rows = 0;
    source->dim = 0;
    source->element = KITH_ELEMENT_F32;
    source->read = NULL;
    source->close = NULL;
}

/* Make a dataset of a source. On success the dataset owns source->ctx; on failure the caller still does.
 * Errors:   KITH_INVALID (no rows, dim out of range, no read function), KITH_NOMEM. */
KITH_API kith_status kith_dataset_from_source(const kith_dataset_source *source,
                                              const kith_allocator *allocator, kith_dataset **dataset,
                                              kith_error *err);

/* ---- Writing ---- */

typedef struct kith_dataset_writer kith_dataset_writer;

typedef struct kith_dataset_writer_options {
    size_t struct_size;
    kith_dataset_format format;      /* KITH_DATASET_AUTO: by extension */
    kith_element element;            /* npy: F32 (AUTO), F16, U8 or I32; the others know their own */
    const kith_io *io;               /* NULL: POSIX */
    const kith_allocator *allocator; /* NULL: the C library's */
} kith_dataset_writer_options;

static inline void kith_dataset_writer_options_init(kith_dataset_writer_options *options)
{
    options->struct_size = sizeof *options;
    options->format = KITH_DATASET_AUTO;
    options->element = KITH_ELEMENT_AUTO;
    options->io = NULL;
    options->allocator = NULL;
}

/* Begin a file; it takes the place of `path` when it is finished, and not before.
 * In:       dim 1..KITH_DATASET_MAX_DIM; options NULL for the defaults.
 * Out:      *writer, NULL on failure.
 * Errors:   KITH_INVALID (unknown extension, dim), KITH_UNSUPPORTED (an element that the format does not have),
 *           KITH_NOTFOUND (no such folder), KITH_READONLY, KITH_IO, KITH_NOMEM. */
KITH_API kith_status kith_dataset_writer_create(const char *path, size_t dim,
                                                const kith_dataset_writer_options *options,
                                                kith_dataset_writer **writer, kith_error *err);

/* The element that is written. */
KITH_API kith_element kith_dataset_writer_element(const kith_dataset_writer *writer);

/* Append rows[n][dim].
 * Errors:   KITH_INVALID: a component is not finite or the stored element does not hold its value (a fraction
 *           in bvecs, 300 in u8bin; float16 rounds, but does not overflow); KITH_IO. After a failure the
 *           file can only be freed. */
KITH_API kith_status kith_dataset_append_f32(kith_dataset_writer *writer, const float *rows, size_t n,
                                             kith_error *err);
KITH_API kith_status kith_dataset_append_u8(kith_dataset_writer *writer, const uint8_t *rows, size_t n,
                                            kith_error *err);
KITH_API kith_status kith_dataset_append_i32(kith_dataset_writer *writer, const int32_t *rows, size_t n,
                                             kith_error *err);

/* Complete the header, fsync, and put the file in its place.
 * Errors:   KITH_INVALID (no row was appended), KITH_IO. */
KITH_API kith_status kith_dataset_writer_finish(kith_dataset_writer *writer, kith_error *err);

/* Free it; a file that was not finished leaves nothing behind. NULL is allowed. */
KITH_API void kith_dataset_writer_free(kith_dataset_writer *writer);

#ifdef __cplusplus
}
#endif
#endif
