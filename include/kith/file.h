/* file.h - a look inside an index file, and the proof that it is whole.
 *
 * An index file is a header, sections and a directory of them (docs/format.md). This header reads what they
 * say without loading the index, whatever its family; kith/index.h opens the index itself. */
#ifndef KITH_FILE_H
#define KITH_FILE_H

#include <kith/allocator.h>
#include <kith/io.h>
#include <kith/metric.h>
#include <kith/run.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kith_file kith_file;

/* What the header says. Strings live as long as the handle. */
typedef struct kith_file_info {
    size_t struct_size;
    const char *spec;
    kith_metric metric;
    uint32_t version; /* of the format */
    uint32_t simd;    /* kith_simd: the instruction set that built it */
    uint64_t rows, dim, seed;
    uint64_t bytes; /* of the file */
    size_t sections;
} kith_file_info;

static inline void kith_file_info_init(kith_file_info *info)
{
    info->struct_size = sizeof *info;
    info->spec = NULL;
    info->metric = KITH_L2SQ;
    info->version = info->simd = 0;
    info->rows = info->dim = info->seed = info->bytes = 0;
    info->sections = 0;
}

typedef struct kith_file_section {
    size_t struct_size;
    const char *name;
    uint64_t offset, bytes;
    uint64_t checksum;      /* XXH3-64, as the file states it */
    uint32_t element_bytes; /* the section is an array of elements of this size */
} kith_file_section;

static inline void kith_file_section_init(kith_file_section *section)
{
    section->struct_size = sizeof *section;
    section->name = NULL;
    section->offset = section->bytes = section->checksum = 0;
    section->element_bytes = 0;
}

/* Open a file and check its header and directory.
 * In:       path; io and allocator, NULL for the usual ones.
 * Out:      *file, NULL on failure.
 * Errors:   KITH_FORMAT when it is not an index file, KITH_VERSION when a newer kith wrote it, KITH_CORRUPT,
 *           KITH_NOTFOUND, KITH_IO, KITH_NOMEM.
 * Threads:  a handle belongs to one thread at a time.
 * Cost:     reads some kilobytes, whatever the file's size. */
KITH_API kith_status kith_file_open(const char *path, const kith_io *io, const kith_allocator *allocator,
                                    kith_file **file, kith_error *err);

/* Close; NULL is allowed. */
KITH_API void kith_file_close(kith_file *file);

/* Fill *info, whose struct_size says how much of it the caller knows.
 * Errors:   KITH_INVALID for a struct_size that is too small. */
KITH_API kith_status kith_file_get_info(const kith_file *file, kith_file_info *info, kith_error *err);

/* Section i of the directory, in file order.
 * Errors:   KITH_INVALID when i is not below info.sections. */
KITH_API kith_status kith_file_get_section(const kith_file *file, size_t i, kith_file_section *section,
                                           kith_error *err);

/* Read the whole file once and compare every checksum.
 * In:       run: progress (stage "verifying", in bytes) and cancellation; may be NULL.
 * Out:      *content_hash, XXH3-64 of the file's bytes: equal for equal files, on any machine. Written for
 *           KITH_OK and KITH_CORRUPT.
 * Errors:   KITH_CORRUPT naming the first damaged section; KITH_CANCELLED, KITH_IO, KITH_NOMEM.
 * Memory:   about a megabyte. */
KITH_API kith_status kith_file_verify(kith_file *file, const kith_run *run, uint64_t *content_hash,
                                      kith_error *err);

#ifdef __cplusplus
}
#endif
#endif
