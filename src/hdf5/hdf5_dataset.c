/* HDF5 datasets as kith datasets: a source that reads rows by hyperslab, and a writer. HDF5 converts byte order and width; the
 * memory type is the smallest of ours that holds the file's. */
#include <kith/hdf5.h>

#include <errno.h>
#include <hdf5.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"

typedef struct slab_source {
    const kith_allocator *allocator;
    char *path;      /* as given, for messages */
    char *file_path; /* without ":NAME" */
    hid_t file, dataset;
    hid_t memory_type;
    int rank;
    hsize_t dim;
} slab_source;

/* ---- messages: HDF5 prints to stderr unless it is told not to ---- */

typedef struct quiet {
    H5E_auto2_t print;
    void *data;
} quiet;

static quiet silence(void)
{
    quiet before = {NULL, NULL};
    (void)H5Eget_auto2(H5E_DEFAULT, &before.print, &before.data);
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return before;
}

static void unsilence(quiet before)
{
    (void)H5Eset_auto2(H5E_DEFAULT, before.print, before.data);
}

static herr_t keep_innermost(unsigned n, const H5E_error2_t *error, void *reason)
{
    if (n == 0 && error->desc) snprintf(reason, 200, "%s", error->desc);
    return 0;
}

/* What HDF5 says to its last failure: the place where it began, which tells more than the outermost. */
static kith_status fail_hdf5(kith_error *err, kith_status status, const char *path, const char *what)
{
    char reason[200] = "no reason given";
    (void)H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, reason);
    return ki_fail(err, status, "%s: %s (HDF5: %s)", path, what, reason);
}

/* ---- paths ---- */

/* The length of the file's part of a path; 0 when it is no path of HDF5. */
static size_t file_part(const char *path)
{
    static const char *const endings[] = {".hdf5", ".h5"};
    const char *colon = strrchr(path, ':');
    size_t whole = strlen(path);
    size_t lengths[2] = {whole, colon ? (size_t)(colon - path) : 0};
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
            size_t ending = strlen(endings[j]);
            if (lengths[i] > ending && strncasecmp(path + lengths[i] - ending, endings[j], ending) == 0)
                return lengths[i];
        }
    return 0;
}

int kith_hdf5_is_path(const char *path)
{
    return path && file_part(path) > 0;
}

/* ---- reading ---- */

static kith_status slab_read(void *ctx, uint64_t first, size_t n, void *rows, kith_error *err)
{
    slab_source *s = ctx;
    const hsize_t start[2] = {first, 0}, count[2] = {n, s->dim};
    quiet before = silence();
    hid_t there = H5Dget_space(s->dataset);
    hid_t here = H5Screate_simple(s->rank, count, NULL);
    kith_status status = KITH_OK;
    if (there < 0 || here < 0 || H5Sselect_hyperslab(there, H5S_SELECT_SET, start, NULL, count, NULL) < 0 ||
        H5Dread(s->dataset, s->memory_type, here, there, H5P_DEFAULT, rows) < 0)
        status = fail_hdf5(err, KITH_CORRUPT, s->path, "cannot be read");
    if (there >= 0) (void)H5Sclose(there);
    if (here >= 0) (void)H5Sclose(here);
    unsilence(before);
    return status;
}

static void slab_close(void *ctx)
{
    slab_source *s = ctx;
    quiet before = silence();
    if (s->dataset >= 0) (void)H5Dclose(s->dataset);
    if (s->file >= 0) (void)H5Fclose(s->file);
    unsilence(before);
    ki_free(s->allocator, s->file_path);
    ki_free(s->allocator, s->path);
    ki_free(s->allocator, s);
}

/* ---- opening ---- */

/* The type to read a stored one as. */
static kith_status choose_type(slab_source *s, kith_dataset_source *source, kith_error *err)
{
    hid_t stored = H5Dget_type(s->dataset);
    if (stored < 0) return fail_hdf5(err, KITH_CORRUPT, s->path, "has no type");
    H5T_class_t kind = H5Tget_class(stored);
    size_t size = H5Tget_size(stored);
    int is_signed = kind == H5T_INTEGER && H5Tget_sign(stored) == H5T_SGN_2;
    (void)H5Tclose(stored);
    if (kind == H5T_FLOAT && size <= 8) {
        source->element = size <= 4 ? KITH_ELEMENT_F32 : KITH_ELEMENT_F64;
        s->memory_type = size <= 4 ? H5T_NATIVE_FLOAT : H5T_NATIVE_DOUBLE;
    } else if (kind == H5T_INTEGER && size == 1) {
        source->element = is_signed ? KITH_ELEMENT_I8 : KITH_ELEMENT_U8;
        s->memory_type = is_signed ? H5T_NATIVE_INT8 : H5T_NATIVE_UINT8;
    } else if (kind == H5T_INTEGER && size <= 8) {
        int narrow = size < 4 || (size == 4 && is_signed);
        source->element = narrow ? KITH_ELEMENT_I32 : KITH_ELEMENT_I64;
        s->memory_type = narrow ? H5T_NATIVE_INT32 : H5T_NATIVE_INT64;
    } else {
        return ki_fail(err, KITH_UNSUPPORTED, "%s: its elements are neither floats nor integers", s->path);
    }
    return KITH_OK;
}

static kith_status choose_shape(slab_source *s, kith_dataset_source *source, kith_error *err)
{
    hsize_t shape[2] = {0, 1};
    hid_t space = H5Dget_space(s->dataset);
    if (space < 0) return fail_hdf5(err, KITH_CORRUPT, s->path, "has no shape");
    s->rank = H5Sget_simple_extent_ndims(space);
    if (s->rank == 1 || s->rank == 2) (void)H5Sget_simple_extent_dims(space, shape, NULL);
    (void)H5Sclose(space);
    if (s->rank != 1 && s->rank != 2)
        return ki_fail(err, KITH_UNSUPPORTED, "%s: the dataset has %d axes, 1 and 2 are read", s->path,
                       s->rank);
    if (shape[0] == 0) return ki_fail(err, KITH_CORRUPT, "%s: the dataset has no rows", s->path);
    if (shape[1] < 1 || shape[1] > KITH_DATASET_MAX_DIM)
        return ki_fail(err, KITH_UNSUPPORTED, "%s: the dataset's dim is %llu, allowed 1..%d", s->path,
                       (unsigned long long)shape[1], KITH_DATASET_MAX_DIM);
    s->dim = shape[1];
    source->rows = shape[0];
    source->dim = (size_t)shape[1];
    return KITH_OK;
}

static kith_status open_file(const char *path, const char *shown, hid_t *file, kith_error *err)
{
    *file = -1;
    if (access(path, F_OK) != 0) return ki_fail(err, KITH_NOTFOUND, "%s: there is no such file", shown);
    *file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    return *file < 0 ? fail_hdf5(err, KITH_FORMAT, shown, "cannot be opened") : KITH_OK;
}

static kith_status open_slab(slab_source *s, const char *name, kith_dataset_source *source, kith_error *err)
{
    KI_TRY(open_file(s->file_path, s->path, &s->file, err));
    if (H5Lexists(s->file, name, H5P_DEFAULT) <= 0)
        return ki_fail(err, KITH_NOTFOUND, "%s: has no dataset '%s'", s->path, name);
    s->dataset = H5Dopen2(s->file, name, H5P_DEFAULT);
    if (s->dataset < 0) return fail_hdf5(err, KITH_CORRUPT, s->path, "its dataset cannot be opened");
    KI_TRY(choose_type(s, source, err));
    return choose_shape(s, source, err);
}

kith_status kith_hdf5_open(const char *path, const char *name, const kith_allocator *allocator,
                           kith_dataset **dataset, kith_error *err)
{
    if (!dataset) return ki_fail(err, KITH_INVALID, "dataset is NULL");
    *dataset = NULL;
    size_t length = path ? file_part(path) : 0;
    if (length == 0)
        return ki_fail(err, KITH_INVALID, "%s: is no path of an HDF5 file (.hdf5 or .h5)",
                       path ? path : "NULL");
    if (path[length] == ':') name = path + length + 1;
    if (!name || !*name) return ki_fail(err, KITH_INVALID, "%s: name is empty", path);
    slab_source *s = ki_alloc_zero(allocator, 1, sizeof *s);
    if (!s) return ki_fail_nomem(err, sizeof *s);
    s->allocator = allocator;
    s->file = s->dataset = -1;
    s->path = ki_strdup(allocator, path);
    s->file_path = ki_strdup(allocator, path);
    if (!s->path || !s->file_path) {
        slab_close(s);
        return ki_fail_nomem(err, length);
    }
    s->file_path[length] = 0;
    kith_dataset_source source;
    kith_dataset_source_init(&source);
    quiet before = silence();
    kith_status status = open_slab(s, name, &source, err);
    unsilence(before);
    source.ctx = s;
    source.path = path;
    source.kind = "hdf5";
    source.read = slab_read;
    source.close = slab_close;
    if (!status) status = kith_dataset_from_source(&source, allocator, dataset, err);
    if (status) slab_close(s);
    return status;
}

/* ---- the metric ---- */

/* The text of a string attribute, of fixed or variable length; 0 when it is not one. */
static int read_text(hid_t attribute, char *text, size_t size)
{
    int found = 0;
    char *variable = NULL;
    hid_t stored = H5Aget_type(attribute);
    hid_t memory = H5Tcopy(H5T_C_S1);
    if (stored >= 0 && memory >= 0 && H5Tget_class(stored) == H5T_STRING) {
        (void)H5Tset_cset(memory, H5Tget_cset(stored));
        if (H5Tis_variable_str(stored) > 0) {
            (void)H5Tset_size(memory, H5T_VARIABLE);
            found = H5Aread(attribute, memory, &variable) >= 0 && variable;
            if (found) snprintf(text, size, "%s", variable);
            if (variable) (void)H5free_memory(variable);
        } else if (H5Tget_size(stored) < size) {
            memset(text, 0, size);
            (void)H5Tset_size(memory, size - 1);
            found = H5Aread(attribute, memory, text) >= 0;
        }
    }
    if (stored >= 0) (void)H5Tclose(stored);
    if (memory >= 0) (void)H5Tclose(memory);
    return found;
}

static kith_status read_metric(hid_t file, const char *path, kith_metric *metric, kith_error *err)
{
    char word[64];
    if (H5Aexists(file, "distance") <= 0)
        return ki_fail(err, KITH_NOTFOUND, "%s: has no attribute 'distance'", path);
    hid_t attribute = H5Aopen(file, "distance", H5P_DEFAULT);
    int found = attribute >= 0 && read_text(attribute, word, sizeof word);
    if (attribute >= 0) (void)H5Aclose(attribute);
    if (!found) return ki_fail(err, KITH_UNSUPPORTED, "%s: its attribute 'distance' is no short text", path);
    if (kith_metric_parse(strcmp(word, "angular") == 0 ? "cosine" : word, metric, NULL) != KITH_OK)
        return ki_fail(err, KITH_UNSUPPORTED, "%s: is for the distance '%s', which kith does not know", path,
                       word);
    return KITH_OK;
}

kith_status kith_hdf5_metric(const char *path, kith_metric *metric, kith_error *err)
{
    size_t length = path ? file_part(path) : 0;
    if (length == 0)
        return ki_fail(err, KITH_INVALID, "%s: is no path of an HDF5 file (.hdf5 or .h5)",
                       path ? path : "NULL");
    char *copy = ki_strdup(NULL, path);
    if (!copy) return ki_fail_nomem(err, length);
    copy[length] = 0;
    hid_t file;
    quiet before = silence();
    kith_status status = open_file(copy, path, &file, err);
    if (!status) status = read_metric(file, path, metric, err);
    if (file >= 0) (void)H5Fclose(file);
    unsilence(before);
    ki_free(NULL, copy);
    return status;
}

/* ---- writing ---- */

/* Rows that are written at a time, which is also the size of a chunk of the file: about a megabyte. */
#define CHUNK_BYTES ((size_t)1 << 20)

struct kith_hdf5_writer {
    const kith_allocator *allocator;
    char *path, *part; /* of the file; beside its place until it is whole */
    hid_t file, dataset;
    hsize_t dim, rows; /* rows: written */
    float *block;      /* [room][dim] */
    size_t n, room;    /* rows waiting */
};

static hid_t make_dataset(hid_t file, const char *name, hsize_t dim, hsize_t chunk_rows)
{
    const hsize_t none[2] = {0, dim}, any[2] = {H5S_UNLIMITED, dim}, chunk[2] = {chunk_rows, dim};
    hid_t space = H5Screate_simple(2, none, any), layout = H5Pcreate(H5P_DATASET_CREATE), dataset = -1;
    if (space >= 0 && layout >= 0 && H5Pset_chunk(layout, 2, chunk) >= 0)
        dataset = H5Dcreate2(file, name, H5T_IEEE_F32LE, space, H5P_DEFAULT, layout, H5P_DEFAULT);
    if (space >= 0) (void)H5Sclose(space);
    if (layout >= 0) (void)H5Pclose(layout);
    return dataset;
}

/* The attribute `distance`, in the words of ann-benchmarks. Returns 0 or -1. */
static int write_metric(hid_t file, kith_metric metric)
{
    const char *word = metric == KITH_COSINE ? "angular"
                       : metric == KITH_L2SQ ? "euclidean"
                                             : kith_metric_name(metric);
    hid_t space = H5Screate(H5S_SCALAR), type = H5Tcopy(H5T_C_S1), attribute = -1;
    int good = space >= 0 && type >= 0 && H5Tset_size(type, strlen(word)) >= 0;
    if (good) attribute = H5Acreate2(file, "distance", type, space, H5P_DEFAULT, H5P_DEFAULT);
    good = good && attribute >= 0 && H5Awrite(attribute, type, word) >= 0;
    if (attribute >= 0) (void)H5Aclose(attribute);
    if (type >= 0) (void)H5Tclose(type);
    if (space >= 0) (void)H5Sclose(space);
    return good ? 0 : -1;
}

static kith_status write_block(kith_hdf5_writer *w, kith_error *err)
{
    if (w->n == 0) return KITH_OK;
    const hsize_t start[2] = {w->rows, 0}, count[2] = {w->n, w->dim}, size[2] = {w->rows + w->n, w->dim};
    quiet before = silence();
    hid_t here = H5Screate_simple(2, count, NULL), there = -1;
    int good = here >= 0 && H5Dset_extent(w->dataset, size) >= 0;
    if (good) there = H5Dget_space(w->dataset);
    good = good && there >= 0 && H5Sselect_hyperslab(there, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
           H5Dwrite(w->dataset, H5T_NATIVE_FLOAT, here, there, H5P_DEFAULT, w->block) >= 0;
    kith_status status = good ? KITH_OK : fail_hdf5(err, KITH_IO, w->path, "cannot be written");
    if (here >= 0) (void)H5Sclose(here);
    if (there >= 0) (void)H5Sclose(there);
    unsilence(before);
    w->rows += w->n;
    w->n = 0;
    return status;
}

static kith_status begin_file(kith_hdf5_writer *w, const char *name, kith_metric metric, kith_error *err)
{
    quiet before = silence();
    w->file = H5Fcreate(w->part, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    if (w->file >= 0) w->dataset = make_dataset(w->file, name, w->dim, w->room);
    kith_status status = w->file >= 0 && w->dataset >= 0 && write_metric(w->file, metric) == 0
                             ? KITH_OK
                             : fail_hdf5(err, KITH_IO, w->path, "cannot be created");
    unsilence(before);
    return status;
}

kith_status kith_hdf5_writer_create(const char *path, const char *name, size_t dim, kith_metric metric,
                                    const kith_allocator *allocator, kith_hdf5_writer **writer,
                                    kith_error *err)
{
    if (!writer) return ki_fail(err, KITH_INVALID, "writer is NULL");
    *writer = NULL;
    size_t length = path ? file_part(path) : 0;
    if (length == 0)
        return ki_fail(err, KITH_INVALID, "%s: is no path of an HDF5 file (.hdf5 or .h5)",
                       path ? path : "NULL");
    if (path[length] == ':') name = path + length + 1;
    if (!name || !*name) return ki_fail(err, KITH_INVALID, "%s: name is empty", path);
    if (dim < 1 || dim > KITH_DATASET_MAX_DIM)
        return ki_fail(err, KITH_INVALID, "dim is %zu, allowed 1..%d", dim, KITH_DATASET_MAX_DIM);
    kith_hdf5_writer *w = ki_alloc_zero(allocator, 1, sizeof *w);
    if (!w) return ki_fail_nomem(err, sizeof *w);
    w->allocator = allocator;
    w->file = w->dataset = -1;
    w->dim = dim;
    w->room = CHUNK_BYTES / (dim * sizeof(float)) + 1;
    w->path = ki_strdup(allocator, path);
    w->part = ki_alloc(allocator, length + sizeof ".part", 1);
    w->block = ki_alloc(allocator, w->room * dim, sizeof *w->block);
    kith_status status = KITH_NOMEM;
    if (w->path && w->part && w->block) {
        w->path[length] = 0;
        snprintf(w->part, length + sizeof ".part", "%s.part", w->path);
        status = begin_file(w, name, metric, err);
    } else {
        status = ki_fail_nomem(err, CHUNK_BYTES);
    }
    if (status == KITH_OK)
        *writer = w;
    else
        kith_hdf5_writer_free(w);
    return status;
}

kith_status kith_hdf5_append(kith_hdf5_writer *w, const float *rows, size_t n, kith_error *err)
{
    for (size_t i = 0; i < n; i++) {
        memcpy(w->block + w->n * w->dim, rows + i * w->dim, w->dim * sizeof *rows);
        if (++w->n == w->room) KI_TRY(write_block(w, err));
    }
    return KITH_OK;
}

kith_status kith_hdf5_writer_finish(kith_hdf5_writer *w, kith_error *err)
{
    KI_TRY(write_block(w, err));
    if (w->rows == 0) return ki_fail(err, KITH_INVALID, "%s: no row was appended", w->path);
    quiet before = silence();
    int good = H5Dclose(w->dataset) >= 0;
    w->dataset = -1;
    good &= H5Fclose(w->file) >= 0;
    w->file = -1;
    kith_status status = good ? KITH_OK : fail_hdf5(err, KITH_IO, w->path, "cannot be written");
    unsilence(before);
    if (status == KITH_OK && rename(w->part, w->path) != 0)
        status = ki_fail_errno(err, errno, "%s: cannot be renamed to", w->path);
    if (status == KITH_OK) w->part[0] = 0;
    return status;
}

void kith_hdf5_writer_free(kith_hdf5_writer *w)
{
    if (!w) return;
    quiet before = silence();
    if (w->dataset >= 0) (void)H5Dclose(w->dataset);
    if (w->file >= 0) (void)H5Fclose(w->file);
    unsilence(before);
    if (w->path && w->part && w->part[0]) (void)unlink(w->part);
    ki_free(w->allocator, w->path);
    ki_free(w->allocator, w->part);
    ki_free(w->allocator, w->block);
    ki_free(w->allocator, w);
}
