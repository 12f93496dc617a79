/* Learning a codebook: a sample of the pictures goes through the workers, what they say of it is trained on
 * here. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/run.h"
#include "gallery/gallery_state.h"

#define SAMPLE 1000 /* pictures; beyond, the codebook gains nothing that a search would show */

typedef struct sampler {
    kith_gallery *g;
    const char *root;
    const ki_walk *walk;
    const kith_run *run;
    kith_gallery_report *report;
    ki_stage stage;
    size_t n;
    uint64_t *picked;  /* [n] files of the walk, ascending */
    ki_reply *replies; /* [n] own the samples */
    const uint8_t **samples;
    size_t *sizes;
} sampler;

static kith_status submit(sampler *s, size_t i, kith_error *err)
{
    ki_walk_file file = s->walk->files[s->picked[i]];
    int fd;
    kith_status status = ki_gallery_open_file(s->root, &file, &fd, err);
    if (status == KITH_INTERNAL || status == KITH_NOMEM) return status;
    if (fd < 0) return KITH_OK; /* indexing will say why */
    s->report->read++;
    ki_bytes request = {0};
    ki_decoder_put_request(&request, &(ki_decode_request){.kind = KI_DECODE_SAMPLE});
    if (request.failed) {
        close(fd);
        return ki_fail_nomem(err, sizeof request);
    }
    status = ki_workers_submit(s->g->workers, i, request.data, request.size, fd, err);
    ki_bytes_clear(&request);
    return status;
}

static void take(sampler *s, ki_reply *reply)
{
    ki_picture picture;
    size_t i = reply->tag;
    if (reply->status != KITH_OK ||
        ki_decoder_parse(reply->body, reply->size, KI_DECODE_SAMPLE, 0, &picture, NULL) != KITH_OK ||
        !picture.decoded) {
        ki_reply_clear(reply);
        return;
    }
    s->report->seconds_read += picture.seconds[KI_STAGE_READ];
    s->report->seconds_decode += picture.seconds[KI_STAGE_DECODE];
    s->report->seconds_features += picture.seconds[KI_STAGE_FEATURES];
    s->replies[i] = *reply;
    s->samples[i] = picture.sample;
    s->sizes[i] = picture.sample_size;
}

static kith_status gather(sampler *s, kith_error *err)
{
    ki_stage_begin(&s->stage, s->run, "sampling", s->n);
    for (size_t next = 0, done = 0;;) {
        KI_TRY(ki_run_check(s->run, err));
        while (next < s->n && ki_workers_room(s->g->workers) > 0) KI_TRY(submit(s, next++, err));
        int got;
        ki_reply reply;
        KI_TRY(ki_workers_wait(s->g->workers, 200, &got, &reply, err));
        if (got) {
            take(s, &reply);
            ki_stage_report(&s->stage, ++done);
        }
        if (next == s->n && ki_workers_busy(s->g->workers) == 0) return KITH_OK;
    }
}

/* Train on those samples that could be had, in the order of the paths. */
static kith_status train(sampler *s, uint64_t seed, kith_features **features, kith_error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (!s->samples[i]) continue;
        s->samples[n] = s->samples[i];
        s->sizes[n++] = s->sizes[i];
    }
    if (n < KITH_FEATURES_TRAIN_MIN)
        return ki_fail(err, KITH_UNTRAINED, "only %zu pictures to train on, needed are %d", n,
                       KITH_FEATURES_TRAIN_MIN);
    kith_features_options options;
    kith_features_options_init(&options);
    options.seed = seed;
    KI_TRY(kith_features_create(&options, s->g->allocator, features, err));
    kith_status status = kith_features_train(*features, s->samples, s->sizes, n, s->run, err);
    if (status != KITH_OK) {
        kith_features_free(*features);
        *features = NULL;
    }
    return status;
}

kith_status ki_gallery_train(kith_gallery *g, const char *root, const ki_walk *walk, uint64_t seed,
                             const kith_run *run, kith_gallery_report *report, kith_features **features,
                             kith_error *err)
{
    *features = NULL;
    if (walk->n < KITH_FEATURES_TRAIN_MIN)
        return ki_fail(err, KITH_UNTRAINED, "only %zu pictures to train on, needed are %d", walk->n,
                       KITH_FEATURES_TRAIN_MIN);
    sampler s = {.g = g, .root = root, .walk = walk, .run = run, .report = report};
    s.n = walk->n < SAMPLE ? walk->n : SAMPLE;
    s.picked = ki_alloc_zero(g->allocator, s.n, sizeof *s.picked);
    s.replies = ki_alloc_zero(g->allocator, s.n, sizeof *s.replies);
    s.samples = ki_alloc_zero(g->allocator, s.n, sizeof *s.samples);
    s.sizes = ki_alloc_zero(g->allocator, s.n, sizeof *s.sizes);
    kith_status status = KITH_OK;
    if (!s.picked || !s.replies || !s.samples || !s.sizes)
        status = ki_fail_nomem(err, s.n * sizeof(ki_reply));
    uint64_t begun = ki_now_ns();
    if (status == KITH_OK) status = ki_gallery_staff(g, NULL, 0, 1, err);
    if (status == KITH_OK) {
        ki_rng rng;
        ki_rng_init(&rng, seed, 0);
        ki_rng_sample(&rng, walk->n, s.n, s.picked);
        status = gather(&s, err);
        if (status != KITH_OK) ki_workers_abandon(g->workers, NULL);
    }
    if (status == KITH_OK) status = train(&s, seed, features, err);
    report->seconds_train += (double)(ki_now_ns() - begun) * 1e-9;
    for (size_t i = 0; s.replies && i < s.n; i++) ki_reply_clear(&s.replies[i]);
    ki_free(g->allocator, s.picked);
    ki_free(g->allocator, s.replies);
    ki_free(g->allocator, s.samples);
    ki_free(g->allocator, s.sizes);
    return status;
}
