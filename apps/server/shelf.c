/* shelf.c - which collections there are, and who has which gallery. */
#include "shelf.h"

#include "fail.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ENDING ".kith"
#define DECODE_SECONDS 10 /* that a picture may take: a thread waits for it */

typedef struct book {
    char *name;
    kith_gallery **free; /* [copies], the first n_free are there to be borrowed */
    size_t n_free;
} book;

struct shelf {
    book *books; /* in the order of their names */
    size_t n, copies;
    pthread_mutex_t lock;
    pthread_cond_t returned;
};

static kith_status add_book(shelf *s, const char *path, double max_megapixels, kith_error *err)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t length = strlen(base), ending = strlen(ENDING);
    if (length > ending && strcmp(base + length - ending, ENDING) == 0) length -= ending;
    book *books = realloc(s->books, (s->n + 1) * sizeof *books);
    if (!books) return server_fail(err, KITH_NOMEM, "out of memory");
    s->books = books;
    book *b = &books[s->n];
    *b = (book){.name = strndup(base, length), .free = calloc(s->copies, sizeof(kith_gallery *))};
    s->n++;
    if (!b->name || !b->free) return server_fail(err, KITH_NOMEM, "out of memory");
    kith_gallery_options options;
    kith_gallery_options_init(&options);
    options.read_only = 1;
    options.jobs = 1;
    options.seconds = DECODE_SECONDS;
    options.max_megapixels = max_megapixels;
    for (; b->n_free < s->copies; b->n_free++) {
        kith_status status = kith_gallery_open(path, &options, &b->free[b->n_free], err);
        if (status != KITH_OK) return status;
        if (!kith_gallery_collection(b->free[b->n_free])) {
            kith_gallery_close(b->free[b->n_free]);
            return server_fail(err, KITH_NOTFOUND, "%s: there is no such collection", path);
        }
    }
    return KITH_OK;
}

static int is_collection(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name), ending = strlen(ENDING);
    return entry->d_name[0] != '.' && length > ending && strcmp(entry->d_name + length - ending, ENDING) == 0;
}

static kith_status add_folder(shelf *s, const char *folder, double max_megapixels, kith_error *err)
{
    struct dirent **entries;
    int n = scandir(folder, &entries, is_collection, alphasort);
    if (n < 0) return server_fail(err, KITH_IO, "%s: the folder cannot be read", folder);
    kith_status status =
        n > 0 ? KITH_OK : server_fail(err, KITH_NOTFOUND, "%s: no collection (NAME.kith) in it", folder);
    for (int i = 0; i < n; i++) {
        size_t size = strlen(folder) + strlen(entries[i]->d_name) + 2;
        char *path = malloc(size);
        if (!path && status == KITH_OK) status = server_fail(err, KITH_NOMEM, "out of memory");
        if (path) snprintf(path, size, "%s/%s", folder, entries[i]->d_name);
        if (status == KITH_OK) status = add_book(s, path, max_megapixels, err);
        free(path);
        free(entries[i]);
    }
    free(entries);
    return status;
}

kith_status shelf_open(const char *path, size_t copies, double max_megapixels, shelf **out, kith_error *err)
{
    struct stat st;
    *out = NULL;
    if (stat(path, &st) != 0) return server_fail(err, KITH_NOTFOUND, "%s: there is no such collection", path);
    shelf *s = calloc(1, sizeof *s);
    if (!s) return server_fail(err, KITH_NOMEM, "out of memory");
    s->copies = copies;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->returned, NULL);
    kith_status status = S_ISDIR(st.st_mode) ? add_folder(s, path, max_megapixels, err)
                                             : add_book(s, path, max_megapixels, err);
    if (status == KITH_OK)
        *out = s;
    else
        shelf_close(s);
    return status;
}

void shelf_close(shelf *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->n; i++) {
        for (size_t c = 0; c < s->books[i].n_free; c++) kith_gallery_close(s->books[i].free[c]);
        free(s->books[i].free);
        free(s->books[i].name);
    }
    free(s->books);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->returned);
    free(s);
}

size_t shelf_size(const shelf *s)
{
    return s->n;
}

const char *shelf_name(const shelf *s, size_t i)
{
    return s->books[i].name;
}

int shelf_find(const shelf *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->books[i].name, name) == 0) return (int)i;
    return -1;
}

kith_gallery *shelf_borrow(shelf *s, size_t i)
{
    book *b = &s->books[i];
    pthread_mutex_lock(&s->lock);
    while (b->n_free == 0) pthread_cond_wait(&s->returned, &s->lock);
    kith_gallery *gallery = b->free[--b->n_free];
    pthread_mutex_unlock(&s->lock);
    return gallery;
}

void shelf_return(shelf *s, size_t i, kith_gallery *gallery)
{
    book *b = &s->books[i];
    pthread_mutex_lock(&s->lock);
    b->free[b->n_free++] = gallery;
    pthread_cond_broadcast(&s->returned);
    pthread_mutex_unlock(&s->lock);
}
