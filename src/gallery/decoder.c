/* The upper half of this file runs in a worker process, the rest in the program; decoder.h has the words. */
#include "gallery/decoder.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/error.h"
#include "gallery/utf8.h"

#define THUMBNAIL_QUALITY 78     /* 256 pixels wide: some 9 KB */
#define MAX_THUMBNAIL (1u << 20) /* bytes that are believed to be one */

/* ---- In the worker ---- */

typedef struct decoder {
    kith_features *features; /* NULL: none */
    kith_image_limits limits;
    uint32_t thumbnail_side;
    float *vector; /* [dim] */
    size_t dim;
} decoder;

static kith_status make_features(decoder *d, const uint8_t *bytes, size_t size, int with_sampling,
                                 const char *model, kith_error *err)
{
    if (size > 0)
        KI_TRY(kith_features_load(bytes, size, model[0] ? model : NULL, NULL, &d->features, err));
    else if (with_sampling)
        KI_TRY(kith_features_create(NULL, NULL, &d->features, err));
    if (!d->features) return KITH_OK;
    d->dim = kith_features_dim(d->features);
    d->vector = d->dim ? malloc(d->dim * sizeof *d->vector) : NULL;
    if (d->dim && !d->vector) return ki_fail(err, KITH_NOMEM, "out of memory");
    kith_features_limits(d->features, &d->limits);
    if (d->limits.long_side && d->limits.long_side < d->thumbnail_side)
        d->limits.long_side = d->thumbnail_side;
    return KITH_OK;
}

/* The state lives as long as the process: nothing is given back. */
static kith_status start(const uint8_t *setup, size_t size, void **state, kith_error *err)
{
    ki_bytes_reader in = {.at = setup, .left = size};
    decoder *d = calloc(1, sizeof *d);
    if (!d) return ki_fail(err, KITH_NOMEM, "out of memory");
    int with_sampling;
    size_t features_size, model_size;
    kith_image_limits_init(&d->limits);
    ki_bytes_take(&in, &d->limits.max_bytes, sizeof d->limits.max_bytes);
    ki_bytes_take(&in, &d->limits.max_megapixels, sizeof d->limits.max_megapixels);
    ki_bytes_take(&in, &d->thumbnail_side, sizeof d->thumbnail_side);
    ki_bytes_take(&in, &with_sampling, sizeof with_sampling);
    const uint8_t *features = ki_bytes_take_block(&in, &features_size);
    const uint8_t *model = ki_bytes_take_block(&in, &model_size); /* with its zero */
    if (in.failed || model_size == 0) return ki_fail(err, KITH_INTERNAL, "a decoder's setup is cut short");
    KI_TRY(kith_image_start(err));
    KI_TRY(make_features(d, features, features_size, with_sampling, (const char *)model, err));
    *state = d;
    return KITH_OK;
}

/* All bytes of a file from its beginning. pread, because the position is shared with the program. */
static kith_status read_file(int fd, uint64_t max_bytes, uint8_t **bytes, size_t *size, kith_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return ki_fail_errno(err, errno, "reading");
    if ((uint64_t)st.st_size > max_bytes)
        return ki_fail(err, KITH_UNSUPPORTED, "the file has %.1f MB, allowed %.1f", (double)st.st_size * 1e-6,
                       (double)max_bytes * 1e-6);
    size_t room = (size_t)st.st_size, n = 0;
    uint8_t *block = malloc(room + 1);
    if (!block) return ki_fail(err, KITH_NOMEM, "no memory for a file of %zu bytes", room);
    while (n < room) {
        ssize_t got = pread(fd, block + n, room - n, (off_t)n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            free(block);
            return ki_fail_errno(err, errno, "reading");
        }
        if (got == 0) break;
        n += (size_t)got;
    }
    if (n == 0) {
        free(block);
        return ki_fail(err, KITH_CORRUPT, "the file is empty");
    }
    *bytes = block;
    *size = n;
    return KITH_OK;
}

static int is_known(uint64_t hash, const uint8_t *known, size_t size)
{
    for (size_t at = 0; at + sizeof hash <= size; at += sizeof hash)
        if (memcmp(known + at, &hash, sizeof hash) == 0) return 1;
    return 0;
}

static void put_head(ki_bytes *reply, const ki_picture *p)
{
    int32_t decoded = p->decoded;
    uint32_t format = (uint32_t)p->format;
    ki_bytes_put(reply, &p->hash, sizeof p->hash);
    ki_bytes_put(reply, &p->bytes, sizeof p->bytes);
    ki_bytes_put(reply, &decoded, sizeof decoded);
    ki_bytes_put(reply, &p->phash, sizeof p->phash);
    ki_bytes_put(reply, &p->width, sizeof p->width);
    ki_bytes_put(reply, &p->height, sizeof p->height);
    ki_bytes_put(reply, &format, sizeof format);
    ki_bytes_put(reply, p->date, sizeof p->date);
    ki_bytes_put(reply, p->camera, sizeof p->camera);
    ki_bytes_put(reply, p->seconds, sizeof p->seconds);
}

/* Processor time of this process, nanoseconds: what a stage costs, however busy the machine is. */
static uint64_t spent_ns(void)
{
    struct timespec spent;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
    return (uint64_t)spent.tv_sec * 1000000000u + (uint64_t)spent.tv_nsec;
}

/* Sets one stage's seconds and begins the next. */
static void lap(uint64_t *since, double *seconds)
{
    uint64_t now = spent_ns();
    *seconds = (double)(now - *since) * 1e-9;
    *since = now;
}

static kith_status put_picture(decoder *d, const kith_image *image, ki_picture *p, uint64_t *since,
                               ki_bytes *reply, kith_error *err)
{
    uint8_t *thumbnail = NULL;
    size_t thumbnail_size = 0;
    if (d->features) KI_TRY(kith_features_extract(d->features, image, d->vector, err));
    lap(since, &p->seconds[KI_STAGE_FEATURES]);
    KI_TRY(kith_image_phash(image, &p->phash, err));
    if (d->thumbnail_side)
        KI_TRY(kith_image_thumbnail(image, d->thumbnail_side, THUMBNAIL_QUALITY, &thumbnail, &thumbnail_size,
                                    err));
    lap(since, &p->seconds[KI_STAGE_THUMBNAIL]);
    put_head(reply, p);
    ki_bytes_put_block(reply, d->vector, (uint32_t)(d->dim * sizeof *d->vector));
    ki_bytes_put_block(reply, thumbnail, (uint32_t)thumbnail_size);
    kith_image_bytes_free(image, thumbnail);
    return KITH_OK;
}

static kith_status put_sample(decoder *d, const kith_image *image, ki_picture *p, uint64_t *since,
                              ki_bytes *reply, kith_error *err)
{
    uint8_t *sample;
    size_t size;
    if (!d->features) return ki_fail(err, KITH_INTERNAL, "a decoder without features was asked for a sample");
    KI_TRY(kith_features_sample(d->features, image, &sample, &size, err));
    lap(since, &p->seconds[KI_STAGE_FEATURES]);
    put_head(reply, p);
    ki_bytes_put_block(reply, sample, (uint32_t)size);
    kith_features_bytes_free(d->features, sample);
    return KITH_OK;
}

static kith_status put_pixels(const kith_image *image, ki_picture *p, ki_bytes *reply, kith_error *err)
{
    uint64_t size = (uint64_t)image->width * image->height * 3;
    if (size > UINT32_MAX) return ki_fail(err, KITH_UNSUPPORTED, "too many pixels to be handed over");
    put_head(reply, p);
    ki_bytes_put(reply, &image->width, sizeof image->width);
    ki_bytes_put(reply, &image->height, sizeof image->height);
    ki_bytes_put_block(reply, image->pixels, (uint32_t)size);
    return KITH_OK;
}

static kith_status decode(decoder *d, ki_decode_kind kind, uint32_t long_side, const uint8_t *bytes,
                          size_t size, ki_picture *p, uint64_t *since, ki_bytes *reply, kith_error *err)
{
    kith_image image;
    kith_image_limits limits = d->limits;
    if (kind == KI_DECODE_PIXELS) {
        limits.long_side = long_side;
        limits.short_side = 0;
    }
    KI_TRY(kith_image_decode(bytes, size, &limits, NULL, &image, err));
    lap(since, &p->seconds[KI_STAGE_DECODE]);
    p->decoded = 1;
    p->width = image.file_width;
    p->height = image.file_height;
    p->format = image.format;
    memcpy(p->date, image.date, sizeof p->date);
    memcpy(p->camera, image.camera, sizeof p->camera);
    kith_status status;
    switch (kind) {
    case KI_DECODE_PICTURE: status = put_picture(d, &image, p, since, reply, err); break;
    case KI_DECODE_SAMPLE: status = put_sample(d, &image, p, since, reply, err); break;
    case KI_DECODE_PIXELS: status = put_pixels(&image, p, reply, err); break;
    default: status = ki_fail(err, KITH_INTERNAL, "a decoder was asked for %d", (int)kind);
    }
    kith_image_clear(&image);
    return status;
}

static kith_status run(void *state, const uint8_t *request, size_t size, int fd, ki_bytes *reply,
                       kith_error *err)
{
    decoder *d = state;
    ki_bytes_reader in = {.at = request, .left = size};
    uint32_t kind, long_side;
    size_t known_size;
    ki_bytes_take(&in, &kind, sizeof kind);
    ki_bytes_take(&in, &long_side, sizeof long_side);
    const uint8_t *known = ki_bytes_take_block(&in, &known_size);
    if (in.failed) return ki_fail(err, KITH_INTERNAL, "a decoder's task is cut short");

    ki_picture p = {0};
    uint8_t *bytes = NULL;
    size_t n_bytes = 0;
    uint64_t since = spent_ns();
    KI_TRY(read_file(fd, d->limits.max_bytes, &bytes, &n_bytes, err));
    p.hash = ki_checksum(bytes, n_bytes);
    p.bytes = n_bytes;
    lap(&since, &p.seconds[KI_STAGE_READ]);
    kith_status status = KITH_OK;
    if (is_known(p.hash, known, known_size))
        put_head(reply, &p);
    else
        status = decode(d, (ki_decode_kind)kind, long_side, bytes, n_bytes, &p, &since, reply, err);
    free(bytes);
    return status;
}

const ki_worker_job ki_decoder_job = {.start = start, .run = run};

/* ---- In the program ---- */

void ki_decoder_put_setup(ki_bytes *bytes, const ki_decoder_setup *setup)
{
    ki_bytes_put(bytes, &setup->max_bytes, sizeof setup->max_bytes);
    ki_bytes_put(bytes, &setup->max_megapixels, sizeof setup->max_megapixels);
    ki_bytes_put(bytes, &setup->thumbnail_side, sizeof setup->thumbnail_side);
    ki_bytes_put(bytes, &setup->with_sampling, sizeof setup->with_sampling);
    ki_bytes_put_block(bytes, setup->features, (uint32_t)setup->features_size);
    ki_bytes_put_block(bytes, setup->model, (uint32_t)strlen(setup->model) + 1);
}

void ki_decoder_put_request(ki_bytes *bytes, const ki_decode_request *request)
{
    uint32_t kind = (uint32_t)request->kind;
    ki_bytes_put(bytes, &kind, sizeof kind);
    ki_bytes_put(bytes, &request->long_side, sizeof request->long_side);
    ki_bytes_put_block(bytes, request->known, (uint32_t)(request->n_known * sizeof *request->known));
}

/* "2004-07-11 09:26:53" and nothing else. */
static int is_date(const char *text)
{
    static const char form[] = "dddd-dd-dd dd:dd:dd";
    for (size_t i = 0; i < sizeof form; i++) {
        int digit = text[i] >= '0' && text[i] <= '9';
        if (form[i] == 'd' ? !digit : text[i] != form[i]) return 0;
    }
    return 1;
}

static int is_line(const char *text, size_t room)
{
    if (!memchr(text, 0, room) || !ki_utf8_valid(text)) return 0;
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) return 0;
    return 1;
}

static void take_head(ki_bytes_reader *in, ki_picture *p)
{
    int32_t decoded;
    uint32_t format;
    *p = (ki_picture){0};
    ki_bytes_take(in, &p->hash, sizeof p->hash);
    ki_bytes_take(in, &p->bytes, sizeof p->bytes);
    ki_bytes_take(in, &decoded, sizeof decoded);
    ki_bytes_take(in, &p->phash, sizeof p->phash);
    ki_bytes_take(in, &p->width, sizeof p->width);
    ki_bytes_take(in, &p->height, sizeof p->height);
    ki_bytes_take(in, &format, sizeof format);
    ki_bytes_take(in, p->date, sizeof p->date);
    ki_bytes_take(in, p->camera, sizeof p->camera);
    ki_bytes_take(in, p->seconds, sizeof p->seconds);
    p->decoded = decoded;
    p->format = (kith_image_format)format;
}

static kith_status check_head(ki_picture *p, kith_error *err)
{
    for (int s = 0; s < KI_STAGES; s++)
        if (!(p->seconds[s] >= 0 && p->seconds[s] < 1e6)) p->seconds[s] = 0;
    if (p->decoded == 0) return KITH_OK;
    if (p->decoded != 1 || p->width == 0 || p->height == 0 || p->format < KITH_IMAGE_JPEG ||
        p->format > KITH_IMAGE_TIFF)
        return ki_fail(err, KITH_CORRUPT, "the decoder's result is of no picture");
    if ((p->date[0] && !is_date(p->date)) || !is_line(p->camera, sizeof p->camera))
        return ki_fail(err, KITH_CORRUPT, "the decoder's date or camera is no text");
    return KITH_OK;
}

static kith_status check_vector(const ki_picture *p, size_t dim, kith_error *err)
{
    if (p->dim != dim)
        return ki_fail(err, KITH_CORRUPT, "the decoder's vector has %zu components, due are %zu", p->dim,
                       dim);
    for (size_t d = 0; d < dim; d++) {
        float x;
        memcpy(&x, p->vector + d * sizeof x, sizeof x);
        if (!isfinite(x)) return ki_fail(err, KITH_CORRUPT, "the decoder's vector has a component of %g", x);
    }
    return KITH_OK;
}

kith_status ki_decoder_parse(const uint8_t *body, size_t size, ki_decode_kind kind, size_t dim, ki_picture *p,
                             kith_error *err)
{
    ki_bytes_reader in = {.at = body, .left = size};
    size_t n;
    take_head(&in, p);
    if (in.failed) return ki_fail(err, KITH_CORRUPT, "the decoder's result is cut short");
    KI_TRY(check_head(p, err));
    if (p->decoded && kind == KI_DECODE_PICTURE) {
        p->vector = ki_bytes_take_block(&in, &n);
        p->dim = n / sizeof(float);
        p->thumbnail = ki_bytes_take_block(&in, &p->thumbnail_size);
        KI_TRY(check_vector(p, dim, err));
        if (p->thumbnail_size > MAX_THUMBNAIL ||
            (p->thumbnail_size > 0 && kith_image_sniff(p->thumbnail, p->thumbnail_size) != KITH_IMAGE_JPEG))
            return ki_fail(err, KITH_CORRUPT, "the decoder's thumbnail is no JPEG");
    }
    if (p->decoded && kind == KI_DECODE_SAMPLE) p->sample = ki_bytes_take_block(&in, &p->sample_size);
    if (p->decoded && kind == KI_DECODE_PIXELS) {
        ki_bytes_take(&in, &p->pixel_width, sizeof p->pixel_width);
        ki_bytes_take(&in, &p->pixel_height, sizeof p->pixel_height);
        p->pixels = ki_bytes_take_block(&in, &n);
        if (p->pixel_width == 0 || p->pixel_height == 0 ||
            (uint64_t)p->pixel_width * p->pixel_height != n / 3 || n % 3)
            return ki_fail(err, KITH_CORRUPT, "the decoder's picture is %u x %u but has %zu bytes",
                           p->pixel_width, p->pixel_height, n);
    }
    if (in.failed || in.left > 0)
        return ki_fail(err, KITH_CORRUPT, "the decoder's result is %s", in.failed ? "cut short" : "too long");
    return KITH_OK;
}
