/* fold.c - building segments: which index, whether it is time, whether it fits into memory, and building it.
 *
 * A fold first makes a plan, which needs no lock and announces itself (kith_collection_plan_fold): nothing to do; rows to be
 * folded into the index that there is, whose cells and codebooks stay; or an index to be trained anew, because there is
 * none, the number of rows has outgrown its cells, or most rows are new to it. When rows have been folded in, the index says
 * how far they lie from their centroids compared with those it was trained with: if that has drifted, it is trained anew
 * after all.
 *
 * The database knows nothing of segments: building one writes no row, so it disturbs no writer. */
#include "engine/budget.h"
#include "engine/rowblock.h"
#include "engine/spaces.h"
#include "engine/tuning.h"
#include "engine/vectors.h"

#include <kith/file.h>

#include "base/options.h"
#include "base/run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* How long readers are waited for before the log cannot be worked in, milliseconds: so long writers may have to wait, too.
 * Arbitrary. */
#define CHECKPOINT_WAIT_MS 100

/* Fewer rows than this part of the vectors have changed: nothing to do. More than that part: trained anew. Arbitrary. */
#define DUE_PART 10
#define ANEW_PART 2

/* Cells off by this factor from the number that would be chosen now: trained anew. Recall and speed are flat around the best
 * number; twice as many or half of them cost about a tenth. */
#define CELLS_OFF 2

/* The mean squared distance to the centroid, of all rows against those trained with, from which on an index has drifted. The
 * same rows in another sample differ by some hundredths. */
#define DRIFTED 1.3

/* Arrays grow by half, and the old one stands until the new one is filled: at worst (1 + 1.5) times the bytes kept. */
#define GROWN 2.5

/* What matrix products take whatever the size of the index: columns packed once, rows packed by each thread (math/product.c),
 * and the lists of a batch of rows on their way to cells. */
#define SCRATCH ((uint64_t)16 << 20)

/* ---- Which index ---- */

/* The number of PQ segments: a byte for eight components, four or two where so much recall is wanted that re-ranking
 * would have to look at many; a divisor of dim. 0: no good one. */
static size_t choose_segments(size_t dim, double target_recall)
{
    size_t part = target_recall > 0.995 ? 2 : target_recall > 0.97 ? 4 : 8;
    size_t most = dim / part < 8 ? 8 : dim / part;
    if (most > 64 * 8 / part) most = 64 * 8 / part;
    for (size_t m = most; m >= 4 && 2 * m >= most; m--)
        if (dim % m == 0 && dim / m >= 2) return m;
    return 0;
}

/* About 4 sqrt(n) cells keep the scan of the centroids and the scan of the cells in balance. */
static size_t choose_cells(uint64_t n)
{
    size_t cells = (size_t)(4 * sqrt((double)n));
    return cells > 65536 ? 65536 : cells;
}

#define MOST_SPECS 6
#define SPEC_BYTES 64

/* The specs to try, best first, ended by "". Compressed rows make the scan cheap, and a refinement ranks its best again:
 * exactly, by a byte a component where memory is short, or not at all. */
static void choose_specs(uint64_t n, size_t dim, double target_recall, char specs[MOST_SPECS][SPEC_BYTES])
{
    size_t cells = choose_cells(n), m = choose_segments(dim, target_recall), used = 0;
    memset(specs, 0, MOST_SPECS * sizeof *specs);
    if (n >= 1000 && m > 0) snprintf(specs[used++], SPEC_BYTES, "IVF%zu,PQ%zu,RFlat", cells, m);
    if (n >= 1000) snprintf(specs[used++], SPEC_BYTES, "IVF%zu,Flat", cells);
    if (n >= 1000 && m > 0) snprintf(specs[used++], SPEC_BYTES, "IVF%zu,PQ%zu,Refine(SQ8)", cells, m);
    if (n >= 1000 && m > 0) snprintf(specs[used++], SPEC_BYTES, "IVF%zu,PQ%zu", cells, m);
    snprintf(specs[used], SPEC_BYTES, "Flat");
}

/* Bytes that a row takes in an index of this spec, ids and slots included: what its parts are known to keep. */
static double bytes_of_row(const char *spec, size_t dim)
{
    double d = (double)dim, bytes = 24;
    unsigned number;
    int compressed = 0;
    for (const char *part = spec; part; part = strchr(part, ',') ? strchr(part, ',') + 1 : NULL) {
        if (sscanf(part, "PQ%u", &number) == 1) {
            bytes += number;
            compressed = 1;
        } else if (strncmp(part, "SQ8", 3) == 0 || strncmp(part, "Refine(SQ8)", 11) == 0) {
            bytes += d;
            compressed |= part[0] == 'S';
        } else if (strncmp(part, "SQ4", 3) == 0) {
            bytes += d / 2;
            compressed = 1;
        } else if (strncmp(part, "F16", 3) == 0 || strncmp(part, "Refine(F16)", 11) == 0) {
            bytes += 2 * d;
            compressed |= part[0] == 'F';
        } else if (strncmp(part, "RaBitQ", 6) == 0) {
            bytes += (part[6] >= '2' && part[6] <= '8' ? part[6] - '0' : 1) * d / 8 + 16;
            compressed = 1;
        } else if (strncmp(part, "RFlat", 5) == 0) {
            bytes += 4 * d;
        } else if (sscanf(part, "HNSW%u", &number) == 1 || sscanf(part, "QG%u", &number) == 1 ||
                   sscanf(part, "Vamana%u", &number) == 1 || sscanf(part, "NSG%u", &number) == 1) {
            bytes += 10.0 * number + (part[0] == 'Q' ? number * d / 8 : 0);
        }
    }
    return compressed ? bytes : bytes + 4 * d;
}

static unsigned cells_of(const char *spec)
{
    unsigned cells = 0;
    return sscanf(spec, "IVF%u", &cells) == 1 ? cells : 0;
}

static uint64_t sample_size(const ki_state *s, unsigned cells);

/* Rows that codebooks are trained on at most (quant/pq.c). */
#define CODEBOOK_ROWS 65536

/* What codebooks take beside: each thread has a segment of the sample, put on a grid as well (cluster/kmeans_grid.c), and the lists
 * of k-means. */
static double codebook_bytes(const ki_state *s, const char *spec, size_t threads, double m)
{
    unsigned segments = 0;
    const char *pq = strstr(spec, "PQ");
    if (!pq || sscanf(pq, "PQ%u", &segments) != 1 || segments == 0) return 0;
    double rows = m < CODEBOOK_ROWS ? m : CODEBOOK_ROWS;
    return (double)threads * rows * (6 * (double)s->dim / segments + 28);
}

/* What training takes at its peak: the sample, what k-means keeps of it, and the centroids. */
static double training_bytes(const ki_state *s, const char *spec, size_t threads)
{
    unsigned cells = cells_of(spec);
    double row = 4.0 * (double)s->dim, m = (double)sample_size(s, cells ? cells : 1024);
    if (strcmp(spec, "Flat") == 0) return 0;
    return m * (2 * row + 32) + 4.0 * cells * row + codebook_bytes(s, spec, threads, m);
}

/* The most that a build has in memory at a time. */
static uint64_t peak_bytes(const ki_state *s, const char *spec, const kith_run *run)
{
    double n = (double)s->vectors, row = 4.0 * (double)s->dim, block = (double)ADD_BYTES;
    double rows = n < ADD_ROWS ? n : ADD_ROWS;
    if (rows * row < block) block = rows * row;
    double training = training_bytes(s, spec, kith_pool_threads(ki_run_pool(run)));
    double adding = GROWN * n * bytes_of_row(spec, s->dim) + 3 * block + 4.0 * cells_of(spec) * row;
    return (uint64_t)(training > adding ? training : adding) + SCRATCH;
}

/* ---- The plan ---- */

typedef struct recipe {
    char spec[256];
    const char *why; /* "": nothing to do */
    int anew;
    uint64_t peak;
} recipe;

/* Whether two specs differ in the number of cells alone. */
static int same_but_cells(const char *a, const char *b)
{
    if (!cells_of(a) || !cells_of(b)) return 0;
    return strcmp(a + 3 + strspn(a + 3, "0123456789"), b + 3 + strspn(b + 3, "0123456789")) == 0;
}

/* The recall that searches are tuned to, or what is wanted of this fold. */
static double wanted_recall(kith_collection *c, const kith_fold_options *options)
{
    return options->target_recall > 0 ? options->target_recall : ki_tuned_target(c);
}

/* Choose a spec that knows the metric and fits into the memory that may be used. */
static kith_status choose(kith_collection *c, const kith_fold_options *options, recipe *r, kith_error *err)
{
    char specs[MOST_SPECS][SPEC_BYTES];
    uint64_t least = UINT64_MAX, room = ki_budget_left(c);
    kith_index_options made;
    kith_index_options_init(&made);
    made.metric = c->state.metric;
    made.allocator = c->allocator;
    choose_specs(c->state.vectors, c->state.dim, wanted_recall(c, options), specs);
    for (size_t i = 0; specs[i][0]; i++) {
        kith_index *index;
        kith_status status = kith_index_create(specs[i], c->state.dim, &made, &index, err);
        if (status == KITH_UNSUPPORTED) continue; /* not every structure and codec knows every metric */
        KI_TRY(status);
        kith_index_free(index);
        uint64_t peak = peak_bytes(&c->state, specs[i], options->run);
        if (peak < least) least = peak;
        if (peak > room) continue;
        memcpy(r->spec, specs[i], SPEC_BYTES);
        r->peak = peak;
        return KITH_OK;
    }
    return ki_fail(
        err, KITH_NOMEM,
        "%s: an index needs at least %llu bytes, max_bytes leaves %llu: give more, or search without",
        c->path, (unsigned long long)least, (unsigned long long)room);
}

static kith_status plan_anew(kith_collection *c, const kith_fold_options *options, const char *why, recipe *r,
                             kith_error *err)
{
    r->why = why;
    r->anew = 1;
    if (!options->spec) return choose(c, options, r, err);
    snprintf(r->spec, sizeof r->spec, "%s", options->spec);
    r->peak = peak_bytes(&c->state, r->spec, options->run);
    if (r->peak <= ki_budget_left(c)) return KITH_OK;
    return ki_fail(err, KITH_NOMEM, "%s: building %s needs %llu bytes, max_bytes leaves %llu", c->path,
                   r->spec, (unsigned long long)r->peak, (unsigned long long)ki_budget_left(c));
}

/* Why the index that there is has to be trained anew; NULL: it need not. */
static const char *outgrown(kith_collection *c, const kith_fold_options *options, const ki_segment *segment,
                            uint64_t uncovered)
{
    char specs[MOST_SPECS][SPEC_BYTES];
    double cells = cells_of(segment->spec), wanted = (double)choose_cells(c->state.vectors);
    int ours = 0; /* chosen by us, not by the caller of an earlier fold */
    choose_specs(c->state.vectors, c->state.dim, wanted_recall(c, options), specs);
    for (size_t i = 0; specs[i][0]; i++) ours |= same_but_cells(segment->spec, specs[i]);
    if (!options->spec && ours && (cells * CELLS_OFF < wanted || cells > wanted * CELLS_OFF))
        return "cells"; /* the number of rows has outgrown them */
    return uncovered > c->state.vectors / ANEW_PART ? "grown" : NULL;
}

/* Within a read transaction: what is to be done about the vectors at hand. *segment is to be closed in any case. */
static kith_status make_plan(kith_collection *c, const kith_fold_options *options, ki_segment *segment,
                             recipe *r, kith_error *err)
{
    const ki_state *s = &c->state;
    ki_buffer bad = {0};
    uint64_t uncovered = 0;
    *r = (recipe){.why = ""};
    if (s->dim == 0 || s->vectors == 0) return KITH_OK;
    if (options->always) return plan_anew(c, options, "asked for", r, err);
    if (s->vectors <= c->exact_rows) return KITH_OK;
    kith_status status = ki_segment_find(c, 0, &bad, segment, NULL, err);
    ki_buffer_clear(&bad, c->allocator);
    KI_TRY(status);
    if (!segment->index) return plan_anew(c, options, "no index", r, err);
    KI_TRY(ki_segment_uncovered(c, segment->version, &uncovered, err));
    const char *why = outgrown(c, options, segment, uncovered);
    if (why) return plan_anew(c, options, why, r, err);
    if (uncovered <= s->vectors / DUE_PART) return KITH_OK;
    r->why = "changes";
    snprintf(r->spec, sizeof r->spec, "%s", segment->spec);
    r->peak = (uint64_t)(GROWN * (double)segment->bytes) + ADD_BYTES + SCRATCH;
    /* Where there is no room to change the index in memory, there is none to build it anew either; that says so. */
    return r->peak <= ki_budget_left(c) ? KITH_OK : plan_anew(c, options, r->why, r, err);
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
    adder a = {.index = index, .run = ki_run_quiet(run)};
    ki_row_block block = {0};
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
        char *path = ki_folder_path(c, entry->d_name);
        if (path) c->io->unlink(c->io->ctx, path);
        ki_free(c->allocator, path);
    }
    closedir(folder);
}

/* The index of a recipe, filled with all vectors. */
static kith_status build_anew(kith_collection *c, const kith_fold_options *options, const char *spec,
                              kith_index **index, kith_error *err)
{
    kith_index_options made;
    kith_index_options_init(&made);
    made.metric = c->state.metric;
    made.seed = options->seed;
    made.allocator = c->allocator;
    KI_TRY(kith_index_create(spec, c->state.dim, &made, index, err));
    KI_TRY(train(c, *index, options, err));
    return add_all(c, *index, options->run, err);
}

/* Take the rows that have changed out of the index, and put their present vectors in. */
static kith_status follow(kith_collection *c, kith_index *index, uint64_t since, const kith_run *run,
                          kith_error *err)
{
    ki_buffer found = {0};
    ki_row_block block = {0};
    adder a = {.index = index, .run = ki_run_quiet(run)};
    kith_status status = ki_changed_keys(c, since, c->state.version, &found, err);
    const int64_t *keys = (const int64_t *)(const void *)found.data;
    size_t n = found.size / sizeof *keys;
    if (status == KITH_OK && n > 0) status = kith_index_remove(index, (const uint64_t *)keys, n, NULL, err);
    if (status == KITH_OK) status = ki_row_block_init(&block, c, ADD_BYTES, ADD_ROWS, add_block, &a, err);
    ki_stage stage;
    ki_stage_begin(&stage, run, "adding", n);
    for (size_t i = 0; i < n && status == KITH_OK; i++) {
        const float *x = NULL;
        status = ki_vectors_fetch(c, keys[i], &x, err);
        if (status == KITH_OK && x) status = ki_row_block_put(&block, i, keys[i], x, err);
        if (status == KITH_OK && i % 1024 == 1023) {
            status = ki_run_check(run, err);
            ki_stage_report(&stage, i);
        }
    }
    if (status == KITH_OK) status = ki_row_block_finish(&block, err);
    ki_row_block_clear(&block);
    ki_buffer_clear(&found, c->allocator);
    return status;
}

int ki_has_drifted(const kith_cells_info *cells)
{
    return cells->spread_trained > 0 && cells->spread_now > DRIFTED * cells->spread_trained;
}

/* The index of a segment with the changes since; *index NULL: it cannot take them, or has drifted. */
static kith_status build_on(kith_collection *c, const ki_segment *segment, const kith_fold_options *options,
                            kith_index **index, kith_error *err)
{
    kith_cells_info cells = {.struct_size = sizeof cells};
    char *path = ki_segment_path(c, segment->version, segment->stamp);
    if (!path) return ki_fail_nomem(err, strlen(c->folder));
    kith_status status = kith_index_open(path, KITH_OPEN_READ, c->allocator, c->io, index, err);
    ki_free(c->allocator, path);
    if (status == KITH_OK) status = follow(c, *index, segment->version, options->run, err);
    int useless = status == KITH_UNSUPPORTED || status == KITH_READONLY || status == KITH_NOTFOUND;
    if (status == KITH_OK && kith_index_get_cells(*index, &cells, NULL) == KITH_OK)
        useless = ki_has_drifted(&cells);
    if (!useless) return status;
    kith_index_free(*index);
    *index = NULL;
    return KITH_OK;
}

/* That what was just written can be used: what cannot is taken away again, and older segments stay. */
static kith_status try_out(const kith_collection *c, const char *path, kith_error *err)
{
    kith_index *index = NULL;
    kith_status status = kith_index_open(path, KITH_OPEN_MAP, c->allocator, c->io, &index, err);
    kith_index_free(index);
    if (status == KITH_CORRUPT) unlink(path);
    return status;
}

static kith_status build(kith_collection *c, const kith_fold_options *options, const ki_segment *segment,
                         const recipe *r, kith_error *err)
{
    kith_index *index = NULL;
    recipe again = *r;
    char name[KI_SEGMENT_NAME_BYTES];
    ki_segment_name(name, c->state.version, c->state.stamp);
    char *path = ki_folder_path(c, name);
    kith_status status = path ? KITH_OK : ki_fail_nomem(err, strlen(c->folder));
    if (status == KITH_OK && !r->anew) {
        status = build_on(c, segment, options, &index, err);
        if (status == KITH_OK && !index) status = plan_anew(c, options, "drift", &again, err);
    }
    if (status == KITH_OK && !index) status = build_anew(c, options, again.spec, &index, err);
    if (status == KITH_OK) status = kith_index_save(index, path, c->io, err);
    if (status == KITH_OK) status = try_out(c, path, err);
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
    char *path = ki_folder_path(c, LOCK_NAME);
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

kith_status ki_segment_adopt(kith_collection *c, uint64_t version, uint64_t stamp,
                             kith_status (*make)(void *ctx, const char *path, kith_error *err), void *ctx,
                             kith_error *err)
{
    int fd = -1;
    char name[KI_SEGMENT_NAME_BYTES];
    ki_segment_name(name, version, stamp);
    char *path = ki_folder_path(c, name);
    kith_status status = path ? lock_folder(c, &fd, err) : ki_fail_nomem(err, strlen(c->folder));
    if (status == KITH_OK) status = make(ctx, path, err);
    if (status == KITH_OK) sweep(c, name);
    if (fd >= 0) close(fd);
    ki_free(c->allocator, path);
    return status;
}

/* ---- The doors ---- */

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
    int fd = -1;
    recipe r;
    ki_segment segment = {0};
    kith_status status = make_plan(c, options, &segment, &r, err);
    if (status == KITH_OK && *r.why) {
        status = lock_folder(c, &fd, err);
        if (status == KITH_OK) status = build(c, options, &segment, &r, err);
        if (fd >= 0) close(fd);
    }
    ki_segment_close(&segment);
    return status;
}

/* The options for the vectors at hand: a field has the spec that it was declared with. */
static kith_fold_options options_at_hand(const kith_collection *c, const kith_fold_options *given)
{
    kith_fold_options options = *given;
    if (c->at && !options.spec && c->at->spec[0]) options.spec = c->at->spec;
    return options;
}

static kith_status fold_field(kith_collection *c, const char *name, const kith_fold_options *given,
                              kith_error *err)
{
    KI_TRY(ki_space_enter(c, name, err));
    kith_fold_options options = options_at_hand(c, given);
    kith_status status = fold_at_hand(c, &options, err);
    ki_space_leave(c);
    return status;
}

static kith_status fold_all(kith_collection *c, const kith_fold_options *options, kith_error *err)
{
    kith_fold_options own = *options;
    if (options->field) return fold_field(c, options->field, options, err);
    KI_TRY(fold_at_hand(c, options, err));
    KI_TRY(ki_spaces_load(c, err));
    own.spec = NULL; /* the one of the call is that of the vectors of the rows */
    for (size_t i = 0; i < c->spaces->n; i++) KI_TRY(fold_field(c, c->spaces->items[i]->name, &own, err));
    return KITH_OK;
}

kith_status kith_collection_fold(kith_collection *c, const kith_fold_options *given, kith_error *err)
{
    kith_fold_options options;
    kith_fold_options_init(&options);
    KI_TRY(ki_options_read(&options, sizeof options, given, "options", err));
    KI_TRY(check_fold(c, &options, err));
    KI_TRY(ki_read_begin(c, err));
    kith_status status = fold_all(c, &options, err);
    ki_read_end(c);
    return status;
}

kith_status kith_collection_plan_fold(kith_collection *c, const kith_fold_options *given,
                                      kith_fold_plan *plan, kith_error *err)
{
    recipe r = {.why = ""};
    ki_segment segment = {0};
    kith_fold_options options;
    kith_fold_options_init(&options);
    KI_TRY(ki_options_read(&options, sizeof options, given, "options", err));
    if (!plan || plan->struct_size != sizeof *plan)
        return ki_fail(err, KITH_INVALID, "plan.struct_size is %zu, expected %zu",
                       plan ? plan->struct_size : 0, sizeof *plan);
    KI_TRY(ki_read_begin(c, err));
    kith_status status = ki_space_enter(c, options.field, err);
    options = options_at_hand(c, &options);
    if (status == KITH_OK) status = make_plan(c, &options, &segment, &r, err);
    ki_segment_close(&segment);
    ki_space_leave(c);
    ki_read_end(c);
    if (status != KITH_OK) return status;
    plan->why = r.why;
    plan->anew = r.anew;
    plan->peak_bytes = r.peak;
    memcpy(plan->spec, r.spec, sizeof plan->spec);
    return KITH_OK;
}

/* Move the log into the database. Where readers are in the way SQLite waits for them with the writers' lock in its hands, so it
 * waits for a moment only. */
static kith_status work_log_in(kith_collection *c, int *busy, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    KI_TRY(ki_db_prepare(c, KI_SQL_CHECKPOINT, &stmt, err));
    ki_db_patience(c, c->wait_ms < CHECKPOINT_WAIT_MS ? c->wait_ms : CHECKPOINT_WAIT_MS);
    kith_status status = ki_db_step(c, KI_SQL_CHECKPOINT, &row, err);
    ki_db_patience(c, c->wait_ms);
    if (status != KITH_OK) return status;
    *busy = row && sqlite3_column_int(stmt, 0) != 0;
    if (row) ki_db_reset(c, KI_SQL_CHECKPOINT);
    return KITH_OK;
}

kith_status kith_collection_settle(kith_collection *c, uint64_t *left, kith_error *err)
{
    sqlite3_stmt *stmt;
    int row;
    if (c->mode != KI_IDLE)
        return ki_fail(err, KITH_INVALID, "the collection is %s",
                       c->mode == KI_PINNED ? "pinned" : "in a batch");
    if (c->read_only) return ki_fail(err, KITH_READONLY, "%s: was opened for reading only", c->path);
    if (c->broken)
        return ki_fail(err, KITH_IO, "%s: an earlier commit failed to reach the disk; open it anew", c->path);
    KI_TRY(ki_db_prepare(c, KI_SQL_SETTLE, &stmt, err));
    KI_TRY(ki_db_step(c, KI_SQL_SETTLE, &row, err));
    /* Pages that are in the log, and those of them that are in the file, too; while another is at it, neither. */
    int other = row && sqlite3_column_int(stmt, 0) != 0;
    int64_t pages = row ? sqlite3_column_int64(stmt, 1) : 0, moved = row ? sqlite3_column_int64(stmt, 2) : 0;
    if (row) ki_db_reset(c, KI_SQL_SETTLE);
    if (left) *left = other ? UINT64_MAX : pages > moved ? (uint64_t)(pages - moved) * KI_PAGE_BYTES : 0;
    return KITH_OK;
}

kith_status kith_collection_optimize(kith_collection *c, const kith_fold_options *options, kith_error *err)
{
    int busy;
    KI_TRY(kith_collection_fold(c, options, err));
    KI_TRY(work_log_in(c, &busy, err));
    if (busy) return ki_fail(err, KITH_BUSY, "%s: readers keep the log from being worked in", c->path);
    return KITH_OK;
}
