/* features.h - a picture as one vector of floats, and how such vectors are made.
 *
 * A kith_features is a way of making vectors. There are three kinds:
 *   CLASSIC  local gradient descriptors aggregated by VLAD over a codebook learnt from a sample of the
 *            collection, joined with colour histograms. No model file; needs training. The default.
 *   PLAIN    the parts of CLASSIC that need no training. For a folder too small to train on.
 *   MODEL    the inner layer of a convolutional network read from an ONNX file, by the plug-in libkith-dnn.
 * All vectors have Euclidean length 1 and are compared with KITH_L2SQ (0..4; 0 is the same picture).
 *
 * Vectors are comparable only if they were made in the same way. A kith_features is therefore saved with the
 * collection, and its fingerprint says which vectors belong together.
 *
 * Life of a CLASSIC: create, sample some pictures (in any number of processes), train, save; load, extract.
 * PLAIN and MODEL need no training: create, save; load, extract.
 */
#ifndef KITH_FEATURES_H
#define KITH_FEATURES_H

#include <kith/image.h>
#include <kith/metric.h>
#include <kith/run.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kith_features kith_features;

typedef enum kith_features_kind {
    KITH_FEATURES_CLASSIC = 0,
    KITH_FEATURES_PLAIN = 1,
    KITH_FEATURES_MODEL = 2
} kith_features_kind;

typedef struct kith_features_options {
    size_t struct_size;
    kith_features_kind kind;
    uint64_t seed;     /* of the codebook (CLASSIC) */
    const char *model; /* MODEL: path of the ONNX file */
    const char *layer; /* MODEL: the layer whose output is the vector; NULL: the input of the last fully
                          connected one */
    uint32_t input;    /* MODEL: width and height of the network's input, 16..2048 */
    float mean[3];     /* MODEL: subtracted from red, green, blue (0..255), then */
    float scale;       /* MODEL: multiplied */
} kith_features_options;

static inline void kith_features_options_init(kith_features_options *options)
{
    options->struct_size = sizeof *options;
    options->kind = KITH_FEATURES_CLASSIC;
    options->seed = 1;
    options->model = NULL;
    options->layer = NULL;
    options->input = 224;
    options->mean[0] = options->mean[1] = options->mean[2] = 127.5f;
    options->scale = 1 / 127.5f;
}

/* Training needs at least so many pictures with detail in them; beyond the second number more do not help. */
#define KITH_FEATURES_TRAIN_MIN 100
#define KITH_FEATURES_TRAIN_MAX 1000

/* Make a way of making vectors.
 * In:       options may be NULL for CLASSIC with its defaults.
 * Out:      *features, NULL on failure.
 * Errors:   KITH_INVALID options; MODEL: KITH_NOTFOUND, KITH_IO the file; KITH_FORMAT not a network that can be
 *           read, or KITH_NOTFOUND no such layer (the message names the last ones that exist);
 *           KITH_UNSUPPORTED the plug-in is missing; KITH_NOMEM.
 * Threads:  one kith_features belongs to one thread at a time; load it once a thread or process.
 * Memory:   CLASSIC some 8 MB once trained, MODEL about three times the model file. The allocator must outlive
 *           it; VLFeat and OpenCV use the C library's. */
KITH_API kith_status kith_features_create(const kith_features_options *options,
                                          const kith_allocator *allocator, kith_features **features,
                                          kith_error *err);
KITH_API void kith_features_free(kith_features *features); /* NULL is allowed */

KITH_API kith_features_kind kith_features_get_kind(const kith_features *features);

/* Whether extract works: always for PLAIN and MODEL, after training for CLASSIC. */
KITH_API int kith_features_trained(const kith_features *features);

/* The number of floats in a vector; 0 for an untrained CLASSIC. */
KITH_API size_t kith_features_dim(const kith_features *features);

/* How vectors are compared: KITH_L2SQ for every kind. */
KITH_API kith_metric kith_features_metric(const kith_features *features);

/* 64 bits over everything that decides a vector's value: kind, settings, codebook, the model file's bytes,
 * and the version of the algorithm. Equal fingerprints: comparable vectors. 0 for an untrained CLASSIC. */
KITH_API uint64_t kith_features_fingerprint(const kith_features *features);

/* One line for people: "classic, 256-d, trained on 1000 pictures". Valid until the features are freed. */
KITH_API const char *kith_features_description(const kith_features *features);

/* The smallest size to decode to that the features want: sets long_side and short_side of limits. Larger
 * pictures are shrunk further by extract itself, so one decode serves features, thumbnail and hash. */
KITH_API void kith_features_limits(const kith_features *features, kith_image_limits *limits);

/* What training wants to know about one picture, as bytes to send from a worker to the process that trains.
 * Out:      *sample, *size (up to 110 KB): to be given back with kith_features_bytes_free.
 * Errors:   KITH_INVALID for a kind without training or an empty picture; KITH_NOMEM. */
KITH_API kith_status kith_features_sample(kith_features *features, const kith_image *image, uint8_t **sample,
                                          size_t *size, kith_error *err);
KITH_API void kith_features_bytes_free(const kith_features *features, void *bytes);

/* Learn the codebook and the projections from samples of n pictures. The result depends on the samples, their
 * order and the seed, not on the number of threads. May be called again, to renew.
 * In:       samples[n], each of sizes[n] bytes, as kith_features_sample made them (checked, not trusted);
 *           those beyond KITH_FEATURES_TRAIN_MAX are ignored.
 * Errors:   KITH_UNTRAINED fewer than KITH_FEATURES_TRAIN_MIN pictures, or too little detail in them: use PLAIN;
 *           KITH_CORRUPT a damaged sample; KITH_INVALID a kind without training; KITH_CANCELLED; KITH_NOMEM.
 *           The features are unchanged unless KITH_OK is returned.
 * Threads:  the pool of run.
 * Memory:   about 90 MB for KITH_FEATURES_TRAIN_MAX pictures, beside the samples.
 * Cost:     19 s for so many on two busy processors; docs/quality.md. */
KITH_API kith_status kith_features_train(kith_features *features, const uint8_t *const *samples,
                                         const size_t *sizes, size_t n, const kith_run *run, kith_error *err);

/* The vector of a picture.
 * Out:      vector[dim], of length 1.
 * Errors:   KITH_UNTRAINED; KITH_INVALID an empty picture; KITH_NOMEM; KITH_INTERNAL the network failed. The
 *           vector is undefined unless KITH_OK is returned.
 * Cost:     CLASSIC and MobileNetV2 some 60 ms a picture; docs/quality.md. */
KITH_API kith_status kith_features_extract(kith_features *features, const kith_image *image, float *vector,
                                           kith_error *err);

/* Everything needed to make the same vectors again, as bytes to be kept beside them. A MODEL is saved by the
 * path and the hash of its file, not with its contents.
 * Out:      *bytes, *size: to be given back with kith_features_bytes_free.
 * Errors:   KITH_UNTRAINED, KITH_NOMEM. */
KITH_API kith_status kith_features_save(const kith_features *features, uint8_t **bytes, size_t *size,
                                        kith_error *err);

/* The reverse. The bytes are checked, not trusted.
 * In:       model: MODEL only, where the file is now; NULL: where it was.
 * Out:      *features, NULL on failure.
 * Errors:   KITH_CORRUPT, KITH_VERSION the bytes; KITH_INVALID the model file is not the same one any more;
 *           and those of kith_features_create. */
KITH_API kith_status kith_features_load(const void *bytes, size_t size, const char *model,
                                        const kith_allocator *allocator, kith_features **features,
                                        kith_error *err);

#ifdef __cplusplus
}
#endif
#endif
