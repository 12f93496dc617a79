/* streamed.c - an index over more rows than fit in memory as float32: built block by block from a file, within a memory
 * and a time that are said after the first block, then searched.
 *
 *     streamed BASE QUERIES SPEC [NAME=V1,V2,...]       (streamed sift10m/base.bvecs sift10m/query.bvecs IVF16384,SQ8
 *                                                        nprobe=16,32,64)
 *
 * Recall is measured against exact search over the same file, read a second time block by block. Speed: one query a call,
 * on one thread. The last line compares the promise with the peak. bench/make_sift.py makes the file. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <kith/kith.h>

#define BLOCK 131072 /* rows read at a time */
#define K 10
#define QUERIES 1000
#define TRAIN_PER_CELL 40 /* rows of the sample for each cell */

static kith_error err;

static void check(kith_status status, const char *what)
{
    if (status == KITH_OK) return;
    fprintf(stderr, "%s: %s\n", what, err.message);
    exit(1);
}

static void *room(size_t bytes)
{
    void *p = malloc(bytes);
    if (p) return p;
    fprintf(stderr, "no memory for %zu bytes\n", bytes);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double peak_mb(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

/* A sample spread evenly over the file, block by block. */
static float *sample_rows(kith_dataset *base, size_t *n)
{
    uint64_t rows = kith_dataset_rows(base);
    size_t dim = kith_dataset_dim(base), wanted = *n < rows ? *n : rows, piece = 256;
    float *x = room(wanted * dim * sizeof *x);
    size_t pieces = wanted / piece;
    for (size_t i = 0; i < pieces; i++)
        check(kith_dataset_read_f32(base, i * (rows / pieces), piece, x + i * piece * dim, &err), "sample");
    *n = pieces * piece;
    return x;
}

static uint64_t bytes_of(const kith_index *index)
{
    kith_index_info info = {.struct_size = sizeof info};
    check(kith_index_get_info(index, &info, &err), "info");
    return info.bytes;
}

/* What the whole is said to take, after the first block. */
typedef struct promise {
    double mb, seconds;
} promise;

/* What a row takes in lists without room to spare: few rows of many cells are mostly such room. */
static double bytes_a_row(kith_index *index, uint64_t empty, size_t n, const kith_run *run)
{
    kith_status status = kith_index_compact(index, NULL, run, NULL, &err);
    if (status != KITH_UNSUPPORTED) check(status, "compact"); /* that it has no lists */
    return (double)(bytes_of(index) - empty) / (double)n;
}

/* Add all rows; after the first block says what all of them will take. */
static promise add_rows(kith_index *index, kith_dataset *base, const kith_run *run)
{
    uint64_t rows = kith_dataset_rows(base);
    size_t dim = kith_dataset_dim(base);
    float *x = room(BLOCK * dim * sizeof *x);
    double begun = now();
    promise said = {0, 0};
    uint64_t empty = bytes_of(index);
    for (uint64_t first = 0; first < rows; first += BLOCK) {
        size_t n = rows - first < BLOCK ? (size_t)(rows - first) : BLOCK;
        check(kith_dataset_read_f32(base, first, n, x, &err), "read");
        check(kith_index_add(index, x, NULL, n, run, &err), "add");
        if (first == 0) {
            said.seconds = (now() - begun) * (double)rows / (double)n;
            /* Lists that outgrow their room are laid out anew with a quarter more, beside the old ones. */
            double row = bytes_a_row(index, empty, n, run);
            said.mb = peak_mb() + 2.25 * row * (double)rows / 1048576;
            printf("promised: %.0f MB at the peak (%.0f bytes a row, laid out twice at worst), %.0f s to add "
                   "all rows\n",
                   said.mb, row, said.seconds);
            fflush(stdout);
        }
        fprintf(stderr, "\r%llu of %llu rows, %.0f of %.0f s, peak %.0f of %.0f MB ",
                (unsigned long long)(first + n), (unsigned long long)rows, now() - begun, said.seconds,
                peak_mb(), said.mb);
    }
    fprintf(stderr, "\n");
    free(x);
    printf("added: %llu rows in %.1f s, promised %.0f s\n", (unsigned long long)rows, now() - begun,
           said.seconds);
    return said;
}

/* The K nearest of every query, by exact search over block after block. */
static uint64_t *find_truth(kith_dataset *base, const float *queries, size_t nq, kith_pool *pool)
{
    uint64_t rows = kith_dataset_rows(base), *ids = room(nq * K * sizeof *ids);
    uint64_t *best = room(nq * K * sizeof *best);
    size_t dim = kith_dataset_dim(base);
    float *x = room(BLOCK * dim * sizeof *x), *dist = room(nq * K * sizeof *dist);
    float *best_dist = room(nq * K * sizeof *best_dist);
    kith_search_options options;
    kith_search_options_init(&options);
    options.pool = pool;
    kith_run run = {.pool = pool};
    for (size_t i = 0; i < nq * K; i++) best_dist[i] = INFINITY, best[i] = KITH_NO_ID;
    for (uint64_t first = 0; first < rows; first += BLOCK) {
        size_t n = rows - first < BLOCK ? (size_t)(rows - first) : BLOCK;
        kith_index *flat;
        kith_searcher *searcher;
        check(kith_dataset_read_f32(base, first, n, x, &err), "read");
        check(kith_index_create("Flat", dim, NULL, &flat, &err), "Flat");
        check(kith_index_add(flat, x, NULL, n, &run, &err), "Flat");
        check(kith_searcher_create(flat, &searcher, &err), "Flat");
        check(kith_search(searcher, queries, nq, K, &options, ids, dist, NULL, &err), "Flat");
        for (size_t q = 0; q < nq; q++)
            for (size_t i = 0; i < K && ids[q * K + i] != KITH_NO_ID; i++) {
                size_t at = K;
                float d = dist[q * K + i], *bd = best_dist + q * K;
                while (at > 0 && d < bd[at - 1]) at--;
                if (at == K) break;
                memmove(bd + at + 1, bd + at, (K - 1 - at) * sizeof *bd);
                memmove(best + q * K + at + 1, best + q * K + at, (K - 1 - at) * sizeof *best);
                bd[at] = d;
                best[q * K + at] = first + ids[q * K + i];
            }
        kith_searcher_free(searcher);
        kith_index_free(flat);
    }
    free(ids);
    free(dist);
    free(best_dist);
    free(x);
    return best;
}

static void search(const kith_index *index, const float *queries, size_t nq, const uint64_t *truth,
                   const kith_setting *setting, size_t n_settings)
{
    kith_index_info info = {.struct_size = sizeof info};
    check(kith_index_get_info(index, &info, &err), "info");
    kith_searcher *searcher;
    kith_search_options options;
    kith_search_options_init(&options);
    options.settings = setting;
    options.n_settings = n_settings;
    uint64_t ids[K];
    float dist[K];
    size_t hits = 0;
    check(kith_searcher_create(index, &searcher, &err), "searcher");
    double begun = now();
    for (size_t q = 0; q < nq; q++) {
        check(kith_search(searcher, queries + q * info.dim, 1, K, &options, ids, dist, NULL, &err), "search");
        for (size_t i = 0; i < K; i++)
            for (size_t j = 0; j < K; j++) hits += ids[i] == truth[q * K + j];
    }
    double seconds = now() - begun;
    printf("%s=%g: recall@%d %.4f, %.0f queries a second\n", n_settings ? setting->name : "-",
           n_settings ? setting->value : 0.0, K, (double)hits / (double)(nq * K), (double)nq / seconds);
    kith_searcher_free(searcher);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: %s BASE QUERIES SPEC [NAME=V1,V2,...]\n", argv[0]);
        return 2;
    }
    kith_dataset *base, *asked;
    kith_index *index;
    kith_pool *pool;
    check(kith_dataset_open(argv[1], NULL, &base, &err), argv[1]);
    check(kith_dataset_open(argv[2], NULL, &asked, &err), argv[2]);
    check(kith_pool_create(0, NULL, &pool, &err), "threads");
    kith_run run = {.pool = pool};
    size_t dim = kith_dataset_dim(base), nq = QUERIES;
    if (kith_dataset_dim(asked) != dim || kith_dataset_rows(asked) < nq) {
        fprintf(stderr, "%s: %zu queries of %zu components are wanted\n", argv[2], nq, dim);
        return 1;
    }
    check(kith_index_create(argv[3], dim, NULL, &index, &err), argv[3]);
    const char *cells = strstr(argv[3], "IVF");
    size_t n = TRAIN_PER_CELL * (cells ? strtoul(cells + 3, NULL, 10) : 1024);
    if (n < 65536) n = 65536;
    float *x = sample_rows(base, &n);
    double begun = now();
    check(kith_index_train(index, x, n, &run, &err), "train");
    printf("%s over %llu rows: trained on %zu in %.1f s\n", argv[3],
           (unsigned long long)kith_dataset_rows(base), n, now() - begun);
    free(x);
    promise said = add_rows(index, base, &run);
    double peak = peak_mb();
    printf("%s: peak %.0f MB, promised %.0f MB\n", peak <= said.mb ? "kept" : "BROKEN", peak, said.mb);
    fflush(stdout);
    float *queries = room(nq * dim * sizeof *queries);
    check(kith_dataset_read_f32(asked, 0, nq, queries, &err), argv[2]);
    uint64_t *truth = find_truth(base, queries, nq, pool);
    if (argc < 5) search(index, queries, nq, truth, NULL, 0);
    for (int i = 4; i < argc; i++) {
        char name[64];
        size_t length = strcspn(argv[i], "=");
        snprintf(name, sizeof name, "%.*s", (int)length, argv[i]);
        for (char *at = argv[i] + length; *at;) {
            kith_setting setting = {name, strtod(at + 1, &at)};
            search(index, queries, nq, truth, &setting, 1);
        }
    }
    printf("peak of all: %.0f MB\n", peak_mb());
    free(truth);
    free(queries);
    kith_index_free(index);
    kith_pool_free(pool);
    kith_dataset_close(base);
    kith_dataset_close(asked);
    return peak <= said.mb ? 0 : 1;
}
