/* import.c - two blocks: one is filled by the HTTP library's thread, the other is worked in by a thread of the import. */
#include "import.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <kith/fusion.h>

#include "../common/fail.h"
#include "../common/row_request.h"
#include "memory.h"
#include "server_state.h"

enum {
    BLOCK =
        8 << 20, /* bytes; some thousand rows a batch, so that its fsync is a small part of it. Arbitrary */
    PAYLOAD =
        3 *
        KITH_COLLECTION_MAX_PAYLOAD, /* bytes of one in a line: \u00e4 is three times as long as what it stands for */
    PAYLOAD_PARTS =
        3 * KITH_COLLECTION_MAX_PAYLOAD / 4, /* tokens: there are two in three bytes at the most, `[],` */
    NUMBER = 32,      /* bytes of a component of a vector, with what stands around it */
    OTHERS = 1 << 16, /* bytes of a line, and tokens of it, beside payload and vectors */
    BATCH_PARTS =
        1
        << 20, /* tokens that are parsed before they are put: rows of usual vectors fill a block first. Arbitrary */
    LARGE = 1 << 20,   /* bytes of an import that is worth a look for memory to give back */
    LOOKS_A_SECOND = 5 /* for a cancel, and for rows that came but fill no block */
};

typedef struct block {
    char *bytes;
    size_t size;
} block;

struct import {
    request *r;
    job *job;
    loan l;
    int is_floats;
    row_mode mode;
    size_t dim;
    size_t longest, most_parts; /* of a line of JSON: its bytes and tokens */
    int64_t next_key;           /* of floats: of the next row; 0: the next free one each */
    pthread_t thread;
    /* With the lock: */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    block fill;    /* what comes */
    block at_work; /* size 0: the thread waits for one */
    int complete;  /* the body has come whole */
    int abandoned; /* the request is gone */
    int suspended; /* the connection is */
    int done;      /* the thread has ended its work */
    kith_status status;
    kith_error err;
    /* The thread's own: */
    block rest; /* the beginning of a row whose end has not come */
    size_t rest_room;
    int is_last; /* it is whole: nothing comes any more */
    uint64_t rows, bytes, total_bytes;
    char id[JOB_ID];
};

/* ---- Rows ---- */

/* The next row of the block: its JSON or floats. 0: there is no whole one any more. */
static size_t next_row(const import *im, const char *bytes, size_t size, size_t *used)
{
    size_t length = im->is_floats ? im->dim * sizeof(float) : 0;
    if (im->is_floats) {
        *used = length;
        return size >= length ? length : 0;
    }
    const char *end = memchr(bytes, '\n', size);
    if (!end && !(im->is_last && size > 0)) return 0;
    length = end ? (size_t)(end - bytes) : size;
    *used = end ? length + 1 : length;
    return *used;
}

/* Rows of JSON that were parsed. */
typedef struct parsed {
    json_t **rows;
    size_t n, room, parts;
} parsed;

static void parsed_clear(parsed *p)
{
    for (size_t i = 0; i < p->n; i++) json_decref(p->rows[i]);
    free(p->rows);
}

static kith_status parse_line(const import *im, const char *line, size_t size, parsed *p, kith_error *err)
{
    json_error_t fault;
    size_t parts;
    while (size > 0 && (line[size - 1] == '\n' || line[size - 1] == '\r')) size--;
    if (size == 0) return common_fail(err, KITH_INVALID, "an empty line");
    if (size > im->longest) return common_fail(err, KITH_INVALID, "longer than %zu bytes", im->longest);
    if (!http_text_is_modest(line, size, im->r->server->options.max_json_depth, im->most_parts, &parts))
        return common_fail(err, KITH_INVALID, "nested deeper than %zu, or of more than %zu parts",
                           im->r->server->options.max_json_depth, im->most_parts);
    if (p->n == p->room) {
        size_t room = 2 * p->room + 64;
        json_t **grown = realloc(p->rows, room * sizeof *grown);
        if (!grown) return common_fail_nomem(err);
        p->rows = grown;
        p->room = room;
    }
    json_t *row = json_loadb(line, size, JSON_REJECT_DUPLICATES, &fault);
    if (!row) return common_fail(err, KITH_INVALID, "no JSON: %s", fault.text);
    p->rows[p->n++] = row;
    p->parts += parts;
    return KITH_OK;
}

/* Name the row that an error is about: the one behind `rows` of this batch. */
static kith_status name_row(const import *im, uint64_t rows, kith_status status, kith_error *err)
{
    kith_error copy = *err;
    snprintf(err->message, sizeof err->message, "row %llu: %.400s", (unsigned long long)(im->rows + rows),
             copy.message);
    return status;
}

/* Parse whole rows of bytes[size], as many as a batch may have. Out: how many bytes they took. */
static kith_status parse_rows(const import *im, const char *bytes, size_t size, size_t *taken, parsed *p,
                              kith_error *err)
{
    size_t used;
    for (*taken = 0; p->parts < BATCH_PARTS && next_row(im, bytes + *taken, size - *taken, &used) > 0;
         *taken += used) {
        kith_status status = parse_line(im, bytes + *taken, used, p, err);
        if (status != KITH_OK) return name_row(im, p->n, status, err);
    }
    return KITH_OK;
}

static kith_status put_floats(import *im, const char *bytes, kith_error *err)
{
    kith_row row = {.key = im->next_key, .vector = (const float *)(const void *)bytes, .dim = im->dim};
    if (im->next_key) im->next_key++;
    return kith_collection_put(im->l.collection, KITH_ROW_PAYLOAD | KITH_ROW_VECTOR, &row, NULL, err);
}

/* Put the rows that were parsed, or all whole ones of floats in bytes[size], in one batch. Out: how many bytes the latter took. */
static kith_status put_batch(import *im, const parsed *p, const char *bytes, size_t size, size_t *taken,
                             kith_error *err)
{
    row_scratch scratch = {0};
    uint64_t rows = 0;
    int64_t key;
    size_t used;
    kith_status status = kith_collection_begin(im->l.collection, err);
    if (status != KITH_OK) return status;
    for (; status == KITH_OK && rows < p->n; rows += status == KITH_OK)
        status = row_request_put(im->l.collection, p->rows[rows], im->mode, &scratch, &key, err);
    if (im->is_floats) *taken = 0;
    while (im->is_floats && status == KITH_OK && next_row(im, bytes + *taken, size - *taken, &used) > 0) {
        status = put_floats(im, bytes + *taken, err);
        *taken += used;
        rows += status == KITH_OK;
    }
    row_scratch_clear(&scratch);
    status =
        status == KITH_OK ? kith_collection_commit(im->l.collection, err) : name_row(im, rows, status, err);
    kith_collection_rollback(im->l.collection);
    if (status == KITH_OK) im->rows += rows;
    return status;
}

/* The same, taking turns with requests that write: who waits for the turn waits for no more than the batch, so rows are parsed before. */
static kith_status put_rows(import *im, const char *bytes, size_t size, size_t *taken, kith_error *err)
{
    shelf *s = job_server(im->job)->shelf;
    parsed p = {0};
    kith_status status = im->is_floats ? KITH_OK : parse_rows(im, bytes, size, taken, &p, err);
    if (status == KITH_OK && (im->is_floats || p.n > 0)) {
        shelf_begin_turn(s, &im->l);
        status = put_batch(im, &p, bytes, size, taken, err);
        shelf_end_turn(s, &im->l);
    }
    parsed_clear(&p);
    return status;
}

static kith_status keep_rest(import *im, const char *bytes, size_t size, kith_error *err)
{
    if (!im->is_floats && size > im->longest)
        return common_fail(err, KITH_INVALID, "row %llu: longer than %zu bytes", (unsigned long long)im->rows,
                           im->longest);
    memmove(im->rest.bytes, bytes, size);
    im->rest.size = size;
    return KITH_OK;
}

/* Work in the block at hand, behind what was left of the one before. */
static kith_status work_in(import *im, kith_error *err)
{
    size_t taken = 0, done = 0;
    size_t size = im->rest.size + im->at_work.size;
    if (size > im->rest_room) {
        char *grown = realloc(im->rest.bytes, size);
        if (!grown) return common_fail_nomem(err);
        im->rest.bytes = grown;
        im->rest_room = size;
    }
    memcpy(im->rest.bytes + im->rest.size, im->at_work.bytes, im->at_work.size);
    im->bytes += im->at_work.size;
    kith_status status;
    do {
        status = put_rows(im, im->rest.bytes + done, size - done, &taken, err);
        done += taken;
    } while (status == KITH_OK && taken > 0 && done < size && !im->is_floats);
    if (status == KITH_OK) status = keep_rest(im, im->rest.bytes + done, size - done, err);
    if (status == KITH_OK && im->is_last && im->rest.size > 0)
        status = common_fail(err, KITH_INVALID, "the last row is cut short");
    job_tell(im->job, "importing", im->bytes, im->total_bytes);
    return status;
}

/* ---- The thread ---- */

static void resume(import *im)
{
    if (!im->suspended) return;
    im->suspended = 0;
    MHD_resume_connection(im->r->connection);
}

/* With the lock: hand the block that was filled to the thread, which waits. */
static void swap(import *im)
{
    block empty = im->at_work;
    im->at_work = im->fill;
    im->fill = empty;
    im->fill.size = 0;
}

/* With the lock: wait for a block. 0: there is nothing more to come, or nobody wants it. */
static int await_block(import *im)
{
    while (im->at_work.size == 0) {
        if (im->abandoned || kith_cancel_raised(job_cancel(im->job))) return 0;
        if (im->complete && im->fill.size == 0) return 0;
        if (im->complete) {
            swap(im);
            break;
        }
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 1000000000 / LOOKS_A_SECOND;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        if (pthread_cond_timedwait(&im->changed, &im->lock, &until) == ETIMEDOUT && im->at_work.size == 0 &&
            im->fill.size > 0)
            swap(im);
    }
    return 1;
}

static void *run(void *ctx)
{
    import *im = ctx;
    kith_error err = {0};
    kith_status status = KITH_OK;
    pthread_mutex_lock(&im->lock);
    while (status == KITH_OK && await_block(im)) {
        pthread_mutex_unlock(&im->lock);
        status = work_in(im, &err);
        pthread_mutex_lock(&im->lock);
        im->at_work.size = 0;
        if (status == KITH_OK && !im->complete) resume(im);
    }
    im->is_last = im->complete && im->fill.size == 0;
    if (status == KITH_OK && im->is_last && im->rest.size > 0) {
        pthread_mutex_unlock(&im->lock);
        status = work_in(im, &err);
        pthread_mutex_lock(&im->lock);
    }
    if (status == KITH_OK && !im->is_last)
        status = common_fail(&err, KITH_CANCELLED, im->abandoned ? "the connection broke off" : "cancelled");
    shelf_return(job_server(im->job)->shelf, &im->l);
    if (im->bytes > LARGE) memory_give_back();
    im->status = status;
    im->err = err;
    job_close(im->job, status, json_pack("{sI}", "rows", (json_int_t)im->rows), &err);
    im->done = 1;
    resume(im);
    pthread_mutex_unlock(&im->lock);
    return NULL;
}

/* ---- From the HTTP library's threads ---- */

static int read_head(import *im)
{
    request *r = im->r;
    uint64_t first;
    kith_error err;
    const char *mode = http_query(r, "mode");
    im->is_floats = http_is(r, "application/x-float32");
    if (!im->is_floats && !http_is(r, "application/x-ndjson") && !http_is(r, "application/jsonl")) {
        http_problem(r, 415, "Content-Type must be application/x-ndjson or application/x-float32");
        return 0;
    }
    if (mode && (im->is_floats || row_mode_parse(mode, &im->mode, &err) != KITH_OK)) {
        http_problem(r, 400, "mode is upsert, insert or update, and goes with JSON");
        return 0;
    }
    if (!http_count(r, "first_key", 1, INT64_MAX / 2, 0, &first)) return 0;
    im->next_key = (int64_t)first;
    im->total_bytes = strtoull(http_header(r, MHD_HTTP_HEADER_CONTENT_LENGTH), NULL, 10);
    return 1;
}

/* What a line may be: a payload and a vector of each field. */
static void bound_line(import *im)
{
    const server_options *o = &im->r->server->options;
    kith_vector_field fields[KITH_COLLECTION_MAX_VECTOR_FIELDS];
    size_t n = KITH_COLLECTION_MAX_VECTOR_FIELDS, components = im->dim ? im->dim : o->max_dim;
    if (kith_collection_vector_fields(im->l.collection, fields, &n, NULL) != KITH_OK) n = 0;
    for (size_t i = 0; i < n; i++) components += fields[i].dim;
    im->longest = PAYLOAD + OTHERS + NUMBER * components;
    im->most_parts = PAYLOAD_PARTS + OTHERS + components;
    if (im->most_parts > o->max_json_parts) im->most_parts = o->max_json_parts;
}

static kith_status open_import(import *im, kith_error *err)
{
    request *r = im->r;
    kith_status status = shelf_borrow(r->server->shelf, r->args[0], LOAN_OWN, &im->l, err);
    if (status != KITH_OK) return status;
    im->dim = kith_collection_dim(im->l.collection);
    if (im->is_floats && im->dim == 0)
        return common_fail(err, KITH_UNTRAINED, "the collection has no dim yet");
    bound_line(im);
    im->fill.bytes = malloc(BLOCK);
    im->at_work.bytes = malloc(BLOCK);
    if (!im->fill.bytes || !im->at_work.bytes) return common_fail_nomem(err);
    status = job_open(r->server->jobs, "import", r->args[0], &im->job, err);
    if (status != KITH_OK) return status;
    memcpy(im->id, job_id(im->job), JOB_ID);
    if (pthread_create(&im->thread, NULL, run, im) == 0) return KITH_OK;
    status = common_fail(err, KITH_NOMEM, "no thread can be started");
    job_close(im->job, status, NULL, err);
    im->job = NULL;
    return status;
}

static void give_up(import *im)
{
    shelf_return(im->r->server->shelf, &im->l);
    free(im->fill.bytes);
    free(im->at_work.bytes);
    free(im->rest.bytes);
    pthread_mutex_destroy(&im->lock);
    pthread_cond_destroy(&im->changed);
    free(im);
}

void import_begin(request *r)
{
    kith_error err = {0};
    import *im = calloc(1, sizeof *im);
    if (!im) {
        http_problem(r, 503, "out of memory");
        return;
    }
    im->r = r;
    pthread_mutex_init(&im->lock, NULL);
    pthread_cond_init(&im->changed, NULL);
    int good = read_head(im);
    if (good && open_import(im, &err) == KITH_OK) {
        r->import = im;
        return;
    }
    if (good) http_fail(r, &err);
    give_up(im);
}

size_t import_take(request *r, const char *data, size_t size)
{
    import *im = r->import;
    pthread_mutex_lock(&im->lock);
    if (im->done) { /* it failed: what still comes is dropped, so that the answer is read */
        r->drained += size;
        pthread_mutex_unlock(&im->lock);
        return size;
    }
    if (im->fill.size == BLOCK && im->at_work.size == 0) swap(im);
    size_t n = BLOCK - im->fill.size;
    if (n > size) n = size;
    memcpy(im->fill.bytes + im->fill.size, data, n);
    im->fill.size += n;
    if (im->fill.size == BLOCK && im->at_work.size == 0) swap(im);
    if (im->at_work.size > 0) pthread_cond_signal(&im->changed);
    if (n == 0) {
        watch_enter(r->server->watch, r->watched, WATCH_OURS, 0);
        im->suspended = r->paused = 1;
        MHD_suspend_connection(r->connection);
    }
    pthread_mutex_unlock(&im->lock);
    return n;
}

int import_finish(request *r)
{
    import *im = r->import;
    pthread_mutex_lock(&im->lock);
    im->complete = 1;
    pthread_cond_signal(&im->changed);
    int done = im->done;
    if (!done) {
        im->suspended = 1;
        MHD_suspend_connection(r->connection);
    }
    pthread_mutex_unlock(&im->lock);
    if (!done) return 0;
    char words[HTTP_WORDS];
    unsigned status = http_status_of(&im->err);
    if (im->status == KITH_OK)
        http_reply_json(r, 200, json_pack("{sI ss}", "rows", (json_int_t)im->rows, "job", im->id));
    else if (status < 500)
        http_problem(r, status, "%.400s; %llu rows before it are in",
                     http_without_folder(r->server, im->err.message, words), (unsigned long long)im->rows);
    else
        http_fail(r, &im->err);
    return 1;
}

void import_free(request *r)
{
    import *im = r->import;
    pthread_mutex_lock(&im->lock);
    im->abandoned = 1;
    pthread_cond_signal(&im->changed);
    pthread_mutex_unlock(&im->lock);
    pthread_join(im->thread, NULL);
    r->import = NULL;
    give_up(im);
}
