/* index_file.h - the index file: a header, sections of bytes, a directory of them, a checksum for each.
 *
 * A family's save writes sections (arrays of fixed-width elements) and one or more parameter records; its
 * load asks for each by name, saying how many elements of what size it must hold. What it gets is aligned to
 * 64 bytes, has exactly that length and lies inside the file. The contents of a section are bytes from
 * outside still: ids, offsets and counts in them are the family's to check.
 *
 * Write:    ki_store_create, then for each section ki_store_put (or begin, append..., end), then
 *           ki_store_commit; ki_store_writer_free in any case.
 * Read:     ki_store_open, then ki_store_array / ki_store_load / ki_store_record_open; ki_store_close when
 *           nothing points into it any more.
 *
 * The same calls with the same bytes give the same file. */
#ifndef KI_STORE_INDEX_FILE_H
#define KI_STORE_INDEX_FILE_H

#include <kith/allocator.h>
#include <kith/io.h>
#include <kith/metric.h>
#include <kith/run.h>

#include "store/index_layout.h"

/* What the header says about the index as a whole. */
typedef struct ki_store_header {
    char spec[KI_STORE_SPEC_BYTES]; /* printable ASCII, at least one character */
    kith_metric metric;
    uint32_t simd; /* kith_simd */
    uint64_t dim, rows, seed;
} ki_store_header;

/* ---- parameter records: small named values --------------------------------------------------------- */

typedef enum ki_record_kind { KI_RECORD_U64 = 1, KI_RECORD_F64 = 2, KI_RECORD_TEXT = 3 } ki_record_kind;

/* A record being filled, in caller memory. Failures are remembered and told by ki_store_put_record. */
typedef struct ki_record {
    const kith_allocator *allocator;
    unsigned char *data;
    size_t bytes, capacity;
    kith_status bad;
} ki_record;

void ki_record_init(ki_record *record, const kith_allocator *allocator);
void ki_record_clear(ki_record *record);

/* Names: 1..23 of a-z 0-9 _ . - and unique in the record. */
void ki_record_put_u64(ki_record *record, const char *name, uint64_t value);
void ki_record_put_f64(ki_record *record, const char *name, double value);
void ki_record_put_text(ki_record *record, const char *name, const char *text);

/* A record as it lies in a file, checked as a whole when it was opened. */
typedef struct ki_record_view {
    const unsigned char *data;
    size_t bytes;
    const char *file, *section; /* for messages */
} ki_record_view;

/* A value by name.
 * Errors:   KITH_CORRUPT when there is none of that name and kind, or it is outside [low, high] (a NaN
 *           always is); the message names file, section, value and range. *value is untouched then. */
kith_status ki_record_get_u64(const ki_record_view *record, const char *name, uint64_t low, uint64_t high,
                              uint64_t *value, kith_error *err);
kith_status ki_record_get_f64(const ki_record_view *record, const char *name, double low, double high,
                              double *value, kith_error *err);

/* A text of at most size - 1 bytes, without a zero byte inside, into text[size]. */
kith_status ki_record_get_text(const ki_record_view *record, const char *name, char *text, size_t size,
                               kith_error *err);

/* Whether the record has a value of that name (1) or not (0): for parameters added by a later version. */
int ki_record_has(const ki_record_view *record, const char *name);

/* Whether `data` is a well-formed record: KITH_OK or KITH_CORRUPT. */
kith_status ki_record_check(const ki_record_view *record, kith_error *err);

/* ---- writing ---------------------------------------------------------------------------------------- */

typedef struct ki_store_writer ki_store_writer;

#define KI_STORE_UNKNOWN UINT64_MAX

/* Begin a file that will replace `path` when it is committed.
 * Out:      *writer, NULL on failure.
 * Errors:   KITH_NOMEM, KITH_IO, KITH_NOTFOUND (no such folder), KITH_READONLY. */
kith_status ki_store_create(const char *path, const kith_io *io, const kith_allocator *allocator,
                            ki_store_writer **writer, kith_error *err);

/* Begin a section whose bytes come in pieces. bytes: how many there will be (a wrong promise is
 * KITH_INTERNAL at the end), or KI_STORE_UNKNOWN, which costs up to a page of padding.
 * Errors:   KITH_INVALID for a bad or repeated name, element_bytes 0 or a section still open. */
kith_status ki_store_begin(ki_store_writer *writer, const char *name, size_t element_bytes, uint64_t bytes,
                           kith_error *err);
kith_status ki_store_append(ki_store_writer *writer, const void *data, size_t bytes, kith_error *err);
kith_status ki_store_end(ki_store_writer *writer, kith_error *err);

/* A whole section: data[n] of element_bytes each. n may be 0. */
kith_status ki_store_put(ki_store_writer *writer, const char *name, const void *data, size_t n,
                         size_t element_bytes, kith_error *err);

/* A record as a section; also tells what failed while it was filled. */
kith_status ki_store_put_record(ki_store_writer *writer, const char *name, const ki_record *record,
                                kith_error *err);

/* Write directory and header, fsync, rename over `path`, fsync the folder.
 * Errors:   as ki_outfile_commit; KITH_INVALID for a bad header (no spec, unknown metric). */
kith_status ki_store_commit(ki_store_writer *writer, const ki_store_header *header, kith_error *err);

/* Free it; a file that was not committed is removed, and what stood at `path` is untouched. */
void ki_store_writer_free(ki_store_writer *writer);

/* ---- reading ---------------------------------------------------------------------------------------- */

typedef struct ki_store ki_store;

typedef enum ki_store_mode {
    KI_STORE_READ = 0, /* sections are read when they are asked for, and their checksums compared */
    KI_STORE_MAP = 1   /* the file is mapped; checksums of sections only by ki_store_verify */
} ki_store_mode;

/* Open a file. Header and directory are read and checked: checksums, sizes against the file's real size,
 * sections in ascending order, aligned and apart from each other.
 * Out:      *store, NULL on failure.
 * Errors:   KITH_FORMAT (not an index file), KITH_VERSION (a newer one, both versions named), KITH_CORRUPT,
 *           KITH_NOTFOUND, KITH_IO, KITH_NOMEM.
 * Memory:   KI_STORE_READ: a section is allocated when ki_store_array first asks for it, never more than the
 *           file holds.
 * Threads:  one thread until loading is done; then any number may read what it gave. */
kith_status ki_store_open(const char *path, ki_store_mode mode, const kith_io *io,
                          const kith_allocator *allocator, ki_store **store, kith_error *err);

/* The same over bytes in memory, aligned to 64, that outlive the store; `name` is for messages. Checksums of
 * sections as in KI_STORE_MAP. */
kith_status ki_store_open_memory(const char *name, const void *data, size_t bytes,
                                 const kith_allocator *allocator, ki_store **store, kith_error *err);

/* Unmap or free all that was handed out; NULL is allowed. */
void ki_store_close(ki_store *store);

const ki_store_header *ki_store_head(const ki_store *store);
const char *ki_store_path(const ki_store *store);
uint32_t ki_store_version(const ki_store *store);
uint64_t ki_store_file_bytes(const ki_store *store);

/* The directory, in file order. NULL when i is not below the count. */
size_t ki_store_section_count(const ki_store *store);
const ki_disk_section *ki_store_section(const ki_store *store, size_t i);

/* Whether a section exists (1) or not (0). */
int ki_store_has(const ki_store *store, const char *name);

/* How many elements of element_bytes a section holds, for sections whose length says a count.
 * Errors:   KITH_CORRUPT when it is missing, has another element size or is not a whole number of them. */
kith_status ki_store_count(const ki_store *store, const char *name, size_t element_bytes, uint64_t *n,
                           kith_error *err);

/* The n elements of a section, in place; they live until ki_store_close.
 * Out:      *data, aligned to 64; not NULL even for n == 0; untouched on failure.
 * Errors:   KITH_CORRUPT when the section is missing or does not hold exactly n elements of element_bytes,
 *           or (KI_STORE_READ) its checksum is wrong; KITH_NOMEM, KITH_IO. */
kith_status ki_store_array(ki_store *store, const char *name, uint64_t n, size_t element_bytes,
                           const void **data, kith_error *err);

/* The same, copied into data[n] of the caller: for families that change their arrays after loading. Nothing
 * is kept in the store. The checksum is always compared. */
kith_status ki_store_load(ki_store *store, const char *name, uint64_t n, size_t element_bytes, void *data,
                          kith_error *err);

/* A parameter record, checked as a whole. */
kith_status ki_store_record_open(ki_store *store, const char *name, ki_record_view *record, kith_error *err);

/* What a full check found. */
typedef struct ki_store_proof {
    uint64_t content_hash; /* XXH3-64 of all bytes of the file */
    size_t damaged;        /* sections whose checksum is wrong */
} ki_store_proof;

/* Read the whole file once: every section's checksum, the zeros between sections, the content hash.
 * Errors:   KITH_CORRUPT naming the first damaged section and how many there are; KITH_CANCELLED;
 *           KITH_IO. *proof is filled for KITH_OK and KITH_CORRUPT. run may be NULL. */
kith_status ki_store_verify(ki_store *store, const kith_run *run, ki_store_proof *proof, kith_error *err);

#endif
