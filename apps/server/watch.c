#include "watch.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#include "../common/fail.h"
#include "server.h"
#include "server_state.h"

enum { LOOKS_A_SECOND = 2, GRACE_SECONDS = 10 /* before the rate of a body or an answer counts */ };

struct watched {
    watched *next, **link; /* the link is what points here */
    int fd;
    watch_phase phase;
    uint64_t since_ns, bytes;
    int seen_late; /* at the last look: a thread may have been about to say what it had just read */
};

struct watch {
    const server_options *options;
    watched *first;
    pthread_t thread;
    int running, ending;
    pthread_mutex_t lock;
    pthread_cond_t woken;
};

static int is_overdue(const watch *w, const watched *c, uint64_t now)
{
    const server_options *o = w->options;
    double seconds = (double)(now - c->since_ns) * 1e-9;
    double rate = o->least_rate;
    switch (c->phase) {
    case WATCH_HEAD: return seconds > o->head_seconds + (c->bytes > 0 ? (double)o->idle_seconds : 0.0);
    case WATCH_BODY: return seconds > GRACE_SECONDS && (double)c->bytes < rate * (seconds - GRACE_SECONDS);
    case WATCH_ANSWER: return rate > 0 && seconds > GRACE_SECONDS + (double)c->bytes / rate;
    case WATCH_OURS: break;
    }
    return 0;
}

/* Whether what is late is the server: bytes of the client lie in the socket that the thread of the connection, which may be busy with another,
 * has not read; or all that was sent has been taken, and there is more. A client that dribbles a head is read at once. */
static int waits_for_us(const watched *c)
{
    int waiting = 0;
    if (c->phase == WATCH_ANSWER) return ioctl(c->fd, TIOCOUTQ, &waiting) == 0 && waiting == 0;
    return ioctl(c->fd, FIONREAD, &waiting) == 0 && waiting > 0;
}

/* The library closes it, when it finds that there is nothing more to read or write. */
static void look_at(const watch *w, watched *c, uint64_t now)
{
    int late = is_overdue(w, c, now);
    if (late && waits_for_us(c)) {
        c->since_ns = now;
        late = 0;
    }
    if (late && c->seen_late) (void)shutdown(c->fd, SHUT_RDWR);
    c->seen_late = late;
}

static void *run(void *ctx)
{
    watch *w = ctx;
    pthread_mutex_lock(&w->lock);
    while (!w->ending) {
        uint64_t now = server_now_ns();
        for (watched *c = w->first; c; c = c->next) look_at(w, c, now);
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 1000000000 / LOOKS_A_SECOND;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&w->woken, &w->lock, &until);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

kith_status watch_start(const server_options *options, watch **out, kith_error *err)
{
    watch *w = calloc(1, sizeof *w);
    *out = w;
    if (!w) return common_fail_nomem(err);
    w->options = options;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->woken, NULL);
    w->running = pthread_create(&w->thread, NULL, run, w) == 0;
    return w->running ? KITH_OK : common_fail(err, KITH_INTERNAL, "threads cannot be started");
}

void watch_stop(watch *w)
{
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->ending = 1;
    pthread_cond_signal(&w->woken);
    pthread_mutex_unlock(&w->lock);
    if (w->running) pthread_join(w->thread, NULL);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->woken);
    free(w);
}

watched *watch_open(watch *w, int fd)
{
    watched *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->fd = fd;
    c->since_ns = server_now_ns();
    pthread_mutex_lock(&w->lock);
    c->next = w->first;
    c->link = &w->first;
    if (c->next) c->next->link = &c->next;
    w->first = c;
    pthread_mutex_unlock(&w->lock);
    return c;
}

void watch_close(watch *w, watched *c)
{
    if (!c) return;
    pthread_mutex_lock(&w->lock);
    *c->link = c->next;
    if (c->next) c->next->link = c->link;
    pthread_mutex_unlock(&w->lock);
    free(c);
}

void watch_enter(watch *w, watched *c, watch_phase phase, uint64_t bytes)
{
    if (!c) return;
    uint64_t now = server_now_ns();
    pthread_mutex_lock(&w->lock);
    c->phase = phase;
    c->since_ns = now;
    c->seen_late = 0;
    c->bytes = bytes;
    pthread_mutex_unlock(&w->lock);
}

void watch_came(watch *w, watched *c, size_t bytes)
{
    if (!c) return;
    pthread_mutex_lock(&w->lock);
    c->bytes += bytes;
    pthread_mutex_unlock(&w->lock);
}
