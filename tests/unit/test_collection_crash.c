/* Kill -9 at random moments: no acknowledged batch is lost, none is there by half, and searches answer from exactly the
 * rows that are there. KITH_CRASH_ROUNDS=10000 runs it for long. */
#include "collections.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEYS 200
#define DIM 4
#define BATCH_ROWS 10

/* What the rows are after some number of batches. A batch is a function of its number, so the parent knows what each
 * should have done. */
typedef struct model {
    char exists[KEYS], has_vector[KEYS];
    uint64_t batch[KEYS]; /* that wrote the row last */
    float vector[KEYS * DIM];
} model;

static int64_t key_of(uint64_t batch, uint64_t i)
{
    return 1 + (int64_t)((batch * 31 + i * 17) % KEYS);
}

static void vector_of(uint64_t batch, int64_t key, float *vector)
{
    for (int d = 0; d < DIM; d++)
        vector[d] = (float)((batch * 37 + (uint64_t)key * (uint64_t)(d + 3)) % 1001);
}

static int deletes(uint64_t batch, uint64_t i)
{
    return (batch + i) % 6 == 0;
}

static void replay(model *m, uint64_t batch)
{
    for (uint64_t i = 0; i < BATCH_ROWS; i++) {
        int64_t key = key_of(batch, i);
        m->exists[key - 1] = m->has_vector[key - 1] = !deletes(batch, i);
        m->batch[key - 1] = batch;
        vector_of(batch, key, m->vector + (key - 1) * DIM);
    }
}

static kith_status write_batch(kith_collection *c, uint64_t batch, kith_error *err)
{
    kith_status status = kith_collection_begin(c, err);
    for (uint64_t i = 0; i < BATCH_ROWS && status == KITH_OK; i++) {
        float vector[DIM];
        char payload[64], attachment[3000];
        int64_t key = key_of(batch, i);
        if (deletes(batch, i)) {
            status = kith_collection_delete(c, key, err);
            if (status == KITH_NOTFOUND) status = KITH_OK;
            continue;
        }
        vector_of(batch, key, vector);
        memset(attachment, (int)(batch % 251), sizeof attachment);
        snprintf(payload, sizeof payload, "{\"batch\":%llu}", (unsigned long long)batch);
        kith_row row = {.key = key,
                        .payload = payload,
                        .vector = vector,
                        .dim = DIM,
                        .attachment = attachment,
                        .attachment_size = sizeof attachment};
        status = kith_collection_put(c, KITH_ROW_ALL, &row, NULL, err);
    }
    if (status == KITH_OK) status = kith_collection_meta_set(c, "batch", &batch, sizeof batch, err);
    return status == KITH_OK ? kith_collection_commit(c, err) : status;
}

/* The child: write batches, tell each number after it was acknowledged, fold and search now and then. */
static void write_until_killed(const char *path, uint64_t first, int told)
{
    kith_error err;
    kith_collection *c;
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.exact_rows = 50;
    kith_fold_options fold_options;
    kith_fold_options_init(&fold_options);
    fold_options.spec = "Flat";
    if (kith_collection_open(path, &options, &c, &err)) _exit(1);
    for (uint64_t batch = first;; batch++) {
        if (write_batch(c, batch, &err)) _exit(2);
        if (write(told, &batch, sizeof batch) != sizeof batch) _exit(3);
        if (batch % 5 == 0 && kith_collection_fold(c, &fold_options, &err)) _exit(4);
        if (batch % 11 == 0) kith_collection_optimize(c, &fold_options, &err);
    }
}

static void compare_rows(kith_collection *c, const model *m)
{
    kith_error err;
    kith_row row = {0};
    for (int64_t key = 1; key <= KEYS; key++) {
        if (!m->exists[key - 1]) continue;
        char payload[64];
        assert_ok(kith_collection_next(c, row.key, KITH_ROW_ALL, &row, &err), &err);
        assert_int_equal(row.key, key);
        snprintf(payload, sizeof payload, "{\"batch\":%llu}", (unsigned long long)m->batch[key - 1]);
        assert_string_equal(row.payload, payload);
        assert_memory_equal(row.vector, m->vector + (key - 1) * DIM, DIM * sizeof(float));
        assert_int_equal(row.attachment_size, 3000);
        assert_int_equal(((const unsigned char *)row.attachment)[2999], m->batch[key - 1] % 251);
    }
    assert_ok(kith_collection_next(c, row.key, 0, &row, &err), &err);
    assert_int_equal(row.key, 0);
}

static void compare_search(kith_collection *c, const model *m, uint64_t batch)
{
    kith_error err;
    float query[DIM], distances[10];
    int64_t keys[10], true_keys[10];
    double true_distances[10];
    vector_of(batch + 1, 77, query);
    assert_ok(kith_collection_search(c, 1, DIM, query, NULL, keys, distances, NULL, &err), &err);
    test_brute_force(m->vector, m->has_vector, KEYS, DIM, KITH_L2SQ, query, 10, true_keys, true_distances);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(keys[i], true_keys[i]);
        if (keys[i]) assert_true((double)distances[i] == true_distances[i]); /* small integers: no rounding */
    }
}

#define ROUNDS 30

static void killed_at_random_moments(void **state)
{
    (void)state;
    int rounds = (int)test_number("KITH_CRASH_ROUNDS", ROUNDS);
    kith_error err;
    char path[512];
    snprintf(path, sizeof path, "%s", test_path("crash.kith"));
    kith_collection_close(test_collection("crash.kith", DIM, KITH_L2SQ));
    model *m = calloc(1, sizeof *m);
    uint64_t done = 0, acknowledged_in_all = 0;
    srand((unsigned)test_seed());
    for (int round = 0; round < rounds; round++) {
        int told[2];
        assert_int_equal(pipe(told), 0);
        pid_t child = fork();
        if (child == 0) write_until_killed(path, done + 1, told[1]);
        close(told[1]);
        usleep((useconds_t)(5000 + rand() % 145000));
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status)); /* it did not end by an error of its own */
        uint64_t acknowledged = done, batch;
        while (read(told[0], &batch, sizeof batch) == sizeof batch) acknowledged = batch;
        close(told[0]);
        acknowledged_in_all += acknowledged - done;

        kith_collection *c;
        assert_ok(kith_collection_open(path, NULL, &c, &err), &err);
        assert_ok(kith_collection_check(c, NULL, &err), &err);
        kith_meta meta;
        kith_status found = kith_collection_meta_get(c, "batch", &meta, &err);
        uint64_t last = 0;
        if (found == KITH_OK) memcpy(&last, meta.value, sizeof last);
        assert_true(last >= acknowledged);     /* nothing acknowledged is lost */
        assert_true(last <= acknowledged + 1); /* nothing is there that was not sent */
        for (uint64_t b = done + 1; b <= last; b++) replay(m, b);
        compare_rows(c, m); /* no half batch */
        compare_search(c, m, last);
        kith_collection_close(c);
        done = last;
    }
    if (rounds != ROUNDS)
        printf("%d rounds, %llu acknowledged batches\n", rounds, (unsigned long long)acknowledged_in_all);
    assert_true(acknowledged_in_all > 0);
    free(m);
}

/* A full disk: the batch fails, nothing of it is there, what was there stays readable, and with room again it goes on.
 * A limit on the size of files stands in for the disk. */
static void a_full_disk_harms_nothing(void **state)
{
    (void)state;
    kith_error err;
    char path[512];
    snprintf(path, sizeof path, "%s", test_path("full.kith"));
    kith_collection_close(test_collection("full.kith", DIM, KITH_L2SQ));
    pid_t child = fork();
    if (child == 0) {
        kith_collection *c;
        uint64_t batch = 1, failures = 0;
        signal(SIGXFSZ, SIG_IGN);
        if (kith_collection_open(path, NULL, &c, &err)) _exit(1);
        for (; batch <= 20; batch++)
            if (write_batch(c, batch, &err)) _exit(2);
        if (kith_collection_optimize(c, NULL, &err)) _exit(3);
        struct stat info;
        if (stat(path, &info) != 0) _exit(4);
        struct rlimit limit = {(rlim_t)info.st_size + 100000, RLIM_INFINITY};
        if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(5);
        for (int tries = 0; tries < 20; tries++) {
            kith_status status = write_batch(c, batch, &err);
            if (status == KITH_OK) {
                batch++;
                continue;
            }
            if (status != KITH_IO) _exit(6);
            failures++;
            kith_collection_rollback(c);
            /* Reading goes on, in this handle or, if its commit failed, in a new one. */
            uint64_t rows;
            if (kith_collection_count(c, &rows, NULL, &err) != KITH_OK) {
                kith_collection_close(c);
                if (kith_collection_open(path, NULL, &c, &err)) _exit(7);
                if (kith_collection_count(c, &rows, NULL, &err)) _exit(8);
            }
        }
        if (failures == 0) _exit(9);
        limit.rlim_cur = RLIM_INFINITY;
        setrlimit(RLIMIT_FSIZE, &limit);
        if (kith_collection_check(c, NULL, &err)) _exit(10);
        if (write_batch(c, batch, &err)) _exit(11);
        kith_collection_close(c);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    kith_collection *c;
    kith_meta meta;
    uint64_t last;
    model *m = calloc(1, sizeof *m);
    assert_ok(kith_collection_open(path, NULL, &c, &err), &err);
    assert_ok(kith_collection_check(c, NULL, &err), &err);
    assert_ok(kith_collection_meta_get(c, "batch", &meta, &err), &err);
    memcpy(&last, meta.value, sizeof last);
    for (uint64_t batch = 1; batch <= last; batch++) replay(m, batch);
    compare_rows(c, m);
    compare_search(c, m, last);
    kith_collection_close(c);
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_random_moments),
        cmocka_unit_test(a_full_disk_harms_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
