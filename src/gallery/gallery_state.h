/* gallery_state.h - what the files gallery*.c share. */
#ifndef KI_GALLERY_STATE_H
#define KI_GALLERY_STATE_H

#include <kith/gallery.h>

#include "gallery/decoder.h"
#include "gallery/plan.h"
#include "gallery/walk.h"
#include "gallery/worker.h"

#define KI_THUMBNAIL_SIDE 256 /* pixels: sharp at the width of a card in a sheet, and some 9 KB */

/* What a collection remembers of its gallery. */
typedef struct ki_settings {
    char *root;              /* absolute, exact bytes; NULL: nothing was indexed yet */
    char *description;       /* of the features */
    uint64_t fingerprint;    /* of the features */
    kith_features_kind kind; /* that was asked for; PLAIN may stand in for CLASSIC for a while */
    uint64_t tried;          /* pictures there were when training was tried last; 0: never in vain */
    char **exclude;          /* [n_exclude] */
    size_t n_exclude;
    int hidden;
} ki_settings;

struct kith_gallery {
    kith_gallery_options options; /* with the zeros filled in */
    const kith_allocator *allocator;
    char *path;                  /* of the collection; NULL: none */
    char *model;                 /* where the model file is now; NULL: where it was */
    kith_collection *collection; /* NULL: not there yet */
    ki_workers *workers;
    ki_settings settings;
    uint64_t setup; /* hash of what the workers were set up with; 0: not yet */
};

/* Open the collection if its file is there and it is not open yet, and read the settings anew. */
kith_status ki_gallery_refresh(kith_gallery *g, kith_error *err);

/* Put the settings into the batch that is open. */
kith_status ki_settings_save(const ki_settings *settings, kith_collection *collection, kith_error *err);
void ki_settings_clear(ki_settings *settings);

/* A hash of the limits that files are decoded under. */
uint64_t ki_gallery_limits(const kith_gallery *g);

/* Set the workers up for features[size] (0: none, or the sample of an untrained CLASSIC), if they are not. */
kith_status ki_gallery_staff(kith_gallery *g, const void *features, size_t size, int with_sampling,
                             kith_error *err);

/* Open a picture file for a worker.
 * Out:      *fd; -1 with KITH_OK: it is gone, or no file any more. *file gets its size and times as they are.
 * Errors:   why it cannot be opened: KITH_IO; KITH_NOMEM, KITH_INTERNAL when that is not the file's fault. */
kith_status ki_gallery_open_file(const char *root, ki_walk_file *file, int *fd, kith_error *err);

/* Fetch what a hit shows of a row: path, payload and, with KITH_ROW_ATTACHMENT in parts, the thumbnail. The hit is to
 * be cleared, on failure, too. */
kith_status ki_gallery_fill_hit(kith_gallery *g, int64_t key, unsigned parts, kith_gallery_hit *hit,
                                kith_error *err);
void ki_gallery_clear_hit(const kith_allocator *allocator, kith_gallery_hit *hit);

/* The options of an index, checked and with the defaults filled in. */
kith_status ki_gallery_read_index_options(const kith_gallery_index_options *given,
                                          kith_gallery_index_options *own, kith_error *err);

/* Learn a codebook from a sample of the files of a walk.
 * Out:      *features, trained.
 * Errors:   KITH_UNTRAINED too few pictures; KITH_CANCELLED; KITH_NOMEM; ... */
kith_status ki_gallery_train(kith_gallery *g, const char *root, const ki_walk *walk, uint64_t seed,
                             const kith_run *run, kith_gallery_report *report, kith_features **features,
                             kith_error *err);

#endif
