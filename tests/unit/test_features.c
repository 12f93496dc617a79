/* Features: training, vectors, mirrors, saved bytes and what is wrong with them, networks. The pictures are drawn
 * here: coloured noise of several grains, so that there is something to learn. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/features.h>
#include <kith/run.h>

#include "base/checksum.h"
#include "base/rng.h"
#include "image/eigen.h"
#include "image/local.h"

enum { N = 102, WIDTH = 120, HEIGHT = 90 };

static kith_image draw(uint64_t number, uint32_t width, uint32_t height)
{
    kith_image image = {.width = width, .height = height};
    image.pixels = malloc((size_t)width * height * 3);
    ki_rng rng;
    ki_rng_init(&rng, test_seed() + number, 0);
    double wave[3][4];
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < 4; i++) wave[c][i] = ki_rng_uniform(&rng) * 0.5;
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++)
            for (int c = 0; c < 3; c++) {
                double v = sin(wave[c][0] * x + wave[c][1] * y) + sin(wave[c][2] * x - wave[c][3] * y);
                image.pixels[((size_t)y * width + x) * 3 + (size_t)c] =
                    (uint8_t)(128 + 50 * v + 10 * ki_rng_uniform(&rng));
            }
    return image;
}

static kith_image mirrored(const kith_image *image)
{
    kith_image out = *image;
    out.pixels = malloc((size_t)image->width * image->height * 3);
    for (size_t y = 0; y < image->height; y++)
        for (size_t x = 0; x < image->width; x++)
            memcpy(out.pixels + (y * image->width + x) * 3,
                   image->pixels + (y * image->width + image->width - 1 - x) * 3, 3);
    return out;
}

/* The pixels here come from malloc, not from a kith_allocator. */
static void drop(kith_image *image)
{
    free(image->pixels);
    image->pixels = NULL;
}

static kith_features *create(kith_features_kind kind, uint64_t seed)
{
    kith_features *features;
    kith_features_options options;
    kith_error err;
    kith_features_options_init(&options);
    options.kind = kind;
    options.seed = seed;
    assert_ok(kith_features_create(&options, NULL, &features, &err), &err);
    return features;
}

static uint8_t *samples[N];
static size_t sizes[N];
static kith_features *sampler, *trained;

static int make_samples(void **state)
{
    (void)state;
    kith_error err;
    sampler = create(KITH_FEATURES_CLASSIC, 1);
    trained = create(KITH_FEATURES_CLASSIC, 1);
    for (size_t i = 0; i < N; i++) {
        kith_image image = draw(i, 2000, 10); /* a strip has few patches: training on strips is quick */
        if (kith_features_sample(sampler, &image, &samples[i], &sizes[i], &err) != KITH_OK) return -1;
        drop(&image);
    }
    return kith_features_train(trained, (const uint8_t *const *)samples, sizes, N, NULL, &err) != KITH_OK;
}

static int drop_samples(void **state)
{
    (void)state;
    for (size_t i = 0; i < N; i++) kith_features_bytes_free(sampler, samples[i]);
    kith_features_free(sampler);
    kith_features_free(trained);
    return 0;
}

static float *extract(kith_features *features, const kith_image *image)
{
    kith_error err;
    size_t dim = kith_features_dim(features);
    float *vector = malloc(dim * sizeof *vector);
    assert_ok(kith_features_extract(features, image, vector, &err), &err);
    double squares = 0;
    for (size_t d = 0; d < dim; d++) squares += (double)vector[d] * vector[d];
    assert_true(fabs(squares - 1) < 1e-4);
    return vector;
}

static double distance(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t d = 0; d < dim; d++) sum += ((double)a[d] - b[d]) * ((double)a[d] - b[d]);
    return sum;
}

/* A matrix with known eigenvalues: q diag(values) q' for a product of reflections q. Small and large. */
static void eigenvalues_are_found(void **state)
{
    (void)state;
    static const size_t sizes_tried[] = {1, 2, 40, 400};
    for (size_t s = 0; s < 4; s++) {
        size_t n = sizes_tried[s], m = n < 20 ? n : 20;
        double *a = calloc(n * n, sizeof *a), *u = malloc(n * sizeof *u), *au = malloc(n * sizeof *au);
        double *values = malloc(m * sizeof *values), *vectors = malloc(m * n * sizeof *vectors);
        ki_rng rng;
        ki_rng_init(&rng, test_seed(), 3);
        for (size_t i = 0; i < n; i++) a[i * n + i] = 100 * pow(0.8, (double)i);
        for (int turn = 0; turn < 3; turn++) { /* a = (1 - 2uu') a (1 - 2uu') */
            double length = 0, uau = 0;
            for (size_t i = 0; i < n; i++) {
                u[i] = ki_rng_gauss(&rng);
                length += u[i] * u[i];
            }
            for (size_t i = 0; i < n; i++) u[i] /= sqrt(length);
            for (size_t i = 0; i < n; i++) {
                au[i] = 0;
                for (size_t j = 0; j < n; j++) au[i] += a[i * n + j] * u[j];
                uau += u[i] * au[i];
            }
            for (size_t i = 0; i < n; i++)
                for (size_t j = 0; j < n; j++)
                    a[i * n + j] += 4 * uau * u[i] * u[j] - 2 * u[i] * au[j] - 2 * au[i] * u[j];
        }
        kith_error err;
        assert_ok(ki_eigen_largest(a, n, m, NULL, NULL, values, vectors, &err), &err);
        for (size_t k = 0; k < m; k++) {
            assert_true(fabs(values[k] - 100 * pow(0.8, (double)k)) < 1e-6);
            double length = 0, off = 0;
            for (size_t i = 0; i < n; i++) {
                double sum = 0;
                for (size_t j = 0; j < n; j++) sum += a[i * n + j] * vectors[k * n + j];
                off += fabs(sum - values[k] * vectors[k * n + i]);
                length += vectors[k * n + i] * vectors[k * n + i];
            }
            assert_true(fabs(length - 1) < 1e-9);
            assert_true(off < 1e-3);
        }
        free(a), free(u), free(au), free(values), free(vectors);
    }
}

static void local_parts_ignore_mirrors(void **state)
{
    (void)state;
    kith_image image = draw(5, 256, 256), mirror = mirrored(&image);
    ki_local a, b;
    kith_error err;
    assert_ok(ki_local_describe(&image, NULL, &a, &err), &err);
    assert_ok(ki_local_describe(&mirror, NULL, &b, &err), &err);
    assert_true(a.n_gradients > 1000 && a.n_colours > 1000);
    assert_int_equal(a.n_gradients, b.n_gradients);
    for (size_t d = 0; d < KI_HISTOGRAM_DIM; d++) assert_float_equal(a.histogram[d], b.histogram[d], 1e-6);
    /* The patches are the same ones in another order: their sums agree, component by component. */
    for (size_t d = 0; d < KI_GRADIENT_DIM; d++) {
        double sum_a = 0, sum_b = 0;
        for (size_t i = 0; i < a.n_gradients; i++) sum_a += a.gradients[i * KI_GRADIENT_DIM + d];
        for (size_t i = 0; i < b.n_gradients; i++) sum_b += b.gradients[i * KI_GRADIENT_DIM + d];
        assert_true(fabs(sum_a - sum_b) < 0.02 * (double)a.n_gradients * 0.1);
    }
    for (size_t i = 0; i < a.n_gradients; i++) {
        double squares = 0;
        for (size_t d = 0; d < KI_GRADIENT_DIM; d++)
            squares += (double)a.gradients[i * KI_GRADIENT_DIM + d] * a.gradients[i * KI_GRADIENT_DIM + d];
        assert_true(fabs(squares - 1) < 1e-4);
    }
    ki_local_clear(&a);
    ki_local_clear(&b);
    drop(&image);
    drop(&mirror);
}

static void vectors_know_the_picture(void **state)
{
    (void)state;
    assert_int_equal(kith_features_dim(trained), N - 1);
    assert_true(kith_features_trained(trained));
    assert_non_null(strstr(kith_features_description(trained), "trained on 102 pictures"));
    static const kith_features_kind kinds[] = {KITH_FEATURES_CLASSIC, KITH_FEATURES_PLAIN};
    for (size_t k = 0; k < 2; k++) {
        kith_features *f = kinds[k] == KITH_FEATURES_CLASSIC ? trained : create(KITH_FEATURES_PLAIN, 1);
        size_t dim = kith_features_dim(f);
        for (uint64_t i = 0; i < 5; i++) {
            kith_image image = draw(i, WIDTH, HEIGHT), mirror = mirrored(&image),
                       other = draw(i + 50, WIDTH, HEIGHT);
            float *a = extract(f, &image), *again = extract(f, &image), *b = extract(f, &mirror);
            float *c = extract(f, &other);
            assert_memory_equal(a, again, dim * sizeof *a);
            assert_true(distance(a, b, dim) < 0.1 * distance(a, c, dim));
            free(a), free(again), free(b), free(c);
            drop(&image), drop(&mirror), drop(&other);
        }
        if (f != trained) kith_features_free(f);
    }
}

/* Strips, single pixels and flat pictures have a vector too. */
static void odd_pictures_have_vectors(void **state)
{
    (void)state;
    static const uint32_t shapes[][2] = {{1, 1}, {3, 2}, {2000, 1}, {1, 2000}, {16, 1500}, {700, 500}};
    kith_features *plain = create(KITH_FEATURES_PLAIN, 1);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int flat = 0; flat < 2; flat++) {
            kith_image image = draw(s, shapes[s][0], shapes[s][1]);
            if (flat) memset(image.pixels, 77, (size_t)image.width * image.height * 3);
            free(extract(trained, &image));
            free(extract(plain, &image));
            uint8_t *sample;
            size_t size;
            assert_ok(kith_features_sample(trained, &image, &sample, &size, NULL), &(kith_error){0});
            assert_true(size <= 110000);
            kith_features_bytes_free(trained, sample);
            drop(&image);
        }
    kith_image none = {0};
    float vector[KI_HISTOGRAM_DIM + 512];
    assert_int_equal(kith_features_extract(plain, &none, vector, NULL), KITH_INVALID);
    kith_features_free(plain);
}

static uint64_t train_with(uint64_t seed, size_t threads)
{
    kith_features *features = create(KITH_FEATURES_CLASSIC, seed);
    kith_pool *pool = NULL;
    kith_run run;
    kith_error err;
    kith_run_init(&run);
    assert_ok(kith_pool_create(threads, NULL, &pool, &err), &err);
    run.pool = pool;
    assert_ok(kith_features_train(features, (const uint8_t *const *)samples, sizes, N, &run, &err), &err);
    uint64_t fingerprint = kith_features_fingerprint(features);
    kith_features_free(features);
    kith_pool_free(pool);
    return fingerprint;
}

static void training_is_reproducible(void **state)
{
    (void)state;
    uint64_t first = kith_features_fingerprint(trained);
    assert_true(first != 0);
    assert_true(first == train_with(1, 3));
    assert_true(first != train_with(2, 1));
    assert_true(first != kith_features_fingerprint(sampler));
    assert_true(kith_features_fingerprint(sampler) == 0);
}

static void training_refuses(void **state)
{
    (void)state;
    kith_error err;
    kith_features *features = create(KITH_FEATURES_CLASSIC, 1), *plain = create(KITH_FEATURES_PLAIN, 1);
    const uint8_t *const *given = (const uint8_t *const *)samples;
    kith_image image = draw(1, WIDTH, HEIGHT);
    float vector[4];
    uint8_t *bytes;
    size_t size;
    assert_int_equal(kith_features_train(features, given, sizes, KITH_FEATURES_TRAIN_MIN - 1, NULL, &err),
                     KITH_UNTRAINED);
    assert_non_null(strstr(err.message, "at least 100"));
    assert_int_equal(kith_features_extract(features, &image, vector, &err), KITH_UNTRAINED);
    assert_int_equal(kith_features_save(features, &bytes, &size, &err), KITH_UNTRAINED);
    assert_int_equal(kith_features_dim(features), 0);
    assert_int_equal(kith_features_train(plain, given, sizes, N, NULL, &err), KITH_INVALID);
    assert_int_equal(kith_features_sample(plain, &image, &bytes, &size, &err), KITH_INVALID);
    assert_null(bytes);
    drop(&image);

    /* Flat pictures do not teach, however many; nor does one picture a hundred times. */
    uint8_t *flat;
    size_t flat_size;
    image = draw(1, WIDTH, HEIGHT);
    memset(image.pixels, 9, WIDTH * HEIGHT * 3);
    assert_ok(kith_features_sample(features, &image, &flat, &flat_size, &err), &err);
    const uint8_t *same[N];
    size_t same_sizes[N];
    for (size_t i = 0; i < N; i++) same[i] = flat, same_sizes[i] = flat_size;
    assert_int_equal(kith_features_train(features, same, same_sizes, N, NULL, &err), KITH_UNTRAINED);
    for (size_t i = 0; i < N; i++) same[i] = samples[0], same_sizes[i] = sizes[0];
    assert_int_equal(kith_features_train(features, same, same_sizes, N, NULL, &err), KITH_UNTRAINED);
    kith_features_bytes_free(features, flat);
    drop(&image);

    kith_cancel cancel = {0};
    kith_run run;
    kith_run_init(&run);
    run.cancel = &cancel;
    kith_cancel_raise(&cancel);
    assert_int_equal(kith_features_train(features, given, sizes, N, &run, &err), KITH_CANCELLED);
    assert_false(kith_features_trained(features));
    kith_features_free(features);
    kith_features_free(plain);
}

/* Samples come from a process that has decoded hostile files. */
static void damaged_samples_are_refused(void **state)
{
    (void)state;
    kith_error err;
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 7);
    const uint8_t *given[N];
    size_t given_sizes[N];
    memcpy(given, samples, sizeof given);
    memcpy(given_sizes, sizes, sizeof sizes);
    kith_features *features = create(KITH_FEATURES_CLASSIC, 1);
    for (size_t size = 0; size < sizes[3]; size = size < 20 ? size + 1 : size + 5003) {
        uint8_t *cut = malloc(size + !size);
        memcpy(cut, samples[3], size);
        given[3] = cut;
        given_sizes[3] = size;
        assert_int_equal(kith_features_train(features, given, given_sizes, N, NULL, &err), KITH_CORRUPT);
        free(cut);
    }
    given_sizes[3] = sizes[3];
    uint8_t *wrong = malloc(sizes[3]);
    given[3] = wrong;
    for (size_t at = 0; at < 12; at++) { /* magic and counts */
        memcpy(wrong, samples[3], sizes[3]);
        wrong[at] ^= 0x81;
        assert_int_equal(kith_features_train(features, given, given_sizes, N, NULL, &err), KITH_CORRUPT);
    }
    memcpy(wrong, samples[3], sizes[3]);
    memset(wrong + 16, 0xff, 4); /* a NaN in the histogram */
    assert_int_equal(kith_features_train(features, given, given_sizes, N, NULL, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.message, "sample 3"));
    free(wrong);
    kith_features_free(features);
}

static void saved_features_come_back(void **state)
{
    (void)state;
    kith_error err;
    kith_features *plain = create(KITH_FEATURES_PLAIN, 1), *originals[] = {trained, plain};
    kith_image image = draw(3, WIDTH, HEIGHT);
    for (size_t i = 0; i < 2; i++) {
        uint8_t *bytes;
        size_t size;
        kith_features *copy;
        assert_ok(kith_features_save(originals[i], &bytes, &size, &err), &err);
        assert_ok(kith_features_load(bytes, size, NULL, NULL, &copy, &err), &err);
        assert_true(kith_features_fingerprint(copy) == kith_features_fingerprint(originals[i]));
        assert_int_equal(kith_features_get_kind(copy), kith_features_get_kind(originals[i]));
        assert_int_equal(kith_features_dim(copy), kith_features_dim(originals[i]));
        assert_string_equal(kith_features_description(copy), kith_features_description(originals[i]));
        float *a = extract(originals[i], &image), *b = extract(copy, &image);
        assert_memory_equal(a, b, kith_features_dim(copy) * sizeof *a);
        free(a), free(b);
        kith_features_bytes_free(originals[i], bytes);
        kith_features_free(copy);
    }
    assert_true(kith_features_fingerprint(trained) != kith_features_fingerprint(plain));
    kith_features_free(plain);
    drop(&image);
}

static void damaged_features_are_refused(void **state)
{
    (void)state;
    kith_error err;
    kith_features *copy;
    uint8_t *bytes;
    size_t size;
    assert_ok(kith_features_save(trained, &bytes, &size, &err), &err);
    for (size_t cut = 0; cut < size; cut = cut < 100 ? cut + 1 : cut + size / 13) {
        assert_int_equal(kith_features_load(bytes, cut, NULL, NULL, &copy, &err), KITH_CORRUPT);
        assert_null(copy);
    }
    bytes[size / 2] ^= 1;
    assert_int_equal(kith_features_load(bytes, size, NULL, NULL, &copy, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.message, "checksum"));
    bytes[size / 2] ^= 1;

    /* With the checksum repaired: each byte of the header changed, and bad floats. */
    for (size_t at = 0; at < 56; at++) {
        uint8_t was = bytes[at];
        bytes[at] ^= 0x84;
        uint64_t sum = ki_checksum(bytes, size - 8);
        for (size_t i = 0; i < 8; i++) bytes[size - 8 + i] = (uint8_t)(sum >> 8 * i);
        kith_status status = kith_features_load(bytes, size, NULL, NULL, &copy, &err);
        if (status == KITH_OK)
            assert_true(kith_features_fingerprint(copy) != kith_features_fingerprint(trained));
        kith_features_free(copy);
        bytes[at] = was;
    }
    static const uint32_t bad[] = {0x7f800000, 0x7fc00000, 0x7f000000};
    for (size_t i = 0; i < 3; i++) {
        uint8_t was[4];
        memcpy(was, bytes + 4096, 4);
        memcpy(bytes + 4096, &bad[i], 4);
        uint64_t sum = ki_checksum(bytes, size - 8);
        for (size_t b = 0; b < 8; b++) bytes[size - 8 + b] = (uint8_t)(sum >> 8 * b);
        assert_int_equal(kith_features_load(bytes, size, NULL, NULL, &copy, &err), KITH_CORRUPT);
        memcpy(bytes + 4096, was, 4);
    }
    kith_features_bytes_free(trained, bytes);
}

/* Every allocation of training, extracting, saving and loading fails once. */
static void memory_runs_out_cleanly(void **state)
{
    (void)state;
    kith_error err;
    uint8_t *saved;
    size_t saved_size;
    kith_image image = draw(3, WIDTH, HEIGHT);
    assert_ok(kith_features_save(trained, &saved, &saved_size, &err), &err);
    float *vector = malloc(kith_features_dim(trained) * sizeof *vector);
    for (size_t fail_at = 0, done = 0; !done; fail_at++) {
        test_allocator a;
        test_allocator_init(&a, fail_at, 0);
        kith_features *f = NULL;
        uint8_t *bytes = NULL, *sample = NULL;
        size_t size;
        kith_status status = kith_features_load(saved, saved_size, NULL, &a.base, &f, &err);
        if (status == KITH_OK) status = kith_features_extract(f, &image, vector, &err);
        if (status == KITH_OK) status = kith_features_sample(f, &image, &sample, &size, &err);
        if (status == KITH_OK) status = kith_features_save(f, &bytes, &size, &err);
        done = status == KITH_OK;
        if (!done) assert_int_equal(status, KITH_NOMEM);
        if (f) kith_features_bytes_free(f, bytes), kith_features_bytes_free(f, sample);
        kith_features_free(f);
        assert_int_equal(a.live, 0);
        assert_true(fail_at < 1000);
    }
    kith_features_bytes_free(trained, saved);
    free(vector);
    drop(&image);
}

/* The same for training, which is long: beyond the first allocations only every KITH_FAULT_STRIDE-th fails. */
static void training_survives_no_memory(void **state)
{
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    const size_t usual = 150; /* a training takes ten times as long there */
#else
    const size_t usual = 45;
#endif
    size_t stride = test_number("KITH_FAULT_STRIDE", usual);
    for (size_t fail_at = 0, done = 0; !done; fail_at += fail_at < 10 ? 1 : stride) {
        test_allocator a;
        kith_features *f;
        kith_error err;
        test_allocator_init(&a, fail_at, 0);
        kith_status status = kith_features_create(NULL, &a.base, &f, &err);
        if (status == KITH_OK)
            status = kith_features_train(f, (const uint8_t *const *)samples, sizes, N, NULL, &err);
        done = status == KITH_OK;
        if (!done) assert_int_equal(status, KITH_NOMEM);
        if (!done && f) assert_true(kith_features_fingerprint(f) == 0);
        kith_features_free(f);
        assert_int_equal(a.live, 0);
        assert_true(fail_at < 1000);
    }
}

static void options_are_checked(void **state)
{
    (void)state;
    kith_features *f;
    kith_features_options options;
    kith_error err;
    kith_features_options_init(&options);
    options.kind = (kith_features_kind)3;
    assert_int_equal(kith_features_create(&options, NULL, &f, &err), KITH_INVALID);
    options.kind = KITH_FEATURES_MODEL;
    assert_int_equal(kith_features_create(&options, NULL, &f, &err), KITH_INVALID);
    options.model = "/nonexistent/model.onnx";
    options.input = 15;
    assert_int_equal(kith_features_create(&options, NULL, &f, &err), KITH_INVALID);
    options.input = 2049;
    assert_int_equal(kith_features_create(&options, NULL, &f, &err), KITH_INVALID);
    options.input = 224;
    options.scale = NAN;
    assert_int_equal(kith_features_create(&options, NULL, &f, &err), KITH_INVALID);
    options.scale = 1;
    options.layer = "";
    assert_int_equal(kith_features_create(&options, NULL, &f, &err), KITH_INVALID);
    assert_null(f);
    setenv("KITH_PLUGINS", test_folder(), 1);
    options.layer = NULL;
    assert_int_equal(kith_features_create(&options, NULL, &f, &err), KITH_UNSUPPORTED);
    assert_non_null(strstr(err.message, "libkith-dnn.so"));
    unsetenv("KITH_PLUGINS");
}

static void write_file(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static void networks_make_vectors(void **state)
{
    (void)state;
    const char *data = test_data("models/mobilenet_v1_0.5_160_quant.onnx");
    if (!data) skip();
    char path[4096], broken[512];
    snprintf(path, sizeof path, "%s", data);
    kith_features *f, *copy;
    kith_features_options options;
    kith_error err;
    kith_features_options_init(&options);
    options.kind = KITH_FEATURES_MODEL;
    options.model = path;
    options.input = 160;
    kith_status status = kith_features_create(&options, NULL, &f, &err);
    if (status == KITH_UNSUPPORTED) {
        fprintf(stderr, "skipped: %s\n", err.message);
        skip();
    }
    assert_ok(status, &err);
    assert_int_equal(kith_features_dim(f), 512);
    assert_non_null(strstr(kith_features_description(f), "layer onnx_node!t84, 512-d"));
    kith_image_limits limits;
    kith_image_limits_init(&limits);
    kith_features_limits(f, &limits);
    assert_int_equal(limits.short_side, 183);

    kith_image image = draw(3, WIDTH, HEIGHT), other = draw(4, 2000, 3);
    float *a = extract(f, &image), *b = extract(f, &other);
    assert_true(distance(a, b, 512) > 0.01);

    uint8_t *bytes;
    size_t size;
    assert_ok(kith_features_save(f, &bytes, &size, &err), &err);
    assert_ok(kith_features_load(bytes, size, path, NULL, &copy, &err), &err);
    assert_true(kith_features_fingerprint(copy) == kith_features_fingerprint(f));
    float *again = extract(copy, &image);
    assert_memory_equal(a, again, 512 * sizeof *a);
    free(again);
    kith_features_free(copy);
    for (size_t cut = 0; cut < size; cut++)
        assert_int_equal(kith_features_load(bytes, cut, NULL, NULL, &copy, &err), KITH_CORRUPT);

    options.scale = 1;
    assert_ok(kith_features_create(&options, NULL, &copy, &err), &err);
    assert_true(kith_features_fingerprint(copy) != kith_features_fingerprint(f));
    kith_features_free(copy);
    options.layer = "nowhere";
    assert_int_equal(kith_features_create(&options, NULL, &copy, &err), KITH_NOTFOUND);
    assert_non_null(strstr(err.message, "onnx_node!t86"));
    options.layer = NULL;
    snprintf(broken, sizeof broken, "%s/broken.onnx", test_folder());
    options.model = broken;
    assert_int_equal(kith_features_create(&options, NULL, &copy, &err), KITH_NOTFOUND);
    write_file(broken, "this is no network", 18);
    assert_int_equal(kith_features_create(&options, NULL, &copy, &err), KITH_FORMAT);
    write_file(broken, "", 0);
    assert_int_equal(kith_features_create(&options, NULL, &copy, &err), KITH_FORMAT);
    assert_int_equal(kith_features_load(bytes, size, broken, NULL, &copy, &err), KITH_FORMAT);
    kith_features_bytes_free(f, bytes);
    kith_features_free(f);
    free(a), free(b);
    drop(&image), drop(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eigenvalues_are_found),        cmocka_unit_test(local_parts_ignore_mirrors),
        cmocka_unit_test(vectors_know_the_picture),     cmocka_unit_test(odd_pictures_have_vectors),
        cmocka_unit_test(training_is_reproducible),     cmocka_unit_test(training_refuses),
        cmocka_unit_test(damaged_samples_are_refused),  cmocka_unit_test(saved_features_come_back),
        cmocka_unit_test(damaged_features_are_refused), cmocka_unit_test(memory_runs_out_cleanly),
        cmocka_unit_test(training_survives_no_memory),  cmocka_unit_test(options_are_checked),
        cmocka_unit_test(networks_make_vectors),
    };
    return cmocka_run_group_tests(tests, make_samples, drop_samples);
}
