/* The property of fuzz_dataset.h for text. */
#include "fuzz_dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_dataset(data, size, KITH_DATASET_TEXT);
}
