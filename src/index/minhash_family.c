/* minhash_family.c - sets by MinHash: signatures in bands, the family MinHash<K>.
 *
 * The idea. A set is kept as K numbers, the least hash values of its tokens under K random orders; the part of them in
 * which two sets agree estimates their Jaccard similarity J without bias, with standard error sqrt(J (1 - J) / K)
 * (kith/minhash.h). The numbers are cut into b bands of r; sets that agree in a whole band are candidates, which
 * happens with probability 1 - (1 - J^r)^b: steep in J, so that few others are looked at. Rows lie sorted by each band,
 * so that any number of its leading values can be asked for: whole bands when the radius is small, ever shorter
 * prefixes until k rows are found. Candidates are compared by their whole signatures.
 *
 * Papers. A. Z. Broder, "On the resemblance and containment of documents", SEQUENCES 1997. Bands: J. Leskovec,
 * A. Rajaraman, J. Ullman, "Mining of Massive Datasets", 3.4. Prefixes and the synchronous ascent: M. Bawa, T. Condie,
 * P. Ganesan, "LSH Forest", WWW 2005, 4.2. Containment: E. Zhu, F. Nargesian, K. Q. Pu, R. J. Miller, "LSH Ensemble",
 * VLDB 2016. Our ways apart from them:
 *   - b and r follow from the similarity that the index is made for (`threshold`) and the part of the rows at it that
 *     shall be candidates (`recall`): the longest bands that reach it. A range search takes the longest prefix that reaches
 *     it at its own radius, so any radius can be asked; where no prefix does, and for k rows where the forest has no
 *     more, every signature is compared. So a search for k rows returns min(k, matches) of them.
 *   - With `containment` a distance is 1 - |q n x| / |q|: rows are ordered by the class of their sizes, and each class takes
 *     the prefix of the Jaccard similarity that the containment means for its largest sets; where these are so large that
 *     no prefix reaches `recall`, a range search compares the class as a whole. Nearest rows come from
 *     containments of 0.9, 0.7, ... 0.1 in turn until there are enough.
 *
 * Layout (src/hash/minhash_forest.h has the order; src/index/signatures.c the code):
 *
 *     code[n_slots]      K values and the number of tokens, uint32
 *     order[bands][n]    slots by (class of size, the band's values, slot)
 *
 * Invariants:
 *   MH1  there are as many codes as slots
 *   MH2  each band's order holds every slot in use once, and no other, sorted as said
 *
 * Cost:        add    K multiplications a token; each call merges its rows with the others (many rows a call)
 *              search K multiplications a token of the query; 2 b log2 n comparisons a prefix and class of size; K a
 *                     candidate
 *              memory 4 (K + 1 + b) bytes a row
 * Sections:    "minhash.codes", "minhash.shape" (record), "minhash.order".
 */
#include <math.h>
#include <string.h>

#include "base/bitset.h"
#include "base/blocks.h"
#include "base/error.h"
#include "base/memory.h"
#include "hash/minhash_forest.h"
#include "index/rowcodes.h"

#define PREFIX "minhash"
#define BATCH 64      /* candidates that are scored together */
#define SIGN_BLOCK 64 /* sets that a thread signs at a time */
#define DEFAULT_THRESHOLD 0.5
#define DEFAULT_RECALL 0.99

enum { THRESHOLD, RECALL, CANDIDATES, CONTAINMENT, N_PARAMS };
static const kith_param_info minhash_params[N_PARAMS] = {
    [THRESHOLD] =
        {"threshold", KITH_PARAM_FLOAT, KITH_AT_BUILD, 0.01, 1, DEFAULT_THRESHOLD,
         "Jaccard similarity that the bands are made for: higher, longer bands and fewer candidates"},
    [RECALL] = {"recall", KITH_PARAM_FLOAT, KITH_AT_BUILD, 0.01, 0.9999, DEFAULT_RECALL,
                "part of the rows at the threshold, or at the radius of a search, that become candidates"},
    [CANDIDATES] = {"candidates", KITH_PARAM_INT, KITH_AT_SEARCH, 1, 1e9, 200,
                    "rows that a search for the nearest compares at least: more for more recall"},
    [CONTAINMENT] =
        {"containment", KITH_PARAM_BOOL, KITH_AT_SEARCH, 0, 1, 0,
         "1: the distance is 1 - the part of the query's tokens that a row holds, not 1 - Jaccard"},
};

typedef struct minhash {
    ki_structure base;
    size_t hashes;
    kith_minhash *functions;
    ki_row_codes rows;
    ki_minhash_forest forest;
    uint32_t *own_order; /* forest.order where it is ours, NULL when mapped */
} minhash;

struct ki_scratch {
    ki_scorer *scorer;
    uint32_t *signature; /* [K], of the query */
    uint32_t candidate[BATCH];
    size_t n;
};

/* ---- Create and free ---- */

/* Bands as the parameters say; only while there are no rows. */
static kith_status choose_bands(minhash *h, kith_error *err)
{
    const double *params = h->base.env->params;
    return kith_bands_choose(h->hashes, params[THRESHOLD], params[RECALL], &h->forest.bands, &h->forest.rows,
                             err);
}

/* Codes move when they grow. */
static void point_at_codes(minhash *h)
{
    h->forest.values = (const uint32_t *)(const void *)h->rows.codes.code;
    h->forest.sizes = h->forest.values ? h->forest.values + h->hashes : NULL;
}

static void minhash_free(ki_structure *structure)
{
    minhash *h = (minhash *)structure;
    kith_minhash_free(h->functions);
    ki_row_codes_clear(&h->rows);
    ki_free(structure->env->allocator, h->own_order);
    ki_free(structure->env->allocator, h);
}

static kith_status minhash_create(const ki_structure_env *env, ki_structure **structure, kith_error *err)
{
    *structure = NULL;
    minhash *h = ki_alloc_zero(env->allocator, 1, sizeof *h);
    if (!h) return ki_fail_nomem(err, sizeof *h);
    h->base.env = env;
    h->hashes = (size_t)env->args[0];
    h->forest.stride = h->forest.size_stride = h->hashes + 1;
    ki_row_codes_init(&h->rows, env->allocator);
    kith_status status = kith_minhash_create(h->hashes, env->seed, env->allocator, &h->functions, err);
    if (status == KITH_OK) status = choose_bands(h, err);
    if (status != KITH_OK) {
        minhash_free(&h->base);
        return status;
    }
    *structure = &h->base;
    return KITH_OK;
}

/* ---- Adding and removing ---- */

typedef struct signing {
    const minhash *h;
    const kith_sets *sets;
    uint32_t *codes; /* [n][K + 1] */
} signing;

static void sign_block(void *ctx, size_t block, size_t worker)
{
    (void)worker;
    const signing *s = ctx;
    const uint64_t *starts = s->sets->starts;
    size_t hashes = s->h->hashes, end = (block + 1) * SIGN_BLOCK;
    if (end > s->sets->n) end = s->sets->n;
    for (size_t i = block * SIGN_BLOCK; i < end; i++) {
        uint32_t *code = s->codes + i * (hashes + 1);
        size_t size = (size_t)(starts[i + 1] - starts[i]);
        kith_minhash_sign(s->h->functions, s->sets->tokens + starts[i], size, code);
        code[hashes] = (uint32_t)size;
    }
}

/* Rows whose codes are in place into the order of each band. */
static kith_status add_to_forest(minhash *h, const ki_input *input, const uint32_t *slots,
                                 uint32_t first_slot, const kith_run *run, kith_error *err)
{
    const kith_allocator *allocator = h->base.env->allocator;
    uint32_t *order;
    if (h->forest.n == 0) KI_TRY(choose_bands(h, err));
    KI_TRY(ki_minhash_forest_merge(&h->forest, slots, first_slot, input->n, allocator, run, &order, err));
    ki_free(allocator, h->own_order);
    h->own_order = order;
    ki_minhash_forest_take(&h->forest, order, h->forest.n + input->n);
    return KITH_OK;
}

static kith_status minhash_add(ki_structure *structure, const ki_input *input, const uint32_t *slots,
                               uint32_t first_slot, size_t n_slots, const kith_run *run, kith_error *err)
{
    minhash *h = (minhash *)structure;
    const ki_codec *codec = structure->env->codec;
    const kith_allocator *allocator = structure->env->allocator;
    uint32_t *codes = ki_alloc(allocator, input->n, codec->code_size);
    if (!codes) return ki_fail_nomem(err, input->n * codec->code_size);
    signing s = {h, input->sets, codes};
    kith_status status = ki_blocks_run(run, "signing", (input->n + SIGN_BLOCK - 1) / SIGN_BLOCK, SIGN_BLOCK,
                                       input->n, sign_block, &s, err);
    const ki_input coded = {.bits = (const uint8_t *)codes, .n = input->n, .dim = codec->code_size * 8};
    if (status == KITH_OK)
        status = ki_row_codes_put(&h->rows, codec, &coded, slots, first_slot, n_slots, run, err);
    point_at_codes(h);
    if (status == KITH_OK) {
        status = add_to_forest(h, input, slots, first_slot, run, err);
        if (status != KITH_OK && slots)
            ki_row_codes_erase(&h->rows, codec, slots, input->n); /* holes are zero */
    }
    ki_free(allocator, codes);
    return status;
}

static void minhash_remove(ki_structure *structure, const uint32_t *slots, size_t n)
{
    minhash *h = (minhash *)structure;
    size_t left = ki_minhash_forest_drop(h->own_order, h->forest.bands, h->forest.n, slots, n);
    ki_row_codes_erase(&h->rows, structure->env->codec, slots, n);
    ki_minhash_forest_take(&h->forest, h->own_order, left);
}

/* ---- Search ---- */

static void minhash_scratch_free(const ki_structure *structure, ki_scratch *s)
{
    if (!s) return;
    ki_scorer_free(s->scorer);
    ki_free(structure->env->allocator, s->signature);
    ki_free(structure->env->allocator, s);
}

static kith_status minhash_scratch_create(const ki_structure *structure, ki_scratch **scratch,
                                          kith_error *err)
{
    size_t hashes = ((const minhash *)structure)->hashes;
    KI_TRY(ki_scratch_make(structure, sizeof **scratch, scratch, err));
    (*scratch)->signature = ki_alloc(structure->env->allocator, hashes, sizeof(uint32_t));
    if ((*scratch)->signature) return KITH_OK;
    minhash_scratch_free(structure, *scratch);
    *scratch = NULL;
    return ki_fail_nomem(err, hashes * sizeof(uint32_t));
}

/* Distances by containment from those by Jaccard. */
static void to_containment(const minhash *h, const ki_scratch *s, const ki_query *query, size_t n,
                           float *dist)
{
    for (size_t i = 0; i < n; i++) {
        double size = h->forest.sizes[s->candidate[i] * h->forest.size_stride];
        double part =
            query->n_tokens == 0
                ? 1
                : ki_minhash_containment(1 - (double)dist[i], (double)query->n_tokens, size, h->hashes, NULL);
        dist[i] = (float)(1 - part);
    }
}

/* Score the candidates gathered so far, and offer them. */
static void flush(const minhash *h, ki_scratch *s, ki_query *query)
{
    float dist[BATCH];
    uint32_t pick[BATCH], near[BATCH];
    size_t n = s->n;
    s->n = 0;
    if (n == 0 || ki_query_stop(query)) return;
    if (ki_query_selective(query)) {
        n = ki_query_admit(query, s->candidate, 0, n, pick);
        for (size_t i = 0; i < n; i++) s->candidate[i] = s->candidate[pick[i]];
        if (n == 0) return;
    }
    s->scorer->ops->score(s->scorer, h->rows.codes, s->candidate, n, INFINITY, dist);
    if (query->settings[CONTAINMENT] != 0) to_containment(h, s, query, n, dist);
    query->scored += n;
    size_t n_near = query->kernels->select_le_f32(dist, n, ki_query_limit(query), near);
    for (size_t i = 0; i < n_near; i++) ki_query_offer(query, dist[near[i]], s->candidate[near[i]]);
}

static void meet(const minhash *h, ki_scratch *s, ki_query *query, uint32_t slot)
{
    s->candidate[s->n++] = slot;
    if (s->n == BATCH) flush(h, s, query);
}

/* The rows of a class that agree with the query in `depth` values of a band. deepest: but no further in any. */
static void gather(const minhash *h, ki_scratch *s, ki_query *query, size_t class, size_t depth, int deepest)
{
    const ki_minhash_forest *f = &h->forest;
    if (f->class_start[class] == f->class_start[class + 1]) return;
    for (size_t band = 0; band < f->bands && !ki_query_stop(query); band++) {
        size_t from, to;
        ki_minhash_forest_range(f, s->signature, class, band, depth, &from, &to);
        query->visited++;
        for (size_t at = from; at < to && !query->stopped; at++) {
            uint32_t slot = f->order[band * f->n + at];
            if (ki_minhash_forest_first(f, s->signature, slot, band, depth, deepest)) meet(h, s, query, slot);
        }
    }
    flush(h, s, query);
}

static void start_again(ki_scratch *s, ki_query *query)
{
    s->n = 0;
    query->scored = 0;
    query->top.n = 0;
    if (query->found) query->found->n = 0;
}

static void scan_all(const minhash *h, ki_scratch *s, ki_query *query)
{
    start_again(s, query);
    for (size_t i = 0; i < h->forest.n && !query->stopped; i++) meet(h, s, query, h->forest.order[i]);
    flush(h, s, query);
}

/* All rows that may have this similarity. 0: no prefix finds enough of them. */
static int gather_similar(const minhash *h, ki_scratch *s, ki_query *query, double jaccard)
{
    double recall = h->base.env->params[RECALL];
    if (jaccard <= 0 || kith_bands_probability(h->forest.bands, 1, fmin(jaccard, 1)) < recall) return 0;
    size_t depth = ki_minhash_forest_depth(&h->forest, jaccard, recall);
    for (size_t class = 0; class < KI_FOREST_CLASSES && !query->stopped; class ++)
        gather(h, s, query, class, depth, 0);
    return 1;
}

/* Every row of a class. */
static void gather_class(const minhash *h, ki_scratch *s, ki_query *query, size_t class)
{
    const ki_minhash_forest *f = &h->forest;
    for (size_t at = f->class_start[class]; at < f->class_start[class + 1] && !query->stopped; at++)
        meet(h, s, query, f->order[at]);
    flush(h, s, query);
}

/* All rows that may hold this part of the query. 0: as above. thorough: a class of which the bands would propose too few
 * is compared as a whole. */
static int gather_containing(const minhash *h, ki_scratch *s, ki_query *query, double part, int thorough)
{
    double recall = h->base.env->params[RECALL], size = (double)query->n_tokens;
    if (part <= 0 || size <= 0) return 0;
    for (size_t class = 0; class < KI_FOREST_CLASSES && !query->stopped; class ++) {
        double longest = ki_minhash_class_end(class);
        if (longest < part * size) continue; /* too short to hold so much of the query */
        double jaccard = part < 1 ? part / (longest / size + 1 - part) : fmin(size / longest, 1);
        if (thorough && kith_bands_probability(h->forest.bands, 1, fmin(jaccard, 1)) < recall)
            gather_class(h, s, query, class);
        else
            gather(h, s, query, class, ki_minhash_forest_depth(&h->forest, jaccard, recall), 0);
    }
    return 1;
}

static void search_radius(const minhash *h, ki_scratch *s, ki_query *query)
{
    double least = 1 - (double)query->radius;
    if (query->radius < 0) return;
    if (!(query->settings[CONTAINMENT] != 0 ? gather_containing(h, s, query, least, 1)
                                            : gather_similar(h, s, query, least)))
        scan_all(h, s, query);
}

static void search_nearest(const minhash *h, ki_scratch *s, ki_query *query)
{
    uint64_t wanted = (uint64_t)query->settings[CANDIDATES];
    if (wanted < query->need) wanted = query->need;
    if (query->settings[CONTAINMENT] != 0) {
        for (int tenths = 9; tenths > 0 && query->scored < wanted && !query->stopped; tenths -= 2) {
            start_again(s, query);
            if (!gather_containing(h, s, query, tenths / 10.0, 0)) break;
        }
    } else {
        for (size_t depth = h->forest.rows; depth > 0 && query->scored < wanted; depth--)
            for (size_t class = 0; class < KI_FOREST_CLASSES && !query->stopped; class ++)
                gather(h, s, query, class, depth, 1);
    }
    if (!query->stopped && ki_query_taken(query) < query->need) scan_all(h, s, query);
}

static void minhash_search(const ki_structure *structure, ki_scratch *s, ki_query *query)
{
    const minhash *h = (const minhash *)structure;
    s->n = 0;
    if (ki_query_stop(query)) return;
    kith_minhash_sign(h->functions, query->tokens, query->n_tokens, s->signature);
    s->scorer->ops->query_bits(s->scorer, (const uint8_t *)s->signature);
    if (query->found)
        search_radius(h, s, query);
    else
        search_nearest(h, s, query);
}

/* ---- Save and load ---- */

static kith_status minhash_save(const ki_structure *structure, size_t n_slots, ki_store_writer *writer,
                                kith_error *err)
{
    const minhash *h = (const minhash *)structure;
    ki_record record;
    KI_TRY(ki_row_codes_save(&h->rows, structure->env->codec, PREFIX, n_slots, writer, err));
    ki_record_init(&record, structure->env->allocator);
    ki_record_put_u64(&record, "bands", h->forest.bands);
    ki_record_put_u64(&record, "rows", h->forest.rows);
    kith_status status = ki_store_put_record(writer, PREFIX ".shape", &record, err);
    ki_record_clear(&record);
    if (status != KITH_OK) return status;
    return ki_store_put(writer, PREFIX ".order", h->forest.order, h->forest.bands * h->forest.n,
                        sizeof *h->forest.order, err);
}

static kith_status load_shape(minhash *h, ki_store *store, kith_error *err)
{
    ki_record_view record;
    uint64_t bands, rows;
    KI_TRY(ki_store_record_open(store, PREFIX ".shape", &record, err));
    KI_TRY(ki_record_get_u64(&record, "bands", 1, h->hashes, &bands, err));
    KI_TRY(ki_record_get_u64(&record, "rows", 1, h->hashes / bands, &rows, err));
    h->forest.bands = (size_t)bands;
    h->forest.rows = (size_t)rows;
    return KITH_OK;
}

/* order[n], where it lies in the map or a copy of our own. */
static kith_status load_order(minhash *h, size_t n, int mapped, ki_store *store, const uint32_t **order,
                              kith_error *err)
{
    const char *name = PREFIX ".order";
    const void *data;
    if (mapped) {
        KI_TRY(ki_store_array(store, name, n, sizeof **order, &data, err));
        *order = data;
        return KITH_OK;
    }
    uint64_t held; /* before anything is allocated: whether the file holds so much */
    KI_TRY(ki_store_count(store, name, sizeof **order, &held, err));
    if (held != n)
        return ki_fail(err, KITH_CORRUPT, "%s: section %s holds %llu slots, not %zu", ki_store_path(store),
                       name, (unsigned long long)held, n);
    h->own_order = ki_alloc(h->base.env->allocator, n, sizeof *h->own_order);
    if (!h->own_order) return ki_fail_nomem(err, n * sizeof *h->own_order);
    *order = h->own_order;
    return ki_store_load(store, name, n, sizeof *h->own_order, h->own_order, err);
}

static kith_status minhash_load(ki_structure *structure, ki_store *store, int mapped, const ki_rows *rows,
                                kith_error *err)
{
    minhash *h = (minhash *)structure;
    const uint32_t *order = NULL;
    KI_TRY(load_shape(h, store, err));
    KI_TRY(ki_row_codes_load(&h->rows, structure->env->codec, PREFIX, rows->n_slots, mapped, store, err));
    point_at_codes(h);
    size_t n = h->forest.bands * rows->n;
    KI_TRY(load_order(h, n, mapped, store, &order, err));
    for (size_t i = 0; i < n; i++) /* searching rests on it */
        if (order[i] >= rows->n_slots)
            return ki_fail(err, KITH_CORRUPT, "%s: MH2: the order of band %zu holds slot %u of %zu",
                           ki_store_path(store), i / rows->n, order[i], rows->n_slots);
    ki_minhash_forest_take(&h->forest, order, rows->n);
    return KITH_OK;
}

/* ---- Check and stats ---- */

static kith_status check_order(const minhash *h, const ki_rows *rows, uint64_t *seen, kith_error *err)
{
    const ki_minhash_forest *f = &h->forest;
    for (size_t band = 0; band < f->bands; band++) {
        if (rows->n_slots > 0) memset(seen, 0, ki_bits_words(rows->n_slots) * sizeof *seen);
        for (size_t i = 0; i < f->n; i++) {
            uint32_t slot = f->order[band * f->n + i];
            if (slot >= rows->n_slots || !ki_rows_used(rows, slot) || ki_bits_get(seen, slot))
                return ki_fail(err, KITH_CORRUPT, "MH2: band %zu holds slot %u twice or in vain", band, slot);
            ki_bits_set(seen, slot);
        }
    }
    kith_status status = ki_minhash_forest_check(f, err);
    if (status != KITH_OK) ki_error_prefix(err, "MH2");
    return status;
}

static kith_status minhash_check(const ki_structure *structure, const ki_rows *rows, kith_error *err)
{
    const minhash *h = (const minhash *)structure;
    kith_status status = ki_row_codes_check(&h->rows, structure->env->codec, rows->n_slots, err);
    if (status != KITH_OK) {
        ki_error_prefix(err, "MH1");
        return status;
    }
    if (h->forest.n != rows->n)
        return ki_fail(err, KITH_CORRUPT, "MH2: bands hold %zu rows of %zu", h->forest.n, rows->n);
    uint64_t *seen = ki_alloc(structure->env->allocator, ki_bits_words(rows->n_slots), sizeof *seen);
    if (!seen) return ki_fail_nomem(err, ki_bits_words(rows->n_slots) * sizeof *seen);
    status = check_order(h, rows, seen, err);
    ki_free(structure->env->allocator, seen);
    return status;
}

static uint64_t minhash_bytes(const ki_structure *structure)
{
    const minhash *h = (const minhash *)structure;
    return ki_row_codes_bytes(&h->rows, structure->env->codec) +
           (uint64_t)h->forest.bands * h->forest.n * sizeof *h->forest.order;
}

static const ki_structure_ops minhash_ops = {
    .create = minhash_create,
    .free = minhash_free,
    .add = minhash_add,
    .remove = minhash_remove,
    .scratch_create = minhash_scratch_create,
    .scratch_free = minhash_scratch_free,
    .search = minhash_search,
    .save = minhash_save,
    .load = minhash_load,
    .check = minhash_check,
    .bytes = minhash_bytes,
};

const ki_structure_part ki_structure_minhash = {
    .part = {.info = {.pattern = "MinHash<K>",
                      .about =
                          "structure over sets: MinHash signatures of K values in bands, for the Jaccard "
                          "similarity (documents, baskets) or containment; not for similarities below 0.2; "
                          "by the library alone (kith_index_add_sets), no file format holds sets",
                      .params = minhash_params,
                      .n_params = N_PARAMS},
             .args = {{"K", 1, KITH_MINHASH_MAX_HASHES, 0}}},
    .main_param = "candidates",
    .metrics = KI_METRIC_BIT(KITH_JACCARD),
    .ops = &minhash_ops,
    .codec = &ki_codec_part_signatures,
};
