/* center.h - the point that queries and origins are counted from by codecs of residuals.
 *
 * What such a codec keeps with a row, and looks up for a query, are products with the query and with the origin of the row's cell.
 * They cancel where rows lie far from zero: data of spread 3 about 10,000 would be compared by the differences of numbers of 1e9.
 * Taking a point in the middle of the origins from both changes no distance and costs a subtraction a query.
 *
 * What remains: numbers are as exact, and tables of whole numbers as fine, as the distance of a query to this centre allows, which is
 * many times its distance to its neighbours in data of few groups far apart. */
#ifndef KI_QUANT_CENTER_H
#define KI_QUANT_CENTER_H

#include <stddef.h>

#include <kith/status.h>

struct ki_store_writer;
struct ki_store;

/* center[dim] from x[n][dim], n > 0; finite. Of rows their mean. Of origins, of 1,024 at most, the mean of the middle half of
 * each component: a row far from all others is a cell of its own, and would draw the mean away from all. */
void ki_center_of_rows(float *center, const float *x, size_t n, size_t dim);
void ki_center_of_origins(float *center, const float *x, size_t n, size_t dim);

/* Whether the distance of a query of squared length length2 to an origin, as a product told it, is to be measured: it is off by
 * some 2^-22 of length2, and by no more than 2^-14 of itself where not. To measure is to read the origin. */
static inline int ki_distance_is_rough(float length2, float distance)
{
    return !(length2 <= 256 * distance);
}

/* The section PREFIX.center, f32 [dim]. load: KITH_CORRUPT where it holds NaN or infinity; center is undefined on failure. */
kith_status ki_center_save(const float *center, size_t dim, const char *prefix,
                           struct ki_store_writer *writer, kith_error *err);
kith_status ki_center_load(float *center, size_t dim, const char *prefix, struct ki_store *store,
                           kith_error *err);

#endif
