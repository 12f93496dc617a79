/* bivf.c - an inverted file over bits: rows in cells, a query looks into the nearest cells only.
 *
 * The idea. k-majority cuts the space into n cells; the centroid of a cell is a row of bits, in each place what most of
 * its rows have there. A row is kept in the list of the nearest centroid. A query is compared with all centroids, then
 * with the rows of the `nprobe` nearest cells. It is IVF (ivf.c) with other arithmetic: of 1,024 cells and nprobe 32, a
 * query touches a 32nd of the rows, and what it finds is approximate where multi-index hashing (bmih.c) is exact; but its
 * cost does not depend on how far away the neighbours are, so it is the one for long codes (256 bits and more) whose
 * neighbours differ in many bits.
 *
 * Papers. C. Grana et al., "A fast approach for integrating ORB descriptors in the bag of words model", SPIE 8667,
 * 2013 (the clustering, src/cluster/kmajority.h); J. Sivic and A. Zisserman, "Video Google", ICCV 2003 (the
 * inverted file). As in ivf.c, a query whose cells hold fewer than k rows that may be returned goes on to the next
 * nearest cells until k are found or none are left.
 *
 * Layout:      centroids[n][code_size]; lists as postings.h draws them; cell_of[slot], 4 bytes a row, made from the lists
 *              when a file is opened.
 *
 * Invariants:
 *   V1  the sizes of the lists add up to the number of rows
 *   V2  every slot in use stands in exactly one list, and once; no other slot does
 *   V3  bits of a row or centroid beyond dim are zero
 *   V4  the map of slots names the list that holds the slot
 *
 * Cost:        train  iterations x sample x n x dim / 8 bytes compared (sample: train_rows x n)
 *              add    rows x n x dim / 8 bytes compared
 *              search n x dim / 8 + scored x dim / 8 bytes read
 *              memory 8 + dim / 8 bytes a row
 * Sections:    "bivf.centroids", "bivf.sizes", "bivf.slots", "bivf.codes".
 */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/run.h"
#include "base/select.h"
#include "cluster/kmajority.h"
#include "index/family.h"
#include "index/postings.h"

#define PREFIX "bivf"
#define MAX_CELLS ((uint64_t)1 << 20) /* arbitrary: assigning a row looks at all of them */
#define NOWHERE UINT32_MAX            /* in cell_of: no row */
#define CENTROID_BLOCK 256            /* centroids compared with a query at a time */

enum { NPROBE, ITERATIONS, TRAIN_ROWS };

static const kith_param_info params[] = {
    [NPROBE] = {"nprobe", KITH_PARAM_INT, KITH_AT_SEARCH, 1, (double)MAX_CELLS, 16,
                "cells that a query looks into, nearest first; more is slower and finds more"},
    [ITERATIONS] = {"kmeans_iterations", KITH_PARAM_INT, KITH_AT_BUILD, 1, 1000, 10,
                    "iterations in the training of the cells"},
    [TRAIN_ROWS] = {"train_rows", KITH_PARAM_INT, KITH_AT_BUILD, 1, 65536, 64,
                    "rows per cell that training takes at most, by a random sample"},
};

typedef struct bivf {
    ki_structure base;
    size_t n_cells;
    uint8_t *centroids; /* [n_cells][code_size]; NULL: not trained */
    ki_postings lists;
    uint32_t *cell_of; /* [cell_room] */
    size_t cell_room;
} bivf;

struct ki_scratch {
    ki_scorer *scorer;
    uint64_t *near; /* [n_cells] keys (base/select.h) of the cells */
};

/* ---- Create and free ---- */

static ki_kmajority clustering(const bivf *ivf)
{
    const ki_structure_env *env = ivf->base.env;
    return (ki_kmajority){env->allocator, env->kernels, env->codec->code_size, ivf->n_cells};
}

static kith_status bivf_create(const ki_structure_env *env, ki_structure **structure, kith_error *err)
{
    *structure = NULL;
    bivf *ivf = ki_alloc_zero(env->allocator, 1, sizeof *ivf);
    if (!ivf) return ki_fail_nomem(err, sizeof *ivf);
    ivf->base.env = env;
    ivf->n_cells = (size_t)env->args[0];
    *structure = &ivf->base;
    return KITH_OK;
}

/* Back to untrained. */
static void reset(bivf *ivf)
{
    const kith_allocator *allocator = ivf->base.env->allocator;
    ki_free(allocator, ivf->centroids);
    ki_free(allocator, ivf->cell_of);
    ki_postings_clear(&ivf->lists);
    ivf->centroids = NULL;
    ivf->cell_of = NULL;
    ivf->cell_room = 0;
}

static void bivf_free(ki_structure *structure)
{
    reset((bivf *)structure);
    ki_free(structure->env->allocator, structure);
}

static kith_status alloc_centroids(bivf *ivf, kith_error *err)
{
    const ki_structure_env *env = ivf->base.env;
    ivf->centroids = ki_alloc(env->allocator, ivf->n_cells, env->codec->code_size);
    return ivf->centroids ? KITH_OK : ki_fail_nomem(err, ivf->n_cells * env->codec->code_size);
}

/* ---- Training ---- */

/* A random sample of at most `rows` rows: *x in *sample, to be freed, or the input itself (*sample NULL). */
static kith_status take_sample(const bivf *ivf, const ki_input *input, size_t rows, uint8_t **sample,
                               const uint8_t **x, size_t *n, kith_error *err)
{
    const ki_structure_env *env = ivf->base.env;
    size_t bytes = env->codec->code_size;
    *sample = NULL;
    *x = input->bits;
    *n = input->n;
    if (input->n <= rows) return KITH_OK;
    uint64_t *picked = ki_alloc(env->allocator, rows, sizeof *picked);
    uint8_t *copy = picked ? ki_alloc(env->allocator, rows, bytes) : NULL;
    if (!copy) {
        ki_free(env->allocator, picked);
        return ki_fail_nomem(err, rows * bytes);
    }
    ki_rng rng;
    ki_rng_init(&rng, env->seed, 0);
    ki_rng_sample(&rng, input->n, rows, picked);
    for (size_t i = 0; i < rows; i++) memcpy(copy + i * bytes, input->bits + picked[i] * bytes, bytes);
    ki_free(env->allocator, picked);
    *sample = copy;
    *x = copy;
    *n = rows;
    return KITH_OK;
}

static kith_status bivf_train(ki_structure *structure, const ki_input *input, const kith_run *run,
                              kith_error *err)
{
    bivf *ivf = (bivf *)structure;
    const ki_structure_env *env = structure->env;
    if (input->n < ivf->n_cells)
        return ki_fail(err, KITH_INVALID, "n is %zu, training %zu cells takes at least as many rows",
                       input->n, ivf->n_cells);
    uint8_t *sample;
    const uint8_t *x;
    size_t n;
    ki_kmajority how = clustering(ivf);
    reset(ivf);
    KI_TRY(take_sample(ivf, input, ivf->n_cells * (size_t)env->params[TRAIN_ROWS], &sample, &x, &n, err));
    kith_status status = alloc_centroids(ivf, err);
    if (status == KITH_OK)
        status = ki_kmajority_train(&how, x, n, (size_t)env->params[ITERATIONS], env->seed, run,
                                    ivf->centroids, NULL, err);
    if (status == KITH_OK)
        status = ki_postings_init(&ivf->lists, ivf->n_cells, env->codec, env->allocator, err);
    ki_free(env->allocator, sample);
    if (status != KITH_OK) reset(ivf);
    return status;
}

/* ---- Adding and removing ---- */

/* Room in the map for n_slots slots; new ones are nowhere. */
static kith_status map_reserve(bivf *ivf, size_t n_slots, kith_error *err)
{
    if (n_slots <= ivf->cell_room) return KITH_OK;
    size_t room = ivf->cell_room == 0 ? n_slots : ki_grown(ivf->cell_room, n_slots);
    uint32_t *map =
        ki_realloc(ivf->base.env->allocator, ivf->cell_of, ivf->cell_room, room, sizeof *ivf->cell_of);
    if (!map) return ki_fail_nomem(err, room * sizeof *map);
    memset(map + ivf->cell_room, 0xff, (room - ivf->cell_room) * sizeof *map);
    ivf->cell_of = map;
    ivf->cell_room = room;
    return KITH_OK;
}

static kith_status bivf_add(ki_structure *structure, const ki_input *input, const uint32_t *slots,
                            uint32_t first_slot, size_t n_slots, const kith_run *run, kith_error *err)
{
    bivf *ivf = (bivf *)structure;
    const ki_structure_env *env = structure->env;
    size_t bytes = env->codec->code_size;
    ki_kmajority how = clustering(ivf);
    uint32_t *cells = ki_alloc(env->allocator, input->n, sizeof *cells);
    uint32_t *count = ki_alloc_zero(env->allocator, ivf->n_cells, sizeof *count);
    kith_status status =
        cells && count ? KITH_OK : ki_fail_nomem(err, (input->n + ivf->n_cells) * sizeof *cells);
    if (status == KITH_OK) {
        ki_kmajority_assign(&how, input->bits, input->n, ivf->centroids, run, cells, NULL);
        status = ki_run_check(run, err);
    }
    if (status == KITH_OK) {
        for (size_t i = 0; i < input->n; i++) count[cells[i]]++;
        status = map_reserve(ivf, n_slots, err);
    }
    if (status == KITH_OK) status = ki_postings_reserve(&ivf->lists, count, err);
    for (size_t i = 0; status == KITH_OK && i < input->n; i++) {
        uint32_t slot = slots ? slots[i] : first_slot + (uint32_t)i;
        ki_postings_append(&ivf->lists, cells[i], slot, input->bits + i * bytes, NULL);
        ivf->cell_of[slot] = cells[i];
    }
    ki_free(env->allocator, cells);
    ki_free(env->allocator, count);
    return status;
}

static void bivf_remove(ki_structure *structure, const uint32_t *slots, size_t n)
{
    bivf *ivf = (bivf *)structure;
    for (size_t i = 0; i < n; i++) {
        if (ivf->cell_of[slots[i]] == NOWHERE) continue;
        (void)ki_postings_remove(&ivf->lists, ivf->cell_of[slots[i]], slots[i]);
        ivf->cell_of[slots[i]] = NOWHERE;
    }
}

static void bivf_decode_bits(const ki_structure *structure, uint32_t slot, uint8_t *out)
{
    const bivf *ivf = (const bivf *)structure;
    const ki_codec *codec = structure->env->codec;
    uint32_t cell = ivf->cell_of[slot];
    ptrdiff_t place = cell == NOWHERE ? -1 : ki_postings_find(&ivf->lists, cell, slot);
    if (place < 0) { /* V2 does not hold: a file that kith_index_check refuses */
        memset(out, 0, codec->code_size);
        return;
    }
    codec->ops->decode_bits(
        codec, ki_postings_codes(&ivf->lists, cell).code + (size_t)place * codec->code_size, out);
}

/* ---- Search ---- */

static void bivf_scratch_free(const ki_structure *structure, ki_scratch *scratch)
{
    ki_scorer_free(scratch->scorer);
    ki_free(structure->env->allocator, scratch->near);
    ki_free(structure->env->allocator, scratch);
}

static kith_status bivf_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err)
{
    const bivf *ivf = (const bivf *)structure;
    const ki_structure_env *env = structure->env;
    *scratch = NULL;
    ki_scratch *s = ki_alloc_zero(env->allocator, 1, sizeof *s);
    if (!s) return ki_fail_nomem(err, sizeof *s);
    s->near = ki_alloc(env->allocator, ivf->n_cells, sizeof *s->near);
    kith_status status = s->near ? KITH_OK : ki_fail_nomem(err, ivf->n_cells * sizeof *s->near);
    if (status == KITH_OK) status = env->codec->ops->scorer(env->codec, env->allocator, &s->scorer, err);
    if (status != KITH_OK) {
        bivf_scratch_free(structure, s);
        return status;
    }
    *scratch = s;
    return KITH_OK;
}

/* Keys of all cells by their distance to the query. */
static void measure(const bivf *ivf, const uint8_t *query, uint64_t *near)
{
    const ki_structure_env *env = ivf->base.env;
    size_t bytes = env->codec->code_size;
    uint32_t count[CENTROID_BLOCK];
    for (size_t first = 0; first < ivf->n_cells; first += CENTROID_BLOCK) {
        size_t n = ivf->n_cells - first < CENTROID_BLOCK ? ivf->n_cells - first : CENTROID_BLOCK;
        env->kernels->hamming_rows(query, ivf->centroids + first * bytes, n, bytes, count);
        for (size_t c = 0; c < n; c++) near[first + c] = ki_key((float)count[c], (uint32_t)(first + c));
    }
}

static void bivf_search(const ki_structure *structure, ki_scratch *s, ki_query *query)
{
    const bivf *ivf = (const bivf *)structure;
    double nprobe = query->settings[NPROBE];
    size_t step = nprobe < (double)ivf->n_cells ? (size_t)nprobe : ivf->n_cells, seen = 0;
    query->holes = 0; /* lists hold slots in use only */
    s->scorer->ops->query_bits(s->scorer, query->bits);
    measure(ivf, query->bits, s->near);
    /* The nearest cells; then, while fewer rows than wanted were found, as many again as were seen already. */
    do {
        size_t left = ivf->n_cells - seen, n = seen == 0 ? step : seen < left ? seen : left;
        uint64_t *keys = s->near + seen;
        ki_keys_select(keys, left, n);
        ki_keys_sort(keys, n);
        for (size_t i = 0; i < n && !query->stopped; i++) {
            size_t cell = ki_key_number(keys[i]);
            query->visited++;
            ki_query_scan(query, s->scorer, ki_postings_codes(&ivf->lists, cell),
                          ki_postings_slots(&ivf->lists, cell), 0, ivf->lists.size[cell]);
        }
        seen += n;
    } while (ki_query_taken(query) < query->need && seen < ivf->n_cells && !query->stopped);
}

/* ---- Save, load, check ---- */

static kith_status bivf_save(const ki_structure *structure, size_t n_slots, ki_store_writer *writer,
                             kith_error *err)
{
    const bivf *ivf = (const bivf *)structure;
    (void)n_slots;
    KI_TRY(ki_store_put(writer, PREFIX ".centroids", ivf->centroids, ivf->n_cells,
                        structure->env->codec->code_size, err));
    return ki_postings_save(&ivf->lists, PREFIX, writer, err);
}

/* The map of slots from the lists, which are sound. */
static kith_status build_map(bivf *ivf, size_t n_slots, kith_error *err)
{
    KI_TRY(map_reserve(ivf, n_slots, err));
    for (size_t l = 0; l < ivf->n_cells; l++) {
        const uint32_t *slots = ki_postings_slots(&ivf->lists, l);
        for (size_t i = 0; i < ivf->lists.size[l]; i++) ivf->cell_of[slots[i]] = (uint32_t)l;
    }
    return KITH_OK;
}

static kith_status bivf_load(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                             kith_error *err)
{
    bivf *ivf = (bivf *)structure;
    const ki_structure_env *env = structure->env;
    size_t bytes = env->codec->code_size;
    uint64_t n_cells; /* before anything is allocated: whether the file holds so much */
    KI_TRY(ki_store_count(store, PREFIX ".centroids", bytes, &n_cells, err));
    if (n_cells != ivf->n_cells)
        return ki_fail(err, KITH_CORRUPT, "%s: %llu centroids for %zu cells", ki_store_path(store),
                       (unsigned long long)n_cells, ivf->n_cells);
    KI_TRY(alloc_centroids(ivf, err));
    KI_TRY(ki_store_load(store, PREFIX ".centroids", n_cells, bytes, ivf->centroids, err));
    KI_TRY(ki_postings_init(&ivf->lists, ivf->n_cells, env->codec, env->allocator, err));
    KI_TRY(ki_postings_load(&ivf->lists, PREFIX, env->codec, mapped, rows, store, err));
    return build_map(ivf, rows->n_slots, err);
}

static kith_status bivf_check(const ki_structure *structure, const ki_rows *rows, kith_error *err)
{
    const bivf *ivf = (const bivf *)structure;
    const ki_codec *codec = structure->env->codec;
    kith_status status = codec->ops->check(codec, (ki_codes){ivf->centroids, NULL}, ivf->n_cells, 1, err);
    if (status != KITH_OK) {
        ki_error_prefix(err, "V3, centroids");
        return status;
    }
    status = ki_postings_check(&ivf->lists, codec, rows, 1, err);
    if (status != KITH_OK) {
        if (status == KITH_CORRUPT) ki_error_prefix(err, "V1, V2, V3");
        return status;
    }
    for (size_t l = 0; l < ivf->n_cells; l++) {
        const uint32_t *slots = ki_postings_slots(&ivf->lists, l);
        for (size_t i = 0; i < ivf->lists.size[l]; i++)
            if (ivf->cell_of[slots[i]] != l)
                return ki_fail(err, KITH_CORRUPT, "V4: slot %u is in list %zu, the map says %u", slots[i], l,
                               ivf->cell_of[slots[i]]);
    }
    return KITH_OK;
}

static uint64_t bivf_bytes(const ki_structure *structure)
{
    const bivf *ivf = (const bivf *)structure;
    if (!ivf->centroids) return 0;
    return (uint64_t)ivf->n_cells * structure->env->codec->code_size + ki_postings_bytes(&ivf->lists) +
           (uint64_t)ivf->cell_room * sizeof *ivf->cell_of;
}

static const ki_structure_ops bivf_ops = {
    .create = bivf_create,
    .free = bivf_free,
    .train = bivf_train,
    .add = bivf_add,
    .remove = bivf_remove,
    .decode_bits = bivf_decode_bits,
    .scratch_create = bivf_scratch_create,
    .scratch_free = bivf_scratch_free,
    .search = bivf_search,
    .save = bivf_save,
    .load = bivf_load,
    .check = bivf_check,
    .bytes = bivf_bytes,
};

const ki_structure_part ki_structure_bivf = {
    .part =
        {.info = {.pattern = "BIVF<n>",
                  .about =
                      "structure over bits: n cells by k-majority, a query looks into the nprobe nearest; "
                      "for millions of long codes whose neighbours differ in many bits",
                  .params = params,
                  .n_params = sizeof params / sizeof *params},
         .args = {{"n", 1, MAX_CELLS, 0}}},
    .main_param = "nprobe",
    .metrics = KI_METRIC_BIT(KITH_HAMMING),
    .ops = &bivf_ops,
    .codec = &ki_codec_part_bits,
};
