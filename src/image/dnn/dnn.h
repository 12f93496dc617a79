/* dnn.h - between libkith-image and its plug-in libkith-dnn: three C functions and their version.
 *
 * The plug-in is the only C++ in the house and the only user of OpenCV, which brings dozens of libraries: it is
 * a file of its own, loaded when a collection asks for a network. It knows nothing of pictures or files:
 * bytes of an ONNX file in, pixels of the network's input in, floats out. No exception leaves it. */
#ifndef KI_IMAGE_DNN_H
#define KI_IMAGE_DNN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KI_DNN_ABI 1
#define KI_DNN_SYMBOL "kith_dnn_plugin"
#define KI_DNN_MESSAGE 400
#define KI_DNN_LAYER 256

enum { KI_DNN_OK = 0, KI_DNN_BAD_FILE = 1, KI_DNN_NO_LAYER = 2, KI_DNN_FAILED = 3, KI_DNN_NOMEM = 4 };

typedef struct ki_dnn_input {
    uint32_t side; /* width and height */
    float mean[3], scale;
} ki_dnn_input;

typedef struct ki_dnn_plugin {
    uint32_t abi;
    /* Read a network. layer: the output wanted; "": found, and written there. *dim: the number of floats it
     * gives. On failure *net is NULL and message says why, in one line. */
    int (*open)(const void *onnx, size_t size, const ki_dnn_input *input, char layer[KI_DNN_LAYER],
                void **net, size_t *dim, char message[KI_DNN_MESSAGE]);
    /* rgb[side][side][3] to out[dim]. One thread at a time. */
    int (*run)(void *net, const uint8_t *rgb, float *out, char message[KI_DNN_MESSAGE]);
    void (*close)(void *net);
} ki_dnn_plugin;

/* The symbol that the plug-in exports; returns a static table. */
typedef const ki_dnn_plugin *(*ki_dnn_entry)(void);

#ifdef __cplusplus
}
#endif
#endif
