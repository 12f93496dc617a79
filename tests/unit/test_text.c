/* Texts: normalising, tokens of many scripts, shingles, and near-duplicates by each method. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kith/text.h>

#include "base/rng.h"
#include "support.h"

static void check_normal(const char *text, const char *expected)
{
    char *normal;
    size_t size;
    kith_error err;
    assert_ok(kith_text_normalise(text, strlen(text), NULL, &normal, &size, &err), &err);
    assert_string_equal(normal, expected);
    assert_int_equal(size, strlen(expected));
    kith_text_free(NULL, normal);
}

static void test_normalise(void **state)
{
    (void)state;
    check_normal("", "");
    check_normal("Hello, World 42!", "hello, world 42!");
    check_normal("STRASSE Stra\u00dfe", "strasse strasse");      /* sharp s folds to two letters */
    check_normal("\uff21\uff22\uff23 \ufb01ne", "abc fine");     /* full width, a ligature */
    check_normal("Cafe\u0301 CAF\u00c9", "caf\u00e9 caf\u00e9"); /* e and its accent composed */
    check_normal("xe\u0301\u0323y", "x\u1eb9\u0301y");           /* marks in canonical order */
    check_normal("\u212b", "\u00e5");                            /* the Angstrom sign */
    check_normal("so\u00adft", "soft");                          /* soft hyphens go */
    check_normal("\uff76\uff9e\uff70", "\u30ac\u30fc"); /* half-width katakana and its voicing mark */
    check_normal("\u1112\u1161\u11ab", "\ud55c");       /* Hangul from its parts */
    check_normal("a\xff\xfe"
                 "B\xc3(",
                 "a\ufffd\ufffdb\ufffd(");              /* not UTF-8 */
    check_normal("\xed\xa0\x80", "\ufffd\ufffd\ufffd"); /* a surrogate */
    check_normal("\xe6\x97", "\ufffd\ufffd");           /* cut short */
}

/* What is long is normalised piece by piece: the pieces must not show. */
static void test_long(void **state)
{
    (void)state;
    enum { N = 20000 };
    char *text = malloc(8 * N), *expected = malloc(8 * N), *normal;
    size_t size, n = 0, m = 0;
    kith_error err;
    assert_true(text && expected);
    for (size_t i = 0; i < N; i++) {
        /* capital e acute in parts behind a Greek letter, half-width ga, Hangul in parts */
        const char *piece = i % 3 == 0 ? "\u0391E\u0301" : i % 3 == 1 ? "\uff76\uff9e" : "\u1112\u1161\u11ab";
        const char *folded = i % 3 == 0 ? "\u03b1\u00e9" : i % 3 == 1 ? "\u30ac" : "\ud55c";
        memcpy(text + n, piece, strlen(piece));
        memcpy(expected + m, folded, strlen(folded));
        n += strlen(piece);
        m += strlen(folded);
    }
    expected[m] = 0;
    assert_ok(kith_text_normalise(text, n, NULL, &normal, &size, &err), &err);
    assert_int_equal(size, m);
    assert_memory_equal(normal, expected, m + 1);
    kith_text_free(NULL, normal);
    /* Hostile: nothing but marks, which must not take time by their square. */
    for (size_t i = 0; i < 4 * N; i++) memcpy(text + 2 * i, i % 2 ? "\u0301" : "\u0323", 2);
    assert_ok(kith_text_normalise(text, 8 * N, NULL, &normal, &size, &err), &err);
    assert_int_equal(size, 8 * N);
    kith_text_free(NULL, normal);
    free(text);
    free(expected);
}

/* The tokens of a text, joined by bars. */
static void check_tokens(const char *text, const char *expected)
{
    char *normal, joined[400] = "";
    size_t size, at = 0, n = 0;
    kith_text_token token;
    kith_error err;
    assert_ok(kith_text_normalise(text, strlen(text), NULL, &normal, &size, &err), &err);
    while (kith_text_next_token(normal, size, &at, &token))
        n += (size_t)snprintf(joined + n, sizeof joined - n, "%s%.*s", n ? "|" : "", (int)token.size,
                              normal + token.start);
    assert_string_equal(joined, expected);
    assert_int_equal(kith_text_next_token(normal, size, &at, &token), 0);
    kith_text_free(NULL, normal);
}

static void test_tokens(void **state)
{
    (void)state;
    check_tokens("", "");
    check_tokens(" .,;-\n\t", "");
    check_tokens("U.S. dlrs 1,750.5 don't snake_case", "u|s|dlrs|1|750|5|don|t|snake|case");
    check_tokens("\u041f\u0440\u0438\u0432\u0435\u0442, \u03ba\u03cc\u03c3\u03bc\u03b5!",
                 "\u043f\u0440\u0438\u0432\u0435\u0442|\u03ba\u03cc\u03c3\u03bc\u03b5");
    check_tokens("\u6211\u7231Linux\u7cfb\u7edf\u3002",
                 "\u6211|\u7231|linux|\u7cfb|\u7edf");                /* Chinese with a Latin word */
    check_tokens("\u30ab\u3099\u3059\u304d", "\u30ac|\u3059|\u304d"); /* kana */
    check_tokens("\u0e01\u0e33\u0e25\u0e31\u0e07",
                 "\u0e01\u0e4d|\u0e32|\u0e25\u0e31|\u0e07"); /* Thai: marks stay with their letters */
    check_tokens("\ud55c\uad6d \uc0ac\ub78c", "\ud55c\uad6d|\uc0ac\ub78c"); /* Korean has spaces */
    check_tokens("\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902",
                 "\u0939\u093f\u0928\u094d\u0926\u0940|\u092e\u0947\u0902"); /* Hindi */
    check_tokens("\u0301abc", "abc");                                        /* a mark on nothing */
    check_tokens("\U0001f600 ok \U00020000x", "ok|\U00020000|x");
}

static kith_texts *make(kith_shingle_kind kind, size_t length, size_t min_words, const char *const *text,
                        size_t n)
{
    kith_texts_options options;
    kith_texts *texts;
    kith_error err;
    size_t sizes[64];
    assert_true(n <= 64);
    for (size_t i = 0; i < n; i++) sizes[i] = strlen(text[i]);
    kith_texts_options_init(&options);
    options.kind = kind;
    options.length = length;
    options.min_words = min_words;
    assert_ok(kith_texts_create(&options, &texts, &err), &err);
    assert_ok(kith_texts_add(texts, n, text, sizes, NULL, &err), &err);
    return texts;
}

static size_t size_of(const kith_texts *texts, size_t i)
{
    kith_sets sets = kith_texts_sets(texts);
    return (size_t)(sets.starts[i + 1] - sets.starts[i]);
}

static double jaccard(const kith_texts *texts, size_t a, size_t b)
{
    kith_sets sets = kith_texts_sets(texts);
    return kith_set_jaccard(sets.tokens + sets.starts[a], size_of(texts, a), sets.tokens + sets.starts[b],
                            size_of(texts, b));
}

static void test_shingles(void **state)
{
    (void)state;
    static const char *const text[] = {"a b c d",           "A, b -- C!",         "a b", "",
                                       "a b c a b c a b c", "\u6211\u7231\u4f60", "b a"};
    kith_texts *words = make(KITH_SHINGLE_WORD, 3, 0, text, 7);
    static const size_t of_words[] = {2, 1, 1, 0, 3, 1, 1};
    for (size_t i = 0; i < 7; i++) assert_int_equal(size_of(words, i), of_words[i]);
    assert_true(jaccard(words, 0, 1) == 0.5);
    assert_true(jaccard(words, 1, 4) == 1.0 / 3);
    assert_true(jaccard(words, 2, 6) == 0); /* the order counts */
    assert_int_equal(kith_texts_counted(words), 6);
    kith_texts_free(words);
    kith_texts *few = make(KITH_SHINGLE_WORD, 1, 3, text, 7);
    static const size_t of_three[] = {4, 3, 0, 0, 3, 3, 0};
    for (size_t i = 0; i < 7; i++) assert_int_equal(size_of(few, i), of_three[i]);
    kith_texts_free(few);
    /* Characters: "a b c d" is 7 with its spaces. */
    kith_texts *characters = make(KITH_SHINGLE_CHAR, 2, 0, text, 7);
    static const size_t of_characters[] = {6, 4, 2, 0, 6, 2, 2};
    for (size_t i = 0; i < 7; i++) assert_int_equal(size_of(characters, i), of_characters[i]);
    assert_true(jaccard(characters, 0, 1) == 4.0 / 6);
    kith_texts_free(characters);
}

/* Random documents, every fourth with a copy that some words are changed in, every tenth with an exact one. */
static char **documents(size_t n, uint64_t seed)
{
    char **text = malloc(n * sizeof *text);
    ki_rng rng;
    assert_non_null(text);
    ki_rng_init(&rng, seed, 0);
    for (size_t i = 0; i < n; i++) {
        uint32_t words[80];
        size_t used = 0;
        text[i] = malloc(1000);
        assert_non_null(text[i]);
        if (i % 10 == 9) {
            memcpy(text[i], text[i - 3], 1000);
            continue;
        }
        ki_rng own;
        ki_rng_init(&own, seed, 1 + (i % 4 == 3 ? i - 1 : i));
        for (size_t w = 0; w < 80; w++) {
            words[w] = (uint32_t)ki_rng_below(&own, 5000);
            if (i % 4 == 3 && ki_rng_below(&rng, 20 + i % 40) == 0)
                words[w] = (uint32_t)ki_rng_below(&rng, 5000);
            used += (size_t)snprintf(text[i] + used, 1000 - used, "%s%X", w ? " " : "", words[w]);
        }
    }
    return text;
}

static void test_pairs(void **state)
{
    (void)state;
    enum { N = 1000 };
    char **text = documents(N, test_seed());
    size_t sizes[N];
    for (size_t i = 0; i < N; i++) sizes[i] = strlen(text[i]);
    kith_error err;
    kith_run run;
    kith_run_init(&run);
    assert_ok(kith_pool_create(2, NULL, &run.pool, &err), &err);
    kith_texts *texts, *again;
    assert_ok(kith_texts_create(NULL, &texts, &err), &err);
    assert_ok(kith_texts_create(NULL, &again, &err), &err);
    assert_ok(kith_texts_add(texts, N, (const char *const *)text, sizes, &run, &err), &err);
    for (size_t i = 0; i < N; i += 100)
        assert_ok(kith_texts_add(again, 100, (const char *const *)text + i, sizes + i, NULL, &err), &err);
    kith_sets a = kith_texts_sets(texts), b = kith_texts_sets(again);
    assert_memory_equal(a.starts, b.starts, (N + 1) * sizeof *a.starts);
    assert_memory_equal(a.tokens, b.tokens, a.starts[N] * sizeof *a.tokens);
    kith_texts_pairs_options options;
    kith_texts_pairs_options_init(&options);
    options.method = KITH_TEXTS_EXACT;
    kith_pairs exact, minhash, simhash, fewer;
    assert_ok(kith_texts_pairs(texts, &options, &run, &exact, &err), &err);
    size_t at = 0;
    for (size_t i = 0; i < N; i++)
        for (size_t k = i + 1; k < N; k++) {
            double similarity = jaccard(texts, i, k);
            if (similarity < 0.5) continue;
            assert_true(at < exact.n && exact.items[at].a == i && exact.items[at].b == k);
            assert_true(exact.items[at].similarity == similarity);
            at++;
        }
    assert_int_equal(at, exact.n);
    assert_true(at > 200);
    options.method = KITH_TEXTS_MINHASH;
    assert_ok(kith_texts_pairs(texts, &options, &run, &minhash, &err), &err);
    options.method = KITH_TEXTS_SIMHASH;
    options.distance = 10;
    assert_ok(kith_texts_pairs(texts, &options, NULL, &simhash, &err), &err);
    print_message("[   INFO ] exact %zu pairs, MinHash %zu, SimHash %zu\n", exact.n, minhash.n, simhash.n);
    assert_true(minhash.n >= exact.n * 98 / 100 && simhash.n >= exact.n / 4);
    const kith_pairs *found[] = {&minhash, &simhash};
    for (size_t m = 0; m < 2; m++) /* each is one of the exact ones */
        for (size_t p = 0, e = 0; p < found[m]->n; p++) {
            while (e < exact.n && memcmp(&exact.items[e], &found[m]->items[p], sizeof(kith_pair))) e++;
            assert_true(e < exact.n);
        }
    /* Without all copies the groups are the same. */
    uint32_t group[N], same[N];
    options.method = KITH_TEXTS_EXACT;
    options.all_copies = 0;
    assert_ok(kith_texts_pairs(texts, &options, &run, &fewer, &err), &err);
    assert_true(fewer.n < exact.n);
    kith_pairs_groups(&exact, N, group);
    kith_pairs_groups(&fewer, N, same);
    assert_memory_equal(group, same, sizeof group);
    kith_pairs_clear(&exact);
    kith_pairs_clear(&minhash);
    kith_pairs_clear(&simhash);
    kith_pairs_clear(&fewer);
    kith_texts_free(texts);
    kith_texts_free(again);
    kith_pool_free(run.pool);
    for (size_t i = 0; i < N; i++) free(text[i]);
    free(text);
}

static void test_chinese(void **state)
{
    (void)state;
    static const char *const text[] = {
        "\u5317\u4eac\u5927\u5b66\u662f\u4e2d\u56fd\u8457\u540d\u7684\u9ad8\u7b49\u5b66\u5e9c\u3002",
        "\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff0c\u6211\u4eec\u53bb\u516c\u56ed\u6563\u6b65\u5427\u3002",
        "\u5317\u4eac\u5927\u5b66\u662f\u4e2d\u56fd\u8457\u540d\u7684\u9ad8\u7b49\u5b66\u6821\u3002"};
    kith_texts *texts = make(KITH_SHINGLE_WORD, 3, 5, text, 3);
    kith_pairs pairs;
    kith_error err;
    assert_ok(kith_texts_pairs(texts, NULL, NULL, &pairs, &err), &err);
    assert_int_equal(pairs.n, 1);
    assert_true(pairs.items[0].a == 0 && pairs.items[0].b == 2);
    assert_true(pairs.items[0].similarity == 11.0 / 13); /* of 12 shingles each one differs */
    kith_pairs_clear(&pairs);
    kith_texts_free(texts);
}

static void test_refusals(void **state)
{
    (void)state;
    kith_texts_options options;
    kith_texts_pairs_options how;
    kith_texts *texts;
    kith_pairs pairs;
    kith_error err;
    kith_texts_options_init(&options);
    options.length = 0;
    assert_int_equal(kith_texts_create(&options, &texts, &err), KITH_INVALID);
    options.length = KITH_SHINGLE_MAX + 1;
    assert_int_equal(kith_texts_create(&options, &texts, &err), KITH_INVALID);
    assert_null(texts);
    static const char *const text[] = {"a b c"};
    texts = make(KITH_SHINGLE_WORD, 3, 0, text, 1);
    static const double bad[] = {0, -1, 1.5, NAN};
    for (size_t i = 0; i < 4; i++) {
        kith_texts_pairs_options_init(&how);
        how.threshold = bad[i];
        assert_int_equal(kith_texts_pairs(texts, &how, NULL, &pairs, &err), KITH_INVALID);
    }
    kith_texts_pairs_options_init(&how);
    how.distance = 64;
    assert_int_equal(kith_texts_pairs(texts, &how, NULL, &pairs, &err), KITH_INVALID);
    kith_texts_pairs_options_init(&how);
    how.hashes = 0;
    assert_int_equal(kith_texts_pairs(texts, &how, NULL, &pairs, &err), KITH_INVALID);
    kith_texts_free(texts);
    assert_ok(kith_texts_create(NULL, &texts, &err), &err);
    assert_ok(kith_texts_pairs(texts, NULL, NULL, &pairs, &err), &err);
    assert_int_equal(pairs.n, 0);
    kith_texts_free(texts);
}

/* Each allocation fails in turn. */
static void test_no_memory(void **state)
{
    (void)state;
    static const char *const text[] = {"one two three four", "one two three four", "one two three five",
                                       "\u6211\u7231\u4f60\u5417"};
    size_t sizes[4];
    for (size_t i = 0; i < 4; i++) sizes[i] = strlen(text[i]);
    for (int method = 0; method <= KITH_TEXTS_EXACT; method++) {
        kith_status status = KITH_NOMEM;
        for (size_t fail = 0; status != KITH_OK; fail++) {
            test_allocator allocator;
            test_allocator_init(&allocator, fail, 0);
            kith_texts_options options;
            kith_texts_options_init(&options);
            options.allocator = &allocator.base;
            kith_texts_pairs_options how;
            kith_texts_pairs_options_init(&how);
            how.method = (kith_texts_method)method;
            how.threshold = 0.3;
            kith_texts *texts;
            kith_pairs pairs = {0};
            kith_error err;
            status = kith_texts_create(&options, &texts, &err);
            if (status == KITH_OK) status = kith_texts_add(texts, 4, text, sizes, NULL, &err);
            if (status == KITH_OK) status = kith_texts_pairs(texts, &how, NULL, &pairs, &err);
            if (status != KITH_OK) assert_int_equal(status, KITH_NOMEM);
            if (status == KITH_OK && method != KITH_TEXTS_SIMHASH) assert_int_equal(pairs.n, 3);
            kith_pairs_clear(&pairs);
            kith_texts_free(texts);
            assert_int_equal(allocator.live, 0);
            assert_true(fail < 200);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_normalise), cmocka_unit_test(test_long),      cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_shingles),  cmocka_unit_test(test_pairs),     cmocka_unit_test(test_chinese),
        cmocka_unit_test(test_refusals),  cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
