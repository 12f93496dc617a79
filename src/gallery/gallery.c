#include <kith/gallery.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/options.h"
#include "gallery/gallery_state.h"

#define DEFAULT_MEGAPIXELS 150
#define DEFAULT_BYTES ((uint64_t)256 << 20)
#define DEFAULT_SECONDS 60
#define MIN_MEMORY ((uint64_t)1 << 30)
#define BYTES_A_PIXEL 12             /* RGBA of 8 bits as decoded, turned and flattened: three copies */
#define MAX_RESULT ((size_t)4 << 20) /* a vector of KITH_COLLECTION_MAX_DIM, a thumbnail, a sample */
#define MAX_SETTINGS ((size_t)1 << 20)

/* ---- Settings ---- */

void ki_settings_clear(ki_settings *settings)
{
    free(settings->root);
    free(settings->description);
    for (size_t i = 0; i < settings->n_exclude; i++) free(settings->exclude[i]);
    free(settings->exclude);
    *settings = (ki_settings){.kind = KITH_FEATURES_CLASSIC};
}

/* A value as text (malloc), or NULL in *text when there is none. */
static kith_status load_text(kith_collection *collection, const char *name, char **text, kith_error *err)
{
    kith_meta meta;
    *text = NULL;
    kith_status status = kith_collection_meta_get(collection, name, &meta, err);
    if (status == KITH_NOTFOUND) return KITH_OK;
    if (status != KITH_OK) return status;
    if (meta.size > MAX_SETTINGS)
        return ki_fail(err, KITH_CORRUPT, "the value %s has %zu bytes", name, meta.size);
    *text = malloc(meta.size + 1);
    if (!*text) return ki_fail_nomem(err, meta.size + 1);
    memcpy(*text, meta.value, meta.size);
    (*text)[meta.size] = 0; // (a value has no end of its own)
    return KITH_OK;
}

static kith_status parse_settings(const char *text, ki_settings *settings, kith_error *err)
{
    json_t *json = ki_row_parse(text, strlen(text));
    const char *kind = json_string_value(json_object_get(json, "features"));
    const json_t *exclude = json_object_get(json, "exclude"), *pattern;
    size_t i, n = json_array_size(exclude);
    kith_status status = KITH_OK;
    settings->kind = kind && strcmp(kind, "plain") == 0   ? KITH_FEATURES_PLAIN
                     : kind && strcmp(kind, "model") == 0 ? KITH_FEATURES_MODEL
                                                          : KITH_FEATURES_CLASSIC;
    settings->hidden = json_is_true(json_object_get(json, "hidden"));
    settings->tried = (uint64_t)json_integer_value(json_object_get(json, "train_tried"));
    settings->exclude = calloc(n + 1, sizeof *settings->exclude);
    if (!settings->exclude) status = ki_fail_nomem(err, n * sizeof *settings->exclude);
    json_array_foreach(exclude, i, pattern)
    {
        if (status != KITH_OK || !json_is_string(pattern)) continue;
        char *copy = strdup(json_string_value(pattern));
        if (!copy) status = ki_fail_nomem(err, 1);
        if (copy) settings->exclude[settings->n_exclude++] = copy;
    }
    json_decref(json);
    return status;
}

static kith_status load_settings(kith_collection *collection, ki_settings *settings, kith_error *err)
{
    char *text = NULL, *fingerprint = NULL;
    KI_TRY(load_text(collection, "gallery/root", &settings->root, err));
    KI_TRY(load_text(collection, "gallery/description", &settings->description, err));
    KI_TRY(load_text(collection, "gallery/fingerprint", &fingerprint, err));
    if (fingerprint) settings->fingerprint = strtoull(fingerprint, NULL, 16);
    free(fingerprint);
    KI_TRY(load_text(collection, "gallery/settings", &text, err));
    kith_status status = text ? parse_settings(text, settings, err) : KITH_OK;
    free(text);
    if (status == KITH_OK && settings->root && !settings->description)
        status = ki_fail(err, KITH_CORRUPT, "gallery/description is missing");
    return status;
}

static char *settings_text(const ki_settings *settings)
{
    static const char *const kinds[] = {"classic", "plain", "model"};
    json_t *exclude = json_array(), *json = json_object();
    int done = exclude && json;
    for (size_t i = 0; done && i < settings->n_exclude; i++)
        done = json_array_append_new(exclude, json_string(settings->exclude[i])) == 0;
    done = done && json_object_set_new(json, "features", json_string(kinds[settings->kind])) == 0 &&
           json_object_set_new(json, "hidden", json_boolean(settings->hidden)) == 0 &&
           json_object_set_new(json, "train_tried", json_integer((json_int_t)settings->tried)) == 0 &&
           json_object_set(json, "exclude", exclude) == 0;
    char *text = done ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(exclude);
    json_decref(json);
    return text;
}

kith_status ki_settings_save(const ki_settings *settings, kith_collection *collection, kith_error *err)
{
    char fingerprint[17];
    snprintf(fingerprint, sizeof fingerprint, "%016llx", (unsigned long long)settings->fingerprint);
    char *text = settings_text(settings);
    if (!text) return ki_fail_nomem(err, sizeof *settings);
    kith_status status = kith_collection_meta_set(collection, "gallery/settings", text, strlen(text), err);
    free(text);
    KI_TRY(status);
    KI_TRY(kith_collection_meta_set(collection, "gallery/root", settings->root, strlen(settings->root), err));
    KI_TRY(kith_collection_meta_set(collection, "gallery/description", settings->description,
                                    strlen(settings->description), err));
    return kith_collection_meta_set(collection, "gallery/fingerprint", fingerprint, strlen(fingerprint), err);
}

/* ---- Open and close ---- */

kith_status ki_gallery_refresh(kith_gallery *g, kith_error *err)
{
    if (!g->path) return ki_fail(err, KITH_INVALID, "this gallery was opened without a collection");
    if (!g->collection) {
        kith_collection_options options;
        kith_collection_options_init(&options);
        options.allocator = g->allocator;
        options.read_only = g->options.read_only;
        options.wait_ms = g->options.wait_ms;
        kith_status status = kith_collection_open(g->path, &options, &g->collection, err);
        if (status == KITH_NOTFOUND && !g->options.read_only) return KITH_OK;
        if (status != KITH_OK) return status;
    }
    ki_settings settings = {0};
    kith_status status = load_settings(g->collection, &settings, err);
    if (status != KITH_OK) {
        ki_settings_clear(&settings);
        return status;
    }
    ki_settings_clear(&g->settings);
    g->settings = settings;
    return KITH_OK;
}

static kith_status read_options(const kith_gallery_options *given, kith_gallery_options *own, kith_error *err)
{
    kith_gallery_options_init(own);
    KI_TRY(ki_options_read(own, sizeof *own, given, "options", err));
    if (own->jobs > 1024) return ki_fail(err, KITH_INVALID, "jobs is %zu, allowed 0..1024", own->jobs);
    if (!(own->max_megapixels >= 0 && own->max_megapixels <= 1e5))
        return ki_fail(err, KITH_INVALID, "max_megapixels is %g, allowed 0..100000", own->max_megapixels);
    if (!(own->seconds >= 0 && own->seconds <= 86400))
        return ki_fail(err, KITH_INVALID, "seconds is %g, allowed 0..86400", own->seconds);
    if (own->max_bytes > (uint64_t)1 << 40)
        return ki_fail(err, KITH_INVALID, "max_bytes is %llu, allowed up to 2^40",
                       (unsigned long long)own->max_bytes);
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    if (own->jobs == 0) own->jobs = processors > 0 && processors <= 1024 ? (size_t)processors : 1;
    if (own->max_megapixels == 0) own->max_megapixels = DEFAULT_MEGAPIXELS;
    if (own->max_bytes == 0) own->max_bytes = DEFAULT_BYTES;
    if (own->seconds == 0) own->seconds = DEFAULT_SECONDS;
    return KITH_OK;
}

static kith_status start_nursery(kith_gallery *g, kith_error *err)
{
    uint64_t pixels = (uint64_t)(g->options.max_megapixels * 1e6);
    uint64_t memory = pixels * BYTES_A_PIXEL + g->options.max_bytes;
    ki_workers_options options = {.job = &ki_decoder_job,
                                  .workers = g->options.jobs,
                                  .seconds = g->options.seconds,
                                  .memory = memory < MIN_MEMORY ? MIN_MEMORY : memory,
                                  .max_reply = MAX_RESULT,
                                  .allocator = g->allocator};
    if (!g->path) options.max_reply = (size_t)pixels * 3 + MAX_RESULT;
    return ki_workers_create(&options, &g->workers, err);
}

kith_status kith_gallery_open(const char *path, const kith_gallery_options *options, kith_gallery **gallery,
                              kith_error *err)
{
    *gallery = NULL;
    kith_gallery_options own;
    KI_TRY(read_options(options, &own, err));
    kith_gallery *g = ki_alloc_zero(own.allocator, 1, sizeof *g);
    if (!g) return ki_fail_nomem(err, sizeof *g);
    g->options = own;
    g->allocator = own.allocator;
    kith_status status = KITH_OK;
    if (path && !(g->path = ki_strdup(own.allocator, path))) status = ki_fail_nomem(err, strlen(path));
    if (own.model && !(g->model = ki_strdup(own.allocator, own.model)))
        status = ki_fail_nomem(err, strlen(own.model));
    if (status == KITH_OK) status = start_nursery(g, err); /* before SQLite opens anything */
    if (status == KITH_OK && path) status = ki_gallery_refresh(g, err);
    if (status != KITH_OK) {
        kith_gallery_close(g);
        return status;
    }
    *gallery = g;
    return KITH_OK;
}

void kith_gallery_close(kith_gallery *g)
{
    if (!g) return;
    kith_collection_close(g->collection);
    ki_workers_free(g->workers);
    ki_settings_clear(&g->settings);
    ki_free(g->allocator, g->path);
    ki_free(g->allocator, g->model);
    ki_free(g->allocator, g);
}

kith_status kith_gallery_reopen(kith_gallery *g, const char *path, kith_error *err)
{
    char *own = path ? ki_strdup(g->allocator, path) : NULL;
    if (path && !own) return ki_fail_nomem(err, strlen(path));
    kith_collection_close(g->collection);
    g->collection = NULL;
    ki_settings_clear(&g->settings);
    ki_free(g->allocator, g->path);
    g->path = own;
    return own ? ki_gallery_refresh(g, err) : KITH_OK;
}

kith_collection *kith_gallery_collection(kith_gallery *g)
{
    return g->collection;
}

const char *kith_gallery_folder(const kith_gallery *g)
{
    return g->settings.root ? g->settings.root : "";
}

const char *kith_gallery_description(const kith_gallery *g)
{
    return g->settings.description ? g->settings.description : "";
}

/* ---- Workers ---- */

uint64_t ki_gallery_limits(const kith_gallery *g)
{
    double limits[3] = {g->options.max_megapixels, (double)g->options.max_bytes, g->options.seconds};
    return ki_checksum(limits, sizeof limits);
}

kith_status ki_gallery_staff(kith_gallery *g, const void *features, size_t size, int with_sampling,
                             kith_error *err)
{
    ki_bytes setup = {0};
    ki_decoder_put_setup(&setup, &(ki_decoder_setup){.max_bytes = g->options.max_bytes,
                                                     .max_megapixels = g->options.max_megapixels,
                                                     .thumbnail_side = g->path ? KI_THUMBNAIL_SIDE : 0,
                                                     .features = features,
                                                     .features_size = size,
                                                     .with_sampling = with_sampling,
                                                     .model = g->model ? g->model : ""});
    kith_status status = setup.failed ? ki_fail_nomem(err, size) : KITH_OK;
    uint64_t hash = setup.failed ? 0 : ki_checksum(setup.data, setup.size) | 1;
    if (status == KITH_OK && hash != g->setup) {
        g->setup = 0;
        status = ki_workers_setup(g->workers, setup.data, setup.size, err);
        if (status == KITH_OK) g->setup = hash;
    }
    ki_bytes_clear(&setup);
    return status;
}

kith_status ki_gallery_open_file(const char *root, ki_walk_file *file, int *fd, kith_error *err)
{
    char full[PATH_MAX];
    struct stat st;
    *fd = -1;
    if (snprintf(full, sizeof full, "%s/%s", root, file->path) >= (int)sizeof full)
        return ki_fail_errno(err, ENAMETOOLONG, "opening");
    /* O_NONBLOCK: a pipe of that name must not hold us up; it means nothing for files. */
    int opened = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (opened < 0) {
        if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return KITH_OK;
        if (errno == EMFILE || errno == ENFILE)
            return ki_fail(err, KITH_INTERNAL, "no more files can be opened: %s", strerror(errno));
        return ki_fail_errno(err, errno, "opening");
    }
    if (fstat(opened, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(opened);
        return KITH_OK;
    }
    file->size = (uint64_t)st.st_size;
    file->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    file->ctime_ns = (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec;
    *fd = opened;
    return KITH_OK;
}

/* ---- Bad files ---- */

kith_status kith_gallery_list_bad(kith_gallery *g, int (*each)(void *ctx, const kith_gallery_bad *bad),
                                  void *ctx, kith_error *err)
{
    KI_TRY(ki_gallery_refresh(g, err));
    if (!g->collection) return ki_fail(err, KITH_NOTFOUND, "%s: no such collection", g->path);
    kith_meta meta = {0};
    for (;;) {
        KI_TRY(kith_collection_meta_next(g->collection, KI_BAD_PREFIX, meta.name, &meta, err));
        if (!meta.name) return KITH_OK;
        ki_bad bad;
        int is_note = ki_bad_parse(meta.value, meta.size, &bad);
        if (is_note < 0) return ki_fail_nomem(err, meta.size);
        if (is_note == 0) continue;
        int stop =
            each(ctx, &(kith_gallery_bad){
                          .path = bad.path, .reason = bad.reason, .status = bad.status, .size = bad.size});
        ki_bad_clear(&bad);
        if (stop) return KITH_OK;
    }
}
