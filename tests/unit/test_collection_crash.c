/* Kill -9 at random moments, of a writer and of one that folds, tunes, works in the log, copies and restores: no acknowledged batch is
 * lost, none is there by half, of one writer or of several threads that share their commits; copies are whole, and searches answer from exactly the rows that are there. Readers and writers killed
 * while the others go on. A disk that is full.
 *
 * Batches are functions of their numbers (support/batches.h), so a collection that was never killed, the shadow, says what each
 * of them should have left.
 *
 * KITH_CRASH_ROUNDS=10000 kills so often, the suite 200 times (50 under AddressSanitizer, where starting a process is dear);
 * KITH_TURN_ROUNDS=1000 for the kills by turns, of which the suite has 20. */
#include "batches.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <kith/copies.h>
#include <kith/writers.h>

#include "base/run.h"

#ifdef __SANITIZE_ADDRESS__
#define ROUNDS 50
#else
#define ROUNDS 200
#endif

enum { K = 10, SHARERS = 4 /* threads that write together */ };

static char path[512], copy_path[512], restored_path[512];
static kith_error err;

static kith_collection *open_rows(const char *name)
{
    kith_collection *c;
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.exact_rows = 20;
    options.wait_ms = 60000;
    assert_ok(kith_collection_open(name, &options, &c, &err), &err);
    return c;
}

static uint64_t hash_of(kith_collection *c)
{
    uint64_t hash;
    assert_ok(kith_collection_hash(c, NULL, &hash, &err), &err);
    return hash;
}

/* ---- What should be there ---- */

static struct {
    kith_collection *c;
    uint64_t done;    /* the last batch */
    uint64_t *hashes; /* [done + 1], behind each batch */
    size_t room;
} shadow;

static void shadow_follow(uint64_t batch)
{
    while (shadow.done < batch) {
        assert_ok(test_batch(shadow.c, ++shadow.done, &err), &err);
        if (shadow.done >= shadow.room) {
            shadow.room = 2 * shadow.room + 1024;
            shadow.hashes = realloc(shadow.hashes, shadow.room * sizeof *shadow.hashes);
            assert_non_null(shadow.hashes);
        }
        shadow.hashes[shadow.done] = hash_of(shadow.c);
    }
}

static void shadow_begin(void)
{
    shadow.c = test_collection("shadow.kith", BATCH_DIM, KITH_L2SQ);
    shadow.done = 0;
    shadow_follow(1);
}

static void shadow_end(void)
{
    kith_collection_close(shadow.c);
    free(shadow.hashes);
    memset(&shadow, 0, sizeof shadow);
}

/* A new collection with the first batch. */
static void begin_rows(const char *name)
{
    snprintf(path, sizeof path, "%s", test_path(name));
    kith_collection *c = test_collection(name, BATCH_DIM, KITH_L2SQ);
    assert_ok(test_batch(c, 1, &err), &err);
    kith_collection_close(c);
}

/* ---- Comparing ---- */

static size_t wanted_rows, found_rows; /* by searches that may use a segment */

static kith_status ask(kith_collection *c, int kind, int exact, uint64_t drawn, int64_t *keys,
                       float *distances)
{
    static const char *const partition = BATCH_PARTITION;
    float vector[BATCH_DIM];
    size_t dim = kind == 1 ? BATCH_FIELD_DIM : BATCH_DIM;
    kith_collection_query query;
    kith_collection_query_init(&query);
    test_batch_query(drawn, dim, vector);
    query.exact = exact;
    if (kind == 1) query.field = BATCH_FIELD;
    if (kind == 2) query.partitions = &partition;
    if (kind == 2) query.n_partitions = 1;
    if (kind == 3) query.expression = "batch % 3 == 1";
    return kith_collection_search(c, 1, dim, vector, &query, keys, distances, NULL, &err);
}

/* What is found exactly is what the shadow finds; what a segment finds is counted. */
static void compare_answers(kith_collection *c, uint64_t drawn)
{
    for (int kind = 0; kind < 4; kind++) {
        int64_t keys[K], true_keys[K];
        float distances[K], true_distances[K];
        kith_status status = ask(shadow.c, kind, 1, drawn, true_keys, true_distances);
        assert_int_equal(ask(c, kind, 1, drawn, keys, distances), status);
        if (status != KITH_OK) {
            assert_int_equal(status, KITH_NOTFOUND); /* the field, the partition: gone */
            continue;
        }
        assert_memory_equal(keys, true_keys, sizeof keys);
        assert_memory_equal(distances, true_distances, sizeof distances);
        assert_ok(ask(c, kind, 0, drawn, keys, distances), &err);
        for (int i = 0; i < K && true_keys[i]; i++) {
            wanted_rows++;
            found_rows += keys[i] != 0 && distances[i] <= true_distances[K - 1];
        }
    }
}

/* The exact answers, computed from the rows as they are read. */
static void compare_with_plain_loops(kith_collection *c, uint64_t drawn)
{
    static float x[BATCH_KEYS * BATCH_DIM];
    char there[BATCH_KEYS] = {0};
    float vector[BATCH_DIM], distances[K];
    int64_t keys[K], true_keys[K];
    double true_distances[K];
    kith_row row = {0};
    for (;;) {
        assert_ok(kith_collection_next(c, row.key, KITH_ROW_VECTOR, &row, &err), &err);
        if (!row.key) break;
        if (!row.vector) continue;
        assert_true(row.key <= BATCH_KEYS);
        memcpy(x + (row.key - 1) * BATCH_DIM, row.vector, BATCH_DIM * sizeof *x);
        there[row.key - 1] = 1;
    }
    test_batch_query(drawn, BATCH_DIM, vector);
    test_brute_force(x, there, BATCH_KEYS, BATCH_DIM, KITH_L2SQ, vector, K, true_keys, true_distances);
    assert_ok(ask(c, 0, 1, drawn, keys, distances), &err);
    for (int i = 0; i < K; i++) {
        assert_int_equal(keys[i], true_keys[i]);
        if (keys[i]) assert_true((double)distances[i] == true_distances[i]);
    }
}

/* A collection, closed, is sound and shows the state behind one of the batches from..to; returns which. */
static uint64_t prove_state(const char *name, uint64_t from, uint64_t to)
{
    uint64_t number;
    kith_collection *c = open_rows(name);
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    assert_ok(test_batch_number(c, &number, &err), &err);
    if (number < from || number > to)
        fail_msg("%s: batch %llu is there, expected %llu to %llu", name, (unsigned long long)number,
                 (unsigned long long)from, (unsigned long long)to);
    shadow_follow(number);
    assert_true(hash_of(c) == shadow.hashes[number]);
    kith_collection_close(c);
    return number;
}

/* A collection is as the shadow is, attachments and answers as well. */
static void compare_with_shadow(uint64_t drawn)
{
    kith_difference d = {.struct_size = sizeof d};
    kith_compare_options options;
    kith_compare_options_init(&options);
    options.everything = 1;
    kith_collection *c = open_rows(path);
    assert_ok(kith_collection_compare(c, shadow.c, &options, &d, &err), &err);
    if (d.different) fail_msg("row %lld: %s is %s and %s", (long long)d.key, d.field, d.first, d.second);
    compare_answers(c, drawn);
    if (drawn % 16 == 0) compare_with_plain_loops(c, drawn);
    kith_collection_close(c);
}

/* ---- The processes ---- */

static void child_fails(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, err.message);
    _exit(1);
}

static void child_open(kith_collection **c)
{
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.exact_rows = 20;
    options.wait_ms = 60000;
    if (kith_collection_open(path, &options, c, &err)) child_fails("open");
}

static void child_fold(kith_collection *c, uint64_t turn)
{
    static const char *const specs[] = {"Flat", NULL, "IVF4,Flat"};
    kith_fold_options options;
    kith_fold_plan plan = {.struct_size = sizeof plan};
    kith_fold_options_init(&options);
    options.spec = specs[turn % 3];
    options.always = turn % 3 != 2 && turn / 3 % 2;
    if (kith_collection_plan_fold(c, &options, &plan, &err)) child_fails("plan");
    kith_status status =
        turn % 4 ? kith_collection_fold(c, &options, &err) : kith_collection_optimize(c, &options, &err);
    if (status != KITH_OK && status != KITH_BUSY) child_fails("fold");
}

/* Tell the number of each batch when it was acknowledged. */
static void write_until_killed(uint64_t first, int told)
{
    kith_collection *c;
    child_open(&c);
    for (uint64_t batch = first;; batch++) {
        if (test_batch(c, batch, &err)) child_fails("batch");
        if (write(told, &batch, sizeof batch) != sizeof batch) child_fails("pipe");
        if (batch % 9 == 0) child_fold(c, batch / 9);
    }
}

/* What a sharer does: batches one behind the other, whichever thread's; each fifth fails in the end. */
typedef struct sharing {
    kith_writers *writers;
    int told;
} sharing;

static void *share_until_killed(void *arg)
{
    const sharing *s = arg;
    kith_error own;
    for (unsigned turn = 0;; turn++) {
        uint64_t number;
        int undone = turn % 5 == 4;
        kith_status status =
            kith_writers_write(s->writers, undone ? test_batch_undone : test_batch_next, &number, NULL, &own);
        if (status != (undone ? KITH_CANCELLED : KITH_OK)) {
            fprintf(stderr, "write together: %s\n", own.message);
            _exit(1);
        }
        if (!undone && write(s->told, &number, sizeof number) != sizeof number) _exit(1);
    }
    return NULL;
}

static void write_together_until_killed(uint64_t unused, int told)
{
    (void)unused;
    kith_collection *c;
    sharing s = {.told = told};
    pthread_t threads[SHARERS];
    child_open(&c);
    if (kith_writers_create(c, &s.writers, &err)) child_fails("writers");
    for (int i = 0; i < SHARERS; i++)
        if (pthread_create(&threads[i], NULL, share_until_killed, &s) != 0) _exit(1);
    pthread_join(threads[0], NULL);
}

static void child_tune(kith_collection *c)
{
    kith_collection_tune_options options;
    kith_collection_tune_options_init(&options);
    options.queries = 5;
    options.k = 3;
    kith_status status = kith_collection_tune(c, &options, NULL, &err);
    if (status != KITH_OK && status != KITH_UNTRAINED && status != KITH_BUSY) child_fails("tune");
}

/* Fold, tune, and make copies; tell the number of the batch that a copy is known to have. */
static void keep_until_killed(uint64_t turn, int told)
{
    uint64_t number;
    kith_collection *c;
    kith_copy_options options;
    kith_copy_options_init(&options);
    options.replace = 1;
    child_open(&c);
    for (;; turn++) {
        if (turn % 2) child_fold(c, turn / 2);
        if (turn % 8 == 5) child_tune(c);
        if (kith_collection_pin(c, &err)) child_fails("pin");
        if (test_batch_number(c, &number, &err)) child_fails("number");
        if (kith_collection_sync(c, copy_path, &options, NULL, &err)) child_fails("sync");
        kith_collection_unpin(c);
        if (write(told, &number, sizeof number) != sizeof number) child_fails("pipe");
        if (turn % 3 == 0 && kith_collection_restore(copy_path, restored_path, &options, NULL, &err))
            child_fails("restore");
    }
}

typedef struct worker {
    pid_t pid;
    int told;
} worker;

static worker start(void (*work)(uint64_t, int), uint64_t number)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    worker w = {.pid = fork(), .told = ends[0]};
    assert_true(w.pid >= 0);
    if (w.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        work(number, ends[1]);
    }
    close(ends[1]);
    return w;
}

static void stop(const worker *w)
{
    int status;
    kill(w->pid, SIGKILL);
    waitpid(w->pid, &status, 0);
    assert_true(WIFSIGNALED(status)); /* it did not end by an error of its own */
}

/* The last number told; of threads that write together the highest. */
static uint64_t listen_to(const worker *w, uint64_t before)
{
    uint64_t number;
    while (read(w->told, &number, sizeof number) == sizeof number) before = number > before ? number : before;
    close(w->told);
    return before;
}

/* How long an opening and a batch take here, microseconds: kills come at random in a multiple of that. */
static uint64_t work_time(void)
{
    uint64_t begin = ki_now_ns();
    kith_collection *c = open_rows(path);
    shadow_follow(3);
    for (uint64_t batch = 2; batch <= 3; batch++) assert_ok(test_batch(c, batch, &err), &err);
    kith_collection_close(c);
    return (ki_now_ns() - begin) / 1000 + 500;
}

static void sleep_random(uint64_t most_us)
{
    usleep((useconds_t)((uint64_t)rand() % most_us));
}

/* ---- Killed at random moments ---- */

/* A copy that whatever was killed left behind: whole or not there; now and then it is made whole, or thrown away. */
static uint64_t prove_copy(uint64_t copied, uint64_t last, int round)
{
    int there = access(copy_path, F_OK) == 0;
    assert_true(there || copied == 0);
    if (there && round % 2) copied = prove_state(copy_path, copied, last);
    if (access(restored_path, F_OK) == 0 && round % 4 == 2) prove_state(restored_path, 1, last);
    if (round % 16 == 7) {
        kith_copy_options options;
        kith_copy_options_init(&options);
        options.replace = 1;
        kith_collection *c = open_rows(path);
        assert_ok(kith_collection_sync(c, copy_path, &options, NULL, &err), &err);
        kith_collection_close(c);
        copied = prove_state(copy_path, last, last);
    }
    if (round % 40 == 23) {
        test_collection_remove(copy_path);
        test_collection_remove(restored_path);
        copied = 0;
    }
    return copied;
}

static void killed_at_random_moments(void **state)
{
    (void)state;
    int rounds = (int)test_number("KITH_CRASH_ROUNDS", ROUNDS);
    uint64_t acknowledged_in_all = 0, copied = 0, copies = 0, unacknowledged = 0, shared = 0;
    begin_rows("crash.kith");
    shadow_begin();
    uint64_t last = 3, window = 3 * work_time();
    srand((unsigned)test_seed());
    for (int round = 0; round < rounds; round++) {
        worker keeper = start(keep_until_killed, (uint64_t)round);
        int together = round % 3 == 2; /* not in step with what the parity decides */
        worker writer = start(together ? write_together_until_killed : write_until_killed, last + 1);
        sleep_random(window);
        stop(round % 2 ? &keeper : &writer);
        sleep_random(window / 4);
        stop(round % 2 ? &writer : &keeper);
        uint64_t acknowledged = listen_to(&writer, last), copied_now = listen_to(&keeper, copied);
        acknowledged_in_all += acknowledged - last;
        copies += copied_now != copied;
        if (together) shared += acknowledged - last;
        last = prove_state(path, acknowledged, acknowledged + (together ? SHARERS : 1));
        unacknowledged += last - acknowledged;
        if (round % 4 == 0) compare_with_shadow((uint64_t)round);
        copied = prove_copy(copied_now, last, round);
    }
    printf(
        "%d rounds, %llu writes acknowledged in %llu batches, %llu of these written together, %llu batches "
        "there unasked, copies in %llu rounds, recall %.4f of %zu\n",
        rounds, (unsigned long long)acknowledged_in_all * BATCH_CHANGES,
        (unsigned long long)acknowledged_in_all, (unsigned long long)shared,
        (unsigned long long)unacknowledged, (unsigned long long)copies,
        (double)found_rows / (double)wanted_rows, wanted_rows);
    assert_true(acknowledged_in_all > (uint64_t)rounds / 4);
    assert_true((double)found_rows >= 0.95 * (double)wanted_rows);
    shadow_end();
}

/* ---- Killed by turns ---- */

enum { WRITER, KEEPER, READER, WORKERS = 5 };

/* What the processes tell each other. */
static struct board {
    _Atomic uint64_t steps[WORKERS], acknowledged;
} * board;

static void writes(kith_collection *c)
{
    uint64_t number;
    if (test_batch_number(c, &number, &err)) child_fails("number");
    for (;;) {
        if (test_batch(c, ++number, &err)) child_fails("batch");
        board->acknowledged = number;
        board->steps[WRITER]++;
        usleep(3000); /* the disk is memory here, and the shadow has to follow */
    }
}

static void keeps(kith_collection *c)
{
    kith_copy_options options;
    kith_copy_options_init(&options);
    options.replace = 1;
    for (;; board->steps[KEEPER]++) {
        child_fold(c, board->steps[KEEPER]);
        if (kith_collection_sync(c, copy_path, &options, NULL, &err)) child_fails("sync");
    }
}

/* Every state that is seen is whole, and none is older than what was acknowledged before it was looked for. */
static void reads(kith_collection *c, int me)
{
    uint64_t before = 0, number, rows;
    for (;; board->steps[me]++) {
        int64_t keys[K];
        float distances[K];
        uint64_t seen = 0, acknowledged = board->acknowledged;
        kith_row row = {0};
        if (kith_collection_pin(c, &err) || test_batch_number(c, &number, &err)) child_fails("number");
        if (number < before || number < acknowledged) child_fails("a batch is lost");
        before = number;
        if (kith_collection_count(c, &rows, NULL, &err)) child_fails("count");
        do {
            if (kith_collection_next(c, row.key, 0, &row, &err)) child_fails("next");
            seen += row.key != 0;
        } while (row.key);
        if (seen > rows || seen + BATCH_KEYS / 2 < rows)
            child_fails("rows are missing"); /* some are expired */
        if (ask(c, 0, (int)(number % 2), number, keys, distances)) child_fails("search");
        kith_collection_unpin(c);
        if (board->steps[me] % 8 == 0 && kith_collection_check(c, NULL, &err)) child_fails("check");
    }
}

static pid_t start_worker(int i)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0) return pid;
    kith_collection *c;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    child_open(&c);
    if (i == WRITER) writes(c);
    if (i == KEEPER) keeps(c);
    reads(c, i);
    _exit(2);
}

static void killed_by_turns(void **state)
{
    (void)state;
    size_t rounds = test_number("KITH_TURN_ROUNDS", 20);
    pid_t workers[WORKERS];
    uint64_t number;
    begin_rows("turns.kith");
    shadow_begin();
    test_collection_remove(copy_path);
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(board != MAP_FAILED);
    board->acknowledged = 1;
    for (int i = 0; i < WORKERS; i++) workers[i] = start_worker(i);
    for (size_t round = 0; round < rounds; round++) {
        uint64_t steps[WORKERS];
        int killed = rand() % WORKERS, status;
        sleep_random(4000);
        kill(workers[killed], SIGKILL);
        for (int i = 0; i < WORKERS; i++) steps[i] = board->steps[i];
        assert_int_equal(waitpid(workers[killed], &status, 0), workers[killed]);
        assert_true(WIFSIGNALED(status));
        /* The others go on, each of them. */
        uint64_t begin = ki_now_ns();
        for (int i = 0; i < WORKERS; i++) {
            while (i != killed && board->steps[i] < steps[i] + 2) {
                assert_int_equal(waitpid(workers[i], &status, WNOHANG), 0);
                if (ki_now_ns() - begin > 120000000000u)
                    fail_msg("worker %d waits for %d, which is dead", i, killed);
                usleep(500);
            }
        }
        workers[killed] = start_worker(killed);
    }
    for (int i = 0; i < WORKERS; i++) {
        int status;
        kill(workers[i], SIGKILL);
        waitpid(workers[i], &status, 0);
        assert_true(WIFSIGNALED(status));
    }
    number = prove_state(path, board->acknowledged, board->acknowledged + 1);
    compare_with_shadow(16);
    if (access(copy_path, F_OK) == 0) prove_state(copy_path, 1, number);
    printf("%zu kills by turns, %llu batches, %llu and %llu states read\n", rounds,
           (unsigned long long)number, (unsigned long long)board->steps[READER],
           (unsigned long long)board->steps[READER + 1]);
    munmap(board, sizeof *board);
    shadow_end();
}

/* ---- A full disk ---- */

static void fill_the_disk(uint64_t number, int told)
{
    (void)told;
    kith_collection *c;
    uint64_t failures = 0;
    signal(SIGXFSZ, SIG_IGN);
    child_open(&c);
    for (; number <= 20; number++)
        if (test_batch(c, number, &err)) _exit(2);
    if (kith_collection_optimize(c, NULL, &err)) _exit(3);
    struct stat info;
    if (stat(path, &info) != 0) _exit(4);
    struct rlimit limit = {(rlim_t)info.st_size + 100000, RLIM_INFINITY};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(5);
    for (int tries = 0; tries < 20; tries++) {
        kith_status status = test_batch(c, number, &err);
        if (status == KITH_OK) {
            number++;
            continue;
        }
        if (status != KITH_IO) _exit(6);
        failures++;
        /* Reading goes on, in this handle or, if its commit failed, in a new one. */
        uint64_t rows;
        if (kith_collection_count(c, &rows, NULL, &err) != KITH_OK) {
            kith_collection_close(c);
            child_open(&c);
            if (kith_collection_count(c, &rows, NULL, &err)) _exit(8);
        }
    }
    if (failures == 0) _exit(9);
    limit.rlim_cur = RLIM_INFINITY;
    setrlimit(RLIMIT_FSIZE, &limit);
    if (kith_collection_check(c, NULL, &err)) _exit(10);
    if (test_batch(c, number, &err)) _exit(11);
    kith_collection_close(c);
    _exit(0);
}

/* A full disk: the batch fails, nothing of it is there, what was there stays readable, and with room again it goes on.
 * A limit on the size of files stands in for the disk. */
static void a_full_disk_harms_nothing(void **state)
{
    (void)state;
    int status;
    begin_rows("full.kith");
    shadow_begin();
    worker w = start(fill_the_disk, 2);
    waitpid(w.pid, &status, 0);
    close(w.told);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    shadow_follow(prove_state(path, 21, 100));
    compare_with_shadow(16);
    shadow_end();
}

static int begin(void **state)
{
    (void)state;
    test_folder_in_memory(); /* what a killed process wrote stays with the kernel, whatever the file system */
    snprintf(copy_path, sizeof copy_path, "%s", test_path("copy.kith"));
    snprintf(restored_path, sizeof restored_path, "%s", test_path("restored.kith"));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_random_moments),
        cmocka_unit_test(killed_by_turns),
        cmocka_unit_test(a_full_disk_harms_nothing),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
