/* gallery.h - a folder of pictures kept as a collection, searched by picture.
 *
 * A gallery is a collection (kith/collection.h) with one row for each picture of a folder tree: its vector
 * (kith/features.h), a thumbnail as the attachment, and what is known about the file as the payload:
 *
 *     path, folder        below the indexed folder; "" is that folder itself
 *     path_hex            the exact bytes of the path in hexadecimal, only where it is not valid UTF-8 ("path"
 *                         then has U+FFFD in place of each odd byte)
 *     size, mtime, mtime_ns   bytes; seconds since 1970 and the nanoseconds beyond
 *     hash, phash         XXH3-64 of the bytes; perceptual hash (kith/image.h); 16 hexadecimal digits each
 *     format, width, height   "JPEG"; pixels, upright
 *     taken, camera       from EXIF: "2004-07-11 09:26:53"; maker and model; absent where not known
 *
 * Other members of a payload, put there by somebody else, are kept when a picture changes or moves.
 *
 * Pictures are decoded in processes of their own, never in this one: a broken or hostile file costs one
 * picture, not the program. kith_gallery_open forks a small process that starts the decoders when they are
 * needed; call it early, before other threads run, as with any fork, and before this process decodes or saves
 * a picture itself: the decoders cannot use a libvips that was at work before they were forked, and say so.
 *
 * Threads: a kith_gallery belongs to one thread at a time. Linux.
 */
#ifndef KITH_GALLERY_H
#define KITH_GALLERY_H

#include <string.h>

#include <kith/collection.h>
#include <kith/features.h>
#include <kith/run.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kith_gallery kith_gallery;

typedef struct kith_gallery_options {
    size_t struct_size;
    const kith_allocator *allocator; /* NULL: the C library's */
    size_t jobs;                     /* decoder processes, 1..1024; 0: one for each processor */
    double max_megapixels;           /* refuse pictures of more millions of pixels; 0: 150 */
    uint64_t max_bytes;              /* refuse longer files; 0: 256 MB */
    double seconds;                  /* that one picture may take; 0: 60 */
    int read_only;                   /* nonzero: for searching only */
    unsigned wait_ms;                /* how long to wait for another writer of the collection */
    const char
        *model; /* MODEL features: where the model file is now; NULL: where it was at the first index */
} kith_gallery_options;

static inline void kith_gallery_options_init(kith_gallery_options *options)
{
    options->struct_size = sizeof *options;
    options->allocator = NULL;
    options->jobs = 0;
    options->max_megapixels = 0;
    options->max_bytes = 0;
    options->seconds = 0;
    options->read_only = 0;
    options->wait_ms = 5000;
    options->model = NULL;
}

/* Open a gallery.
 * In:       path of the collection. It need not exist: the first kith_gallery_index makes it. NULL: no
 *           collection, only kith_gallery_decode works. options, NULL for the defaults.
 * Out:      *gallery, NULL on failure.
 * Errors:   KITH_INVALID, KITH_NOMEM, KITH_IO no process to be had; those of kith_collection_open but
 *           KITH_NOTFOUND.
 * Memory:   the decoders are bounded to about 12 bytes for each of max_megapixels, at least 1 GB, each. */
KITH_API kith_status kith_gallery_open(const char *path, const kith_gallery_options *options,
                                       kith_gallery **gallery, kith_error *err);

/* Close, and end the decoders; NULL is allowed. */
KITH_API void kith_gallery_close(kith_gallery *gallery);

/* Let the collection go and open another, or the same where it lies now, with the decoders that are there: no process is forked, so other threads
 * may be at work.
 * In:       path as kith_gallery_open's. NULL: none is opened; nothing but this, kith_gallery_decode and kith_gallery_close is to be called
 *           then.
 * Errors:   those of kith_gallery_open; no collection is open then, and this may be called again. */
KITH_API kith_status kith_gallery_reopen(kith_gallery *gallery, const char *path, kith_error *err);

/* The collection under it, to read from; NULL before the first index. It belongs to the gallery. */
KITH_API kith_collection *kith_gallery_collection(kith_gallery *gallery);

/* The folder that is indexed, an absolute path, and how its features are made, one line. "" before the first
 * index. Valid until the next index or the close. */
KITH_API const char *kith_gallery_folder(const kith_gallery *gallery);
KITH_API const char *kith_gallery_description(const kith_gallery *gallery);

/* ---- Index ---- */

typedef struct kith_gallery_index_options {
    size_t struct_size;
    /* How features are made. NULL: as in this collection; CLASSIC for a new one. Others than the collection's
     * are refused without retrain. */
    const kith_features_options *features;
    /* exclude[n_exclude]: shell patterns of files and folders that are left out; one with a slash is matched
     * with the path below the folder, one without with each name on it. NULL: as at the last index. */
    const char *const *exclude;
    size_t n_exclude;
    int hidden;   /* names with a leading dot: 1 yes, 0 no, -1 as at the last index (at first: no) */
    int retrain;  /* learn the codebook anew, or change to other features: every picture is read again */
    int prune;    /* believe that the pictures are gone when the folder is missing or holds none any more */
    int relocate; /* the collection's folder has moved to where `folder` says */
    int retry;    /* read the bad files again, even those that did not change */
    size_t batch; /* pictures a transaction, 1..100,000; 128 */
} kith_gallery_index_options;

static inline void kith_gallery_index_options_init(kith_gallery_index_options *options)
{
    options->struct_size = sizeof *options;
    options->features = NULL;
    options->exclude = NULL;
    options->n_exclude = 0;
    options->hidden = -1;
    options->retrain = 0;
    options->prune = 0;
    options->relocate = 0;
    options->retry = 0;
    options->batch = 128;
}

typedef struct kith_gallery_report {
    size_t struct_size;
    uint64_t found;     /* pictures in the folder */
    uint64_t read;      /* files that were opened */
    uint64_t added;     /* new rows */
    uint64_t changed;   /* rows whose file has other bytes, or whose vector was made anew */
    uint64_t moved;     /* rows whose file has another path: the key stays */
    uint64_t removed;   /* rows whose file is gone, or bad now */
    uint64_t unchanged; /* rows left alone; those whose file was only touched are among them */
    uint64_t bad;       /* files listed as bad now, this run's and earlier ones' */
    uint64_t bad_new;   /* found bad by this run */
    int trained;        /* 1: a codebook was learnt */
    double seconds;     /* of it all */
    double seconds_walk, seconds_train, seconds_fold;
    /* Processor time of the decoders, added up. */
    double seconds_read, seconds_decode, seconds_features, seconds_thumbnail;
} kith_gallery_report;

static inline void kith_gallery_report_init(kith_gallery_report *report)
{
    memset(report, 0, sizeof *report);
    report->struct_size = sizeof *report;
}

/* Bring the collection in step with a folder: find the pictures, read those that are new or changed, drop the
 * rows of those that are gone. Only files whose size or time of change differ are opened; a file at a new
 * path with the bytes of one that is gone is that one, moved. Pictures are read in the order of their paths and
 * get their keys in it, whatever the number of decoders; each batch is durable when it is done, so a run that
 * is stopped or killed loses nothing but time, and the next one goes on from there.
 *
 * CLASSIC features learn a codebook from a sample of up to 1,000 pictures at the first index. A folder with
 * too few pictures for that (KITH_FEATURES_TRAIN_MIN) is indexed with PLAIN; as soon as it has enough (and
 * at least twice as many as at the last try) the next index trains, and makes all vectors anew.
 *
 * In:       folder; NULL: the one of the last index. options, NULL for the defaults. run: threads for the
 *           training, progress ("finding", "sampling", "training", "indexing", "removing", ...), cancel.
 * Out:      *report (its struct_size set), may be NULL; filled on failure, too, as far as it got.
 * Errors:   KITH_NOTFOUND the folder is missing, or empty though the collection has rows (see prune);
 *           KITH_INVALID options, another folder (see relocate) or other features (see retrain) than the
 *           collection's; KITH_BUSY another process is indexing; KITH_CANCELLED; KITH_READONLY; KITH_IO;
 *           KITH_NOMEM; KITH_INTERNAL decoders cannot be started. The rows are in a sound state after each.
 * Cost:     docs/perf.md. */
KITH_API kith_status kith_gallery_index(kith_gallery *gallery, const char *folder,
                                        const kith_gallery_index_options *options, const kith_run *run,
                                        kith_gallery_report *report, kith_error *err);

/* Index, then go on watching the folder (inotify) and index again, two seconds after the last change of a
 * burst, until run->cancel is raised.
 * In:       told is called after each index that succeeded, may be NULL. A folder that is missing or empty
 *           for a while is waited for.
 * Errors:   KITH_OK after a cancel; those of the first index; KITH_IO when the system allows no more watches.
 */
KITH_API kith_status kith_gallery_watch(kith_gallery *gallery, const char *folder,
                                        const kith_gallery_index_options *options, const kith_run *run,
                                        void (*told)(void *ctx, const kith_gallery_report *report), void *ctx,
                                        kith_error *err);

/* A file that could not be read. */
typedef struct kith_gallery_bad {
    const char *path;   /* below the folder; exact bytes */
    const char *reason; /* one line */
    kith_status status;
    uint64_t size;
} kith_gallery_bad;

/* List the bad files, each() a file, in no particular order, until it returns nonzero. The pointers are valid
 * during the call.
 * Errors:   KITH_NOTFOUND no collection; KITH_IO, KITH_CORRUPT, KITH_NOMEM. */
KITH_API kith_status kith_gallery_list_bad(kith_gallery *gallery,
                                           int (*each)(void *ctx, const kith_gallery_bad *bad), void *ctx,
                                           kith_error *err);

/* ---- Search ---- */

typedef struct kith_gallery_query {
    size_t struct_size;
    size_t k;            /* 1..KITH_COLLECTION_MAX_K */
    float min_score;     /* leave out rows below, 0..1 */
    int thumbnails;      /* nonzero: fetch them */
    const kith_run *run; /* NULL: this thread */
    const char *filter;  /* only pictures for whose payload this is true (docs/filters.md); NULL: all */
    kith_collection_plan *plan; /* NULL, or where to say how the rows were found */
} kith_gallery_query;

static inline void kith_gallery_query_init(kith_gallery_query *query)
{
    query->struct_size = sizeof *query;
    query->k = 10;
    query->min_score = 0;
    query->thumbnails = 0;
    query->run = NULL;
    query->filter = NULL;
    query->plan = NULL;
}

typedef struct kith_gallery_hit {
    int64_t key;
    float distance;           /* squared Euclidean, 0..4 */
    float score;              /* 1 / (1 + sqrt(distance)) */
    const char *path;         /* absolute; exact bytes */
    const char *payload;      /* JSON, zero-terminated */
    const uint8_t *thumbnail; /* a JPEG; NULL when none was asked for or there is none */
    size_t thumbnail_size;
} kith_gallery_hit;

typedef struct kith_gallery_answer {
    size_t n;
    kith_gallery_hit *hits;   /* nearest first */
    int complete;             /* 1: fewer than k only because no more match */
    uint32_t width, height;   /* of the query picture */
    const uint8_t *thumbnail; /* of the query picture, when thumbnails were asked for */
    size_t thumbnail_size;
    const float *vector; /* [dim]: how the collection sees the query picture */
    size_t dim;
} kith_gallery_answer;

/* The pictures most like one.
 * In:       picture, a file; query, NULL for its defaults.
 * Out:      *answer, to be given back with kith_gallery_answer_free; NULL on failure.
 * Errors:   KITH_NOTFOUND no such file, or no collection; KITH_UNSUPPORTED, KITH_CORRUPT the picture cannot
 *           be decoded; KITH_UNTRAINED nothing is indexed; KITH_INVALID; KITH_CANCELLED; KITH_IO; KITH_NOMEM.
 */
KITH_API kith_status kith_gallery_search(kith_gallery *gallery, const char *picture,
                                         const kith_gallery_query *query, kith_gallery_answer **answer,
                                         kith_error *err);

/* The same for a picture in memory: bytes[size] of a picture file. */
KITH_API kith_status kith_gallery_search_bytes(kith_gallery *gallery, const void *bytes, size_t size,
                                               const kith_gallery_query *query, kith_gallery_answer **answer,
                                               kith_error *err);

KITH_API void kith_gallery_answer_free(kith_gallery_answer *answer);

/* ---- Duplicates ---- */

typedef struct kith_gallery_duplicates_options {
    size_t struct_size;
    unsigned bits;   /* of the perceptual hash that may differ, 0..32 */
    float min_score; /* of the features, 0..1: the second opinion; 0: none is asked */
    int thumbnails;  /* nonzero: fetch them */
} kith_gallery_duplicates_options;

static inline void kith_gallery_duplicates_options_init(kith_gallery_duplicates_options *options)
{
    options->struct_size = sizeof *options;
    options->bits = 10;
    options->min_score = 0.55f;
    options->thumbnails = 0;
}

/* Pictures that hang together by pairs that are the same in both opinions. */
typedef struct kith_gallery_group {
    size_t n; /* 2 or more */
    kith_gallery_hit *
        hits; /* [n]: hits[0] is the one to keep; the others by distance to it, which distance and score tell */
    uint32_t *bits; /* [n]: of the perceptual hash that differ from the one to keep */
} kith_gallery_group;

typedef struct kith_gallery_duplicates {
    size_t n;                   /* groups, by the smallest key in each */
    kith_gallery_group *groups; /* [n] */
    uint64_t pictures;          /* that were compared */
} kith_gallery_duplicates;

/* Find the pictures that are there more than once: recompressed, scaled, brightened. Pairs whose perceptual hashes
 * (kith/image.h) differ in few bits are proposed, by the block index of kith/simhash.h; the distance of their features decides, for
 * hashes of smooth or dark pictures are alike by chance. Crops, turns and mirrors are not found.
 *
 * Suggested to keep is the picture with the most pixels, then with the most bytes, then the oldest, then with the least key.
 *
 * In:       options, NULL for the defaults. run: threads, progress ("reading", "comparing"), cancel.
 * Out:      *duplicates, to be given back with kith_gallery_duplicates_free; NULL on failure.
 * Errors:   KITH_NOTFOUND no collection; KITH_INVALID; KITH_CANCELLED; KITH_CORRUPT; KITH_IO; KITH_NOMEM.
 * Memory:   80 bytes a picture, and the vectors of those that are in a proposed pair.
 * Cost:     reads each row once; for n pictures up to n^2 / 2 comparisons of 64 bits (1.6 s of processor time for 50,000). */
KITH_API kith_status kith_gallery_find_duplicates(kith_gallery *gallery,
                                                  const kith_gallery_duplicates_options *options,
                                                  const kith_run *run, kith_gallery_duplicates **duplicates,
                                                  kith_error *err);

KITH_API void kith_gallery_duplicates_free(kith_gallery_duplicates *duplicates); /* NULL is allowed */

/* ---- Pixels ---- */

/* Decode a picture in a decoder process.
 * In:       long_side, shrink until the longer side is at most this; 0: keep the size.
 * Out:      *image, to be cleared with kith_image_clear; zeroed on failure.
 * Errors:   as kith_image_decode_file; KITH_CORRUPT also when the decoder crashed or took too long. */
KITH_API kith_status kith_gallery_decode(kith_gallery *gallery, const char *picture, uint32_t long_side,
                                         kith_image *image, kith_error *err);

#ifdef __cplusplus
}
#endif
#endif
