/* A picture file as upright sRGB pixels.
 *
 * The header is read first, by libvips, and judged: format, pixel count, the size to shrink to. Only then
 * does vips_thumbnail decode, which shrinks JPEG and WebP inside the decoder, applies the EXIF turn and the
 * embedded colour profile. What is left to us is transparency and the two EXIF strings. */
#include <kith/image.h>

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/options.h"
#include "image/vips.h"

kith_image_format kith_image_sniff(const void *bytes, size_t size)
{
    static const uint8_t png[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    const uint8_t *b = bytes;
    if (size >= 3 && b[0] == 0xff && b[1] == 0xd8 && b[2] == 0xff) return KITH_IMAGE_JPEG;
    if (size >= 8 && memcmp(b, png, 8) == 0) return KITH_IMAGE_PNG;
    if (size >= 12 && memcmp(b, "RIFF", 4) == 0 && memcmp(b + 8, "WEBP", 4) == 0) return KITH_IMAGE_WEBP;
    if (size >= 6 && (memcmp(b, "GIF87a", 6) == 0 || memcmp(b, "GIF89a", 6) == 0)) return KITH_IMAGE_GIF;
    if (size >= 4 && (memcmp(b, "II*\0", 4) == 0 || memcmp(b, "MM\0*", 4) == 0)) return KITH_IMAGE_TIFF;
    return KITH_IMAGE_UNKNOWN;
}

const char *kith_image_format_name(kith_image_format format)
{
    switch (format) {
    case KITH_IMAGE_JPEG: return "JPEG";
    case KITH_IMAGE_PNG: return "PNG";
    case KITH_IMAGE_WEBP: return "WebP";
    case KITH_IMAGE_GIF: return "GIF";
    case KITH_IMAGE_TIFF: return "TIFF";
    case KITH_IMAGE_UNKNOWN: break;
    }
    return "unknown";
}

void kith_image_clear(kith_image *image)
{
    if (!image) return;
    ki_free(image->allocator, image->pixels);
    memset(image, 0, sizeof *image);
}

/* ---- EXIF strings ---- */

/* The length of the valid UTF-8 sequence at s, 0 if there is none. Overlong forms and surrogates are refused.
 */
static size_t utf8_length(const uint8_t *s)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0)) return 0;
    if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90)) return 0;
    return n;
}

/* Append `length` bytes of text to out[size] as one valid line: bad bytes and control characters become
 * blanks, runs of blanks one blank, none at the ends. */
static void append_line(char *out, size_t size, const char *text, size_t length)
{
    size_t used = strlen(out);
    int blank = used > 0;
    for (size_t i = 0; i < length;) {
        size_t n = utf8_length((const uint8_t *)text + i);
        if (n == 0 || i + n > length || (uint8_t)text[i] <= ' ' || text[i] == 0x7f) {
            blank = used > 0;
            i++;
            continue;
        }
        if (used + n + 2 > size) return;
        if (blank) out[used++] = ' ';
        memcpy(out + used, text + i, n);
        used += n;
        i += n;
        out[used] = '\0';
        blank = 0;
    }
}

/* The value of an EXIF string. libvips writes it as "VALUE (VALUE, ASCII, n components, n bytes)". */
static const char *exif_value(VipsImage *image, const char *name, size_t *length)
{
    const char *text = NULL;
    *length = 0;
    if (!vips_image_get_typeof(image, name) || vips_image_get_string(image, name, &text) != 0) return NULL;
    const char *tail = NULL;
    for (const char *p = text; (p = strstr(p, ", ASCII, ")) != NULL; p++) tail = p;
    if (!tail || tail - text < 2) return NULL;
    size_t half = ((size_t)(tail - text) - 2) / 2;
    if (memcmp(text + half, " (", 2) != 0) return NULL;
    *length = half;
    return text;
}

static void read_camera(VipsImage *image, kith_image *out)
{
    size_t make_length, model_length;
    const char *make = exif_value(image, "exif-ifd0-Make", &make_length);
    const char *model = exif_value(image, "exif-ifd0-Model", &model_length);
    /* Many models begin with the make: "Canon", "Canon EOS 5D". */
    int repeated = make && model && model_length >= make_length && memcmp(make, model, make_length) == 0;
    if (make && !repeated) append_line(out->camera, sizeof out->camera, make, make_length);
    if (model) append_line(out->camera, sizeof out->camera, model, model_length);
}

static void read_date(VipsImage *image, kith_image *out)
{
    static const char *const names[] = {"exif-ifd2-DateTimeOriginal", "exif-ifd0-DateTime"};
    static const char form[] = "dddd:dd:dd dd:dd:dd";
    for (size_t i = 0; i < 2; i++) {
        size_t length;
        const char *text = exif_value(image, names[i], &length);
        if (!text || length < sizeof form - 1) continue;
        size_t p = 0;
        while (form[p] && (form[p] == 'd' ? text[p] >= '0' && text[p] <= '9' : text[p] == form[p])) p++;
        if (form[p] || memcmp(text, "0000", 4) == 0) continue;
        memcpy(out->date, text, p);
        out->date[p] = '\0';
        out->date[4] = out->date[7] = '-';
        return;
    }
}

/* ---- decoding ---- */

static kith_status read_limits(const kith_image_limits *given, kith_image_limits *limits, kith_error *err)
{
    kith_image_limits_init(limits);
    KI_TRY(ki_options_read(limits, sizeof *limits, given, "limits", err));
    if (!(limits->max_megapixels > 0))
        return ki_fail(err, KITH_INVALID, "max_megapixels is %g, must be above 0", limits->max_megapixels);
    if (limits->long_side > VIPS_MAX_COORD || limits->short_side > VIPS_MAX_COORD)
        return ki_fail(err, KITH_INVALID, "long_side is %u, short_side %u, allowed 0..%d", limits->long_side,
                       limits->short_side, VIPS_MAX_COORD);
    return KITH_OK;
}

/* The box to shrink to, from the upright size and the limits. */
static void target_size(const kith_image_limits *limits, double width, double height, int box[2])
{
    double longer = fmax(width, height), shorter = fmin(width, height), factor = 1;
    if (limits->long_side) factor = fmin(1, limits->long_side / longer);
    if (limits->short_side && factor * shorter < limits->short_side)
        factor = fmin(1, limits->short_side / shorter);
    box[0] = (int)fmax(1, round(width * factor));
    box[1] = (int)fmax(1, round(height * factor));
}

/* Whether the colours must go through the colour management: CMYK, or an embedded profile other than sRGB.
 * One whose text says sRGB, as most do, is taken at its word: a conversion to the same would cost time and,
 * by rounding through Lab, shift strong colours by some grey levels. */
static int needs_profile(VipsImage *header)
{
    static const char utf16[] = "s\0R\0G\0B";
    const void *profile;
    size_t size;
    if (header->Type == VIPS_INTERPRETATION_CMYK) return 1;
    if (!vips_image_get_typeof(header, VIPS_META_ICC_NAME)) return 0;
    if (vips_image_get_blob(header, VIPS_META_ICC_NAME, &profile, &size) != 0) return 0;
    return !memmem(profile, size, "sRGB", 4) && !memmem(profile, size, utf16, sizeof utf16 - 1);
}

/* Read the header: size, EXIF; refuse what is too large. */
static kith_status read_header(const void *bytes, size_t size, const kith_image_limits *limits,
                               kith_image *image, int *profile, kith_error *err)
{
    VipsImage *header = vips_image_new_from_buffer(bytes, size, "", "access", VIPS_ACCESS_SEQUENTIAL, NULL);
    const char *name = kith_image_format_name(image->format);
    char what[32];
    g_snprintf(what, sizeof what, "broken %s", name);
    if (!header) return ki_vips_fail(err, KITH_CORRUPT, what);
    int turned = vips_image_get_orientation_swap(header);
    image->file_width = (uint32_t)(turned ? header->Ysize : header->Xsize);
    image->file_height = (uint32_t)(turned ? header->Xsize : header->Ysize);
    read_camera(header, image);
    read_date(header, image);
    *profile = needs_profile(header);
    g_object_unref(header);
    double megapixels = (double)image->file_width * image->file_height / 1e6;
    if (megapixels > limits->max_megapixels)
        return ki_fail(err, KITH_UNSUPPORTED, "%u x %u are %.0f megapixels, more than the %g allowed",
                       image->file_width, image->file_height, megapixels, limits->max_megapixels);
    return KITH_OK;
}

/* Put transparent parts on white and make sure of three 8-bit bands. Consumes *in. */
static int flatten(VipsImage **in)
{
    VipsImage *out = NULL;
    if (vips_image_hasalpha(*in)) {
        VipsArrayDouble *white = vips_array_double_newv(1, 255.0);
        int failed = vips_flatten(*in, &out, "background", white, NULL);
        vips_area_unref(VIPS_AREA(white));
        if (failed) return -1;
        g_object_unref(*in);
        *in = out;
    }
    if (vips_colourspace(*in, &out, VIPS_INTERPRETATION_sRGB, NULL)) return -1;
    g_object_unref(*in);
    *in = out;
    if ((*in)->Bands > 3) {
        if (vips_extract_band(*in, &out, 0, "n", 3, NULL)) return -1;
        g_object_unref(*in);
        *in = out;
    }
    if (vips_cast(*in, &out, VIPS_FORMAT_UCHAR, NULL)) return -1;
    g_object_unref(*in);
    *in = out;
    return 0;
}

/* Decode, shrink, turn, convert. *out is NULL on failure. */
static int shrink_and_convert(const void *bytes, size_t size, const int box[2], int profile, VipsImage **out)
{
    *out = NULL;
    /* "fail_on" as a loader's option: libvips 8.14 does not hand on thumbnail's own argument of that name. */
    static const char strict[] = "[fail_on=truncated]";
    int failed = profile ? vips_thumbnail_buffer((void *)bytes, size, out, box[0], "height", box[1], "size",
                                                 VIPS_SIZE_DOWN, "option_string", strict, "export_profile",
                                                 "srgb", NULL)
                         : vips_thumbnail_buffer((void *)bytes, size, out, box[0], "height", box[1], "size",
                                                 VIPS_SIZE_DOWN, "option_string", strict, NULL);
    return failed ? -1 : flatten(out);
}

/* The part of kith_image_decode that needs a clean-up. */
static kith_status decode_checked(const void *bytes, size_t size, const kith_image_limits *limits,
                                  const kith_allocator *allocator, kith_image *image, kith_error *err)
{
    char what[32];
    g_snprintf(what, sizeof what, "broken %s", kith_image_format_name(image->format));
    int box[2], profile = 0;
    KI_TRY(read_header(bytes, size, limits, image, &profile, err));
    target_size(limits, image->file_width, image->file_height, box);

    VipsImage *decoded;
    kith_status status;
    int failed = shrink_and_convert(bytes, size, box, profile, &decoded);
    if (failed && profile) { /* of the wrong sort for these pixels: an RGB profile in a grey picture */
        vips_error_clear();
        if (decoded) g_object_unref(decoded);
        failed = shrink_and_convert(bytes, size, box, 0, &decoded);
    }
    if (failed)
        status = ki_vips_fail(err, KITH_CORRUPT, what);
    else
        status = ki_vips_to_pixels(decoded, allocator, image, err);
    if (decoded) g_object_unref(decoded);
    return status;
}

kith_status kith_image_decode(const void *bytes, size_t size, const kith_image_limits *limits,
                              const kith_allocator *allocator, kith_image *image, kith_error *err)
{
    kith_image_limits own;
    memset(image, 0, sizeof *image);
    KI_TRY(read_limits(limits, &own, err));
    limits = &own;
    KI_TRY(kith_image_start(err));
    kith_image_format format = kith_image_sniff(bytes, size);
    if (size == 0) return ki_fail(err, KITH_UNSUPPORTED, "the file is empty");
    if (format == KITH_IMAGE_UNKNOWN)
        return ki_fail(err, KITH_UNSUPPORTED, "not a JPEG, PNG, WebP, GIF or TIFF picture");
    if (size > limits->max_bytes)
        return ki_fail(err, KITH_UNSUPPORTED, "%zu bytes long, more than the %llu allowed", size,
                       (unsigned long long)limits->max_bytes);
    image->format = format;
    kith_status status = decode_checked(bytes, size, limits, allocator, image, err);
    vips_error_clear();
    if (status != KITH_OK) kith_image_clear(image);
    return status;
}

/* Read a whole regular file. *bytes is NULL on failure. */
static kith_status read_file(const char *path, uint64_t max_bytes, const kith_allocator *allocator,
                             uint8_t **bytes, size_t *size, kith_error *err)
{
    *bytes = NULL;
    *size = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hold us up */
    struct stat st;
    if (fd < 0) return ki_fail_errno(err, errno, "cannot be opened");
    kith_status status = KITH_OK;
    if (fstat(fd, &st) != 0)
        status = ki_fail_errno(err, errno, "cannot be read");
    else if (!S_ISREG(st.st_mode))
        status = ki_fail(err, KITH_UNSUPPORTED, "not a regular file");
    else if ((uint64_t)st.st_size > max_bytes)
        status = ki_fail(err, KITH_UNSUPPORTED, "%llu bytes long, more than the %llu allowed",
                         (unsigned long long)st.st_size, (unsigned long long)max_bytes);
    else if (!(*bytes = ki_alloc(allocator, (size_t)st.st_size, 1)))
        status = ki_fail_nomem(err, (size_t)st.st_size);
    while (status == KITH_OK && *size < (size_t)st.st_size) {
        ssize_t got = read(fd, *bytes + *size, (size_t)st.st_size - *size);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) status = ki_fail_errno(err, errno, "cannot be read");
        if (got == 0) break; /* it got shorter while we read */
        if (got > 0) *size += (size_t)got;
    }
    close(fd);
    if (status != KITH_OK) {
        ki_free(allocator, *bytes);
        *bytes = NULL;
    }
    return status;
}

kith_status kith_image_decode_file(const char *path, const kith_image_limits *limits,
                                   const kith_allocator *allocator, kith_image *image, kith_error *err)
{
    kith_image_limits own;
    uint8_t *bytes;
    size_t size;
    memset(image, 0, sizeof *image);
    KI_TRY(read_limits(limits, &own, err));
    KI_TRY(read_file(path, own.max_bytes, allocator, &bytes, &size, err));
    kith_status status = kith_image_decode(bytes, size, limits, allocator, image, err);
    ki_free(allocator, bytes);
    return status;
}
