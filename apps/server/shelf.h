/* shelf.h - the collections that are served, with handles to lend: a handle belongs to one thread at a time, so a request
 * borrows one and gives it back.
 *
 * For each collection there are handles that read, opened when they are first needed and then kept, and one that
 * writes, for which requests wait in turn. What works for long (a job, an import) borrows a handle of its own. A
 * collection that was made by `kith index` is opened as a gallery when the shelf is: that forks, which must not happen once
 * other threads run. When it gets another name the galleries stay, with the processes that decode for them.
 *
 * The snapshots of a collection (handlers_snapshots.c) lie in the folder SHELF_SNAPSHOTS/NAME beside it. They belong to it: they go
 * where it goes, and are deleted with it.
 *
 * Any number of threads.
 */
#ifndef KITH_SERVER_SHELF_H
#define KITH_SERVER_SHELF_H

#include <stddef.h>

#include <kith/gallery.h>
#include <kith/writers.h>

#define SHELF_SNAPSHOTS "snapshots"

typedef struct shelf shelf;

typedef struct shelf_options {
    const char *path;      /* a collection, or a folder of collections (NAME.kith) */
    size_t copies;         /* handles that read, of each collection, at the most */
    double max_megapixels; /* of a picture that is sent */
} shelf_options;

/* Open the collection at a path, or each NAME.kith of a folder. An empty folder will do. A file whose name is not UTF-8 is left out,
 * with a line on standard error: no answer could name it.
 * Errors:   KITH_NOTFOUND nothing there, or files but no collection; KITH_INVALID the one collection has such a name; those of kith_collection_open, naming the file. */
kith_status shelf_open(const shelf_options *options, shelf **out, kith_error *err);

/* All loans must have been given back. NULL is allowed. */
void shelf_close(shelf *s);

/* ---- Loans ---- */

typedef enum loan_kind { LOAN_READ, LOAN_WRITE, LOAN_OWN } loan_kind;

typedef struct loan {
    kith_collection *collection;
    kith_gallery
        *gallery; /* LOAN_READ of a collection of pictures: what it is the collection of; else NULL */
    struct book *book;
    struct handle *handle;
    loan_kind kind;
} loan;

/* Borrow a handle of the collection of a name.
 * In:       LOAN_READ: read only, never in a batch. LOAN_WRITE: the one that writes; waits until it is free.
 *           LOAN_OWN: one that was not there before, writes, and is closed when it is given back; while there is one the
 *           collection can neither be dropped nor renamed.
 * Errors:   KITH_NOTFOUND; KITH_READONLY the file cannot be written; those of kith_collection_open. */
kith_status shelf_borrow(shelf *s, const char *name, loan_kind kind, loan *out, kith_error *err);

/* Write a batch of rows to the collection of a name: what `change` does, called in this thread. Those who write at the same time share
 * the sync of the disk (kith/writers.h), so `change` may be called again; each has a batch of its own, and is on the disk when this
 * returns. It is for small batches: the handle is none of the loans'. It takes turns with who writes alone, and waits 5 s for him.
 * Out:      *version, of the collection with this batch.
 * Errors:   KITH_NOTFOUND, KITH_READONLY as shelf_borrow; KITH_BUSY; those of kith_writers_write. After KITH_IO the next
 *           call opens the collection anew. */
kith_status shelf_write(shelf *s, const char *name, kith_change change, void *ctx, uint64_t *version,
                        kith_error *err);

/* How many batches were written so, and by how many commits. */
void shelf_written(shelf *s, uint64_t *batches, uint64_t *commits);

/* A turn to write alone, as who has LOAN_WRITE has it, for a batch of a LOAN_OWN: it need not fight for the lock of the database with those
 * of shelf_write and LOAN_WRITE, who wait meanwhile. Not to be held for longer than a batch takes. */
void shelf_begin_turn(shelf *s, const loan *l);
void shelf_end_turn(shelf *s, const loan *l);

/* Give it back: pins and batches that are open are undone. Nothing happens for one that was not borrowed (zeroed). */
void shelf_return(shelf *s, loan *l);

/* ---- Which there are ---- */

/* How many collections. */
size_t shelf_size(shelf *s);

/* Their names in order, to be given back with shelf_free_names. NULL: out of memory. */
char **shelf_names(shelf *s, size_t *n);
void shelf_free_names(char **names, size_t n);

/* Whether there is one of this name. */
int shelf_has(shelf *s, const char *name);

/* What a new collection holds from the first: nobody sees it before. */
typedef struct shelf_filling {
    kith_status (*fill)(kith_collection *collection, void *ctx, kith_error *err);
    void *ctx;
} shelf_filling;

/* Make a collection NAME.kith in the folder. dim 0: not known yet. Whoever asks for it meanwhile waits; when filling it
 * fails there is none.
 * In:       name, of SHELF_NAME_RULE; filling, NULL: it stays empty.
 * Errors:   KITH_EXISTS; KITH_INVALID; KITH_READONLY one collection is served, not a folder; those of
 *           kith_collection_create and of fill. */
kith_status shelf_create(shelf *s, const char *name, size_t dim, kith_metric metric,
                         const shelf_filling *filling, kith_error *err);

#define SHELF_NAME_RULE "1 to 200 letters, digits and _ . - of ASCII, the first no . and no -"
int shelf_name_is_good(const char *name);

/* Delete a collection with all that belongs to it, its snapshots, too. Waits for requests that are at it.
 * Errors:   KITH_NOTFOUND; KITH_BUSY somebody has a handle of his own (see LOAN_OWN); KITH_READONLY as above; KITH_IO. */
kith_status shelf_drop(shelf *s, const char *name, kith_error *err);

/* Give a collection, and its snapshots, another name.
 * Errors:   those of shelf_drop and shelf_create; KITH_EXISTS also when there are snapshots of an older collection of that name; KITH_BUSY also when another process has it open. */
kith_status shelf_rename(shelf *s, const char *from, const char *to, kith_error *err);

/* Delete the files of a collection that nobody has open: the database, what lies beside it, its segments. */
kith_status shelf_remove_files(const char *path, kith_error *err);

/* The folder that is served, or the one that the only collection lies in. */
const char *shelf_folder(const shelf *s);

#endif
