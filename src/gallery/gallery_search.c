/* Searching by picture, and decoding one for the caller: both happen in a worker. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/options.h"
#include "base/run.h"
#include "gallery/gallery_state.h"

#define WAIT_MS 200

/* What kith_gallery_answer_free must know. */
typedef struct answer_block {
    kith_gallery_answer answer; /* first: the caller's pointer is this block's */
    const kith_allocator *allocator;
} answer_block;

/* ---- One picture through one worker ---- */

static kith_status open_picture(const char *path, int *fd, kith_error *err)
{
    struct stat st;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (*fd < 0) return ki_fail_errno(err, errno, "%s", path);
    if (fstat(*fd, &st) == 0 && S_ISREG(st.st_mode)) return KITH_OK;
    close(*fd);
    return ki_fail(err, KITH_INVALID, "%s is not a file", path);
}

/* Bytes as a file without a name: workers take files only. */
static kith_status open_bytes(const void *bytes, size_t size, int *fd, kith_error *err)
{
    *fd = memfd_create("kith-query", MFD_CLOEXEC);
    if (*fd < 0) return ki_fail_errno(err, errno, "no memory file can be made");
    for (size_t at = 0; at < size;) {
        ssize_t n = write(*fd, (const char *)bytes + at, size - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            kith_status status =
                ki_fail_errno(err, errno, "a memory file of %zu bytes cannot be filled", size);
            close(*fd);
            return status;
        }
        at += (size_t)n;
    }
    return KITH_OK;
}

/* Have a worker look at a file. fd is taken over. *reply is to be cleared. */
static kith_status ask_worker(kith_gallery *g, const ki_decode_request *what, int fd, size_t dim,
                              const kith_run *run, ki_reply *reply, ki_picture *picture, kith_error *err)
{
    ki_bytes request = {0};
    ki_decoder_put_request(&request, what);
    if (request.failed) {
        close(fd);
        return ki_fail_nomem(err, sizeof request);
    }
    kith_status status = ki_workers_submit(g->workers, 0, request.data, request.size, fd, err);
    ki_bytes_clear(&request);
    for (int got = 0; status == KITH_OK && !got;) {
        status = ki_run_check(run, err);
        if (status == KITH_OK) status = ki_workers_wait(g->workers, WAIT_MS, &got, reply, err);
    }
    if (status != KITH_OK) {
        ki_workers_abandon(g->workers, NULL);
        return status;
    }
    status = reply->status;
    if (status != KITH_OK)
        ki_fail(err, status, "%s", reply->text);
    else
        status = ki_decoder_parse(reply->body, reply->size, what->kind, dim, picture, err);
    if (status == KITH_OK && !picture->decoded) /* nothing was known, so nothing may be left out */
        status = ki_fail(err, KITH_CORRUPT, "the decoder's result is of no picture");
    if (status != KITH_OK) ki_reply_clear(reply);
    return status;
}

/* ---- Search ---- */

static void *copy_block(const kith_allocator *allocator, const void *bytes, size_t size)
{
    char *copy = ki_alloc(allocator, size + 1, 1);
    if (!copy) return NULL;
    if (size) memcpy(copy, bytes, size);
    copy[size] = 0;
    return copy;
}

kith_status ki_gallery_fill_hit(kith_gallery *g, int64_t key, unsigned parts, kith_gallery_hit *hit,
                                kith_error *err)
{
    kith_row row;
    ki_row_file file;
    KI_TRY(kith_collection_get(g->collection, key, parts, &row, err));
    json_t *payload = ki_row_parse(row.payload, row.payload_size);
    int is_picture = ki_row_get_file(payload, &file);
    json_decref(payload);
    if (is_picture < 0) return ki_fail_nomem(err, row.payload_size);
    const char *path = is_picture ? file.path : "";
    size_t size = strlen(g->settings.root) + strlen(path) + 2;
    char *full = ki_alloc(g->allocator, size, 1);
    if (full) snprintf(full, size, "%s/%s", strcmp(g->settings.root, "/") == 0 ? "" : g->settings.root, path);
    free(file.path);
    hit->path = full;
    hit->payload = copy_block(g->allocator, row.payload, row.payload_size);
    if (row.attachment) {
        hit->thumbnail = copy_block(g->allocator, row.attachment, row.attachment_size);
        hit->thumbnail_size = row.attachment_size;
    }
    if (!hit->path || !hit->payload || (row.attachment && !hit->thumbnail)) return ki_fail_nomem(err, size);
    return KITH_OK;
}

void ki_gallery_clear_hit(const kith_allocator *allocator, kith_gallery_hit *hit)
{
    ki_free(allocator, (void *)hit->path);
    ki_free(allocator, (void *)hit->payload);
    ki_free(allocator, (void *)hit->thumbnail);
}

static kith_status find_rows(kith_gallery *g, const float *vector, const kith_gallery_query *query,
                             answer_block *block, kith_error *err)
{
    kith_collection_query rows;
    kith_collection_query_init(&rows);
    rows.k = query->k;
    rows.pool = query->run ? query->run->pool : NULL;
    rows.cancel = query->run ? query->run->cancel : NULL;
    rows.expression = query->filter;
    rows.plan = query->plan;
    int64_t *keys = ki_alloc(g->allocator, query->k, sizeof *keys);
    float *distances = ki_alloc(g->allocator, query->k, sizeof *distances);
    kith_collection_answer found = {0};
    kith_status status = keys && distances ? KITH_OK : ki_fail_nomem(err, query->k * sizeof *keys);
    if (status == KITH_OK)
        status = kith_collection_search(g->collection, 1, kith_collection_dim(g->collection), vector, &rows,
                                        keys, distances, &found, err);
    block->answer.complete = found.complete;
    unsigned parts = KITH_ROW_PAYLOAD | (query->thumbnails ? KITH_ROW_ATTACHMENT : 0);
    for (size_t i = 0; status == KITH_OK && i < query->k && keys[i]; i++) {
        kith_gallery_hit hit = {
            .key = keys[i], .distance = distances[i], .score = kith_metric_score(KITH_L2SQ, distances[i], 0)};
        if (hit.score < query->min_score) break;
        block->answer.hits[block->answer.n] = hit;
        status = ki_gallery_fill_hit(g, keys[i], parts, &block->answer.hits[block->answer.n++], err);
    }
    ki_free(g->allocator, keys);
    ki_free(g->allocator, distances);
    return status;
}

/* Search for what a worker said of the query picture. One state of the collection answers all of it. */
static kith_status answer_picture(kith_gallery *g, const ki_picture *picture, const kith_gallery_query *query,
                                  answer_block *block, kith_error *err)
{
    block->answer.hits = ki_alloc_zero(g->allocator, query->k, sizeof *block->answer.hits);
    float *vector = ki_alloc(g->allocator, picture->dim, sizeof *vector);
    kith_status status =
        block->answer.hits && vector ? KITH_OK : ki_fail_nomem(err, query->k * sizeof(kith_gallery_hit));
    if (status == KITH_OK) {
        memcpy(vector, picture->vector, picture->dim * sizeof *vector);
        status = find_rows(g, vector, query, block, err);
    }
    block->answer.vector = vector;
    block->answer.dim = picture->dim;
    block->answer.width = picture->width;
    block->answer.height = picture->height;
    if (status == KITH_OK && query->thumbnails) {
        block->answer.thumbnail = copy_block(g->allocator, picture->thumbnail, picture->thumbnail_size);
        block->answer.thumbnail_size = picture->thumbnail_size;
        if (!block->answer.thumbnail) status = ki_fail_nomem(err, picture->thumbnail_size);
    }
    return status;
}

/* Make the workers see pictures as the collection does. */
static kith_status prepare(kith_gallery *g, const kith_gallery_query *query, kith_error *err)
{
    kith_meta meta;
    if (!g->settings.root)
        return ki_fail(err, KITH_UNTRAINED, "%s: nothing was indexed into it yet", g->path);
    if (query->k < 1 || query->k > KITH_COLLECTION_MAX_K)
        return ki_fail(err, KITH_INVALID, "k is %zu, allowed 1..%d", query->k, KITH_COLLECTION_MAX_K);
    if (!(query->min_score >= 0 && query->min_score <= 1))
        return ki_fail(err, KITH_INVALID, "min_score is %g, allowed 0..1", (double)query->min_score);
    KI_TRY(kith_collection_meta_get(g->collection, "gallery/features", &meta, err));
    return ki_gallery_staff(g, meta.value, meta.size, 0, err);
}

/* fd is taken over. */
static kith_status search_file(kith_gallery *g, int fd, const kith_gallery_query *query,
                               kith_gallery_answer **answer, kith_error *err)
{
    ki_reply reply;
    ki_picture picture;
    KI_TRY(ask_worker(g, &(ki_decode_request){.kind = KI_DECODE_PICTURE}, fd,
                      kith_collection_dim(g->collection), query->run, &reply, &picture, err));
    answer_block *block = ki_alloc_zero(g->allocator, 1, sizeof *block);
    kith_status status = block ? KITH_OK : ki_fail_nomem(err, sizeof *block);
    if (status == KITH_OK) {
        block->allocator = g->allocator;
        status = answer_picture(g, &picture, query, block, err);
    }
    ki_reply_clear(&reply);
    if (status == KITH_OK)
        *answer = &block->answer;
    else if (block)
        kith_gallery_answer_free(&block->answer);
    return status;
}

/* path, or bytes[size] when it is NULL. */
static kith_status search(kith_gallery *g, const char *path, const void *bytes, size_t size,
                          const kith_gallery_query *given, kith_gallery_answer **answer, kith_error *err)
{
    kith_gallery_query query;
    int fd;
    *answer = NULL;
    kith_gallery_query_init(&query);
    KI_TRY(ki_options_read(&query, sizeof query, given, "query", err));
    KI_TRY(path ? open_picture(path, &fd, err) : open_bytes(bytes, size, &fd, err));
    kith_status status = ki_gallery_refresh(g, err);
    if (status == KITH_OK && !g->collection)
        status = ki_fail(err, KITH_NOTFOUND, "%s: no such collection", g->path);
    if (status == KITH_OK) status = kith_collection_pin(g->collection, err);
    if (status != KITH_OK) {
        close(fd);
        return status;
    }
    /* Pinned before the features are read: the vectors are those that they made. */
    status = prepare(g, &query, err);
    if (status == KITH_OK)
        status = search_file(g, fd, &query, answer, err);
    else
        close(fd);
    kith_collection_unpin(g->collection);
    return status;
}

kith_status kith_gallery_search(kith_gallery *g, const char *picture, const kith_gallery_query *query,
                                kith_gallery_answer **answer, kith_error *err)
{
    return search(g, picture, NULL, 0, query, answer, err);
}

kith_status kith_gallery_search_bytes(kith_gallery *g, const void *bytes, size_t size,
                                      const kith_gallery_query *query, kith_gallery_answer **answer,
                                      kith_error *err)
{
    return search(g, NULL, bytes, size, query, answer, err);
}

void kith_gallery_answer_free(kith_gallery_answer *answer)
{
    if (!answer) return;
    answer_block *block = (answer_block *)answer;
    const kith_allocator *allocator = block->allocator;
    for (size_t i = 0; i < answer->n; i++) ki_gallery_clear_hit(allocator, &answer->hits[i]);
    ki_free(allocator, answer->hits);
    ki_free(allocator, (void *)answer->thumbnail);
    ki_free(allocator, (void *)answer->vector);
    ki_free(allocator, block);
}

/* ---- Pixels ---- */

kith_status kith_gallery_decode(kith_gallery *g, const char *picture, uint32_t long_side, kith_image *image,
                                kith_error *err)
{
    ki_reply reply;
    ki_picture found;
    int fd;
    *image = (kith_image){0};
    if (g->path)
        return ki_fail(err, KITH_INVALID, "a gallery opened with a collection does not hand out pixels");
    KI_TRY(open_picture(picture, &fd, err));
    kith_status status = ki_gallery_staff(g, NULL, 0, 0, err);
    if (status != KITH_OK) {
        close(fd);
        return status;
    }
    KI_TRY(ask_worker(g, &(ki_decode_request){.kind = KI_DECODE_PIXELS, .long_side = long_side}, fd, 0, NULL,
                      &reply, &found, err));
    size_t size = (size_t)found.pixel_width * found.pixel_height * 3;
    image->pixels = ki_alloc(g->allocator, size, 1);
    if (image->pixels) {
        memcpy(image->pixels, found.pixels, size);
        image->width = found.pixel_width;
        image->height = found.pixel_height;
        image->file_width = found.width;
        image->file_height = found.height;
        image->format = found.format;
        image->allocator = g->allocator;
        memcpy(image->date, found.date, sizeof image->date);
        memcpy(image->camera, found.camera, sizeof image->camera);
    } else {
        status = ki_fail_nomem(err, size);
    }
    ki_reply_clear(&reply);
    return status;
}
