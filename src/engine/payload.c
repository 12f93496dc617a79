/* payload.c - JSON payloads: parsed strictly, kept in one canonical form.
 *
 * The canonical form is what the content hash is taken of, so it must not depend on the version of jansson, on the
 * locale or on the order in which a caller names things: names are sorted by their bytes, nothing is spaced,
 * strings carry only the escapes that JSON demands, integers are decimal, reals have the fewest of 15, 16 or 17
 * significant digits that read back as the same double, with a point or an exponent. */
#include "engine/expr.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 64 /* R12 of the limits in docs/collection-format.md; jansson's own bound is 2,048 */

typedef struct writer {
    ki_buffer *out;
    const kith_allocator *allocator;
    kith_error *err;
} writer;

/* Bound the depth before the recursive parser sees the text. Brackets inside strings do not count. */
static kith_status check_depth(const char *text, size_t size, kith_error *err)
{
    size_t depth = 0;
    int quoted = 0;
    for (size_t i = 0; i < size; i++) {
        char b = text[i];
        if (quoted) {
            if (b == '\\') i++;
            if (b == '"') quoted = 0;
        } else if (b == '"') {
            quoted = 1;
        } else if (b == '{' || b == '[') {
            if (++depth > MAX_DEPTH)
                return ki_fail(err, KITH_INVALID, "payload is nested deeper than %d levels at byte %zu",
                               MAX_DEPTH, i);
        } else if ((b == '}' || b == ']') && depth > 0) {
            depth--;
        }
    }
    return KITH_OK;
}

static kith_status put(writer *w, const char *text, size_t size)
{
    return ki_buffer_append(w->out, text, size, w->allocator, w->err);
}

kith_status ki_json_escape(const char *text, size_t size, ki_buffer *out, const kith_allocator *allocator,
                           kith_error *err)
{
    size_t start = 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char b = (unsigned char)text[i];
        if (b >= 0x20 && b != '"' && b != '\\') continue;
        KI_TRY(ki_buffer_append(out, text + start, i - start, allocator, err));
        start = i + 1;
        static const char letters[] = "btnvfr"; /* of 8..13; there is no \v in JSON */
        char escape[8];
        int length = 2;
        if (b == '"' || b == '\\')
            snprintf(escape, sizeof escape, "\\%c", b);
        else if (b >= 8 && b <= 13 && b != 11)
            snprintf(escape, sizeof escape, "\\%c", letters[b - 8]);
        else
            length = snprintf(escape, sizeof escape, "\\u%04x", b);
        KI_TRY(ki_buffer_append(out, escape, (size_t)length, allocator, err));
    }
    return ki_buffer_append(out, text + start, size - start, allocator, err);
}

static kith_status write_string(writer *w, const char *text, size_t size)
{
    KI_TRY(put(w, "\"", 1));
    KI_TRY(ki_json_escape(text, size, w->out, w->allocator, w->err));
    return put(w, "\"", 1);
}

static kith_status write_real(writer *w, double value)
{
    char text[64], clean[64];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    size_t n = 0;
    int is_real = 0;
    for (const char *p = text; *p; p++) {
        if ((*p >= '0' && *p <= '9') || *p == '-' || *p == '+') {
            clean[n++] = *p;
        } else { /* 'e', or the decimal point of whatever locale the program has set */
            if (*p == 'e')
                clean[n++] = 'e';
            else if (!is_real)
                clean[n++] = '.';
            is_real = 1;
        }
    }
    KI_TRY(put(w, clean, n));
    return is_real ? KITH_OK : put(w, ".0", 2);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static kith_status write_value(writer *w, const json_t *value);

static kith_status write_object(writer *w, const json_t *object)
{
    size_t n = json_object_size(object), i = 0;
    const char **names = ki_alloc(w->allocator, n, sizeof *names);
    if (!names) return ki_fail_nomem(w->err, n * sizeof *names);
    for (void *at = json_object_iter((json_t *)object); at && i < n;
         at = json_object_iter_next((json_t *)object, at))
        names[i++] = json_object_iter_key(at);
    qsort(names, i, sizeof *names, compare_names);
    kith_status status = put(w, "{", 1);
    for (size_t k = 0; k < i && status == KITH_OK; k++) {
        if (k > 0) status = put(w, ",", 1);
        if (status == KITH_OK) status = write_string(w, names[k], strlen(names[k]));
        if (status == KITH_OK) status = put(w, ":", 1);
        if (status == KITH_OK) status = write_value(w, json_object_get(object, names[k]));
    }
    ki_free(w->allocator, names);
    return status == KITH_OK ? put(w, "}", 1) : status;
}

static kith_status write_array(writer *w, const json_t *array)
{
    KI_TRY(put(w, "[", 1));
    for (size_t i = 0; i < json_array_size(array); i++) {
        if (i > 0) KI_TRY(put(w, ",", 1));
        KI_TRY(write_value(w, json_array_get(array, i)));
    }
    return put(w, "]", 1);
}

static kith_status write_value(writer *w, const json_t *value)
{
    char number[32];
    switch (json_typeof(value)) {
    case JSON_OBJECT: return write_object(w, value);
    case JSON_ARRAY: return write_array(w, value);
    case JSON_STRING: return write_string(w, json_string_value(value), json_string_length(value));
    case JSON_REAL: return write_real(w, json_real_value(value));
    case JSON_INTEGER: {
        int length = snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
        return put(w, number, (size_t)length);
    }
    case JSON_TRUE: return put(w, "true", 4);
    case JSON_FALSE: return put(w, "false", 5);
    case JSON_NULL: return put(w, "null", 4);
    }
    return ki_fail(w->err, KITH_INTERNAL, "payload holds a value of an unknown kind");
}

/* Parse, telling bad text and missing memory apart. jansson does so in most places, but where its lexer cannot grow a
 * buffer it complains of the text: so a failure must repeat itself while memory can be had. */
kith_status ki_json_parse(const char *what, const char *text, size_t size, json_t **value, kith_error *err)
{
    json_error_t fault;
    for (int tries = 0; tries < 2; tries++)
        if ((*value = json_loadb(text, size, JSON_REJECT_DUPLICATES, &fault)) != NULL) return KITH_OK;
    json_t *probe = json_string("");
    if (!probe || json_error_code(&fault) == json_error_out_of_memory || fault.text[0] == 0) {
        json_decref(probe);
        return ki_fail_nomem(err, size);
    }
    json_decref(probe);
    return ki_fail(err, KITH_INVALID, "%s is not valid JSON at byte %d: %.120s", what, fault.position,
                   fault.text);
}

char *ki_json_dump(const json_t *value, size_t flags, const kith_allocator *allocator)
{
    size_t size = json_dumpb(value, NULL, 0, flags);
    char *text = size > 0 ? ki_alloc(allocator, size + 1, 1) : NULL;
    if (text && json_dumpb(value, text, size, flags) == size) {
        text[size] = 0;
        return text;
    }
    ki_free(allocator, text);
    return NULL;
}

/* ---- What is canonical already ---- */

/* Most payloads are: what was exported, what programs write compactly, and all that is read back. To see that costs a tenth
 * of parsing them. These functions return the place behind what they saw, or NULL where they are not sure: reals, \u and
 * names with escapes are left to the parser. */

const char *ki_utf8_character(const char *at, const char *end)
{
    const unsigned char *b = (const unsigned char *)at;
    size_t n = b[0] < 0x80 ? 1 : b[0] < 0xc2 ? 0 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : b[0] < 0xf5 ? 4 : 0;
    if (n == 0 || (size_t)(end - at) < n) return NULL;
    for (size_t i = 1; i < n; i++)
        if ((b[i] & 0xc0) != 0x80) return NULL;
    int wrong = (b[0] == 0xe0 && b[1] < 0xa0) || (b[0] == 0xed && b[1] > 0x9f) || /* too long, surrogates */
                (b[0] == 0xf0 && b[1] < 0x90) || (b[0] == 0xf4 && b[1] > 0x8f);   /* too long, too large */
    return wrong ? NULL : at + n;
}

/* escapes: whether there may be any. */
static const char *canonical_string(const char *at, const char *end, int escapes)
{
    if (at >= end || *at != '"') return NULL;
    for (at++; at < end && *at != '"';) {
        unsigned char b = (unsigned char)*at;
        if (b < 0x20) return NULL;
        if (b >= 0x80) {
            at = ki_utf8_character(at, end);
            if (!at) return NULL;
            continue;
        }
        if (b == '\\') {
            if (!escapes || ++at >= end || *at == 0 || !strchr("\"\\bfnrt", *at)) return NULL;
        }
        at++;
    }
    return at < end ? at + 1 : NULL;
}

/* Integers of up to 18 digits. */
static const char *canonical_integer(const char *at, const char *end)
{
    int negative = *at == '-';
    const char *digits = at + negative;
    for (at = digits; at < end && *at >= '0' && *at <= '9';) at++;
    if (at == digits || at - digits > 18 || (*digits == '0' && (at - digits > 1 || negative))) return NULL;
    return at < end && (*at == ',' || *at == '}' || *at == ']') ? at : NULL;
}

/* Whether name a[na] comes before b[nb], as strcmp sees them. */
static int is_before(const char *a, size_t na, const char *b, size_t nb)
{
    int order = memcmp(a, b, na < nb ? na : nb);
    return order < 0 || (order == 0 && na < nb);
}

static const char *canonical_value(const char *at, const char *end, size_t depth);

static const char *canonical_members(const char *at, const char *end, size_t depth)
{
    const char *last = NULL;
    size_t last_size = 0;
    if (at < end && *at == '}') return at + 1;
    for (;;) {
        const char *behind = canonical_string(at, end, 0);
        if (!behind || behind >= end || *behind != ':') return NULL;
        const char *name = at + 1;
        size_t size = (size_t)(behind - at) - 2;
        if (last && !is_before(last, last_size, name, size)) return NULL;
        last = name;
        last_size = size;
        at = canonical_value(behind + 1, end, depth);
        if (!at || at >= end) return NULL;
        if (*at == '}') return at + 1;
        if (*at++ != ',') return NULL;
    }
}

static const char *canonical_elements(const char *at, const char *end, size_t depth)
{
    if (at < end && *at == ']') return at + 1;
    for (;;) {
        at = canonical_value(at, end, depth);
        if (!at || at >= end) return NULL;
        if (*at == ']') return at + 1;
        if (*at++ != ',') return NULL;
    }
}

static const char *canonical_word(const char *at, const char *end, const char *word)
{
    size_t size = strlen(word);
    return (size_t)(end - at) >= size && memcmp(at, word, size) == 0 ? at + size : NULL;
}

static const char *canonical_value(const char *at, const char *end, size_t depth)
{
    if (at >= end) return NULL;
    switch (*at) {
    case '"': return canonical_string(at, end, 1);
    case '{': return depth < MAX_DEPTH ? canonical_members(at + 1, end, depth + 1) : NULL;
    case '[': return depth < MAX_DEPTH ? canonical_elements(at + 1, end, depth + 1) : NULL;
    case 't': return canonical_word(at, end, "true");
    case 'f': return canonical_word(at, end, "false");
    case 'n': return canonical_word(at, end, "null");
    default: return canonical_integer(at, end);
    }
}

static int is_canonical(const char *text, size_t size)
{
    return size > 0 && text[0] == '{' && canonical_value(text, text + size, 0) == text + size;
}

kith_status ki_payload_canonical(const char *text, size_t size, ki_buffer *out,
                                 const kith_allocator *allocator, kith_error *err)
{
    if (size > KITH_COLLECTION_MAX_PAYLOAD)
        return ki_fail(err, KITH_INVALID, "payload is %zu bytes long, allowed 0..%u", size,
                       KITH_COLLECTION_MAX_PAYLOAD);
    out->size = 0;
    if (is_canonical(text, size)) return ki_buffer_append(out, text, size, allocator, err);
    KI_TRY(check_depth(text, size, err));
    json_t *value = NULL;
    KI_TRY(ki_json_parse("payload", text, size, &value, err));
    writer w = {.out = out, .allocator = allocator, .err = err};
    kith_status status = json_is_object(value)
                             ? write_object(&w, value)
                             : ki_fail(err, KITH_INVALID, "payload is a JSON array, it must be an object");
    json_decref(value);
    /* "1e5" grows to "100000.0": what is kept must fit the bound that a reader checks. */
    if (status == KITH_OK && out->size > KITH_COLLECTION_MAX_PAYLOAD)
        status = ki_fail(err, KITH_INVALID, "payload is %zu bytes long in canonical form, allowed 0..%u",
                         out->size, KITH_COLLECTION_MAX_PAYLOAD);
    return status;
}

/* ---- Merging ---- */

/* Merge the members of `patch` into those of `target`, RFC 7396 section 2. 0: no memory. Values are shared between the
 * two, which is safe: a shared one is not an object, and only objects are changed. SQLite's json_patch edits a text in
 * place, in time that grows with the square of the number of members: 25 s for 60,000. */
static int merge_object(json_t *target, json_t *patch)
{
    for (void *at = json_object_iter(patch); at; at = json_object_iter_next(patch, at)) {
        const char *name = json_object_iter_key(at);
        json_t *value = json_object_iter_value(at);
        if (json_is_null(value)) {
            (void)json_object_del(target, name); /* it need not be there */
        } else if (!json_is_object(value)) {
            if (json_object_set_nocheck(target, name, value) != 0) return 0;
        } else {
            json_t *into = json_object_get(target, name);
            if (!json_is_object(into)) {
                if (json_object_set_new_nocheck(target, name, json_object()) != 0) return 0;
                into = json_object_get(target, name);
            }
            if (!merge_object(into, value)) return 0;
        }
    }
    return 1;
}

kith_status ki_payload_merge(const char *text, size_t size, const char *patch, size_t patch_size,
                             ki_buffer *out, const kith_allocator *allocator, kith_error *err)
{
    json_t *target = NULL, *changes = NULL;
    out->size = 0;
    KI_TRY(check_depth(text, size, err)); /* a damaged file's */
    kith_status status = ki_json_parse("payload", text, size, &target, err);
    if (status == KITH_OK) status = ki_json_parse("payload", patch, patch_size, &changes, err);
    if (status == KITH_OK && (!json_is_object(target) || !json_is_object(changes)))
        status = ki_fail(err, KITH_INVALID, "payload is a JSON array, it must be an object");
    if (status == KITH_OK && !merge_object(target, changes)) status = ki_fail_nomem(err, size + patch_size);
    writer w = {.out = out, .allocator = allocator, .err = err};
    if (status == KITH_OK) status = write_object(&w, target);
    json_decref(changes);
    json_decref(target);
    return status;
}
