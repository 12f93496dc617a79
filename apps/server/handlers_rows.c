/* handlers_rows.c - rows by key: by many keys, in order, counted; thumbnail, and the picture itself. */
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

#include "../common/fail.h"
#include "../common/row_request.h"
#include "handlers.h"

enum { MAX_ROWS = 1000, PAGE_END = 40 /* bytes behind the rows of a page */ };

int64_t named_key(request *r, kith_collection *collection)
{
    const char *words = r->args[1];
    char *end = NULL;
    int64_t found;
    if (words[0] == '=' && collection) {
        if (kith_collection_key_of(collection, words + 1, &found, NULL) == KITH_OK) return found;
        http_problem(r, 404, "there is no row of this text");
        return 0;
    }
    errno = 0;
    long long key = words[0] >= '1' && words[0] <= '9' ? strtoll(words, &end, 10) : 0;
    if (end && *end == 0 && errno == 0) return key;
    http_problem(r, 404, "a key is a whole number from 1, or =TEXT");
    return 0;
}

/* Fetch parts of the row that the path names. 0 when the answer was given; else the loan is to be given back. */
static int fetch(request *r, unsigned parts, loan *l, kith_row *row)
{
    kith_error err = {0};
    if (!borrow_named(r, LOAN_READ, l)) return 0;
    int64_t key = named_key(r, l->collection);
    *row = (kith_row){0};
    kith_status status = key ? kith_collection_get(l->collection, key, parts, row, &err) : KITH_OK;
    if (key && status == KITH_OK) return 1;
    shelf_return(r->server->shelf, l);
    if (status != KITH_OK) http_fail(r, &err);
    return 0;
}

/* ---- Rows as JSON ---- */

void get_row(request *r)
{
    loan l;
    kith_row row;
    text out = {0};
    uint64_t with_vector;
    kith_error err = {0};
    if (!http_count(r, "vector", 0, 1, 0, &with_vector)) return;
    if (!fetch(r, KITH_ROW_PAYLOAD | (with_vector ? KITH_ROW_VECTOR : 0u), &l, &row)) return;
    row_shown shown = {.payload = 1, .vector = (int)with_vector, .rest = (int)with_vector};
    kith_status status = row_write(l.collection, &row, shown, &out, &err);
    shelf_return(r->server->shelf, &l);
    if (status == KITH_OK) {
        http_reply_text(r, 200, &out);
        return;
    }
    text_clear(&out);
    http_fail(r, &err);
}

typedef struct page {
    uint64_t after, limit;
    const char *filter; /* NULL: all rows */
    row_shown shown;
    size_t n;
    int64_t last; /* 0: there are no more */
} page;

/* The rows of a page, one behind the other. It ends before the row that would make the answer too long, but for one that is alone. */
static kith_status write_page(const request *r, kith_collection *c, page *p, text *out, kith_error *err)
{
    unsigned parts = KITH_ROW_PAYLOAD | (p->shown.vector ? KITH_ROW_VECTOR : 0u);
    kith_row row = {.key = (int64_t)p->after};
    for (p->n = 0; p->n < p->limit; p->n++) {
        kith_status status = p->filter ? kith_collection_next_where(c, p->filter, row.key, parts, &row, err)
                                       : kith_collection_next(c, row.key, parts, &row, err);
        if (status != KITH_OK) return status;
        if (row.key == 0) {
            p->last = 0;
            return KITH_OK;
        }
        size_t before = out->size;
        if (p->n > 0) text_put(out, ",");
        status = row_write(c, &row, p->shown, out, err);
        if (status != KITH_OK) return status;
        if (p->n > 0 && out->size + PAGE_END > r->server->options.max_answer) {
            out->size = before;
            return KITH_OK;
        }
        p->last = row.key;
    }
    return KITH_OK;
}

void get_rows(request *r)
{
    loan l;
    page p = {.filter = http_query(r, "filter")};
    uint64_t with_vector;
    kith_error err = {0};
    text out = {0};
    if (!http_count(r, "after", 0, INT64_MAX, 0, &p.after) ||
        !http_count(r, "limit", 1, MAX_ROWS, 100, &p.limit) ||
        !http_count(r, "vector", 0, 1, 0, &with_vector) || !borrow_named(r, LOAN_READ, &l))
        return;
    p.shown = (row_shown){.payload = 1, .vector = (int)with_vector, .rest = (int)with_vector};
    text_put(&out, "{\"rows\":[");
    kith_status status = write_page(r, l.collection, &p, &out, &err);
    shelf_return(r->server->shelf, &l);
    if (status != KITH_OK) {
        text_clear(&out);
        http_fail(r, &err);
        return;
    }
    text_put(&out, "],\"next\":"); /* what `after` is for the rows that follow */
    if (p.last)
        text_int(&out, p.last);
    else
        text_put(&out, "null");
    text_put(&out, "}");
    http_reply_text(r, 200, &out);
}

/* The rows of a list of keys, null for those that are not there. */
static kith_status write_rows(const request *r, kith_collection *c, json_t *keys, row_shown shown, text *out,
                              kith_error *err)
{
    size_t i;
    json_t *item;
    json_array_foreach(keys, i, item)
    {
        int64_t key;
        kith_row row = {0};
        kith_status status = row_key_of(c, item, &key, err);
        if (status == KITH_OK)
            status = kith_collection_get(c, key, KITH_ROW_PAYLOAD | (shown.vector ? KITH_ROW_VECTOR : 0u),
                                         &row, err);
        if (i > 0) text_put(out, ",");
        if (status == KITH_OK)
            status = row_write(c, &row, shown, out, err);
        else if (status == KITH_NOTFOUND)
            text_put(out, "null");
        if (status != KITH_OK && status != KITH_NOTFOUND) return status;
        if (http_is_too_long(r, out)) return KITH_OK; /* it is refused when it is to go out */
    }
    return KITH_OK;
}

void post_rows_get(request *r)
{
    loan l;
    text out = {0};
    kith_error err = {0};
    json_t *json = http_json(r);
    if (!json) return;
    json_t *keys = json_object_get(json, "keys");
    const json_t *asked = json_object_get(json, "with_vector");
    int with_vector = json_is_true(asked);
    row_shown shown = {.payload = 1, .vector = with_vector, .rest = with_vector};
    if (!json_is_array(keys) || json_array_size(keys) > MAX_ROWS) {
        http_problem(r, 400, "keys must be an array of at most %d", MAX_ROWS);
    } else if (asked && !json_is_boolean(asked)) {
        http_problem(r, 400, "with_vector must be true or false");
    } else if (only_members(r, json, "keys", "with_vector", NULL) && borrow_named(r, LOAN_READ, &l)) {
        kith_status status = kith_collection_pin(l.collection, &err);
        text_put(&out, "{\"rows\":[");
        if (status == KITH_OK) status = write_rows(r, l.collection, keys, shown, &out, &err);
        shelf_return(r->server->shelf, &l);
        text_put(&out, "]}");
        if (status == KITH_OK)
            http_reply_rows(r, &out);
        else
            http_fail(r, &err);
        text_clear(&out);
    }
    json_decref(json);
}

void get_count(request *r)
{
    loan l;
    uint64_t rows = 0;
    kith_error err = {0};
    const char *filter = http_query(r, "filter");
    if (!borrow_named(r, LOAN_READ, &l)) return;
    kith_status status = filter ? kith_collection_count_where(l.collection, filter, &rows, &err)
                                : kith_collection_count(l.collection, &rows, NULL, &err);
    shelf_return(r->server->shelf, &l);
    reply_or_fail(r, status, json_pack("{sI}", "count", (json_int_t)rows), &err);
}

/* ---- Pictures ---- */

static json_t *payload_json(const char *words, size_t size)
{
    json_t *payload = words ? json_loadb(words, size, 0, NULL) : NULL;
    return payload ? payload : json_object();
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
    loan l;
    kith_row row;
    char etag[40];
    if (!fetch(r, KITH_ROW_PAYLOAD | KITH_ROW_ATTACHMENT, &l, &row)) return;
    json_t *payload = payload_json(row.payload, row.payload_size);
    tag_of(payload, etag);
    json_decref(payload);
    if (row.attachment && kith_image_sniff(row.attachment, row.attachment_size) == KITH_IMAGE_JPEG)
        http_reply_bytes(r, "image/jpeg", row.attachment, row.attachment_size, *etag ? etag : NULL);
    else
        http_problem(r, 404, "the row has no thumbnail");
    shelf_return(r->server->shelf, &l);
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
    loan l;
    kith_row row;
    char etag[40];
    if (!fetch(r, KITH_ROW_PAYLOAD, &l, &row)) return;
    json_t *payload = payload_json(row.payload, row.payload_size);
    char *path = path_of(payload);
    int fd = path && l.gallery ? open_below(kith_gallery_folder(l.gallery), path) : -1;
    shelf_return(r->server->shelf, &l);
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
