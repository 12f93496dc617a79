/* The worker processes: tasks that crash, hang, take all memory or lie cost themselves, and nothing else. The
 * job here is none with pictures: what it does is written in the file that it gets. */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "gallery/frame.h"
#include "gallery/worker.h"

#define WORKER_SOCKET 3 /* where confine.c puts it */

/* ---- The job ---- */

static kith_status job_start(const uint8_t *setup, size_t size, void **state, kith_error *err)
{
    if (size == 4 && memcmp(setup, "fail", 4) == 0) return ki_fail(err, KITH_NOTFOUND, "no such thing");
    if (size == 3 && memcmp(setup, "die", 3) == 0) raise(SIGSEGV);
    *state = size == 4 && memcmp(setup, "full", 4) == 0 ? "full" : "";
    return KITH_OK;
}

static void spin(void)
{
    for (volatile unsigned i = 0;; i++) {
    }
}

static void lie(uint32_t kind, uint32_t status, uint32_t text, uint32_t body)
{
    ki_frame_header header = {KI_FRAME_MAGIC, kind, status, text, body};
    if (write(WORKER_SOCKET, &header, sizeof header) < 0) _exit(1);
}

/* Which of the calls that a decoder may not make went through. */
static const char *forbidden_calls(void)
{
    static char text[200];
    text[0] = 0;
    if (open("/etc/passwd", O_RDONLY) >= 0) strcat(text, " open");
    if (socket(AF_INET, SOCK_STREAM, 0) >= 0) strcat(text, " socket");
    if (socket(AF_UNIX, SOCK_STREAM, 0) >= 0) strcat(text, " unix");
    if (kill(getppid(), 0) == 0) strcat(text, " kill");
    if (fcntl(WORKER_SOCKET, F_SETOWN, getppid()) == 0) strcat(text, " owner");
    if (fcntl(WORKER_SOCKET, F_SETFL, O_ASYNC) == 0) strcat(text, " async");
    if (memfd_create("x", 0) >= 0) strcat(text, " memfd");
    if (unlink("/tmp/kith-there-is-no-such-file") < 0 && errno != EPERM) strcat(text, " unlink");
    if (prctl(PR_SET_DUMPABLE, 1) == 0) strcat(text, " prctl");
    pid_t child = fork();
    if (child == 0) _exit(0);
    if (child > 0) strcat(text, " fork");
    if (execl("/bin/true", "true", (char *)NULL) < 0 && errno != EPERM) strcat(text, " exec");
    return text;
}

static kith_status job_run(void *state, const uint8_t *request, size_t size, int fd, ki_bytes *reply,
                           kith_error *err)
{
    char order[32] = "";
    (void)state;
    if (pread(fd, order, sizeof order - 1, 0) < 0) return ki_fail_errno(err, errno, "reading");
    if (!strcmp(order, "crash")) {
        signal(SIGSEGV, SIG_DFL); /* the sanitizers' handler would talk about it */
        raise(SIGSEGV);
    }
    if (!strcmp(order, "abort")) {
        signal(SIGABRT, SIG_DFL);
        abort();
    }
    if (!strcmp(order, "exit")) _exit(7);
    if (!strcmp(order, "spin")) spin();
    if (!strcmp(order, "sleep")) pause();
    if (!strcmp(order, "bomb")) {
        for (size_t i = 0;; i++) {
            void *volatile block = malloc(1 << 20); /* volatile: an unused block may be optimised away */
            if (!block) return ki_fail(err, KITH_NOMEM, "out of memory after %zu MB", i);
        }
    }
    if (!strcmp(order, "fail")) return ki_fail(err, KITH_UNSUPPORTED, "not that\nway");
    if (!strcmp(order, "lie magic") && write(WORKER_SOCKET, "nonsense, and more than a header", 32) > 0)
        pause();
    if (!strcmp(order, "lie kind")) lie(KI_FRAME_READY, 0, 0, 0), pause();
    if (!strcmp(order, "lie status")) lie(KI_FRAME_REPLY, 99, 0, 0), pause();
    if (!strcmp(order, "lie text")) lie(KI_FRAME_REPLY, 0, 1 << 30, 0), pause();
    if (!strcmp(order, "lie body")) lie(KI_FRAME_REPLY, 0, 0, UINT32_MAX), pause();
    if (!strcmp(order, "lie short")) lie(KI_FRAME_REPLY, 0, 0, 100), _exit(0);
    if (!strcmp(order, "too much")) {
        char block[1000] = "";
        for (int i = 0; i < 100; i++) ki_bytes_put(reply, block, sizeof block);
        return KITH_OK;
    }
    if (!strcmp(order, "chatter")) { /* two answers to one question */
        lie(KI_FRAME_REPLY, 0, 0, 0);
        return KITH_OK;
    }
    if (!strcmp(order, "limits")) {
        struct rlimit core, files, written;
        getrlimit(RLIMIT_CORE, &core);
        getrlimit(RLIMIT_NOFILE, &files);
        getrlimit(RLIMIT_FSIZE, &written);
        int outside = open("/tmp/kith-worker-must-not-write", O_CREAT | O_WRONLY, 0600);
        int wrote = outside >= 0 && write(outside, "x", 1) == 1;
        unlink("/tmp/kith-worker-must-not-write");
        char text[100];
        snprintf(text, sizeof text, "core %d files %d size %d wrote %d", (int)core.rlim_cur,
                 (int)files.rlim_cur, (int)written.rlim_cur, wrote);
        ki_bytes_put(reply, text, strlen(text));
        return KITH_OK;
    }
    if (!strcmp(order, "calls")) {
        ki_bytes_put(reply, forbidden_calls(), strlen(forbidden_calls()));
        return KITH_OK;
    }
    ki_bytes_put(reply, "echo ", 5);
    ki_bytes_put(reply, request, size);
    return KITH_OK;
}

static const ki_worker_job job = {.start = job_start, .run = job_run};

/* ---- The tests ---- */

static ki_workers *make(size_t n, double seconds)
{
    kith_error err;
    ki_workers *workers;
    ki_workers_options options = {
        .job = &job, .workers = n, .seconds = seconds, .memory = 256u << 20, .max_reply = 10000};
    assert_ok(ki_workers_create(&options, &workers, &err), &err);
    assert_ok(ki_workers_setup(workers, "ok", 2, &err), &err);
    return workers;
}

static void submit(ki_workers *workers, uint64_t tag, const char *order)
{
    kith_error err;
    int fd = memfd_create("order", MFD_CLOEXEC);
    assert_true(write(fd, order, strlen(order)) == (ssize_t)strlen(order));
    assert_true(ki_workers_room(workers) > 0);
    assert_ok(ki_workers_submit(workers, tag, order, strlen(order), fd, &err), &err);
}

/* Wait for the result of `tag`; others may come before it and must be good ones. */
static kith_status result(ki_workers *workers, uint64_t tag, char text[500])
{
    for (;;) {
        kith_error err;
        ki_reply reply;
        int got;
        assert_ok(ki_workers_wait(workers, 30000, &got, &reply, &err), &err);
        assert_true(got);
        kith_status status = reply.status;
        uint64_t of = reply.tag;
        if (status == KITH_OK)
            snprintf(text, 500, "%.*s", (int)reply.size, (const char *)reply.body);
        else
            snprintf(text, 500, "%s", reply.text);
        ki_reply_clear(&reply);
        if (of == tag) return status;
        assert_int_equal(status, KITH_OK);
    }
}

static void many_tasks(void **state)
{
    (void)state;
    ki_workers *workers = make(3, 30);
    int seen[100] = {0};
    size_t next = 0, done = 0;
    while (done < 100) {
        kith_error err;
        while (next < 100 && ki_workers_room(workers) > 0) submit(workers, next++, "hello");
        ki_reply reply;
        int got;
        assert_ok(ki_workers_wait(workers, -1, &got, &reply, &err), &err);
        assert_true(got);
        assert_int_equal(reply.status, KITH_OK);
        assert_int_equal(reply.size, 10);
        assert_memory_equal(reply.body, "echo hello", 10);
        seen[reply.tag]++;
        done++;
        ki_reply_clear(&reply);
    }
    for (int i = 0; i < 100; i++) assert_int_equal(seen[i], 1);
    kith_error err;
    ki_reply reply;
    int got = 1;
    assert_ok(ki_workers_wait(workers, 10, &got, &reply, &err), &err);
    assert_int_equal(got, 0);
    ki_workers_free(workers);
}

static void a_failure_is_a_result(void **state)
{
    (void)state;
    ki_workers *workers = make(1, 30);
    char text[500];
    submit(workers, 1, "fail");
    assert_int_equal(result(workers, 1, text), KITH_UNSUPPORTED);
    assert_string_equal(text, "not that?way");
    submit(workers, 2, "limits");
    assert_int_equal(result(workers, 2, text), KITH_OK);
    assert_string_equal(text, "core 0 files 32 size 0 wrote 0");
    ki_workers_free(workers);
}

/* What goes wrong, and how its reason begins. */
static void a_bad_task_costs_itself(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"crash", "the decoder crashed (signal 11"},
        {"abort", "the decoder crashed (signal 6"},
        {"exit", "the decoder ended with status 7"},
        {"spin", "decoding took longer than 1 s"},
        {"sleep", "decoding took longer than 1 s"},
        {"lie magic", "the decoder answered nonsense"},
        {"lie kind", "the decoder answered nonsense"},
        {"lie status", "the decoder answered nonsense"},
        {"lie text", "the decoder answered nonsense"},
        {"lie body", "the decoder answered nonsense"},
        {"lie short", "the decoder ended with status 0"},
        {"too much", "a result of 100000 bytes, allowed 10000"},
    };
    ki_workers *workers = make(2, 1);
    char text[500];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        submit(workers, 1, "before");
        submit(workers, 2, cases[i][0]);
        submit(workers, 3, "behind");
        submit(workers, 4, "behind");
        kith_status status = result(workers, 2, text);
        assert_int_not_equal(status, KITH_OK);
        if (strncmp(text, cases[i][1], strlen(cases[i][1])) != 0)
            fail_msg("%s: \"%s\" instead of \"%s...\"", cases[i][0], text, cases[i][1]);
        while (ki_workers_busy(workers) > 0) { /* the others were not harmed */
            kith_error err;
            ki_reply reply;
            int got;
            assert_ok(ki_workers_wait(workers, 30000, &got, &reply, &err), &err);
            assert_true(got);
            assert_int_equal(reply.status, KITH_OK);
            ki_reply_clear(&reply);
        }
    }
    ki_workers_free(workers);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static void memory_is_bounded(void **state)
{
    (void)state;
    ki_workers *workers = make(1, 30);
    char text[500];
    submit(workers, 1, "bomb");
    assert_int_equal(result(workers, 1, text), KITH_NOMEM);
    int megabytes = atoi(text + strlen("out of memory after "));
    assert_in_range(megabytes, 100, 260);
    ki_workers_free(workers);
}

static void calls_are_bounded(void **state)
{
    (void)state;
    ki_workers *workers = make(1, 30);
    char text[500];
    submit(workers, 1, "calls");
    assert_int_equal(result(workers, 1, text), KITH_OK);
    assert_string_equal(text, "");
    ki_workers_free(workers);
}
#endif

/* An answer to a question that was not asked counts for nobody: its worker is replaced. */
static void unasked_answers_are_dropped(void **state)
{
    (void)state;
    ki_workers *workers = make(1, 30);
    char text[500];
    submit(workers, 1, "chatter");
    assert_int_equal(result(workers, 1, text), KITH_OK);
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL); /* the second answer is there */
    for (int i = 0; i < 3; i++) {
        submit(workers, 5, "fine");
        kith_status status = result(workers, 5, text);
        if (status == KITH_OK && strcmp(text, "echo fine") == 0) {
            ki_workers_free(workers);
            return;
        }
    }
    fail_msg("no good answer any more");
}

/* A worker that is killed from outside: its task is done by another. */
static void a_killed_worker_costs_nothing(void **state)
{
    (void)state;
    ki_workers *workers = make(1, 30);
    char text[500];
    submit(workers, 1, "sleep");
    kith_error err;
    ki_reply reply;
    int got;
    assert_ok(ki_workers_wait(workers, 100, &got, &reply, &err), &err);
    assert_int_equal(got, 0);
    int pid = ki_workers_pid(workers, 0);
    assert_true(pid > 0);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_ok(ki_workers_wait(workers, 300, &got, &reply, &err), &err);
    assert_int_equal(got, 0); /* it sleeps again, in a new one */
    assert_int_not_equal(ki_workers_pid(workers, 0), pid);
    kill(ki_workers_pid(workers, 0), SIGKILL);
    assert_int_equal(result(workers, 1, text), KITH_CORRUPT);
    assert_non_null(strstr(text, "signal 9"));
    ki_workers_free(workers);
}

static void a_bad_start_is_told(void **state)
{
    (void)state;
    ki_workers *workers = make(2, 5);
    kith_error err;
    char text[500];
    assert_int_equal(ki_workers_setup(workers, "fail", 4, &err), KITH_NOTFOUND);
    assert_string_equal(err.message, "no such thing");
    assert_int_equal(ki_workers_setup(workers, "die", 3, &err), KITH_INTERNAL);
    assert_ok(ki_workers_setup(workers, "ok", 2, &err), &err);
    submit(workers, 1, "hello");
    assert_int_equal(result(workers, 1, text), KITH_OK);
    ki_workers_free(workers);
}

static void tasks_can_be_abandoned(void **state)
{
    (void)state;
    ki_workers *workers = make(2, 30);
    kith_error err;
    char text[500];
    for (uint64_t i = 0; i < 4; i++) submit(workers, i, "sleep");
    assert_int_equal(ki_workers_room(workers), 0);
    assert_ok(ki_workers_abandon(workers, &err), &err);
    assert_int_equal(ki_workers_busy(workers), 0);
    submit(workers, 9, "hello");
    assert_int_equal(result(workers, 9, text), KITH_OK);
    ki_workers_free(workers);
}

static int alive(int pid)
{
    char path[64], line[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (!fgets(line, sizeof line, file)) line[0] = 0;
    fclose(file);
    const char *end = strrchr(line, ')');
    return end && end[2] != 'Z' && end[2] != 'X';
}

/* When the program is killed, nothing of it stays behind. */
static void workers_die_with_the_program(void **state)
{
    (void)state;
    int report[2];
    assert_int_equal(pipe(report), 0);
    pid_t program = fork();
    if (program == 0) {
        ki_workers *workers = make(2, 300);
        for (uint64_t i = 0; i < 4; i++) submit(workers, i, "spin");
        int pids[2] = {ki_workers_pid(workers, 0), ki_workers_pid(workers, 1)};
        if (write(report[1], pids, sizeof pids) != sizeof pids) _exit(1);
        pause();
        _exit(0);
    }
    close(report[1]);
    int pids[2];
    assert_int_equal(read(report[0], pids, sizeof pids), (int)sizeof pids);
    close(report[0]);
    assert_true(alive(pids[0]) && alive(pids[1]));
    kill(program, SIGKILL);
    waitpid(program, NULL, 0);
    for (int i = 0; i < 100 && (alive(pids[0]) || alive(pids[1])); i++)
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    assert_false(alive(pids[0]));
    assert_false(alive(pids[1]));
}

/* ---- Frames ---- */

static void frames_come_in_pieces(void **state)
{
    (void)state;
    uint8_t wire[200];
    ki_frame_header header = {KI_FRAME_MAGIC, KI_FRAME_REPLY, KITH_CORRUPT, 5, 11};
    memcpy(wire, &header, sizeof header);
    memcpy(wire + sizeof header,
           "w\x01rds"
           "hello world",
           16);
    size_t size = sizeof header + 16;
    for (size_t piece = 1; piece <= size; piece++) {
        ki_frame_reader reader;
        kith_error err;
        void *into;
        size_t at = 0, wanted;
        ki_frame_reader_init(&reader, KI_FRAME_REPLY, 100, NULL);
        while ((wanted = ki_frame_wanted(&reader, &into)) > 0) {
            size_t n = wanted < piece ? wanted : piece;
            assert_true(at + n <= size);
            memcpy(into, wire + at, n);
            at += n;
            assert_ok(ki_frame_took(&reader, n, &err), &err);
        }
        assert_int_equal(at, size);
        assert_string_equal(ki_frame_text(&reader), "w?rds");
        assert_memory_equal(ki_frame_body(&reader), "hello world", 11);
        ki_frame_reader_clear(&reader);
    }
}

static void frames_are_bounded(void **state)
{
    (void)state;
    const ki_frame_header good = {KI_FRAME_MAGIC, KI_FRAME_REPLY, 0, KI_FRAME_MAX_TEXT, 100};
    kith_error err;
    assert_ok(ki_frame_check(&good, KI_FRAME_REPLY, 100, &err), &err);
    ki_frame_header bad[5] = {good, good, good, good, good};
    bad[0].magic++;
    bad[1].kind++;
    bad[2].status = KITH_INTERNAL + 1;
    bad[3].text_size++;
    bad[4].body_size++;
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(ki_frame_check(&bad[i], KI_FRAME_REPLY, 100, &err), KITH_CORRUPT);
}

static void bytes_are_read_within_bounds(void **state)
{
    (void)state;
    ki_bytes bytes = {0};
    uint32_t number = 7, out;
    size_t n;
    ki_bytes_put(&bytes, &number, sizeof number);
    ki_bytes_put_block(&bytes, "abc", 3);
    ki_bytes_put_block(&bytes, NULL, 0);
    for (size_t size = 0; size <= bytes.size; size++) {
        ki_bytes_reader reader = {.at = bytes.data, .left = size};
        ki_bytes_take(&reader, &out, sizeof out);
        const uint8_t *block = ki_bytes_take_block(&reader, &n);
        if (size >= 11) assert_memory_equal(block, "abc", 3);
        ki_bytes_take_block(&reader, &n);
        assert_int_equal(n, 0);
        assert_int_equal(reader.failed, size < bytes.size);
    }
    ki_bytes_clear(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_in_pieces),
        cmocka_unit_test(frames_are_bounded),
        cmocka_unit_test(bytes_are_read_within_bounds),
        cmocka_unit_test(many_tasks),
        cmocka_unit_test(a_failure_is_a_result),
        cmocka_unit_test(a_bad_task_costs_itself),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(calls_are_bounded),
#endif
        cmocka_unit_test(unasked_answers_are_dropped),
        cmocka_unit_test(a_killed_worker_costs_nothing),
        cmocka_unit_test(a_bad_start_is_told),
        cmocka_unit_test(tasks_can_be_abandoned),
        cmocka_unit_test(workers_die_with_the_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
