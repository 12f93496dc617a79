/* copies.h - copies of collections: made while others read and write, brought up to date by what has changed, and
 * proved equal.
 *
 * A copy is a collection itself: it opens, is searched and may be copied in turn. It has the id, the version and the
 * change log of its source, so that the next sync sends only the rows changed since, and an index segment of the
 * source is one of the copy, too.
 *
 * A half copy is never taken for a whole one. A new copy grows in PATH.part, which kith_collection_open refuses, and gets its
 * name when it is complete and on the disk; killed or cancelled, the next call goes on where it was, whatever was
 * written to the source meanwhile. A copy that exists is changed in one transaction: readers see the old rows or
 * the new ones, and what is killed has changed nothing.
 *
 * When to use:     backups, and replicas that are only read, on this machine or on a mounted disk.
 * When not to use: two collections that are both written to and should be merged; copies over a network file system,
 *                  which does not keep SQLite's locks.
 *
 * Threads: as in kith/collection.h. The source is only read, others may write to it meanwhile. It must not be in a batch;
 * when it is pinned, the pinned state is copied.
 */
#ifndef KITH_COPIES_H
#define KITH_COPIES_H

#include <kith/collection.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Making copies ---- */

typedef struct kith_copy_options {
    size_t struct_size;
    const kith_collection_options *open; /* of the copy: wait_ms; NULL: as the source was opened */
    int replace;         /* non-zero: a collection at the path that is no copy of the source is made one */
    int without_segment; /* non-zero: the index segment is not copied; it can be built anew by a fold */
    const kith_run *run; /* progress, cancel; NULL: silent */
} kith_copy_options;

static inline void kith_copy_options_init(kith_copy_options *options)
{
    options->struct_size = sizeof *options;
    options->open = NULL;
    options->replace = 0;
    options->without_segment = 0;
    options->run = NULL;
}

/* What a copy was like. */
typedef struct kith_copy_report {
    size_t struct_size;     /* set by the caller: sizeof *report */
    uint64_t version;       /* of the source, and now of the copy */
    uint64_t rows, deleted; /* put into the copy by this call, and deleted from it */
    uint64_t resumed_rows;  /* that an earlier call, which did not come to its end, had copied already */
    uint64_t segment_bytes; /* of the index segment copied by this call; 0: none, or it was there */
    int whole;              /* 1: every row was looked at; 0: only those that the change log names */
} kith_copy_report;

/* Make `path` a copy of a collection, or bring a copy that it is up to date.
 * In:       options, NULL for the defaults. path is new, or a collection.
 * Out:      *report, may be NULL; untouched on failure.
 * Errors:   KITH_EXISTS when `path` is another collection, has changes of its own or of what the source was before it was
 *           restored, or is older than the change log of the source reaches back, and `replace` is 0. KITH_FORMAT when it is no collection. KITH_BUSY when another process
 *           copies to it, or writes to it for all of wait_ms. KITH_CANCELLED. KITH_CORRUPT for a row of the source that is
 *           not sound: it is never copied. KITH_INVALID in a batch, or for a copy onto itself. KITH_IO, KITH_NOMEM,
 *           KITH_READONLY. After each of them `path` is what it was; or, when what failed came after the last transaction (the
 *           sync of the folder, the copying of the index segment), a whole copy.
 * Cost:     as many rows as have changed, when `path` is a copy; else all rows are read. */
KITH_API kith_status kith_collection_sync(kith_collection *source, const char *path,
                                          const kith_copy_options *options, kith_copy_report *report,
                                          kith_error *err);

/* The same, to a path where there is nothing yet (KITH_EXISTS): a copy of the state at the end of the call, all of one
 * state, and nobody waits for it. */
KITH_API kith_status kith_collection_snapshot(kith_collection *source, const char *path,
                                              const kith_copy_options *options, kith_copy_report *report,
                                              kith_error *err);

/* Make `path` what a snapshot holds, after proving that this is sound (kith_collection_check).
 * In:       options->replace: rows that are at `path` now may be lost; handles that are open there go on and see the rows of
 *           the snapshot by their next read. Without it there must be nothing (KITH_EXISTS).
 * Errors:   KITH_CORRUPT when the snapshot is damaged, KITH_NOTFOUND; those of kith_collection_sync. */
KITH_API kith_status kith_collection_restore(const char *snapshot, const char *path,
                                             const kith_copy_options *options, kith_copy_report *report,
                                             kith_error *err);

/* ---- Comparing ---- */

typedef struct kith_compare_options {
    size_t struct_size;
    int everything;      /* non-zero: attachments, too, which no content hash covers */
    const kith_run *run; /* progress, cancel; NULL: silent */
} kith_compare_options;

static inline void kith_compare_options_init(kith_compare_options *options)
{
    options->struct_size = sizeof *options;
    options->everything = 0;
    options->run = NULL;
}

/* The first difference of two collections, in the order of the keys. */
typedef struct kith_difference {
    size_t struct_size; /* set by the caller: sizeof *difference */
    int different;      /* 0: they are the same, and the rest is empty */
    int64_t key;        /* of the row; 0: dim or metric */
    char field
        [256]; /* "payload.address.city", "vector[17]", "text", "expires", "attachment"; "row": only one has it */
    char first[128];  /* what it is in the first collection, as text, perhaps cut short; "nothing" */
    char second[128]; /* and in the second */
} kith_difference;

/* Find the first difference in what the content hash covers.
 * In:       two handles, neither in a batch.
 * Out:      *difference, untouched on failure.
 * Errors:   KITH_CORRUPT naming the collection that is damaged; KITH_CANCELLED; KITH_INVALID; KITH_IO; KITH_NOMEM.
 * Cost:     reads both up to the first difference. */
KITH_API kith_status kith_collection_compare(kith_collection *first, kith_collection *second,
                                             const kith_compare_options *options, kith_difference *difference,
                                             kith_error *err);

#ifdef __cplusplus
}
#endif
#endif
