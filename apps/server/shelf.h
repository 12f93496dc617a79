/* shelf.h - the collections that are served, each with some galleries open: a gallery belongs to one thread at a time,
 * so a request borrows one and gives it back. */
#ifndef KITH_SERVER_SHELF_H
#define KITH_SERVER_SHELF_H

#include <stddef.h>

#include <kith/gallery.h>

typedef struct shelf shelf;

/* Open the collection at a path, or each NAME.kith of a folder, `copies` galleries each.
 * Errors:   KITH_NOTFOUND no collection there; those of kith_gallery_open, naming the file. */
kith_status shelf_open(const char *path, size_t copies, double max_megapixels, shelf **out, kith_error *err);
void shelf_close(shelf *s);

/* How many collections, and the name of one (its file without ".kith"). */
size_t shelf_size(const shelf *s);
const char *shelf_name(const shelf *s, size_t i);

/* The number of a collection by name, or -1. */
int shelf_find(const shelf *s, const char *name);

/* Borrow a gallery of collection i; waits until one is free. Any number of threads. */
kith_gallery *shelf_borrow(shelf *s, size_t i);
void shelf_return(shelf *s, size_t i, kith_gallery *gallery);

#endif
