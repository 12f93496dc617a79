#include "quant/center.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

#include "base/error.h"
#include "base/select.h"
#include "store/index_file.h"

#define MOST_ORIGINS 1024 /* of more the middle does not change by what matters here: arbitrary */

static float in_range(double value)
{
    return (float)fmin(fmax(value, -(double)FLT_MAX), (double)FLT_MAX);
}

void ki_center_of_rows(float *center, const float *x, size_t n, size_t dim)
{
    for (size_t d = 0; d < dim; d++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += (double)x[i * dim + d];
        center[d] = in_range(sum / (double)n);
    }
}

void ki_center_of_origins(float *center, const float *x, size_t n, size_t dim)
{
    uint64_t keys[MOST_ORIGINS];
    size_t count = n < MOST_ORIGINS ? n : MOST_ORIGINS, cut = count / 4;
    for (size_t d = 0; d < dim; d++) {
        double sum = 0;
        for (size_t i = 0; i < count; i++) keys[i] = ki_key(x[i * n / count * dim + d], 0);
        ki_keys_sort(keys, count);
        for (size_t i = cut; i < count - cut; i++) sum += (double)ki_key_dist(keys[i]);
        center[d] = in_range(sum / (double)(count - 2 * cut));
    }
}

static void section_name(const char *prefix, char name[KI_STORE_NAME_BYTES])
{
    snprintf(name, KI_STORE_NAME_BYTES, "%s.center", prefix);
}

kith_status ki_center_save(const float *center, size_t dim, const char *prefix,
                           struct ki_store_writer *writer, kith_error *err)
{
    char name[KI_STORE_NAME_BYTES];
    section_name(prefix, name);
    return ki_store_put(writer, name, center, dim, sizeof *center, err);
}

kith_status ki_center_load(float *center, size_t dim, const char *prefix, struct ki_store *store,
                           kith_error *err)
{
    char name[KI_STORE_NAME_BYTES];
    section_name(prefix, name);
    KI_TRY(ki_store_load(store, name, dim, sizeof *center, center, err));
    for (size_t d = 0; d < dim; d++)
        if (!isfinite(center[d])) return ki_fail(err, KITH_CORRUPT, "section %s holds NaN or infinity", name);
    return KITH_OK;
}
