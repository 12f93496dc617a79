/* Features of a network: finding and loading the plug-in, preparing pixels, remembering which model it was. */
#include "image/model.h"

#include <dlfcn.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/error.h"
#include "base/memory.h"
#include "image/vips.h"

#define PLUGIN_FILE "libkith-dnn.so"
enum { MAX_MODEL_BYTES = 1 << 30, MAX_PATH = 4096 };

/* The centre cut out of the picture's short side: the custom since Krizhevsky et al. 2012 (224 of 256). */
static const double centre_share = 0.875;

/* ---- the plug-in ---- */

/* Try one place; NULL, and reason[] filled if there is a file that cannot be used. */
static void *try_plugin(const char *folder, const char *below, char *reason, size_t reason_size)
{
    char path[MAX_PATH];
    int length = snprintf(path, sizeof path, "%s%s/%s", folder, below, PLUGIN_FILE);
    if (length < 0 || (size_t)length >= sizeof path || access(path, R_OK) != 0) return NULL;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) snprintf(reason, reason_size, ": %s", dlerror());
    return library;
}

/* The folder of the library or program that this code is in; "" if unknown. */
static void own_folder(char folder[MAX_PATH])
{
    Dl_info info;
    folder[0] = '\0';
    if (!dladdr((const void *)&kith_features_create, &info) || !info.dli_fname) return;
    char *real = realpath(strchr(info.dli_fname, '/') ? info.dli_fname : "/proc/self/exe", NULL);
    char *slash = real ? strrchr(real, '/') : NULL;
    if (slash && slash - real < MAX_PATH) {
        memcpy(folder, real, (size_t)(slash - real));
        folder[slash - real] = '\0';
    }
    free(real);
}

/* $KITH_PLUGINS alone if it is set; else beside this library (build/lib, or an install tree that was moved),
 * beside a program that has it inside, and where it was to be installed. */
static kith_status load_plugin(ki_model *model, kith_error *err)
{
    char reason[300] = "", own[MAX_PATH];
    const char *given = secure_getenv("KITH_PLUGINS");
    if (given && *given)
        model->library = try_plugin(given, "", reason, sizeof reason);
    else {
        own_folder(own);
        if (own[0]) model->library = try_plugin(own, "/kith", reason, sizeof reason);
        if (own[0] && !model->library)
            model->library = try_plugin(own, "/../lib/kith", reason, sizeof reason);
        if (!model->library) model->library = try_plugin(KI_PLUGINS, "", reason, sizeof reason);
    }
    if (!model->library)
        return ki_fail(err, KITH_UNSUPPORTED, "the plug-in %s, which runs networks, is not %s%s", PLUGIN_FILE,
                       reason[0] ? "usable" : "installed", reason);
    ki_dnn_entry entry;
    void *symbol = dlsym(model->library, KI_DNN_SYMBOL);
    memcpy(&entry, &symbol, sizeof entry); /* POSIX's way from an object to a function pointer */
    model->plugin = symbol ? entry() : NULL;
    if (!model->plugin || model->plugin->abi != KI_DNN_ABI)
        return ki_fail(err, KITH_UNSUPPORTED, "the plug-in %s is of another version", PLUGIN_FILE);
    return KITH_OK;
}

/* ---- open, close ---- */

static kith_status read_model(const char *path, const kith_allocator *allocator, uint8_t **bytes,
                              size_t *size, kith_error *err)
{
    *bytes = NULL;
    FILE *file = fopen(path, "rbe");
    if (!file) return ki_fail_errno(err, errno, "%s", path);
    kith_status status = KITH_OK;
    long length = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    if (length < 0 || fseek(file, 0, SEEK_SET) != 0)
        status = ki_fail_errno(err, errno, "%s", path);
    else if (length > MAX_MODEL_BYTES)
        status = ki_fail(err, KITH_FORMAT, "%s: %ld bytes are too many for a network", path, length);
    else if (!(*bytes = ki_alloc(allocator, (size_t)length, 1)))
        status = ki_fail_nomem(err, (size_t)length);
    else if (errno = 0, fread(*bytes, 1, (size_t)length, file) != (size_t)length)
        status = ki_fail_errno(err, errno ? errno : EIO, "%s", path);
    *size = (size_t)length;
    fclose(file);
    if (status == KITH_OK) return KITH_OK;
    ki_free(allocator, *bytes);
    *bytes = NULL;
    return status;
}

static kith_status check_input(const ki_dnn_input *input, const char *layer, kith_error *err)
{
    if (input->side < 16 || input->side > 2048)
        return ki_fail(err, KITH_INVALID, "input is %u, allowed 16..2048", input->side);
    for (size_t c = 0; c < 3; c++)
        if (!isfinite(input->mean[c])) return ki_fail(err, KITH_INVALID, "mean[%zu] is not a number", c);
    if (!isfinite(input->scale) || input->scale == 0)
        return ki_fail(err, KITH_INVALID, "scale is %g, must be finite and not 0", (double)input->scale);
    if (layer && (strlen(layer) >= KI_DNN_LAYER || !*layer))
        return ki_fail(err, KITH_INVALID, "layer is a name of %zu bytes, allowed 1..%d", strlen(layer),
                       KI_DNN_LAYER - 1);
    return KITH_OK;
}

static kith_status open_network(ki_model *model, const char *path, kith_error *err)
{
    char message[KI_DNN_MESSAGE] = "";
    uint8_t *bytes;
    size_t size = 0;
    KI_TRY(read_model(path, model->allocator, &bytes, &size, err));
    model->hash = ki_checksum(bytes, size);
    int code =
        model->plugin->open(bytes, size, &model->input, model->layer, &model->net, &model->dim, message);
    ki_free(model->allocator, bytes);
    switch (code) {
    case KI_DNN_OK: return KITH_OK;
    case KI_DNN_NOMEM: return ki_fail(err, KITH_NOMEM, "%s: no memory for the network", path);
    case KI_DNN_NO_LAYER: return ki_fail(err, KITH_NOTFOUND, "%s: %s", path, message);
    default: return ki_fail(err, KITH_FORMAT, "%s: not a network that can be read: %s", path, message);
    }
}

kith_status ki_model_open(const char *path, const char *layer, const ki_dnn_input *input,
                          const kith_allocator *allocator, ki_model *model, kith_error *err)
{
    memset(model, 0, sizeof *model);
    KI_TRY(check_input(input, layer, err));
    model->input = *input;
    model->allocator = allocator;
    if (layer) memcpy(model->layer, layer, strlen(layer) + 1);
    model->path = ki_strdup(allocator, path);
    kith_status status = model->path ? load_plugin(model, err) : ki_fail_nomem(err, strlen(path) + 1);
    if (status == KITH_OK) status = open_network(model, path, err);
    if (status != KITH_OK) ki_model_close(model);
    return status;
}

void ki_model_close(ki_model *model)
{
    if (model->net) model->plugin->close(model->net);
    /* The library stays: OpenCV's own at-exit handlers do not survive being unloaded. */
    ki_free(model->allocator, model->path);
    memset(model, 0, sizeof *model);
}

/* ---- a vector ---- */

uint32_t ki_model_short_side(const ki_model *model)
{
    return (uint32_t)ceil(model->input.side / centre_share);
}

/* The centre of `image`, brought to input.side squared, into rgb. */
static kith_status cut_centre(const ki_model *model, const kith_image *image, uint8_t *rgb, kith_error *err)
{
    uint32_t side = model->input.side, want = ki_model_short_side(model);
    uint32_t shorter = image->width < image->height ? image->width : image->height;
    kith_image resized = {0};
    if (shorter != want) {
        double factor = (double)want / shorter;
        /* Beyond some length, the ends of a strip are cut away in any case. */
        uint32_t width = (uint32_t)fmin(round(image->width * factor), 1e5);
        uint32_t height = (uint32_t)fmin(round(image->height * factor), 1e5);
        KI_TRY(ki_image_resize(image, width, height, &resized, err));
        image = &resized;
    }
    size_t left = (image->width - side) / 2, top = (image->height - side) / 2;
    for (size_t y = 0; y < side; y++)
        memcpy(rgb + y * side * 3, image->pixels + ((top + y) * image->width + left) * 3, (size_t)side * 3);
    kith_image_clear(&resized);
    return KITH_OK;
}

kith_status ki_model_vector(ki_model *model, const kith_image *image, float *vector, kith_error *err)
{
    if (!image->pixels || !image->width || !image->height)
        return ki_fail(err, KITH_INVALID, "the picture is empty");
    size_t bytes = (size_t)model->input.side * model->input.side * 3;
    uint8_t *rgb = ki_alloc(model->allocator, bytes, 1);
    if (!rgb) return ki_fail_nomem(err, bytes);
    char message[KI_DNN_MESSAGE] = "";
    kith_status status = cut_centre(model, image, rgb, err);
    if (status == KITH_OK && model->plugin->run(model->net, rgb, vector, message) != KI_DNN_OK)
        status = ki_fail(err, KITH_INTERNAL, "the network failed: %s", message);
    ki_free(model->allocator, rgb);
    if (status != KITH_OK) return status;
    double squares = 0;
    for (size_t i = 0; i < model->dim; i++) squares += (double)vector[i] * vector[i];
    if (!isfinite(squares)) return ki_fail(err, KITH_INTERNAL, "the network's answer is not finite");
    float scale = squares > 1e-20 ? (float)(1 / sqrt(squares)) : 0;
    for (size_t i = 0; i < model->dim; i++) vector[i] *= scale;
    if (scale == 0) vector[0] = 1; /* every vector has length 1 */
    return KITH_OK;
}

/* ---- as bytes ---- */

void ki_model_put(const ki_model *model, int path, ki_bytes *bytes)
{
    ki_bytes_put_u64(bytes, KI_MODEL_VERSION);
    ki_bytes_put_u64(bytes, model->hash);
    ki_bytes_put_u64(bytes, model->dim);
    ki_bytes_put_u64(bytes, model->input.side);
    for (size_t c = 0; c < 3; c++) ki_bytes_put_f32(bytes, model->input.mean[c]);
    ki_bytes_put_f32(bytes, model->input.scale);
    ki_bytes_put(bytes, model->layer, sizeof model->layer);
    if (!path) return;
    ki_bytes_put_u64(bytes, strlen(model->path));
    ki_bytes_put(bytes, model->path, strlen(model->path));
}

kith_status ki_model_get(ki_bytes *bytes, const char *path, const kith_allocator *allocator, ki_model *model,
                         kith_error *err)
{
    memset(model, 0, sizeof *model);
    char layer[KI_DNN_LAYER], was[MAX_PATH];
    ki_dnn_input input;
    uint64_t version = ki_bytes_get_u64(bytes);
    if (version != KI_MODEL_VERSION)
        return ki_fail(err, KITH_VERSION, "model features of version %llu, this program makes version %d",
                       (unsigned long long)version, KI_MODEL_VERSION);
    uint64_t hash = ki_bytes_get_u64(bytes), dim = ki_bytes_get_u64(bytes), side = ki_bytes_get_u64(bytes);
    for (size_t c = 0; c < 3; c++) input.mean[c] = ki_bytes_get_f32(bytes);
    input.scale = ki_bytes_get_f32(bytes);
    ki_bytes_get(bytes, layer, sizeof layer);
    uint64_t length = ki_bytes_get_u64(bytes);
    input.side = (uint32_t)side;
    if (length >= sizeof was || side > UINT32_MAX || !memchr(layer, 0, sizeof layer))
        return ki_fail(err, KITH_CORRUPT, "saved features are damaged");
    ki_bytes_get(bytes, was, (size_t)length);
    was[length] = '\0';
    if (bytes->failed || bytes->at != bytes->size || memchr(was, 0, (size_t)length) ||
        check_input(&input, layer, NULL) != KITH_OK)
        return ki_fail(err, KITH_CORRUPT, "saved features are damaged");
    KI_TRY(ki_model_open(path ? path : was, layer, &input, allocator, model, err));
    if (model->hash == hash && model->dim == dim) return KITH_OK;
    ki_model_close(model);
    return ki_fail(err, KITH_INVALID, "%s is not the model that the collection was made with",
                   path ? path : was);
}
