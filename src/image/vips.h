/* vips.h - what the files of src/image share about libvips. */
#ifndef KI_IMAGE_VIPS_H
#define KI_IMAGE_VIPS_H

#include <kith/image.h>

#include <vips/vips.h>

/* Fill err with `what` and the first line that libvips has to say, and clear its error text. */
kith_status ki_vips_fail(kith_error *err, kith_status code, const char *what);

/* A libvips image over the pixels of `image`, which must stay; NULL on failure. g_object_unref it. */
VipsImage *ki_vips_wrap(const kith_image *image);

/* Copy a libvips image of three 8-bit sRGB bands into image->pixels, width and height. */
kith_status ki_vips_to_pixels(VipsImage *from, const kith_allocator *allocator, kith_image *image,
                              kith_error *err);

/* *out: `image` resampled to exactly width x height, its other fields zero. */
kith_status ki_image_resize(const kith_image *image, uint32_t width, uint32_t height, kith_image *out,
                            kith_error *err);

#endif
