/* hdf5.h - vectors in HDF5 files, in the layout of ann-benchmarks (Aumueller, Bernhardsson & Faithfull,
 * "ANN-Benchmarks", 2020): datasets `train`, `test`, `neighbors` (row numbers of the true nearest) and `distances`,
 * and an attribute `distance` that names the metric.
 *
 * A library of its own, libkith-hdf5, so that libkith needs no HDF5. For files of one's own or from a source that
 * one trusts: HDF5 is a large reader with a long list of known holes, and no server of kith opens such files. */
#ifndef KITH_HDF5_H
#define KITH_HDF5_H

#include <kith/dataset.h>
#include <kith/metric.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 1 when a path names an HDF5 file: it ends in .hdf5 or .h5, or that is followed by ":NAME", a dataset inside. */
KITH_API int kith_hdf5_is_path(const char *path);

/* Open a dataset of a file as a kith_dataset, to be read and closed as such.
 * In:       path, "glove.hdf5" or "glove.hdf5:test"; name, the dataset when the path names none.
 * Out:      *dataset, NULL on failure.
 * Errors:   KITH_NOTFOUND (no such file, or no such dataset in it), KITH_FORMAT (not HDF5), KITH_UNSUPPORTED
 *           (not of one or two axes, elements that are no numbers), KITH_CORRUPT (no rows), KITH_NOMEM.
 * Threads:  HDF5 as usually built allows one thread at a time in the whole process. */
KITH_API kith_status kith_hdf5_open(const char *path, const char *name, const kith_allocator *allocator,
                                    kith_dataset **dataset, kith_error *err);

/* The metric that a file is meant for ("angular" is KITH_COSINE). ":NAME" in the path is passed over.
 * Errors:   KITH_NOTFOUND when the file does not say, KITH_UNSUPPORTED when it names another one. */
KITH_API kith_status kith_hdf5_metric(const char *path, kith_metric *metric, kith_error *err);

/* ---- Writing ---- */

typedef struct kith_hdf5_writer kith_hdf5_writer;

/* Begin a file with one dataset of float32 and the attribute `distance`; it takes the place of `path` when it is finished,
 * and not before.
 * In:       path as for kith_hdf5_open; name, the dataset when the path names none; dim 1..KITH_DATASET_MAX_DIM.
 * Out:      *writer, NULL on failure.
 * Errors:   KITH_INVALID, KITH_IO, KITH_NOMEM. */
KITH_API kith_status kith_hdf5_writer_create(const char *path, const char *name, size_t dim,
                                             kith_metric metric, const kith_allocator *allocator,
                                             kith_hdf5_writer **writer, kith_error *err);

/* Append rows[n][dim]. After a failure the file can only be freed. */
KITH_API kith_status kith_hdf5_append(kith_hdf5_writer *writer, const float *rows, size_t n, kith_error *err);

/* Write what is left, and put the file in its place. KITH_INVALID when no row was appended; KITH_IO. */
KITH_API kith_status kith_hdf5_writer_finish(kith_hdf5_writer *writer, kith_error *err);

/* Free it; a file that was not finished leaves nothing behind. NULL is allowed. */
KITH_API void kith_hdf5_writer_free(kith_hdf5_writer *writer);

#ifdef __cplusplus
}
#endif
#endif
