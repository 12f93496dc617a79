/* row.h - the payload of a picture's row, and the note on a bad file, as JSON. */
#ifndef KI_GALLERY_ROW_H
#define KI_GALLERY_ROW_H

#include <jansson.h>

#include <kith/status.h>

#include "gallery/decoder.h"
#include "gallery/walk.h"

/* Put where a file is and how it looks from outside (path, folder, size, mtime) into a payload. 0: no memory. */
int ki_row_set_file(json_t *payload, const ki_walk_file *file);

/* Put what the decoder found into a payload. 0: no memory. */
int ki_row_set_picture(json_t *payload, const ki_picture *picture);

/* Parse an object; NULL when it is none (or without memory). */
json_t *ki_row_parse(const char *text, size_t size);

/* What change detection wants to know from a payload. */
typedef struct ki_row_file {
    char *path; /* malloc; exact bytes */
    uint64_t size;
    int64_t mtime_ns;
    uint64_t hash;
} ki_row_file;

/* 1; 0 when the payload is not that of a picture; -1 without memory. */
int ki_row_get_file(const json_t *payload, ki_row_file *file);

/* What tells duplicates from a payload: 1, 0 when there is no perceptual hash. */
typedef struct ki_row_look {
    uint64_t phash, pixels, size;
    int64_t mtime_ns;
} ki_row_look;
int ki_row_get_look(const json_t *payload, ki_row_look *look);

/* A file that could not be read. */
typedef struct ki_bad {
    char *path; /* malloc; exact bytes */
    char *reason;
    kith_status status;
    uint64_t size;
    int64_t mtime_ns, ctime_ns;
    uint64_t limits; /* hash of the limits that it was tried under */
} ki_bad;

json_t *ki_bad_note(const ki_bad *bad);                       /* NULL: no memory */
int ki_bad_parse(const char *text, size_t size, ki_bad *bad); /* 1, 0, -1 as above */
void ki_bad_clear(ki_bad *bad);

#endif
