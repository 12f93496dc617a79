/* replay.c - a fuzz target without a fuzzer: `replay_NAME [--edits N] [--flip-step N] FILE...` runs each file as it is, cut at
 * each length (of 600 at the most), with each bit (or each N-th one) of its first and last 512 bytes turned over, and with N
 * random edits (1,000). Inputs lie in blocks of their exact size. KITH_TEST_SEED changes the edits. */
#include "fuzz.h"

#include <string.h>

#include "base/rng.h"

static size_t runs, edits = 1000, flip_step = 1;

static void run_copy(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);
    if (size > 0) memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    runs++;
    free(exact);
}

static void run_cuts(const uint8_t *data, size_t size)
{
    size_t step = size / 600 + 1;
    for (size_t bytes = 0; bytes < size; bytes += step) run_copy(data, bytes);
}

static void run_flips(uint8_t *data, size_t size)
{
    for (size_t bit = 0; bit < size * 8; bit += flip_step) {
        if (bit / 8 >= 512 && bit / 8 + 512 < size) continue;
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        run_copy(data, size);
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void run_edits(const uint8_t *data, size_t size, ki_rng *rng)
{
    static const uint64_t spiteful[] = {
        0,         1,          UINT32_MAX,      UINT64_MAX, INT64_MAX,
        INT32_MAX, 1ull << 63, UINT64_MAX - 63, 1ull << 61, 0x7fc000007fc00000};
    uint8_t *edited = malloc(size);
    for (size_t i = 0; size > 0 && i < edits; i++) {
        memcpy(edited, data, size);
        for (uint64_t n = 1 + ki_rng_below(rng, 4); n > 0; n--) {
            size_t at = (size_t)ki_rng_below(rng, size);
            if (ki_rng_below(rng, 2)) {
                edited[at] = (uint8_t)ki_rng_u64(rng);
                continue;
            }
            uint64_t value = spiteful[ki_rng_below(rng, sizeof spiteful / sizeof *spiteful)];
            size_t width = (size_t)1 << ki_rng_below(rng, 4);
            at &= ~(width - 1);
            memcpy(edited + at, &value, size - at < width ? size - at : width);
        }
        run_copy(edited, size);
    }
    free(edited);
}

static void run_file(const char *path, ki_rng *rng)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = malloc((size_t)1 << 20);
    if (!f || !data) {
        perror(path);
        exit(1);
    }
    size_t size = fread(data, 1, (size_t)1 << 20, f);
    fclose(f);
    run_copy(data, size);
    if (edits) {
        run_cuts(data, size);
        run_flips(data, size);
        run_edits(data, size, rng);
    }
    free(data);
}

int main(int argc, char **argv)
{
    ki_rng rng;
    const char *seed = getenv("KITH_TEST_SEED");
    int first = 1;
    for (; first + 1 < argc; first += 2)
        if (strcmp(argv[first], "--edits") == 0)
            edits = strtoul(argv[first + 1], NULL, 10);
        else if (strcmp(argv[first], "--flip-step") == 0)
            flip_step = strtoul(argv[first + 1], NULL, 10);
        else
            break;
    if (flip_step == 0) return 2;
    ki_rng_init(&rng, seed ? strtoull(seed, NULL, 10) : 1, 0);
    for (int i = first; i < argc; i++) run_file(argv[i], &rng);
    printf("%zu inputs from %d files\n", runs, argc - first);
    return runs == 0; /* no seeds were found */
}
