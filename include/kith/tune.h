/* tune.h - recall asked for, instead of parameters: calibrating an index.
 *
 * Every family trades time for recall by one search-time parameter of its own (`nprobe`, `ef`, `max_leaves`, ...), and a
 * refinement by `refine_k`; what value gives which recall depends on the data. Calibrating measures that on queries that
 * the caller holds out, against exact search, and keeps the curve in the index and its file. From then on a search may
 * say {"target_recall", 0.95}, whatever the family is, and gets the cheapest values that were measured to reach it.
 *
 * What is promised is a mean over queries like those calibrated with. Each point of a curve is the measured mean recall@k
 * less its standard error, so that a target is missed by chance only; a search takes the first point that reaches it.
 * Curves are kept for several k: a search
 * takes that of the smallest k that is not below its own. Rows added or removed later keep the curve; drifted data wants a
 * new calibration, filters that let few rows pass make recall differ from what was measured, and range searches have no
 * recall@k to aim at.
 */
#ifndef KITH_TUNE_H
#define KITH_TUNE_H

#include <kith/index.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KITH_MAX_CALIBRATED_K 8 /* curves of one index */

typedef struct kith_calibrate_options {
    size_t struct_size;
    const uint64_t
        *truth; /* truth[nq][truth_k]: ids of the nearest rows of each query, nearest first; NULL: the index
                            * finds them itself, which takes one that holds its rows exactly (float32 or bits, as they came, or
                            * a refinement RFlat) and a comparison of all rows with all queries */
    size_t truth_k;
    const size_t *
        ks; /* ascending, 1.., at most KITH_MAX_CALIBRATED_K: for which k; NULL: 1, 10 and 100. Those that the
                       * truth, or the index, has no rows enough for are left out */
    size_t n_ks;
} kith_calibrate_options;

static inline void kith_calibrate_options_init(kith_calibrate_options *options)
{
    options->struct_size = sizeof *options;
    options->truth = NULL;
    options->truth_k = 0;
    options->ks = NULL;
    options->n_ks = 0;
}

/* Measure recall against search-time parameters, and keep the curve in the index (kith_index_save writes it).
 * In:       queries[nq][dim], finite, like those that will come, and none of them a row of the index (an index finds its own
 *           rows too easily); a thousand are enough. options NULL for the defaults.
 * Errors:   KITH_INVALID (nq 0, the index is empty, a k out of range or order, no truth where the index does not hold its
 *           rows exactly), KITH_UNTRAINED, KITH_READONLY (mapped), KITH_NOMEM, KITH_CANCELLED; the index keeps the
 *           calibration that it had then.
 * Threads:  queries are spread over the pool of run; the curve is the same with any number. Alone on the index.
 * Cost:     some ten to thirty searches of all queries for each k, as many again for each refine_k that helps; a training
 *           of the index drops the calibration. */
KITH_API kith_status kith_index_calibrate(kith_index *index, const float *queries, size_t nq,
                                          const kith_calibrate_options *options, const kith_run *run,
                                          kith_error *err);

/* The same for an index over bits: queries[nq][kith_bit_bytes(dim)]. */
KITH_API kith_status kith_index_calibrate_bits(kith_index *index, const uint8_t *queries, size_t nq,
                                               const kith_calibrate_options *options, const kith_run *run,
                                               kith_error *err);

/* The same for rows that are sets. Under KITH_JACCARD the truth must be given. */
KITH_API kith_status kith_index_calibrate_sets(kith_index *index, const kith_sets *queries,
                                               const kith_calibrate_options *options, const kith_run *run,
                                               kith_error *err);

/* One point of a curve. */
typedef struct kith_calibration_point {
    size_t k;
    double recall;   /* at least that, on the queries calibrated with: the mean less its standard error */
    double value;    /* of the main parameter; 0 where there is none */
    double refine_k; /* 0 without a refinement */
} kith_calibration_point;

/* The calibration of an index: for each k, ascending, its points by ascending recall, which is ascending cost.
 * In/Out:   *n the room in points[] before, how many there are after: 0 when the index is not calibrated. points NULL asks
 *           for the number.
 * Errors:   KITH_INVALID when there is too little room. */
KITH_API kith_status kith_index_calibration(const kith_index *index, kith_calibration_point *points,
                                            size_t *n, kith_error *err);

/* The parameter by which a family trades time for recall, static text; NULL: it has none (Flat: exact up to its codec). */
KITH_API const char *kith_index_main_param(const kith_index *index);

#ifdef __cplusplus
}
#endif
#endif
