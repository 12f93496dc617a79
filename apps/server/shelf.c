/* shelf.c - which collections there are, and who has which handle. */
#include "shelf.h"

#include "../common/fail.h"

#include <dirent.h>
#include <errno.h>
#include <fts.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ENDING ".kith"
#define LONGEST_NAME 200  /* with endings and the random part of a temporary name a file's name has 255 */
#define DECODE_SECONDS 10 /* that a picture may take: a thread waits for it */
#define WAIT_SECONDS 5    /* for others who write: as long as a batch waits for other processes */

typedef struct handle {
    struct handle *next;         /* of those that are free */
    kith_collection *collection; /* NULL: the gallery has let it go, and opens it when it is lent out */
    kith_gallery *gallery;
    int warm; /* it has read what its first search would */
} handle;

typedef struct book {
    char *name, *path;
    handle *free;   /* to be borrowed for reading */
    size_t n_open;  /* readers there are, borrowed ones among them */
    handle *writer; /* NULL: not open yet, or borrowed */
    handle *shared; /* for shelf_write, with its writers; NULL: not open */
    kith_writers *writers;
    int opening;      /* somebody opens them */
    int spoilt;       /* a write of theirs met an I/O error: they are closed when nobody is at it any more */
    kith_error fault; /* why they could not be opened the last time */
    int writing;   /* somebody has the turn to write alone: the writer is borrowed, or see shelf_begin_turn */
    size_t asking; /* who wait for that turn */
    size_t sharing;       /* calls of shelf_write at work */
    size_t queued, ahead; /* those that wait; of them, those that are let in before the turn is given again */
    size_t loans, owners; /* all loans; those of LOAN_OWN */
    int making;           /* it is not finished: whoever asks for it waits */
    int leaving;          /* it is being dropped or renamed: nobody borrows any more */
    int pictures;         /* its readers are galleries, all opened with the shelf */
} book;

struct shelf {
    char *folder;
    int single; /* a collection is served, not a folder */
    book **books;
    size_t n, room, copies;
    double max_megapixels;
    uint64_t batches, commits; /* of writers that are no more */
    pthread_mutex_t lock;
    pthread_cond_t returned;
};

/* ---- Handles ---- */

static void handle_close(handle *h)
{
    if (!h) return;
    if (h->gallery)
        kith_gallery_close(h->gallery);
    else
        kith_collection_close(h->collection);
    free(h);
}

static kith_status handle_open(const char *path, int read_only, handle **out, kith_error *err)
{
    *out = NULL;
    handle *h = calloc(1, sizeof *h);
    if (!h) return common_fail_nomem(err);
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.read_only = read_only;
    kith_status status = kith_collection_open(path, &options, &h->collection, err);
    if (status == KITH_OK)
        *out = h;
    else
        free(h);
    return status;
}

static kith_status handle_open_gallery(const char *path, double max_megapixels, handle **out, kith_error *err)
{
    *out = NULL;
    handle *h = calloc(1, sizeof *h);
    if (!h) return common_fail_nomem(err);
    kith_gallery_options options;
    kith_gallery_options_init(&options);
    options.read_only = 1;
    options.jobs = 1;
    options.seconds = DECODE_SECONDS;
    options.max_megapixels = max_megapixels;
    kith_status status = kith_gallery_open(path, &options, &h->gallery, err);
    if (status != KITH_OK) {
        free(h);
        return status;
    }
    h->collection = kith_gallery_collection(h->gallery);
    *out = h;
    return KITH_OK;
}

/* Close what a gallery has open of its collection; its decoders stay, for there can be no others (shelf.h). */
static void handle_let_go(handle *h)
{
    (void)kith_gallery_reopen(h->gallery, NULL, NULL);
    h->collection = NULL;
    h->warm = 0;
}

static kith_status handle_open_again(handle *h, const char *path, kith_error *err)
{
    kith_status status = kith_gallery_reopen(h->gallery, path, err);
    if (status == KITH_OK)
        h->collection = kith_gallery_collection(h->gallery);
    else
        handle_let_go(h);
    return status;
}

/* Whether `kith index` made the collection. */
static int has_pictures(kith_collection *collection)
{
    kith_meta meta;
    return kith_collection_meta_get(collection, "gallery/root", &meta, NULL) == KITH_OK;
}

/* ---- Books ---- */

static void book_close(book *b)
{
    while (b->free) {
        handle *next = b->free->next;
        handle_close(b->free);
        b->free = next;
    }
    kith_writers_free(b->writers);
    handle_close(b->shared);
    b->writers = NULL;
    b->shared = NULL;
    handle_close(b->writer); /* the last, so that it moves the log into the database */
    b->writer = NULL;
    b->n_open = 0;
}

static void book_free(book *b)
{
    if (!b) return;
    book_close(b);
    free(b->name);
    free(b->path);
    free(b);
}

static book *book_new(const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t length = strlen(base), ending = strlen(ENDING);
    if (length > ending && strcmp(base + length - ending, ENDING) == 0) length -= ending;
    book *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    b->name = strndup(base, length);
    b->path = strdup(path);
    if (b->name && b->path) return b;
    book_free(b);
    return NULL;
}

/* Take a book over, in the order of the names. Frees it when there is no memory. */
static kith_status put_book(shelf *s, book *b, kith_error *err)
{
    if (s->n == s->room) {
        size_t room = 2 * s->room + 16;
        book **books = realloc(s->books, room * sizeof *books);
        if (!books) {
            book_free(b);
            return common_fail_nomem(err);
        }
        s->books = books;
        s->room = room;
    }
    size_t at = s->n;
    for (; at > 0 && strcmp(s->books[at - 1]->name, b->name) > 0; at--) s->books[at] = s->books[at - 1];
    s->books[at] = b;
    s->n++;
    return KITH_OK;
}

static book *find_book(const shelf *s, const char *name)
{
    size_t low = 0, high = s->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(s->books[middle]->name, name);
        if (order == 0) return s->books[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static void take_book(shelf *s, const book *b)
{
    size_t i = 0;
    while (s->books[i] != b) i++;
    s->n--;
    memmove(s->books + i, s->books + i + 1, (s->n - i) * sizeof(book *));
}

/* With the lock: the book of a name, once it is finished. NULL: there is none, or it came to nothing. */
static book *finished_book(shelf *s, const char *name)
{
    book *b;
    while ((b = find_book(s, name)) && b->making) pthread_cond_wait(&s->returned, &s->lock);
    return b;
}

/* ---- Opening the shelf ---- */

/* A collection of pictures is opened as many times as it will be lent out. */
static kith_status open_galleries(const shelf *s, book *b, kith_error *err)
{
    for (; b->n_open < s->copies; b->n_open++) {
        handle *h;
        kith_status status = handle_open_gallery(b->path, s->max_megapixels, &h, err);
        if (status != KITH_OK) return status;
        h->next = b->free;
        b->free = h;
    }
    return KITH_OK;
}

static kith_status add_collection(shelf *s, const char *path, kith_error *err)
{
    handle *h;
    kith_status status = handle_open(path, 1, &h, err);
    if (status != KITH_OK) return status;
    book *b = book_new(path);
    if (!b) {
        handle_close(h);
        return common_fail_nomem(err);
    }
    b->pictures = has_pictures(h->collection);
    if (b->pictures) {
        handle_close(h);
        status = open_galleries(s, b, err);
    } else {
        b->free = h;
        b->n_open = 1;
    }
    if (status == KITH_OK) return put_book(s, b, err);
    book_free(b);
    return status;
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.' && strcmp(entry->d_name, SHELF_SNAPSHOTS) != 0;
}

static int is_collection(const char *name)
{
    size_t length = strlen(name), ending = strlen(ENDING);
    return length > ending && strcmp(name + length - ending, ENDING) == 0;
}

/* Whether JSON can name it. */
static int is_utf8(const char *name)
{
    json_t *word = json_string(name);
    json_decref(word);
    return word != NULL;
}

/* A name as it can be printed anywhere: what is not ASCII as \xNN. */
static void tell_skipped(const char *name)
{
    fputs("kith serve: left out, its name is not UTF-8: ", stderr);
    for (; *name; name++)
        fprintf(stderr, *name > ' ' && *name < 127 ? "%c" : "\\x%02x", (unsigned char)*name);
    fputc('\n', stderr);
}

static char *join(const char *folder, const char *name, const char *ending)
{
    size_t size = strlen(folder) + strlen(name) + strlen(ending) + 2;
    char *path = malloc(size);
    if (path) snprintf(path, size, "%s/%s%s", folder, name, ending);
    return path;
}

static kith_status add_folder(shelf *s, kith_error *err)
{
    struct dirent **entries;
    int n = scandir(s->folder, &entries, is_visible, alphasort);
    if (n < 0) return common_fail(err, KITH_IO, "%s: the folder cannot be read", s->folder);
    kith_status status = KITH_OK;
    for (int i = 0; i < n; i++) {
        int named = is_collection(entries[i]->d_name), good = named && is_utf8(entries[i]->d_name);
        char *path = good ? join(s->folder, entries[i]->d_name, "") : NULL;
        if (named && !good) tell_skipped(entries[i]->d_name);
        if (status == KITH_OK && path) status = add_collection(s, path, err);
        free(path);
        free(entries[i]);
    }
    free(entries);
    if (status == KITH_OK && s->n == 0 && n > 0)
        return common_fail(err, KITH_NOTFOUND,
                           "%s: no collection (NAME.kith) in it; `kith index %s` makes one of pictures",
                           s->folder, s->folder);
    return status;
}

/* A condition whose times are those of server_now_ns. */
static void init_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

kith_status shelf_open(const shelf_options *options, shelf **out, kith_error *err)
{
    struct stat st;
    *out = NULL;
    if (stat(options->path, &st) != 0)
        return common_fail(err, KITH_NOTFOUND, "%s: there is no collection and no folder of this name",
                           options->path);
    shelf *s = calloc(1, sizeof *s);
    if (!s) return common_fail_nomem(err);
    s->copies = options->copies;
    s->max_megapixels = options->max_megapixels;
    s->single = !S_ISDIR(st.st_mode);
    const char *slash = strrchr(options->path, '/');
    int good = !s->single || is_utf8(slash ? slash + 1 : options->path);
    s->folder = !s->single ? strdup(options->path)
                : !slash   ? strdup(".")
                         : strndup(options->path, (size_t)(slash - options->path) + (slash == options->path));
    pthread_mutex_init(&s->lock, NULL);
    init_condition(&s->returned);
    kith_status status = !s->folder ? common_fail_nomem(err)
                         : !good ? common_fail(err, KITH_INVALID, "the name of the collection is not UTF-8")
                         : s->single ? add_collection(s, options->path, err)
                                     : add_folder(s, err);
    if (status == KITH_OK)
        *out = s;
    else
        shelf_close(s);
    return status;
}

void shelf_close(shelf *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->n; i++) book_free(s->books[i]);
    free(s->books);
    free(s->folder);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->returned);
    free(s);
}

const char *shelf_folder(const shelf *s)
{
    return s->folder;
}

/* ---- Loans ---- */

/* With the lock: the handle that reads, or NULL when one more is to be opened, which is counted already. */
static handle *take_reader(shelf *s, book *b)
{
    while (!b->free && (b->pictures || b->n_open >= s->copies)) pthread_cond_wait(&s->returned, &s->lock);
    handle *h = b->free;
    if (h)
        b->free = h->next;
    else
        b->n_open++;
    return h;
}

/* Who writes alone (Milvus' and Vearch's requests, declarations, imports) and those who write together take turns: in the lock of the
 * database they would find each other by polling, and who polls gets it from those who commit without a pause by luck only. Who
 * asks for the turn waits for those at work, no others are let in; those who came meanwhile go before the next. */

/* With the lock: wait for the turn to write alone. */
static void take_turn(shelf *s, book *b)
{
    b->asking++;
    while (b->writing || b->sharing > 0 || b->ahead > 0) pthread_cond_wait(&s->returned, &s->lock);
    b->asking--;
    b->writing = 1;
}

static void end_turn(shelf *s, book *b)
{
    b->writing = 0;
    b->ahead = b->queued;
    pthread_cond_broadcast(&s->returned);
}

static handle *take_writer(shelf *s, book *b)
{
    take_turn(s, b);
    handle *h = b->writer;
    b->writer = NULL;
    return h;
}

/* With the lock. */
static void put_back(shelf *s, book *b, loan_kind kind, handle *h)
{
    if (kind == LOAN_OWN) {
        b->owners--;
    } else if (kind == LOAN_WRITE) {
        b->writer = h;
        end_turn(s, b);
    } else if (h) {
        h->next = b->free;
        b->free = h;
    } else {
        b->n_open--;
    }
    b->loans--;
    pthread_cond_broadcast(&s->returned);
}

kith_status shelf_borrow(shelf *s, const char *name, loan_kind kind, loan *out, kith_error *err)
{
    *out = (loan){0};
    pthread_mutex_lock(&s->lock);
    book *b = finished_book(s, name);
    if (!b || b->leaving) {
        pthread_mutex_unlock(&s->lock);
        return common_fail(err, KITH_NOTFOUND, "there is no collection of this name");
    }
    b->loans++; /* it stays as long as this is not given back */
    b->owners += kind == LOAN_OWN;
    handle *h = kind == LOAN_READ ? take_reader(s, b) : kind == LOAN_WRITE ? take_writer(s, b) : NULL;
    pthread_mutex_unlock(&s->lock);
    kith_status status = KITH_OK;
    if (!h)
        status = handle_open(b->path, kind == LOAN_READ, &h, err);
    else if (!h->collection)
        status = handle_open_again(h, b->path, err);
    if (status == KITH_OK && kind == LOAN_READ && !h->warm) {
        /* Budgets of searches begin when the vectors have been read. */
        status = kith_collection_warm(h->collection, err);
        h->warm = status == KITH_OK;
        if (status == KITH_UNTRAINED) status = KITH_OK;
    }
    if (status == KITH_OK) {
        *out = (loan){h->collection, h->gallery, b, h, kind};
        return KITH_OK;
    }
    if (h && kind == LOAN_OWN) handle_close(h);
    pthread_mutex_lock(&s->lock);
    put_back(s, b, kind, kind == LOAN_OWN ? NULL : h);
    pthread_mutex_unlock(&s->lock);
    return status;
}

/* Whether a commit of the handle has failed to reach the disk: then it does nothing any more. */
static int is_broken(handle *h)
{
    uint64_t version;
    return kith_collection_version(h->collection, &version, NULL) == KITH_IO;
}

void shelf_return(shelf *s, loan *l)
{
    if (!l->book) return;
    kith_collection_unpin(l->collection);
    kith_collection_rollback(l->collection);
    handle *h = l->handle;
    if (l->kind == LOAN_OWN || (l->kind == LOAN_WRITE && is_broken(h))) {
        handle_close(h);
        h = NULL;
    }
    pthread_mutex_lock(&s->lock);
    put_back(s, l->book, l->kind, h);
    pthread_mutex_unlock(&s->lock);
    *l = (loan){0};
}

void shelf_begin_turn(shelf *s, const loan *l)
{
    pthread_mutex_lock(&s->lock);
    take_turn(s, l->book);
    pthread_mutex_unlock(&s->lock);
}

void shelf_end_turn(shelf *s, const loan *l)
{
    pthread_mutex_lock(&s->lock);
    end_turn(s, l->book);
    pthread_mutex_unlock(&s->lock);
}

/* ---- Writing together. All of these with the lock, which they let go while they wait ---- */

/* Whether who wants to write with others has to wait. */
static int is_barred(const book *b)
{
    return b->writing || b->spoilt || (b->asking > 0 && b->ahead == 0);
}

static kith_status join_writers(shelf *s, book *b, kith_error *err)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WAIT_SECONDS;
    int late = 0;
    b->queued++;
    while (is_barred(b) && !late) late = pthread_cond_timedwait(&s->returned, &s->lock, &until) == ETIMEDOUT;
    int barred = is_barred(b);
    b->queued--;
    if (b->ahead > 0 && (!barred || b->ahead > b->queued)) b->ahead--;
    b->sharing += !barred;
    if (!barred) return KITH_OK;
    pthread_cond_broadcast(&s->returned); /* others may have waited for this one */
    return common_fail(err, KITH_BUSY, "somebody has been writing for %d seconds", WAIT_SECONDS);
}

/* Opening may take long: it upgrades the database, or waits for a lock. One does it, and others go on meanwhile. */
static kith_status open_writers(shelf *s, book *b, kith_error *err)
{
    int waited = b->opening;
    while (b->opening) pthread_cond_wait(&s->returned, &s->lock);
    if (b->writers) return KITH_OK;
    if (!waited) {
        handle *h = NULL;
        kith_writers *writers = NULL;
        kith_error fault = {0};
        b->opening = 1;
        pthread_mutex_unlock(&s->lock);
        kith_status status = handle_open(b->path, 0, &h, &fault);
        if (status == KITH_OK) status = kith_writers_create(h->collection, &writers, &fault);
        if (status != KITH_OK) {
            handle_close(h);
            h = NULL;
        }
        pthread_mutex_lock(&s->lock);
        b->opening = 0;
        b->shared = h;
        b->writers = writers;
        b->fault = fault;
        pthread_cond_broadcast(&s->returned);
        if (status == KITH_OK) return KITH_OK;
    }
    if (err) *err = b->fault;
    return b->fault.code;
}

/* What the writers of a book have done is counted when they are gone, too. */
static void keep_counts(shelf *s, const book *b)
{
    kith_writers_stats stats = {.struct_size = sizeof stats};
    if (!b->writers || kith_writers_get_stats(b->writers, &stats, NULL) != KITH_OK) return;
    s->batches += stats.batches;
    s->commits += stats.commits;
}

/* Take the handles from a book, so that they can be closed without the lock. */
static book take_handles(shelf *s, book *b, int all)
{
    book taken = {.shared = b->shared, .writers = b->writers};
    keep_counts(s, b);
    b->shared = NULL;
    b->writers = NULL;
    if (!all) return taken;
    taken.free = b->free;
    taken.writer = b->writer;
    b->free = b->writer = NULL;
    b->n_open = 0;
    return taken;
}

/* Writers that met an I/O error may be at an end for ever: those who come find new ones. */
static void leave_writers(shelf *s, book *b, kith_status status)
{
    b->spoilt |= status == KITH_IO && b->writers;
    b->sharing--;
    if (b->spoilt && b->sharing == 0) {
        book taken = take_handles(s, b, 0);
        pthread_mutex_unlock(&s->lock);
        book_close(&taken);
        pthread_mutex_lock(&s->lock);
        b->spoilt = 0;
    }
    pthread_cond_broadcast(&s->returned);
}

static kith_status write_joined(shelf *s, book *b, kith_change change, void *ctx, uint64_t *version,
                                kith_error *err)
{
    kith_status status = open_writers(s, b, err);
    if (status != KITH_OK) return status;
    pthread_mutex_unlock(&s->lock);
    status = kith_writers_write(b->writers, change, ctx, version, err);
    pthread_mutex_lock(&s->lock);
    return status;
}

kith_status shelf_write(shelf *s, const char *name, kith_change change, void *ctx, uint64_t *version,
                        kith_error *err)
{
    pthread_mutex_lock(&s->lock);
    book *b = finished_book(s, name);
    if (!b || b->leaving) {
        pthread_mutex_unlock(&s->lock);
        return common_fail(err, KITH_NOTFOUND, "there is no collection of this name");
    }
    b->loans++; /* it stays until it is written */
    kith_status status = join_writers(s, b, err);
    if (status == KITH_OK) {
        status = write_joined(s, b, change, ctx, version, err);
        leave_writers(s, b, status);
    }
    b->loans--;
    pthread_cond_broadcast(&s->returned);
    pthread_mutex_unlock(&s->lock);
    return status;
}

void shelf_written(shelf *s, uint64_t *batches, uint64_t *commits)
{
    pthread_mutex_lock(&s->lock);
    *batches = s->batches;
    *commits = s->commits;
    for (size_t i = 0; i < s->n; i++) {
        kith_writers_stats stats = {.struct_size = sizeof stats};
        kith_writers *writers = s->books[i]->writers;
        if (!writers || kith_writers_get_stats(writers, &stats, NULL) != KITH_OK) continue;
        *batches += stats.batches;
        *commits += stats.commits;
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- Which there are ---- */

size_t shelf_size(shelf *s)
{
    pthread_mutex_lock(&s->lock);
    size_t n = s->n;
    pthread_mutex_unlock(&s->lock);
    return n;
}

char **shelf_names(shelf *s, size_t *n)
{
    pthread_mutex_lock(&s->lock);
    char **names = calloc(s->n + 1, sizeof *names);
    *n = 0;
    for (size_t i = 0; names && i < s->n; i++) {
        if (s->books[i]->making || s->books[i]->leaving) continue;
        names[*n] = strdup(s->books[i]->name);
        if (names[*n]) {
            ++*n;
            continue;
        }
        shelf_free_names(names, *n);
        names = NULL;
    }
    pthread_mutex_unlock(&s->lock);
    return names;
}

void shelf_free_names(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++) free(names[i]);
    free(names);
}

int shelf_has(shelf *s, const char *name)
{
    pthread_mutex_lock(&s->lock);
    const book *b = finished_book(s, name);
    int has = b && !b->leaving;
    pthread_mutex_unlock(&s->lock);
    return has;
}

int shelf_name_is_good(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    size_t length = strlen(name);
    return length >= 1 && length <= LONGEST_NAME && name[0] != '.' && name[0] != '-' &&
           strspn(name, letters) == length;
}

static char *ended(const char *path, const char *ending)
{
    size_t size = strlen(path) + strlen(ending) + 1;
    char *text = malloc(size);
    if (text) snprintf(text, size, "%s%s", path, ending);
    return text;
}

/* Remove a folder and what is in it; 0, or the errno of what could not be removed. */
static int remove_folder(char *folder)
{
    char *inside[2] = {folder, NULL};
    FTS *walk = fts_open(inside, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    int why = walk ? 0 : errno;
    for (FTSENT *entry; walk && (entry = fts_read(walk));) {
        int gone = 1;
        if (entry->fts_info == FTS_DP)
            gone = rmdir(entry->fts_accpath) == 0;
        else if (entry->fts_info != FTS_D && entry->fts_info != FTS_NS)
            gone = unlink(entry->fts_accpath) == 0;
        if (!gone) why = errno;
    }
    if (walk) fts_close(walk);
    return why;
}

/* The files beside the database, and the folder of its segments; 0, or an errno. */
static int remove_rest(const char *path)
{
    static const char *const endings[] = {"-wal", "-shm", "-journal"};
    int why = 0;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        char *file = ended(path, endings[i]);
        if (!file) return ENOMEM;
        if (unlink(file) != 0 && errno != ENOENT) why = errno;
        free(file);
    }
    char *folder = ended(path, ".d");
    if (!folder) return ENOMEM;
    int rest = remove_folder(folder);
    free(folder);
    return why ? why : rest;
}

kith_status shelf_remove_files(const char *path, kith_error *err)
{
    if (unlink(path) != 0 && errno != ENOENT)
        return common_fail(err, KITH_IO, "%s: cannot be removed: %s", path, strerror(errno));
    return remove_rest(path) == 0
               ? KITH_OK
               : common_fail(err, KITH_IO, "%s: is gone, but not all that belonged to it", path);
}

/* The folder of the snapshots of a collection; malloc. */
static char *snapshots_of(const shelf *s, const char *name)
{
    size_t size = strlen(s->folder) + strlen(name) + sizeof SHELF_SNAPSHOTS + 2;
    char *path = malloc(size);
    if (path) snprintf(path, size, "%s/%s/%s", s->folder, SHELF_SNAPSHOTS, name);
    return path;
}

static kith_status check_folder(const shelf *s, kith_error *err)
{
    return s->single ? common_fail(err, KITH_READONLY, "%s", "one collection is served, not a folder")
                     : KITH_OK;
}

/* With the lock. One that is about to leave is waited for: whoever drops a collection may make it anew at once. */
static kith_status check_new_name(shelf *s, const char *name, kith_error *err)
{
    const book *b;
    kith_status status = check_folder(s, err);
    if (status != KITH_OK) return status;
    if (!shelf_name_is_good(name)) return common_fail(err, KITH_INVALID, "a name has %s", SHELF_NAME_RULE);
    while ((b = finished_book(s, name)) && b->leaving) pthread_cond_wait(&s->returned, &s->lock);
    return b ? common_fail(err, KITH_EXISTS, "there is a collection of this name") : KITH_OK;
}

/* With the lock: a book of a name that was free, which is being made from now on. */
static kith_status begin_book(shelf *s, const char *name, book **out, kith_error *err)
{
    *out = NULL;
    kith_status status = check_new_name(s, name, err);
    if (status != KITH_OK) return status;
    char *path = join(s->folder, name, ENDING);
    book *b = path ? book_new(path) : NULL;
    free(path);
    if (!b) return common_fail_nomem(err);
    b->making = 1;
    status = put_book(s, b, err);
    if (status == KITH_OK) *out = b;
    return status;
}

/* The files of a book, and what is to be in them from the first. On failure there are none. */
static kith_status make_files(book *b, size_t dim, kith_metric metric, const shelf_filling *filling,
                              kith_error *err)
{
    struct stat st;
    handle *h = calloc(1, sizeof *h);
    if (!h) return common_fail_nomem(err);
    kith_status status = KITH_OK;
    /* What a collection of this name has left behind must not be taken for a part of the new one. */
    if (lstat(b->path, &st) != 0 && errno == ENOENT && remove_rest(b->path) != 0)
        status = common_fail(err, KITH_IO, "%s: what was left of an older one cannot be removed", b->name);
    if (status == KITH_OK) status = kith_collection_create(b->path, dim, metric, NULL, &h->collection, err);
    if (status != KITH_OK) {
        free(h);
        return status;
    }
    if (filling) status = filling->fill(h->collection, filling->ctx, err);
    if (status == KITH_OK) {
        b->writer = h;
        return KITH_OK;
    }
    handle_close(h);
    (void)shelf_remove_files(b->path, NULL);
    return status;
}

kith_status shelf_create(shelf *s, const char *name, size_t dim, kith_metric metric,
                         const shelf_filling *filling, kith_error *err)
{
    book *b;
    pthread_mutex_lock(&s->lock);
    kith_status status = begin_book(s, name, &b, err);
    pthread_mutex_unlock(&s->lock);
    if (status != KITH_OK) return status;
    status = make_files(b, dim, metric, filling, err); /* others go on meanwhile: it waits for the disk */
    pthread_mutex_lock(&s->lock);
    b->making = 0;
    if (status != KITH_OK) {
        take_book(s, b);
        book_free(b);
    }
    pthread_cond_broadcast(&s->returned);
    pthread_mutex_unlock(&s->lock);
    return status;
}

/* With the lock, which is let go for as long as that takes: the book of a name, when nobody is at it any more; it is leaving then and
 * all its handles are closed, but galleries, which only let the collection go. */
static kith_status clear_book(shelf *s, const char *name, book **out, kith_error *err)
{
    *out = NULL;
    book *b = finished_book(s, name);
    if (!b || b->leaving) return common_fail(err, KITH_NOTFOUND, "there is no collection of this name");
    if (b->owners > 0) return common_fail(err, KITH_BUSY, "a job or an import is at work on it");
    b->leaving = 1;
    while (b->loans > 0) pthread_cond_wait(&s->returned, &s->lock);
    book taken = take_handles(s, b, 1);
    pthread_mutex_unlock(&s->lock);
    handle *galleries = NULL;
    if (b->pictures) {
        galleries = taken.free;
        taken.free = NULL;
    }
    for (handle *h = galleries; h; h = h->next) handle_let_go(h);
    /* A handle that may write must be the last one: it empties the log, and so takes it away. */
    if (!taken.writer) (void)handle_open(b->path, 0, &taken.writer, NULL);
    book_close(&taken);
    pthread_mutex_lock(&s->lock);
    b->free = galleries;
    *out = b;
    return KITH_OK;
}

static kith_status drop_book(shelf *s, const char *name, kith_error *err)
{
    book *b;
    kith_status status = check_folder(s, err);
    if (status == KITH_OK) status = clear_book(s, name, &b, err);
    if (status != KITH_OK) return status;
    pthread_mutex_unlock(&s->lock); /* whoever makes one of this name waits until it has left */
    char *snapshots = snapshots_of(s, b->name);
    status = snapshots ? shelf_remove_files(b->path, err) : common_fail_nomem(err);
    if (status == KITH_OK && remove_folder(snapshots) != 0)
        status = common_fail(err, KITH_IO, "%s: is gone, but not all of its snapshots", b->name);
    free(snapshots);
    pthread_mutex_lock(&s->lock);
    if (status != KITH_OK && access(b->path, F_OK) == 0) {
        b->leaving = 0; /* it is still there, and opened again when it is asked for */
        return status;
    }
    take_book(s, b);
    pthread_mutex_unlock(&s->lock); /* nobody finds it any more, and decoders take a while to end */
    book_free(b);
    pthread_mutex_lock(&s->lock);
    return status;
}

kith_status shelf_drop(shelf *s, const char *name, kith_error *err)
{
    pthread_mutex_lock(&s->lock);
    kith_status status = drop_book(s, name, err);
    pthread_cond_broadcast(&s->returned);
    pthread_mutex_unlock(&s->lock);
    return status;
}

/* Move the files of a book that nobody has open. Segments are a cache: the database is what counts, and goes last. */
static kith_status move_files(const char *from, const char *to, kith_error *err)
{
    char *log = ended(from, "-wal"), *old = ended(from, ".d"), *new = ended(to, ".d");
    kith_status status = log && old && new ? KITH_OK : common_fail_nomem(err);
    if (status == KITH_OK && access(log, F_OK) == 0)
        status = common_fail(err, KITH_BUSY, "another process has it open");
    if (status == KITH_OK && remove_rest(to) != 0)
        status = common_fail(err, KITH_IO, "what was left of an older one cannot be removed");
    if (status == KITH_OK) {
        (void)rename(old, new); /* where that fails the next fold makes it anew */
        if (rename(from, to) != 0) status = common_fail(err, KITH_IO, "%s: %s", from, strerror(errno));
    }
    free(log);
    free(old);
    free(new);
    return status;
}

/* Move the snapshots of a collection, where there are any. None may be there under the new name: they were of another one. */
static kith_status move_snapshots(const shelf *s, const char *from, const char *to, kith_error *err)
{
    char *old = snapshots_of(s, from), *new = snapshots_of(s, to);
    kith_status status = old && new ? KITH_OK : common_fail_nomem(err);
    if (status == KITH_OK && rmdir(new) != 0 && errno != ENOENT)
        status = common_fail(err, KITH_EXISTS, "there are snapshots of an older collection of this name");
    if (status == KITH_OK && rename(old, new) != 0 && errno != ENOENT)
        status = common_fail(err, KITH_IO, "its snapshots cannot be moved: %s", strerror(errno));
    free(old);
    free(new);
    return status;
}

/* With the lock: a book leaves its place for that of another name and path, which it takes over. */
static kith_status move_book(shelf *s, book *b, char *name, char *path, kith_error *err)
{
    kith_status status = move_snapshots(s, b->name, name, err);
    if (status != KITH_OK) return status;
    status = move_files(b->path, path, err);
    if (status != KITH_OK) {
        (void)move_snapshots(s, name, b->name, NULL);
        return status;
    }
    take_book(s, b); /* so there is room for it */
    free(b->name);
    free(b->path);
    b->name = name;
    b->path = path;
    return put_book(s, b, err);
}

static kith_status rename_book(shelf *s, const char *from, const char *to, kith_error *err)
{
    kith_status status = check_new_name(s, to, err);
    if (status != KITH_OK) return status;
    book *b;
    char *path = join(s->folder, to, ENDING), *name = strdup(to);
    struct stat st;
    if (!path || !name)
        status = common_fail_nomem(err);
    else if (lstat(path, &st) == 0)
        status = common_fail(err, KITH_EXISTS, "there is a file of this name");
    if (status == KITH_OK) status = clear_book(s, from, &b, err);
    if (status == KITH_OK) {
        status = check_new_name(s, to, err); /* somebody may have made it while this one waited */
        if (status == KITH_OK) status = move_book(s, b, name, path, err);
        b->leaving = 0;
        if (status == KITH_OK) return KITH_OK;
    }
    free(path);
    free(name);
    return status;
}

kith_status shelf_rename(shelf *s, const char *from, const char *to, kith_error *err)
{
    pthread_mutex_lock(&s->lock);
    kith_status status = rename_book(s, from, to, err);
    pthread_cond_broadcast(&s->returned);
    pthread_mutex_unlock(&s->lock);
    return status;
}
