/* count_memory.c - an allocator of one's own: here, one that counts what an index takes. */
#include <stdio.h>
#include <stdlib.h>

#include <kith/allocator.h>
#include <kith/index.h>

typedef struct counter {
    size_t blocks, bytes; /* asked for in all */
    size_t live;          /* not given back yet */
} counter;

/* No pool is used below, so plain counters do; with one they would have to be atomic. */
static void *count_alloc(void *ctx, size_t size, size_t align)
{
    counter *c = (counter *)ctx;
    void *block = NULL;
    if (posix_memalign(&block, align < sizeof(void *) ? sizeof(void *) : align, size) != 0) return NULL;
    c->blocks++;
    c->bytes += size;
    c->live++;
    return block;
}

static void count_free(void *ctx, void *block)
{
    ((counter *)ctx)->live--;
    free(block);
}

int main(void)
{
    enum { N = 1000, DIM = 16 };
    counter c = {0, 0, 0};
    const kith_allocator allocator = {&c, count_alloc, count_free};
    kith_index_options options;
    kith_index_options_init(&options);
    options.allocator = &allocator;

    static float x[N * DIM];
    for (size_t i = 0; i < N * DIM; i++) x[i] = (float)(i % 97);
    kith_index *index = NULL;
    kith_error err;
    if (kith_index_create("Flat", DIM, &options, &index, &err) != KITH_OK ||
        kith_index_add(index, x, NULL, N, NULL, &err) != KITH_OK) {
        fprintf(stderr, "%s\n", err.message);
        kith_index_free(index);
        return 1;
    }
    printf("%d rows of %d floats: %zu blocks, %zu bytes asked for, %zu blocks live\n", N, DIM, c.blocks,
           c.bytes, c.live);
    kith_index_free(index);
    printf("freed: %zu blocks live\n", c.live);
    return c.live == 0 && c.bytes >= sizeof x ? 0 : 1;
}
