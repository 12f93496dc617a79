#include "fuzz_dataset.h"

#include <math.h>
#include <string.h>

#include "fault_io.h"

enum { MAX_ROWS = 4096 }; /* more say nothing new, and cost time */

static void read_rows(kith_dataset *ds)
{
    size_t dim = kith_dataset_dim(ds);
    uint64_t rows = kith_dataset_rows(ds);
    size_t n = rows < MAX_ROWS ? (size_t)rows : MAX_ROWS;
    FUZZ_ASSERT(rows >= 1 && dim >= 1 && dim <= KITH_DATASET_MAX_DIM);
    float *all = malloc(n * dim * sizeof *all), *row = malloc(dim * sizeof *row);
    kith_error err = {0};
    kith_status status = kith_dataset_read_f32(ds, 0, n, all, &err);
    FUZZ_ASSERT(status == KITH_OK || (err.code == status && err.message[0]));
    for (size_t i = 0; status == KITH_OK && i < n * dim; i++) FUZZ_ASSERT(isfinite(all[i]));
    for (size_t i = n; i-- > 0; i -= i / 16) { /* from behind: text must find its way back */
        kith_status one = kith_dataset_read_f32(ds, i, 1, row, NULL);
        if (status == KITH_OK)
            FUZZ_ASSERT(one == KITH_OK && memcmp(row, all + i * dim, dim * sizeof *row) == 0);
    }
    (void)kith_dataset_read_i32(ds, rows - 1, 1, (int32_t *)row, NULL);
    (void)kith_dataset_read_u8(ds, 0, 1, (uint8_t *)row, NULL);
    FUZZ_ASSERT(kith_dataset_read_f32(ds, rows, 1, row, NULL) == KITH_INVALID);
    free(row);
    free(all);
}

int fuzz_dataset(const uint8_t *data, size_t size, kith_dataset_format format)
{
    memory_io io;
    fuzz_allocator allocator;
    kith_dataset *ds;
    kith_dataset_options options;
    kith_error err = {0};
    memory_io_init(&io, data, size);
    fuzz_allocator_init(&allocator, size);
    kith_dataset_options_init(&options);
    options.io = &io.base;
    options.allocator = &allocator.base;
    options.format = format;
    kith_status status = kith_dataset_open("input", &options, &ds, &err);
    FUZZ_ASSERT((status == KITH_OK) == (ds != NULL));
    FUZZ_ASSERT(status == KITH_OK || (err.code == status && strncmp(err.message, "input: ", 7) == 0));
    if (ds) read_rows(ds);
    kith_dataset_close(ds);
    FUZZ_ASSERT(allocator.live == 0);
    return 0;
}
