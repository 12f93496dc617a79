/* writers.c - group commit: batches of several threads in one transaction, one behind the other, and one commit for all.
 *
 * Each call is a member, on the stack of its thread, and goes through
 *
 *     WAITING -> AT_WORK -> JOINED -> DONE
 *
 * waiting for its turn in the order of the calls; at work, alone in having the handle; joined to the batches that the next
 * commit will make durable. A member whose batch failed joins, too, when there are others: it may have failed for what they
 * wrote, and nobody is told of that before it is on the disk. Whoever ends his turn gives it to the next member, or commits when
 * there is none, for all who joined. So the handle and its transaction go from thread to thread, no thread is needed for
 * the commit itself, and what a batch does is done by the thread whose batch it is.
 *
 * Without more the commits would alternate: while one is under way all the others come to wait, and the thread that it wakes
 * finds itself at the end of them, alone, or in front of them when it is quicker. So a commit waits (lingers) until it has as
 * many members as the last one, for a fraction of the time that a commit takes: what is woken together comes together.
 *
 *   W1  at most one member is AT_WORK, and only while working is 1; the handle is his, without the lock.
 *   W2  a transaction is open (collection->shared) exactly while members are JOINED, or one is AT_WORK.
 *   W3  members that JOINED have a batch in that transaction, in the order of the list, or have failed behind one that has; the
 *       first has one. When it is lost they wait again, in front of all others and in that order, each with a commit of its own. */
#include "engine/writers.h"

#include "base/run.h"
#include "engine/engine.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* A group takes no more members after this: who came first waits for that long, and his commit. Arbitrary. */
#define GROUP_NS 20000000u

/* How long a commit lingers at most, and which part of a commit's time. Arbitrary: threads that were woken together come within
 * tens of microseconds. */
#define LINGER_NS 1000000u
#define LINGER_PART 4

typedef enum member_state { WAITING, AT_WORK, JOINED, DONE } member_state;

typedef struct member {
    struct member *next;
    pthread_cond_t woken; /* its state has changed */
    member_state state;
    int alone; /* it has been undone for another's sake: its commit is its own */
    uint64_t arrived_ns, version;
    kith_status status; /* of its batch, then of the call */
    kith_error err;
} member;

/* Members in order. */
typedef struct line {
    member *first, **end; /* end: where the next one is hung */
    unsigned n;
} line;

struct kith_writers {
    kith_collection *collection;
    const kith_allocator *allocator;
    pthread_mutex_t lock;   /* of all that follows */
    pthread_cond_t arrived; /* somebody waits */
    line waiting, joined;
    int working;        /* somebody has the handle, or is about to give it on */
    unsigned turns;     /* that this group has had */
    unsigned usual;     /* that the last one had */
    uint64_t group_ns;  /* how long a group takes more members */
    uint64_t begun_ns;  /* when the first of the group joined */
    uint64_t linger_ns; /* until when its commit waits; 0: it has not begun to */
    uint64_t commit_ns; /* how long the last commit took */
    kith_writers_stats stats;
    /* Of who is AT_WORK, without the lock: since when another has had the writer's; 0: none is known to. */
    uint64_t denied_ns;
};

/* ---- Lines ---- */

static void line_clear(line *l)
{
    *l = (line){.end = &l->first};
}

static void line_append(line *l, member *m)
{
    m->next = NULL;
    *l->end = m;
    l->end = &m->next;
    l->n++;
}

static member *line_take(line *l)
{
    member *m = l->first;
    l->first = m->next;
    if (!l->first) l->end = &l->first;
    l->n--;
    return m;
}

/* ---- Create and free ---- */

/* A condition whose times are those of ki_now_ns. */
static int condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    int failed = pthread_condattr_init(&attributes);
    if (failed) return failed;
    failed = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (!failed) failed = pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
    return failed;
}

kith_status kith_writers_create(kith_collection *collection, kith_writers **writers, kith_error *err)
{
    if (!writers) return ki_fail(err, KITH_INVALID, "writers is NULL");
    *writers = NULL;
    if (!collection) return ki_fail(err, KITH_INVALID, "collection is NULL");
    if (collection->read_only)
        return ki_fail(err, KITH_READONLY, "%s: was opened for reading only", collection->path);
    if (collection->mode != KI_IDLE)
        return ki_fail(err, KITH_INVALID, "the collection is %s",
                       collection->mode == KI_PINNED ? "pinned" : "in a batch");
    kith_writers *w = ki_alloc_zero(collection->owner, 1, sizeof *w);
    if (!w) return ki_fail_nomem(err, sizeof *w);
    w->collection = collection;
    w->allocator = collection->owner;
    w->group_ns = GROUP_NS;
    w->stats.broken = collection->broken != 0;
    line_clear(&w->waiting);
    line_clear(&w->joined);
    int failed = pthread_mutex_init(&w->lock, NULL);
    if (!failed && (failed = condition_init(&w->arrived)) != 0) pthread_mutex_destroy(&w->lock);
    if (failed) {
        ki_free(w->allocator, w);
        return ki_fail_errno(err, failed, "a lock cannot be made");
    }
    *writers = w;
    return KITH_OK;
}

void kith_writers_free(kith_writers *w)
{
    if (!w) return;
    pthread_cond_destroy(&w->arrived);
    pthread_mutex_destroy(&w->lock);
    ki_free(w->allocator, w);
}

/* ---- Turns. All of these with the lock ---- */

static void put(member *m, member_state state)
{
    m->state = state;
    pthread_cond_signal(&m->woken);
}

/* The first who waits is next. */
static void give_turn(kith_writers *w)
{
    if (w->joined.n == 0) {
        w->turns = 0;
        w->linger_ns = 0;
    }
    w->turns++;
    w->working = 1;
    put(line_take(&w->waiting), AT_WORK);
}

/* The batches of the group are undone: they are made once more, each by itself. */
static void repeat(kith_writers *w)
{
    w->stats.repeated += w->joined.n;
    for (member *m = w->joined.first; m; m = m->next) {
        m->alone = 1;
        m->state = WAITING;
    }
    if (w->joined.n == 0) return;
    *w->joined.end = w->waiting.first;
    if (!w->waiting.first) w->waiting.end = w->joined.end;
    w->waiting.first = w->joined.first;
    w->waiting.n += w->joined.n;
    line_clear(&w->joined);
}

/* The commit has answered: those of the group are told, who failed what he failed with. */
static void acknowledge(kith_writers *w, kith_status status, const kith_error *err)
{
    unsigned made = 0;
    while (w->joined.n > 0) {
        member *m = line_take(&w->joined);
        if (status != KITH_OK) {
            m->status = status;
            m->err = *err;
        }
        made += m->status == KITH_OK;
        put(m, DONE);
    }
    if (status != KITH_OK) return;
    w->stats.batches += made;
    w->stats.commits++;
    if (made > w->stats.largest) w->stats.largest = made;
}

/* End the group; the lock is let go meanwhile. */
static void commit(kith_writers *w)
{
    kith_collection *c = w->collection;
    kith_error err;
    if (!c->shared) return;
    w->usual = w->turns;
    pthread_mutex_unlock(&w->lock);
    uint64_t begun = ki_now_ns();
    kith_status status = ki_share_commit(c, &err);
    uint64_t took = ki_now_ns() - begun;
    pthread_mutex_lock(&w->lock);
    w->commit_ns = took;
    w->stats.broken = c->broken != 0;
    /* What failed for many may be possible for each. But of a handle that is broken nobody knows what is on the disk. */
    if (status == KITH_OK || w->joined.n == 1 || c->broken)
        acknowledge(w, status, &err);
    else
        repeat(w);
}

/* Whether the first who waits may join the group. */
static int takes_more(const kith_writers *w)
{
    if (w->joined.n == 0) return 1;
    return !w->joined.first->alone && !w->waiting.first->alone && w->turns < KITH_WRITERS_MOST &&
           ki_now_ns() - w->begun_ns < w->group_ns;
}

/* Nobody waits: give those who may be about to come the time to. Returns 0 when it is time to commit. */
static int linger(kith_writers *w)
{
    uint64_t now = ki_now_ns(), part = w->commit_ns / LINGER_PART;
    if (w->joined.n == 0 || w->joined.first->alone || w->turns >= w->usual) return 0;
    if (w->linger_ns == 0) w->linger_ns = now + (part < LINGER_NS ? part : LINGER_NS);
    if (now >= w->linger_ns) return 0;
    struct timespec until = {.tv_sec = (time_t)(w->linger_ns / 1000000000u),
                             .tv_nsec = (long)(w->linger_ns % 1000000000u)};
    pthread_cond_timedwait(&w->arrived, &w->lock, &until);
    return 1;
}

/* A member's batch has been made, or has failed: give the turn on, or commit. */
static void end_turn(kith_writers *w, member *m)
{
    if (m->status == KITH_OK || w->joined.n > 0) {
        m->state = JOINED;
        line_append(&w->joined, m);
        if (w->joined.n == 1) w->begun_ns = ki_now_ns();
        if (!w->collection->shared) repeat(w);
    } else {
        m->state = DONE; /* it saw nothing but what is on the disk */
    }
    do {
        if (w->waiting.n > 0 && takes_more(w)) {
            give_turn(w);
            return;
        }
    } while (w->waiting.n == 0 && linger(w));
    commit(w);
    w->working = 0;
    if (w->waiting.n > 0) give_turn(w);
}

/* ---- Writing ---- */

/* Get the writer's lock. Of the wait_ms for which others are waited for, the time counts for which one of these members has asked
 * for the lock in vain since this one came; not that which they took to write. */
static kith_status begin_group(kith_writers *w, member *m)
{
    kith_collection *c = w->collection;
    uint64_t now = ki_now_ns();
    if (w->denied_ns == 0) w->denied_ns = now;
    uint64_t waited = (now - (w->denied_ns > m->arrived_ns ? w->denied_ns : m->arrived_ns)) / 1000000;
    kith_status status = ki_share_begin(c, waited < c->wait_ms ? c->wait_ms - (unsigned)waited : 0, &m->err);
    if (status != KITH_BUSY) w->denied_ns = 0;
    return status;
}

/* Make the batch, in the turn of the member; without the lock. */
static void make_batch(kith_writers *w, member *m, kith_change change, void *ctx)
{
    kith_collection *c = w->collection;
    ki_error_clear(&m->err);
    m->status = c->shared ? KITH_OK : begin_group(w, m);
    if (m->status == KITH_OK) m->status = ki_share_batch(c, &m->err);
    if (m->status != KITH_OK) return;
    kith_status status = change(c, ctx, &m->err);
    if (status != KITH_OK && m->err.code != status) /* it left it at the code */
        ki_fail(&m->err, status, "%s: the change of a batch answered: %s", c->path, kith_status_text(status));
    m->status = ki_share_batch_end(c, status, &m->err);
    m->version = c->state.version;
}

kith_status kith_writers_write(kith_writers *w, kith_change change, void *ctx, uint64_t *version,
                               kith_error *err)
{
    member m = {.arrived_ns = ki_now_ns()};
    if (!w || !change) return ki_fail(err, KITH_INVALID, "%s is NULL", w ? "change" : "writers");
    int failed = condition_init(&m.woken);
    if (failed) return ki_fail_errno(err, failed, "a lock cannot be made");
    pthread_mutex_lock(&w->lock);
    line_append(&w->waiting, &m);
    if (!w->working)
        give_turn(w);
    else
        pthread_cond_signal(&w->arrived);
    while (m.state != DONE) {
        if (m.state != AT_WORK) {
            pthread_cond_wait(&m.woken, &w->lock);
            continue;
        }
        pthread_mutex_unlock(&w->lock);
        make_batch(w, &m, change, ctx);
        pthread_mutex_lock(&w->lock);
        end_turn(w, &m);
    }
    pthread_mutex_unlock(&w->lock);
    pthread_cond_destroy(&m.woken);
    if (m.status != KITH_OK && err) *err = m.err;
    if (m.status == KITH_OK && version) *version = m.version;
    return m.status;
}

void ki_writers_set_group_ns(kith_writers *w, uint64_t ns)
{
    pthread_mutex_lock(&w->lock);
    w->group_ns = ns;
    pthread_mutex_unlock(&w->lock);
}

kith_status kith_writers_get_stats(kith_writers *w, kith_writers_stats *stats, kith_error *err)
{
    if (!w) return ki_fail(err, KITH_INVALID, "writers is NULL");
    if (!stats || stats->struct_size != sizeof *stats)
        return ki_fail(err, KITH_INVALID, "stats.struct_size is %zu, expected %zu",
                       stats ? stats->struct_size : 0, sizeof *stats);
    pthread_mutex_lock(&w->lock);
    *stats = w->stats;
    stats->waiting = w->waiting.n;
    pthread_mutex_unlock(&w->lock);
    stats->struct_size = sizeof *stats;
    return KITH_OK;
}
