/* A small JPEG of a picture. */
#include <kith/image.h>

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "image/vips.h"

kith_status kith_image_thumbnail(const kith_image *image, uint32_t side, int quality, uint8_t **jpeg,
                                 size_t *size, kith_error *err)
{
    *jpeg = NULL;
    *size = 0;
    if (side < 1 || side > 4096) return ki_fail(err, KITH_INVALID, "side is %u, allowed 1..4096", side);
    if (quality < 1 || quality > 100)
        return ki_fail(err, KITH_INVALID, "quality is %d, allowed 1..100", quality);
    if (!image->pixels) return ki_fail(err, KITH_INVALID, "the picture is empty");
    KI_TRY(kith_image_start(err));

    VipsImage *in = ki_vips_wrap(image), *small = NULL;
    void *buffer = NULL;
    size_t length = 0;
    kith_status status = KITH_OK;
    if (!in ||
        vips_thumbnail_image(in, &small, (int)side, "height", (int)side, "size", VIPS_SIZE_DOWN, NULL) ||
        vips_jpegsave_buffer(small, &buffer, &length, "Q", quality, "strip", TRUE, "optimize_coding", TRUE,
                             NULL))
        status = ki_vips_fail(err, KITH_INTERNAL, "making a thumbnail");
    else if (!(*jpeg = ki_alloc(image->allocator, length, 1)))
        status = ki_fail_nomem(err, length);
    else {
        memcpy(*jpeg, buffer, length);
        *size = length;
    }
    g_free(buffer);
    if (small) g_object_unref(small);
    if (in) g_object_unref(in);
    return status;
}

void kith_image_bytes_free(const kith_image *image, void *bytes)
{
    ki_free(image->allocator, bytes);
}
