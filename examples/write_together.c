/* write_together.c - eight threads that write a row each, again and again, and share the sync of the disk. One of them changes its
 * mind, which is nothing to the others. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#include <kith/collection.h>
#include <kith/writers.h>

enum { THREADS = 8, ROWS = 25 };

typedef struct visitor {
    kith_writers *writers;
    int number, seen;
    kith_status status;
    kith_error err;
} visitor;

/* One batch. It may be called a second time for the same one, so it notes down nothing but what is in the collection. */
static kith_status note(kith_collection *collection, void *ctx, kith_error *err)
{
    const visitor *v = ctx;
    char payload[64];
    snprintf(payload, sizeof payload, "{\"visitor\":%d,\"saw\":%d}", v->number, v->seen);
    kith_row row = {.payload = payload};
    kith_status status = kith_collection_put(collection, KITH_ROW_PAYLOAD | KITH_ROW_NEW, &row, NULL, err);
    return status == KITH_OK && v->number == 3 ? KITH_CANCELLED : status;
}

static void *visit(void *arg)
{
    visitor *v = arg;
    for (v->seen = 0; v->seen < ROWS; v->seen++) {
        v->status = kith_writers_write(v->writers, note, v, NULL, &v->err);
        if (v->status == KITH_CANCELLED && v->number == 3) v->status = KITH_OK;
        if (v->status != KITH_OK) break;
    }
    return NULL;
}

static int run(kith_collection *collection, kith_writers *writers, kith_error *err)
{
    pthread_t threads[THREADS];
    visitor visitors[THREADS] = {0};
    uint64_t rows;
    int bad = 0, started = 0;
    for (; started < THREADS; started++) {
        visitors[started].writers = writers;
        visitors[started].number = started + 1;
        if (pthread_create(&threads[started], NULL, visit, &visitors[started]) != 0) break;
    }
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
        if (visitors[i].status != KITH_OK)
            fprintf(stderr, "visitor %d: %s\n", i + 1, visitors[i].err.message);
        bad |= visitors[i].status != KITH_OK;
    }
    kith_writers_stats stats = {.struct_size = sizeof stats};
    if (bad || kith_writers_get_stats(writers, &stats, err) != KITH_OK) return 1;
    kith_writers_free(writers); /* then the handle may be used again */
    if (kith_collection_count(collection, &rows, NULL, err) != KITH_OK) return 1;
    printf("%" PRIu64 " rows; %" PRIu64 " batches in %s commits than batches\n", rows, stats.batches,
           stats.commits < stats.batches ? "fewer" : "no fewer");
    return 0;
}

int main(void)
{
    kith_error err = {0};
    kith_collection *collection = NULL;
    kith_writers *writers = NULL;
    remove("example_together.kith");
    kith_status status =
        kith_collection_create("example_together.kith", 0, KITH_L2SQ, NULL, &collection, &err);
    if (status == KITH_OK) status = kith_writers_create(collection, &writers, &err);
    int bad = status != KITH_OK || run(collection, writers, &err);
    if (bad) fprintf(stderr, "%s\n", err.message);
    kith_collection_close(collection);
    remove("example_together.kith");
    return bad;
}
