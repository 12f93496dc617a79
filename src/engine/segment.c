/* segment.c - segments: index files that make search fast and may vanish at any time.
 *
 * A segment is built from one state of the database and named after it. It is used only as long as the change log
 * still knows all later changes, its name carries the stamp of that state, every checksum of the file holds, and dim
 * and metric fit. Whatever else is found in the folder is left alone by readers and removed by the next fold. The
 * database knows nothing of segments: building one writes no row, so it disturbs no writer. */
#include "engine/vectors.h"

#include "engine/rowblock.h"
#include "engine/spaces.h"

#include <kith/file.h>

#include "base/options.h"
#include "base/run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_LENGTH 38 /* 16 digits, '-', 16 digits, ".kidx" */
#define LOCK_NAME "lock"

/* Rows of the sample per cell: k-means has use for 256, FAISS warns below 39. Re-ranking forgives a cruder division
 * into cells, and the sample is held in memory. */
#define SAMPLE_PER_CELL 64
#define SAMPLE_LEAST_PER_CELL 39
#define SAMPLE_LEAST 65536               /* for the codebooks of PQ: 256 rows for each of 256 centroids */
#define SAMPLE_BYTES ((size_t)512 << 20) /* wide vectors: no more than this, unless the cells need it */

/* Rows handed to the index at a time: enough to keep the threads of a pool busy. Arbitrary. */
#define ADD_ROWS 65536
#define ADD_BYTES ((size_t)64 << 20)

/* ---- Names ---- */

static int parse_name(const char *name, uint64_t *version, uint64_t *stamp)
{
    int end = 0;
    if (strlen(name) != NAME_LENGTH || strspn(name, "0123456789abcdef") != 16 ||
        strspn(name + 17, "0123456789abcdef") != 16)
        return 0;
    return sscanf(name, "%16" SCNx64 "-%16" SCNx64 ".kidx%n", version, stamp, &end) == 2 &&
           end == NAME_LENGTH;
}

static void make_name(char name[KI_SEGMENT_NAME_BYTES], uint64_t version, uint64_t stamp)
{
    snprintf(name, KI_SEGMENT_NAME_BYTES, "%016" PRIx64 "-%016" PRIx64 ".kidx", version, stamp);
}

/* FOLDER/name, from the handle's allocator. */
static char *path_in_folder(const kith_collection *c, const char *name)
{
    size_t size = strlen(c->folder) + strlen(name) + 2;
    char *path = ki_alloc(c->allocator, size, 1);
    if (path) snprintf(path, size, "%s/%s", c->folder, name);
    return path;
}

int ki_segment_folder_changed(const kith_collection *c, struct timespec *seen)
{
    struct stat info;
    struct timespec now = {0};
    if (stat(c->folder, &info) == 0) now = info.st_mtim;
    int changed = now.tv_sec != seen->tv_sec || now.tv_nsec != seen->tv_nsec;
    *seen = now;
    return changed;
}

/* ---- Finding and opening ---- */

static int is_bad(const ki_buffer *bad, const char *name)
{
    for (size_t at = 0; at < bad->size; at += KI_SEGMENT_NAME_BYTES)
        if (strncmp((const char *)bad->data + at, name, KI_SEGMENT_NAME_BYTES) == 0) return 1;
    return 0;
}

kith_status ki_stamp_holds(kith_collection *c, uint64_t version, uint64_t stamp, int *holds, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    KI_TRY(ki_db_prepare(c, KI_SQL_BATCH_STAMP, &stmt, err));
    sqlite3_bind_int64(stmt, 1, (int64_t)version);
    KI_TRY(ki_db_step(c, KI_SQL_BATCH_STAMP, &row, err));
    *holds = row && (uint64_t)sqlite3_column_int64(stmt, 0) == stamp;
    ki_db_reset(c, KI_SQL_BATCH_STAMP);
    return KITH_OK;
}

/* What is looked for in the folder, and what was found. */
typedef struct hunt {
    uint64_t newer_than;
    const ki_buffer *bad;
    char name[KI_SEGMENT_NAME_BYTES]; /* "": none */
    uint64_t version, stamp;
    uint64_t ahead; /* the lowest version that is still to come; 0: none */
} hunt;

/* Compare one name with the best so far. */
static kith_status consider(kith_collection *c, hunt *h, const char *name, kith_error *err)
{
    const ki_state *s = &c->state;
    uint64_t version, stamp;
    int holds = 0;
    if (!parse_name(name, &version, &stamp) || version <= h->version) return KITH_OK;
    if (version > s->version && (h->ahead == 0 || version < h->ahead)) h->ahead = version;
    if (version > s->version || version < s->reset_version || version + 1 < s->oldest || is_bad(h->bad, name))
        return KITH_OK;
    KI_TRY(ki_stamp_holds(c, version, stamp, &holds, err));
    if (!holds) return KITH_OK;
    memcpy(h->name, name, NAME_LENGTH + 1);
    h->version = version;
    h->stamp = stamp;
    return KITH_OK;
}

/* The newest segment whose state fits and which is not known to be bad. */
static kith_status newest(kith_collection *c, hunt *h, kith_error *err)
{
    kith_status status = KITH_OK;
    h->name[0] = 0;
    h->version = h->newer_than;
    DIR *folder = opendir(c->folder);
    if (!folder) return errno == ENOMEM ? ki_fail_nomem(err, 0) : KITH_OK;
    struct dirent *entry;
    while (status == KITH_OK && (entry = readdir(folder)) != NULL)
        status = consider(c, h, entry->d_name, err);
    closedir(folder);
    return status;
}

/* Whether an index of this spec keeps float32 vectors, not seen through a transform. */
static int keeps_vectors(const char *spec)
{
    static const char *const structures[] = {"Flat", "IVF", "HNSW"};
    size_t size = strlen(spec);
    int plain = 0;
    for (size_t i = 0; i < sizeof structures / sizeof *structures; i++)
        plain |= strncmp(spec, structures[i], strlen(structures[i])) == 0;
    return plain && size >= 4 && strcmp(spec + size - 4, "Flat") == 0;
}

/* Which search parameters the index takes, and how far. */
static kith_status read_parameters(ki_segment *segment, const kith_allocator *allocator, kith_error *err)
{
    size_t n = 0;
    KI_TRY(kith_spec_params(segment->spec, NULL, &n, err));
    kith_param_info *infos = ki_alloc_zero(allocator, n, sizeof *infos);
    if (!infos) return ki_fail_nomem(err, n * sizeof *infos);
    kith_status status = kith_spec_params(segment->spec, infos, &n, err);
    for (size_t i = 0; status == KITH_OK && i < n; i++) {
        if (infos[i].when != KITH_AT_SEARCH) continue;
        if (strcmp(infos[i].name, "nprobe") == 0) segment->max_nprobe = infos[i].high;
        if (strcmp(infos[i].name, "refine_k") == 0) segment->max_refine = infos[i].high;
    }
    ki_free(allocator, infos);
    unsigned cells; /* the table's bound is that of the family, this index has so many */
    if (sscanf(segment->spec, "IVF%u", &cells) == 1 && cells < segment->max_nprobe)
        segment->max_nprobe = cells;
    return status;
}

/* Compare every checksum of the file: what is in it counts as much as the rows themselves. */
static kith_status verify_file(const kith_collection *c, const char *path, kith_error *err)
{
    kith_file *file = NULL;
    uint64_t hash;
    KI_TRY(kith_file_open(path, c->io, c->allocator, &file, err));
    kith_status status = kith_file_verify(file, NULL, &hash, err);
    kith_file_close(file);
    return status;
}

static kith_status open_segment(const kith_collection *c, const char *path, ki_segment *segment,
                                kith_error *err)
{
    struct stat info;
    kith_index_info index_info = {.struct_size = sizeof index_info};
    KI_TRY(verify_file(c, path, err));
    KI_TRY(kith_index_open(path, KITH_OPEN_MAP, c->allocator, c->io, &segment->index, err));
    KI_TRY(kith_index_get_info(segment->index, &index_info, err));
    if (index_info.dim != c->state.dim || index_info.metric != c->state.metric)
        return ki_fail(err, KITH_CORRUPT, "%s: dim or metric is not that of the collection", path);
    snprintf(segment->spec, sizeof segment->spec, "%s", index_info.spec);
    segment->rows = index_info.n;
    segment->bytes = stat(path, &info) == 0 ? (uint64_t)info.st_size : 0;
    segment->whole = keeps_vectors(segment->spec);
    KI_TRY(read_parameters(segment, c->allocator, err));
    return kith_searcher_create(segment->index, &segment->searcher, err);
}

void ki_segment_close(ki_segment *segment)
{
    kith_searcher_free(segment->searcher);
    kith_index_free(segment->index);
    *segment = (ki_segment){0};
}

kith_status ki_segment_find(kith_collection *c, uint64_t newer_than, ki_buffer *bad, ki_segment *segment,
                            uint64_t *ahead, kith_error *err)
{
    hunt h = {.newer_than = newer_than, .bad = bad};
    *segment = (ki_segment){0};
    for (;;) {
        KI_TRY(newest(c, &h, err));
        if (ahead) *ahead = h.ahead;
        if (!h.name[0]) return KITH_OK;
        char *path = path_in_folder(c, h.name);
        if (!path) return ki_fail_nomem(err, strlen(c->folder));
        kith_status status = open_segment(c, path, segment, err);
        ki_free(c->allocator, path);
        if (status == KITH_OK) {
            segment->version = h.version;
            segment->stamp = h.stamp;
            return KITH_OK;
        }
        ki_segment_close(segment);
        if (status == KITH_NOMEM) return status;
        KI_TRY(ki_buffer_append(bad, h.name, KI_SEGMENT_NAME_BYTES, c->allocator, err));
    }
}

kith_status ki_segment_uncovered(kith_collection *c, uint64_t version, uint64_t *rows, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    KI_TRY(ki_db_prepare(c, KI_SQL_CHANGE_COUNT, &stmt, err));
    sqlite3_bind_int64(stmt, 1, (int64_t)version);
    sqlite3_bind_int64(stmt, 2, ki_vector_changes(c));
    KI_TRY(ki_db_step(c, KI_SQL_CHANGE_COUNT, &row, err));
    *rows = row ? (uint64_t)sqlite3_column_int64(stmt, 0) : 0;
    if (row) ki_db_reset(c, KI_SQL_CHANGE_COUNT);
    return KITH_OK;
}

/* ---- Choosing a spec ---- */

/* The number of PQ segments: about a byte for eight components, and a divisor of dim. 0: no good one. */
static size_t choose_segments(size_t dim)
{
    size_t most = dim / 8 < 8 ? 8 : dim / 8;
    if (most > 64) most = 64;
    for (size_t m = most; m >= 4 && 2 * m >= most; m--)
        if (dim % m == 0 && dim / m >= 2) return m;
    return 0;
}

/* The specs to try, best first, ended by "". About 4 sqrt(n) cells keep the scan of the centroids and the scan of
 * the cells in balance; compressed rows make the scan cheap, and RFlat ranks its best again exactly. */
static void choose_specs(uint64_t n, size_t dim, char specs[4][64])
{
    size_t cells = (size_t)(4 * sqrt((double)n)), m = choose_segments(dim), used = 0;
    if (cells > 65536) cells = 65536;
    memset(specs, 0, 4 * 64);
    if (n >= 1000 && m > 0) snprintf(specs[used++], 64, "IVF%zu,PQ%zu,RFlat", cells, m);
    if (n >= 1000) snprintf(specs[used++], 64, "IVF%zu,Flat", cells);
    snprintf(specs[used], 64, "Flat");
}

static kith_status make_index(const kith_collection *c, const kith_fold_options *options, kith_index **index,
                              kith_error *err)
{
    kith_index_options made;
    kith_index_options_init(&made);
    made.metric = c->state.metric;
    made.seed = options->seed;
    made.allocator = c->allocator;
    if (options->spec) return kith_index_create(options->spec, c->state.dim, &made, index, err);
    char specs[4][64];
    choose_specs(c->state.vectors, c->state.dim, specs);
    kith_status status = KITH_UNSUPPORTED;
    /* Not every structure and codec knows every metric. */
    for (size_t i = 0; specs[i][0] && status == KITH_UNSUPPORTED; i++)
        status = kith_index_create(specs[i], c->state.dim, &made, index, err);
    return status;
}

/* ---- Building ---- */

typedef struct sample {
    const uint64_t *picked; /* [m], ascending */
    uint64_t m, taken;
    float *x; /* [m][dim] */
    size_t dim;
} sample;

static kith_status take_sampled(void *ctx, uint64_t i, int64_t key, const float *x, kith_error *err)
{
    sample *s = ctx;
    (void)key;
    (void)err;
    if (s->taken < s->m && s->picked[s->taken] == i)
        memcpy(s->x + s->dim * s->taken++, x, s->dim * sizeof *x);
    return KITH_OK;
}

static uint64_t sample_size(const ki_state *s, unsigned cells)
{
    uint64_t m = (uint64_t)SAMPLE_PER_CELL * cells, least = (uint64_t)SAMPLE_LEAST_PER_CELL * cells;
    if (m < SAMPLE_LEAST) m = SAMPLE_LEAST;
    uint64_t fits = SAMPLE_BYTES / (s->dim * sizeof(float));
    if (m > fits) m = fits > least ? fits : least;
    return m < s->vectors ? m : s->vectors;
}

static kith_status train(kith_collection *c, kith_index *index, const kith_fold_options *options,
                         kith_error *err)
{
    kith_index_info info = {.struct_size = sizeof info};
    KI_TRY(kith_index_get_info(index, &info, err));
    unsigned cells = 0;
    if (info.trained) return KITH_OK;
    if (sscanf(info.spec, "IVF%u", &cells) != 1) cells = 1024; /* as for a codec alone */
    uint64_t n = c->state.vectors, m = sample_size(&c->state, cells);
    sample s = {.m = m, .dim = c->state.dim};
    uint64_t *picked = ki_alloc(c->allocator, m, sizeof *picked);
    s.x = ki_alloc(c->allocator, m, s.dim * sizeof *s.x);
    s.picked = picked;
    kith_status status = picked && s.x ? KITH_OK : ki_fail_nomem(err, m * s.dim * sizeof *s.x);
    if (status == KITH_OK) {
        ki_rng rng;
        ki_rng_init(&rng, options->seed, 0);
        ki_rng_sample(&rng, n, m, picked);
        status = ki_vectors_scan(c, options->run, "sampling", take_sampled, &s, err);
    }
    if (status == KITH_OK && s.taken != m)
        status = ki_corrupt(c, err, "there are fewer vectors than counted");
    if (status == KITH_OK) status = kith_index_train(index, s.x, m, options->run, err);
    ki_free(c->allocator, picked);
    ki_free(c->allocator, s.x);
    return status;
}

typedef struct adder {
    kith_index *index;
    kith_run run; /* without progress: that of the whole is told by the scan */
} adder;

static kith_status add_block(void *ctx, const ki_row_block *block, kith_error *err)
{
    const adder *a = ctx;
    return ki_row_block_add(block, a->index, &a->run, err);
}

static kith_status add_all(kith_collection *c, kith_index *index, const kith_run *run, kith_error *err)
{
    adder a = {.index = index};
    ki_row_block block = {0};
    kith_run_init(&a.run);
    if (run) {
        a.run.pool = run->pool;
        a.run.cancel = run->cancel;
    }
    kith_status status = ki_row_block_init(&block, c, ADD_BYTES, ADD_ROWS, add_block, &a, err);
    if (status == KITH_OK) status = ki_vectors_scan(c, run, "adding", ki_row_block_put, &block, err);
    if (status == KITH_OK) status = ki_row_block_finish(&block, err);
    ki_row_block_clear(&block);
    return status;
}

/* Remove everything from the folder but the lock and the segment `keep`: older segments, damaged ones, what killed
 * folds left. A reader that has one mapped keeps its memory. Called with the lock held. */
static void sweep(const kith_collection *c, const char *keep)
{
    DIR *folder = opendir(c->folder);
    if (!folder) return;
    struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        if (strcmp(entry->d_name, LOCK_NAME) == 0 || strcmp(entry->d_name, keep) == 0 ||
            entry->d_name[0] == '.')
            continue;
        char *path = path_in_folder(c, entry->d_name);
        if (path) c->io->unlink(c->io->ctx, path);
        ki_free(c->allocator, path);
    }
    closedir(folder);
}

static kith_status build(kith_collection *c, const kith_fold_options *options, kith_error *err)
{
    kith_index *index = NULL;
    char name[KI_SEGMENT_NAME_BYTES];
    make_name(name, c->state.version, c->state.stamp);
    char *path = path_in_folder(c, name);
    kith_status status = path ? make_index(c, options, &index, err) : ki_fail_nomem(err, strlen(c->folder));
    if (status == KITH_OK) status = train(c, index, options, err);
    if (status == KITH_OK) status = add_all(c, index, options->run, err);
    if (status == KITH_OK) status = kith_index_save(index, path, c->io, err);
    if (status == KITH_OK) sweep(c, name);
    kith_index_free(index);
    ki_free(c->allocator, path);
    return status;
}

/* One fold at a time; the lock goes with the process that holds it. */
static kith_status lock_folder(const kith_collection *c, int *fd, kith_error *err)
{
    *fd = -1;
    if (c->at && mkdir(c->at->folder, 0777) != 0 && errno != EEXIST) /* exchanged: that of the collection */
        return ki_fail_errno(err, errno, "%s: cannot be made", c->at->folder);
    if (mkdir(c->folder, 0777) != 0 && errno != EEXIST)
        return ki_fail_errno(err, errno, "%s: cannot be made", c->folder);
    char *path = path_in_folder(c, LOCK_NAME);
    if (!path) return ki_fail_nomem(err, strlen(c->folder));
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    kith_status status = KITH_OK;
    if (*fd < 0)
        status = ki_fail_errno(err, errno, "%s: cannot be made", path);
    else if (flock(*fd, LOCK_EX | LOCK_NB) != 0)
        status = errno == EWOULDBLOCK ? ki_fail(err, KITH_BUSY, "%s: another process is folding", c->path)
                                      : ki_fail_errno(err, errno, "%s: cannot be locked", path);
    ki_free(c->allocator, path);
    return status;
}

char *ki_segment_path(const kith_collection *c, uint64_t version, uint64_t stamp)
{
    char name[KI_SEGMENT_NAME_BYTES];
    make_name(name, version, stamp);
    return path_in_folder(c, name);
}

kith_status ki_segment_adopt(kith_collection *c, uint64_t version, uint64_t stamp,
                             kith_status (*make)(void *ctx, const char *path, kith_error *err), void *ctx,
                             kith_error *err)
{
    int fd = -1;
    char name[KI_SEGMENT_NAME_BYTES];
    make_name(name, version, stamp);
    char *path = path_in_folder(c, name);
    kith_status status = path ? lock_folder(c, &fd, err) : ki_fail_nomem(err, strlen(c->folder));
    if (status == KITH_OK) status = make(ctx, path, err);
    if (status == KITH_OK) sweep(c, name);
    if (fd >= 0) close(fd);
    ki_free(c->allocator, path);
    return status;
}

/* Whether a segment is wanted, and there is none that is good enough. */
static kith_status is_due(kith_collection *c, const kith_fold_options *options, int *due, kith_error *err)
{
    const ki_state *s = &c->state;
    *due = s->dim > 0 && s->vectors > 0 && (options->always || s->vectors > c->exact_rows);
    if (!*due || options->always) return KITH_OK;
    ki_buffer bad = {0};
    ki_segment segment = {0};
    uint64_t uncovered = 0;
    kith_status status = ki_segment_find(c, 0, &bad, &segment, NULL, err);
    if (status == KITH_OK && segment.index) {
        status = ki_segment_uncovered(c, segment.version, &uncovered, err);
        *due = uncovered > s->vectors / 10;
    }
    ki_segment_close(&segment);
    ki_buffer_clear(&bad, c->allocator);
    return status;
}

static kith_status check_fold(const kith_collection *c, const kith_fold_options *options, kith_error *err)
{
    if (c->mode != KI_IDLE)
        return ki_fail(err, KITH_INVALID, "the collection is %s",
                       c->mode == KI_PINNED ? "pinned" : "in a batch");
    if (c->read_only) return ki_fail(err, KITH_READONLY, "%s: was opened for reading only", c->path);
    size_t n = 0;
    return options->spec ? kith_spec_params(options->spec, NULL, &n, err) : KITH_OK;
}

/* Within a read transaction. */
static kith_status fold_at_hand(kith_collection *c, const kith_fold_options *options, kith_error *err)
{
    int due = 0, fd = -1;
    KI_TRY(is_due(c, options, &due, err));
    if (!due) return KITH_OK;
    kith_status status = lock_folder(c, &fd, err);
    if (status == KITH_OK) status = build(c, options, err);
    if (fd >= 0) close(fd);
    return status;
}

static kith_status fold_field(kith_collection *c, const char *name, const kith_fold_options *given,
                              kith_error *err)
{
    kith_fold_options options = *given;
    KI_TRY(ki_space_enter(c, name, err));
    if (c->at && !options.spec && c->at->spec[0]) options.spec = c->at->spec;
    kith_status status = fold_at_hand(c, &options, err);
    ki_space_leave(c);
    return status;
}

kith_status kith_collection_fold(kith_collection *c, const kith_fold_options *given, kith_error *err)
{
    kith_fold_options options;
    kith_fold_options_init(&options);
    KI_TRY(ki_options_read(&options, sizeof options, given, "options", err));
    KI_TRY(check_fold(c, &options, err));
    KI_TRY(ki_read_begin(c, err));
    kith_status status = options.field ? KITH_OK : fold_at_hand(c, &options, err);
    if (status == KITH_OK) status = ki_spaces_load(c, err);
    for (size_t i = 0; status == KITH_OK && !options.field && i < c->spaces->n; i++) {
        kith_fold_options own = options; /* the spec of the call is that of the vectors of the rows */
        own.spec = NULL;
        status = fold_field(c, c->spaces->items[i]->name, &own, err);
    }
    if (status == KITH_OK && options.field) status = fold_field(c, options.field, &options, err);
    ki_read_end(c);
    return status;
}

kith_status kith_collection_optimize(kith_collection *c, const kith_fold_options *options, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    KI_TRY(kith_collection_fold(c, options, err));
    KI_TRY(ki_db_prepare(c, KI_SQL_CHECKPOINT, &stmt, err));
    KI_TRY(ki_db_step(c, KI_SQL_CHECKPOINT, &row, err));
    int busy = row && sqlite3_column_int(stmt, 0) != 0;
    if (row) ki_db_reset(c, KI_SQL_CHECKPOINT);
    if (busy) return ki_fail(err, KITH_BUSY, "%s: readers keep the log from being worked in", c->path);
    return KITH_OK;
}
