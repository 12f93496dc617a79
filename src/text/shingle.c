/* shingle.c - tokens of a normalised text, and hashes of runs of them. */
#include "text/shingle.h"

#include "base/checksum.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/rng.h"
#include "text/characters.h"

/* Behind the marks that follow. */
static size_t skip_marks(const char *text, size_t size, size_t at)
{
    size_t length;
    while (at < size && ki_character_at(text + at, size - at, &length) == KI_MARK) at += length;
    return at;
}

int kith_text_next_token(const char *normal, size_t size, size_t *at, kith_text_token *token)
{
    size_t from = *at, length = 0;
    ki_character kind = KI_SEPARATOR;
    for (; from < size; from += length) {
        kind = ki_character_at(normal + from, size - from, &length);
        if (kind == KI_LETTER || kind == KI_SYLLABLE) break;
    }
    if (from >= size) {
        *at = size;
        return 0;
    }
    size_t to = from + length;
    if (kind == KI_SYLLABLE) {
        to = skip_marks(normal, size, to);
    } else {
        for (; to < size; to += length) {
            ki_character next = ki_character_at(normal + to, size - to, &length);
            if (next != KI_LETTER && next != KI_MARK) break;
        }
    }
    *token = (kith_text_token){from, to - from};
    *at = to;
    return 1;
}

static kith_status put(ki_shingler *s, size_t n, uint64_t hash, kith_error *err)
{
    if (n == s->room) {
        size_t room = ki_grown(s->room, n + 256);
        uint64_t *grown = ki_realloc(s->normaliser.allocator, s->items, n, room, sizeof *grown);
        if (!grown) return ki_fail_nomem(err, room * sizeof *grown);
        s->items = grown;
        s->room = room;
    }
    s->items[n] = hash;
    return KITH_OK;
}

static kith_status hash_words(ki_shingler *s, size_t *n, kith_error *err)
{
    const char *text = s->normaliser.out;
    size_t at = 0;
    kith_text_token token;
    *n = 0;
    while (kith_text_next_token(text, s->normaliser.n, &at, &token)) {
        KI_TRY(put(s, *n, ki_checksum(text + token.start, token.size), err));
        ++*n;
    }
    return KITH_OK;
}

/* The characters of a text that has enough words, with one space for what separates words. */
static kith_status hash_characters(ki_shingler *s, size_t *n, kith_error *err)
{
    const char *text = s->normaliser.out;
    size_t size = s->normaliser.n, at = 0, length, words = 0;
    kith_text_token token;
    while (words < s->min_words && kith_text_next_token(text, size, &at, &token)) words++;
    *n = 0;
    if (words < s->min_words) return KITH_OK;
    int space = 0;
    for (at = 0; at < size; at += length) {
        ki_character kind = ki_character_at(text + at, size - at, &length);
        if (kind == KI_SEPARATOR || kind == KI_MARK) { /* a mark here follows no letter */
            space = *n > 0;
            continue;
        }
        if (space) KI_TRY(put(s, (*n)++, ki_checksum(" ", 1), err));
        space = 0;
        length = skip_marks(text, size, at + length) - at;
        KI_TRY(put(s, (*n)++, ki_checksum(text + at, length), err));
    }
    return KITH_OK;
}

kith_status ki_shingle(ki_shingler *s, const char *text, size_t size, size_t *n, kith_error *err)
{
    *n = 0;
    size_t tokens = 0;
    KI_TRY(ki_normalise(&s->normaliser, text, size, err));
    KI_TRY(s->kind == KITH_SHINGLE_CHAR ? hash_characters(s, &tokens, err) : hash_words(s, &tokens, err));
    if (tokens == 0 || (s->kind == KITH_SHINGLE_WORD && tokens < s->min_words)) return KITH_OK;
    size_t length = tokens < s->length ? tokens : s->length, count = tokens - length + 1;
    for (size_t i = 0; i < count; i++) { /* item i is not needed any more by those after */
        uint64_t hash = length;
        for (size_t t = 0; t < length; t++) hash = ki_mix64(hash + s->items[i + t]) + s->items[i + t];
        s->items[i] = hash;
    }
    *n = kith_set_normalise(s->items, count);
    return KITH_OK;
}

void ki_shingler_clear(ki_shingler *shingler)
{
    ki_free(shingler->normaliser.allocator, shingler->items);
    ki_normaliser_clear(&shingler->normaliser);
}
