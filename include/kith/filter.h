/* filter.h - which rows a search may return.
 *
 * A filter is a bitset over ids, a callback, or both (a row must then pass both). Rows that do not pass are
 * neither returned nor counted among the k: a search goes on until k rows that pass are found or none are
 * left.
 */
#ifndef KITH_FILTER_H
#define KITH_FILTER_H

#include <kith/api.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kith_filter {
    size_t struct_size;
    const uint64_t *bits; /* bit (id % 64) of word (id / 64) set: the id may be returned. NULL: no bitset */
    uint64_t n_bits;      /* ids from n_bits on are not allowed when bits is given */
    /* Nonzero: the id may be returned. NULL: no callback. Called from the searching thread, often: keep it
     * short. With a pool it is called from several threads at once. */
    int (*allow)(void *ctx, uint64_t id);
    void *ctx;
} kith_filter;

static inline void kith_filter_init(kith_filter *filter)
{
    filter->struct_size = sizeof *filter;
    filter->bits = NULL;
    filter->n_bits = 0;
    filter->allow = NULL;
    filter->ctx = NULL;
}

#ifdef __cplusplus
}
#endif
#endif
