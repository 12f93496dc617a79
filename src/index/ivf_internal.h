/* ivf_internal.h - what the files of the IVF family share; the essay is in ivf.c. */
#ifndef KI_INDEX_IVF_INTERNAL_H
#define KI_INDEX_IVF_INTERNAL_H

#include "index/family.h"
#include "index/postings.h"
#include "math/product.h"
#include "math/screen.h"

#define KI_IVF_NOWHERE UINT32_MAX /* in the cells of slots: no row */

/* The parameters, in the order of the table. */
enum { KI_IVF_NPROBE, KI_IVF_REACH, KI_IVF_EXACT, KI_IVF_ITERATIONS, KI_IVF_TRAIN_ROWS };

typedef struct ki_ivf {
    ki_structure base;
    size_t n_cells;
    float *centroids;   /* [n_cells][dim]; NULL: not trained */
    ki_packed *nearest; /* the centroids under L2SQ: which cell is a row's, and near which is a query */
    ki_packed *probing; /* the centroids under DOT, for queries of that metric; else NULL */
    ki_screen *screen;  /* the centroids once more, a byte a component; NULL where it would not pay */
    ki_postings lists;
    float *radius; /* [n_cells] no row of the cell is farther from its centroid */
    double *
        spread; /* [n_cells] sum of squared distances of the rows to the centroid; NULL: not known (old file) */
    double trained_spread;     /* their mean over the rows trained with */
    float longest;             /* the greatest length of a centroid */
    uint32_t *_Atomic cell_of; /* [cell_room] the cell of each slot; made when a row is first looked up */
    size_t cell_room;
} ki_ivf;

/* By which distance cells are near a query. */
static inline const ki_packed *ki_ivf_probing(const ki_ivf *ivf)
{
    return ivf->probing ? ivf->probing : ivf->nearest;
}

/* What is known of cells, ivf_cells.c. init: the centroids are there; clear is allowed any time. note: rows x[n][dim] went
 * to cells[n]. forget: a row left a cell that had `before`. */
kith_status ki_ivf_cells_init(ki_ivf *ivf, kith_error *err);
void ki_ivf_cells_clear(ki_ivf *ivf);
void ki_ivf_cells_note(ki_ivf *ivf, const float *x, size_t n, const uint32_t *cells);
void ki_ivf_cells_forget(ki_ivf *ivf, size_t cell, size_t before);
kith_status ki_ivf_cells_save(const ki_ivf *ivf, ki_store_writer *writer, kith_error *err);
kith_status ki_ivf_cells_load(ki_ivf *ivf, ki_store *store, kith_error *err);
kith_status ki_ivf_cells_info(const ki_structure *structure, kith_cells_info *info, kith_error *err);

/* The search part of the vtable, ivf_search.c. */
kith_status ki_ivf_scratch_create(const ki_structure *structure, ki_scratch **scratch, kith_error *err);
void ki_ivf_scratch_free(const ki_structure *structure, ki_scratch *scratch);
void ki_ivf_search(const ki_structure *structure, ki_scratch *scratch, ki_query *query);
size_t ki_ivf_route_size(const ki_structure *structure, const double *settings);
kith_status ki_ivf_route(const ki_structure *structure, const float *x, size_t nq, const double *settings,
                         kith_pool *pool, void *routes, kith_error *err);

#endif
