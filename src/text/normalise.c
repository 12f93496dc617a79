/* normalise.c - NFKC with case folding (Unicode's toNFKC_Casefold: default ignorable characters go, too).
 *
 * ASCII is lower-cased in place of all that. What is not goes through utf8proc piece by piece: a piece begins at an ASCII
 * character that a mark may follow, ends before the next, and is cut where it gets long, before a character that
 * nothing composes with. Pieces bound the memory, and the time: putting n marks in a row in their canonical order takes
 * utf8proc n^2 steps.
 */
#include "text/normalise.h"

#include "base/error.h"
#include "base/memory.h"

#include <string.h>
#include <utf8proc.h>

#define PIECE_POINTS 1024     /* characters after which a piece is cut at the next good place */
#define PIECE_MAX_POINTS 4096 /* and at any place: only hostile text has no good one */
#define OPTIONS (UTF8PROC_STABLE | UTF8PROC_COMPAT | UTF8PROC_COMPOSE | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE)

void ki_normaliser_clear(ki_normaliser *normaliser)
{
    ki_free(normaliser->allocator, normaliser->out);
    ki_free(normaliser->allocator, normaliser->piece);
    ki_free(normaliser->allocator, normaliser->points);
    *normaliser = (ki_normaliser){.allocator = normaliser->allocator};
}

static kith_status reserve(ki_normaliser *z, size_t more, kith_error *err)
{
    size_t need = z->n + more + 1;
    if (need <= z->room) return KITH_OK;
    size_t room = ki_grown(z->room, need);
    char *grown = ki_realloc(z->allocator, z->out, z->room, room, 1);
    if (!grown) return ki_fail_nomem(err, room);
    z->out = grown;
    z->room = room;
    return KITH_OK;
}

/* Whether a piece may end before this character: a starter that composes with nothing before it. Hangul's vowels and
 * final consonants, also in half width, and the half-width voicing marks of kana do. */
static int begins_anew(int32_t c)
{
    const utf8proc_property_t *property = utf8proc_get_property(c);
    if (property->combining_class != 0 || (c >= 0x1100 && c <= 0x11ff) || (c >= 0xd7b0 && c <= 0xd7ff) ||
        (c >= 0xff9e && c <= 0xffdf))
        return 0;
    return property->category != UTF8PROC_CATEGORY_MN && property->category != UTF8PROC_CATEGORY_MC &&
           property->category != UTF8PROC_CATEGORY_ME && property->category != UTF8PROC_CATEGORY_CF;
}

/* Copy a piece that begins at text[0] as valid UTF-8; returns how many bytes of text it is. */
static size_t take_piece(ki_normaliser *z, const char *text, size_t size, size_t *piece_size)
{
    size_t at = 0, to = 0, points = 0;
    while (at < size && points < PIECE_MAX_POINTS) {
        if (at > 0 && (unsigned char)text[at] < 0x80) break;
        utf8proc_int32_t c;
        utf8proc_ssize_t bytes =
            utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(size - at), &c);
        if (bytes > 0 && points >= PIECE_POINTS && begins_anew(c)) break;
        if (bytes > 0) {
            memcpy(z->piece + to, text + at, (size_t)bytes);
            to += (size_t)bytes;
            at += (size_t)bytes;
        } else {
            memcpy(z->piece + to, "\xef\xbf\xbd", 3);
            to += 3;
            at++;
        }
        points++;
    }
    *piece_size = to;
    return at;
}

static kith_status normalise_piece(ki_normaliser *z, size_t size, kith_error *err)
{
    utf8proc_ssize_t n;
    while ((n = utf8proc_decompose((const utf8proc_uint8_t *)z->piece, (utf8proc_ssize_t)size, z->points,
                                   (utf8proc_ssize_t)z->points_room, OPTIONS)) >
           (utf8proc_ssize_t)z->points_room) {
        int32_t *grown = ki_realloc(z->allocator, z->points, 0, (size_t)n + 1, sizeof *grown);
        if (!grown) return ki_fail_nomem(err, (size_t)n * sizeof *grown);
        z->points = grown;
        z->points_room = (size_t)n;
    }
    if (n >= 0) n = utf8proc_normalize_utf32(z->points, n, OPTIONS);
    if (n < 0) return ki_fail(err, KITH_INTERNAL, "utf8proc: %s", utf8proc_errmsg(n));
    KI_TRY(reserve(z, 4 * (size_t)n, err));
    for (utf8proc_ssize_t i = 0; i < n; i++)
        z->n += (size_t)utf8proc_encode_char(z->points[i], (utf8proc_uint8_t *)z->out + z->n);
    return KITH_OK;
}

kith_status ki_normalise(ki_normaliser *z, const char *text, size_t size, kith_error *err)
{
    if (size > KI_TEXT_MAX_BYTES)
        return ki_fail(err, KITH_INVALID, "a text of %zu bytes, allowed are %zu", size, KI_TEXT_MAX_BYTES);
    z->n = 0;
    KI_TRY(reserve(z, size, err));
    for (size_t at = 0; at < size;) {
        size_t from = at;
        while (at < size && (unsigned char)text[at] < 0x80) at++;
        size_t plain = at < size && at > from ? at - 1 : at; /* the last may get a mark */
        KI_TRY(reserve(z, plain - from, err));
        for (size_t i = from; i < plain; i++) {
            char c = text[i];
            z->out[z->n++] = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
        }
        if (at == size) break;
        if (!z->piece) z->piece = ki_alloc(z->allocator, PIECE_MAX_POINTS, 4);
        if (!z->piece) return ki_fail_nomem(err, PIECE_MAX_POINTS * 4);
        size_t piece_size;
        at = plain + take_piece(z, text + plain, size - plain, &piece_size);
        KI_TRY(normalise_piece(z, piece_size, err));
    }
    z->out[z->n] = 0;
    return KITH_OK;
}

kith_status kith_text_normalise(const char *text, size_t size, const kith_allocator *allocator, char **normal,
                                size_t *normal_size, kith_error *err)
{
    if (!normal || !normal_size) return ki_fail(err, KITH_INVALID, "normal or normal_size is NULL");
    *normal = NULL;
    *normal_size = 0;
    if (!text && size) return ki_fail(err, KITH_INVALID, "text is NULL");
    ki_normaliser z = {.allocator = allocator};
    kith_status status = ki_normalise(&z, text, size, err);
    if (status == KITH_OK) {
        *normal = z.out;
        *normal_size = z.n;
        z.out = NULL;
    }
    ki_normaliser_clear(&z);
    return status;
}

void kith_text_free(const kith_allocator *allocator, void *block)
{
    ki_free(allocator, block);
}
