/* Damaged and malicious databases: bytes changed at random, files cut off. Whatever the file holds, each call gives an
 * answer or an error of one line; the sanitizers see to the rest. KITH_FUZZ_ROUNDS=100000 runs it for long. */
#include "collections.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N = 120, DIM = 6, ROUNDS = 250 };

static int rounds_wanted(void)
{
    return (int)test_number("KITH_FUZZ_ROUNDS", ROUNDS);
}

/* The model: rows with and without vectors, deleted ones, attachments of more than a page, named values. */
static unsigned char *make_model(size_t *size)
{
    kith_error err;
    float *x = test_vectors(N, DIM, 0, test_seed());
    char *attachment = calloc(1, 40000);
    kith_collection *c = test_collection("model.kith", DIM, KITH_L2SQ);
    test_put_rows(c, 1, N, x, DIM);
    assert_ok(kith_collection_begin(c, &err), &err);
    for (int64_t key = 5; key <= N; key += 10) {
        kith_row row = {.key = key, .attachment = attachment, .attachment_size = (size_t)key * 300};
        assert_ok(kith_collection_put(c, KITH_ROW_ATTACHMENT, &row, NULL, &err), &err);
        assert_ok(kith_collection_delete(c, key + 1, &err), &err);
        row = (kith_row){.key = key + 2};
        assert_ok(kith_collection_put(c, KITH_ROW_VECTOR, &row, NULL, &err), &err);
    }
    for (char name[] = "bad/a"; name[4] <= 'h'; name[4]++)
        assert_ok(kith_collection_meta_set(c, name, name, 5, &err), &err);
    assert_ok(kith_collection_meta_set(c, "codebook", attachment, 30000, &err), &err);
    assert_ok(kith_collection_commit(c, &err), &err);
    kith_collection_close(c);
    free(x);
    free(attachment);
    return test_read_file(test_path("model.kith"), size);
}

/* Judge an answer: a success, or a failure that is told in one line. */
static int good(kith_status status, const kith_error *err)
{
    if (status == KITH_OK) return 1;
    assert_int_equal(err->code, status);
    assert_true(strlen(err->message) > 10);
    assert_null(strchr(err->message, '\n'));
    assert_true(status != KITH_INTERNAL && status != KITH_BUSY);
    return 0;
}

static void read_everything(kith_collection *c)
{
    kith_error err;
    kith_row row = {0};
    kith_meta meta = {0};
    uint64_t hash;
    int steps = 0;
    kith_collection_stats stats = {.struct_size = sizeof stats};
    good(kith_collection_get_stats(c, &stats, &err), &err);
    while (good(kith_collection_next(c, row.key, KITH_ROW_ALL, &row, &err), &err) && row.key) {
        assert_true(row.payload[row.payload_size] == 0);
        if (row.vector) assert_int_equal(row.dim, kith_collection_dim(c));
        assert_true(++steps <= 100000); /* keys ascend, so it ends */
    }
    for (int64_t key = 1; key <= N; key += 7)
        good(kith_collection_get(c, key, KITH_ROW_ALL, &row, &err), &err);
    while (good(kith_collection_meta_next(c, "", meta.name, &meta, &err), &err) && meta.name)
        assert_true(++steps <= 200000);
    size_t dim = kith_collection_dim(c);
    float *query = calloc(dim + 1, sizeof *query);
    int64_t keys[10], only[3] = {3, 4, 5};
    float distances[10];
    good(kith_collection_search(c, 1, dim, query, NULL, keys, distances, NULL, &err), &err);
    kith_collection_query wanted;
    kith_collection_query_init(&wanted);
    wanted.only_keys = only;
    wanted.only_n = 3;
    good(kith_collection_search(c, 1, dim, query, &wanted, keys, distances, NULL, &err), &err);
    good(kith_collection_search_like(c, 4, NULL, keys, distances, NULL, &err), &err);
    good(kith_collection_hash(c, NULL, &hash, &err), &err);
    good(kith_collection_check(c, NULL, &err), &err);
    free(query);
}

static void change_something(kith_collection *c)
{
    kith_error err;
    size_t dim = kith_collection_dim(c);
    float *vector = calloc(dim + 1, sizeof *vector);
    if (good(kith_collection_begin(c, &err), &err)) {
        for (int64_t key = 2; key < 150; key += 20) {
            kith_row row = {.key = key,
                            .payload = "{\"a\":1}",
                            .vector = dim ? vector : NULL,
                            .dim = dim,
                            .attachment = "abc",
                            .attachment_size = 3};
            good(kith_collection_put(c, KITH_ROW_ALL, &row, NULL, &err), &err);
            good(kith_collection_delete(c, key + 1, &err), &err);
        }
        kith_row row = {.payload = "{}"};
        good(kith_collection_put(c, KITH_ROW_ALL, &row, NULL, &err), &err);
        good(kith_collection_meta_set(c, "bad/c", "x", 1, &err), &err);
        good(kith_collection_commit(c, &err), &err);
    }
    kith_fold_options options;
    kith_fold_options_init(&options);
    options.spec = "Flat";
    options.always = 1;
    good(kith_collection_fold(c, &options, &err), &err);
    free(vector);
}

static void use(const char *path, int writing)
{
    kith_error err;
    kith_collection *c;
    kith_collection_options options;
    kith_collection_options_init(&options);
    options.read_only = !writing;
    if (!good(kith_collection_open(path, &options, &c, &err), &err)) {
        assert_null(c);
        return;
    }
    read_everything(c);
    if (writing) change_something(c);
    if (writing) read_everything(c);
    kith_collection_close(c);
}

/* Where an edit can matter: most of a database is zeros that nothing reads. */
static size_t interesting(const unsigned char *bytes, size_t size)
{
    for (int tries = 0; tries < 1000; tries++) {
        size_t at = (size_t)rand() % size;
        if (bytes[at] != 0 || at % 16384 < 120) return at;
    }
    return 0;
}

static void random_edits(void **state)
{
    (void)state;
    size_t size;
    unsigned char *model = make_model(&size), *edited = malloc(size);
    const char *path = test_path("edited.kith");
    srand((unsigned)test_seed());
    for (int round = 0; round < rounds_wanted(); round++) {
        memcpy(edited, model, size);
        int edits = 1 + rand() % 8;
        for (int e = 0; e < edits; e++) {
            size_t at = interesting(model, size);
            switch (rand() % 4) {
            case 0: edited[at] ^= (unsigned char)(1 << rand() % 8); break;
            case 1: edited[at] = (unsigned char)rand(); break;
            case 2: edited[at] = rand() % 2 ? 0xff : 0; break;
            default: /* a few bytes from elsewhere */
                for (size_t i = 0, from = interesting(model, size); i < 8 && at + i < size && from + i < size;
                     i++)
                    edited[at + i] = model[from + i];
            }
        }
        test_collection_remove(path);
        test_write_file(path, edited, size);
        use(path, round % 8 == 0);
    }
    free(model);
    free(edited);
}

static void every_byte_of_the_header(void **state)
{
    (void)state;
    size_t size;
    unsigned char *model = make_model(&size);
    const char *path = test_path("header.kith");
    for (size_t at = 0; at < 100; at++) {
        for (int way = 0; way < 2; way++) {
            unsigned char kept = model[at];
            model[at] = way ? (unsigned char)(kept ^ 1) : (unsigned char)~kept;
            test_collection_remove(path);
            test_write_file(path, model, size);
            use(path, 0);
            model[at] = kept;
        }
    }
    free(model);
}

static void cut_off(void **state)
{
    (void)state;
    size_t size;
    unsigned char *model = make_model(&size);
    const char *path = test_path("cut.kith");
    srand((unsigned)test_seed());
    for (int round = 0; round < 60; round++) {
        size_t length = round < 20   ? (size_t)round * 7
                        : round < 40 ? (size_t)(round - 19) * 16384
                                     : (size_t)rand();
        test_collection_remove(path);
        test_write_file(path, model, length % size);
        use(path, round % 8 == 0);
    }
    free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_edits),
        cmocka_unit_test(every_byte_of_the_header),
        cmocka_unit_test(cut_off),
    };
    test_folder_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
