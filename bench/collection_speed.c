/* collection_speed - a collection filled from a vector file, folded and searched: what each step costs.
 *
 *     collection_speed X.kith BASE [QUERIES] [ROWS]
 *
 * One JSON line a step, times in seconds of wall clock and of CPU: import (batches of 10,000 rows), first exact search,
 * exact search, fold, first search with the segment, search at several nprobe with recall@10 against exact search.
 *
 *     collection_speed refill X.kith BASE [ROWS [ROUNDS]]
 *
 * Space that is used again: ROWS rows (100,000) are imported, then in each round (10) half of them, drawn at random, are
 * deleted and as many new ones put. The size of the file after each checkpoint over that after the import; exit status 1
 * beyond 1.2.
 *
 *     collection_speed churn X.kith BASE QUERIES [ROWS [ROUNDS [EVERY]]]
 *
 * An index that lives on: in each of ROUNDS (20) a tenth of ROWS rows (200,000), drawn at random, is deleted, as many other
 * rows of BASE are put, and folded in. After each EVERY rounds (5) a collection is built of the same rows anew, and both are
 * searched in turn, five times: recall@10 of either, and the ratio of the medians of their times. Exit status 1 when recall
 * is less by more than 0.01, or a search takes more than 1.1 times as long.
 *
 *     collection_speed writers X.kith [SECONDS]
 *
 * Threads that put rows of 128 components, one a batch, into a new collection: 1, 4 and 16 of them for SECONDS (3) each,
 * first each with a handle of its own, taking turns, then together through kith/writers.h. Rows a second, batches of a
 * commit, and how long a put takes, until it is on the disk. */
#include <kith/collection.h>
#include <kith/dataset.h>
#include <kith/writers.h>

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BATCH 10000
#define K 10

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

typedef struct step {
    double wall, cpu;
} step;

static step begin(void)
{
    return (step){seconds(CLOCK_MONOTONIC), seconds(CLOCK_PROCESS_CPUTIME_ID)};
}

static step since(step start)
{
    return (step){seconds(CLOCK_MONOTONIC) - start.wall, seconds(CLOCK_PROCESS_CPUTIME_ID) - start.cpu};
}

static void must(kith_status status, const kith_error *err)
{
    if (status == KITH_OK) return;
    fprintf(stderr, "collection_speed: %s\n", err->message);
    exit(1);
}

static void import(kith_collection *c, const char *path, uint64_t limit)
{
    kith_error err;
    kith_dataset *base;
    must(kith_dataset_open(path, NULL, &base, &err), &err);
    uint64_t n = kith_dataset_rows(base);
    size_t dim = kith_dataset_dim(base);
    if (limit > 0 && limit < n) n = limit;
    float *x = malloc(BATCH * dim * sizeof *x);
    uint64_t payload_bytes = 0;
    must(kith_collection_begin(c, &err), &err);
    must(kith_collection_reset_vectors(c, dim, KITH_L2SQ, &err), &err);
    must(kith_collection_commit(c, &err), &err);
    step start = begin();
    for (uint64_t first = 0; first < n; first += BATCH) {
        size_t rows = n - first < BATCH ? (size_t)(n - first) : BATCH;
        must(kith_dataset_read_f32(base, first, rows, x, &err), &err);
        must(kith_collection_begin(c, &err), &err);
        for (size_t i = 0; i < rows; i++) {
            char payload[64];
            int size = snprintf(payload, sizeof payload, "{\"n\":%llu}", (unsigned long long)(first + i));
            kith_row row = {
                .payload = payload, .payload_size = (size_t)size, .vector = x + i * dim, .dim = dim};
            must(kith_collection_put(c, KITH_ROW_PAYLOAD | KITH_ROW_VECTOR, &row, NULL, &err), &err);
            payload_bytes += (uint64_t)size;
        }
        must(kith_collection_commit(c, &err), &err);
    }
    step took = since(start);
    kith_collection_stats stats = {.struct_size = sizeof stats};
    must(kith_collection_get_stats(c, &stats, &err), &err);
    printf("{\"step\":\"import\",\"rows\":%llu,\"wall\":%.3f,\"cpu\":%.3f,\"rows_per_cpu_second\":%.0f,"
           "\"bytes\":%llu,\"bytes_over_content\":%.3f}\n",
           (unsigned long long)n, took.wall, took.cpu, (double)n / took.cpu,
           (unsigned long long)stats.database_bytes,
           (double)stats.database_bytes / (double)(n * dim * 4 + payload_bytes));
    free(x);
    kith_dataset_close(base);
}

static void search(kith_collection *c, const char *name, const float *q, size_t nq, size_t dim, size_t nprobe,
                   int64_t *keys, float *distances, const float *true_distances)
{
    kith_error err;
    kith_collection_query query;
    kith_collection_answer answer;
    kith_collection_query_init(&query);
    query.k = K;
    query.nprobe = nprobe;
    uint64_t scored = 0;
    step start = begin();
    for (size_t i = 0; i < nq; i++) { /* one by one, as a program that serves people does */
        must(kith_collection_search(c, 1, dim, q + i * dim, &query, keys + i * K, distances + i * K, &answer,
                                    &err),
             &err);
        scored += answer.rows_scored;
    }
    step took = since(start);
    size_t good = 0;
    for (size_t i = 0; true_distances && i < nq; i++)
        for (size_t k = 0; k < K; k++)
            good += distances[i * K + k] <= true_distances[i * K + K - 1] * 1.00001f;
    printf("{\"step\":\"%s\",\"nprobe\":%zu,\"queries\":%zu,\"wall\":%.3f,\"cpu_ms_per_query\":%.3f,"
           "\"rows_scored_per_query\":%.0f,\"exact\":%d",
           name, nprobe, nq, took.wall, 1000 * took.cpu / (double)nq, (double)scored / (double)nq,
           answer.exact);
    if (true_distances) printf(",\"recall\":%.4f", (double)good / (double)(nq * K));
    printf("}\n");
}

/* ---- Space that is used again, and an index that lives on ---- */

typedef struct churning {
    kith_collection *c;
    kith_dataset *base;
    size_t dim;
    uint64_t next; /* row of the base that is put next */
    int64_t *keys; /* [n] of the rows that there are */
    size_t n;
    uint64_t random;
} churning;

/* splitmix64 */
static uint64_t draw(churning *ch, uint64_t below)
{
    uint64_t z = ch->random += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (z ^ z >> 31) % below;
}

/* Put n rows of the base, from its beginning again behind its end, in batches. */
static void put_more(churning *ch, size_t n)
{
    kith_error err;
    float *x = malloc(ch->dim * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        char payload[64];
        if (i % BATCH == 0) must(kith_collection_begin(ch->c, &err), &err);
        must(kith_dataset_read_f32(ch->base, ch->next, 1, x, &err), &err);
        int size = snprintf(payload, sizeof payload, "{\"n\":%llu}", (unsigned long long)ch->next);
        kith_row row = {.payload = payload, .payload_size = (size_t)size, .vector = x, .dim = ch->dim};
        must(kith_collection_put(ch->c, KITH_ROW_PAYLOAD | KITH_ROW_VECTOR, &row, &ch->keys[ch->n++], &err),
             &err);
        ch->next = (ch->next + 1) % kith_dataset_rows(ch->base);
        if (i % BATCH == BATCH - 1 || i + 1 == n) must(kith_collection_commit(ch->c, &err), &err);
    }
    free(x);
}

static void delete_some(churning *ch, size_t n)
{
    kith_error err;
    for (size_t i = 0; i < n; i++) {
        if (i % BATCH == 0) must(kith_collection_begin(ch->c, &err), &err);
        size_t at = (size_t)draw(ch, ch->n);
        must(kith_collection_delete(ch->c, ch->keys[at], &err), &err);
        ch->keys[at] = ch->keys[--ch->n];
        if (i % BATCH == BATCH - 1 || i + 1 == n) must(kith_collection_commit(ch->c, &err), &err);
    }
}

static churning begin_churning(const char *path, const char *base, size_t rows)
{
    kith_error err;
    churning ch = {.random = 1};
    must(kith_dataset_open(base, NULL, &ch.base, &err), &err);
    ch.dim = kith_dataset_dim(ch.base);
    ch.keys = calloc(rows, sizeof *ch.keys);
    must(kith_collection_create(path, ch.dim, KITH_L2SQ, NULL, &ch.c, &err), &err);
    put_more(&ch, rows);
    return ch;
}

static void end_churning(churning *ch)
{
    kith_collection_close(ch->c);
    kith_dataset_close(ch->base);
    free(ch->keys);
}

/* The size of the file after a checkpoint, without building an index. */
static double size_of(kith_collection *c)
{
    kith_error err;
    kith_fold_options nothing;
    kith_collection_stats stats = {.struct_size = sizeof stats};
    kith_fold_options_init(&nothing);
    must(kith_collection_optimize(c, &nothing, &err), &err);
    must(kith_collection_get_stats(c, &stats, &err), &err);
    return (double)stats.database_bytes;
}

static int refill(int argc, char **argv)
{
    kith_error err;
    size_t rows = argc > 4 ? strtoul(argv[4], NULL, 10) : 100000,
           rounds = argc > 5 ? strtoul(argv[5], NULL, 10) : 10;
    churning ch = begin_churning(argv[2], argv[3], rows);
    /* So many rows that no index is built: this is about the file of the rows. */
    kith_collection_close(ch.c);
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.exact_rows = SIZE_MAX;
    must(kith_collection_open(argv[2], &options, &ch.c, &err), &err);
    double first = size_of(ch.c), worst = 0;
    printf("{\"step\":\"import\",\"rows\":%zu,\"bytes\":%.0f}\n", rows, first);
    for (size_t round = 1; round <= rounds; round++) {
        delete_some(&ch, rows / 2);
        put_more(&ch, rows / 2);
        double size = size_of(ch.c) / first;
        worst = size > worst ? size : worst;
        printf("{\"step\":\"refill\",\"round\":%zu,\"size\":%.4f}\n", round, size);
    }
    end_churning(&ch);
    printf("{\"worst_size\":%.4f}\n", worst);
    return worst <= 1.2 ? 0 : 1;
}

typedef struct contest {
    const float *q;
    size_t nq, dim;
    int64_t *keys;
    float *distances, *exact;
} contest;

/* Returns the time of one search, in processor seconds. */
static double search_quietly(const contest *t, kith_collection *c, int exact, float *distances)
{
    kith_error err;
    kith_collection_query query;
    kith_collection_query_init(&query);
    query.k = K;
    query.exact = exact;
    step start = begin();
    if (exact) /* all of them in one reading of the rows */
        must(kith_collection_search(c, t->nq, t->dim, t->q, &query, t->keys, distances, NULL, &err), &err);
    for (size_t i = 0; i < t->nq && !exact; i++)
        must(kith_collection_search(c, 1, t->dim, t->q + i * t->dim, &query, t->keys, distances + i * K, NULL,
                                    &err),
             &err);
    return since(start).cpu / (double)t->nq;
}

static double recall_of(const contest *t)
{
    size_t good = 0;
    for (size_t i = 0; i < t->nq; i++)
        for (size_t k = 0; k < K; k++) good += t->distances[i * K + k] <= t->exact[i * K + K - 1] * 1.00001f;
    return (double)good / (double)(t->nq * K);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The rows of a collection in a new one, with an index of its own. */
static kith_collection *build_anew(const churning *ch, const char *path)
{
    kith_error err;
    kith_collection *fresh;
    kith_row row = {0};
    must(kith_collection_create(path, ch->dim, KITH_L2SQ, NULL, &fresh, &err), &err);
    for (size_t i = 0;; i++) {
        must(kith_collection_next(ch->c, row.key, KITH_ROW_PAYLOAD | KITH_ROW_VECTOR, &row, &err), &err);
        if (i % BATCH == 0 && i > 0) must(kith_collection_commit(fresh, &err), &err);
        if (i % BATCH == 0) must(kith_collection_begin(fresh, &err), &err);
        if (row.key == 0) break;
        must(kith_collection_put(fresh, KITH_ROW_PAYLOAD | KITH_ROW_VECTOR, &row, NULL, &err), &err);
    }
    must(kith_collection_commit(fresh, &err), &err);
    must(kith_collection_optimize(fresh, NULL, &err), &err);
    return fresh;
}

static void remove_collection(const char *path)
{
    static const char *const files[] = {"", "-wal", "-shm"};
    char name[2400], folder_name[1200];
    for (size_t i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", path, files[i]);
        (void)unlink(name);
    }
    snprintf(folder_name, sizeof folder_name, "%s.d", path);
    DIR *folder = opendir(folder_name);
    for (struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
        snprintf(name, sizeof name, "%s/%s", folder_name, entry->d_name);
        (void)unlink(name);
    }
    if (folder) closedir(folder);
    (void)rmdir(folder_name);
}

/* Returns 1 when what has lived on is as good as what is new. */
static int compare(const churning *ch, contest *t, const char *path, size_t round)
{
    enum { TIMES = 5 };
    char fresh_path[1100];
    double old_time[TIMES], new_time[TIMES], old_recall = 0, new_recall = 0;
    snprintf(fresh_path, sizeof fresh_path, "%.1000s.fresh.kith", path);
    remove_collection(fresh_path);
    kith_collection *fresh = build_anew(ch, fresh_path);
    (void)search_quietly(t, fresh, 1, t->exact);
    for (size_t i = 0; i < TIMES + 1; i++) { /* the first is a rehearsal */
        double o = search_quietly(t, ch->c, 0, t->distances);
        old_recall = recall_of(t);
        double n = search_quietly(t, fresh, 0, t->distances);
        new_recall = recall_of(t);
        old_time[i ? i - 1 : 0] = o;
        new_time[i ? i - 1 : 0] = n;
    }
    qsort(old_time, TIMES, sizeof *old_time, ascending);
    qsort(new_time, TIMES, sizeof *new_time, ascending);
    double ratio = old_time[TIMES / 2] / new_time[TIMES / 2];
    kith_error err;
    kith_collection_stats stats = {.struct_size = sizeof stats};
    must(kith_collection_get_stats(ch->c, &stats, &err), &err);
    printf("{\"step\":\"churn\",\"round\":%zu,\"recall\":%.4f,\"fresh_recall\":%.4f,\"ms\":%.4f,\"fresh_ms\":"
           "%.4f,"
           "\"ratio\":%.3f,\"drift\":%.3f,\"spec\":\"%s\",\"uncovered\":%llu}\n",
           round, old_recall, new_recall, old_time[TIMES / 2] * 1e3, new_time[TIMES / 2] * 1e3, ratio,
           stats.spread_now / stats.spread_trained, stats.segment_spec, (unsigned long long)stats.uncovered);
    fflush(stdout);
    kith_collection_close(fresh);
    remove_collection(fresh_path);
    return old_recall >= new_recall - 0.01 && ratio <= 1.1;
}

static int churn(int argc, char **argv)
{
    kith_error err;
    size_t rows = argc > 5 ? strtoul(argv[5], NULL, 10) : 200000,
           rounds = argc > 6 ? strtoul(argv[6], NULL, 10) : 20,
           every = argc > 7 ? strtoul(argv[7], NULL, 10) : 5;
    contest t = {0};
    float *q;
    must(kith_dataset_load_f32(argv[4], NULL, NULL, &q, &t.nq, &t.dim, &err), &err);
    if (t.nq > 1000) t.nq = 1000;
    t.q = q;
    t.keys = malloc(t.nq * K * sizeof *t.keys);
    t.distances = malloc(t.nq * K * sizeof *t.distances);
    t.exact = malloc(t.nq * K * sizeof *t.exact);
    churning ch = begin_churning(argv[2], argv[3], rows);
    must(kith_collection_optimize(ch.c, NULL, &err), &err);
    int good = 1;
    for (size_t round = 1; round <= rounds; round++) {
        delete_some(&ch, rows / 10);
        put_more(&ch, rows / 10);
        step start = begin();
        must(kith_collection_optimize(ch.c, NULL, &err), &err);
        printf("{\"step\":\"fold\",\"round\":%zu,\"seconds\":%.3f}\n", round, since(start).wall);
        if (every > 0 && round % every == 0) good &= compare(&ch, &t, argv[2], round);
    }
    end_churning(&ch);
    kith_dataset_unload(NULL, q);
    free(t.keys);
    free(t.distances);
    free(t.exact);
    return good ? 0 : 1;
}

/* ---- Writers of one row a batch ---- */

enum { MOST_WRITERS = 16, WRITTEN_DIM = 128, MOST_TIMES = 1 << 20 };

typedef struct writer {
    const char *path;
    kith_writers *writers; /* NULL: a handle of its own */
    atomic_int *stop;
    int64_t key;
    float *times; /* [MOST_TIMES] seconds of each put */
    size_t n;
} writer;

static kith_status put_one(kith_collection *c, void *ctx, kith_error *err)
{
    const writer *w = ctx;
    float vector[WRITTEN_DIM] = {(float)w->key};
    kith_row row = {.key = w->key, .payload = "{\"year\":1999}", .vector = vector, .dim = WRITTEN_DIM};
    return kith_collection_put(c, KITH_ROW_PAYLOAD | KITH_ROW_VECTOR, &row, NULL, err);
}

static kith_status write_alone(kith_collection *c, writer *w, kith_error *err)
{
    kith_status status = kith_collection_begin(c, err);
    if (status == KITH_OK) status = put_one(c, w, err);
    return status == KITH_OK ? kith_collection_commit(c, err) : status;
}

static void *write_rows(void *arg)
{
    kith_error err;
    writer *w = arg;
    kith_collection *c = NULL;
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.wait_ms = 60000;
    if (!w->writers) must(kith_collection_open(w->path, &options, &c, &err), &err);
    for (w->n = 0; !atomic_load(w->stop) && w->n < MOST_TIMES; w->n++, w->key++) {
        double begun = seconds(CLOCK_MONOTONIC);
        must(c ? write_alone(c, w, &err) : kith_writers_write(w->writers, put_one, w, NULL, &err), &err);
        w->times[w->n] = (float)(seconds(CLOCK_MONOTONIC) - begun);
    }
    kith_collection_close(c);
    return NULL;
}

static int ascending_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void write_for(const char *path, int n, int together, unsigned duration)
{
    kith_error err;
    kith_collection *c;
    kith_writers *writers = NULL;
    kith_writers_stats stats = {.struct_size = sizeof stats};
    atomic_int stop = 0;
    writer list[MOST_WRITERS];
    pthread_t threads[MOST_WRITERS];
    must(kith_collection_create(path, WRITTEN_DIM, KITH_L2SQ, NULL, &c, &err), &err);
    if (together) must(kith_writers_create(c, &writers, &err), &err);
    for (int i = 0; i < n; i++) {
        list[i] = (writer){
            path, writers, &stop, 1 + (int64_t)i * MOST_TIMES, malloc(MOST_TIMES * sizeof(float)), 0};
        if (pthread_create(&threads[i], NULL, write_rows, &list[i]) != 0) exit(1);
    }
    sleep(duration);
    atomic_store(&stop, 1);
    size_t rows = 0;
    float *times = malloc((size_t)n * MOST_TIMES * sizeof *times);
    for (int i = 0; i < n; i++) {
        pthread_join(threads[i], NULL);
        memcpy(times + rows, list[i].times, list[i].n * sizeof *times);
        rows += list[i].n;
        free(list[i].times);
    }
    qsort(times, rows, sizeof *times, ascending_floats);
    stats.batches = stats.commits = rows;
    if (together) must(kith_writers_get_stats(writers, &stats, &err), &err);
    printf("{\"step\":\"writers\",\"threads\":%d,\"together\":%s,\"rows_per_second\":%.0f,\"batches_per_"
           "commit\":%.2f,"
           "\"p50_ms\":%.3f,\"p99_ms\":%.3f}\n",
           n, together ? "true" : "false", (double)rows / duration,
           (double)stats.batches / (double)stats.commits, 1e3 * (double)times[rows / 2],
           1e3 * (double)times[rows - 1 - rows / 100]);
    fflush(stdout);
    free(times);
    kith_writers_free(writers);
    kith_collection_close(c);
    remove_collection(path);
}

static int write_together(int argc, char **argv)
{
    static const int threads[] = {1, 4, MOST_WRITERS};
    unsigned duration = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 3;
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++)
        for (int together = 0; together < 2; together++) write_for(argv[2], threads[i], together, duration);
    return 0;
}

int main(int argc, char **argv)
{
    kith_error err;
    if (argc > 3 && strcmp(argv[1], "refill") == 0) return refill(argc, argv);
    if (argc > 4 && strcmp(argv[1], "churn") == 0) return churn(argc, argv);
    if (argc > 2 && strcmp(argv[1], "writers") == 0) return write_together(argc, argv);
    if (argc < 3) {
        fprintf(stderr, "usage: collection_speed [refill|churn|writers] X.kith BASE [QUERIES] [ROWS]\n");
        return 2;
    }
    kith_collection *c;
    must(kith_collection_create(argv[1], 0, KITH_L2SQ, NULL, &c, &err), &err);
    import(c, argv[2], argc > 4 ? strtoull(argv[4], NULL, 10) : 0);
    if (argc < 4) return 0;
    float *q;
    size_t nq, dim;
    must(kith_dataset_load_f32(argv[3], NULL, NULL, &q, &nq, &dim, &err), &err);
    if (nq > 200) nq = 200;
    int64_t *keys = malloc(nq * K * sizeof *keys);
    float *distances = malloc(nq * K * sizeof *distances), *exact = malloc(nq * K * sizeof *exact);
    search(c, "first exact search", q, 1, dim, 0, keys, exact, NULL);
    search(c, "exact search", q, nq, dim, 0, keys, exact, NULL);
    step start = begin();
    must(kith_collection_optimize(c, NULL, &err), &err);
    step took = since(start);
    kith_collection_stats stats = {.struct_size = sizeof stats};
    must(kith_collection_get_stats(c, &stats, &err), &err);
    printf("{\"step\":\"fold\",\"wall\":%.3f,\"cpu\":%.3f,\"spec\":\"%s\",\"segment_bytes\":%llu,"
           "\"database_bytes\":%llu,\"database_over_vectors\":%.3f}\n",
           took.wall, took.cpu, stats.segment_spec, (unsigned long long)stats.segment_bytes,
           (unsigned long long)stats.database_bytes,
           (double)stats.database_bytes / (double)(stats.vectors * stats.dim * 4));
    kith_collection_close(c);
    must(kith_collection_open(argv[1], NULL, &c, &err), &err);
    search(c, "first search", q, 1, dim, 0, keys, distances, exact);
    static const size_t probes[] = {0, 8, 16, 32, 64, 128};
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++)
        search(c, "search", q, nq, dim, probes[i], keys, distances, exact);
    kith_collection_close(c);
    kith_dataset_unload(NULL, q);
    free(keys);
    free(distances);
    free(exact);
    return 0;
}
