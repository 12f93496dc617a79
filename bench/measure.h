/* measure.h - what the programs of this folder that measure whole indexes share: vectors of a file, the truth, recall by true
 * distance, CPU time, queries a second at a recall. A failure ends the program. L2, k = 10, one query a call, one thread. */
#ifndef KITH_BENCH_MEASURE_H
#define KITH_BENCH_MEASURE_H

#include <kith/index.h>

enum { BENCH_K = 10 };

typedef struct bench_vectors {
    float *x; /* [n][dim] */
    size_t n, dim;
} bench_vectors;

typedef struct bench_set {
    bench_vectors base, query; /* base.n may be lowered */
    float *limit; /* [query.n] the true distance of the tenth among the rows last given to bench_truth */
} bench_set;

void bench_must(kith_status status, const kith_error *err);
void *bench_alloc(size_t n, size_t size);

/* Of the calling thread, and of the process. */
double bench_cpu_seconds(void);
double bench_process_seconds(void);

/* The first n rows of a file, or all of them (0). */
bench_vectors bench_load(const char *path, size_t n);

/* A new index, trained where it learns, over rows 0..n-1; *cpu: seconds of all threads. run: may be NULL. */
kith_index *bench_build(const char *spec, const bench_set *set, size_t n, const kith_run *run, double *cpu);

/* The truth among rows row[n] (NULL: 0..n-1) of the base. */
void bench_truth(bench_set *set, const uint32_t *row, size_t n, const kith_run *run);

/* Ids are rows of the base, but for those of `to`, which may be NULL: id i stands for row to[i]. */
typedef struct bench_point {
    double value; /* of the parameter */
    double
        recall; /* returned rows that are no farther than the true tenth, by their true distance, over 10 */
    double qps, scored;
} bench_point;

/* Ask all queries with name = value (and more = more_value unless NULL); qps is the best of `passes`. */
bench_point bench_ask(const kith_index *index, const bench_set *set, const uint32_t *to, const char *name,
                      double value, const char *more, double more_value, int passes);

/* Queries a second at a recall, interpolated along the logarithm of qps over values low, 1.4 low, ... up to high. qps 0: the recall is
 * not reached; recall then is the best there was. */
bench_point bench_at_recall(const kith_index *index, const bench_set *set, const char *name, double low,
                            double high, const char *more, double more_value, double recall, int passes);

#endif
