/* transform_internal.h - what transform.c and opq.c share. */
#ifndef KI_QUANT_TRANSFORM_INTERNAL_H
#define KI_QUANT_TRANSFORM_INTERNAL_H

#include "math/hadamard.h"
#include "math/product.h"
#include "quant/transform.h"
#include "simd/kernels.h"

struct ki_transform {
    ki_transform_options options; /* dim_out is never 0 here */
    const kith_allocator *allocator;
    const ki_kernels *kernels;
    int trained;
    float *matrix; /* [dim_out][dim] */
    float *mean;   /* [dim] */
    ki_packed *forward;
    ki_hadamard *hadamard; /* of HR, which has nothing else */
    double *errors;        /* [iterations] */
    size_t n_errors;
};

/* Section 3.2 of Ge et al.: deal the components (rows of matrix[dim_out][dim], variances descending) out to the segments, each
 * to the one with room whose product of variances is least. Out: order[dim_out], the component of each place. */
void ki_opq_allocate(const float *variances, size_t dim_out, size_t m, double *logs, size_t *room,
                     size_t *order);

/* Section 3.1: rotate what transform->matrix gives for the rows x[n][dim] of its training, mean taken off already, so
 * that a product quantiser of m segments of 8 bits fits best. With dim_out == dim the components as they came are tried
 * as a start, too. */
kith_status ki_opq_train(ki_transform *transform, const float *x, size_t n, uint64_t seed,
                         const kith_run *run, kith_error *err);

#endif
