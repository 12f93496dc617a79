/* index_cases.h - the families, metrics and instruction sets that the index suites walk through. A new family adds its
 * line in index_cases.c and inherits them all. */
#ifndef KI_TEST_INDEX_CASES_H
#define KI_TEST_INDEX_CASES_H

#include <kith/index.h>
#include <kith/simd.h>
#include <kith/tune.h>

#include "support.h"

#define CASE_N 700 /* rows of the standard index; their ids are not in order: see case_id */
#define CASE_DIM 16
#define CASE_NQ 24 /* standard queries */
#define CASE_K 10

typedef struct family_case {
    const char *spec;   /* '@' stands for the number of segments of a product quantiser */
    int exhaustive;     /* every row is looked at */
    int true_distances; /* distances are those of the vectors, not estimates */
    double
        recall_floor; /* recall@10 of the standard index with default settings under L2 (HAMMING, JACCARD) */
} family_case;

extern const family_case families[];
extern const size_t n_families;

/* One of the combinations. */
typedef struct index_case {
    const family_case *family;
    kith_metric metric;
    kith_simd level;
    char spec[64];
    int lower; /* the level is below the one that the others run at */
} index_case;

/* Call test for every family x metric that it knows, at the SIMD level in use. What is being tested is printed when an
 * assertion fails. Of breadth:
 * CASES_LEVELS   at every SIMD level of this machine (but under AddressSanitizer and where KITH_SIMD asks for a lower
 *                one), at those below the best each family by one of its metrics, another in each test;
 * CASES_IN_TURN  under AddressSanitizer, where it is slow, each family by one of its metrics, another in each test.
 * Under AddressSanitizer all are in turn at levels below the best, another at each. KITH_ALL_CASES=1: none is. */
enum { CASES_LEVELS = 1, CASES_IN_TURN = 2 };
void for_each_case(int breadth, void (*test)(const index_case *c));

/* Whether the family knows the metric, and the metric wanted or, where it does not, the first that it knows. */
int case_supports(const family_case *family, kith_metric metric);
kith_metric case_metric(const family_case *family, kith_metric wanted);

/* The dim of an index of the case over rows that have `dim` components here: bits of a fingerprint, 1 for sets. */
size_t case_index_dim(const index_case *c, size_t dim);

/* Whether rows are float32 vectors as they are, and not what stands for bits or sets. */
int case_floats(const index_case *c);

/* Whether rows that come by several calls make another file than by one: parts of trees are built call by call,
 * some graphs from all rows of the first call. */
int case_calls_matter(const family_case *family);

/* To be the teardown of every test that uses for_each_case. */
int case_teardown(void **state);

/* A spec of a family with m segments in place of '@'. */
void case_spec(const family_case *family, size_t m, char spec[64]);

/* The calls of the library of the same names, on rows that are given as float32 whatever the metric of the case is: over
 * bits a component stands for its sign, 1 for positive ones (fingerprints of more bits are 0 beyond); a set holds the
 * numbers of its positive components. Sets are not given back: for them case_reconstruct says only whether the row is
 * there. dim is CASE_DIM, that of the index that
 * case_create made last, or what case_dimension said since. */
void case_dimension(size_t dim);

/* From now on they are rows of an index of this case, whoever made it. */
void case_rows_are(const index_case *c, size_t dim);

kith_status case_train(kith_index *index, const float *x, size_t n, const kith_run *run, kith_error *err);
kith_status case_add(kith_index *index, const float *x, const uint64_t *ids, size_t n, const kith_run *run,
                     kith_error *err);
kith_status case_reconstruct(const kith_index *index, uint64_t id, float *out, kith_error *err);
/* A graph that would compare all of so few rows is told to walk, until the end of the case or case_scan(). */
kith_status case_search(kith_searcher *searcher, const float *queries, size_t nq, size_t k,
                        const kith_search_options *options, uint64_t *ids, float *dist,
                        kith_search_stats *stats, kith_error *err);
int case_walks(void);
void case_scan(void);
kith_status case_calibrate(kith_index *index, const float *queries, size_t nq,
                           const kith_calibrate_options *options, const kith_run *run, kith_error *err);
kith_status case_search_range(kith_searcher *searcher, const float *query, float radius,
                              const kith_search_options *options, size_t *n, const uint64_t **ids,
                              const float **dist, kith_search_stats *stats, kith_error *err);

/* Make x[n] what it stands for over bits and sets: 1 for positive ones, else 0. */
void case_to_bits(float *x, size_t n);

/* The standard rows[CASE_N][CASE_DIM] and queries[CASE_NQ][CASE_DIM]; static. */
const float *case_rows(void);
const float *case_queries(void);

/* The id of row i of the standard index: distinct, neither dense nor ascending. */
uint64_t case_id(size_t i);
const uint64_t *case_ids(void); /* [CASE_N] */

/* The row of an id; CASE_N for an id of none. */
size_t case_row(uint64_t id);

/* An empty index, trained where that is needed (small training parameters); fails the test otherwise. */
kith_index *case_create(const index_case *c, size_t dim, uint64_t seed, const kith_allocator *allocator);
kith_index *case_trained(const index_case *c);

/* The standard index: the standard rows under their ids. Made once for each case, then opened from a file; programs that
 * are given the same folder in KITH_CASE_FILES share them. */
kith_index *case_full(const index_case *c);

/* Set the small training parameters. */
void case_quick(kith_index *index);

/* The distance as kith/metric.h defines it, in double. */
double true_distance(kith_metric metric, const float *a, const float *b, size_t dim);

/* How far a float32 result may be from it. */
double distance_tolerance(kith_metric metric, const float *a, const float *b, size_t dim);

/* The bytes of a file, malloc'ed. */
unsigned char *file_bytes(const char *path, size_t *size);

/* A path in the test's folder; four static buffers in turn. */
const char *case_path(const char *name);

/* Write bytes to a file. */
void write_file(const char *path, const void *data, size_t size);

#endif
