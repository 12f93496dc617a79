/* Power failures (support/power.h) while batches are written, alone and several by one commit, segments built, logs worked in and copies made: whatever the disk
 * may hold afterwards opens, is sound, has every batch that was acknowledged and no half one, and is searched rightly; a copy
 * that is there is a whole one, and one that is not can be made.
 *
 * KITH_POWER_IMAGES=100000 looks at so many images; the suite takes 2,000. */
#include "batches.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <kith/copies.h>

#include "engine/engine.h"
#include "power.h"

enum { MOST_BATCHES = 64, K = 5 };

/* Notes: four times the number of a batch, and what became of it. */
enum { BEGUN, ACKNOWLEDGED, COPY_BEGUN, COPIED, NOTES };

static kith_error err;
static char here[512], image[512];
static struct {
    uint64_t hash;
    int64_t keys[K]; /* the nearest to the origin */
    int inner;       /* there is no such state: others were committed with it */
} expected[MOST_BATCHES];
static int batches; /* written since first_batch */
static uint64_t first_batch;

static kith_collection_options options_of(void)
{
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.io = power_io();
    options.exact_rows = 10;
    return options;
}

static const char *in(const char *folder, const char *name)
{
    static char paths[4][600];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static kith_collection *open_in(const char *folder, const char *name)
{
    kith_collection_options options = options_of();
    kith_collection *c;
    kith_status status = kith_collection_open(in(folder, name), &options, &c, &err);
    if (status != KITH_OK) fail_msg("%s: %s", kith_status_name(status), err.message);
    return c;
}

static void search_nearest(kith_collection *c, int64_t keys[K])
{
    static const float origin[BATCH_DIM];
    float distances[K];
    kith_collection_query query;
    kith_collection_query_init(&query);
    query.k = K;
    assert_ok(kith_collection_search(c, 1, BATCH_DIM, origin, &query, keys, distances, NULL, &err), &err);
}

/* Batches are written in every way there is; other ones in each recording. */
static void write_batch(kith_collection *c)
{
    power_note(NOTES * ++batches + BEGUN);
    assert_ok(test_batch(c, first_batch + (uint64_t)batches, &err), &err);
    power_note(NOTES * batches + ACKNOWLEDGED);
    assert_ok(kith_collection_hash(c, NULL, &expected[batches].hash, &err), &err);
    search_nearest(c, expected[batches].keys);
}

/* Batches of one commit, as kith_writers makes them, and one that fails among them: all are there, or none. */
static void write_together(kith_collection *c)
{
    uint64_t number;
    int n = 2 + rand() % 3;
    power_note(NOTES * (batches + n) + BEGUN);
    assert_ok(ki_share_begin(c, 0, &err), &err);
    for (int i = 0; i < n; i++) {
        assert_ok(ki_share_batch(c, &err), &err);
        assert_ok(ki_share_batch_end(c, test_batch_next(c, &number, &err), &err), &err);
        assert_int_equal(number, first_batch + (uint64_t)++batches);
        expected[batches].inner = i + 1 < n;
        if (rand() % 2) continue;
        assert_ok(ki_share_batch(c, &err), &err);
        assert_int_equal(ki_share_batch_end(c, test_batch_undone(c, &number, &err), &err), KITH_CANCELLED);
        assert_true(c->shared);
    }
    assert_ok(ki_share_commit(c, &err), &err);
    power_note(NOTES * batches + ACKNOWLEDGED);
    assert_ok(kith_collection_hash(c, NULL, &expected[batches].hash, &err), &err);
    search_nearest(c, expected[batches].keys);
}

static void copy(kith_collection *c)
{
    power_note(NOTES * batches + COPY_BEGUN);
    kith_status status = kith_collection_sync(c, in(here, "copy.kith"), NULL, NULL, &err);
    assert_ok(status, &err);
    power_note(NOTES * batches + COPIED);
}

/* Do all that may be done, and write down what it does to the disk. */
static void record(uint64_t seed)
{
    kith_collection_options options = options_of();
    kith_fold_options fold;
    kith_collection *c;
    kith_fold_options_init(&fold);
    fold.spec = "Flat";
    srand((unsigned)seed);
    test_remove(here);
    assert_int_equal(mkdir(here, 0777), 0);
    memset(expected, 0, sizeof expected);
    batches = 0;
    first_batch = MOST_BATCHES * seed;
    assert_ok(kith_collection_create(in(here, "x.kith"), BATCH_DIM, KITH_L2SQ, &options, &c, &err), &err);
    write_batch(c);
    kith_collection_close(c);
    power_record(here);
    c = open_in(here, "x.kith");
    power_note(NOTES * batches + ACKNOWLEDGED);
    for (int steps = 8 + rand() % 8; steps > 0; steps--) {
        fold.always = rand() % 2;
        switch (rand() % 10) {
        case 0: assert_ok(kith_collection_fold(c, &fold, &err), &err); break;
        case 1: assert_ok(kith_collection_optimize(c, &fold, &err), &err); break;
        case 2:
            kith_collection_close(c);
            c = open_in(here, "x.kith");
            break;
        case 3:
        case 4: copy(c); break;
        case 5:
        case 6: write_together(c); break;
        default: write_batch(c);
        }
    }
    kith_collection_close(c);
    power_stop();
}

/* Which batch a collection shows, from..to. */
static int prove(kith_collection *c, int from, int to)
{
    uint64_t hash;
    uint64_t absolute;
    int64_t keys[K];
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    assert_ok(test_batch_number(c, &absolute, &err), &err);
    int number = (int)(absolute - first_batch);
    if (number < from || number > to) fail_msg("batch %d is there, expected %d to %d", number, from, to);
    if (expected[number].inner) fail_msg("batch %d is there without those of its commit", number);
    assert_ok(kith_collection_hash(c, NULL, &hash, &err), &err);
    assert_true(hash == expected[number].hash);
    search_nearest(c, keys);
    assert_memory_equal(keys, expected[number].keys, sizeof keys);
    return number;
}

static void prove_image(size_t t, int again)
{
    int acknowledged = power_noted(t, ACKNOWLEDGED, NOTES) / NOTES,
        begun = power_noted(t, BEGUN, NOTES) / NOTES;
    int copied = power_noted(t, COPIED, NOTES), copying = power_noted(t, COPY_BEGUN, NOTES);
    kith_collection *c = open_in(image, "x.kith");
    prove(c, acknowledged, begun > acknowledged ? begun : acknowledged);
    /* A copy that nobody was at is as it was: one in four times is enough. */
    int at_rest = copied >= 0 && copying / NOTES <= copied / NOTES;
    if (access(in(image, "copy.kith"), F_OK) != 0) {
        assert_true(copied < 0);
    } else if (!at_rest || t % 4 == 0) {
        kith_collection *b = open_in(image, "copy.kith");
        prove(b, copied < 0 ? 1 : copied / NOTES, copying / NOTES);
        kith_collection_close(b);
    }
    if (again) { /* whatever is there of a copy, it can be made whole */
        kith_copy_options options;
        kith_copy_options_init(&options);
        options.replace = 1;
        assert_ok(kith_collection_sync(c, in(image, "copy.kith"), &options, NULL, &err), &err);
        kith_collection *b = open_in(image, "copy.kith");
        prove(b, acknowledged, begun > acknowledged ? begun : acknowledged);
        kith_collection_close(b);
    }
    kith_collection_close(c);
}

static uint64_t mixed(uint64_t x)
{
    x = (x ^ (x >> 31)) * 0x9e3779b97f4a7c15u;
    return x ^ (x >> 29);
}

static size_t first_moment(void)
{
    size_t t = 0;
    while (power_noted(t, ACKNOWLEDGED, NOTES) < 0) t++;
    return t;
}

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a >> 32, y = *(const uint64_t *)b >> 32;
    return (x > y) - (x < y);
}

/* A loss at each sync of the recording, and others at moments drawn at random, until there are `wanted` images; in the order of
 * time. */
static size_t prove_recording(uint64_t seed, size_t wanted, size_t *syncs)
{
    size_t n = 0, first = first_moment(), moments = power_moments();
    uint64_t *drawn = malloc(wanted * sizeof *drawn); /* the moment, and 32 bits for all else */
    assert_non_null(drawn);
    for (size_t t = first; t < moments && n < wanted / 2; t++)
        if (power_is_sync(t))
            drawn[n++] = (uint64_t)t << 32 | (mixed(seed + t) & UINT32_MAX); /* just before it */
    *syncs += n;
    for (; n < wanted; n++) {
        uint64_t r = mixed(seed * 1000003 + n);
        drawn[n] = (first + (r >> 32) % (moments - first + 1)) << 32 | (r & UINT32_MAX);
    }
    qsort(drawn, n, sizeof *drawn, by_time);
    for (size_t i = 0; i < n; i++) {
        uint64_t r = drawn[i] & UINT32_MAX;
        power_image(drawn[i] >> 32, (power_loss)(r % POWER_LOSSES), drawn[i], image);
        prove_image(drawn[i] >> 32, r / 64 % 64 == 0);
    }
    free(drawn);
    return n;
}

static void power_fails(void **state)
{
    (void)state;
    const char *given = getenv("KITH_POWER_IMAGES");
    size_t wanted = given ? (size_t)atol(given) : 2000, done = 0, moments = 0, syncs = 0;
    size_t each = wanted / 40 > 1000 ? 1000 : wanted / 10 > 500 ? 500 : wanted / 10 + 1;
    for (uint64_t seed = test_seed(); done < wanted; seed++) {
        record(seed);
        moments += power_moments();
        done += prove_recording(seed, wanted - done < each ? wanted - done : each, &syncs);
        power_clear();
    }
    printf("%zu images, of %zu moments and at %zu syncs\n", done, moments, syncs);
}

/* The harness finds what it is for: on a disk that acknowledges syncs and does not do them, batches are lost. */
static void lost_syncs_are_found(void **state)
{
    (void)state;
    size_t lost = 0;
    for (uint64_t seed = test_seed(); seed < test_seed() + 10; seed++) {
        kith_collection_options options = options_of();
        kith_collection *c = NULL;
        uint64_t number = 0;
        record(seed);
        power_image(power_moments(), POWER_LIES, seed, image);
        int acknowledged = power_noted(power_moments(), ACKNOWLEDGED, NOTES) / NOTES;
        if (kith_collection_open(in(image, "x.kith"), &options, &c, &err) == KITH_OK &&
            test_batch_number(c, &number, &err) != KITH_OK)
            number = 0;
        kith_collection_close(c);
        lost += number < first_batch + (uint64_t)acknowledged;
        power_clear();
    }
    assert_true(lost > 5);
}

static int begin(void **state)
{
    (void)state;
    test_folder_in_memory();
    power_install();
    snprintf(here, sizeof here, "%s/here", test_folder());
    snprintf(image, sizeof image, "%s/image", test_folder());
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_fails),
        cmocka_unit_test(lost_syncs_are_found),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
