/* ivf_internal.h - what the files of the IVF family share; the essay is in ivf.c. */
#ifndef KI_INDEX_IVF_INTERNAL_H
#define KI_INDEX_IVF_INTERNAL_H

#include "index/coarse.h"
#include "index/family.h"
#include "index/postings.h"
#include "math/product.h"
#include "math/screen.h"
#include "math/sieve.h"

#define KI_IVF_MAX_CELLS ((uint64_t)1 << 24) /* arbitrary: 8 GB of 128-d centroids */
#define KI_IVF_NOWHERE UINT32_MAX            /* in the cells of slots: no row */

/* The parameters, in the order of the table. */
enum {
    KI_IVF_NPROBE,
    KI_IVF_REACH,
    KI_IVF_EXACT,
    KI_IVF_COARSE_EF,
    KI_IVF_ITERATIONS,
    KI_IVF_TRAIN_ROWS,
    KI_IVF_MINI_BATCH,
    KI_IVF_SPHERICAL,
    KI_IVF_MAX_CELL
};

/* The numbers of the spec: cells, branches of the tree that trains them, links of the graph over them (0: none). */
enum { KI_IVF_CELLS, KI_IVF_BRANCHES, KI_IVF_LINKS };

typedef struct ki_ivf {
    ki_structure base;
    size_t n_cells;
    float *centroids; /* [n_cells][dim]; NULL: not trained */
    float *
        origins; /* [n_cells][dim] what residual codes are counted from; NULL: the centroids (no cell was split) */
    int split;     /* cells were split: rows of others may be nearer to a new centroid than to their own */
    float *middle; /* [dim] of all cells, where zero lies far outside of them; else NULL (ivf_cells.c) */
    float *around; /* [n_cells][dim] the centroids less the middle; NULL without one */
    ki_packed *nearest; /* the columns below under L2SQ: which cell is a row's, and near which is a query */
    ki_packed *probing; /* the centroids under DOT, for queries of that metric; else NULL */
    ki_screen *screen;  /* and once more, a byte a component; NULL where it would not pay */
    ki_sieve *
        sieve; /* and the centroids again for filing rows; NULL where it would not pay, or none were filed yet */
    ki_coarse *coarse; /* the graph over the centroids of IVF<n>_HNSW<M>, else NULL */
    ki_postings lists;
    float *radius; /* [n_cells] no row of the cell is farther from its centroid */
    double *
        spread; /* [n_cells] sum of squared distances of the rows to the centroid; NULL: not known (old file) */
    double trained_spread;     /* their mean over the rows trained with */
    float longest;             /* the greatest length of a column */
    uint32_t *_Atomic cell_of; /* [cell_room] the cell of each slot; made when a row is first looked up */
    size_t cell_room;
} ki_ivf;

/* By which distance cells are near a query. */
static inline const ki_packed *ki_ivf_probing(const ki_ivf *ivf)
{
    return ivf->probing ? ivf->probing : ivf->nearest;
}

/* The centroids as `nearest` and `screen` have them. */
static inline const float *ki_ivf_columns(const ki_ivf *ivf)
{
    return ivf->around ? ivf->around : ivf->centroids;
}

/* What the residual codes of each cell are counted from. */
static inline const float *ki_ivf_origins(const ki_ivf *ivf)
{
    return ivf->origins ? ivf->origins : ivf->centroids;
}

/* What follows from ivf->centroids: their packed forms, empty lists, an empty graph. reset: back to untrained; allowed after
 * a failure. */
kith_status ki_ivf_ready(ki_ivf *ivf, kith_error *err);
void ki_ivf_reset(ki_ivf *ivf);

/* The compact of the vtable, ivf_grow.c. */
kith_status ki_ivf_compact(ki_structure *structure, double max_cell, const kith_run *run, uint64_t *args,
                           kith_error *err);

/* The centroids of a sample x[n][dim], where ivf->centroids has room for them: ivf_train.c. */
kith_status ki_ivf_train_centroids(ki_ivf *ivf, const float *x, size_t n, const kith_run *run,
                                   kith_error *err);

/* Middle and columns of the centroids, ivf_cells.c. */
kith_status ki_ivf_cells_center(ki_ivf *ivf, kith_error *err);

/* x[n][dim] as the columns are: x itself, or less the middle in room[n][dim]. */
const float *ki_ivf_cells_shift(const ki_ivf *ivf, const float *x, size_t n, float *room);

/* What is known of cells, ivf_cells.c. init: the centroids are there; clear is allowed any time. distance: the square of that
 * of a row from a centroid, FLT_MAX where it is too large, so that sums stay finite. note: rows x[n][dim] went to cells[n]. forget: a row left a cell that had `before`. */
kith_status ki_ivf_cells_init(ki_ivf *ivf, kith_error *err);
void ki_ivf_cells_clear(ki_ivf *ivf);
float ki_ivf_cells_distance(const ki_ivf *ivf, const float *x, size_t cell);
void ki_ivf_cells_note(ki_ivf *ivf, const float *x, size_t n, const uint32_t *cells);
void ki_ivf_cells_forget(ki_ivf *ivf, size_t cell, size_t before);
kith_status ki_ivf_cells_save(const ki_ivf *ivf, ki_store_writer *writer, kith_error *err);
kith_status ki_ivf_cells_load(ki_ivf *ivf, ki_store *store, kith_error *err);
kith_status ki_ivf_cells_info(const ki_structure *structure, kith_cells_info *info, kith_error *err);

/* The search part of the vtable, ivf_search.c. */
kith_status ki_ivf_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err);
void ki_ivf_scratch_free(const ki_structure *structure, ki_scratch *scratch);
kith_status ki_ivf_prepare(const ki_structure *structure, ki_scratch *scratch, size_t k,
                           const double *settings, kith_error *err);
void ki_ivf_search(const ki_structure *structure, ki_scratch *scratch, ki_query *query);
size_t ki_ivf_route_size(const ki_structure *structure, const double *settings);
kith_status ki_ivf_route(const ki_structure *structure, const float *x, size_t nq, const double *settings,
                         kith_pool *pool, void *routes, kith_error *err);

#endif
