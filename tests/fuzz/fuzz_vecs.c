/* The property of fuzz_dataset.h for fvecs, bvecs and ivecs: the same bytes as each. */
#include "fuzz_dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_dataset(data, size, KITH_DATASET_FVECS);
    fuzz_dataset(data, size, KITH_DATASET_BVECS);
    return fuzz_dataset(data, size, KITH_DATASET_IVECS);
}
