#include "quant/center.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

#include "base/error.h"
#include "store/index_file.h"

void ki_center_learn(float *center, const float *x, size_t n, size_t dim)
{
    for (size_t d = 0; d < dim; d++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += (double)x[i * dim + d];
        center[d] = (float)fmin(fmax(sum / (double)n, -(double)FLT_MAX), (double)FLT_MAX);
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
