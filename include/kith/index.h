/* index.h - build, keep and search an index of vectors.
 *
 * An index is named by a spec string, `[transform,]structure[,codec][,refinement]`:
 *
 * | spec                | what it is                                                                       |
 * |---------------------|----------------------------------------------------------------------------------|
 * | Flat                | every row is compared; exact                                                     |
 * | PQ16, PQ16x4        | every row is compared in compressed form, 16 segments of 8 (4) bits              |
 * | IVF4096,Flat        | 4,096 cells by k-means; the rows of the `nprobe` nearest cells compared exactly  |
 * | IVF4096,PQ16        | the same over product-quantised residuals (IVFADC)                               |
 * | IVF4096,PQ16,RFlat  | the same, and the best `refine_k` x k candidates compared again exactly          |
 * | IVF4096,SQ8         | a byte a component instead of a float32                                          |
 * | OPQ16,IVF4096,PQ16  | rows and queries are rotated first, so that PQ16 loses least                     |
 * | HNSW16              | a graph: 16 to 32 links a row, walked towards the query with a beam of `ef`      |
 * | BMIH4               | rows of bits: multi-index hashing, exact                                         |
 * | MinHash128          | rows that are sets: signatures of 128 values in bands                            |
 * | SimHash64,BMIH4     | rows that are weighted sets: their fingerprints in a family over bits            |
 *
 * `Flat` may be left out before a codec. kith_families() lists what this library knows; docs/ tells when to use which.
 *
 * Life: create, train (where the family needs it), add, search; or open a saved file. Rows carry 64-bit ids
 * of the caller (every value but UINT64_MAX), each id at most once. Vectors are row-major float32 and finite:
 * NaN and infinity are refused. Under KITH_COSINE rows are kept scaled to unit length. Under KITH_HAMMING rows are
 * bits, under KITH_JACCARD sets, and go in and out by the calls that end in _bits and _sets (below); a call of one kind
 * refuses the index of another.
 *
 * Threads: an index may be searched by any number of searchers at once while nobody changes it; train, add,
 * remove and set need it alone (add does not after kith_index_reserve). One searcher belongs to one thread at a time. Determinism: the same data,
 * spec, seed, parameters and instruction set give the same file, byte for byte, with any number of threads.
 */
#ifndef KITH_INDEX_H
#define KITH_INDEX_H

#include <kith/filter.h>
#include <kith/io.h>
#include <kith/metric.h>
#include <kith/run.h>
#include <kith/sets.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KITH_NO_ID UINT64_MAX /* fills the tail of a short result */
#define KITH_MAX_DIM 65536
#define KITH_MAX_ROWS UINT32_MAX /* rows of one index */

typedef struct kith_index kith_index;
typedef struct kith_searcher kith_searcher;

/* ---- Parameters: one table a family; set-by-name, range checks, help and docs all read it ---- */

typedef enum kith_param_kind {
    KITH_PARAM_INT = 0,
    KITH_PARAM_FLOAT = 1,
    KITH_PARAM_BOOL = 2
} kith_param_kind;
typedef enum kith_param_when { KITH_AT_BUILD = 0, KITH_AT_SEARCH = 1 } kith_param_when;

typedef struct kith_param_info {
    const char *name;
    kith_param_kind kind;
    kith_param_when when;
    double low, high, initial; /* allowed range, both ends included, and the value when not set */
    const char *about;         /* one sentence */
} kith_param_info;

/* A parameter by name. Integers are exact up to 2^53. */
typedef struct kith_setting {
    const char *name;
    double value;
} kith_setting;

typedef struct kith_family_info {
    const char *pattern; /* "IVF<n>" */
    const char *about;   /* one sentence: when to use it */
    const kith_param_info *params;
    size_t n_params;
} kith_family_info;

/* The parts that spec strings are made of, in the order of the spec: transforms, structures, codecs, refinements.
 * Out:      *n, how many; the array and what it points to are static. */
KITH_API const kith_family_info *const *kith_families(size_t *n);

/* The parameters that an index of this spec takes, those of its structure, codec, refinement and transform together.
 * In/Out:   *n the room in infos[] before, the number of parameters after; infos NULL asks for the number.
 * Errors:   KITH_INVALID for a spec that cannot be parsed; the message says where. */
KITH_API kith_status kith_spec_params(const char *spec, kith_param_info *infos, size_t *n, kith_error *err);

/* ---- Making ---- */

typedef struct kith_index_options {
    size_t struct_size;
    kith_metric metric;
    uint64_t seed;                   /* of everything random in the index */
    const kith_allocator *allocator; /* NULL: the C library's */
} kith_index_options;

static inline void kith_index_options_init(kith_index_options *options)
{
    options->struct_size = sizeof *options;
    options->metric = KITH_L2SQ;
    options->seed = 1;
    options->allocator = NULL;
}

/* Make an empty index.
 * In:       spec as above; dim 1..KITH_MAX_DIM (rows of sets: 1; SimHash<b>: b); options NULL for the defaults.
 * Out:      *index, NULL on failure.
 * Errors:   KITH_INVALID (the spec cannot be parsed, a number is out of its range, PQ's segments do not
 *           divide dim, a transform makes more components than dim, dim is not that of sets), KITH_UNSUPPORTED (the family does not know the
 *           metric), KITH_NOMEM.
 * Memory:   the index keeps the allocator pointer. */
KITH_API kith_status kith_index_create(const char *spec, size_t dim, const kith_index_options *options,
                                       kith_index **index, kith_error *err);

/* Free an index; NULL is allowed. Its searchers must be freed before. */
KITH_API void kith_index_free(kith_index *index);

/* Set a build-time parameter, before training. KITH_INVALID for an unknown name or a value out of range. */
KITH_API kith_status kith_index_set(kith_index *index, const char *name, double value, kith_error *err);

/* Learn centroids and codebooks from a sample of the data (families take a sample of their own of a large x).
 * In:       x[n][dim]. A family that needs no training accepts the call and does nothing.
 * Errors:   KITH_INVALID: n is 0 or smaller than the number of centroids, a component is not finite, the
 *           index holds rows already; KITH_NOMEM; KITH_CANCELLED. Arguments that are refused before training begins (n 0,
 *           not finite, rows already there) change nothing; after any other failure the index is untrained.
 *           KITH_INVALID also for fewer than 16 rows for SQ8, SQ4 or PCA, 256 for OPQ; KITH_UNSUPPORTED for a transform
 *           in a build without LAPACK.
 * Threads:  searchers made before must be freed first: they point into what is learned anew.
 * Cost:     k-means: iterations x sample x centroids x dim. */
KITH_API kith_status kith_index_train(kith_index *index, const float *x, size_t n, const kith_run *run,
                                      kith_error *err);

/* Add rows.
 * In:       x[n][dim]; ids[n], or NULL: each row takes the number of rows ever added before it.
 * Errors:   KITH_INVALID (not finite, id is KITH_NO_ID), KITH_EXISTS (an id is already there or twice in
 *           ids), KITH_UNTRAINED, KITH_READONLY (mapped), KITH_NOMEM, KITH_CANCELLED. The call adds all rows or
 *           none. */
KITH_API kith_status kith_index_add(kith_index *index, const float *x, const uint64_t *ids, size_t n,
                                    const kith_run *run, kith_error *err);

/* Make room for `rows` rows in all, so that kith_index_add may run while other threads search: for HNSW.
 * From then on one thread at a time may add while any number of threads call kith_search and kith_search_range; adding
 * needs no lock, and neither do searches. Everything else (save, remove, check, has, reconstruct, making and freeing) still
 * needs the index to itself, or at least no add beside it.
 * A search that begins after an add has returned (in the order of the threads: a lock, a join, an acquire of what the adding
 * thread released) finds its rows as any other row. One that runs beside it finds each of them or does not; what
 * it returns are rows that are there, with their own ids and distances. Rows are written before the links to them are
 * published (release), and searches read links with acquire.
 * Errors:   KITH_UNSUPPORTED (another family), KITH_UNTRAINED, KITH_READONLY, KITH_NOMEM; KITH_INVALID: fewer rows than
 *           there are. Afterwards kith_index_add refuses, with KITH_INVALID, rows beyond the room; reserve again, alone.
 * Cancel:   such an add is not cancelled once the first row is in: it can be seen.
 * Memory:   that of `rows` rows at once, 16 bytes more each. */
KITH_API kith_status kith_index_reserve(kith_index *index, uint64_t rows, kith_error *err);

/* Remove rows by id. *removed (may be NULL): how many there were; unknown ids are passed over.
 * Errors:   KITH_READONLY, KITH_NOMEM (nothing is removed then).
 * Memory:   the room is used again by later rows. */
KITH_API kith_status kith_index_remove(kith_index *index, const uint64_t *ids, size_t n, size_t *removed,
                                       kith_error *err);

/* The vector of a row, as exactly as the index can tell: out[dim]. Through a transform that drops components it is
 * what the kept ones give back.
 * Errors:   KITH_NOTFOUND when there is no such id; KITH_INVALID for an index over bits or sets; KITH_NOMEM with a
 *           transform. */
KITH_API kith_status kith_index_reconstruct(const kith_index *index, uint64_t id, float *out,
                                            kith_error *err);

/* 1 when the id is there. */
KITH_API int kith_index_has(const kith_index *index, uint64_t id);

/* ---- Searching ---- */

typedef struct kith_search_options {
    size_t struct_size;
    const kith_setting *settings; /* search-time parameters for this call, e.g. {"nprobe", 64} */
    size_t n_settings;
    const kith_filter *filter; /* NULL: every row may be returned */
    const kith_cancel *cancel; /* NULL, or a flag that ends the search early with the best so far */
    uint64_t max_microseconds; /* budget of one query, 0: none; ends it early with the best so far */
    kith_pool *pool;           /* a batch is spread over its threads; NULL: this thread */
} kith_search_options;

static inline void kith_search_options_init(kith_search_options *options)
{
    options->struct_size = sizeof *options;
    options->settings = NULL;
    options->n_settings = 0;
    options->filter = NULL;
    options->cancel = NULL;
    options->max_microseconds = 0;
    options->pool = NULL;
}

/* What a query did. */
typedef struct kith_search_stats {
    uint64_t scored;  /* rows whose distance (or its estimate) was computed */
    uint64_t visited; /* cells, leaves or nodes looked into */
    uint64_t found;   /* results: k, or fewer */
    int complete; /* 1: fewer than k (or a short range) only because no more rows match; 0: the budget or the
                   * cancel flag ended the search early */
} kith_search_stats;

/* Make a searcher: the scratch memory of one thread. It must be freed before its index, and
 * before the index is trained again.
 * Errors:   KITH_UNTRAINED, KITH_NOMEM. */
KITH_API kith_status kith_searcher_create(const kith_index *index, kith_searcher **searcher, kith_error *err);
KITH_API void kith_searcher_free(kith_searcher *searcher);

/* Search a batch: the k nearest rows of each query.
 * In:       queries[nq][dim], finite; k >= 1 (k larger than the index is allowed); options NULL for the defaults.
 * Out:      ids[nq][k], dist[nq][k], nearest first, ties by the smaller id, in the units of the metric (exact
 *           for float32 rows and after refinement, estimates for compressed rows). When fewer than k rows match,
 *           the tail is filled with KITH_NO_ID and +INFINITY. stats[nq], may be NULL.
 * Errors:   KITH_INVALID for k == 0, NULL arrays, an unknown or out-of-range setting, or a NaN component;
 *           KITH_NOMEM. Nothing is written unless KITH_OK is returned. A cancelled or timed-out search is KITH_OK
 *           with complete = 0.
 * Threads:  any number of searchers at once on one index; one searcher belongs to one thread.
 * Memory:   allocates only inside the searcher, and only when k or nq grow. */
KITH_API kith_status kith_search(kith_searcher *searcher, const float *queries, size_t nq, size_t k,
                                 const kith_search_options *options, uint64_t *ids, float *dist,
                                 kith_search_stats *stats, kith_error *err);

/* All rows with distance <= radius (in the units of the metric: squared for KITH_L2SQ) of one query, among
 * those that the family looks at (all for exact families, `nprobe` cells for IVF).
 * Out:      *n rows, nearest first; *ids and *dist point into the searcher and stand until its next call.
 * Errors:   as kith_search. */
KITH_API kith_status kith_search_range(kith_searcher *searcher, const float *query, float radius,
                                       const kith_search_options *options, size_t *n, const uint64_t **ids,
                                       const float **dist, kith_search_stats *stats, kith_error *err);

/* ---- Rows of bits (KITH_HAMMING) ----
 *
 * As the calls of the same names without _bits, for an index whose metric is KITH_HAMMING: dim is the number of bits,
 * a row is kith_bit_bytes(dim) bytes (metric.h has the order of the bits), and the unused bits of its last byte
 * are 0.
 * Errors:   as there, but for what is about finite numbers; KITH_INVALID too for an unused bit that is set, and for an
 *           index of another metric. The calls without _bits refuse an index of bits the same way. */
KITH_API kith_status kith_index_train_bits(kith_index *index, const uint8_t *bits, size_t n,
                                           const kith_run *run, kith_error *err);
KITH_API kith_status kith_index_add_bits(kith_index *index, const uint8_t *bits, const uint64_t *ids,
                                         size_t n, const kith_run *run, kith_error *err);
KITH_API kith_status kith_index_reconstruct_bits(const kith_index *index, uint64_t id, uint8_t *out,
                                                 kith_error *err);
KITH_API kith_status kith_search_bits(kith_searcher *searcher, const uint8_t *queries, size_t nq, size_t k,
                                      const kith_search_options *options, uint64_t *ids, float *dist,
                                      kith_search_stats *stats, kith_error *err);
KITH_API kith_status kith_search_range_bits(kith_searcher *searcher, const uint8_t *query, float radius,
                                            const kith_search_options *options, size_t *n,
                                            const uint64_t **ids, const float **dist,
                                            kith_search_stats *stats, kith_error *err);

/* ---- Rows that are sets (KITH_JACCARD, and the fingerprints of SimHash) ----
 *
 * As the calls of the same names without _sets, for rows that are sets of 64-bit tokens (kith/sets.h). Two kinds of
 * index take them:
 *   - an index whose metric is KITH_JACCARD (MinHash<K>): each set's tokens ascend, each once (kith_set_normalise); sets
 *     have no dimension, dim is 1. Distances are estimates from signatures.
 *   - an index whose spec begins with SimHash<b>: metric KITH_HAMMING, dim b. A set's fingerprint (kith/simhash.h;
 *     weights count, order and repetitions are allowed) is the row of bits; fingerprints that were made elsewhere go in
 *     and out by the calls that end in _bits, too.
 * sets->n is the number of rows or queries.
 * Errors:   as there, but for what is about finite numbers; KITH_INVALID too for tokens that do not ascend
 *           (KITH_JACCARD), weights that are not finite, starts that do not ascend, sets of 2^32 - 1 tokens and more, and an
 *           index of another kind. Sets are not given back: there is no kith_index_reconstruct_sets. */
KITH_API kith_status kith_index_train_sets(kith_index *index, const kith_sets *sets, const kith_run *run,
                                           kith_error *err);
KITH_API kith_status kith_index_add_sets(kith_index *index, const kith_sets *sets, const uint64_t *ids,
                                         const kith_run *run, kith_error *err);
KITH_API kith_status kith_search_sets(kith_searcher *searcher, const kith_sets *queries, size_t k,
                                      const kith_search_options *options, uint64_t *ids, float *dist,
                                      kith_search_stats *stats, kith_error *err);
KITH_API kith_status kith_search_range_sets(kith_searcher *searcher, const kith_sets *query, float radius,
                                            const kith_search_options *options, size_t *n,
                                            const uint64_t **ids, const float **dist,
                                            kith_search_stats *stats, kith_error *err);

/* ---- Keeping ---- */

/* Write an index file: to a temporary name beside it, synced, renamed. On failure the old file stands as it was; only
 * when the folder cannot be synced, after the rename, it is the new one that stands, and the message says so.
 * In:       io NULL for the file system. */
KITH_API kith_status kith_index_save(const kith_index *index, const char *path, const kith_io *io,
                                     kith_error *err);

typedef enum kith_open_mode {
    KITH_OPEN_READ = 0, /* into memory; checksums verified; may be changed and saved again */
    KITH_OPEN_MAP = 1   /* mapped, not copied; read-only; checksums are left to kith_file_verify() */
} kith_open_mode;

/* Open an index file. Its bytes are not trusted: whatever they are, the answer is an index or an error.
 * Errors:   KITH_NOTFOUND, KITH_IO, KITH_FORMAT (not an index file), KITH_VERSION (of another version),
 *           KITH_CORRUPT, KITH_NOMEM. *index is NULL then. */
KITH_API kith_status kith_index_open(const char *path, kith_open_mode mode, const kith_allocator *allocator,
                                     const kith_io *io, kith_index **index, kith_error *err);

/* ---- Looking inside ---- */

typedef struct kith_index_info {
    size_t struct_size; /* set by the caller */
    const char *spec;   /* canonical; lives as long as the index */
    kith_metric metric;
    size_t dim;
    uint64_t n; /* rows */
    uint64_t seed;
    int trained, mapped;
    uint64_t bytes; /* memory or mapped file bytes of codes, ids and structure */
} kith_index_info;

KITH_API kith_status kith_index_get_info(const kith_index *index, kith_index_info *info, kith_error *err);

/* How the rows of an index with cells (IVF<n>) lie in them, and whether they have drifted from those trained with. */
typedef struct kith_cells_info {
    size_t struct_size;                   /* set by the caller */
    uint64_t cells, rows, largest, empty; /* largest: rows of the fullest cell */
    double mean_rows;                     /* of a cell */
    /* The mean squared distance of a row to the centroid of its cell: of the rows trained with, and of those now in the
     * index (rows removed count as the mean of their cell). Far above 1 apart, or cells of many times the mean size, and
     * the index should be trained anew. NaN where it is not known: no rows, or a file written by an early version. */
    double spread_trained, spread_now;
} kith_cells_info;

/* Errors:   KITH_UNSUPPORTED for a family without cells; KITH_UNTRAINED. Cost: one pass over the cells. */
KITH_API kith_status kith_index_get_cells(const kith_index *index, kith_cells_info *info, kith_error *err);

/* ---- Putting in order ---- */

typedef struct kith_compact_options {
    size_t struct_size;
    double max_cell; /* split cells that hold more than so many times the mean of all, 1.5 .. 1e6; 0: none */
} kith_compact_options;

static inline void kith_compact_options_init(kith_compact_options *options)
{
    options->struct_size = sizeof *options;
    options->max_cell = 0;
}

typedef struct kith_compact_result {
    uint64_t cells_before, cells_after;
    uint64_t largest_before, largest_after; /* rows of the fullest cell */
    uint64_t bytes_before, bytes_after;     /* as kith_index_info tells */
} kith_compact_result;

/* Put an index with cells (IVF<n>) in order after it has grown: memory that lists keep for rows to come is given back, and
 * cells that have grown too large are split, each by k-means of its rows, again and again until no part is too large
 * (hierarchical k-means). So an index need not be trained anew when rows come unevenly; when they come from elsewhere
 * than those trained with (kith_index_get_cells: spread_now), training anew is better.
 * Splitting loses nothing: codes stay as they are, and count from where they did. The number of cells grows, and the spec says
 * so: IVF4096,PQ16 may become IVF4130,PQ16. A calibration (kith/tune.h) is dropped then. Rows of other cells stay where they are,
 * though one of the new centroids may be nearer (A. Xu et al., "SPFresh", SOSP 2023, move them, from raw vectors).
 * In:       options NULL: no cell is split.
 * Out:      *result, may be NULL.
 * Errors:   KITH_UNSUPPORTED for a family without cells, or where a file of an early version does not know how rows lie in them;
 *           KITH_INVALID (max_cell, more cells than there may be), KITH_UNTRAINED, KITH_READONLY, KITH_NOMEM, KITH_CANCELLED. The
 *           index is as it was then.
 * Threads:  needs the index alone; searchers made before must be freed first.
 * Memory:   the index once more for the moment.
 * Cost:     a copy of the lists; k-means of the rows of each cell that is split. The same result with any number of threads. */
KITH_API kith_status kith_index_compact(kith_index *index, const kith_compact_options *options,
                                        const kith_run *run, kith_compact_result *result, kith_error *err);

/* Prove the numbered invariants of the structure (they stand at the top of each family's source file).
 * Errors:   KITH_CORRUPT, naming the invariant. Cost: every row is looked at. */
KITH_API kith_status kith_index_check(const kith_index *index, kith_error *err);

#ifdef __cplusplus
}
#endif
#endif
