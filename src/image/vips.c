/* libvips: started once, told to be small, single-threaded and picky; and the way in and out of its images.
 */
#include "image/vips.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"

/* The loaders that stay open. A name of the vips class tree; everything else below VipsForeignLoad is
 * blocked, so that a bug in some other decoder cannot be reached even if a file's first bytes fool two
 * sniffers. */
static const char *const open_loaders[] = {"VipsForeignLoadJpeg", "VipsForeignLoadPng", "VipsForeignLoadWebp",
                                           "VipsForeignLoadNsgif", "VipsForeignLoadTiff"};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pid_t started_by; /* 0: nobody */

/* libvips and glib print warnings about odd files; a library prints nothing. */
static void be_silent(const gchar *domain, GLogLevelFlags level, const gchar *message, gpointer ctx)
{
    (void)domain, (void)level, (void)message, (void)ctx;
}

static void start(void)
{
    if (vips_init("kith") != 0) return;
    vips_concurrency_set(1);
    vips_cache_set_max(0); /* pictures do not come back: a cache would only hold on to memory */
    vips_cache_set_max_mem(0);
    vips_cache_set_max_files(0);
    vips_block_untrusted_set(TRUE);
    vips_operation_block_set("VipsForeignLoad", TRUE);
    for (size_t i = 0; i < sizeof open_loaders / sizeof *open_loaders; i++)
        vips_operation_block_set(open_loaders[i], FALSE);
    g_log_set_handler("VIPS", G_LOG_LEVEL_WARNING | G_LOG_LEVEL_INFO | G_LOG_LEVEL_MESSAGE, be_silent, NULL);
    started_by = getpid();
}

kith_status kith_image_start(kith_error *err)
{
    pthread_once(&once, start);
    if (!started_by) return ki_vips_fail(err, KITH_INTERNAL, "libvips does not start");
    /* Its threads stayed in the parent, and a call that waits for one of them would wait for ever. */
    if (started_by != getpid())
        return ki_fail(err, KITH_INTERNAL, "libvips was started before this process was forked");
    return KITH_OK;
}

kith_status ki_vips_fail(kith_error *err, kith_status code, const char *what)
{
    const char *said = vips_error_buffer(); /* lines of "domain: text" */
    const char *colon = strstr(said, ": ");
    const char *end = strchr(said, '\n');
    if (!end) end = said + strlen(said);
    if (colon && colon < end) said = colon + 2;
    int length = (int)(end - said);
    if (length > 0)
        ki_fail(err, code, "%s: %.*s", what, length, said);
    else
        ki_fail(err, code, "%s", what);
    vips_error_clear();
    return code;
}

VipsImage *ki_vips_wrap(const kith_image *image)
{
    size_t size = (size_t)image->width * image->height * 3;
    VipsImage *wrapped = vips_image_new_from_memory(image->pixels, size, (int)image->width,
                                                    (int)image->height, 3, VIPS_FORMAT_UCHAR);
    if (wrapped) wrapped->Type = VIPS_INTERPRETATION_sRGB;
    return wrapped;
}

kith_status ki_vips_to_pixels(VipsImage *from, const kith_allocator *allocator, kith_image *image,
                              kith_error *err)
{
    size_t size = 0, want = (size_t)from->Xsize * (size_t)from->Ysize * 3;
    uint8_t *written = vips_image_write_to_memory(from, &size);
    if (!written) return ki_vips_fail(err, KITH_CORRUPT, "broken pixels");
    if (size != want) {
        g_free(written);
        return ki_fail(err, KITH_INTERNAL, "libvips gave %zu bytes for %d x %d pixels", size, from->Xsize,
                       from->Ysize);
    }
    image->pixels = ki_alloc(allocator, want, 1);
    if (!image->pixels) {
        g_free(written);
        return ki_fail_nomem(err, want);
    }
    memcpy(image->pixels, written, want);
    g_free(written);
    image->width = (uint32_t)from->Xsize;
    image->height = (uint32_t)from->Ysize;
    image->allocator = allocator;
    return KITH_OK;
}

kith_status ki_image_resize(const kith_image *image, uint32_t width, uint32_t height, kith_image *out,
                            kith_error *err)
{
    memset(out, 0, sizeof *out);
    KI_TRY(kith_image_start(err));
    VipsImage *in = ki_vips_wrap(image), *small = NULL;
    kith_status status = KITH_INTERNAL;
    if (!in ||
        vips_thumbnail_image(in, &small, (int)width, "height", (int)height, "size", VIPS_SIZE_FORCE, NULL))
        ki_vips_fail(err, status, "resizing");
    else
        status = ki_vips_to_pixels(small, image->allocator, out, err);
    if (small) g_object_unref(small);
    if (in) g_object_unref(in);
    return status;
}
