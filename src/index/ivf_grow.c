/* ivf_grow.c - an inverted file put in order after it has grown: room given back, large cells split.
 *
 * A cell of more rows than are wanted is cut by k-means of its rows into as many parts as should do, a part that is still too
 * large is cut again, and so on: hierarchical k-means (Nister & Stewenius 2006) of that cell alone. Rows that are equal stay
 * together. The first part keeps the number of the cell, the others come after all cells.
 *
 * Codes are not touched. A residual code counts from the centroid that its cell had when it was made, and a row that is decoded and
 * encoded again would lose twice; so the parts of a cell go on counting from there: each cell has an origin apart from its
 * centroid from then on, and rows that come later are encoded by it, too. For a query that is one distance more a cell.
 *
 * The lists are laid out anew without room, the graph and the packed centroids are made anew, and only when all that is there
 * the index changes hands. */
#include "index/ivf_internal.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include <kith/kmeans.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/run.h"
#include "quant/layout.h"

#define SPLIT_ITERATIONS 10 /* of k-means of one cell */
#define MAX_PARTS 64        /* of one cut; what is still too large is cut again */

/* The new cells. */
typedef struct growth {
    const ki_ivf *ivf;
    const kith_run *run;
    size_t most;      /* rows of a cell */
    size_t old;       /* cells there were */
    size_t n_cells;   /* there are now */
    size_t room;      /* of the arrays below, in new cells */
    float *centroids; /* [room][dim] of the cells from ivf->n_cells on */
    uint32_t *parent; /* [room] the cell that each was cut from */
    float *kept;      /* [ivf->n_cells][dim] centroids of the old cells, new where they were cut */
    uint32_t **part;  /* [ivf->n_cells] of a cell that was cut: the new cell of each of its rows; else NULL */
    float *
        rows; /* [row_room][dim] of one cell, decoded, in the order of the list; then a part of them, gathered */
    size_t row_room;
} growth;

static kith_status growth_init(growth *g, kith_error *err)
{
    const ki_ivf *ivf = g->ivf;
    const kith_allocator *a = ivf->base.env->allocator;
    size_t floats = ivf->n_cells * ivf->base.env->dim;
    g->n_cells = g->old = ivf->n_cells;
    g->kept = ki_alloc(a, floats, sizeof *g->kept);
    g->part = ki_alloc_zero(a, ivf->n_cells, sizeof *g->part);
    if (!g->kept || !g->part) return ki_fail_nomem(err, floats * sizeof *g->kept);
    memcpy(g->kept, ivf->centroids, floats * sizeof *g->kept);
    return KITH_OK;
}

static void growth_clear(growth *g)
{
    const kith_allocator *a = g->ivf->base.env->allocator;
    for (size_t c = 0; g->part && c < g->old; c++) ki_free(a, g->part[c]);
    ki_free(a, g->part);
    ki_free(a, g->kept);
    ki_free(a, g->centroids);
    ki_free(a, g->parent);
    ki_free(a, g->rows);
}

/* ---- Cutting cells ---- */

/* Room for `more` new cells. */
static kith_status reserve_cells(growth *g, size_t more, kith_error *err)
{
    const ki_structure_env *env = g->ivf->base.env;
    size_t had = g->n_cells - g->ivf->n_cells, need = had + more, dim = env->dim;
    if (g->n_cells + more > KI_IVF_MAX_CELLS)
        return ki_fail(err, KITH_INVALID, "max_cell makes more than %llu cells",
                       (unsigned long long)KI_IVF_MAX_CELLS);
    if (need <= g->room) return KITH_OK;
    size_t room = ki_grown(g->room, need);
    float *centroids = ki_realloc(env->allocator, g->centroids, g->room * dim, room * dim, sizeof *centroids);
    if (centroids) g->centroids = centroids;
    uint32_t *parent =
        centroids ? ki_realloc(env->allocator, g->parent, g->room, room, sizeof *parent) : NULL;
    if (!parent) return ki_fail_nomem(err, room * (dim * sizeof *centroids + sizeof *parent));
    g->parent = parent;
    g->room = room;
    return KITH_OK;
}

static float *centroid_of(growth *g, size_t cell)
{
    size_t dim = g->ivf->base.env->dim, old = g->ivf->n_cells;
    return cell < old ? g->kept + cell * dim : g->centroids + (cell - old) * dim;
}

/* The rows of a cell, decoded, with as much room behind them. */
static kith_status decode_cell(growth *g, size_t cell, kith_error *err)
{
    const ki_ivf *ivf = g->ivf;
    const ki_structure_env *env = ivf->base.env;
    size_t n = ivf->lists.size[cell], dim = env->dim;
    if (n > g->row_room) {
        ki_free(env->allocator, g->rows);
        g->rows = ki_alloc(env->allocator, 2 * n, dim * sizeof *g->rows);
        g->row_room = g->rows ? n : 0;
        if (!g->rows) return ki_fail_nomem(err, 2 * n * dim * sizeof *g->rows);
    }
    const float *origin = env->codec->residual ? ki_ivf_origins(ivf) + cell * dim : NULL;
    for (size_t i = 0; i < n; i++)
        ki_layout_decode(env->codec, ki_postings_codes(&ivf->lists, cell), i, origin, g->rows + i * dim);
    return KITH_OK;
}

/* Cut what is in `cell` now, those rows of decoded ones (of the old cell `parent`) whose part says so. members[n]: which they
 * are. *done: 0 when they are equal. which[n] is scratch. */
static kith_status cut(growth *g, uint32_t parent, uint32_t cell, const uint32_t *members, size_t n,
                       uint32_t *which, int *done, kith_error *err)
{
    const ki_structure_env *env = g->ivf->base.env;
    size_t dim = env->dim, parts = (n + g->most - 1) / g->most;
    float *rows = g->rows + g->row_room * dim, *centroids = NULL;
    *done = 0;
    if (parts > MAX_PARTS) parts = MAX_PARTS;
    for (size_t i = 0; i < n; i++) {
        memcpy(rows + i * dim, g->rows + members[i] * dim, dim * sizeof *rows);
        *done = *done || memcmp(rows, rows + i * dim, dim * sizeof *rows) != 0;
    }
    if (!*done) return KITH_OK;
    KI_TRY(reserve_cells(g, parts - 1, err));
    centroids = ki_alloc(env->allocator, parts * dim, sizeof *centroids);
    if (!centroids) return ki_fail_nomem(err, parts * dim * sizeof *centroids);
    kith_run quiet = ki_run_quiet(g->run);
    kith_kmeans_options options;
    kith_kmeans_options_init(&options);
    options.init = KITH_KMEANS_PLUSPLUS;
    options.max_iterations = SPLIT_ITERATIONS;
    options.max_points_per_centroid = 0;
    options.seed = env->seed;
    options.spherical = env->unit && env->params[KI_IVF_SPHERICAL] > 0;
    options.allocator = env->allocator;
    kith_status status = kith_kmeans_train(rows, n, dim, parts, &options, &quiet, centroids, NULL, err);
    if (status == KITH_OK)
        status = kith_kmeans_assign(rows, n, dim, centroids, parts, env->allocator, &quiet, which, NULL, err);
    if (status == KITH_OK) {
        uint32_t *part = g->part[parent], next = (uint32_t)g->n_cells;
        size_t same = 0;
        for (size_t i = 0; i < n; i++) same += which[i] == which[0];
        *done = same < n;
        for (size_t p = 0; *done && p < parts; p++) {
            if (p > 0) g->parent[g->n_cells++ - g->ivf->n_cells] = parent;
            memcpy(centroid_of(g, p > 0 ? next + p - 1 : cell), centroids + p * dim, dim * sizeof *centroids);
        }
        for (size_t i = 0; *done && i < n; i++)
            if (which[i] > 0) part[members[i]] = next + which[i] - 1;
    }
    ki_free(env->allocator, centroids);
    return status;
}

/* Cut an old cell until no part is too large. */
static kith_status cut_cell(growth *g, uint32_t cell, kith_error *err)
{
    const kith_allocator *a = g->ivf->base.env->allocator;
    size_t n = g->ivf->lists.size[cell], first = g->n_cells;
    uint32_t *members = ki_alloc(a, n, sizeof *members), *which = ki_alloc(a, n, sizeof *which);
    g->part[cell] = ki_alloc(a, n, sizeof **g->part);
    kith_status status =
        members && which && g->part[cell] ? KITH_OK : ki_fail_nomem(err, 3 * n * sizeof *members);
    for (size_t i = 0; status == KITH_OK && i < n; i++) g->part[cell][i] = cell;
    if (status == KITH_OK) status = decode_cell(g, cell, err);
    /* The cell itself, then its parts as they come, each until it need not or cannot be cut. */
    uint32_t now = cell;
    while (status == KITH_OK) {
        size_t held = 0;
        int done = 0;
        for (size_t i = 0; i < n; i++)
            if (g->part[cell][i] == now) members[held++] = (uint32_t)i;
        if (held > g->most) status = cut(g, cell, now, members, held, which, &done, err);
        if (done) continue;
        now = now == cell ? (uint32_t)first : now + 1;
        if (now >= g->n_cells) break;
    }
    ki_free(a, members);
    ki_free(a, which);
    return status;
}

static kith_status cut_large(growth *g, kith_error *err)
{
    const ki_postings *lists = &g->ivf->lists;
    ki_stage stage;
    ki_stage_begin(&stage, g->run, "splitting", g->ivf->n_cells);
    for (size_t c = 0; c < g->ivf->n_cells; c++) {
        KI_TRY(ki_run_check(g->run, err));
        if (lists->size[c] > g->most) KI_TRY(cut_cell(g, (uint32_t)c, err));
        ki_stage_report(&stage, c + 1);
    }
    return KITH_OK;
}

/* ---- The index as it will be ---- */

static size_t parent_of(const growth *g, size_t cell)
{
    return cell < g->ivf->n_cells ? cell : g->parent[cell - g->ivf->n_cells];
}

/* Centroids, and origins where cells were cut. */
static kith_status new_centroids(const growth *g, ki_ivf *fresh, kith_error *err)
{
    const ki_ivf *ivf = g->ivf;
    const ki_structure_env *env = ivf->base.env;
    size_t dim = env->dim, old = ivf->n_cells, floats = g->n_cells * dim;
    int apart = ivf->origins || (env->codec->residual && g->n_cells > old);
    fresh->n_cells = g->n_cells;
    fresh->trained_spread = ivf->trained_spread;
    fresh->split = ivf->split || g->n_cells > old;
    fresh->centroids = ki_alloc(env->allocator, floats, sizeof *fresh->centroids);
    if (apart) fresh->origins = ki_alloc(env->allocator, floats, sizeof *fresh->origins);
    if (!fresh->centroids || (apart && !fresh->origins))
        return ki_fail_nomem(err, floats * sizeof *fresh->centroids);
    memcpy(fresh->centroids, g->kept, old * dim * sizeof *fresh->centroids);
    if (g->n_cells > old)
        memcpy(fresh->centroids + old * dim, g->centroids, (g->n_cells - old) * dim * sizeof *g->centroids);
    for (size_t c = 0; apart && c < g->n_cells; c++)
        memcpy(fresh->origins + c * dim, ki_ivf_origins(ivf) + parent_of(g, c) * dim,
               dim * sizeof *fresh->origins);
    return KITH_OK;
}

/* A code does not tell how far its row was. What the old cell knows does: no row is farther from a new centroid than the
 * old radius and the way between the centroids. */
static void inherit_radii(const growth *g, ki_ivf *fresh)
{
    const ki_ivf *ivf = g->ivf;
    size_t dim = ivf->base.env->dim;
    for (size_t c = 0; c < fresh->n_cells; c++) {
        size_t parent = parent_of(g, c);
        const float *from = ivf->centroids + parent * dim, *to = fresh->centroids + c * dim;
        if (!g->part[parent] || fresh->lists.size[c] == 0) continue;
        double sum = 0;
        for (size_t d = 0; d < dim; d++) {
            double apart = (double)to[d] - (double)from[d];
            sum += apart * apart;
        }
        fresh->radius[c] = nextafterf((float)((double)ivf->radius[parent] + sqrt(sum)), INFINITY);
    }
}

/* The rows of all cells, list by list, into the new lists, which have room for just these; and how far they are. */
static kith_status copy_rows(const growth *g, ki_ivf *fresh, kith_error *err)
{
    const ki_ivf *ivf = g->ivf;
    const ki_structure_env *env = ivf->base.env;
    const ki_codec *codec = env->codec;
    ki_layout layout = ki_layout_of(codec);
    uint8_t *code = ki_alloc(env->allocator, 1, codec->code_size);
    float *factor = ki_alloc(env->allocator, codec->n_factors, sizeof *factor);
    float *row = ki_alloc(env->allocator, env->dim, sizeof *row);
    kith_status status =
        code && factor && row ? KITH_OK : ki_fail_nomem(err, codec->code_size + env->dim * sizeof *row);
    for (size_t c = 0; status == KITH_OK && c < ivf->n_cells; c++) {
        ki_codes codes = ki_postings_codes(&ivf->lists, c);
        const uint32_t *slots = ki_postings_slots(&ivf->lists, c), *part = g->part[c];
        const float *origin = codec->residual ? ki_ivf_origins(ivf) + c * env->dim : NULL;
        if (!part) {
            fresh->radius[c] = ivf->radius[c];
            if (ivf->spread) fresh->spread[c] = ivf->spread[c];
        }
        for (size_t i = 0; i < ivf->lists.size[c]; i++) {
            uint32_t cell = part ? part[i] : (uint32_t)c;
            ki_layout_get(&layout, codes.code, codes.factor, i, code, factor);
            ki_postings_append(&fresh->lists, cell, slots[i], code, factor);
            if (!part) continue;
            ki_layout_decode(codec, codes, i, origin, row);
            ki_ivf_cells_note(fresh, row, 1, &cell);
        }
        status = ki_run_check(g->run, err);
    }
    ki_free(env->allocator, code);
    ki_free(env->allocator, factor);
    ki_free(env->allocator, row);
    return status;
}

static kith_status new_lists(const growth *g, ki_ivf *fresh, kith_error *err)
{
    const ki_ivf *ivf = g->ivf;
    uint32_t *size = ki_alloc_zero(ivf->base.env->allocator, g->n_cells, sizeof *size);
    if (!size) return ki_fail_nomem(err, g->n_cells * sizeof *size);
    for (size_t c = 0; c < ivf->n_cells; c++) {
        if (!g->part[c]) size[c] = ivf->lists.size[c];
        for (size_t i = 0; g->part[c] && i < ivf->lists.size[c]; i++) size[g->part[c][i]]++;
    }
    kith_status status = ki_postings_reserve(&fresh->lists, size, err);
    ki_free(ivf->base.env->allocator, size);
    if (status == KITH_OK) status = copy_rows(g, fresh, err);
    if (status == KITH_OK && !ivf->base.env->codec->exact) inherit_radii(g, fresh);
    return status;
}

kith_status ki_ivf_compact(ki_structure *structure, double max_cell, const kith_run *run, uint64_t *args,
                           kith_error *err)
{
    ki_ivf *ivf = (ki_ivf *)structure;
    if (max_cell > 0 && !ivf->spread)
        return ki_fail(err, KITH_UNSUPPORTED, "an early version wrote this index: build it anew");
    size_t rows = 0;
    for (size_t c = 0; c < ivf->n_cells; c++) rows += ivf->lists.size[c];
    double most = max_cell * (double)rows / (double)ivf->n_cells;
    growth g = {.ivf = ivf, .run = run, .most = most < 1 ? 1 : (size_t)most};
    ki_ivf fresh = {.base = ivf->base};
    kith_status status = growth_init(&g, err);
    if (status == KITH_OK && max_cell > 0) status = cut_large(&g, err);
    if (status == KITH_OK) status = new_centroids(&g, &fresh, err);
    if (status == KITH_OK) status = ki_ivf_ready(&fresh, err);
    if (status == KITH_OK && fresh.coarse)
        status = ki_coarse_build(fresh.coarse, fresh.centroids, fresh.n_cells, run, err);
    if (status == KITH_OK) status = new_lists(&g, &fresh, err);
    if (status == KITH_OK) {
        if (!ivf->spread) {
            ki_free(structure->env->allocator, fresh.spread);
            fresh.spread = NULL;
        }
        size_t cell_room = ivf->cell_room;
        args[KI_IVF_CELLS] = fresh.n_cells;
        ki_ivf_reset(ivf);
        *ivf = fresh;
        ivf->cell_room = cell_room;
    } else {
        ki_ivf_reset(&fresh);
    }
    growth_clear(&g);
    return status;
}
