/* How far a graph's walk is from the machine: rows scored and bytes touched a query, the time that so many random reads take
 * on this machine, and the time that the query takes.
 *
 *     graph_cost INDEX QUERIES ROW_BYTES LINK_BYTES        e.g. base.kidx query.fvecs 512 128 for HNSW16 over 128 floats
 *
 * ROW_BYTES: a code (float32: 4 a component; SQ8: 1 a component and 4); LINK_BYTES: the links of a node (8 M). QG reads all of a
 * row that it looks at, and nothing of those that it scores: 0, and the bytes of a row (960 for QG32,SQ8 over 128). The reads are
 * of the same sizes, in a block as large as the index, each batch of 32 rows asked for while the one before is
 * summed: what a walk could do that knew where to go. */
#include <kith/dataset.h>
#include <kith/index.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { K = 10, BATCH = 32, LINE = 64, PASSES = 3 };

static volatile uint64_t sink;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void stop(const char *what)
{
    fprintf(stderr, "graph_cost: %s\n", what);
    exit(1);
}

/* xorshift64 (Marsaglia 2003). */
static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

/* Seconds to read one row of `bytes` at a random place among n. */
static double random_read(size_t n, size_t bytes)
{
    size_t size = (n * bytes + ((size_t)2 << 20)) >> 21 << 21, reads = 2000000 / ((bytes + LINE - 1) / LINE);
    unsigned char *block = aligned_alloc((size_t)2 << 20, size);
    if (!block) stop("no memory");
#ifdef MADV_HUGEPAGE
    (void)madvise(block, size, MADV_HUGEPAGE);
#endif
    memset(block, 1, size);
    uint64_t state = 88172645463325252u, sum = 0;
    const unsigned char *batch[2][BATCH];
    double best = 1e9;
    for (int pass = 0; pass < PASSES; pass++) {
        double start = seconds();
        for (int i = 0; i < BATCH; i++) batch[0][i] = block + next(&state) % n * bytes;
        for (size_t done = 0, turn = 0; done < reads; done += BATCH, turn ^= 1) {
            for (int i = 0; i < BATCH; i++) {
                const unsigned char *row = batch[turn ^ 1][i] = block + next(&state) % n * bytes;
                for (size_t b = 0; b < bytes; b += LINE) __builtin_prefetch(row + b);
            }
            for (int i = 0; i < BATCH; i++)
                for (size_t b = 0; b + 8 <= bytes; b += LINE) sum += batch[turn][i][b];
        }
        double took = (seconds() - start) / (double)reads;
        if (took < best) best = took;
    }
    sink = sum;
    free(block);
    return best;
}

int main(int argc, char **argv)
{
    kith_error err;
    kith_index *index;
    kith_searcher *searcher;
    float *queries;
    size_t nq, dim;
    if (argc != 5) stop("usage: graph_cost INDEX QUERIES ROW_BYTES LINK_BYTES");
    size_t row = strtoul(argv[3], NULL, 10), links = strtoul(argv[4], NULL, 10);
    if (links == 0) stop("LINK_BYTES is a number from 1");
    if (kith_index_open(argv[1], KITH_OPEN_READ, NULL, NULL, &index, &err) != KITH_OK) stop(err.message);
    if (kith_dataset_load_f32(argv[2], NULL, NULL, &queries, &nq, &dim, &err) != KITH_OK) stop(err.message);
    kith_index_info info = {.struct_size = sizeof info};
    if (kith_index_get_info(index, &info, &err) != KITH_OK) stop(err.message);
    if (info.dim != dim) stop("queries of another dimension");
    if (kith_searcher_create(index, &searcher, &err) != KITH_OK) stop(err.message);
    double row_time = row > 0 ? random_read(info.n, row) : 0, link_time = random_read(info.n, links);
    printf("%s, %llu rows: a random row of %zu bytes takes %.1f ns, one of %zu %.1f ns\n", info.spec,
           (unsigned long long)info.n, row, 1e9 * row_time, links, 1e9 * link_time);
    printf("%6s %10s %10s %12s %12s %12s %6s\n", "ef", "scored", "expanded", "bytes", "reads, us",
           "query, us", "ratio");
    for (double ef = 10; ef <= 320; ef *= 2) {
        kith_setting setting = {"ef", ef};
        kith_search_options options;
        kith_search_options_init(&options);
        options.settings = &setting;
        options.n_settings = 1;
        double scored = 0, expanded = 0, best = 1e9;
        for (int pass = 0; pass < PASSES; pass++) {
            double start = seconds();
            scored = expanded = 0;
            for (size_t q = 0; q < nq; q++) {
                uint64_t ids[K];
                float dist[K];
                kith_search_stats stats;
                if (kith_search(searcher, queries + q * dim, 1, K, &options, ids, dist, &stats, &err) !=
                    KITH_OK)
                    stop(err.message);
                scored += (double)stats.scored;
                expanded += (double)stats.visited;
            }
            double took = seconds() - start;
            if (took < best) best = took;
        }
        double n = (double)nq, reads = (scored * row_time + expanded * link_time) / n;
        printf("%6.0f %10.0f %10.0f %12.0f %12.1f %12.1f %6.2f\n", ef, scored / n, expanded / n,
               (scored * (double)row + expanded * (double)links) / n, 1e6 * reads, 1e6 * best / n,
               best / n / reads);
    }
    kith_dataset_unload(NULL, queries);
    kith_searcher_free(searcher);
    kith_index_free(index);
    return 0;
}
