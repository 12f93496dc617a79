/* The front door of features: one handle for the three kinds, saved bytes, fingerprints. */
#include <kith/features.h>

#include <stdio.h>
#include <string.h>

#include "base/checksum.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/options.h"
#include "image/classic.h"
#include "image/model.h"
#include "image/vips.h"

/* Saved: magic, kind, seed, the kind's own part, XXH3-64 of all before. Numbers are little-endian. */
#define MAGIC "kithfeat"
enum { HEADER_BYTES = 8 + 8 + 8, CHECKSUM_BYTES = 8 };

/* What pictures are decoded to for CLASSIC: near the 256 x 256 pixels that they are described at, so that
 * decoding shrinks most; a strip keeps its short side. */
enum { CLASSIC_LONG_SIDE = 400, CLASSIC_SHORT_SIDE = 160 };

struct kith_features {
    kith_features_kind kind;
    size_t dim;
    uint64_t seed, fingerprint;
    ki_classic classic; /* CLASSIC */
    ki_model model;     /* MODEL */
    float *joint;       /* CLASSIC: scratch [KI_JOINT_DIM] */
    char description[400];
    const kith_allocator *allocator;
};

static int is_trained(const kith_features *f)
{
    return f->kind != KITH_FEATURES_CLASSIC || f->classic.block;
}

/* The saved form without its checksum; with bytes->data NULL, only its size. */
static void put_all(const kith_features *f, int path, ki_bytes *bytes)
{
    ki_bytes_put(bytes, MAGIC, 8);
    ki_bytes_put_u64(bytes, (uint64_t)f->kind);
    ki_bytes_put_u64(bytes, f->seed);
    if (f->kind == KITH_FEATURES_CLASSIC) ki_classic_put(&f->classic, bytes);
    if (f->kind == KITH_FEATURES_PLAIN) ki_bytes_put_u64(bytes, KI_CLASSIC_VERSION);
    if (f->kind == KITH_FEATURES_MODEL) ki_model_put(&f->model, path, bytes);
}

/* Everything as one block, the checksum at its end. */
static kith_status to_bytes(const kith_features *f, int path, uint8_t **data, size_t *size, kith_error *err)
{
    ki_bytes bytes = {0};
    put_all(f, path, &bytes);
    *size = bytes.at + CHECKSUM_BYTES;
    *data = ki_alloc(f->allocator, *size, 1);
    if (!*data) return ki_fail_nomem(err, *size);
    bytes = (ki_bytes){.data = *data, .size = *size};
    put_all(f, path, &bytes);
    ki_bytes_put_u64(&bytes, ki_checksum(*data, bytes.at));
    return KITH_OK;
}

/* Set what follows from the kind's own part: dim, fingerprint, description. */
static kith_status settle(kith_features *f, kith_error *err)
{
    switch (f->kind) {
    case KITH_FEATURES_CLASSIC:
        f->dim = f->classic.dim;
        if (f->dim)
            snprintf(f->description, sizeof f->description, "classic, %zu-d, trained on %zu pictures", f->dim,
                     f->classic.trained);
        else
            snprintf(f->description, sizeof f->description, "classic, untrained");
        break;
    case KITH_FEATURES_PLAIN:
        f->dim = KI_PLAIN_DIM;
        snprintf(f->description, sizeof f->description, "plain, %zu-d", f->dim);
        break;
    case KITH_FEATURES_MODEL: {
        const char *slash = strrchr(f->model.path, '/');
        f->dim = f->model.dim;
        snprintf(f->description, sizeof f->description, "model %.120s, layer %.200s, %zu-d",
                 slash ? slash + 1 : f->model.path, f->model.layer, f->dim);
        break;
    }
    }
    f->fingerprint = 0;
    if (!is_trained(f)) return KITH_OK;
    uint8_t *data;
    size_t size;
    KI_TRY(to_bytes(f, 0, &data, &size, err));
    f->fingerprint = ki_checksum(data, size);
    if (f->fingerprint == 0) f->fingerprint = 1;
    ki_free(f->allocator, data);
    return KITH_OK;
}

static kith_status make(kith_features_kind kind, uint64_t seed, const kith_allocator *allocator,
                        kith_features **features, kith_error *err)
{
    kith_features *f = ki_alloc_zero(allocator, 1, sizeof *f);
    if (!f) return ki_fail_nomem(err, sizeof *f);
    f->kind = kind;
    f->seed = seed;
    f->allocator = allocator;
    if (kind == KITH_FEATURES_CLASSIC) {
        f->joint = ki_alloc(allocator, KI_JOINT_DIM, sizeof *f->joint);
        if (!f->joint) {
            kith_features_free(f);
            return ki_fail_nomem(err, KI_JOINT_DIM * sizeof(float));
        }
    }
    *features = f;
    return KITH_OK;
}

kith_status kith_features_create(const kith_features_options *options, const kith_allocator *allocator,
                                 kith_features **features, kith_error *err)
{
    kith_features_options o;
    kith_features_options_init(&o);
    *features = NULL;
    KI_TRY(ki_options_read(&o, sizeof o, options, "options", err));
    if ((unsigned)o.kind > KITH_FEATURES_MODEL)
        return ki_fail(err, KITH_INVALID, "kind is %d, allowed 0..%d", (int)o.kind, KITH_FEATURES_MODEL);
    if (o.kind == KITH_FEATURES_MODEL && !o.model) return ki_fail(err, KITH_INVALID, "model is NULL");
    kith_features *f = NULL;
    KI_TRY(make(o.kind, o.kind == KITH_FEATURES_CLASSIC ? o.seed : 0, allocator, &f, err));
    kith_status status = KITH_OK;
    if (o.kind == KITH_FEATURES_MODEL) {
        ki_dnn_input input = {.side = o.input, .scale = o.scale};
        memcpy(input.mean, o.mean, sizeof input.mean);
        status = ki_model_open(o.model, o.layer, &input, allocator, &f->model, err);
    }
    if (status == KITH_OK) status = settle(f, err);
    if (status != KITH_OK) {
        kith_features_free(f);
        return status;
    }
    *features = f;
    return KITH_OK;
}

void kith_features_free(kith_features *features)
{
    if (!features) return;
    ki_classic_clear(&features->classic, features->allocator);
    if (features->kind == KITH_FEATURES_MODEL) ki_model_close(&features->model);
    ki_free(features->allocator, features->joint);
    ki_free(features->allocator, features);
}

kith_features_kind kith_features_get_kind(const kith_features *features)
{
    return features->kind;
}

int kith_features_trained(const kith_features *features)
{
    return is_trained(features);
}

size_t kith_features_dim(const kith_features *features)
{
    return features->dim;
}

kith_metric kith_features_metric(const kith_features *features)
{
    (void)features;
    return KITH_L2SQ;
}

uint64_t kith_features_fingerprint(const kith_features *features)
{
    return features->fingerprint;
}

const char *kith_features_description(const kith_features *features)
{
    return features->description;
}

void kith_features_limits(const kith_features *features, kith_image_limits *limits)
{
    int model = features->kind == KITH_FEATURES_MODEL;
    uint32_t short_side = model ? ki_model_short_side(&features->model) : CLASSIC_SHORT_SIDE;
    limits->long_side = model ? short_side : CLASSIC_LONG_SIDE;
    limits->short_side = short_side;
}

void kith_features_bytes_free(const kith_features *features, void *bytes)
{
    ki_free(features->allocator, bytes);
}

/* ---- vectors ---- */

kith_status kith_features_extract(kith_features *features, const kith_image *image, float *vector,
                                  kith_error *err)
{
    if (!is_trained(features)) return ki_fail(err, KITH_UNTRAINED, "the features have not been trained");
    if (features->kind == KITH_FEATURES_MODEL) return ki_model_vector(&features->model, image, vector, err);
    ki_local local;
    KI_TRY(ki_local_describe(image, features->allocator, &local, err));
    if (features->kind == KITH_FEATURES_CLASSIC)
        ki_classic_vector(&features->classic, &local, features->joint, vector);
    else
        ki_plain_vector(&local, vector);
    ki_local_clear(&local);
    return KITH_OK;
}

/* ---- training ---- */

static kith_status check_trainable(const kith_features *features, kith_error *err)
{
    if (features->kind == KITH_FEATURES_CLASSIC) return KITH_OK;
    return ki_fail(err, KITH_INVALID, "features of kind %d are not trained, only CLASSIC ones (%d) are",
                   (int)features->kind, KITH_FEATURES_CLASSIC);
}

kith_status kith_features_sample(kith_features *features, const kith_image *image, uint8_t **sample,
                                 size_t *size, kith_error *err)
{
    *sample = NULL;
    *size = 0;
    KI_TRY(check_trainable(features, err));
    ki_local local;
    KI_TRY(ki_local_describe(image, features->allocator, &local, err));
    /* The draw depends on the picture, not on who describes it in which order. */
    uint64_t seed =
        ki_checksum_seeded(image->pixels, (size_t)image->width * image->height * 3, features->seed);
    kith_status status = ki_classic_sample(&local, seed, features->allocator, sample, size, err);
    ki_local_clear(&local);
    return status;
}

kith_status kith_features_train(kith_features *features, const uint8_t *const *samples, const size_t *sizes,
                                size_t n, const kith_run *run, kith_error *err)
{
    KI_TRY(check_trainable(features, err));
    ki_classic learnt, old = features->classic;
    KI_TRY(ki_classic_train(samples, sizes, n, features->seed, features->allocator, run, &learnt, err));
    features->classic = learnt;
    kith_status status = settle(features, err);
    if (status != KITH_OK) {
        features->classic = old;
        old = learnt;
        settle(features,
               NULL); /* out of memory again leaves the fingerprint 0: as if untrained, never wrong */
    }
    ki_classic_clear(&old, features->allocator);
    return status;
}

/* ---- saved ---- */

kith_status kith_features_save(const kith_features *features, uint8_t **bytes, size_t *size, kith_error *err)
{
    *bytes = NULL;
    *size = 0;
    if (!is_trained(features)) return ki_fail(err, KITH_UNTRAINED, "the features have not been trained");
    return to_bytes(features, 1, bytes, size, err);
}

kith_status kith_features_load(const void *bytes, size_t size, const char *model,
                               const kith_allocator *allocator, kith_features **features, kith_error *err)
{
    *features = NULL;
    if (size < HEADER_BYTES + CHECKSUM_BYTES || memcmp(bytes, MAGIC, 8) != 0)
        return ki_fail(err, KITH_CORRUPT, "these %zu bytes are no saved features", size);
    ki_bytes b = {.data = (uint8_t *)bytes, .size = size, .at = size - CHECKSUM_BYTES};
    if (ki_bytes_get_u64(&b) != ki_checksum(bytes, size - CHECKSUM_BYTES))
        return ki_fail(err, KITH_CORRUPT, "saved features are damaged: their checksum is wrong");
    b = (ki_bytes){.data = (uint8_t *)bytes, .size = size - CHECKSUM_BYTES, .at = 8};
    uint64_t kind = ki_bytes_get_u64(&b), seed = ki_bytes_get_u64(&b);
    if (kind > KITH_FEATURES_MODEL)
        return ki_fail(err, KITH_VERSION, "features of kind %llu, this program knows 0..%d",
                       (unsigned long long)kind, KITH_FEATURES_MODEL);
    kith_features *f = NULL;
    KI_TRY(make((kith_features_kind)kind, seed, allocator, &f, err));
    kith_status status = KITH_OK;
    if (f->kind == KITH_FEATURES_CLASSIC) status = ki_classic_get(&b, allocator, &f->classic, err);
    if (f->kind == KITH_FEATURES_MODEL) status = ki_model_get(&b, model, allocator, &f->model, err);
    if (f->kind == KITH_FEATURES_PLAIN) {
        uint64_t version = ki_bytes_get_u64(&b);
        if (version != KI_CLASSIC_VERSION)
            status =
                ki_fail(err, KITH_VERSION, "plain features of version %llu, this program makes version %d",
                        (unsigned long long)version, KI_CLASSIC_VERSION);
        else if (b.failed || b.at != b.size)
            status = ki_fail(err, KITH_CORRUPT, "saved features are damaged");
    }
    if (status == KITH_OK) status = settle(f, err);
    if (status != KITH_OK) {
        kith_features_free(f);
        return status;
    }
    *features = f;
    return KITH_OK;
}
