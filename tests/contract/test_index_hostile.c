/* Index files from somebody who means harm: cut at every length, every bit of header and directory turned, ten thousand
 * edits a family (KITH_HOSTILE_EDITS) with the checksums made right again. Whatever comes, opening answers with an index
 * or an error, and an index that was opened can be checked, searched and changed without a crash (run it under the
 * sanitizers). */
#include "index_cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "fault_io.h"
#include "repair.h"
#include "store/index_layout.h"

#define DIM 4
#define ROWS 40

static kith_error err;

static size_t now_dim; /* of the sound file */

/* A small file of a family, with holes and ids in disorder; metric by turns. */
static unsigned char *small_file(size_t family, size_t *size)
{
    index_case c = {.family = &families[family]};
    c.metric = case_metric(c.family, family % 2 ? KITH_COSINE : KITH_L2SQ);
    case_spec(c.family, 2, c.spec);
    now_dim = case_index_dim(&c, DIM);
    float *x = test_vectors(600, DIM, 8, 4);
    kith_index *index = case_create(&c, DIM, 9, NULL);
    size_t removed;
    assert_ok(case_train(index, x, 600, NULL, &err), &err);
    assert_ok(case_add(index, x, family % 3 ? case_ids() : NULL, ROWS, NULL, &err), &err);
    if (family % 3) {
        uint64_t gone[] = {case_id(3), case_id(17)};
        assert_ok(kith_index_remove(index, gone, 2, &removed, &err), &err);
    }
    const char *path = case_path("small.kidx");
    assert_ok(kith_index_save(index, path, NULL, &err), &err);
    kith_index_free(index);
    free(x);
    return file_bytes(path, size);
}

/* Everything that can be done with an index that somebody else made. */
static void use(kith_index *index, kith_open_mode mode)
{
    static const float queries[9 * DIM] = {1, -1, 0.5f, 2, 0, 0, 0, 0, -3, 1, 1, 1};
    uint64_t ids[9 * 5], bits[4] = {0x123456789abcdef0u, ~(uint64_t)0, 0, 77}, fresh[] = {900001, 900002};
    float dist[9 * 5], out[DIM];
    const uint64_t *range_ids;
    const float *range_dist;
    size_t n, removed;
    kith_index_info info = {.struct_size = sizeof info};
    assert_ok(kith_index_get_info(index, &info, &err), &err);
    (void)kith_index_check(index, &err);
    if (info.dim != now_dim)
        return; /* an edit of the header that fits all sections: the buffers here do not */
    kith_filter filter;
    kith_filter_init(&filter);
    filter.bits = bits;
    filter.n_bits = 256;
    kith_search_options options;
    kith_search_options_init(&options);
    kith_searcher *searcher;
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    for (int filtered = 0; filtered < 2; filtered++) {
        options.filter = filtered ? &filter : NULL;
        assert_ok(case_search(searcher, queries, 1, 5, &options, ids, dist, NULL, &err), &err);
        assert_ok(case_search(searcher, queries, 9, 5, &options, ids, dist, NULL, &err), &err);
        assert_ok(case_search_range(searcher, queries, 3, &options, &n, &range_ids, &range_dist, NULL, &err),
                  &err);
    }
    kith_searcher_free(searcher);
    for (size_t i = 0; i < 9 * 5; i++) (void)case_reconstruct(index, ids[i], out, &err);
    for (uint64_t id = 0; id < 100; id++) (void)kith_index_has(index, id);
    if (mode == KITH_OPEN_MAP) return;
    (void)kith_index_remove(index, ids, 9, &removed, &err);
    (void)case_add(index, queries, fresh, 2, NULL, &err);
    (void)case_add(index, queries, NULL, 2, NULL, &err);
    (void)kith_index_check(index, &err);
    assert_ok(kith_searcher_create(index, &searcher, &err), &err);
    assert_ok(case_search(searcher, queries, 9, 5, NULL, ids, dist, NULL, &err), &err);
    kith_searcher_free(searcher);
}

/* Open the bytes in both modes and use what comes. Returns how often an index came. */
static size_t try_bytes(const unsigned char *bytes, size_t size)
{
    size_t opened = 0;
    memory_io io;
    memory_io_init(&io, bytes, size);
    for (int mode = KITH_OPEN_READ; mode <= KITH_OPEN_MAP; mode++) {
        kith_index *index = (kith_index *)&io;
        kith_status status = kith_index_open("hostile", (kith_open_mode)mode, NULL, &io.base, &index, &err);
        if (status == KITH_OK) {
            use(index, (kith_open_mode)mode);
            kith_index_free(index);
            opened++;
            continue;
        }
        assert_null(index);
        assert_int_equal(err.code, status);
        assert_true(err.message[0] != 0);
        assert_true(status == KITH_FORMAT || status == KITH_VERSION || status == KITH_CORRUPT ||
                    status == KITH_NOMEM);
    }
    return opened;
}

static void test_truncated(void **state)
{
    (void)state;
    for (size_t f = 0; f < n_families; f++) {
        size_t size;
        unsigned char *bytes = small_file(f, &size);
        assert_int_equal(try_bytes(bytes, size), 2);
        for (size_t cut = 0; cut < size; cut++) assert_int_equal(try_bytes(bytes, cut), 0);
        free(bytes);
    }
}

static void test_turned_bits(void **state)
{
    (void)state;
    for (size_t f = 0; f < n_families; f++) {
        size_t size;
        unsigned char *bytes = small_file(f, &size);
        const ki_disk_header *header = (const ki_disk_header *)(const void *)bytes;
        size_t directory = header->directory_offset;
        for (size_t byte = 0; byte < size; byte++) {
            if (byte == sizeof *header) byte = directory;
            for (int bit = 0; bit < 8; bit++) {
                bytes[byte] ^= (unsigned char)(1 << bit);
                assert_int_equal(try_bytes(bytes, size), 0);
                bytes[byte] ^= (unsigned char)(1 << bit);
            }
        }
        free(bytes);
    }
}

/* One edit somewhere in a copy of the sound file: mostly inside a section, each as often as the others, because the small ones hold
 * the counts; with values that lie on edges. */
static void edit(const unsigned char *sound, unsigned char *bytes, size_t size, ki_rng *rng)
{
    const ki_disk_header *header = (const ki_disk_header *)(const void *)sound;
    const ki_disk_section *sections =
        (const ki_disk_section *)(const void *)(sound + header->directory_offset);
    size_t first = 8, length = size - 8; /* the magic stays, or nothing else is ever reached */
    if (ki_rng_below(rng, 8) > 0) {
        const ki_disk_section *section = &sections[ki_rng_below(rng, header->section_count)];
        if (section->bytes > 0) {
            first = section->offset;
            length = section->bytes;
        }
    } else if (ki_rng_below(rng, 2)) {
        length = sizeof *header - 8;
    }
    size_t width = (size_t)1 << ki_rng_below(rng, 4);
    size_t at = first + ki_rng_below(rng, length) / width * width;
    if (at + width > size) return;
    uint64_t value = ki_rng_u64(rng), shift = ki_rng_below(rng, 64);
    switch (ki_rng_below(rng, 4)) {
    case 0: value = ki_rng_below(rng, 50); break;                             /* as real counts are */
    case 1: value = ((uint64_t)1 << shift) - 1 + ki_rng_below(rng, 3); break; /* where numbers turn over */
    case 2: value = UINT64_MAX - ki_rng_below(rng, 3); break;
    default: break;
    }
    memcpy(bytes + at, &value, width);
}

static void test_forged(void **state)
{
    (void)state;
    const size_t n_edits = test_number("KITH_HOSTILE_EDITS", 10000);
    for (size_t f = 0; f < n_families; f++) {
        size_t size, opened = 0;
        unsigned char *bytes = small_file(f, &size), *forged = aligned_alloc(64, (size + 63) / 64 * 64);
        ki_rng rng;
        ki_rng_init(&rng, test_seed(), f);
        for (size_t i = 0; i < n_edits; i++) {
            memcpy(forged, bytes, size);
            for (size_t edits = 1 + ki_rng_below(&rng, 3); edits > 0; edits--)
                edit(bytes, forged, size, &rng);
            test_repair_checksums(forged, size);
            opened += try_bytes(forged, size);
        }
        /* Some edits must have got through, or this proves nothing about what comes after opening. */
        assert_true(opened > n_edits / 20);
        free(bytes);
        free(forged);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_turned_bits),
        cmocka_unit_test(test_forged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
