/* ivf.c - an inverted file: rows in cells, a query looks into the nearest cells only.
 *
 * The idea. k-means cuts the space into n cells, each with a centroid. A row is kept in the list of the cell
 * whose centroid is nearest. A query is compared with all centroids, and then with the rows of the `nprobe`
 * nearest cells: of 4,096 cells and nprobe 64, with a 64th of the rows. What a row is compared by is the
 * codec's business: float32 (IVF4096,Flat), or product-quantised residuals (IVF4096,PQ16, "IVFADC").
 *
 * Papers. J. Sivic and A. Zisserman, "Video Google", ICCV 2003 (the inverted file of visual words). H. Jegou,
 * M. Douze, C. Schmid, "Product quantization for nearest neighbor search", IEEE TPAMI 33(1), 2011, section IV:
 * IVFADC. Our ways apart from it:
 *   - The tables of a query are made once and serve all its cells (quant/codec.h tells how), where the paper makes
 *     them anew for the residual in each cell: at nprobe 64 that is most of its work.
 *   - A query whose cells hold fewer than k rows that may be returned goes on to the next nearest cells until k are
 *     found or none are left: a filter never makes an answer short without need.
 *   - Rows of every metric lie in the cell that is nearest by L2. Queries find cells by L2 too, but under DOT by
 *     inner product. (L1: cells by L2 stay good proposals, and the product of matrices that makes assignment fast
 *     exists for L2 alone; codes are of whole vectors there, not residuals.)
 *   - A batch finds the cells of all its queries by one product of matrices. The values are the same as for a
 *     single query, so the answers are.
 *   - A single query would read all centroids, 2 MB for 4,096 of 128-d, to keep 64 of them. It is compared with a copy
 *     of a byte a component first, whose error is bounded, and with the centroids that this leaves over exactly:
 *     the same cells, for a quarter of the memory traffic (math/screen.h).
 *
 *   - IVF<n>_HKM<b>: the cells are the leaves of a tree of two levels (hierarchical k-means: D. Nister and H. Stewenius,
 *     "Scalable recognition with a vocabulary tree", CVPR 2006). k-means makes b branches, and cells within each, in
 *     proportion to its rows, so that no branch has few large cells. A row of the sample is compared with b branches and
 *     some n / b cells in a round, not with n cells. The tree serves training alone: rows and queries go by all cells,
 *     so nothing is lost at the borders of branches, where a descent would miss the nearest cell.
 *
 *   - IVF<n>_HNSW<M>: a query finds its cells by a graph over the centroids (coarse.h), for so many cells that comparing it
 *     with all is most of its work: at 65,536 cells of 128-d that is 32 MB to read, where a walk reads some 500 centroids.
 *     Such cells are trained as a tree, of sqrt(n) branches unless _HKM<b> says so. Rows still go to their nearest
 *     cell, so only what a walk misses is lost; a query that asks for many cells (over a sixteenth), or is `exact`, goes by
 *     all centroids, and so does one that runs out of cells (a strict filter). A. Babenko and V. Lempitsky, "Efficient
 *     indexing of billion-scale datasets of deep descriptors", CVPR 2016, and D. Baranchuk, A. Babenko, Y. Malkov, "Revisiting the
 *     inverted indices for billion-scale approximate nearest neighbors", ECCV 2018, have the same split of work.
 *
 *   - A query may end by itself instead of after nprobe cells: when no cell can hold a row nearer than the k-th found
 *     (`exact`), or when none is likely to (`reach`; ivf_search.c). The idea: C. Li, M. Zhang, D. Andersen, Y. He, "Improving
 *     approximate nearest neighbor search through learned adaptive early termination", SIGMOD 2020. Theirs is a decision
 *     tree over ratios of distances that predicts the number of probes once; ours is one such ratio, looked at before each
 *     cell, and a threshold that calibration learns (kith/tune.h).
 *
 *   - Cells that have grown too large are split in place (ivf_grow.c), without touching a code.
 *
 * Layout:      centroids[n][dim], and the same packed in panels for the product; lists as postings.h draws
 *              them. A map slot -> cell (4 bytes a slot) exists only once a row was looked up or removed.
 *
 * Invariants:
 *   I1  the sizes of the lists add up to the number of rows
 *   I2  every slot in use stands in exactly one list, and once; no other slot does
 *   I3  every code is one that its codec can score; float32 rows are finite
 *   I4  centroids, and origins where cells were split, are finite
 *   I5  where the map of slots exists, it names the list that holds the slot
 *   I6  no row was farther from the centroid of its cell, when it was added, than the cell's radius (checked: float32 rows)
 *   I7  the graph, where there is one, is sound and over the centroids
 *
 * Cost:        train  iterations x sample x n x dim multiply-adds (sample: train_rows x n); as a tree of b branches
 *                     iterations x sample x (b + n / b) x dim, and the sample once more in memory
 *              add    rows x n x dim multiply-adds, and the encoding
 *              search n x dim + scored x (dim, or segments) ; reads n x dim x 4 bytes of centroids
 *              memory 4 + code_size + 4 x factors bytes a row; centroids twice and a quarter, or two once rows were added; once more where zero lies far outside of the cells
 *              open   each slot number is looked at once (4 bytes a row), mapped or not
 * Sections:    those of HNSW where there is a graph; "ivf.centroids", "ivf.origins" (where cells were split), "ivf.training", "ivf.radii", "ivf.spread", "ivf.sizes", "ivf.slots", "ivf.codes", "ivf.factors".
 */
#include "index/ivf_internal.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/run.h"
#include "quant/layout.h"

#define PREFIX "ivf"
#define MAX_CELLS KI_IVF_MAX_CELLS

/* Rows that are assigned and encoded at a time: enough to keep all threads busy, small beside the index. */
#define ADD_BLOCK 16384

/* Cells from which on a single query is screened (math/screen.h). Below, all centroids are near enough in the caches. */
#define SCREEN_CELLS 512

/* Rows of the sample by which drift is measured: the mean of so many is within a percent or so (arbitrary). */
#define SPREAD_ROWS 65536

/* Rows that training takes by itself: so many a cell, and fewer, but not under TRAIN_LEAST, where these are more than TRAIN_MOST
 * rows in all. Of sift1m, IVF4096,PQ16, recall@10 at nprobe 8 is 0.507 with 64 rows a cell and 0.515 with 256; the copy of a
 * sample stays within what the rows of so many cells take. */
#define TRAIN_ROWS 256
#define TRAIN_LEAST 64
#define TRAIN_MOST ((size_t)1 << 20)

/* The smallest bound on cells that is reached but for odd data: closer ones take many rounds and are missed. */
#define LEAST_MAX_CELL 1.5

/* Where a sample is drawn for the codec, apart from the one for the centroids. */
#define CODEC_STREAM 0x636f646563u

static const kith_param_info params[] = {
    [KI_IVF_NPROBE] = {"nprobe", KITH_PARAM_INT, KITH_AT_SEARCH, 1, (double)MAX_CELLS, 16,
                       "cells that a query looks into, nearest first; more is slower and finds more"},
    [KI_IVF_REACH] =
        {"reach", KITH_PARAM_FLOAT, KITH_AT_SEARCH, 0, 4, 0,
         "instead of nprobe, under l2 and cosine: how far beyond the nearest cell's border a query looks, in "
         "terms of its k-th distance, so that easy queries end early; about 0.2 to 1; 0: off"},
    [KI_IVF_EXACT] =
        {"exact", KITH_PARAM_BOOL, KITH_AT_SEARCH, 0, 1, 0,
         "instead of nprobe, under l2 and cosine: every cell that can hold a nearer row; with Flat rows the "
         "exact answer"},
    [KI_IVF_COARSE_EF] = {"coarse_ef", KITH_PARAM_INT, KITH_AT_SEARCH, 0, 1 << 20, 0,
                          "of _HNSW<M>: nearest centroids that the walk to the cells keeps, nprobe at least; "
                          "more is slower and finds "
                          "better cells; 0: a half more than nprobe, 32 at least"},
    [KI_IVF_ITERATIONS] = {"kmeans_iterations", KITH_PARAM_INT, KITH_AT_BUILD, 1, 1000, 10,
                           "k-means iterations in the training of the cells"},
    [KI_IVF_TRAIN_ROWS] =
        {"train_rows", KITH_PARAM_INT, KITH_AT_BUILD, 0, 65536, 0,
         "rows per cell that training takes at most, by a random sample; 0: 256, fewer where that were "
         "more than 2^20 in all, 64 at least"},
    [KI_IVF_MINI_BATCH] = {"mini_batch", KITH_PARAM_INT, KITH_AT_BUILD, 0, 1 << 30, 0,
                           "rows that an iteration of k-means looks at, by random batches; 0: all"},
    [KI_IVF_SPHERICAL] = {"spherical", KITH_PARAM_BOOL, KITH_AT_BUILD, 0, 1, 0,
                          "under cosine: centroids of unit length"},
    [KI_IVF_MAX_CELL] =
        {"max_cell", KITH_PARAM_FLOAT, KITH_AT_BUILD, 0, 1e6, 0,
         "cells hold at most so many times the mean of the rows trained with, 1.5 or more; 0: any number"},
};

/* ---- Create and free ---- */

static kith_status ivf_create(const ki_structure_env *env, ki_structure **structure, kith_error *err)
{
    *structure = NULL;
    if (env->args[KI_IVF_BRANCHES] > env->args[KI_IVF_CELLS])
        return ki_fail(err, KITH_INVALID, "b of HKM is %llu, allowed 0..%llu, the cells",
                       (unsigned long long)env->args[KI_IVF_BRANCHES],
                       (unsigned long long)env->args[KI_IVF_CELLS]);
    if (env->args[KI_IVF_LINKS] == 1) return ki_fail(err, KITH_INVALID, "M of HNSW is 1, allowed 2..128");
    ki_ivf *ivf = ki_alloc_zero(env->allocator, 1, sizeof *ivf);
    if (!ivf) return ki_fail_nomem(err, sizeof *ivf);
    ivf->base.env = env;
    ivf->n_cells = (size_t)env->args[KI_IVF_CELLS];
    *structure = &ivf->base;
    return KITH_OK;
}

static void drop_map(ki_ivf *ivf)
{
    ki_free(ivf->base.env->allocator, atomic_load(&ivf->cell_of));
    atomic_store(&ivf->cell_of, NULL);
    ivf->cell_room = 0;
}

void ki_ivf_reset(ki_ivf *ivf)
{
    drop_map(ivf);
    ki_free(ivf->base.env->allocator, ivf->centroids);
    ki_free(ivf->base.env->allocator, ivf->origins);
    ki_packed_free(ivf->nearest);
    ki_packed_free(ivf->probing);
    ki_screen_free(ivf->screen);
    ki_sieve_free(ivf->sieve);
    ki_coarse_free(ivf->coarse);
    ki_postings_clear(&ivf->lists);
    ki_ivf_cells_clear(ivf);
    ivf->centroids = ivf->origins = NULL;
    ivf->split = 0;
    ivf->nearest = ivf->probing = NULL;
    ivf->screen = NULL;
    ivf->sieve = NULL;
    ivf->coarse = NULL;
}

static void ivf_free(ki_structure *structure)
{
    ki_ivf_reset((ki_ivf *)structure);
    ki_free(structure->env->allocator, structure);
}

kith_status ki_ivf_ready(ki_ivf *ivf, kith_error *err)
{
    const ki_structure_env *env = ivf->base.env;
    KI_TRY(ki_ivf_cells_center(ivf, err));
    KI_TRY(ki_packed_create(ki_ivf_columns(ivf), env->dim, ivf->n_cells, env->dim, KITH_L2SQ, env->allocator,
                            &ivf->nearest, err));
    if (env->metric == KITH_DOT && !env->unit)
        KI_TRY(ki_packed_create(ivf->centroids, env->dim, ivf->n_cells, env->dim, KITH_DOT, env->allocator,
                                &ivf->probing, err));
    if (env->args[KI_IVF_LINKS] > 0)
        KI_TRY(ki_coarse_create((size_t)env->args[KI_IVF_LINKS], env->dim,
                                ivf->probing ? KITH_DOT : KITH_L2SQ, env->seed, env->allocator, &ivf->coarse,
                                err));
    if (!ivf->probing && !ivf->coarse && ivf->n_cells >= SCREEN_CELLS)
        KI_TRY(ki_screen_create(ki_ivf_columns(ivf), env->dim, ivf->n_cells, env->dim, env->allocator,
                                &ivf->screen, err));
    KI_TRY(ki_ivf_cells_init(ivf, err));
    return ki_postings_init(&ivf->lists, ivf->n_cells, env->codec, env->allocator, err);
}

/* ---- Training ---- */

static kith_status alloc_centroids(ki_ivf *ivf, kith_error *err)
{
    const ki_structure_env *env = ivf->base.env;
    ivf->centroids = ki_alloc(env->allocator, ivf->n_cells, env->dim * sizeof *ivf->centroids);
    return ivf->centroids ? KITH_OK : ki_fail_nomem(err, ivf->n_cells * env->dim * sizeof *ivf->centroids);
}

/* Before rows are filed. */
static kith_status use_sieve(ki_ivf *ivf, kith_error *err)
{
    const ki_structure_env *env = ivf->base.env;
    if (ivf->sieve || !ki_sieve_pays(ivf->n_cells, env->dim)) return KITH_OK;
    return ki_sieve_create(ivf->centroids, ivf->n_cells, env->dim, env->allocator, &ivf->sieve, err);
}

/* The cell of each of x[n][dim], by their distances from the middle. */
static kith_status file_shifted(const ki_ivf *ivf, const float *x, size_t n, const kith_run *run,
                                uint32_t *cells, kith_error *err)
{
    const ki_structure_env *env = ivf->base.env;
    size_t block = n < ADD_BLOCK ? n : ADD_BLOCK;
    float *room = ki_alloc(env->allocator, block, env->dim * sizeof *room);
    kith_status status = room ? KITH_OK : ki_fail_nomem(err, block * env->dim * sizeof *room);
    for (size_t first = 0; first < n && status == KITH_OK; first += block) {
        size_t count = n - first < block ? n - first : block;
        const float *shifted = ki_ivf_cells_shift(ivf, x + first * env->dim, count, room);
        status = ki_product_argmin(ki_run_pool(run), shifted, env->dim, count, ivf->nearest, cells + first,
                                   NULL, err);
    }
    ki_free(env->allocator, room);
    return status;
}

/* The cell of each of x[n][dim]: by bytes first, and by the product alone where these are too rough (*rough becomes 1, and is
 * 0 before the first call). */
static kith_status file_rows(const ki_ivf *ivf, const float *x, size_t n, int *rough, const kith_run *run,
                             uint32_t *cells, kith_error *err)
{
    if (ivf->sieve && !*rough) {
        int done;
        KI_TRY(ki_sieve_argmin(ki_run_pool(run), ivf->sieve, x, n, 0, cells, NULL, &done, err));
        if (done) return KITH_OK;
        *rough = 1;
    }
    return ivf->middle ? file_shifted(ivf, x, n, run, cells, err)
                       : ki_product_argmin(ki_run_pool(run), x, ivf->base.env->dim, n, ivf->nearest, cells,
                                           NULL, err);
}

/* Train the codec on residuals (or plain rows) of a sample of x[n][dim]. */
static kith_status train_codec(ki_ivf *ivf, const float *x, size_t n, const kith_run *run, kith_error *err)
{
    const ki_structure_env *env = ivf->base.env;
    ki_codec *codec = env->codec;
    if (!codec->ops->train) return KITH_OK;
    ki_input input = {.x = x, .n = n, .dim = env->dim, .kernels = env->kernels};
    float *sample;
    const float *from;
    size_t count;
    uint64_t seed = env->seed ^ CODEC_STREAM;
    KI_TRY(ki_input_sample(&input, env->codec_rows, seed, env->allocator, &sample, &from, &count, err));
    float *residual = sample;
    uint32_t *cell = NULL;
    kith_status status = KITH_OK;
    if (codec->residual) {
        cell = ki_alloc(env->allocator, count, sizeof *cell);
        if (!residual) residual = ki_alloc(env->allocator, count, env->dim * sizeof *residual);
        if (!cell || !residual) status = ki_fail_nomem(err, count * env->dim * sizeof *residual);
        int rough = 0;
        if (status == KITH_OK) status = file_rows(ivf, from, count, &rough, run, cell, err);
        for (size_t i = 0; status == KITH_OK && i < count; i++)
            env->kernels->sub_f32(residual + i * env->dim, from + i * env->dim,
                                  ivf->centroids + (size_t)cell[i] * env->dim, env->dim);
        from = residual;
        if (status == KITH_OK && !env->kernels->finite_f32(residual, count * env->dim))
            status = ki_fail(err, KITH_INVALID, "rows are too far apart for float32: scale them");
    }
    if (codec->residual && codec->ops->origins) codec->ops->origins(codec, ivf->centroids, ivf->n_cells);
    if (status == KITH_OK) status = codec->ops->train(codec, from, count, env->seed, run, err);
    ki_free(env->allocator, residual);
    ki_free(env->allocator, cell);
    return status;
}

/* The mean squared distance of the sample to its centroids: what drift is measured against. */
static kith_status measure_spread(ki_ivf *ivf, const float *x, size_t n, const kith_run *run, kith_error *err)
{
    const ki_structure_env *env = ivf->base.env;
    uint32_t *cell = ki_alloc(env->allocator, n, sizeof *cell);
    if (!cell) return ki_fail_nomem(err, n * sizeof *cell);
    int rough = 0;
    kith_status status = file_rows(ivf, x, n, &rough, run, cell, err);
    double sum = 0;
    for (size_t i = 0; status == KITH_OK && i < n; i++)
        sum += (double)ki_ivf_cells_distance(ivf, x + i * env->dim, cell[i]);
    ivf->trained_spread = sum / (double)n;
    ki_free(env->allocator, cell);
    return status;
}

/* How many rows the cells are trained with. */
static size_t sample_rows(const ki_ivf *ivf)
{
    size_t each = (size_t)ivf->base.env->params[KI_IVF_TRAIN_ROWS];
    if (each > 0) return ivf->n_cells * each;
    size_t rows = ivf->n_cells * TRAIN_ROWS, least = ivf->n_cells * TRAIN_LEAST;
    if (rows <= TRAIN_MOST) return rows;
    return least > TRAIN_MOST ? least : TRAIN_MOST;
}

static kith_status ivf_train(ki_structure *structure, const ki_input *input, const kith_run *run,
                             kith_error *err)
{
    ki_ivf *ivf = (ki_ivf *)structure;
    const ki_structure_env *env = structure->env;
    double max_cell = env->params[KI_IVF_MAX_CELL];
    if (max_cell != 0 && max_cell < LEAST_MAX_CELL)
        return ki_fail(err, KITH_INVALID, "max_cell is %g, allowed 0 and %g..1e6", max_cell, LEAST_MAX_CELL);
    if (input->n < ivf->n_cells)
        return ki_fail(err, KITH_INVALID, "n is %zu, training %zu cells takes at least as many rows",
                       input->n, ivf->n_cells);
    size_t wanted = sample_rows(ivf);
    if (env->codec->ops->train && wanted < env->codec_rows) wanted = env->codec_rows;
    float *sample;
    const float *x;
    size_t n;
    ki_ivf_reset(ivf);
    KI_TRY(ki_input_sample(input, wanted, env->seed, env->allocator, &sample, &x, &n, err));
    kith_status status = alloc_centroids(ivf, err);
    if (status == KITH_OK) status = ki_ivf_train_centroids(ivf, x, n, run, err);
    if (status == KITH_OK) status = ki_ivf_ready(ivf, err);
    if (status == KITH_OK && ivf->coarse)
        status = ki_coarse_build(ivf->coarse, ivf->centroids, ivf->n_cells, run, err);
    if (status == KITH_OK) status = use_sieve(ivf, err);
    if (status == KITH_OK) status = measure_spread(ivf, x, n < SPREAD_ROWS ? n : SPREAD_ROWS, run, err);
    if (status == KITH_OK) status = train_codec(ivf, x, n, run, err);
    ki_free(env->allocator, sample);
    if (status != KITH_OK) ki_ivf_reset(ivf);
    return status;
}

/* ---- The map of slots ---- */

/* Cells of all slots below `room`, from the lists. NULL when there is no memory. */
static uint32_t *map_build(const ki_ivf *ivf, size_t room)
{
    uint32_t *cell_of = ki_alloc(ivf->base.env->allocator, room, sizeof *cell_of);
    if (!cell_of) return NULL;
    memset(cell_of, 0xff, room * sizeof *cell_of);
    for (size_t l = 0; l < ivf->n_cells; l++) {
        const uint32_t *slots = ki_postings_slots(&ivf->lists, l);
        for (size_t i = 0; i < ivf->lists.size[l]; i++) cell_of[slots[i]] = (uint32_t)l;
    }
    return cell_of;
}

/* Where a slot is: its cell and its place there. Several readers may ask at once; the first to finish a map
 * publishes it. Without memory for a map all lists are searched. */
static int locate(const ki_ivf *ivf, uint32_t slot, size_t *cell, size_t *place)
{
    uint32_t *map = atomic_load_explicit(&ivf->cell_of, memory_order_acquire);
    if (!map && ivf->cell_room > 0 && (map = map_build(ivf, ivf->cell_room)) != NULL) {
        ki_ivf *shared = (ki_ivf *)(uintptr_t)ivf; /* a cache: what readers can see does not change */
        uint32_t *none = NULL;
        if (!atomic_compare_exchange_strong(&shared->cell_of, &none, map)) {
            ki_free(ivf->base.env->allocator, map);
            map = none;
        }
    }
    size_t first = 0, end = ivf->n_cells;
    if (map) {
        if (map[slot] == KI_IVF_NOWHERE) return 0;
        first = map[slot];
        end = first + 1;
    }
    for (size_t l = first; l < end; l++) {
        ptrdiff_t found = ki_postings_find(&ivf->lists, l, slot);
        if (found < 0) continue;
        *cell = l;
        *place = (size_t)found;
        return 1;
    }
    return 0;
}

/* After rows came: the map covers n_slots slots. It is dropped when it would have to grow. */
static void map_follow(ki_ivf *ivf, const uint32_t *slots, uint32_t first_slot, const uint32_t *cells,
                       size_t n, size_t n_slots)
{
    uint32_t *map = atomic_load(&ivf->cell_of);
    if (n_slots > ivf->cell_room) {
        drop_map(ivf);
        ivf->cell_room = ki_grown(n_slots, n_slots);
        return;
    }
    for (size_t i = 0; map && i < n; i++) map[slots ? slots[i] : first_slot + i] = cells[i];
}

/* ---- Adding ---- */

/* Scratch of adding a block; block_clear is allowed after block_init failed. */
typedef struct add_block {
    float *x; /* [rows][dim], for rows that must be scaled */
    uint8_t *code;
    float *factor;
    size_t rows;
} add_block;

static void block_clear(const ki_structure_env *env, add_block *b)
{
    ki_free(env->allocator, b->x);
    ki_free(env->allocator, b->code);
    ki_free(env->allocator, b->factor);
}

static kith_status block_init(const ki_structure_env *env, const ki_input *input, add_block *b,
                              kith_error *err)
{
    const ki_codec *codec = env->codec;
    b->rows = input->n < ADD_BLOCK ? input->n : ADD_BLOCK;
    b->x = ki_alloc(env->allocator, env->unit ? b->rows * env->dim : 1, sizeof *b->x);
    b->code = ki_alloc(env->allocator, b->rows, codec->code_size);
    b->factor = ki_alloc(env->allocator, b->rows * codec->n_factors, sizeof *b->factor);
    if (b->x && b->code && b->factor) return KITH_OK;
    return ki_fail_nomem(err, b->rows * (env->dim * sizeof *b->x + codec->code_size));
}

/* The cell of every row. */
static kith_status assign(const ki_ivf *ivf, const ki_input *input, add_block *b, const kith_run *run,
                          uint32_t *cells, kith_error *err)
{
    ki_stage stage;
    int rough = 0;
    ki_stage_begin(&stage, run, "assigning", input->n);
    for (size_t first = 0; first < input->n; first += b->rows) {
        size_t n = input->n - first < b->rows ? input->n - first : b->rows;
        KI_TRY(ki_run_check(run, err));
        const float *x = ki_input_block(input, first, n, b->x);
        KI_TRY(file_rows(ivf, x, n, &rough, run, cells + first, err));
        ki_stage_report(&stage, first + n);
    }
    return KITH_OK;
}

/* Encode every row and append it to its list, which has room. */
static kith_status fill(ki_ivf *ivf, const ki_input *input, add_block *b, const uint32_t *slots,
                        uint32_t first_slot, const uint32_t *cells, const kith_run *run, kith_error *err)
{
    const ki_codec *codec = ivf->base.env->codec;
    ki_stage stage;
    ki_stage_begin(&stage, run, "adding", input->n);
    for (size_t first = 0; first < input->n; first += b->rows) {
        size_t n = input->n - first < b->rows ? input->n - first : b->rows;
        KI_TRY(ki_run_check(run, err));
        ki_origins from = {codec->residual ? ki_ivf_origins(ivf) : NULL,
                           codec->residual ? cells + first : NULL};
        const float *x = ki_input_block(input, first, n, b->x);
        KI_TRY(codec->ops->encode(codec, x, n, from, run, b->code, b->factor, err));
        if (ivf->spread) ki_ivf_cells_note(ivf, x, n, cells + first);
        for (size_t i = 0; i < n; i++)
            ki_postings_append(&ivf->lists, cells[first + i],
                               slots ? slots[first + i] : first_slot + (uint32_t)(first + i),
                               b->code + i * codec->code_size, b->factor + i * codec->n_factors);
        ki_stage_report(&stage, first + n);
    }
    return KITH_OK;
}

static kith_status ivf_add(ki_structure *structure, const ki_input *input, const uint32_t *slots,
                           uint32_t first_slot, size_t n_slots, const kith_run *run, kith_error *err)
{
    ki_ivf *ivf = (ki_ivf *)structure;
    const ki_structure_env *env = structure->env;
    add_block block = {0};
    KI_TRY(use_sieve(ivf, err));
    uint32_t *cells = ki_alloc(env->allocator, input->n, sizeof *cells);
    uint32_t *count = ki_alloc_zero(env->allocator, ivf->n_cells, sizeof *count);
    float *radius = ki_alloc(env->allocator, ivf->n_cells, sizeof *radius); /* as they were */
    double *spread = ki_alloc(env->allocator, ivf->n_cells, sizeof *spread);
    kith_status status = cells && count && radius && spread
                             ? block_init(env, input, &block, err)
                             : ki_fail_nomem(err, (input->n + 4 * ivf->n_cells) * sizeof *cells);
    if (status == KITH_OK) status = assign(ivf, input, &block, run, cells, err);
    if (status == KITH_OK) {
        for (size_t i = 0; i < input->n; i++) count[cells[i]]++;
        status = ki_postings_reserve(&ivf->lists, count, err);
    }
    if (status == KITH_OK) {
        /* From here on lists grow at their ends: back to the old sizes is back to the old lists. */
        memcpy(count, ivf->lists.size, ivf->n_cells * sizeof *count);
        memcpy(radius, ivf->radius, ivf->n_cells * sizeof *radius);
        if (ivf->spread) memcpy(spread, ivf->spread, ivf->n_cells * sizeof *spread);
        status = fill(ivf, input, &block, slots, first_slot, cells, run, err);
        if (status == KITH_OK) {
            map_follow(ivf, slots, first_slot, cells, input->n, n_slots);
        } else {
            memcpy(ivf->lists.size, count, ivf->n_cells * sizeof *count);
            memcpy(ivf->radius, radius, ivf->n_cells * sizeof *radius);
            if (ivf->spread) memcpy(ivf->spread, spread, ivf->n_cells * sizeof *spread);
        }
    }
    block_clear(env, &block);
    ki_free(env->allocator, cells);
    ki_free(env->allocator, count);
    ki_free(env->allocator, radius);
    ki_free(env->allocator, spread);
    return status;
}

/* ---- Removing ---- */

static kith_status ivf_prepare_remove(ki_structure *structure, const ki_rows *rows, kith_error *err)
{
    ki_ivf *ivf = (ki_ivf *)structure;
    if (atomic_load(&ivf->cell_of)) return KITH_OK;
    size_t room = rows->n_slots > ivf->cell_room ? rows->n_slots : ivf->cell_room;
    uint32_t *map = map_build(ivf, room);
    if (!map) return ki_fail_nomem(err, room * sizeof *map);
    ivf->cell_room = room;
    atomic_store(&ivf->cell_of, map);
    return KITH_OK;
}

static void ivf_remove(ki_structure *structure, const uint32_t *slots, size_t n)
{
    ki_ivf *ivf = (ki_ivf *)structure;
    uint32_t *map = atomic_load(&ivf->cell_of);
    for (size_t i = 0; i < n; i++) {
        if (map[slots[i]] == KI_IVF_NOWHERE) continue;
        size_t before = ivf->lists.size[map[slots[i]]];
        if (ki_postings_remove(&ivf->lists, map[slots[i]], slots[i]) && ivf->spread)
            ki_ivf_cells_forget(ivf, map[slots[i]], before);
        map[slots[i]] = KI_IVF_NOWHERE;
    }
}

static void ivf_decode(const ki_structure *structure, uint32_t slot, float *out)
{
    const ki_ivf *ivf = (const ki_ivf *)structure;
    const ki_codec *codec = structure->env->codec;
    size_t cell, place;
    if (!locate(ivf, slot, &cell, &place)) { /* I2 does not hold: a file that kith_index_check refuses */
        memset(out, 0, structure->env->dim * sizeof *out);
        return;
    }
    ki_codes codes = ki_postings_codes(&ivf->lists, cell);
    ki_layout_decode(codec, codes, place,
                     codec->residual ? ki_ivf_origins(ivf) + cell * structure->env->dim : NULL, out);
}

/* ---- Save and load ---- */

static kith_status ivf_save(const ki_structure *structure, size_t n_slots, ki_store_writer *writer,
                            kith_error *err)
{
    const ki_ivf *ivf = (const ki_ivf *)structure;
    (void)n_slots;
    KI_TRY(ki_store_put(writer, PREFIX ".centroids", ivf->centroids, ivf->n_cells,
                        structure->env->dim * sizeof *ivf->centroids, err));
    if (ivf->origins)
        KI_TRY(ki_store_put(writer, PREFIX ".origins", ivf->origins, ivf->n_cells,
                            structure->env->dim * sizeof *ivf->origins, err));
    if (ivf->coarse) KI_TRY(ki_coarse_save(ivf->coarse, writer, err));
    KI_TRY(ki_ivf_cells_save(ivf, writer, err));
    return ki_postings_save(&ivf->lists, PREFIX, writer, err);
}

static kith_status check_centroids(const ki_ivf *ivf, kith_error *err)
{
    size_t dim = ivf->base.env->dim;
    const ki_kernels *kernels = ivf->base.env->kernels;
    for (size_t c = 0; c < ivf->n_cells; c++) {
        if (!kernels->finite_f32(ivf->centroids + c * dim, dim))
            return ki_fail(err, KITH_CORRUPT, "I4: centroid %zu is not finite", c);
        if (ivf->origins && !kernels->finite_f32(ivf->origins + c * dim, dim))
            return ki_fail(err, KITH_CORRUPT, "I4: the origin of cell %zu is not finite", c);
    }
    return KITH_OK;
}

/* The origins of the cells, where they are not the centroids. */
static kith_status load_origins(ki_ivf *ivf, ki_store *store, kith_error *err)
{
    const ki_structure_env *env = ivf->base.env;
    size_t row = env->dim * sizeof *ivf->origins;
    uint64_t n;
    if (!ki_store_has(store, PREFIX ".origins")) return KITH_OK;
    KI_TRY(ki_store_count(store, PREFIX ".origins", row, &n, err));
    if (n != ivf->n_cells)
        return ki_fail(err, KITH_CORRUPT, "%s: %llu origins for %zu cells", ki_store_path(store),
                       (unsigned long long)n, ivf->n_cells);
    ivf->origins = ki_alloc(env->allocator, ivf->n_cells, row);
    if (!ivf->origins) return ki_fail_nomem(err, ivf->n_cells * row);
    return ki_store_load(store, PREFIX ".origins", n, row, ivf->origins, err);
}

static kith_status ivf_load(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                            kith_error *err)
{
    ki_ivf *ivf = (ki_ivf *)structure;
    const ki_structure_env *env = structure->env;
    size_t row = env->dim * sizeof *ivf->centroids;
    uint64_t n_cells; /* before anything is allocated: whether the file holds so much */
    KI_TRY(ki_store_count(store, PREFIX ".centroids", row, &n_cells, err));
    if (n_cells != ivf->n_cells)
        return ki_fail(err, KITH_CORRUPT, "%s: %llu centroids for %zu cells", ki_store_path(store),
                       (unsigned long long)n_cells, ivf->n_cells);
    KI_TRY(alloc_centroids(ivf, err));
    KI_TRY(ki_store_load(store, PREFIX ".centroids", n_cells, row, ivf->centroids, err));
    KI_TRY(load_origins(ivf, store, err));
    kith_status status = check_centroids(ivf, err);
    if (status != KITH_OK) {
        ki_error_prefix(err, "%s", ki_store_path(store));
        return status;
    }
    KI_TRY(ki_ivf_ready(ivf, err));
    if (ivf->coarse) KI_TRY(ki_coarse_load(ivf->coarse, ivf->n_cells, store, mapped, err));
    KI_TRY(ki_ivf_cells_load(ivf, store, err));
    ivf->cell_room = rows->n_slots;
    return ki_postings_load(&ivf->lists, PREFIX, env->codec, mapped, rows, store, err);
}

/* ---- Check and stats ---- */

/* I6, where the rows are what was added. */
static kith_status check_radii(const ki_ivf *ivf, kith_error *err)
{
    size_t dim = ivf->base.env->dim;
    double lost =
        sqrt((double)dim * (double)FLT_MIN); /* squares that underflowed, in radii of early versions */
    for (size_t c = 0; c < ivf->n_cells; c++) {
        const float *centroid = ivf->centroids + c * dim;
        const float *rows = ki_codec_f32_rows(ivf->base.env->codec, ki_postings_codes(&ivf->lists, c));
        for (size_t i = 0; rows && i < ivf->lists.size[c]; i++) {
            double sum = 0;
            for (size_t d = 0; d < dim; d++) {
                double apart = (double)rows[i * dim + d] - (double)centroid[d];
                sum += apart * apart;
            }
            if (sqrt(sum) > (double)ivf->radius[c] + lost)
                return ki_fail(err, KITH_CORRUPT, "I6: row %zu of cell %zu is %g away, the radius is %g", i,
                               c, sqrt(sum), (double)ivf->radius[c]);
        }
    }
    return KITH_OK;
}

static kith_status ivf_check(const ki_structure *structure, const ki_rows *rows, kith_error *err)
{
    const ki_ivf *ivf = (const ki_ivf *)structure;
    KI_TRY(check_centroids(ivf, err));
    kith_status status = ivf->coarse ? ki_coarse_check(ivf->coarse, ivf->centroids, err) : KITH_OK;
    if (status == KITH_CORRUPT) ki_error_prefix(err, "I7");
    if (status != KITH_OK) return status;
    status = ki_postings_check(&ivf->lists, structure->env->codec, rows, 1, err);
    if (status != KITH_OK) {
        if (status == KITH_CORRUPT) ki_error_prefix(err, "I1, I2, I3");
        return status;
    }
    const uint32_t *map = atomic_load(&((ki_ivf *)(uintptr_t)ivf)->cell_of);
    for (size_t l = 0; map && l < ivf->n_cells; l++) {
        const uint32_t *slots = ki_postings_slots(&ivf->lists, l);
        for (size_t i = 0; i < ivf->lists.size[l]; i++)
            if (map[slots[i]] != l)
                return ki_fail(err, KITH_CORRUPT, "I5: slot %u is in list %zu, the map says %u", slots[i], l,
                               map[slots[i]]);
    }
    return check_radii(ivf, err);
}

static uint64_t ivf_bytes(const ki_structure *structure)
{
    const ki_ivf *ivf = (const ki_ivf *)structure;
    uint64_t bytes = (uint64_t)ivf->n_cells * structure->env->dim * sizeof *ivf->centroids;
    if (!ivf->centroids) return 0;
    if (ivf->origins) bytes *= 2;
    if (ivf->middle) bytes += (uint64_t)(ivf->n_cells + 1) * structure->env->dim * sizeof *ivf->around;
    bytes += ki_packed_bytes(ivf->nearest) + (ivf->probing ? ki_packed_bytes(ivf->probing) : 0);
    bytes += ivf->n_cells * (sizeof *ivf->radius + (ivf->spread ? sizeof *ivf->spread : 0));
    bytes += ivf->screen ? ki_screen_bytes(ivf->screen) : 0;
    bytes += ivf->sieve ? ki_sieve_bytes(ivf->sieve) : 0;
    bytes += ivf->coarse ? ki_coarse_bytes(ivf->coarse) : 0;
    return bytes + ki_postings_bytes(&ivf->lists);
}

static const ki_structure_ops ivf_ops = {
    .create = ivf_create,
    .free = ivf_free,
    .train = ivf_train,
    .add = ivf_add,
    .prepare_remove = ivf_prepare_remove,
    .remove = ivf_remove,
    .decode = ivf_decode,
    .scratch_create = ki_ivf_scratch_create,
    .scratch_free = ki_ivf_scratch_free,
    .prepare = ki_ivf_prepare,
    .search = ki_ivf_search,
    .route_size = ki_ivf_route_size,
    .route = ki_ivf_route,
    .save = ivf_save,
    .load = ivf_load,
    .check = ivf_check,
    .cells = ki_ivf_cells_info,
    .compact = ki_ivf_compact,
    .bytes = ivf_bytes,
};

const ki_structure_part ki_structure_ivf = {
    .part =
        {.info = {.pattern = "IVF<n>[_HKM<b>][_HNSW<M>]",
                  .about =
                      "structure: n cells by k-means, a query looks into the nprobe nearest; for some ten "
                      "thousand to tens of millions of rows; HKM: trained as a tree of b branches, for many "
                      "cells; HNSW: found by a graph of M to 2M links a centroid, for very many",
                  .params = params,
                  .n_params = sizeof params / sizeof *params},
         .args = {{"n", 1, MAX_CELLS, 0}, {"b", 0, MAX_CELLS, 0}, {"M", 0, 128, 0}}},
    .main_param = "nprobe",
    .main_param_l2 = "reach",
    .metrics = KI_FLOAT_METRICS,
    .ops = &ivf_ops,
    .residual = 1,
    .blocks = 1,
    .scans = 1,
};
