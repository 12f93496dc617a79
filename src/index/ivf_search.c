/* ivf_search.c - the query side of IVF: which cells, then their rows. The essay is in ivf.c. */
#include "index/ivf_internal.h"

#include <math.h>
#include <string.h>

#include "base/bitset.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/select.h"

/* Cells whose distances are compared with the worst so far at a time. */
#define DISTANCE_BLOCK 64

/* Screening is tried when at most this share of the cells is wanted, and kept when it leaves over twice as many at most:
 * measuring scattered centroids costs some four times as much each as measuring all in a row. */
#define SCREEN_SHARE 16

/* A query that ends by itself is given this share of the cells at first, and as many again each time they do not do. */
#define FIRST_SHARE 64
#define FIRST_LEAST 16
#define FIRST_WALKED 32 /* cells, where a graph finds them: each round walks anew */

/* The beam of a walk to `count` cells, unless coarse_ef says so: a half more, so that the last of them are found too
 * (sift1m, 65,536 cells: docs/families/ivf.md). */
#define BEAM_LEAST 32

/* From this share of the cells on a walk is no less work than all centroids; so few it finds in any case. */
#define WALK_SHARE 16
#define WALK_LEAST 32

/* What is fetched of the next list while this one is scanned: its first lines. The hardware follows a run of
 * lines once it has begun, but not from one list to the next. */
#define PREFETCH_BYTES 1024

struct ki_scratch {
    ki_scorer *scorer;
    float *shifted;          /* [dim] the query as the columns are; NULL where it is so already */
    float *distance;         /* [n_cells] of the query to each centroid */
    uint64_t *near;          /* [n_cells] keys (base/select.h) of the nearest cells, sorted */
    uint32_t *left;          /* [n_cells] cells that screening left over; NULL without a screen */
    float *exact;            /* [n_cells] their exact distances */
    void *rough;             /* scratch of the screen */
    ki_coarse_scratch *walk; /* of the graph; NULL without */
    uint64_t *
        seen; /* [n_cells] bits: cells looked into; with a graph, whose walks do not find cells in one order */
};

kith_status ki_ivf_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err)
{
    const ki_ivf *ivf = (const ki_ivf *)structure;
    const ki_structure_env *env = structure->env;
    *scratch = NULL;
    ki_scratch *s = ki_alloc_zero(env->allocator, 1, sizeof *s);
    if (!s) return ki_fail_nomem(err, sizeof *s);
    s->distance = ki_alloc(env->allocator, ivf->n_cells, sizeof *s->distance);
    s->near = ki_alloc(env->allocator, ivf->n_cells, sizeof *s->near);
    kith_status status = s->distance && s->near
                             ? KITH_OK
                             : ki_fail_nomem(err, ivf->n_cells * (sizeof *s->distance + sizeof *s->near));
    if (status == KITH_OK && ivf->middle) {
        s->shifted = ki_alloc(env->allocator, env->dim, sizeof *s->shifted);
        status = s->shifted ? KITH_OK : ki_fail_nomem(err, env->dim * sizeof *s->shifted);
    }
    if (status == KITH_OK && ivf->screen) {
        s->left = ki_alloc(env->allocator, ivf->n_cells, sizeof *s->left);
        s->exact = ki_alloc(env->allocator, ivf->n_cells, sizeof *s->exact);
        s->rough = ki_alloc(env->allocator, ki_screen_scratch(ivf->screen), 1);
        if (!s->left || !s->exact || !s->rough)
            status = ki_fail_nomem(err, ivf->n_cells * (sizeof *s->left + sizeof *s->exact));
    }
    if (status == KITH_OK && ivf->coarse) {
        s->seen = ki_alloc(env->allocator, ki_bits_words(ivf->n_cells), sizeof *s->seen);
        status = s->seen ? ki_coarse_scratch_create(ivf->coarse, &s->walk, err)
                         : ki_fail_nomem(err, ki_bits_words(ivf->n_cells) * sizeof *s->seen);
    }
    if (status == KITH_OK) status = env->codec->ops->scorer(env->codec, env->allocator, &s->scorer, err);
    if (status != KITH_OK) {
        ki_ivf_scratch_free(structure, s);
        return status;
    }
    *scratch = s;
    return KITH_OK;
}

void ki_ivf_scratch_free(const ki_structure *structure, ki_scratch *scratch)
{
    const kith_allocator *allocator = structure->env->allocator;
    ki_scorer_free(scratch->scorer);
    ki_free(allocator, scratch->shifted);
    ki_free(allocator, scratch->distance);
    ki_free(allocator, scratch->near);
    ki_free(allocator, scratch->left);
    ki_free(allocator, scratch->exact);
    ki_free(allocator, scratch->rough);
    if (scratch->walk) ki_coarse_scratch_free(((const ki_ivf *)structure)->coarse, scratch->walk);
    ki_free(allocator, scratch->seen);
    ki_free(allocator, scratch);
}

/* ---- Which cells ---- */

/* The `count` nearest cells whose keys are above `after` (with a graph: which were not looked into), sorted, into near[]; how
 * many there are, which is fewer only when no more are left. Candidates are gathered up to twice the number wanted, and then the farther half is dropped: a
 * few passes over a small array, where a heap would be sifted hundreds of times. */
static size_t next_cells(const ki_ivf *ivf, ki_scratch *s, uint64_t after, size_t count)
{
    const ki_kernels *kernels = ivf->base.env->kernels;
    uint32_t near[DISTANCE_BLOCK];
    size_t n = 0, room = 2 * count + DISTANCE_BLOCK;
    float worst = INFINITY;
    for (size_t first = 0; first < ivf->n_cells; first += DISTANCE_BLOCK) {
        size_t block = ivf->n_cells - first < DISTANCE_BLOCK ? ivf->n_cells - first : DISTANCE_BLOCK;
        size_t n_near = kernels->select_le_f32(s->distance + first, block, worst, near);
        for (size_t i = 0; i < n_near; i++) {
            size_t cell = first + near[i];
            uint64_t key = ki_key(s->distance[cell], (uint32_t)cell);
            s->near[n] = key;
            n += s->seen ? !ki_bits_get(s->seen, cell) : key > after;
        }
        if (n < count || n + DISTANCE_BLOCK <= room) continue;
        ki_keys_select(s->near, n, count);
        n = count;
        uint64_t last = 0;
        for (size_t i = 0; i < n; i++) last = s->near[i] > last ? s->near[i] : last;
        worst = ki_key_dist(last);
    }
    if (n > count) {
        ki_keys_select(s->near, n, count);
        n = count;
    }
    ki_keys_sort(s->near, n);
    return n;
}

/* The `count` nearest cells, by rough distances first: those that may be among them are then measured, all others surely
 * are not. 0 when screening leaves over so many that measuring all of them in one pass is better. */
static size_t screened_cells(const ki_ivf *ivf, ki_scratch *s, const float *query, size_t count)
{
    if (!ivf->screen || count > ivf->n_cells / SCREEN_SHARE) return 0;
    ki_screen_error error = ki_screen_row(ivf->screen, query, s->rough, s->distance);
    size_t n = next_cells(ivf, s, 0, count);
    if (n < count) return 0; /* numbers too large for rough values */
    float limit = ki_screen_limit(error, ki_key_dist(s->near[n - 1]));
    n = ivf->base.env->kernels->select_le_f32(s->distance, ivf->n_cells, limit, s->left);
    if (n < count || n > ivf->n_cells / SCREEN_SHARE * 2) return 0;
    ki_product_some(ivf->nearest, ki_ivf_columns(ivf), ivf->base.env->dim, query, s->left, n, s->exact);
    for (size_t i = 0; i < n; i++) {
        if (isnan(s->exact[i])) return 0;
        s->near[i] = ki_key(s->exact[i], s->left[i]);
    }
    ki_keys_select(s->near, n, count);
    ki_keys_sort(s->near, count);
    return count;
}

/* The query as the centroids were packed by which its cells are found. */
static const float *as_columns(const ki_ivf *ivf, const ki_scratch *s, const ki_query *query)
{
    return s->shifted && !ivf->probing ? s->shifted : query->vector;
}

/* The distances of the query to all centroids. Those that overflow to no number are as far as can be: their cells come last,
 * but they come. */
static void measure(const ki_ivf *ivf, ki_scratch *s, const ki_query *query)
{
    ki_product_row(ki_ivf_probing(ivf), as_columns(ivf, s, query), s->distance);
    for (size_t c = 0; c < ivf->n_cells; c++)
        s->distance[c] = isnan(s->distance[c]) ? INFINITY : s->distance[c];
}

/* Whether a query ends by how far it reaches, and not after nprobe cells: where cells are near by L2. */
static int reaches(const ki_ivf *ivf, const double *settings)
{
    const ki_structure_env *env = ivf->base.env;
    return (settings[KI_IVF_REACH] > 0 || settings[KI_IVF_EXACT] > 0) &&
           (env->metric == KITH_L2SQ || env->unit);
}

/* Whether a graph finds `count` cells. `exact` wants them all in order. */
static int walks(const ki_ivf *ivf, const double *settings, size_t count)
{
    if (!ivf->coarse || (count > WALK_LEAST && count > ivf->n_cells / WALK_SHARE)) return 0;
    return !(reaches(ivf, settings) && settings[KI_IVF_EXACT] > 0);
}

/* Cells that a query begins with. */
static size_t probes(const ki_ivf *ivf, const double *settings)
{
    double nprobe = settings[KI_IVF_NPROBE];
    if (reaches(ivf, settings))
        nprobe = (double)(walks(ivf, settings, FIRST_WALKED) ? FIRST_WALKED
                                                             : ivf->n_cells / FIRST_SHARE + FIRST_LEAST);
    return nprobe < (double)ivf->n_cells ? (size_t)nprobe : ivf->n_cells;
}

/* The beam of a walk to `count` cells. */
static size_t beam(const double *settings, size_t count)
{
    size_t ef = (size_t)settings[KI_IVF_COARSE_EF];
    if (ef == 0) ef = count + count / 2 < BEAM_LEAST ? BEAM_LEAST : count + count / 2;
    return ef < count ? count : ef;
}

kith_status ki_ivf_prepare(const ki_structure *structure, ki_scratch *s, size_t k, const double *settings,
                           kith_error *err)
{
    const ki_ivf *ivf = (const ki_ivf *)structure;
    (void)k;
    size_t count = probes(ivf, settings);
    if (!walks(ivf, settings, count)) return KITH_OK;
    if (reaches(ivf, settings) && count < ivf->n_cells / WALK_SHARE)
        count = ivf->n_cells / WALK_SHARE; /* it may go on for so long */
    return ki_coarse_reserve(ivf->coarse, s->walk, count, beam(settings, count), err);
}

/* Up to `count` cells that were not looked into, by the graph, into near[]: of the `seen` + count nearest those that are new. */
static size_t walk(const ki_ivf *ivf, ki_scratch *s, const ki_query *query, size_t seen, size_t count)
{
    size_t n = ki_coarse_find(ivf->coarse, s->walk, query->vector, seen + count,
                              beam(query->settings, seen + count), s->near);
    size_t fresh = 0;
    for (size_t i = 0; i < n; i++) {
        s->near[fresh] = s->near[i];
        fresh += !ki_bits_get(s->seen, ki_key_number(s->near[i]));
    }
    return fresh;
}

size_t ki_ivf_route_size(const ki_structure *structure, const double *settings)
{
    const ki_ivf *ivf = (const ki_ivf *)structure;
    size_t nprobe = probes(ivf, settings);
    return walks(ivf, settings, nprobe) ? 0 : nprobe * sizeof(uint64_t);
}

kith_status ki_ivf_route(const ki_structure *structure, const float *x, size_t nq, const double *settings,
                         kith_pool *pool, void *routes, kith_error *err)
{
    const ki_ivf *ivf = (const ki_ivf *)structure;
    const ki_structure_env *env = structure->env;
    size_t nprobe = probes(ivf, settings), n = nq * nprobe;
    uint64_t *keys = routes; /* the numbers of the cells first, in place */
    int shift = ivf->middle && !ivf->probing;
    float *distance = ki_alloc(env->allocator, n, sizeof *distance);
    float *room = shift ? ki_alloc(env->allocator, nq, env->dim * sizeof *room) : NULL;
    kith_status status = distance && (room || !shift)
                             ? KITH_OK
                             : ki_fail_nomem(err, n * sizeof *distance + nq * env->dim * sizeof *room);
    if (status == KITH_OK && shift) x = ki_ivf_cells_shift(ivf, x, nq, room);
    if (status == KITH_OK)
        status = ki_product_topk(pool, x, env->dim, nq, ki_ivf_probing(ivf), nprobe, distance, keys, err);
    ki_free(env->allocator, room);
    for (size_t i = 0; status == KITH_OK && i < n; i++) {
        if (keys[i] ==
            UINT64_MAX) /* a distance overflowed to NaN: each query finds its cells by itself then */
            status = ki_fail(err, KITH_UNSUPPORTED, "distances to the centroids overflow");
        else
            keys[i] = ki_key(distance[i], (uint32_t)keys[i]);
    }
    ki_free(env->allocator, distance);
    return status;
}

/* ---- Their rows ---- */

static void prefetch(const void *data, size_t bytes)
{
    const char *from = data;
    for (size_t i = 0; i < bytes && i < PREFETCH_BYTES; i += KI_CACHE_LINE) __builtin_prefetch(from + i);
}

/* The distance of the query to what the codes of a cell are counted from, as the codec counts, from the one by which the
 * cell was chosen. Under COSINE that is |q - c|^2, and the codec's -(q . c). */
static float origin_distance(const ki_ivf *ivf, const ki_query *query, size_t cell, float distance)
{
    const ki_structure_env *env = ivf->base.env;
    const float *origin = ki_ivf_origins(ivf) + cell * env->dim;
    if (ivf->origins && env->metric == KITH_L2SQ)
        return env->kernels->l2sq_f32(query->vector, origin, env->dim);
    if (!ivf->origins && (env->metric == KITH_L2SQ || ivf->probing)) return distance;
    return -env->kernels->dot_f32(query->vector, origin, env->dim);
}

static void scan_cell(const ki_ivf *ivf, ki_scratch *s, ki_query *query, uint64_t key)
{
    size_t cell = ki_key_number(key), size = ivf->lists.size[cell];
    query->visited++;
    if (size == 0) return;
    if (s->scorer->codec->residual)
        s->scorer->ops->rebase(s->scorer, ki_ivf_origins(ivf) + cell * ivf->base.env->dim,
                               origin_distance(ivf, query, cell, ki_key_dist(key)));
    ki_query_scan(query, s->scorer, ki_postings_codes(&ivf->lists, cell),
                  ki_postings_slots(&ivf->lists, cell), 0, size);
}

/* ---- How far a query reaches ----
 *
 * Let q be the query, c_1 the nearest centroid, d_k the distance of the k-th row found so far. A row nearer than that can
 * lie in cell j only if
 *     |q - c_j| - r_j <= d_k                                  (r_j: the radius of the cell), and
 *     (|q - c_j|^2 - |q - c_1|^2) / (2 |c_j - c_1|) <= d_k    (the distance of q to the border between cell j and cell 1:
 *                                                             rows lie in the cell that is nearest)
 * The second no longer holds when cells were split (ivf_grow.c); the first does, and is all that `exact` goes by then.
 * `exact` passes over all other cells, and the answer is that of all cells. In many dimensions the bounds let nearly every
 * cell pass: the row would have to lie right in the direction of the cell. A row at distance d_k in any direction lies
 * across a border at distance h with a probability that falls with h / d_k. `reach` bounds that ratio:
 *     |q - c_j|^2 - |q - c_1|^2 <= reach * 2 s * d_k * (1 + g)
 * where s, the root of the mean squared distance of rows to centroids, stands for |c_j - c_1|, the same for all cells so
 * that the first cell out of reach is the end; and g, 0..1, is a sliding mean of whether the last cells had anything to
 * give. On sift1m, IVF4096, k 10, this scores about 20 % fewer rows than the nprobe of the same recall, 0.95 or 0.98; less
 * without g. |q - c_j| against |q - c_1|, as SPANN has it (Chen et al., NeurIPS 2021), scored more rows than nprobe. */

#define GAIN_WEIGHT 0.1 /* of the last cell in the sliding mean (arbitrary) */

typedef struct reach {
    int exact;
    double share;    /* reach * 2 s */
    double gain;     /* g */
    float first;     /* |q - c_1|^2 */
    float error;     /* no measured |q - c|^2 is off by more */
    const float *c1; /* [dim] */
    int over;        /* no cell is left that could be in reach */
} reach;

static void reach_begin(const ki_ivf *ivf, const ki_scratch *s, const ki_query *query, uint64_t nearest,
                        reach *r)
{
    const ki_structure_env *env = ivf->base.env;
    const float *x = as_columns(ivf, s, query);
    float length = sqrtf(env->kernels->dot_f32(x, x, env->dim)) + ivf->longest;
    double scale = ivf->trained_spread > 0 ? sqrt(ivf->trained_spread) : 1;
    r->exact = query->settings[KI_IVF_EXACT] > 0;
    r->share = query->settings[KI_IVF_REACH] * 2 * scale;
    r->gain = 0;
    r->first = ki_key_dist(nearest);
    r->error = (float)(env->dim + 8) * 0x1p-23f * length * length;
    r->c1 = ivf->centroids + ki_key_number(nearest) * env->dim;
    r->over = 0;
}

/* What a row must be below to be of use, as a distance: d_k. */
static double wanted_below(const ki_ivf *ivf, const ki_query *query)
{
    double limit = (double)ki_query_limit(query);
    if (ivf->base.env->unit) limit = 2 + 2 * limit + 1e-5; /* of -(q . x), for vectors of about unit length */
    return limit > 0 ? sqrt(limit) : 0;
}

/* Whether cell j passes the two exact bounds. */
static int may_hold(const ki_ivf *ivf, uint64_t key, double below, reach *r)
{
    const ki_structure_env *env = ivf->base.env;
    size_t cell = ki_key_number(key);
    const float *c = ivf->centroids + cell * env->dim;
    double d2 = (double)ki_key_dist(key) - (double)r->error, first = (double)r->first + (double)r->error;
    double gap = d2 - first - 2 * (double)r->error, d = d2 > 0 ? sqrt(d2) : 0;
    if (c == r->c1 || below == INFINITY) return 1;
    if (ivf->split) return !(d - (double)ivf->radius[cell] > below); /* (both infinite: it may) */
    if (gap >
        2 * below * (d + sqrt(first) + 1e-3 * d)) { /* |c_j - c_1| is less: true for all cells from here on */
        r->over = 1;
        return 0;
    }
    if (d - (double)ivf->radius[cell] > below) return 0;
    if (gap <= 0) return 1;
    double apart = sqrt((double)env->kernels->l2sq_f32(c, r->c1, env->dim));
    return gap <= 2 * below * apart * (1 + (double)(env->dim + 4) * 0x1p-23);
}

static int in_reach(const ki_ivf *ivf, const ki_query *query, uint64_t key, reach *r)
{
    double below = wanted_below(ivf, query);
    if (r->exact) return may_hold(ivf, key, below, r);
    double gap = (double)ki_key_dist(key) - (double)r->first;
    if (below < INFINITY && gap > r->share * below * (1 + r->gain)) r->over = 1;
    return !r->over;
}

/* The list that comes next: the scorer fetches it as it likes, or its first lines are. */
static void fetch_list(const ki_postings *lists, ki_scorer *scorer, size_t list)
{
    ki_codes codes = ki_postings_codes(lists, list);
    size_t size = lists->size[list];
    if (scorer->ops->next) {
        scorer->ops->next(scorer, codes, size);
        return;
    }
    if (size == 0) return;
    prefetch(codes.code, size * lists->code_size);
    if (codes.factor) prefetch(codes.factor, size * lists->n_factors * sizeof *codes.factor);
}

/* r: NULL where every cell is looked into. */
static void scan_cells(const ki_ivf *ivf, ki_scratch *s, ki_query *query, const uint64_t *keys, size_t n,
                       reach *r)
{
    const ki_postings *lists = &ivf->lists;
    for (size_t i = 0; i < n && !query->stopped; i++) {
        if (i + 1 < n)
            fetch_list(lists, s->scorer, ki_key_number(keys[i + 1]));
        else if (s->scorer->ops->next)
            s->scorer->ops->next(s->scorer, (ki_codes){0}, 0);
        if (r && !in_reach(ivf, query, keys[i], r)) {
            if (r->over) break;
            continue;
        }
        float before = r ? ki_query_limit(query) : 0;
        scan_cell(ivf, s, query, keys[i]);
        if (r) r->gain += GAIN_WEIGHT * ((double)(ki_query_limit(query) < before) - r->gain);
    }
}

/* The cells that a query looks into first, into near[]: how many. *measured: whether distance[] was filled. */
static size_t first_cells(const ki_ivf *ivf, ki_scratch *s, const ki_query *query, size_t n, int *measured)
{
    if (s->seen) memset(s->seen, 0, ki_bits_words(ivf->n_cells) * sizeof *s->seen);
    if (walks(ivf, query->settings, n)) return walk(ivf, s, query, 0, n);
    if (screened_cells(ivf, s, as_columns(ivf, s, query), n) > 0) return n;
    measure(ivf, s, query);
    *measured = 1;
    return next_cells(ivf, s, 0, n);
}

/* The next ones, after keys[n], the last that were looked into, and `seen` in all: as many again. */
static size_t more_cells(const ki_ivf *ivf, ki_scratch *s, const ki_query *query, const uint64_t *keys,
                         size_t n, size_t seen, int *measured)
{
    size_t count = seen < ivf->n_cells - seen ? seen : ivf->n_cells - seen;
    uint64_t last = keys[n - 1];
    for (size_t i = 0; i < n && s->seen; i++) ki_bits_set(s->seen, ki_key_number(keys[i]));
    if (reaches(ivf, query->settings) && walks(ivf, query->settings, seen + count) && !*measured) {
        size_t found = walk(ivf, s, query, seen, count);
        if (found > 0) return found;
    }
    if (!*measured) measure(ivf, s, query);
    *measured = 1;
    return next_cells(ivf, s, last, count);
}

void ki_ivf_search(const ki_structure *structure, ki_scratch *s, ki_query *query)
{
    const ki_ivf *ivf = (const ki_ivf *)structure;
    size_t n = probes(ivf, query->settings), seen;
    const uint64_t *keys = query->route;
    int measured = 0; /* whether distance[] holds the exact distances of all cells */
    query->holes = 0; /* lists hold slots in use only */
    s->scorer->ops->query(s->scorer, query->vector);
    if (s->shifted) (void)ki_ivf_cells_shift(ivf, query->vector, 1, s->shifted);
    if (!keys) {
        n = first_cells(ivf, s, query, n, &measured);
        keys = s->near;
    } else if (s->seen) {
        memset(s->seen, 0, ki_bits_words(ivf->n_cells) * sizeof *s->seen);
    }
    seen = n;
    reach how_far, *r = reaches(ivf, query->settings) && n > 0 ? &how_far : NULL;
    if (r) reach_begin(ivf, s, query, keys[0], r);
    scan_cells(ivf, s, query, keys, n, r);
    /* Not at the end of its reach, or fewer than wanted: on to the next nearest cells, as many as were seen already each time, until there are enough. A query that
     * wants more rows has no limit yet, so that every cell is in its reach. */
    while (((r && !r->over) || ki_query_taken(query) < query->need) && n > 0 && seen < ivf->n_cells &&
           !query->stopped) {
        n = more_cells(ivf, s, query, keys, n, seen, &measured);
        keys = s->near;
        scan_cells(ivf, s, query, keys, n, r);
        seen += n;
    }
}
