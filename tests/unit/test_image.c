/* Decoding: every format, EXIF turns, transparency, colour spaces, broken and hostile files; thumbnails and
 * the perceptual hash. The picture files are made here, by libvips. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vips/vips.h>

#include <kith/image.h>

#include "base/rng.h"

typedef struct file {
    uint8_t *bytes;
    size_t size;
} file;

/* Four flat quadrants: red, green / blue, white; large enough for JPEG's blocks. */
static const uint8_t quadrants[4][3] = {{255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {255, 255, 255}};

static VipsImage *draw(uint32_t width, uint32_t height)
{
    uint8_t *p = malloc((size_t)width * height * 3);
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++)
            memcpy(p + ((size_t)y * width + x) * 3, quadrants[(y >= height / 2) * 2 + (x >= width / 2)], 3);
    VipsImage *image = vips_image_new_from_memory_copy(p, (size_t)width * height * 3, (int)width, (int)height,
                                                       3, VIPS_FORMAT_UCHAR);
    image->Type = VIPS_INTERPRETATION_sRGB;
    free(p);
    return image;
}

/* Smooth waves: a picture whose thumbnail and hash say something. */
static VipsImage *draw_waves(int width, int height, double phase)
{
    uint8_t *p = malloc((size_t)width * height * 3);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            double u = (double)x / width, v = (double)y / height, *w = (double[3]){0, 0, 0};
            w[0] = 128 + 60 * sin(7 * u + phase) + 60 * sin(9 * v * u + 3 * phase);
            w[1] = 128 + 60 * sin(11 * v - phase) + 60 * cos(5 * u * u + phase);
            w[2] = 128 + 100 * sin(6 * (u + v) + 2 * phase);
            for (int c = 0; c < 3; c++) p[((size_t)y * width + x) * 3 + c] = (uint8_t)w[c];
        }
    VipsImage *image =
        vips_image_new_from_memory_copy(p, (size_t)width * height * 3, width, height, 3, VIPS_FORMAT_UCHAR);
    image->Type = VIPS_INTERPRETATION_sRGB;
    free(p);
    return image;
}

/* Consumes the image. */
static file save(VipsImage *image, const char *suffix)
{
    void *buffer = NULL;
    file f = {NULL, 0};
    if (vips_image_write_to_buffer(image, suffix, &buffer, &f.size, NULL) != 0)
        fail_msg("%s: %s", suffix, vips_error_buffer());
    f.bytes = malloc(f.size); /* of exact size, so that the sanitizer sees an over-read */
    memcpy(f.bytes, buffer, f.size);
    g_free(buffer);
    g_object_unref(image);
    return f;
}

static void assert_pixel(const kith_image *image, uint32_t x, uint32_t y, const uint8_t want[3],
                         int tolerance)
{
    const uint8_t *p = image->pixels + ((size_t)y * image->width + x) * 3;
    for (int c = 0; c < 3; c++)
        if (abs(p[c] - want[c]) > tolerance)
            fail_msg("pixel %u,%u is %d %d %d, not %d %d %d", x, y, p[0], p[1], p[2], want[0], want[1],
                     want[2]);
}

/* The centres of the quadrants, in the order given. */
static void assert_quadrants(const kith_image *image, const int order[4], int tolerance)
{
    for (uint32_t q = 0; q < 4; q++)
        assert_pixel(image, image->width * (1 + 2 * (q & 1)) / 4, image->height * (1 + 2 * (q >> 1)) / 4,
                     quadrants[order[q]], tolerance);
}

static const int upright[4] = {0, 1, 2, 3};

static void decodes_every_format(void **state)
{
    (void)state;
    static const struct {
        const char *suffix;
        kith_image_format format;
        int tolerance;
    } cases[] = {
        {".jpg[Q=95]", KITH_IMAGE_JPEG, 12},
        {".jpg[interlace]", KITH_IMAGE_JPEG, 30},
        {".png", KITH_IMAGE_PNG, 0},
        {".png[interlace]", KITH_IMAGE_PNG, 0},
        {".png[palette]", KITH_IMAGE_PNG, 2},
        {".webp[lossless]", KITH_IMAGE_WEBP, 0},
        {".webp[Q=90]", KITH_IMAGE_WEBP, 20},
        {".gif", KITH_IMAGE_GIF, 4},
        {".tif", KITH_IMAGE_TIFF, 0},
        {".tif[compression=lzw]", KITH_IMAGE_TIFF, 0},
        {".tif[compression=jpeg]", KITH_IMAGE_TIFF, 40},
        {".tif[compression=deflate,tile,pyramid]", KITH_IMAGE_TIFF, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kith_error err;
        kith_image image;
        file f = save(draw(96, 64), cases[i].suffix);
        assert_int_equal(kith_image_sniff(f.bytes, f.size), cases[i].format);
        assert_ok(kith_image_decode(f.bytes, f.size, NULL, NULL, &image, &err), &err);
        assert_int_equal(image.format, cases[i].format);
        assert_int_equal(image.width, 96);
        assert_int_equal(image.height, 64);
        assert_int_equal(image.file_width, 96);
        assert_int_equal(image.file_height, 64);
        assert_quadrants(&image, upright, cases[i].tolerance);
        kith_image_clear(&image);
        assert_null(image.pixels);
        free(f.bytes);
    }
}

static void turns_by_exif(void **state)
{
    (void)state;
    /* Which stored quadrant is seen at top left, top right, bottom left, bottom right. */
    static const int seen[8][4] = {{0, 1, 2, 3}, {1, 0, 3, 2}, {3, 2, 1, 0}, {2, 3, 0, 1},
                                   {0, 2, 1, 3}, {2, 0, 3, 1}, {3, 1, 2, 0}, {1, 3, 0, 2}};
    for (int turn = 1; turn <= 8; turn++)
        for (uint32_t side = 0; side <= 60; side += 60) {
            VipsImage *drawn = draw(160, 96);
            vips_image_set_int(drawn, VIPS_META_ORIENTATION, turn);
            file f = save(drawn, ".jpg[Q=95]");
            kith_image image;
            kith_error err;
            kith_image_limits limits;
            kith_image_limits_init(&limits);
            limits.long_side = side;
            assert_ok(kith_image_decode(f.bytes, f.size, &limits, NULL, &image, &err), &err);
            uint32_t wide = side ? side : 160, high = side ? 36 : 96;
            assert_int_equal(image.width, turn < 5 ? wide : high);
            assert_int_equal(image.height, turn < 5 ? high : wide);
            assert_int_equal(image.file_width, turn < 5 ? 160 : 96);
            assert_int_equal(image.file_height, turn < 5 ? 96 : 160);
            assert_quadrants(&image, seen[turn - 1], 12);
            kith_image_clear(&image);
            free(f.bytes);
        }
}

static void transparency_is_white(void **state)
{
    (void)state;
    static const char *const suffixes[] = {".png", ".webp[lossless]", ".tif"};
    for (size_t i = 0; i < 3; i++) {
        VipsImage *rgb = draw(32, 32), *alpha, *rgba;
        assert_int_equal(vips_black(&alpha, 32, 32, NULL), 0);
        assert_int_equal(vips_bandjoin2(rgb, alpha, &rgba, NULL), 0);
        g_object_unref(rgb);
        g_object_unref(alpha);
        file f = save(rgba, suffixes[i]);
        kith_image image;
        kith_error err;
        assert_ok(kith_image_decode(f.bytes, f.size, NULL, NULL, &image, &err), &err);
        assert_pixel(&image, 8, 8, (uint8_t[]){255, 255, 255}, 0);
        kith_image_clear(&image);
        free(f.bytes);
    }
}

/* Consumes the image. */
static file save_as(VipsImage *image, VipsInterpretation space, const char *suffix)
{
    VipsImage *converted;
    if (vips_colourspace(image, &converted, space, NULL)) fail_msg("%s", vips_error_buffer());
    g_object_unref(image);
    return save(converted, suffix);
}

static void colours_become_srgb(void **state)
{
    (void)state;
    kith_image image;
    kith_error err;
    struct {
        VipsInterpretation space;
        const char *suffix;
        int grey;
    } cases[] = {{VIPS_INTERPRETATION_RGB16, ".png", 0},     {VIPS_INTERPRETATION_RGB16, ".tif", 0},
                 {VIPS_INTERPRETATION_B_W, ".jpg[Q=95]", 1}, {VIPS_INTERPRETATION_B_W, ".png", 1},
                 {VIPS_INTERPRETATION_GREY16, ".png", 1},    {VIPS_INTERPRETATION_CMYK, ".jpg[Q=95]", 2},
                 {VIPS_INTERPRETATION_CMYK, ".tif", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        file f = save_as(draw(64, 64), cases[i].space, cases[i].suffix);
        assert_ok(kith_image_decode(f.bytes, f.size, NULL, NULL, &image, &err), &err);
        const uint8_t *red = image.pixels + (16 * 64 + 16) * 3;
        if (cases[i].grey == 1) {
            assert_true(red[0] == red[1] && red[1] == red[2] && red[0] > 30 && red[0] < 140);
            assert_pixel(&image, 48, 48, quadrants[3], 4);
        } else if (cases[i].grey == 2) { /* printing inks cannot show these colours, but come near */
            assert_true(red[0] > 180 && red[1] < 90 && red[2] < 90);
            assert_pixel(&image, 48, 48, quadrants[3], 12);
        } else
            assert_quadrants(&image, upright, 2);
        kith_image_clear(&image);
        free(f.bytes);
    }
}

/* An embedded profile is applied; one that does not fit the pixels is ignored, as every viewer does. */
static void profiles_are_applied(void **state)
{
    (void)state;
    VipsBlob *p3;
    assert_int_equal(vips_profile_load("p3", &p3, NULL), 0);
    for (int grey = 0; grey < 2; grey++) {
        VipsImage *image;
        kith_image decoded;
        kith_error err;
        size_t size;
        const void *profile = vips_blob_get(p3, &size);
        double pixel[] = {200, 60, 60}, mean[] = {118};
        assert_int_equal(vips_black(&image, 64, 64, NULL), 0);
        VipsImage *flat = vips_image_new_from_image(image, grey ? mean : pixel, grey ? 1 : 3);
        VipsImage *own = vips_image_copy_memory(flat);
        own->Type = grey ? VIPS_INTERPRETATION_B_W : VIPS_INTERPRETATION_sRGB;
        vips_image_set_blob_copy(own, VIPS_META_ICC_NAME, profile, size);
        g_object_unref(image);
        g_object_unref(flat);
        file f = save(own, ".png");
        assert_ok(kith_image_decode(f.bytes, f.size, NULL, NULL, &decoded, &err), &err);
        if (grey)
            assert_pixel(&decoded, 32, 32, (uint8_t[]){118, 118, 118}, 1);
        else /* stronger in sRGB, whose red is nearer */
            assert_true(decoded.pixels[0] > 205 && decoded.pixels[1] < 58);
        kith_image_clear(&decoded);
        free(f.bytes);
    }
    vips_area_unref(VIPS_AREA(p3));
}

static void sizes_follow_the_limits(void **state)
{
    (void)state;
    static const struct {
        uint32_t w, h, longer, shorter, want_w, want_h;
    } cases[] = {{400, 200, 100, 0, 100, 50}, {200, 400, 100, 0, 50, 100}, {400, 200, 100, 80, 160, 80},
                 {50, 40, 100, 80, 50, 40},   {400, 200, 0, 0, 400, 200},  {1, 1, 100, 0, 1, 1},
                 {3000, 1, 100, 0, 100, 1},   {1, 3000, 100, 0, 1, 100}};
    static const char *const suffixes[] = {".png", ".jpg", ".webp", ".gif", ".tif"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t s = 0; s < 5; s++) {
            file f = save(draw(cases[i].w, cases[i].h), suffixes[s]);
            kith_image image;
            kith_error err;
            kith_image_limits limits;
            kith_image_limits_init(&limits);
            limits.long_side = cases[i].longer;
            limits.short_side = cases[i].shorter;
            assert_ok(kith_image_decode(f.bytes, f.size, &limits, NULL, &image, &err), &err);
            assert_int_equal(image.file_width, cases[i].w);
            assert_int_equal(image.file_height, cases[i].h);
            assert_int_equal(image.width, cases[i].want_w);
            assert_int_equal(image.height, cases[i].want_h);
            kith_image_clear(&image);
            free(f.bytes);
        }
}

static void exif_strings_are_read(void **state)
{
    (void)state;
    VipsImage *drawn = draw(32, 32);
    vips_image_set_string(drawn, "exif-ifd0-Make", "Maker");
    vips_image_set_string(drawn, "exif-ifd0-Model", "Maker X (2nd), ASCII, \t edition");
    vips_image_set_string(drawn, "exif-ifd0-DateTime", "2001:02:03 04:05:06");
    file f = save(drawn, ".jpg");
    kith_image image;
    kith_error err;
    assert_ok(kith_image_decode(f.bytes, f.size, NULL, NULL, &image, &err), &err);
    assert_string_equal(image.camera, "Maker X (2nd), ASCII, edition");
    assert_string_equal(image.date, "2001-02-03 04:05:06");
    kith_image_clear(&image);
    free(f.bytes);

    drawn = draw(32, 32);
    vips_image_set_string(drawn, "exif-ifd0-Make", "Acme");
    vips_image_set_string(drawn, "exif-ifd0-Model", "Nine");
    vips_image_set_string(drawn, "exif-ifd2-DateTimeOriginal", "1999:12:31 23:59:59");
    vips_image_set_string(drawn, "exif-ifd0-DateTime", "2001:02:03 04:05:06");
    f = save(drawn, ".jpg");
    assert_ok(kith_image_decode(f.bytes, f.size, NULL, NULL, &image, &err), &err);
    assert_string_equal(image.camera, "Acme Nine");
    assert_string_equal(image.date, "1999-12-31 23:59:59");
    kith_image_clear(&image);
    free(f.bytes);

    drawn = draw(32, 32);
    vips_image_set_string(drawn, "exif-ifd0-DateTime", "sometime in 2001...");
    f = save(drawn, ".jpg");
    assert_ok(kith_image_decode(f.bytes, f.size, NULL, NULL, &image, &err), &err);
    assert_string_equal(image.camera, "");
    assert_string_equal(image.date, "");
    kith_image_clear(&image);
    free(f.bytes);
}

static void expect_refused(const void *bytes, size_t size, kith_status want, const char *part)
{
    kith_image image;
    kith_error err;
    kith_status status = kith_image_decode(bytes, size, NULL, NULL, &image, &err);
    if (status != want || (part && !strstr(err.message, part)))
        fail_msg("%s: '%s', expected %s with '%s'", kith_status_name(status), err.message,
                 kith_status_name(want), part ? part : "");
    assert_null(image.pixels);
    assert_null(strchr(err.message, '\n'));
}

static void others_are_refused(void **state)
{
    (void)state;
    static const char svg[] = "<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\"/>";
    static const char pdf[] = "%PDF-1.4\n1 0 obj\n<< >>\nendobj\n", ppm[] = "P6 1 1 255\nabc";
    expect_refused("", 0, KITH_UNSUPPORTED, "empty");
    expect_refused(svg, sizeof svg, KITH_UNSUPPORTED, "not a JPEG");
    expect_refused(pdf, sizeof pdf, KITH_UNSUPPORTED, "not a JPEG");
    expect_refused(ppm, sizeof ppm, KITH_UNSUPPORTED, "not a JPEG");
    expect_refused("\xff\xd8\xff", 3, KITH_CORRUPT, "JPEG");
    expect_refused("II*\0", 4, KITH_CORRUPT, "TIFF");
    expect_refused("GIF89a", 6, KITH_CORRUPT, "GIF");
    expect_refused("\x89PNG\r\n\x1a\n", 8, KITH_CORRUPT, "PNG");
    expect_refused("RIFF\4\0\0\0WEBP", 12, KITH_CORRUPT, "WebP");

    kith_image image;
    kith_error err;
    char path[512];
    snprintf(path, sizeof path, "%s/none.jpg", test_folder());
    assert_int_equal(kith_image_decode_file(path, NULL, NULL, &image, &err), KITH_NOTFOUND);
    assert_int_equal(kith_image_decode_file(test_folder(), NULL, NULL, &image, &err), KITH_UNSUPPORTED);
    assert_string_equal(err.message, "not a regular file");

    kith_image_limits limits;
    kith_image_limits_init(&limits);
    limits.max_megapixels = 0;
    assert_int_equal(kith_image_decode("x", 1, &limits, NULL, &image, &err), KITH_INVALID);
    kith_image_limits_init(&limits);
    limits.long_side = 1u << 30;
    assert_int_equal(kith_image_decode("x", 1, &limits, NULL, &image, &err), KITH_INVALID);
}

/* A header that claims a huge picture is refused by its header alone, in no time and memory. */
static void huge_claims_are_refused(void **state)
{
    (void)state;
    kith_image image;
    kith_error err;
    file f = save(draw(32, 32), ".jpg");
    for (size_t i = 0; i + 9 < f.size; i++)
        if (f.bytes[i] == 0xff && f.bytes[i + 1] == 0xc0) memset(f.bytes + i + 5, 0xf0, 4);
    expect_refused(f.bytes, f.size, KITH_UNSUPPORTED, "61680 x 61680 are 3804 megapixels");
    free(f.bytes);
    f = save(draw(32, 32),
             ".png"); /* with its checksum repaired, so that the size is what stands in the way */
    static const uint8_t header[] = {0, 1, 0x86, 0xa0, 0,    1,    0x86, 0xa0, 8,
                                     2, 0, 0,    0,    0x27, 0x30, 0x9c, 0x9f};
    memcpy(f.bytes + 16, header, sizeof header);
    expect_refused(f.bytes, f.size, KITH_UNSUPPORTED, "100000 x 100000 are 10000 megapixels");
    free(f.bytes);

    f = save(draw(64, 64), ".png");
    kith_image_limits limits;
    kith_image_limits_init(&limits);
    limits.max_megapixels = 0.004;
    assert_int_equal(kith_image_decode(f.bytes, f.size, &limits, NULL, &image, &err), KITH_UNSUPPORTED);
    kith_image_limits_init(&limits);
    limits.max_bytes = 10;
    assert_int_equal(kith_image_decode(f.bytes, f.size, &limits, NULL, &image, &err), KITH_UNSUPPORTED);
    free(f.bytes);
}

static void cut_files_are_refused(void **state)
{
    (void)state;
    static const char *const suffixes[] = {".jpg", ".jpg[interlace]", ".png", ".webp",
                                           ".tif[compression=lzw]"};
    for (size_t s = 0; s < sizeof suffixes / sizeof *suffixes; s++) {
        file f = save(draw_waves(80, 60, 1), suffixes[s]);
        for (size_t size = 0; size + 20 < f.size; size += 1 + f.size / 200) {
            uint8_t *cut = malloc(size + !size);
            memcpy(cut, f.bytes, size);
            kith_image image;
            kith_error err;
            kith_status status = kith_image_decode(cut, size, NULL, NULL, &image, &err);
            if (status != KITH_CORRUPT && status != KITH_UNSUPPORTED)
                fail_msg("%s cut to %zu of %zu bytes: %s", suffixes[s], size, f.size,
                         kith_status_name(status));
            assert_null(image.pixels);
            free(cut);
        }
        free(f.bytes);
    }
}

/* Random damage may be repaired or refused, but ends in one of the two. */
static void damage_never_crashes(void **state)
{
    (void)state;
    static const char *const suffixes[] = {".jpg", ".png", ".webp", ".gif", ".tif", ".tif[compression=lzw]"};
    ki_rng rng;
    ki_rng_init(&rng, test_seed(), 0);
    for (size_t s = 0; s < sizeof suffixes / sizeof *suffixes; s++) {
        file f = save(draw_waves(40, 30, 1), suffixes[s]);
        uint8_t *damaged = malloc(f.size);
        for (int round = 0; round < 200; round++) {
            memcpy(damaged, f.bytes, f.size);
            for (int edit = 0; edit < 3; edit++)
                damaged[ki_rng_below(&rng, f.size)] = (uint8_t)ki_rng_u64(&rng);
            kith_image image;
            kith_error err;
            kith_image_limits limits;
            kith_image_limits_init(&limits);
            limits.max_megapixels = 4;
            kith_status status = kith_image_decode(damaged, f.size, &limits, NULL, &image, &err);
            assert_true(status == KITH_OK || status == KITH_CORRUPT || status == KITH_UNSUPPORTED);
            kith_image_clear(&image);
        }
        free(damaged);
        free(f.bytes);
    }
}

static kith_image decode(file f, uint32_t side)
{
    kith_image image;
    kith_error err;
    kith_image_limits limits;
    kith_image_limits_init(&limits);
    limits.long_side = side;
    assert_ok(kith_image_decode(f.bytes, f.size, &limits, NULL, &image, &err), &err);
    return image;
}

static void thumbnails_are_small_jpegs(void **state)
{
    (void)state;
    file f = save(draw(400, 300), ".png");
    kith_image image = decode(f, 0), thumbnail;
    kith_error err;
    uint8_t *jpeg;
    size_t size;
    assert_ok(kith_image_thumbnail(&image, 160, 80, &jpeg, &size, &err), &err);
    assert_ok(kith_image_decode(jpeg, size, NULL, NULL, &thumbnail, &err), &err);
    assert_int_equal(thumbnail.format, KITH_IMAGE_JPEG);
    assert_int_equal(thumbnail.width, 160);
    assert_int_equal(thumbnail.height, 120);
    assert_quadrants(&thumbnail, upright, 20);
    kith_image_clear(&thumbnail);
    kith_image_bytes_free(&image, jpeg);
    assert_ok(kith_image_thumbnail(&image, 1000, 80, &jpeg, &size, &err), &err);
    assert_ok(kith_image_decode(jpeg, size, NULL, NULL, &thumbnail, &err), &err);
    assert_int_equal(thumbnail.width, 400);
    kith_image_clear(&thumbnail);
    kith_image_bytes_free(&image, jpeg);
    assert_int_equal(kith_image_thumbnail(&image, 0, 80, &jpeg, &size, &err), KITH_INVALID);
    assert_int_equal(kith_image_thumbnail(&image, 160, 101, &jpeg, &size, &err), KITH_INVALID);
    assert_null(jpeg);
    kith_image_clear(&image);
    free(f.bytes);
}

static uint64_t hash_of(file f, uint32_t side)
{
    kith_image image = decode(f, side);
    kith_error err;
    uint64_t hash;
    assert_ok(kith_image_phash(&image, &hash, &err), &err);
    kith_image_clear(&image);
    free(f.bytes);
    return hash;
}

static void phash_knows_the_picture(void **state)
{
    (void)state;
    uint64_t first = hash_of(save(draw_waves(640, 480, 1), ".png"), 0);
    assert_true(first != 0);
    assert_true(__builtin_popcountll(first ^ hash_of(save(draw_waves(640, 480, 1), ".png"), 160)) <= 2);
    assert_true(__builtin_popcountll(first ^ hash_of(save(draw_waves(200, 150, 1), ".png"), 0)) <= 2);
    assert_true(__builtin_popcountll(first ^ hash_of(save(draw_waves(640, 480, 1), ".jpg[Q=20]"), 0)) <= 4);
    assert_true(__builtin_popcountll(first ^ hash_of(save(draw_waves(640, 480, 2.5), ".png"), 0)) > 10);
    /* Smaller than its cells, and of one colour. */
    assert_true(__builtin_popcountll(first ^ hash_of(save(draw_waves(24, 18, 1), ".png"), 0)) <= 10);
    uint64_t flat = hash_of(save(draw(1, 1), ".png"), 0);
    assert_true(flat == 0);
    kith_image none = {0};
    assert_int_equal(kith_image_phash(&none, &flat, NULL), KITH_INVALID);
}

int main(void)
{
    if (kith_image_start(NULL) != KITH_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_every_format),    cmocka_unit_test(turns_by_exif),
        cmocka_unit_test(transparency_is_white),   cmocka_unit_test(colours_become_srgb),
        cmocka_unit_test(profiles_are_applied),    cmocka_unit_test(sizes_follow_the_limits),
        cmocka_unit_test(exif_strings_are_read),   cmocka_unit_test(others_are_refused),
        cmocka_unit_test(huge_claims_are_refused), cmocka_unit_test(cut_files_are_refused),
        cmocka_unit_test(damage_never_crashes),    cmocka_unit_test(thumbnails_are_small_jpegs),
        cmocka_unit_test(phash_knows_the_picture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
