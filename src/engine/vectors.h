/* vectors.h - what a handle searches: a segment, if there is a good one, and all vectors that it does not cover.
 *
 *     segment   an index file in NAME.kith.d, mapped; the vectors as they were at segment.version
 *     changed   the keys of rows changed or deleted since then; in the segment they are passed over
 *     tail      an exact index in memory of the present vectors of those rows; without a segment, of all rows
 *
 * The three always belong to one state of the database, (version, stamp). ki_vectors_sync brings them to the state
 * that the open transaction sees, following the change log where it reaches back far enough. */
#ifndef KI_ENGINE_VECTORS_H
#define KI_ENGINE_VECTORS_H

#include <kith/index.h>

#include <time.h>

#include "engine/engine.h"
#include "engine/keyset.h"

/* A segment is named VERSION-STAMP.kidx, 16 hexadecimal digits each: the version that it covers, and the random
 * number of the batch that made this version. Were the database put back to an older copy and written on, the same
 * version would come again, but not with the same stamp. */
#define KI_SEGMENT_NAME_BYTES 40

typedef struct ki_segment {
    kith_index *index; /* NULL: there is none */
    kith_searcher *searcher;
    uint64_t version, stamp; /* of the state that it covers */
    uint64_t rows, bytes;    /* vectors in it, size of the file */
    double max_nprobe;       /* cells of an IVF; 0: it takes no nprobe */
    const char *main;        /* the parameter that trades time for recall, nprobe of an IVF; NULL: none */
    double main_low, main_high;
    double max_refine; /* of refine_k; 0: it takes none */
    int whole;         /* it keeps the vectors as they are: they need not be read from the database */
    char spec[256];    /* as in the header of the file */
} ki_segment;

/* What `kith tune` measured: the points of the curve, by ascending recall, which is ascending cost. */
#define KI_TUNING_POINTS 48
typedef struct ki_tuning {
    int loaded;
    uint64_t version, stamp; /* of the state that it was read in */
    double target;           /* what searches aim at that say nothing; 0: nothing was measured */
    size_t k;
    char param[32]; /* the parameter that was varied */
    double cells;   /* of the index measured; 0: it has none */
    size_t n;
    struct {
        double recall, value, refine;
    } points[KI_TUNING_POINTS];
} ki_tuning;

typedef struct ki_vectors {
    kith_index *tail; /* NULL: nothing has been loaded */
    kith_searcher *searcher;
    ki_keyset changed;
    ki_segment segment;
    uint64_t version, stamp; /* of the state that all this belongs to; behind a limit the stamp is 0 */
    uint64_t known_version,
        known_stamp; /* of the last batch before it or at it: the log is that of this history */
    size_t dim;
    kith_metric metric;
    int uncommitted;                 /* it was brought to a state inside an open batch */
    struct timespec folder_modified; /* when the folder was looked through last */
    uint64_t ahead;                  /* from this version on there is another segment to be used; 0: no */
    ki_tuning tuning;                /* what was measured of searches */
    ki_buffer bad;                   /* names of segment files found damaged, KI_SEGMENT_NAME_BYTES each */
} ki_vectors;

/* Bring c->vectors to the state that the open read transaction sees. c->state.dim is not 0.
 * In:       limit, NULL, or what ends the following of the change log; with a deadline a new segment is taken in only when
 *           there seems to be time to verify it. It holds only when there is a tail already: without one all is loaded.
 * Out:      *current 0: the limit ended it. c->vectors must not be searched then; the next call goes on. */
kith_status ki_vectors_sync(kith_collection *c, const ki_limit *limit, int *current, kith_error *err);

/* Forget everything; NULL is allowed. */
void ki_vectors_free(kith_collection *c);

/* What the handle knows after the end of its batch. */
void ki_vectors_committed(kith_collection *c);
void ki_vectors_rolled_back(kith_collection *c);

/* The keys of the rows whose vectors changed after version `since`, up to `last`, ascending, as int64_t in *keys. */
kith_status ki_changed_keys(kith_collection *c, uint64_t since, uint64_t last, ki_buffer *keys,
                            kith_error *err);

/* ---- segment.c ---- */

/* Open the newest good segment that covers a state of which the change log still knows all later changes.
 * In:       newer_than: only a segment that covers a later version than this is of interest.
 * In/Out:   *bad, names of files found damaged: they are passed over, new ones are added.
 * Out:      *segment, its index NULL when there is none: that is no failure, nor is a damaged file.
 *           *ahead, may be NULL: the version of one that the open transaction does not see yet; 0: none.
 * Errors:   KITH_NOMEM, and those of the database. */
kith_status ki_segment_find(kith_collection *c, uint64_t newer_than, ki_buffer *bad, ki_segment *segment,
                            uint64_t *ahead, kith_error *err);

void ki_segment_close(ki_segment *segment);

/* The path of a file of the folder, from the handle's allocator; NULL: no memory. */
char *ki_folder_path(const kith_collection *c, const char *name);

/* FOLDER/VERSION-STAMP.kidx, from the handle's allocator; NULL: no memory. */
char *ki_segment_path(const kith_collection *c, uint64_t version, uint64_t stamp);

/* Take in a segment that is made elsewhere: `make` writes it to the path that it is told, under the lock of the folder;
 * then what was there before is removed. KITH_BUSY when another process folds. */
kith_status ki_segment_adopt(kith_collection *c, uint64_t version, uint64_t stamp,
                             kith_status (*make)(void *ctx, const char *path, kith_error *err), void *ctx,
                             kith_error *err);

/* Whether the database went through the state (version, stamp). */
kith_status ki_stamp_holds(kith_collection *c, uint64_t version, uint64_t stamp, int *holds, kith_error *err);
/* The name of the segment of a state. */
void ki_segment_name(char name[KI_SEGMENT_NAME_BYTES], uint64_t version, uint64_t stamp);

/* How many rows have changed or lost their vectors since a version. */
kith_status ki_segment_uncovered(kith_collection *c, uint64_t version, uint64_t *rows, kith_error *err);

/* Whether rows lie so far from their centroids, compared with those trained with, that the index should be trained anew. */
int ki_has_drifted(const kith_cells_info *cells);

/* Whether the folder changed since *seen; updates *seen. */
int ki_segment_folder_changed(const kith_collection *c, struct timespec *seen);

#endif
