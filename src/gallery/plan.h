/* plan.h - what must be done so that a collection holds what a walk has found.
 *
 * Three lists, sorted by path, are merged: the files of the walk, the rows known, the bad files known. No file
 * is opened. */
#ifndef KI_GALLERY_PLAN_H
#define KI_GALLERY_PLAN_H

#include <kith/collection.h>

#include "gallery/row.h"
#include "gallery/walk.h"

#define KI_NONE SIZE_MAX

typedef struct ki_known {
    int64_t key;
    ki_row_file file;
    int stale; /* it has no vector: one must be made though the file did not change */
} ki_known;

/* What a collection holds. */
typedef struct ki_inventory {
    ki_known *rows; /* ascending by path */
    size_t n, capacity;
    ki_bad *bad; /* ascending by path */
    size_t n_bad, bad_capacity;
} ki_inventory;

/* Read it. Errors: those of kith_collection_next and _meta_next; KITH_NOMEM; KITH_CANCELLED. */
kith_status ki_inventory_load(kith_collection *collection, const kith_run *run, ki_inventory *inventory,
                              kith_error *err);
void ki_inventory_clear(ki_inventory *inventory);

/* The name of the value that holds the note on a bad file. */
void ki_bad_name(const char *path, char name[32]);
#define KI_BAD_PREFIX "gallery/bad/"

/* A file to be read. */
typedef struct ki_task {
    size_t file;  /* of the walk */
    size_t known; /* the row of this path, or KI_NONE */
    size_t bad;   /* the note on this path, or KI_NONE */
} ki_task;

typedef struct ki_plan {
    ki_task *tasks; /* in the order of the walk */
    size_t n;
    size_t *vanished; /* rows whose file is gone: ascending by size, then path */
    size_t n_vanished;
    size_t *forgotten; /* bad files that are gone */
    size_t n_forgotten;
    uint64_t unchanged, still_bad;
} ki_plan;

/* Make it.
 * In:       limits: a hash of the limits that files are tried under; retry, read bad files again anyway;
 *           renew, read every file again. */
kith_status ki_plan_make(const ki_walk *walk, const ki_inventory *inventory, uint64_t limits, int retry,
                         int renew, ki_plan *plan, kith_error *err);
void ki_plan_clear(ki_plan *plan);

/* The first of the vanished rows of a size, and how many there are. */
size_t ki_plan_vanished(const ki_plan *plan, const ki_inventory *inventory, uint64_t size, size_t *n);

#endif
