/* model.h - the features MODEL: a layer of a convolutional network, run by the plug-in (dnn/dnn.h). */
#ifndef KI_IMAGE_MODEL_H
#define KI_IMAGE_MODEL_H

#include <kith/features.h>

#include "image/bytes.h"
#include "image/dnn/dnn.h"

enum { KI_MODEL_VERSION = 1 }; /* of how pixels are made for the network: to be raised when vectors change */

typedef struct ki_model {
    const ki_dnn_plugin *plugin;
    void *library; /* of dlopen */
    void *net;
    size_t dim;
    uint64_t hash; /* XXH3-64 of the model file */
    ki_dnn_input input;
    char layer[KI_DNN_LAYER];
    char *path; /* as given */
    const kith_allocator *allocator;
} ki_model;

/* *model is zeroed on failure. */
kith_status ki_model_open(const char *path, const char *layer, const ki_dnn_input *input,
                          const kith_allocator *allocator, ki_model *model, kith_error *err);
void ki_model_close(ki_model *model);

kith_status ki_model_vector(ki_model *model, const kith_image *image, float *vector, kith_error *err);

/* The short side that a picture is brought to before the centre is cut out. */
uint32_t ki_model_short_side(const ki_model *model);

/* All that decides a vector, then, after `path` was asked for, where the file was. */
void ki_model_put(const ki_model *model, int path, ki_bytes *bytes);
kith_status ki_model_get(ki_bytes *bytes, const char *path, const kith_allocator *allocator, ki_model *model,
                         kith_error *err);

#endif
