/* decoder.h - the job of the worker processes: a picture file in, what a collection wants to know out. */
#ifndef KI_GALLERY_DECODER_H
#define KI_GALLERY_DECODER_H

#include <kith/features.h>
#include <kith/image.h>

#include "gallery/wire.h"
#include "gallery/worker.h"

extern const ki_worker_job ki_decoder_job;

/* ---- Setup ---- */

typedef struct ki_decoder_setup {
    uint64_t max_bytes;
    double max_megapixels;
    uint32_t thumbnail_side; /* 0: no thumbnail */
    /* How features are made: bytes of kith_features_save, or features_size 0 and then with_sampling: an
     * untrained CLASSIC for KI_DECODE_SAMPLE, without: no features. */
    const uint8_t *features;
    size_t features_size;
    int with_sampling;
    const char *model; /* where the model file is now; "" where it was */
} ki_decoder_setup;

void ki_decoder_put_setup(ki_bytes *bytes, const ki_decoder_setup *setup);

/* ---- Tasks ---- */

typedef enum ki_decode_kind {
    KI_DECODE_PICTURE = 1, /* vector, perceptual hash, thumbnail, what the file says */
    KI_DECODE_SAMPLE = 2,  /* what training wants to know */
    KI_DECODE_PIXELS = 3   /* the picture itself */
} ki_decode_kind;

#define KI_DECODE_MAX_KNOWN 4096

typedef struct ki_decode_request {
    ki_decode_kind kind;
    uint32_t long_side; /* PIXELS: shrink to it, 0: not */
    /* PICTURE: known[n_known] content hashes. A file with one of them is read but not decoded. */
    const uint64_t *known;
    size_t n_known; /* up to KI_DECODE_MAX_KNOWN */
} ki_decode_request;

void ki_decoder_put_request(ki_bytes *bytes, const ki_decode_request *request);

/* ---- Results ---- */

enum { KI_STAGE_READ, KI_STAGE_DECODE, KI_STAGE_FEATURES, KI_STAGE_THUMBNAIL, KI_STAGES };

typedef struct ki_picture {
    uint64_t hash;  /* XXH3-64 of the file's bytes */
    uint64_t bytes; /* how many */
    int decoded;    /* 0: the hash is one of the known ones, and nothing follows but the seconds */
    uint64_t phash;
    uint32_t width, height; /* upright, as the file holds it */
    kith_image_format format;
    char date[20], camera[96];
    double seconds[KI_STAGES]; /* of processor time */
    const uint8_t *vector;     /* dim floats, not aligned */
    size_t dim;
    const uint8_t *thumbnail; /* a JPEG */
    size_t thumbnail_size;
    const uint8_t *sample;
    size_t sample_size;
    const uint8_t *pixels; /* [pixel_height][pixel_width][3] */
    uint32_t pixel_width, pixel_height;
} ki_picture;

/* Read a result and check it: the process that wrote it had hostile bytes in its hands.
 * In:       kind that was asked for; dim, the components a vector must have.
 * Out:      *picture, pointing into body.
 * Errors:   KITH_CORRUPT, saying what is wrong. */
kith_status ki_decoder_parse(const uint8_t *body, size_t size, ki_decode_kind kind, size_t dim,
                             ki_picture *picture, kith_error *err);

#endif
