/* make_pictures.c - pictures for the tests, drawn, never taken from anywhere.
 *
 *   make_pictures good FOLDER N SEED   N pictures of all formats in sub-folders, each unlike the others
 *   make_pictures one FILE SEED        one, its format by the name's ending
 *   make_pictures copy IN OUT SIDE a picture again, its longer side SIDE pixels, saved lossily
 *   make_pictures bad FOLDER           files that are no pictures or hostile ones, each named after what it is
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <vips/vips.h>

#include "base/rng.h"

#define WIDTH 200
#define HEIGHT 150

static void die(const char *what)
{
    fprintf(stderr, "make_pictures: %s: %s\n", what, vips_error_buffer());
    exit(1);
}

/* Discs and bars of random colours on a random gradient: detail for local descriptors, colours for the rest. */
static void draw(uint8_t (*rgb)[3], uint64_t seed)
{
    ki_rng rng;
    ki_rng_init(&rng, seed, 7);
    int from[3], to[3];
    for (int c = 0; c < 3; c++) {
        from[c] = (int)ki_rng_below(&rng, 256);
        to[c] = (int)ki_rng_below(&rng, 256);
    }
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            for (int c = 0; c < 3; c++)
                rgb[y * WIDTH + x][c] = (uint8_t)(from[c] + (to[c] - from[c]) * (x + y) / (WIDTH + HEIGHT));
    for (int shape = 0; shape < 25; shape++) {
        int cx = (int)ki_rng_below(&rng, WIDTH), cy = (int)ki_rng_below(&rng, HEIGHT);
        int size = 4 + (int)ki_rng_below(&rng, 30), disc = (int)ki_rng_below(&rng, 2);
        uint8_t colour[3] = {(uint8_t)ki_rng_u64(&rng), (uint8_t)ki_rng_u64(&rng), (uint8_t)ki_rng_u64(&rng)};
        for (int y = 0; y < HEIGHT; y++)
            for (int x = 0; x < WIDTH; x++) {
                int dx = x - cx, dy = y - cy;
                int in = disc ? dx * dx + dy * dy < size * size : abs(dx) < size && abs(dy) < size / 3 + 1;
                if (in) memcpy(rgb[y * WIDTH + x], colour, 3);
            }
    }
}

static void make_one(const char *path, uint64_t seed)
{
    static uint8_t rgb[WIDTH * HEIGHT][3];
    draw(rgb, seed);
    VipsImage *image = vips_image_new_from_memory(rgb, sizeof rgb, WIDTH, HEIGHT, 3, VIPS_FORMAT_UCHAR),
              *srgb = NULL;
    if (!image || vips_copy(image, &srgb, "interpretation", VIPS_INTERPRETATION_sRGB, NULL) ||
        vips_image_write_to_file(srgb, path, NULL))
        die(path);
    g_object_unref(srgb);
    g_object_unref(image);
}

static void make_good(const char *folder, long n, uint64_t seed)
{
    static const char *const endings[] = {"jpg", "jpg", "png", "webp", "gif", "tif", "jpeg"};
    for (long i = 0; i < n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%c", folder, (char)('a' + i % 5));
        mkdir(path, 0777);
        snprintf(path, sizeof path, "%s/%c/%04ld.%s", folder, (char)('a' + i % 5), i, endings[i % 7]);
        make_one(path, seed * 100000 + (uint64_t)i);
    }
}

static void write_file(const char *folder, const char *name, const void *bytes, size_t size)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

static uint8_t *encode(const char *ending, uint64_t seed, size_t *size)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/kith-make-%ld.%s", (long)getpid(), ending);
    make_one(path, seed);
    uint8_t *bytes;
    if (!g_file_get_contents(path, (char **)&bytes, size, NULL)) die(path);
    remove(path);
    return bytes;
}

static uint32_t crc_of(const uint8_t *bytes, size_t size)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int b = 0; b < 8; b++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void put_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* A PNG that says it has side x side pixels, with a correct checksum. */
static void write_huge_png(const char *folder, const char *name, uint32_t side)
{
    size_t size;
    uint8_t *png = encode("png", 3, &size);
    put_u32(png + 16, side);
    put_u32(png + 20, side);
    put_u32(png + 29, crc_of(png + 12, 17));
    write_file(folder, name, png, size);
    g_free(png);
}

static void make_bad(const char *folder)
{
    static const char *const endings[] = {"jpg", "png", "webp", "gif", "tif"};
    char name[64];
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t size;
        uint8_t *bytes = encode(endings[i], 50 + i, &size);
        snprintf(name, sizeof name, "cut.%s", endings[i]);
        write_file(folder, name, bytes, size / 2);
        snprintf(name, sizeof name, "head.%s", endings[i]);
        write_file(folder, name, bytes, 20);
        ki_rng rng;
        ki_rng_init(&rng, 1, i);
        for (size_t at = 16; at < size; at++) bytes[at] = (uint8_t)ki_rng_u64(&rng);
        snprintf(name, sizeof name, "noise.%s", endings[i]);
        write_file(folder, name, bytes, size);
        g_free(bytes);
    }
    write_file(folder, "empty.jpg", "", 0);
    write_file(folder, "text.jpg", "This is not a picture.\n", 23);
    write_file(folder, "vector.png", "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", 62);
    write_huge_png(folder, "huge.png", 60000);
    write_huge_png(folder, "endless.png", 0x7fffffff);
    /* 65,535 x 65,535 pixels in 40 bytes. */
    static const uint8_t gif[] = {'G',  'I',  'F',  '8',  '9',  'a',  0xff, 0xff, 0xff, 0xff, 0x80, 0,
                                  0,    0,    0,    0,    0xff, 0xff, 0xff, ',',  0,    0,    0,    0,
                                  0xff, 0xff, 0xff, 0xff, 0,    0x02, 0x03, 0x44, 0x01, 0x05, 0,    ';'};
    write_file(folder, "bomb.gif", gif, sizeof gif);
}

static void make_copy(const char *in, const char *out, int side)
{
    VipsImage *small = NULL;
    if (vips_thumbnail(in, &small, side, "height", side, NULL) ||
        vips_image_write_to_file(small, out, "Q", 60, NULL))
        die(out);
    g_object_unref(small);
}

int main(int argc, char **argv)
{
    if (VIPS_INIT(argv[0])) die("libvips");
    vips_concurrency_set(1);
    if (argc == 5 && strcmp(argv[1], "good") == 0)
        make_good(argv[2], atol(argv[3]), strtoull(argv[4], NULL, 10));
    else if (argc == 4 && strcmp(argv[1], "one") == 0)
        make_one(argv[2], strtoull(argv[3], NULL, 10));
    else if (argc == 5 && strcmp(argv[1], "copy") == 0)
        make_copy(argv[2], argv[3], atoi(argv[4]));
    else if (argc == 3 && strcmp(argv[1], "bad") == 0)
        make_bad(argv[2]);
    else
        return fprintf(stderr, "usage: make_pictures good FOLDER N SEED | one FILE SEED | copy IN OUT SIDE | "
                               "bad FOLDER\n"),
               2;
    vips_shutdown();
    return 0;
}
