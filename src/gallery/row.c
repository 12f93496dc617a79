#include "gallery/row.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gallery/utf8.h"

#define BILLION 1000000000

/* A JSON number is a double for many readers: 64 bits of hash go as text, a time as two integers. */
static int set_hex(json_t *object, const char *name, uint64_t value)
{
    char text[17];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)value);
    return json_object_set_new(object, name, json_string(text)) == 0;
}

static int get_hex(const json_t *object, const char *name, uint64_t *value)
{
    const char *text = json_string_value(json_object_get(object, name));
    char *end;
    if (!text || strlen(text) != 16) return 0;
    *value = strtoull(text, &end, 16);
    return *end == 0;
}

static int set_integer(json_t *object, const char *name, int64_t value)
{
    return json_object_set_new(object, name, json_integer(value)) == 0;
}

static int set_time(json_t *object, const char *seconds_name, const char *ns_name, int64_t ns)
{
    int64_t rest = ns % BILLION, seconds = ns / BILLION;
    if (rest < 0) {
        rest += BILLION;
        seconds--;
    }
    return set_integer(object, seconds_name, seconds) && set_integer(object, ns_name, rest);
}

static int get_time(const json_t *object, const char *seconds_name, const char *ns_name, int64_t *ns)
{
    const json_t *seconds = json_object_get(object, seconds_name), *rest = json_object_get(object, ns_name);
    return json_is_integer(seconds) && json_is_integer(rest) &&
           !__builtin_mul_overflow((int64_t)json_integer_value(seconds), (int64_t)BILLION, ns) &&
           !__builtin_add_overflow(*ns, (int64_t)json_integer_value(rest), ns);
}

/* A path as text that anybody can show, and its exact bytes beside it where that is not the same. */
static int set_path(json_t *object, const char *path)
{
    json_object_del(object, "path_hex");
    if (ki_utf8_valid(path)) return json_object_set_new(object, "path", json_string(path)) == 0;
    size_t size = strlen(path);
    char *clean = ki_utf8_clean(path), *hex = malloc(2 * size + 1);
    int done = 0;
    if (clean && hex) {
        for (size_t i = 0; i < size; i++) snprintf(hex + 2 * i, 3, "%02x", (unsigned char)path[i]);
        done = json_object_set_new(object, "path", json_string(clean)) == 0 &&
               json_object_set_new(object, "path_hex", json_string(hex)) == 0;
    }
    free(clean);
    free(hex);
    return done;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* malloc; *status 1, 0 when there is none, -1 without memory. */
static char *get_path(const json_t *object, int *status)
{
    const char *text = json_string_value(json_object_get(object, "path"));
    const char *hex = json_string_value(json_object_get(object, "path_hex"));
    char *path = NULL;
    *status = 0;
    if (!text) return NULL;
    if (!hex) {
        path = strdup(text);
        *status = path ? 1 : -1;
        return path;
    }
    size_t size = strlen(hex) / 2;
    path = malloc(size + 1);
    *status = path ? 1 : -1;
    for (size_t i = 0; path && i < size; i++) {
        int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
        if (high < 0 || low < 0 || (high == 0 && low == 0)) {
            free(path);
            *status = 0;
            return NULL;
        }
        path[i] = (char)(high << 4 | low);
    }
    if (path) path[size] = 0;
    return path;
}

static int set_folder(json_t *payload, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = strndup(path, slash ? (size_t)(slash - path) : 0);
    char *clean = folder ? ki_utf8_clean(folder) : NULL;
    int done = clean && json_object_set_new(payload, "folder", json_string(clean)) == 0;
    free(folder);
    free(clean);
    return done;
}

int ki_row_set_file(json_t *payload, const ki_walk_file *file)
{
    return set_path(payload, file->path) && set_folder(payload, file->path) &&
           set_integer(payload, "size", (int64_t)file->size) &&
           set_time(payload, "mtime", "mtime_ns", file->mtime_ns);
}

/* A member that is only there when it says something. */
static int set_or_drop(json_t *payload, const char *name, const char *text)
{
    json_object_del(payload, name);
    return !text[0] || json_object_set_new(payload, name, json_string(text)) == 0;
}

int ki_row_set_picture(json_t *payload, const ki_picture *picture)
{
    return set_hex(payload, "hash", picture->hash) && set_hex(payload, "phash", picture->phash) &&
           set_integer(payload, "width", picture->width) && set_integer(payload, "height", picture->height) &&
           set_or_drop(payload, "format", kith_image_format_name(picture->format)) &&
           set_or_drop(payload, "taken", picture->date) && set_or_drop(payload, "camera", picture->camera);
}

json_t *ki_row_parse(const char *text, size_t size)
{
    json_t *object = json_loadb(text, size, JSON_ALLOW_NUL, NULL);
    if (json_is_object(object)) return object;
    json_decref(object);
    return NULL;
}

int ki_row_get_file(const json_t *payload, ki_row_file *file)
{
    int status;
    const json_t *size = json_object_get(payload, "size");
    *file = (ki_row_file){0};
    if (!json_is_integer(size) || json_integer_value(size) < 0 || !get_hex(payload, "hash", &file->hash) ||
        !get_time(payload, "mtime", "mtime_ns", &file->mtime_ns))
        return 0;
    file->size = (uint64_t)json_integer_value(size);
    file->path = get_path(payload, &status);
    return status;
}

int ki_row_get_look(const json_t *payload, ki_row_look *look)
{
    *look = (ki_row_look){0};
    if (!get_hex(payload, "phash", &look->phash)) return 0;
    json_int_t width = json_integer_value(json_object_get(payload, "width"));
    json_int_t height = json_integer_value(json_object_get(payload, "height"));
    json_int_t size = json_integer_value(json_object_get(payload, "size"));
    if (width > 0 && height > 0 && width <= UINT32_MAX && height <= UINT32_MAX)
        look->pixels = (uint64_t)width * (uint64_t)height;
    look->size = size > 0 ? (uint64_t)size : 0;
    if (!get_time(payload, "mtime", "mtime_ns", &look->mtime_ns)) look->mtime_ns = INT64_MAX;
    return 1;
}

json_t *ki_bad_note(const ki_bad *bad)
{
    json_t *note = json_object();
    char *reason = ki_utf8_clean(bad->reason);
    int done = note && reason && set_path(note, bad->path) &&
               json_object_set_new(note, "reason", json_string(reason)) == 0 &&
               set_integer(note, "status", bad->status) && set_integer(note, "size", (int64_t)bad->size) &&
               set_time(note, "mtime", "mtime_ns", bad->mtime_ns) &&
               set_time(note, "ctime", "ctime_ns", bad->ctime_ns) && set_hex(note, "limits", bad->limits);
    free(reason);
    if (done) return note;
    json_decref(note);
    return NULL;
}

int ki_bad_parse(const char *text, size_t size, ki_bad *bad)
{
    *bad = (ki_bad){0};
    int status = 0;
    json_t *note = ki_row_parse(text, size);
    const char *reason = json_string_value(json_object_get(note, "reason"));
    if (reason && get_time(note, "mtime", "mtime_ns", &bad->mtime_ns) &&
        get_time(note, "ctime", "ctime_ns", &bad->ctime_ns) && get_hex(note, "limits", &bad->limits)) {
        bad->size = (uint64_t)json_integer_value(json_object_get(note, "size"));
        bad->status = (kith_status)json_integer_value(json_object_get(note, "status"));
        bad->path = get_path(note, &status);
        bad->reason = strdup(reason);
        if (!bad->reason) status = -1;
    }
    json_decref(note);
    if (status != 1) ki_bad_clear(bad);
    return status;
}

void ki_bad_clear(ki_bad *bad)
{
    free(bad->path);
    free(bad->reason);
    *bad = (ki_bad){0};
}
