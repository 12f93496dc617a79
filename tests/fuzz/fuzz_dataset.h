/* fuzz_dataset.h - property of every vector file format: any bytes are refused with a message, or are a dataset of at
 * least one row whose float32 values are all finite, read all at once or one by one the same. */
#ifndef KI_FUZZ_DATASET_H
#define KI_FUZZ_DATASET_H

#include "fuzz.h"

#include <kith/dataset.h>

int fuzz_dataset(const uint8_t *data, size_t size, kith_dataset_format format);

#endif
