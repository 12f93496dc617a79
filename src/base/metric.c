#include <kith/metric.h>

#include <math.h>
#include <string.h>

#include "base/error.h"

const char *kith_metric_name(kith_metric metric)
{
    switch (metric) {
#define KI_WORD(name, number, word) \
    case KITH_##name: return word;
        KITH_METRIC_MAP(KI_WORD)
#undef KI_WORD
    }
    return NULL;
}

kith_row_kind kith_metric_rows(kith_metric metric)
{
    return metric == KITH_HAMMING ? KITH_ROWS_BITS : metric == KITH_JACCARD ? KITH_ROWS_SETS : KITH_ROWS_F32;
}

kith_status kith_metric_parse(const char *word, kith_metric *metric, kith_error *err)
{
    static const struct {
        const char *word;
        kith_metric metric;
    } known[] = {
#define KI_ROW(name, number, word) {word, KITH_##name},
        KITH_METRIC_MAP(KI_ROW)
#undef KI_ROW
            {"l2sq", KITH_L2SQ},
        {"euclidean", KITH_L2SQ},
        {"ip", KITH_DOT},
        {"cos", KITH_COSINE},
    };
    if (!word || !metric) return ki_fail(err, KITH_INVALID, "metric is NULL");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(word, known[i].word) == 0) {
            *metric = known[i].metric;
            return KITH_OK;
        }
    return ki_fail(err, KITH_INVALID, "metric is '%s', known are l2, dot, cosine, l1, hamming, jaccard",
                   word);
}

float kith_metric_score(kith_metric metric, float distance, size_t dim)
{
    switch (metric) {
    case KITH_L2SQ: return 1 / (1 + sqrtf(distance < 0 ? 0 : distance)); /* rounding may have gone below */
    case KITH_DOT: return -distance;
    case KITH_L1: return 1 / (1 + distance);
    case KITH_HAMMING: return dim ? 1 - distance / (float)dim : 0;
    case KITH_COSINE:
    case KITH_JACCARD: break;
    }
    return 1 - distance;
}
