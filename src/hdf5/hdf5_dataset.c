/* HDF5 datasets as kith datasets: a source that reads rows by hyperslab. HDF5 converts byte order and width; the
 * memory type is the smallest of ours that holds the file's. */
#include <kith/hdf5.h>

#include <hdf5.h>
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
