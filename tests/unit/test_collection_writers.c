/* Threads that write together (kith/writers.h): their batches are all there, in an order, in fewer commits than batches; what
 * fails, fails alone; what takes others along, the others outlive; nobody is answered from what does not get to the disk; and
 * every refusal. */
#include "collections.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/run.h"
#include "engine/engine.h"
#include "engine/writers.h"

enum { DIM = 3, THREADS = 8, BATCHES = 40 };

static kith_error err;

/* ---- One batch, and how it goes ---- */

typedef enum way { GOOD, ANSWERS, SPOILS, ROLLS_BACK, COMMITS, LOSES_ALL, TAKES_AWAY, ONCE = 16 } batch_way;

typedef struct writing {
    kith_writers *writers;
    int64_t key;               /* of two rows: this one and the next */
    int way;                   /* plus ONCE: whoever calls it a second time is refused */
    atomic_int *gate;          /* NULL, or it waits, at work, until this is not 0 */
    atomic_int begun, made;    /* how often it was called; how often by whom it was not refused */
    uint64_t version, commits; /* commits: that there were when it was answered */
    kith_status status;
    kith_error err;
} writing;

static kith_status put_two(kith_collection *c, const writing *w, kith_error *error)
{
    for (int64_t key = w->key; key < w->key + 2; key++) {
        float vector[DIM] = {(float)key};
        kith_row row = {.key = key, .payload = "{\"a\":1}", .vector = vector, .dim = DIM};
        kith_status status =
            kith_collection_put(c, KITH_ROW_PAYLOAD | KITH_ROW_VECTOR | KITH_ROW_NEW, &row, NULL, error);
        if (status != KITH_OK) return status;
    }
    return KITH_OK;
}

static kith_status change(kith_collection *c, void *ctx, kith_error *error)
{
    writing *w = ctx;
    if (atomic_fetch_add(&w->begun, 1) > 0 && (w->way & ONCE)) return KITH_UNTRAINED;
    while (w->gate && !atomic_load(w->gate)) usleep(100);
    int way = w->way & ~ONCE;
    kith_status status = way == TAKES_AWAY ? kith_collection_delete(c, w->key, error) : put_two(c, w, error);
    if (status != KITH_OK) return status;
    switch (way) {
    case GOOD:
    case TAKES_AWAY: break;
    case ANSWERS: return KITH_UNTRAINED;
    case SPOILS: ki_batch_spoil(c, KITH_NOMEM); break;
    case ROLLS_BACK: kith_collection_rollback(c); break;
    case COMMITS:
        if (kith_collection_commit(c, error) != KITH_INVALID ||
            kith_collection_begin(c, error) != KITH_INVALID)
            return KITH_INTERNAL;
        break;
    case LOSES_ALL: /* what SQLite does when it cannot go on */
        if (sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL) != SQLITE_OK) return KITH_INTERNAL;
        return kith_collection_put(c, 0, &(kith_row){.key = 1}, NULL, error);
    }
    atomic_fetch_add(&w->made, 1);
    return KITH_OK;
}

static void *write_one(void *arg)
{
    writing *w = arg;
    w->status = kith_writers_write(w->writers, change, w, &w->version, &w->err);
    kith_writers_stats stats = {.struct_size = sizeof stats};
    if (kith_writers_get_stats(w->writers, &stats, NULL) == KITH_OK) w->commits = stats.commits;
    return NULL;
}

static kith_writers_stats stats_of(kith_writers *writers)
{
    kith_writers_stats stats = {.struct_size = sizeof stats};
    assert_ok(kith_writers_get_stats(writers, &stats, &err), &err);
    return stats;
}

static uint64_t count(kith_collection *c)
{
    uint64_t rows;
    assert_ok(kith_collection_count(c, &rows, NULL, &err), &err);
    return rows;
}

/* ---- A group whose order is known ---- */

static void wait_for(kith_writers *writers, uint64_t waiting)
{
    while (stats_of(writers).waiting < waiting) usleep(100);
}

/* Writers that let all join who wait, however slow the machine is. */
static kith_writers *patient_writers(kith_collection *c)
{
    kith_writers *writers;
    assert_ok(kith_writers_create(c, &writers, &err), &err);
    ki_writers_set_group_ns(writers, UINT64_MAX);
    return writers;
}

/* The first batch waits at work until all others have asked for their turn, one behind the other. */
static void write_in_order(kith_writers *writers, writing *list, size_t n)
{
    pthread_t threads[THREADS];
    atomic_int gate = 0;
    list[0].gate = &gate;
    for (size_t i = 0; i < n; i++) {
        list[i].writers = writers;
        assert_int_equal(pthread_create(&threads[i], NULL, write_one, &list[i]), 0);
        while (i == 0 && !atomic_load(&list[0].begun)) usleep(100);
        wait_for(writers, i);
    }
    atomic_store(&gate, 1);
    for (size_t i = 0; i < n; i++) pthread_join(threads[i], NULL);
}

static void one_commit_for_all(void **state)
{
    (void)state;
    kith_collection *c = test_collection("group.kith", DIM, KITH_L2SQ), *reader;
    kith_writers *writers = patient_writers(c);
    writing list[5] = {{.key = 1}, {.key = 10}, {.key = 20}, {.key = 30}, {.key = 40}};
    write_in_order(writers, list, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_ok(list[i].status, &list[i].err);
        assert_int_equal(list[i].version, 2 * (i + 1));
    }
    kith_writers_stats stats = stats_of(writers);
    assert_int_equal(stats.batches, 5);
    assert_int_equal(stats.commits, 1);
    assert_int_equal(stats.largest, 5);
    assert_int_equal(stats.repeated, 0);
    assert_int_equal(stats.waiting, 0);
    assert_ok(kith_collection_open(test_path("group.kith"), NULL, &reader, &err), &err);
    assert_int_equal(count(reader), 10);
    assert_ok(kith_collection_check(reader, NULL, &err), &err);
    kith_collection_close(reader);
    kith_writers_free(writers);
    kith_collection_close(c);
}

/* A group takes no more when its time is over: without any, each batch has a commit of its own. */
static void groups_end(void **state)
{
    (void)state;
    kith_collection *c = test_collection("ends.kith", DIM, KITH_L2SQ);
    kith_writers *writers;
    writing list[3] = {{.key = 1}, {.key = 10}, {.key = 20}};
    assert_ok(kith_writers_create(c, &writers, &err), &err);
    ki_writers_set_group_ns(writers, 0);
    write_in_order(writers, list, 3);
    for (size_t i = 0; i < 3; i++) assert_ok(list[i].status, &list[i].err);
    assert_int_equal(stats_of(writers).commits, 3);
    assert_int_equal(stats_of(writers).largest, 1);
    kith_writers_free(writers);
    assert_int_equal(count(c), 6);
    kith_collection_close(c);
}

/* Each way of failing, in the midst of others: they are there as if it had never been. */
static void who_fails_fails_alone(void **state)
{
    (void)state;
    static const struct {
        batch_way way;
        kith_status status;
        const char *word;
    } ways[] = {{ANSWERS, KITH_UNTRAINED, "the change of a batch answered"},
                {SPOILS, KITH_NOMEM, "an earlier change of the batch failed"},
                {ROLLS_BACK, KITH_INVALID, "an earlier change of the batch failed"},
                {GOOD, KITH_EXISTS, "there is a row 10 already"}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        kith_collection *c = test_collection("alone.kith", DIM, KITH_L2SQ);
        kith_writers *writers = patient_writers(c);
        /* The first alone in its transaction, and one behind a savepoint; a last one that needs what is left to be sound. */
        writing list[5] = {{.key = 1, .way = ways[i].way},
                           {.key = 10},
                           {.key = ways[i].way == GOOD ? 9 : 20, .way = ways[i].way},
                           {.key = 30, .way = COMMITS},
                           {.key = 40}};
        write_in_order(writers, list, 5);
        for (size_t j = 0; j < 5; j++) {
            int fails = j == 2 || (j == 0 && ways[i].way != GOOD);
            if (!fails) assert_ok(list[j].status, &list[j].err);
            if (fails) assert_int_equal(list[j].status, ways[i].status);
            if (fails) assert_non_null(strstr(list[j].err.message, ways[i].word));
            assert_int_equal(list[j].begun, 1);
        }
        kith_writers_stats stats = stats_of(writers);
        assert_int_equal(stats.commits, 1);
        assert_int_equal(stats.batches, ways[i].way == GOOD ? 4 : 3);
        assert_int_equal(stats.largest, stats.batches);
        assert_int_equal(list[2].commits, 1); /* what it failed for is on the disk when it is told */
        assert_int_equal(list[4].version, 2 * stats.batches);
        kith_writers_free(writers);
        assert_int_equal(count(c), 2 * stats.batches);
        assert_int_equal(kith_collection_get(c, ways[i].way == GOOD ? 9 : 20, 0, &(kith_row){0}, &err),
                         KITH_NOTFOUND);
        assert_ok(kith_collection_check(c, NULL, &err), &err);
        kith_collection_close(c);
    }
}

/* A batch whose failure takes the transaction along: it and those before it are made again, once and each by itself. */
static void who_is_taken_along_comes_again(void **state)
{
    (void)state;
    kith_collection *c = test_collection("again.kith", DIM, KITH_L2SQ);
    kith_writers *writers = patient_writers(c);
    writing list[5] = {{.key = 1}, {.key = 10}, {.key = 20, .way = LOSES_ALL}, {.key = 30}, {.key = 40}};
    write_in_order(writers, list, 5);
    for (size_t j = 0; j < 5; j++) {
        assert_int_equal(list[j].begun, j < 3 ? 2 : 1);
        if (j != 2) assert_ok(list[j].status, &list[j].err);
        if (j != 2) assert_int_equal(list[j].version, j < 2 ? 2 * (j + 1) : 2 * j);
    }
    assert_int_equal(list[2].status, KITH_IO);
    kith_writers_stats stats = stats_of(writers);
    assert_int_equal(stats.batches, 4);
    assert_int_equal(stats.commits, 3); /* two of one batch, one of the two behind */
    assert_int_equal(stats.repeated, 3);
    kith_writers_free(writers);
    assert_int_equal(count(c), 8);
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    kith_collection_close(c);
}

/* ---- The commit fails ---- */

/* SQLite's calls of the system, with writes of the log that fail: as many as `failing` says, with `failure`. */
static atomic_int failing, failure;

static ssize_t bad_pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    if (atomic_load(&failing) == 0) return pwrite(fd, bytes, size, offset);
    atomic_fetch_sub(&failing, 1);
    errno = atomic_load(&failure);
    return -1;
}

/* With NULL: as it was. */
static void set_pwrite(ssize_t (*function)(int, const void *, size_t, off_t))
{
    static const char *const names[] = {"pwrite", "pwrite64"}; /* one of which is used */
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    for (size_t i = 0; i < 2; i++) {
        if (!vfs->xGetSystemCall(vfs, names[i])) continue;
        assert_int_equal(vfs->xSetSystemCall(vfs, names[i], (sqlite3_syscall_ptr)function), SQLITE_OK);
    }
}

/* Two that write and two that fail for what these wrote; the commit fails, by `with`. The last one's thread commits. */
static void write_and_fail(kith_collection *c, writing *list, int with)
{
    kith_writers *writers = patient_writers(c);
    writing before = {.writers = writers, .key = 5}, rows[4] = {{.key = 10, .way = ONCE},
                                                                {.key = 9},
                                                                {.key = 5, .way = TAKES_AWAY | ONCE},
                                                                {.key = 5, .way = TAKES_AWAY}};
    write_one(&before);
    assert_ok(before.status, &before.err);
    memcpy(list, rows, sizeof rows);
    atomic_store(&failure, with);
    atomic_store(&failing, 1);
    set_pwrite(bad_pwrite);
    write_in_order(writers, list, 4);
    set_pwrite(NULL);
    assert_int_equal(atomic_load(&failing), 0);
}

/* Who was refused for a row that then did not get to the disk is asked again, and so is who did not find one that was only about
 * to be deleted. */
static void nobody_is_told_what_is_not_so(void **state)
{
    (void)state;
    writing list[4];
    kith_collection *c = test_collection("told.kith", DIM, KITH_L2SQ);
    write_and_fail(c, list, ENOSPC);
    for (size_t j = 0; j < 4; j++) assert_int_equal(list[j].begun, 2);
    assert_int_equal(list[0].status, KITH_UNTRAINED); /* and so there is no row 10 */
    assert_ok(list[1].status, &list[1].err);
    assert_int_equal(list[2].status, KITH_UNTRAINED); /* and so there is a row 5 */
    assert_ok(list[3].status, &list[3].err);
    kith_writers_stats stats = stats_of(list[0].writers);
    assert_int_equal(stats.batches, 3);
    assert_int_equal(stats.commits, 3);
    assert_int_equal(stats.largest, 1);
    assert_int_equal(stats.repeated, 4);
    assert_int_equal(stats.broken, 0);
    kith_writers_free(list[0].writers);
    assert_int_equal(count(c), 3); /* 6, 9, 10 */
    assert_int_equal(kith_collection_get(c, 5, 0, &(kith_row){0}, &err), KITH_NOTFOUND);
    assert_ok(kith_collection_get(c, 9, 0, &(kith_row){0}, &err), &err);
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    kith_collection_close(c);
}

/* A disk that fails for good: nobody knows what is there, so nobody is told anything else; and how one goes on. */
static void broken_disks_are_told_to_all(void **state)
{
    (void)state;
    writing list[4], after = {.key = 20};
    kith_collection *c = test_collection("broken.kith", DIM, KITH_L2SQ);
    write_and_fail(c, list, EIO);
    for (size_t j = 0; j < 4; j++) {
        assert_int_equal(list[j].begun, 1);
        assert_int_equal(list[j].status, KITH_IO);
    }
    after.writers = list[0].writers;
    write_one(&after);
    assert_int_equal(after.status, KITH_IO);
    assert_non_null(strstr(after.err.message, "open it anew"));
    assert_int_equal(stats_of(after.writers).broken, 1);
    assert_int_equal(stats_of(after.writers).batches, 1);
    kith_writers_free(after.writers);
    kith_collection_close(c);
    assert_ok(kith_collection_open(test_path("broken.kith"), NULL, &c, &err), &err);
    after.writers = patient_writers(c);
    write_one(&after);
    assert_ok(after.status, &after.err);
    assert_int_equal(stats_of(after.writers).broken, 0);
    kith_writers_free(after.writers);
    assert_int_equal(count(c), 4); /* 5, 6, 20, 21 */
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    kith_collection_close(c);
}

/* ---- Many, in whatever order ---- */

static void *write_many(void *arg)
{
    writing *w = arg;
    uint64_t before = 0;
    for (int i = 0; i < BATCHES; i++, w->key += 2) {
        w->way = i % 7 == 3 ? ANSWERS : GOOD;
        kith_status status = kith_writers_write(w->writers, change, w, &w->version, &w->err);
        if (status != (w->way == GOOD ? KITH_OK : KITH_UNTRAINED)) w->status = status;
        if (status == KITH_OK && w->version <= before) w->status = KITH_INTERNAL;
        before = w->version;
    }
    return NULL;
}

static void many_writers(void **state)
{
    (void)state;
    kith_writers *writers;
    pthread_t threads[THREADS];
    writing list[THREADS] = {0};
    atomic_int gate = 0;
    kith_collection *c = test_collection("many.kith", DIM, KITH_L2SQ);
    assert_ok(kith_writers_create(c, &writers, &err), &err);
    for (int i = 0; i < THREADS; i++) {
        list[i].writers = writers;
        list[i].gate = &gate;
        list[i].key = 1 + 1000 * i;
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, &list[i]), 0);
    }
    wait_for(writers, THREADS - 1);
    atomic_store(&gate, 1);
    int made = 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_ok(list[i].status, &list[i].err);
        made += list[i].made;
    }
    kith_writers_stats stats = stats_of(writers);
    assert_int_equal(stats.batches, made);
    assert_true(stats.commits < stats.batches && stats.largest > 1);
    printf("%d batches in %d commits, %d in the largest\n", (int)stats.batches, (int)stats.commits,
           (int)stats.largest);
    kith_writers_free(writers);
    assert_int_equal(count(c), 2 * made);
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    kith_collection_close(c);
}

/* ---- Refused ---- */

enum { WAIT_MS = 200, TRIES = 20 };

/* Two handles of a new collection, of which the second waits for WAIT_MS. */
static kith_collection *two_handles(kith_collection **c)
{
    kith_collection *other = test_collection("busy.kith", DIM, KITH_L2SQ);
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.wait_ms = WAIT_MS;
    assert_ok(kith_collection_open(test_path("busy.kith"), &options, c, &err), &err);
    return other;
}

/* How long four wait for another handle in vain, all at once. */
static uint64_t wait_in_vain(kith_writers *writers)
{
    writing list[4] = {{.key = 1}, {.key = 10}, {.key = 20}, {.key = 30}};
    pthread_t threads[4];
    uint64_t begun = ki_now_ns();
    for (int i = 0; i < 4; i++) {
        list[i].writers = writers;
        assert_int_equal(pthread_create(&threads[i], NULL, write_one, &list[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(list[i].status, KITH_BUSY);
        assert_int_equal(list[i].begun, 0);
    }
    return (ki_now_ns() - begun) / 1000000;
}

static void others_are_waited_for(void **state)
{
    (void)state;
    kith_collection *c, *other = two_handles(&c);
    kith_writers *writers = patient_writers(c);
    writing last = {.writers = writers, .key = 1};
    assert_ok(kith_collection_begin(other, &err), &err);
    /* They wait at the same time: in turn they would take four times WAIT_MS, at any try. */
    for (int tries = 0; wait_in_vain(writers) >= 4 * WAIT_MS;)
        if (++tries == TRIES) fail_msg("those that wait for another handle wait one behind the other");
    kith_collection_rollback(other);
    write_one(&last);
    assert_ok(last.status, &last.err);
    kith_writers_free(writers);
    kith_collection_close(c);
    kith_collection_close(other);
}

/* ---- What counts as waiting ---- */

typedef struct taking {
    kith_collection *other;
    kith_status status;
    uint64_t at_ns;
} taking;

/* Behind a commit, before the writer's lock is wanted again, another handle takes it. */
static int take_lock(void *ctx, sqlite3 *db, const char *name, int pages)
{
    (void)db;
    (void)name;
    (void)pages;
    taking *t = ctx;
    t->status = kith_collection_begin(t->other, NULL);
    t->at_ns = ki_now_ns();
    return SQLITE_OK;
}

static kith_status slow_change(kith_collection *c, void *ctx, kith_error *error)
{
    writing *w = ctx;
    kith_status status = change(c, w, error);
    wait_for(w->writers, 1);
    usleep((WAIT_MS + 50) * 1000);
    return status;
}

static void *write_slowly(void *arg)
{
    writing *w = arg;
    w->status = kith_writers_write(w->writers, slow_change, w, &w->version, &w->err);
    return NULL;
}

/* Who waited for those in front of him has all of wait_ms left for another handle. */
static void own_time_does_not_count(void **state)
{
    (void)state;
    pthread_t thread;
    kith_collection *c;
    taking t = {.other = two_handles(&c)};
    kith_writers *writers = patient_writers(c);
    writing slow = {.writers = writers, .key = 1}, quick = {.writers = writers, .key = 10};
    ki_writers_set_group_ns(writers, 0);
    sqlite3_wal_hook(c->db, take_lock, &t);
    assert_int_equal(pthread_create(&thread, NULL, write_slowly, &slow), 0);
    while (!atomic_load(&slow.begun)) usleep(100);
    write_one(&quick);
    uint64_t waited = ki_now_ns() - t.at_ns;
    pthread_join(thread, NULL);
    assert_ok(slow.status, &slow.err);
    assert_int_equal(t.status, KITH_OK);
    assert_int_equal(quick.status, KITH_BUSY);
    assert_int_equal(quick.begun, 0);
    assert_true(waited >= (uint64_t)WAIT_MS * 1000000);
    sqlite3_wal_hook(c->db, NULL, NULL);
    kith_collection_rollback(t.other);
    write_one(&quick);
    assert_ok(quick.status, &quick.err);
    kith_writers_free(writers);
    kith_collection_close(c);
    kith_collection_close(t.other);
}

static void what_is_refused(void **state)
{
    (void)state;
    kith_writers *writers = (kith_writers *)&err;
    kith_writers_stats stats = {0};
    kith_collection *c = test_collection("refused.kith", DIM, KITH_L2SQ), *reader;
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.read_only = 1;
    assert_int_equal(kith_writers_create(NULL, &writers, &err), KITH_INVALID);
    assert_null(writers);
    assert_int_equal(kith_writers_create(c, NULL, &err), KITH_INVALID);
    assert_ok(kith_collection_pin(c, &err), &err);
    assert_int_equal(kith_writers_create(c, &writers, &err), KITH_INVALID);
    kith_collection_unpin(c);
    assert_ok(kith_collection_begin(c, &err), &err);
    assert_int_equal(kith_writers_create(c, &writers, &err), KITH_INVALID);
    kith_collection_rollback(c);
    assert_ok(kith_collection_open(test_path("refused.kith"), &options, &reader, &err), &err);
    assert_int_equal(kith_writers_create(reader, &writers, &err), KITH_READONLY);
    kith_collection_close(reader);
    assert_ok(kith_writers_create(c, &writers, &err), &err);
    assert_int_equal(kith_writers_write(writers, NULL, NULL, NULL, &err), KITH_INVALID);
    assert_int_equal(kith_writers_write(NULL, change, NULL, NULL, &err), KITH_INVALID);
    assert_int_equal(kith_writers_get_stats(writers, &stats, &err), KITH_INVALID);
    kith_writers_free(writers);
    kith_writers_free(NULL);
    kith_collection_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_commit_for_all),
        cmocka_unit_test(groups_end),
        cmocka_unit_test(who_fails_fails_alone),
        cmocka_unit_test(who_is_taken_along_comes_again),
        cmocka_unit_test(nobody_is_told_what_is_not_so),
        cmocka_unit_test(broken_disks_are_told_to_all),
        cmocka_unit_test(many_writers),
        cmocka_unit_test(others_are_waited_for),
        cmocka_unit_test(own_time_does_not_count),
        cmocka_unit_test(what_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
