/* dataset_internal.h - what the formats share. A format's open function looks at the file, proves that its size
 * fits its header, and fills a kith_dataset_source; all else (ranges, conversion, the search for NaN) is done
 * once, in dataset.c. */
#ifndef KI_DATASET_INTERNAL_H
#define KI_DATASET_INTERNAL_H

#include <kith/dataset.h>

#define KI_DATASET_CHUNK ((size_t)1 << 20) /* bytes of a read: the cost of the call vanishes beside them */

/* The open file; it belongs to the dataset and outlives the source. */
typedef struct ki_dataset_file {
    const kith_io *io;
    const kith_allocator *allocator;
    char *path;
    int fd; /* -1 when closed */
    uint64_t bytes;
} ki_dataset_file;

/* Read exactly `size` bytes at an offset. KITH_CORRUPT when the file ends before. */
kith_status ki_dataset_file_read(const ki_dataset_file *file, uint64_t offset, void *data, size_t size,
                                 kith_error *err);

/* Each fills *source (rows, dim, element, ctx, read, close), which is initialised. Nothing is left behind on
 * failure. */
kith_status ki_dataset_open_vecs(const ki_dataset_file *file, kith_element element,
                                 kith_dataset_source *source, kith_error *err);
kith_status ki_dataset_open_bin(const ki_dataset_file *file, kith_element element,
                                kith_dataset_source *source, kith_error *err);
kith_status ki_dataset_open_npy(const ki_dataset_file *file, kith_dataset_source *source, kith_error *err);
kith_status ki_dataset_open_text(const ki_dataset_file *file, kith_dataset_source *source, kith_error *err);

/* The rows of a file lie one after the other from data_offset on; its size was checked. Fills ctx, read, close. */
kith_status ki_dataset_block(const ki_dataset_file *file, uint64_t data_offset, kith_dataset_source *source,
                             kith_error *err);

/* The file is exactly data_offset + rows * dim elements long, and they are a dataset: KITH_CORRUPT or
 * KITH_UNSUPPORTED otherwise. */
kith_status ki_dataset_check_size(const ki_dataset_file *file, uint64_t data_offset, uint64_t rows,
                                  uint64_t dim, kith_element element, kith_error *err);

/* KITH_UNSUPPORTED unless dim is 1..KITH_DATASET_MAX_DIM. */
kith_status ki_dataset_check_dim(const char *path, uint64_t dim, kith_error *err);

/* Convert n elements exactly (floats may be rounded, see dataset.h). Returns n, or the position of the first
 * that the target does not hold. */
size_t ki_elements_convert(kith_element from, const void *in, kith_element to, void *out, size_t n);

/* The value of in[i] for a message. */
double ki_element_value(kith_element element, const void *in, size_t i);

/* The header of an npy file of a type that is written. */
#define KI_NPY_HEADER_BYTES 128
void ki_npy_header(kith_element element, uint64_t rows, size_t dim,
                   unsigned char header[KI_NPY_HEADER_BYTES]);

/* Decimal numbers of text, whatever the locale. ki_text_parse: 1 when text[length] is one whole finite number
 * that float32 holds. ki_text_print: the shortest of 6..9 digits that reads back as the same value; returns its
 * length. */
int ki_text_parse(const char *text, size_t length, float *value);
size_t ki_text_print(float value, char text[32]);

#endif
