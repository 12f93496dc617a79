/* hash_picture.c - a picture drawn, written as a small JPEG, decoded again: its perceptual hash stays. */
#include <stdio.h>
#include <string.h>

#include <kith/image.h>

enum { SIDE = 256 };

/* A disc on a slope of grey. */
static void draw(uint8_t pixels[SIDE][SIDE][3])
{
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            int inside = (x - 90) * (x - 90) + (y - 120) * (y - 120) < 60 * 60;
            memset(pixels[y][x], inside ? 230 : (x + 2 * y) / 4, 3);
        }
}

int main(void)
{
    static uint8_t pixels[SIDE][SIDE][3];
    draw(pixels);
    kith_image drawn, decoded;
    memset(&drawn, 0, sizeof drawn);
    memset(&decoded, 0, sizeof decoded);
    drawn.width = drawn.height = SIDE;
    drawn.pixels = &pixels[0][0][0]; /* ours: kith_image_clear is not called on it */

    uint8_t *jpeg = NULL;
    size_t size = 0;
    uint64_t before = 0, after = 0;
    kith_error err;
    int failed = kith_image_thumbnail(&drawn, 64, 60, &jpeg, &size, &err) != KITH_OK ||
                 kith_image_decode(jpeg, size, NULL, NULL, &decoded, &err) != KITH_OK ||
                 kith_image_phash(&drawn, &before, &err) != KITH_OK ||
                 kith_image_phash(&decoded, &after, &err) != KITH_OK;
    if (failed)
        fprintf(stderr, "%s\n", err.message);
    else
        printf("%d x %d pixels, as a %s of %zu bytes %u x %u: %d of 64 bits of the hash differ\n", SIDE, SIDE,
               kith_image_format_name(kith_image_sniff(jpeg, size)), size, decoded.width, decoded.height,
               __builtin_popcountll(before ^ after));
    failed = failed || __builtin_popcountll(before ^ after) > 10;
    kith_image_bytes_free(&drawn, jpeg);
    kith_image_clear(&decoded);
    return failed;
}
