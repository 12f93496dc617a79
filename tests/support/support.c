#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"

const char *test_data(const char *relative)
{
    static char path[4096];
    const char *root = getenv("KITH_DATA");
    if (root)
        snprintf(path, sizeof path, "%s/%s", root, relative);
    else
        snprintf(path, sizeof path, "%s/../shared/data/%s", KITH_SOURCE_DIR, relative);
    if (access(path, R_OK) == 0) return path;
    fprintf(stderr, "skipped: no real data at %s (set KITH_DATA)\n", path);
    return NULL;
}

uint64_t test_seed(void)
{
    static uint64_t seed;
    if (seed) return seed;
    const char *given = getenv("KITH_TEST_SEED");
    seed = given ? strtoull(given, NULL, 10) : 1;
    fprintf(stderr, "KITH_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

size_t test_number(const char *variable, size_t usual)
{
    const char *given = getenv(variable);
    long number = given ? atol(given) : 0;
    return number > 0 ? (size_t)number : usual;
}

float *test_vectors(size_t n, size_t dim, size_t centres, uint64_t seed)
{
    float *x = malloc(n * dim * sizeof *x + 1);
    ki_rng rng;
    ki_rng_init(&rng, seed, 0);
    for (size_t i = 0; i < n * dim; i++) x[i] = (float)ki_rng_gauss(&rng);
    if (centres == 0) return x;
    float *c = test_vectors(centres, dim, 0, seed + 1);
    for (size_t i = 0; i < n; i++) {
        const float *centre = c + ki_rng_below(&rng, centres) * dim;
        for (size_t d = 0; d < dim; d++) x[i * dim + d] = 5 * centre[d] + x[i * dim + d];
    }
    free(c);
    return x;
}

static void *counted_alloc(void *ctx, size_t size, size_t align)
{
    test_allocator *a = ctx;
    size_t call = __atomic_fetch_add(&a->calls, 1, __ATOMIC_RELAXED);
    if (call == a->fail_at || (a->for_ever && call > a->fail_at)) return NULL;
    void *block = NULL;
    if (posix_memalign(&block, align, size) != 0) return NULL;
    __atomic_fetch_add(&a->live, 1, __ATOMIC_RELAXED);
    return block;
}

static void counted_free(void *ctx, void *block)
{
    test_allocator *a = ctx;
    __atomic_fetch_sub(&a->live, 1, __ATOMIC_RELAXED);
    free(block);
}

void test_allocator_init(test_allocator *allocator, size_t fail_at, int for_ever)
{
    *allocator = (test_allocator){
        .base = {.ctx = allocator, .alloc = counted_alloc, .free = counted_free},
        .fail_at = fail_at,
        .for_ever = for_ever,
    };
}

static char folder[256];

static void remove_folder(void)
{
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0) fprintf(stderr, "could not remove %s\n", folder);
}

const char *test_folder(void)
{
    if (folder[0]) return folder;
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/kith-test-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(folder)) {
        perror(folder);
        exit(1);
    }
    atexit(remove_folder);
    return folder;
}
