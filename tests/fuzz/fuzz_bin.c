/* The property of fuzz_dataset.h for fbin and u8bin. */
#include "fuzz_dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_dataset(data, size, KITH_DATASET_FBIN);
    return fuzz_dataset(data, size, KITH_DATASET_U8BIN);
}
