/* handlers_rows.c - rows by key: payload, thumbnail, and the picture itself. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <kith/image.h>

#include "handlers.h"

enum { MAX_ROWS = 1000 };

int64_t named_key(request *r)
{
    const char *text = r->args[1];
    char *end = NULL;
    errno = 0;
    long long key = text[0] >= '1' && text[0] <= '9' ? strtoll(text, &end, 10) : 0;
    if (end && *end == 0 && errno == 0) return key;
    http_problem(r, 404, "a key is a whole number from 1");
    return 0;
}

json_t *payload_json(const char *text, size_t size)
{
    json_t *payload = text ? json_loadb(text, size, 0, NULL) : NULL;
    return payload ? payload : json_object();
}

/* Fetch parts of the row that the path names. 0 when the answer was given; else the gallery is to be returned. */
static kith_gallery *fetch(request *r, unsigned parts, size_t *collection, kith_row *row)
{
    kith_error err = {0};
    int64_t key = named_key(r);
    kith_gallery *gallery = key ? borrow_named(r, collection) : NULL;
    if (!gallery) return NULL;
    *row = (kith_row){0};
    if (kith_collection_get(kith_gallery_collection(gallery), key, parts, row, &err) == KITH_OK)
        return gallery;
    shelf_return(r->server->shelf, *collection, gallery);
    http_fail(r, &err);
    return NULL;
}

void get_row(request *r)
{
    size_t i;
    kith_row row;
    kith_gallery *gallery = fetch(r, KITH_ROW_PAYLOAD, &i, &row);
    if (!gallery) return;
    json_t *value = json_pack("{sI so}", "key", (json_int_t)row.key, "payload",
                              payload_json(row.payload, row.payload_size));
    shelf_return(r->server->shelf, i, gallery);
    http_reply_json(r, 200, value);
}

void get_rows(request *r)
{
    size_t i;
    uint64_t after, limit;
    kith_error err = {0};
    if (!http_count(r, "after", 0, INT64_MAX, 0, &after) || !http_count(r, "limit", 1, MAX_ROWS, 100, &limit))
        return;
    kith_gallery *gallery = borrow_named(r, &i);
    if (!gallery) return;
    json_t *list = json_array();
    kith_row row = {.key = (int64_t)after};
    kith_status status = KITH_OK;
    while (json_array_size(list) < limit) {
        status =
            kith_collection_next(kith_gallery_collection(gallery), row.key, KITH_ROW_PAYLOAD, &row, &err);
        if (status != KITH_OK || row.key == 0) break;
        json_array_append_new(list, json_pack("{sI so}", "key", (json_int_t)row.key, "payload",
                                              payload_json(row.payload, row.payload_size)));
    }
    shelf_return(r->server->shelf, i, gallery);
    if (status != KITH_OK) {
        json_decref(list);
        http_fail(r, &err);
        return;
    }
    /* next: what `after` is for the rows that follow; null when there are none. */
    int more = json_array_size(list) == limit;
    http_reply_json(
        r, 200,
        json_pack("{so so}", "rows", list, "next", more ? json_integer((json_int_t)row.key) : json_null()));
}

/* A tag of a thumbnail: it changes with the picture's content hash. */
static void tag_of(json_t *payload, char etag[40])
{
    const char *hash = json_string_value(json_object_get(payload, "hash"));
    etag[0] = 0;
    if (hash && strlen(hash) == 16) snprintf(etag, 40, "\"t%s\"", hash);
}

void get_thumbnail(request *r)
{
    size_t i;
    kith_row row;
    char etag[40];
    kith_gallery *gallery = fetch(r, KITH_ROW_PAYLOAD | KITH_ROW_ATTACHMENT, &i, &row);
    if (!gallery) return;
    json_t *payload = payload_json(row.payload, row.payload_size);
    tag_of(payload, etag);
    json_decref(payload);
    if (row.attachment && kith_image_sniff(row.attachment, row.attachment_size) == KITH_IMAGE_JPEG)
        http_reply_bytes(r, "image/jpeg", row.attachment, row.attachment_size, *etag ? etag : NULL);
    else
        http_problem(r, 404, "the row has no thumbnail");
    shelf_return(r->server->shelf, i, gallery);
}

/* The exact bytes of a row's path: path_hex where the path is not UTF-8. malloc; NULL when there is none. */
static char *path_of(json_t *payload)
{
    const char *hex = json_string_value(json_object_get(payload, "path_hex"));
    const char *path = json_string_value(json_object_get(payload, "path"));
    if (!hex) return path && *path ? strdup(path) : NULL;
    size_t n = strlen(hex) / 2;
    char *bytes = calloc(n + 1, 1);
    for (size_t i = 0; bytes && i < n; i++) {
        unsigned byte;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1 || byte == 0) {
            free(bytes);
            return NULL;
        }
        bytes[i] = (char)byte;
    }
    return bytes;
}

/* Open a file below a folder: no "..", no link that leads out, no device. -1 when it cannot be had. */
static int open_below(const char *folder, const char *path)
{
    int root = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) return -1;
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);
    close(root);
    return fd;
}

static const char *type_of(int fd)
{
    unsigned char head[KITH_IMAGE_SNIFF_BYTES];
    ssize_t n = pread(fd, head, sizeof head, 0);
    switch (n > 0 ? kith_image_sniff(head, (size_t)n) : KITH_IMAGE_UNKNOWN) {
    case KITH_IMAGE_JPEG: return "image/jpeg";
    case KITH_IMAGE_PNG: return "image/png";
    case KITH_IMAGE_WEBP: return "image/webp";
    case KITH_IMAGE_GIF: return "image/gif";
    case KITH_IMAGE_TIFF: return "image/tiff";
    default: return NULL;
    }
}

void get_picture(request *r)
{
    size_t i;
    kith_row row;
    char etag[40];
    kith_gallery *gallery = fetch(r, KITH_ROW_PAYLOAD, &i, &row);
    if (!gallery) return;
    json_t *payload = payload_json(row.payload, row.payload_size);
    char *path = path_of(payload);
    int fd = path ? open_below(kith_gallery_folder(gallery), path) : -1;
    shelf_return(r->server->shelf, i, gallery);
    free(path);
    json_decref(payload);
    struct stat st;
    const char *type = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? type_of(fd) : NULL;
    if (type) { /* the tag is of the file as it is now, not of the one that was indexed */
        snprintf(etag, sizeof etag, "\"p%llx-%llx\"",
                 (unsigned long long)st.st_mtim.tv_sec * 1000000000ull +
                     (unsigned long long)st.st_mtim.tv_nsec,
                 (unsigned long long)st.st_size);
        http_reply_file(r, type, fd, (uint64_t)st.st_size, etag);
        return;
    }
    if (fd >= 0) close(fd);
    http_problem(r, 404, "the file of this row is not there any more");
}
