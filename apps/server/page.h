/* page.h - the files of web/, built into the program. */
#ifndef KITH_SERVER_PAGE_H
#define KITH_SERVER_PAGE_H

#include <stddef.h>

typedef struct page_file {
    const char *path, *type, *etag;
    const unsigned char *bytes;
    size_t size;
} page_file;

/* The file at a path ("/" is index.html), or NULL. */
const page_file *page_find(const char *path);

#endif
