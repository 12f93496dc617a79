#include "gallery/worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/run.h"
#include "gallery/confine.h"

#define DEPTH 2              /* tasks that a worker has: one under way, one waiting in its socket */
#define ATTEMPTS 2           /* workers that a task may kill */
#define START_FAILURES 3     /* in a row, then starting is given up */
#define TICK_MS 250          /* how often the clocks of the tasks are looked at */
#define LONGEST_TICK_MS 1000 /* more than this between two looks: the program itself stood still */
#define SEND_SECONDS 10      /* a worker that does not read for so long is as good as dead */
#define GRACE_MS 500         /* between the end of a worker's socket and its end */

typedef struct task {
    uint64_t tag;
    uint8_t *request;
    size_t size;
    int fd;
    int attempts;
} task;

typedef struct worker {
    int fd; /* -1: does not run */
    pid_t pid;
    int ready;
    double spent_ms; /* on its start or its first task */
    size_t n;
    task tasks[DEPTH];
    ki_frame_reader reader;
} worker;

struct ki_workers {
    ki_workers_options options;
    const kith_allocator *allocator;
    int nursery; /* its socket */
    pid_t nursery_pid;
    uint8_t *setup;
    size_t setup_size;
    size_t start_failures;
    uint64_t looked_ns; /* when the clocks were looked at last */
    size_t turn;        /* the worker that is heard first */
    task *waiting;      /* [workers * DEPTH], for a worker with room */
    size_t n_waiting;
    struct pollfd *polls; /* [workers] */
    worker worker[];
};

/* ---- Messages ---- */

/* Write header, text and body, with an open file or -1. Blocks; 0 or an errno. */
static int send_frame(int socket, const ki_frame_header *header, const void *text, const void *body, int fd)
{
    struct iovec parts[3] = {{(void *)header, sizeof *header},
                             {(void *)text, header->text_size},
                             {(void *)body, header->body_size}};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};
    if (fd >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *attached = CMSG_FIRSTHDR(&message);
        attached->cmsg_level = SOL_SOCKET;
        attached->cmsg_type = SCM_RIGHTS;
        attached->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(attached), &fd, sizeof fd);
    }
    while (message.msg_iovlen > 0) {
        ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) return errno;
        message.msg_control = NULL;
        message.msg_controllen = 0;
        size_t left = (size_t)sent;
        while (message.msg_iovlen > 0 && left >= message.msg_iov->iov_len) {
            left -= message.msg_iov->iov_len;
            message.msg_iov++;
            message.msg_iovlen--;
        }
        if (message.msg_iovlen > 0) {
            message.msg_iov->iov_base = (char *)message.msg_iov->iov_base + left;
            message.msg_iov->iov_len -= left;
        }
    }
    return 0;
}

/* Receive up to `size` bytes and perhaps an open file (*fd, else -1). */
static ssize_t receive(int socket, void *into, size_t size, int flags, int *fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {into, size};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    *fd = -1;
    ssize_t n;
    do n = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    struct cmsghdr *attached = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (attached && attached->cmsg_level == SOL_SOCKET && attached->cmsg_type == SCM_RIGHTS &&
        attached->cmsg_len == CMSG_LEN(sizeof *fd))
        memcpy(fd, CMSG_DATA(attached), sizeof *fd);
    return n;
}

/* ---- In the worker ---- */

/* Read one frame from the program; its bytes stay in the reader. 0 at the end of the conversation. */
static int read_request(int socket, ki_frame_reader *reader, uint32_t kind, int *fd)
{
    ki_frame_reader_init(reader, kind, UINT32_MAX, NULL);
    *fd = -1;
    void *into;
    size_t wanted;
    while ((wanted = ki_frame_wanted(reader, &into)) > 0) {
        int attached;
        ssize_t n = receive(socket, into, wanted, 0, &attached);
        if (attached >= 0) {
            if (*fd >= 0) close(*fd);
            *fd = attached;
        }
        if (n <= 0 || ki_frame_took(reader, (size_t)n, NULL) != KITH_OK) return 0;
    }
    return 1;
}

static int answer(int socket, uint32_t kind, kith_status status, const kith_error *err, const ki_bytes *body)
{
    size_t text = status == KITH_OK ? 0 : strnlen(err->message, KI_FRAME_MAX_TEXT);
    ki_frame_header header = {.magic = KI_FRAME_MAGIC,
                              .kind = kind,
                              .status = (uint32_t)status,
                              .text_size = (uint32_t)text,
                              .body_size = body && status == KITH_OK ? (uint32_t)body->size : 0};
    return send_frame(socket, &header, err->message, body ? body->data : NULL, -1) == 0;
}

static void run_task(const ki_workers_options *options, void *state, const ki_frame_reader *request, int fd,
                     int socket)
{
    kith_error err = {.code = KITH_OK};
    ki_bytes reply = {0};
    ki_confine_cpu(options->seconds);
    kith_status status =
        options->job->run(state, ki_frame_body(request), request->header.body_size, fd, &reply, &err);
    if (status == KITH_OK && reply.failed) status = ki_fail(&err, KITH_NOMEM, "out of memory");
    if (status == KITH_OK && reply.size > options->max_reply)
        status = ki_fail(&err, KITH_INTERNAL, "a result of %zu bytes, allowed %zu", reply.size,
                         options->max_reply);
    if (!answer(socket, KI_FRAME_REPLY, status, &err, &reply)) _exit(0);
    ki_bytes_clear(&reply);
}

static _Noreturn void be_worker(const ki_workers_options *options, pid_t nursery, int socket)
{
    ki_frame_reader request;
    kith_error err = {.code = KITH_OK};
    void *state = NULL;
    int fd;
    if (!ki_confine_child(nursery, &socket) || !read_request(socket, &request, KI_FRAME_SETUP, &fd)) _exit(0);
    kith_status status = options->job->start(ki_frame_body(&request), request.header.body_size, &state, &err);
    ki_frame_reader_clear(&request);
    if (status == KITH_OK) status = ki_confine_limits(&(ki_confinement){.memory = options->memory}, &err);
    if (!answer(socket, KI_FRAME_READY, status, &err, NULL) || status != KITH_OK) _exit(0);
    while (read_request(socket, &request, KI_FRAME_TASK, &fd)) {
        run_task(options, state, &request, fd, socket);
        if (fd >= 0) close(fd);
        ki_frame_reader_clear(&request);
    }
    _exit(0);
}

/* ---- The nursery ---- */

typedef struct nursery_order {
    int32_t end; /* 0: fork a worker; else the process to be ended */
} nursery_order;

typedef struct nursery_report {
    int32_t pid;    /* of the new worker, or minus an errno */
    int32_t status; /* of the ended one, as waitpid gives it */
} nursery_report;

/* How a child ended; it is killed when it does not by itself. */
static int end_child(pid_t pid)
{
    int status = 0;
    for (int waited = 0; waited < GRACE_MS; waited += 5) {
        pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid) return status;
        if (got < 0 && errno != EINTR) return 0;
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

static void fork_worker(const ki_workers_options *options, int socket)
{
    nursery_report report = {0};
    int pair[2] = {-1, -1};
    pid_t self = getpid(), pid = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0) {
        pid = fork();
        if (pid == 0) be_worker(options, self, pair[1]);
    }
    report.pid = pid < 0 ? -errno : pid;
    struct iovec part = {&report, sizeof report};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (pid > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *attached = CMSG_FIRSTHDR(&message);
        attached->cmsg_level = SOL_SOCKET;
        attached->cmsg_type = SCM_RIGHTS;
        attached->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(attached), &pair[0], sizeof(int));
    }
    if (sendmsg(socket, &message, MSG_NOSIGNAL) < 0) _exit(0);
    if (pair[0] >= 0) close(pair[0]);
    if (pair[1] >= 0) close(pair[1]);
}

static _Noreturn void be_nursery(const ki_workers_options *options, int socket)
{
    /* No PR_SET_PDEATHSIG: that is the death of the thread that forked, which may end before the program. */
    if (!ki_confine_child(0, &socket)) _exit(0);
    nursery_order order;
    int none;
    while (receive(socket, &order, sizeof order, 0, &none) == (ssize_t)sizeof order) {
        if (order.end == 0) {
            fork_worker(options, socket);
            continue;
        }
        nursery_report report = {.status = end_child((pid_t)order.end)};
        if (send(socket, &report, sizeof report, MSG_NOSIGNAL) < 0) break;
    }
    _exit(0); /* and the workers with it */
}

/* ---- In the program: workers come and go ---- */

static kith_status ask_nursery(ki_workers *workers, nursery_order order, nursery_report *report, int *fd,
                               kith_error *err)
{
    if (send(workers->nursery, &order, sizeof order, MSG_NOSIGNAL) != (ssize_t)sizeof order ||
        receive(workers->nursery, report, sizeof *report, 0, fd) != (ssize_t)sizeof *report)
        return ki_fail(err, KITH_INTERNAL, "the process that starts the decoders is gone");
    return KITH_OK;
}

/* Does not need the worker to be alive. Its tasks stay. */
static kith_status stop_worker(ki_workers *workers, worker *w, int *how, kith_error *err)
{
    nursery_report report = {0};
    int none;
    close(w->fd);
    w->fd = -1;
    w->ready = 0;
    ki_frame_reader_clear(&w->reader);
    KI_TRY(ask_nursery(workers, (nursery_order){.end = (int32_t)w->pid}, &report, &none, err));
    w->pid = 0;
    *how = report.status;
    return KITH_OK;
}

static kith_status start_worker(ki_workers *workers, worker *w, kith_error *err)
{
    nursery_report report;
    int fd;
    KI_TRY(ask_nursery(workers, (nursery_order){.end = 0}, &report, &fd, err));
    if (report.pid <= 0 || fd < 0)
        return ki_fail_errno(err, report.pid < 0 ? -report.pid : EMFILE,
                             "a decoder process cannot be started");
    struct timeval patience = {.tv_sec = SEND_SECONDS};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    w->fd = fd;
    w->pid = (pid_t)report.pid;
    w->ready = 0;
    w->spent_ms = 0;
    ki_frame_reader_init(&w->reader, KI_FRAME_READY, 0, workers->allocator);
    ki_frame_header header = {
        .magic = KI_FRAME_MAGIC, .kind = KI_FRAME_SETUP, .body_size = (uint32_t)workers->setup_size};
    send_frame(fd, &header, NULL, workers->setup, -1); /* a failure shows as the end of its socket */
    return KITH_OK;
}

static void task_clear(ki_workers *workers, task *t)
{
    ki_free(workers->allocator, t->request);
    if (t->fd >= 0) close(t->fd);
    *t = (task){.fd = -1};
}

/* Who should have the next task: an idle worker, else one not started yet, else one that has the least. */
static worker *worker_with_room(ki_workers *workers)
{
    worker *best = NULL;
    size_t best_cost = SIZE_MAX;
    for (size_t i = 0; i < workers->options.workers; i++) {
        worker *w = &workers->worker[i];
        size_t cost = w->fd >= 0 ? 2 * w->n : 1;
        if (w->n < DEPTH && cost < best_cost) {
            best = w;
            best_cost = cost;
        }
    }
    return best;
}

static kith_status dispatch(ki_workers *workers, kith_error *err)
{
    while (workers->n_waiting > 0) {
        worker *w = worker_with_room(workers);
        if (!w) return KITH_OK;
        if (w->fd < 0) KI_TRY(start_worker(workers, w, err));
        task t = workers->waiting[0];
        workers->n_waiting--;
        memmove(workers->waiting, workers->waiting + 1, workers->n_waiting * sizeof t);
        if (w->n == 0 && w->ready) w->spent_ms = 0;
        w->tasks[w->n++] = t;
        ki_frame_header header = {
            .magic = KI_FRAME_MAGIC, .kind = KI_FRAME_TASK, .body_size = (uint32_t)t.size};
        send_frame(w->fd, &header, NULL, t.request, t.fd); /* a failure shows as the end of its socket */
    }
    return KITH_OK;
}

/* ---- In the program: results ---- */

/* The first task of a worker is done: take it out. */
static void finish_first(ki_workers *workers, worker *w, ki_reply *reply)
{
    reply->tag = w->tasks[0].tag;
    task_clear(workers, &w->tasks[0]);
    w->n--;
    memmove(w->tasks, w->tasks + 1, w->n * sizeof *w->tasks);
    w->spent_ms = 0;
}

typedef enum loss { LOSS_ENDED, LOSS_TIME, LOSS_NONSENSE } loss;

static void say_why(const ki_workers *workers, loss why, int how, ki_reply *reply)
{
    reply->status = KITH_CORRUPT;
    if (why == LOSS_TIME || (WIFSIGNALED(how) && WTERMSIG(how) == SIGXCPU))
        snprintf(reply->text, sizeof reply->text, "decoding took longer than %g s and was stopped",
                 workers->options.seconds);
    else if (why == LOSS_NONSENSE)
        snprintf(reply->text, sizeof reply->text, "the decoder answered nonsense and was stopped");
    else if (WIFSIGNALED(how))
        snprintf(reply->text, sizeof reply->text, "the decoder crashed (signal %d, %s)", WTERMSIG(how),
                 strsignal(WTERMSIG(how)));
    else
        snprintf(reply->text, sizeof reply->text, "the decoder ended with status %d", WEXITSTATUS(how));
}

/* A worker is lost. Its first task pays for it or is tried again, the second is passed on. */
static kith_status lose_worker(ki_workers *workers, worker *w, loss why, int *got, ki_reply *reply,
                               kith_error *err)
{
    int was_ready = w->ready, how = 0;
    if (why != LOSS_ENDED) kill(w->pid, SIGKILL);
    KI_TRY(stop_worker(workers, w, &how, err));
    if (!was_ready) {
        if (++workers->start_failures >= START_FAILURES)
            return ki_fail(err, KITH_INTERNAL, "%s at its start; %d in a row", "a decoder process died",
                           START_FAILURES);
    } else if (w->n > 0) {
        int outside = why == LOSS_ENDED && !(WIFSIGNALED(how) && WTERMSIG(how) == SIGXCPU);
        if (!outside || ++w->tasks[0].attempts >= ATTEMPTS) {
            *reply = (ki_reply){.status = KITH_CORRUPT};
            say_why(workers, why, how, reply);
            finish_first(workers, w, reply);
            *got = 1;
        }
    }
    for (size_t i = 0; i < w->n; i++) workers->waiting[workers->n_waiting++] = w->tasks[i];
    w->n = 0;
    return KITH_OK;
}

/* A whole frame is here: that the worker is ready, or a result. */
static kith_status take_frame(ki_workers *workers, worker *w, int *got, ki_reply *reply, kith_error *err)
{
    ki_frame_reader frame = w->reader;
    ki_frame_reader_init(&w->reader, KI_FRAME_REPLY, workers->options.max_reply, workers->allocator);
    w->spent_ms = 0;
    if (!w->ready) {
        kith_status status = (kith_status)frame.header.status;
        if (status != KITH_OK) ki_fail(err, status, "%s", ki_frame_text(&frame));
        w->ready = status == KITH_OK;
        if (status == KITH_OK) workers->start_failures = 0;
        ki_frame_reader_clear(&frame);
        return status;
    }
    *reply = (ki_reply){.status = (kith_status)frame.header.status,
                        .body = ki_frame_body(&frame),
                        .size = frame.header.body_size};
    snprintf(reply->text, sizeof reply->text, "%s", ki_frame_text(&frame));
    reply->frame = frame;
    finish_first(workers, w, reply);
    *got = 1;
    return KITH_OK;
}

/* Read what a worker has sent, up to one frame. */
static kith_status hear(ki_workers *workers, worker *w, int *got, ki_reply *reply, kith_error *err)
{
    for (;;) {
        void *into;
        size_t wanted = ki_frame_wanted(&w->reader, &into);
        if (wanted == 0) return take_frame(workers, w, got, reply, err);
        ssize_t n = recv(w->fd, into, wanted, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return KITH_OK;
        if (n <= 0) return lose_worker(workers, w, LOSS_ENDED, got, reply, err);
        /* Nobody asked it anything: what it says cannot be an answer. */
        if (w->ready && w->n == 0) return lose_worker(workers, w, LOSS_NONSENSE, got, reply, err);
        kith_error why;
        kith_status status = ki_frame_took(&w->reader, (size_t)n, &why);
        if (status == KITH_NOMEM) return ki_fail(err, status, "%s", why.message);
        if (status != KITH_OK) return lose_worker(workers, w, LOSS_NONSENSE, got, reply, err);
    }
}

/* Let the clocks of the workers go on; end the first that is over its time. */
static kith_status look_at_clocks(ki_workers *workers, int *got, ki_reply *reply, kith_error *err)
{
    uint64_t now = ki_now_ns();
    double passed = (double)(now - workers->looked_ns) * 1e-6;
    if (passed > LONGEST_TICK_MS) passed = LONGEST_TICK_MS;
    workers->looked_ns = now;
    worker *late = NULL;
    for (size_t i = 0; i < workers->options.workers; i++) {
        worker *w = &workers->worker[i];
        if (w->fd < 0 || (w->ready && w->n == 0)) continue;
        w->spent_ms += passed;
        if (w->spent_ms > workers->options.seconds * 1000) late = w;
    }
    return late ? lose_worker(workers, late, LOSS_TIME, got, reply, err) : KITH_OK;
}

/* Wait until somebody says something, for at most some milliseconds, and hear the first who did. */
static kith_status listen_once(ki_workers *workers, int milliseconds, int *got, ki_reply *reply,
                               kith_error *err)
{
    size_t n = workers->options.workers;
    for (size_t i = 0; i < n; i++) workers->polls[i] = (struct pollfd){workers->worker[i].fd, POLLIN, 0};
    int ready = poll(workers->polls, (nfds_t)n, milliseconds);
    if (ready < 0 && errno != EINTR) return ki_fail_errno(err, errno, "waiting for the decoders");
    KI_TRY(look_at_clocks(workers, got, reply, err));
    for (size_t i = 0; i < n && ready > 0 && !*got; i++) {
        size_t at = (workers->turn + i) % n;
        worker *w = &workers->worker[at];
        if (!workers->polls[at].revents || w->fd < 0) continue;
        KI_TRY(hear(workers, w, got, reply, err));
        if (*got) workers->turn = at + 1;
    }
    return KITH_OK;
}

kith_status ki_workers_wait(ki_workers *workers, int milliseconds, int *got, ki_reply *reply, kith_error *err)
{
    *got = 0;
    uint64_t begun = ki_now_ns();
    workers->looked_ns = begun;
    while (!*got) {
        KI_TRY(dispatch(workers, err));
        if (ki_workers_busy(workers) == 0) return KITH_OK;
        int left = TICK_MS;
        if (milliseconds >= 0) {
            int64_t rest = milliseconds - (int64_t)((ki_now_ns() - begun) / 1000000);
            if (rest < left) left = rest < 0 ? 0 : (int)rest;
        }
        KI_TRY(listen_once(workers, left, got, reply, err));
        if (milliseconds >= 0 && ki_now_ns() - begun >= (uint64_t)milliseconds * 1000000) break;
    }
    return KITH_OK;
}

void ki_reply_clear(ki_reply *reply)
{
    ki_frame_reader_clear(&reply->frame);
    *reply = (ki_reply){.status = KITH_OK};
}

kith_status ki_workers_submit(ki_workers *workers, uint64_t tag, const void *request, size_t size, int fd,
                              kith_error *err)
{
    task t = {.tag = tag, .request = ki_alloc(workers->allocator, size, 1), .size = size, .fd = fd};
    if (!t.request) {
        task_clear(workers, &t);
        return ki_fail_nomem(err, size);
    }
    if (size) memcpy(t.request, request, size);
    workers->waiting[workers->n_waiting++] = t;
    return dispatch(workers, err);
}

size_t ki_workers_busy(const ki_workers *workers)
{
    size_t n = workers->n_waiting;
    for (size_t i = 0; i < workers->options.workers; i++) n += workers->worker[i].n;
    return n;
}

size_t ki_workers_room(const ki_workers *workers)
{
    return workers->options.workers * DEPTH - ki_workers_busy(workers);
}

int ki_workers_pid(const ki_workers *workers, size_t i)
{
    return i < workers->options.workers ? (int)workers->worker[i].pid : 0;
}

/* ---- Beginning and end ---- */

kith_status ki_workers_setup(ki_workers *workers, const void *setup, size_t size, kith_error *err)
{
    uint8_t *copy = ki_alloc(workers->allocator, size, 1);
    if (!copy) return ki_fail_nomem(err, size);
    if (size) memcpy(copy, setup, size);
    ki_free(workers->allocator, workers->setup);
    workers->setup = copy;
    workers->setup_size = size;
    workers->start_failures = 0;
    for (size_t i = 0; i < workers->options.workers; i++) {
        int how;
        if (workers->worker[i].fd >= 0) KI_TRY(stop_worker(workers, &workers->worker[i], &how, err));
    }
    worker *first = &workers->worker[0];
    workers->looked_ns = ki_now_ns();
    while (!first->ready) {
        int got = 0;
        ki_reply none;
        if (first->fd < 0) KI_TRY(start_worker(workers, first, err));
        KI_TRY(listen_once(workers, TICK_MS, &got, &none, err));
    }
    return KITH_OK;
}

kith_status ki_workers_abandon(ki_workers *workers, kith_error *err)
{
    for (size_t t = 0; t < workers->n_waiting; t++) task_clear(workers, &workers->waiting[t]);
    workers->n_waiting = 0;
    for (size_t i = 0; i < workers->options.workers; i++) {
        worker *w = &workers->worker[i];
        int how, busy = w->n > 0;
        for (size_t t = 0; t < w->n; t++) task_clear(workers, &w->tasks[t]);
        w->n = 0;
        if (!busy || w->fd < 0) continue;
        kill(w->pid, SIGKILL);
        KI_TRY(stop_worker(workers, w, &how, err));
    }
    return KITH_OK;
}

kith_status ki_workers_create(const ki_workers_options *options, ki_workers **out, kith_error *err)
{
    *out = NULL;
    size_t n = options->workers;
    if (n < 1 || n > 1024) return ki_fail(err, KITH_INVALID, "jobs is %zu, allowed 1..1024", n);
    ki_workers *workers =
        ki_alloc_zero(options->allocator, 1, sizeof *workers + n * sizeof workers->worker[0]);
    if (!workers) return ki_fail_nomem(err, sizeof *workers + n * sizeof workers->worker[0]);
    workers->options = *options;
    workers->allocator = options->allocator;
    workers->nursery = -1;
    for (size_t i = 0; i < n; i++) workers->worker[i].fd = -1;
    workers->waiting = ki_alloc_zero(options->allocator, n * DEPTH, sizeof *workers->waiting);
    workers->polls = ki_alloc_zero(options->allocator, n, sizeof *workers->polls);
    if (!workers->waiting || !workers->polls) {
        ki_workers_free(workers);
        return ki_fail_nomem(err, n * DEPTH * sizeof *workers->waiting);
    }
    int pair[2];
    pid_t pid = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0) {
        pid = fork();
        if (pid == 0) be_nursery(&workers->options, pair[1]);
        int sys_errno = errno;
        close(pair[1]);
        if (pid < 0) close(pair[0]);
        errno = sys_errno;
    }
    if (pid < 0) {
        kith_status status = ki_fail_errno(err, errno, "no process can be started to decode pictures in");
        ki_workers_free(workers);
        return status;
    }
    workers->nursery = pair[0];
    workers->nursery_pid = pid;
    *out = workers;
    return KITH_OK;
}

void ki_workers_free(ki_workers *workers)
{
    if (!workers) return;
    const kith_allocator *allocator = workers->allocator;
    for (size_t i = 0; i < workers->options.workers; i++) {
        worker *w = &workers->worker[i];
        for (size_t t = 0; t < w->n; t++) task_clear(workers, &w->tasks[t]);
        if (w->fd >= 0) close(w->fd);
        ki_frame_reader_clear(&w->reader);
    }
    for (size_t t = 0; t < workers->n_waiting; t++) task_clear(workers, &workers->waiting[t]);
    if (workers->nursery >= 0) {
        close(workers->nursery);
        while (waitpid(workers->nursery_pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    ki_free(allocator, workers->waiting);
    ki_free(allocator, workers->polls);
    ki_free(allocator, workers->setup);
    ki_free(allocator, workers);
}
