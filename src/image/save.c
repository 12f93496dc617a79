/* Writing a picture to a file. */
#include <kith/image.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/error.h"
#include "image/vips.h"

#define JPEG_QUALITY 95

typedef enum saver { SAVER_NONE, SAVER_JPEG, SAVER_PNG, SAVER_WEBP, SAVER_TIFF } saver;

static saver saver_of(const char *path)
{
    static const struct {
        const char *ending;
        saver saver;
    } savers[] = {{".jpg", SAVER_JPEG},  {".jpeg", SAVER_JPEG}, {".png", SAVER_PNG},
                  {".webp", SAVER_WEBP}, {".tif", SAVER_TIFF},  {".tiff", SAVER_TIFF}};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof savers / sizeof *savers; i++)
        if (strcasecmp(dot, savers[i].ending) == 0) return savers[i].saver;
    return SAVER_NONE;
}

static int encode(VipsImage *image, saver how, void **bytes, size_t *size)
{
    switch (how) {
    case SAVER_JPEG: return vips_jpegsave_buffer(image, bytes, size, "Q", JPEG_QUALITY, "strip", TRUE, NULL);
    case SAVER_PNG: return vips_pngsave_buffer(image, bytes, size, "compression", 9, "strip", TRUE, NULL);
    case SAVER_WEBP: return vips_webpsave_buffer(image, bytes, size, "lossless", TRUE, "strip", TRUE, NULL);
    case SAVER_TIFF:
        return vips_tiffsave_buffer(image, bytes, size, "compression", VIPS_FOREIGN_TIFF_COMPRESSION_DEFLATE,
                                    "strip", TRUE, NULL);
    default: return -1;
    }
}

/* Write beside `path`, then rename: a file of that name is replaced whole or not at all. */
static kith_status write_file(const char *path, const void *bytes, size_t size, kith_error *err)
{
    size_t room = strlen(path) + 32;
    char *temporary = malloc(room);
    if (!temporary) return ki_fail_nomem(err, room);
    snprintf(temporary, room, "%s.%ld.tmp", path, (long)getpid());
    FILE *file = fopen(temporary, "wxe");
    if (!file) {
        kith_status status = ki_fail_errno(err, errno, "%s", path);
        free(temporary);
        return status;
    }
    int failed = fwrite(bytes, 1, size, file) != size;
    failed |= fclose(file) != 0;
    if (!failed) failed = rename(temporary, path) != 0;
    kith_status status = failed ? ki_fail_errno(err, errno, "%s", path) : KITH_OK;
    if (failed) unlink(temporary);
    free(temporary);
    return status;
}

kith_status kith_image_save(const kith_image *image, const char *path, kith_error *err)
{
    saver how = saver_of(path);
    if (how == SAVER_NONE)
        return ki_fail(err, KITH_INVALID, "%s: the ending is not one of .png .webp .tif .tiff .jpg .jpeg",
                       path);
    if (!image->pixels) return ki_fail(err, KITH_INVALID, "the picture is empty");
    KI_TRY(kith_image_start(err));
    VipsImage *in = ki_vips_wrap(image);
    void *bytes = NULL;
    size_t size = 0;
    kith_status status = KITH_OK;
    if (!in || encode(in, how, &bytes, &size))
        status = ki_vips_fail(err, KITH_INTERNAL, path);
    else
        status = write_file(path, bytes, size, err);
    g_free(bytes);
    if (in) g_object_unref(in);
    return status;
}
