/* ivf_search.c - the query side of IVF: which cells, then their rows. The essay is in ivf.c. */
#include "index/ivf_internal.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

/* Cells whose keys are compared with the worst so far at a time. */
#define KEY_BLOCK 256

/* What is fetched of the next list while this one is scanned: its first lines. The hardware follows a run of
 * lines once it has begun, but not from one list to the next. */
#define PREFETCH_BYTES 512

struct ki_scratch {
    ki_scorer *scorer;
    float *keys;     /* [n_cells] distance of the query to each centroid */
    float *near_key; /* [n_cells] the nearest cells, as a heap and then sorted */
    uint64_t *near;  /* [n_cells] */
};

kith_status ki_ivf_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err)
{
    const ki_ivf *ivf = (const ki_ivf *)structure;
    const ki_structure_env *env = structure->env;
    *scratch = NULL;
    ki_scratch *s = ki_alloc_zero(env->allocator, 1, sizeof *s);
    if (!s) return ki_fail_nomem(err, sizeof *s);
    s->keys = ki_alloc(env->allocator, ivf->n_cells, sizeof *s->keys);
    s->near_key = ki_alloc(env->allocator, ivf->n_cells, sizeof *s->near_key);
    s->near = ki_alloc(env->allocator, ivf->n_cells, sizeof *s->near);
    kith_status status = s->keys && s->near_key && s->near
                             ? KITH_OK
                             : ki_fail_nomem(err, ivf->n_cells * (2 * sizeof *s->keys + sizeof *s->near));
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
    ki_free(allocator, scratch->keys);
    ki_free(allocator, scratch->near_key);
    ki_free(allocator, scratch->near);
    ki_free(allocator, scratch);
}

/* ---- Which cells ---- */

/* The next `count` nearest cells that come after `last` in the order of (key, cell), sorted, into near[]; all
 * from the beginning for last NULL. Returns how many there are. */
static size_t next_cells(const ki_ivf *ivf, ki_scratch *s, const ki_ivf_cell *last, size_t count)
{
    const ki_kernels *kernels = ivf->base.env->kernels;
    uint32_t near[KEY_BLOCK];
    ki_topk top;
    ki_topk_init(&top, count, s->near_key, s->near);
    for (size_t first = 0; first < ivf->n_cells; first += KEY_BLOCK) {
        size_t n = ivf->n_cells - first < KEY_BLOCK ? ivf->n_cells - first : KEY_BLOCK;
        size_t n_near = kernels->select_le_f32(s->keys + first, n, ki_topk_worst(&top), near);
        for (size_t i = 0; i < n_near; i++) {
            size_t cell = first + near[i];
            if (last && !ki_farther(s->keys[cell], cell, last->key, last->cell)) continue;
            ki_topk_push(&top, s->keys[cell], cell);
        }
    }
    return ki_topk_sort(&top);
}

static size_t probes(const ki_ivf *ivf, const double *settings)
{
    double nprobe = settings[KI_IVF_NPROBE];
    return nprobe < (double)ivf->n_cells ? (size_t)nprobe : ivf->n_cells;
}

size_t ki_ivf_route_size(const ki_structure *structure, const double *settings)
{
    return probes((const ki_ivf *)structure, settings) * sizeof(ki_ivf_cell);
}

kith_status ki_ivf_route(const ki_structure *structure, const float *x, size_t nq, const double *settings,
                         kith_pool *pool, void *routes, kith_error *err)
{
    const ki_ivf *ivf = (const ki_ivf *)structure;
    const ki_structure_env *env = structure->env;
    size_t nprobe = probes(ivf, settings), n = nq * nprobe;
    float *key = ki_alloc(env->allocator, n, sizeof *key);
    uint64_t *cell = ki_alloc(env->allocator, n, sizeof *cell);
    kith_status status = key && cell ? KITH_OK : ki_fail_nomem(err, n * (sizeof *key + sizeof *cell));
    if (status == KITH_OK)
        status = ki_product_topk(pool, x, env->dim, nq, ki_ivf_probing(ivf), nprobe, key, cell, err);
    ki_ivf_cell *route = routes;
    for (size_t i = 0; status == KITH_OK && i < n; i++) route[i] = (ki_ivf_cell){key[i], (uint32_t)cell[i]};
    ki_free(env->allocator, key);
    ki_free(env->allocator, cell);
    return status;
}

/* ---- Their rows ---- */

static void prefetch(const void *data)
{
    const char *bytes = data;
    for (size_t i = 0; i < PREFETCH_BYTES; i += KI_CACHE_LINE) __builtin_prefetch(bytes + i);
}

/* The distance of the query to a centroid, as the codec counts, from the key by which the cell was chosen. Under
 * COSINE the key is |q - c|^2 and the codec's distance -(q . c). */
static float origin_distance(const ki_ivf *ivf, const ki_query *query, ki_ivf_cell cell)
{
    const ki_structure_env *env = ivf->base.env;
    if (env->metric == KITH_L2SQ || ivf->probing) return cell.key;
    return -env->kernels->dot_f32(query->vector, ivf->centroids + (size_t)cell.cell * env->dim, env->dim);
}

static void scan_cell(const ki_ivf *ivf, ki_scratch *s, ki_query *query, ki_ivf_cell cell)
{
    size_t size = ivf->lists.size[cell.cell];
    query->visited++;
    if (size == 0) return;
    if (s->scorer->codec->residual)
        s->scorer->ops->rebase(s->scorer, ivf->centroids + (size_t)cell.cell * ivf->base.env->dim,
                               origin_distance(ivf, query, cell));
    ki_query_scan(query, s->scorer, ki_postings_codes(&ivf->lists, cell.cell),
                  ki_postings_slots(&ivf->lists, cell.cell), 0, size);
}

/* Scan the cells near_key[], near[]. */
static void scan_cells(const ki_ivf *ivf, ki_scratch *s, ki_query *query, size_t n)
{
    for (size_t i = 0; i < n && !query->stopped; i++) {
        if (i + 1 < n) prefetch(ki_postings_codes(&ivf->lists, s->near[i + 1]).code);
        scan_cell(ivf, s, query, (ki_ivf_cell){s->near_key[i], (uint32_t)s->near[i]});
    }
}

void ki_ivf_search(const ki_structure *structure, ki_scratch *scratch, ki_query *query)
{
    const ki_ivf *ivf = (const ki_ivf *)structure;
    size_t n = probes(ivf, query->settings), seen = n;
    query->holes = 0; /* lists hold slots in use only */
    scratch->scorer->ops->query(scratch->scorer, query->vector);
    const ki_ivf_cell *route = query->route;
    if (route) {
        for (size_t i = 0; i < n; i++) {
            scratch->near_key[i] = route[i].key;
            scratch->near[i] = route[i].cell;
        }
    } else {
        ki_product_row(ki_ivf_probing(ivf), query->vector, scratch->keys);
        n = next_cells(ivf, scratch, NULL, n);
    }
    scan_cells(ivf, scratch, query, n);
    if (route && ki_query_taken(query) < query->need && seen < ivf->n_cells)
        ki_product_row(ki_ivf_probing(ivf), query->vector, scratch->keys);
    /* Fewer than wanted: on to the next nearest cells, twice as many each time, until there are enough. */
    while (ki_query_taken(query) < query->need && n > 0 && !query->stopped) {
        ki_ivf_cell last = {scratch->near_key[n - 1], (uint32_t)scratch->near[n - 1]};
        size_t left = ivf->n_cells - seen, more = seen < left ? seen : left;
        if (more == 0) break;
        n = next_cells(ivf, scratch, &last, more);
        scan_cells(ivf, scratch, query, n);
        seen += n;
    }
}
