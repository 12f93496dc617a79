/* image.h - a picture file as pixels: decoding, thumbnails, a perceptual hash.
 *
 * Decoding is libvips behind an allow-list: JPEG, PNG, WebP, GIF and TIFF, told by their first bytes and
 * never by name. A picture comes out as people see it: turned by its EXIF orientation, colours converted to
 * sRGB (from CMYK, grey, 16 bits or an embedded profile), transparent parts on white, the first frame of an
 * animation. Large JPEG and WebP files are shrunk while they are read.
 *
 * Picture files are hostile bytes. The pixel count is checked against a limit before anything is decoded, but
 * the decoders are C libraries that have had their bugs: decode in a process of its own, with RLIMIT_AS and
 * RLIMIT_CPU set, as libkith-gallery does, never in a server. A file that is cut short is refused, not shown
 * half grey.
 */
#ifndef KITH_IMAGE_H
#define KITH_IMAGE_H

#include <kith/allocator.h>
#include <kith/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kith_image_format {
    KITH_IMAGE_UNKNOWN = 0,
    KITH_IMAGE_JPEG = 1,
    KITH_IMAGE_PNG = 2,
    KITH_IMAGE_WEBP = 3,
    KITH_IMAGE_GIF = 4,
    KITH_IMAGE_TIFF = 5
} kith_image_format;

/* The fewest leading bytes that kith_image_sniff needs to know every format. */
#define KITH_IMAGE_SNIFF_BYTES 16

/* What may be decoded, and how large it comes out. */
typedef struct kith_image_limits {
    size_t struct_size;
    double max_megapixels; /* refuse pictures of more millions of pixels; > 0 */
    uint64_t max_bytes;    /* refuse longer files, in bytes */
    uint32_t long_side;  /* shrink (never enlarge) until the longer side is at most this; 0: keep the size */
    uint32_t short_side; /* but stop before the shorter side falls below this; 0: no such floor */
} kith_image_limits;

static inline void kith_image_limits_init(kith_image_limits *limits)
{
    limits->struct_size = sizeof *limits;
    limits->max_megapixels = 150;
    limits->max_bytes = (uint64_t)256 << 20;
    limits->long_side = 0;
    limits->short_side = 0;
}

/* A decoded picture. The caller owns the struct; kith_image_clear gives its pixels back. */
typedef struct kith_image {
    uint32_t width, height; /* of pixels, upright */
    uint8_t *pixels;        /* [height][width][3]: red, green, blue, sRGB, rows without padding */
    uint32_t file_width;    /* as the file holds it before shrinking, upright too */
    uint32_t file_height;
    kith_image_format format;
    char date[20];   /* EXIF DateTimeOriginal, else DateTime: "YYYY-MM-DD HH:MM:SS"; "" where there is none */
    char camera[96]; /* EXIF make and model as one valid UTF-8 line; "" where there is none */
    const kith_allocator *allocator; /* of `pixels` */
} kith_image;

/* Start libvips: one thread, no operation cache, every loader blocked but the five. The other functions do it
 * themselves when needed; a process that confines itself (seccomp, limits) calls it before.
 * Errors:   KITH_INTERNAL when libvips refuses to start, or was started before this process was forked.
 * Threads:  any; the work is done once a process. A child made by fork() must not use a libvips that its
 *           parent has already decoded with: fork first, start after. */
KITH_API kith_status kith_image_start(kith_error *err);

/* Tell the format from a file's first bytes; KITH_IMAGE_UNKNOWN for anything outside the allow-list. */
KITH_API kith_image_format kith_image_sniff(const void *bytes, size_t size);

/* "JPEG", "PNG", ...; "unknown" for anything else. Static. */
KITH_API const char *kith_image_format_name(kith_image_format format);

/* Decode a picture from memory, or from a file.
 * In:       limits may be NULL for those of kith_image_limits_init.
 * Out:      *image; zeroed on failure, so that clearing it is always allowed.
 * Errors:   KITH_UNSUPPORTED not one of the five formats, or more pixels or bytes than allowed; KITH_CORRUPT
 *           broken or cut short; KITH_IO, KITH_NOTFOUND reading the file; KITH_NOMEM; KITH_INVALID limits out
 *           of range. The message is one line fit to be shown beside the file's name, without that name.
 * Threads:  any number at once; each call works on its own thread plus at most one of libvips.
 * Memory:   about 3 bytes a pixel of the result, and libvips's line buffers; a whole decoded picture where
 *           the format cannot be read line by line (GIF, WebP, interlaced PNG, progressive JPEG) or must be turned
 *           sideways.
 * Cost:     some 4 ms for a 500 x 375 JPEG; docs/quality.md. */
KITH_API kith_status kith_image_decode(const void *bytes, size_t size, const kith_image_limits *limits,
                                       const kith_allocator *allocator, kith_image *image, kith_error *err);
KITH_API kith_status kith_image_decode_file(const char *path, const kith_image_limits *limits,
                                            const kith_allocator *allocator, kith_image *image,
                                            kith_error *err);

/* Give the pixels back and zero the struct. NULL and zeroed structs are allowed. */
KITH_API void kith_image_clear(kith_image *image);

/* A JPEG of the picture, the longer side at most `side` (never enlarged), without metadata.
 * In:       side, 1..4096; quality, 1..100.
 * Out:      *jpeg, *size: a block of the image's allocator, to be given back with kith_image_bytes_free.
 * Errors:   KITH_INVALID, KITH_NOMEM, KITH_INTERNAL. *jpeg is NULL unless KITH_OK is returned. */
KITH_API kith_status kith_image_thumbnail(const kith_image *image, uint32_t side, int quality, uint8_t **jpeg,
                                          size_t *size, kith_error *err);
KITH_API void kith_image_bytes_free(const kith_image *image, void *bytes);

/* Write a picture to a file, in the format of the path's ending: .png, .webp (lossless) and .tif or .tiff keep
 * every pixel, .jpg or .jpeg (quality 95) does not. No metadata.
 * Errors:   KITH_INVALID for another ending or an empty picture; KITH_IO, KITH_NOTFOUND, KITH_READONLY; KITH_NOMEM;
 *           KITH_INTERNAL. A file that was there is replaced whole or not at all. */
KITH_API kith_status kith_image_save(const kith_image *image, const char *path, kith_error *err);

/* A 64-bit perceptual hash: pictures that look alike differ in few bits (KITH_HAMMING).
 * The luma is averaged over 32 x 32 cells, its DCT-II taken, and each of the 64 lowest frequencies but the
 * constant (rows and columns 1..8) gives one bit: whether it is above their median. Row 1, column 1 is the
 * highest bit. Blind to size, brightness, contrast and mild recompression; not to crops, turns and mirrors.
 * Up to 10 bits is a good bound for "the same picture".
 * Paper:    C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), 3.2.1.
 * Errors:   KITH_INVALID for an empty picture.
 * Memory:   none. */
KITH_API kith_status kith_image_phash(const kith_image *image, uint64_t *hash, kith_error *err);

#ifdef __cplusplus
}
#endif
#endif
