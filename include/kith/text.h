/* text.h - texts as sets of shingles, and which of many texts are near-duplicates.
 *
 * Normalising: Unicode NFKC with case folding (ligatures, full-width letters, accents put together from parts and
 * capitals are all one), invalid UTF-8 becomes U+FFFD.
 *
 * Tokens: a word is a run of letters, digits and the marks on them; everything else separates. Scripts that are
 * written without spaces (Han, Hiragana, Katakana, Bopomofo, Yi, Thai, Lao, Khmer, Burmese) are cut at every letter, the marks on
 * it included, so that a text of any mixture has tokens, and shingles of words are shingles of characters there.
 *
 * Shingles (A. Z. Broder, "On the resemblance and containment of documents", 1997): each run of `length` neighbouring tokens is an
 * element of the text's set, as a 64-bit hash. With KITH_SHINGLE_CHAR the run is of characters, words being joined by
 * one space. A text that has tokens, but fewer than `length`, is one shingle of all of them.
 *
 * The similarity of two texts is the Jaccard similarity of their sets (kith/sets.h).
 */
#ifndef KITH_TEXT_H
#define KITH_TEXT_H

#include <kith/sets.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- One text ---- */

/* Normalise a text.
 * In:       text[size], any bytes.
 * Out:      *normal, 0-terminated UTF-8 of *normal_size bytes, to be given back with kith_text_free and the same
 *           allocator; NULL on failure.
 * Errors:   KITH_NOMEM; KITH_INVALID for more than 2^30 bytes. */
KITH_API kith_status kith_text_normalise(const char *text, size_t size, const kith_allocator *allocator,
                                         char **normal, size_t *normal_size, kith_error *err);
KITH_API void kith_text_free(const kith_allocator *allocator, void *block);

/* A token of a normalised text: bytes `start` .. `start + size - 1`. */
typedef struct kith_text_token {
    size_t start, size;
} kith_text_token;

/* The next token at or after *at in normal[size], which kith_text_normalise made; *at moves behind it. Returns 0 when
 * there is none. */
KITH_API int kith_text_next_token(const char *normal, size_t size, size_t *at, kith_text_token *token);

typedef enum kith_shingle_kind {
    KITH_SHINGLE_WORD = 0, /* of words; of characters in scripts without spaces */
    KITH_SHINGLE_CHAR = 1  /* of characters */
} kith_shingle_kind;

#define KITH_SHINGLE_MAX 64 /* the longest shingle, in tokens */

/* ---- Many texts ---- */

typedef struct kith_texts_options {
    size_t struct_size;
    kith_shingle_kind kind;
    size_t length;    /* of a shingle, 1..KITH_SHINGLE_MAX */
    size_t min_words; /* texts of fewer tokens get the empty set and are in no pair */
    const kith_allocator *allocator;
} kith_texts_options;

static inline void kith_texts_options_init(kith_texts_options *options)
{
    options->struct_size = sizeof *options;
    options->kind = KITH_SHINGLE_WORD;
    options->length = 3;
    options->min_words = 0;
    options->allocator = NULL;
}

/* Texts, kept as their sets of shingles alone: 8 bytes a distinct shingle. */
typedef struct kith_texts kith_texts;

/* In:       options, NULL for the defaults.
 * Out:      *texts, NULL on failure.
 * Errors:   KITH_INVALID, KITH_NOMEM. */
KITH_API kith_status kith_texts_create(const kith_texts_options *options, kith_texts **texts,
                                       kith_error *err);
KITH_API void kith_texts_free(kith_texts *texts); /* NULL is allowed */

/* Append texts: their numbers go on from the last.
 * In:       text[n], size[n].
 * Errors:   KITH_NOMEM, KITH_CANCELLED, KITH_INVALID for a text of more than 2^30 bytes; no text is added then.
 * Threads:  run's pool; the result is the same with any number. Stage "shingling", counted in texts.
 * Memory:   the texts are not kept. A batch of some thousand keeps all threads busy. */
KITH_API kith_status kith_texts_add(kith_texts *texts, size_t n, const char *const *text, const size_t *size,
                                    const kith_run *run, kith_error *err);

/* Their sets, valid until the next add or the end of texts. */
KITH_API kith_sets kith_texts_sets(const kith_texts *texts);

/* How many texts have a set, that is min_words and a token. */
KITH_API size_t kith_texts_counted(const kith_texts *texts);

typedef enum kith_texts_method {
    KITH_TEXTS_MINHASH = 0, /* bands of MinHash signatures propose pairs, the sets decide (kith/minhash.h) */
    KITH_TEXTS_SIMHASH =
        1, /* fingerprints within `distance` bits propose pairs, the sets decide (kith/simhash.h) */
    KITH_TEXTS_EXACT = 2 /* every pair (kith_sets_join) */
} kith_texts_method;

typedef struct kith_texts_pairs_options {
    size_t struct_size;
    kith_texts_method method;
    double threshold; /* the least Jaccard similarity of a pair, (0, 1] */
    size_t hashes;    /* MinHash: values of a signature, 1..KITH_MINHASH_MAX_HASHES */
    double recall;    /* MinHash: of pairs just at the threshold, (0, 1); above it more are found */
    size_t bits;      /* SimHash: 64 or 128 */
    size_t distance;  /* SimHash: bits that may differ, 0..bits - 1 */
    uint64_t seed;    /* MinHash: another one misses other pairs */
    /* Texts with the very same set are compared once for all of them. Non-zero: every pair of such is given, and each with
     * all that are like them; 0: a copy is paired with the first of its kind only, and only that one with others,
     * which is enough for kith_pairs_groups and stays small where thousands are the same. */
    int all_copies;
    size_t
        max_pairs; /* more of them (16 bytes each) are refused before they are made; 0: as many as memory holds */
} kith_texts_pairs_options;

static inline void kith_texts_pairs_options_init(kith_texts_pairs_options *options)
{
    options->struct_size = sizeof *options;
    options->method = KITH_TEXTS_MINHASH;
    options->threshold = 0.5;
    options->hashes = 128;
    options->recall = 0.99;
    options->bits = 64;
    options->distance = 3;
    options->seed = 1;
    options->all_copies = 1;
    options->max_pairs = (size_t)1 << 27;
}

/* The pairs of near-duplicates. Every pair is verified: its similarity is the exact Jaccard similarity of the shingles,
 * at least the threshold, whatever method proposed it.
 * In:       options, NULL for the defaults.
 * Out:      *pairs; zeroed on failure.
 * Errors:   KITH_INVALID, KITH_NOMEM (also for more than max_pairs), KITH_CANCELLED.
 * Threads:  run's pool; the result is the same with any number. Stages "signing", "comparing".
 * Memory:   MinHash: 4 hashes bytes a distinct set; SimHash: 8 to 16 bytes and the index. */
KITH_API kith_status kith_texts_pairs(const kith_texts *texts, const kith_texts_pairs_options *options,
                                      const kith_run *run, kith_pairs *pairs, kith_error *err);

#ifdef __cplusplus
}
#endif
#endif
