/* screen.h - rough distances of one row to many columns, with a bound on their error: who may be among the nearest.
 *
 * The 4,096 centroids of an inverted file are 2 MB of float32, more than a second-level cache holds, and a single query reads
 * all of them to find a few. Here each column is kept a second time with a byte a component: a quarter of the memory, and
 * products of integers. Rough distances come with a bound, so the columns that they leave over surely hold the nearest ones;
 * those are then measured exactly (ki_product_some). The outcome is that of measuring all.
 *
 * How: a column c is close to c' = mean + step * k with whole numbers |k| <= 127, a row x to x' likewise with finer
 * steps. By the triangle inequality | |x - c| - |x' - c'| | <= |x - x'| + |c - c'|, and |x' - c'| is a product of
 * whole numbers away. */
#ifndef KI_MATH_SCREEN_H
#define KI_MATH_SCREEN_H

#include <kith/allocator.h>
#include <kith/status.h>

typedef struct ki_screen ki_screen;

/* Make one of columns y[m][dim], finite, rows ldy floats apart; copied.
 * Errors:   KITH_NOMEM. *screen is NULL then.
 * Memory:   about dim + 4 bytes a column. */
kith_status ki_screen_create(const float *y, size_t ldy, size_t m, size_t dim,
                             const kith_allocator *allocator, ki_screen **screen, kith_error *err);
void ki_screen_free(ki_screen *screen); /* NULL is allowed */
size_t ki_screen_bytes(const ki_screen *screen);

/* The memory that one thread needs for ki_screen_row, bytes aligned to 64. */
size_t ki_screen_scratch(const ki_screen *screen);

/* How far rough values may be off. */
typedef struct ki_screen_error {
    double distance; /* of the root of a value from the true distance, but for rounding */
    double squared;  /* what rounding may add to a squared value, here and in ki_product_row */
} ki_screen_error;

/* Rough squared distances of x to all columns: out[m], possibly a little below 0. */
ki_screen_error ki_screen_row(const ki_screen *screen, const float *x, void *scratch, float *out);

/* When `worst` is the k-th smallest rough value, every column among the k nearest by ki_product_row has a rough value of at
 * most this. */
float ki_screen_limit(ki_screen_error error, float worst);

#endif
