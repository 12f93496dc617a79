/* payload_sql.c - functions over canonical payloads, for the SQL that filters become.
 *
 *     kith_get(payload, path, kinds)        the value, NULL when missing, null or of no kind wanted
 *     kith_contains(payload, path, value)   whether an array has an element; NULL when missing or null
 *     kith_length(payload, path)            of an array; NULL for all else
 *     kith_like(text, pattern)              % any characters, _ one, \ takes the next one as it is
 *     kith_mod(a, b)                        of two integers; NULL for all else and for b = 0
 *     kith_field(payload, path, kind)       the value as a field of this kind is indexed; NULL when missing or not of it
 *     kith_fits(payload, path, kind)        0 when there is a value that is not of this kind
 *     kith_distance(point, lat, lon)        metres; point is what kith_field gives
 *     kith_within(point, south, west, north, east)
 *
 * A payload is read in place, step by step along the path, and nothing of it is copied but a string that has escapes:
 * ten times faster than parsing it. Payloads come from a file that an enemy may have made, so every byte is looked at
 * within bounds, nothing recurses, and what is no canonical JSON on the way is an error, not a guess. */
#include "engine/expr.h"

#include "engine/fields.h"
#include "engine/geo.h"
#include "engine/timestamp.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

typedef struct span {
    const char *at, *end;
} span;

/* true and false in SQL: equal to nothing but themselves. */
static const unsigned char yes_and_no[2] = {0, 1};

/* What was found. */
typedef enum outcome { FOUND, MISSING, BROKEN } outcome;

/* ---- Walking over JSON ---- */

/* From an opening quote to behind the closing one; NULL: it does not end. */
static const char *skip_string(const char *at, const char *end)
{
    for (at++; at < end; at++) {
        if (*at == '"') return at + 1;
        if (*at == '\\') at++;
    }
    return NULL;
}

/* Behind the value that begins here, or NULL. Brackets are counted, not matched in kind: that costs a stack, and a
 * value that is passed over cannot mislead. */
static const char *skip_value(const char *at, const char *end)
{
    size_t depth = 0;
    if (at < end && *at == '"') return skip_string(at, end);
    if (at < end && *at != '{' && *at != '[') {
        const char *start = at;
        while (at < end && *at != ',' && *at != '}' && *at != ']') at++;
        return at > start ? at : NULL;
    }
    while (at < end) {
        if (*at == '"') {
            at = skip_string(at, end);
            if (!at) return NULL;
            continue;
        }
        depth += *at == '{' || *at == '[';
        if ((*at == '}' || *at == ']') && --depth == 0) return at + 1;
        at++;
    }
    return NULL;
}

/* The member of an object whose name is, in canonical escapes, name[size]. */
static outcome find_member(span *value, const char *name, size_t size)
{
    const char *at = value->at, *end = value->end;
    if (at >= end || *at != '{') return MISSING;
    at++;
    if (at < end && *at == '}') return MISSING;
    for (;;) {
        const char *start = at, *behind = at < end && *at == '"' ? skip_string(at, end) : NULL;
        if (!behind || behind >= end || *behind != ':') return BROKEN;
        at = skip_value(behind + 1, end);
        if (!at || at >= end) return BROKEN;
        if ((size_t)(behind - start) == size + 2 && memcmp(start + 1, name, size) == 0) {
            *value = (span){behind + 1, at};
            return FOUND;
        }
        if (*at == '}') return MISSING;
        if (*at != ',') return BROKEN;
        at++;
    }
}

/* The next element of an array. *at: behind the opening bracket or the last element's comma. */
static outcome next_element(const char **at, const char *end, span *element)
{
    if (*at < end && **at == ']') return MISSING;
    const char *behind = skip_value(*at, end);
    if (!behind || behind >= end || (*behind != ',' && *behind != ']')) return BROKEN;
    *element = (span){*at, behind};
    *at = *behind == ',' ? behind + 1 : behind;
    return FOUND;
}

static outcome find_element(span *value, uint32_t index)
{
    if (value->at >= value->end || *value->at != '[') return MISSING;
    const char *at = value->at + 1;
    for (uint32_t i = 0;; i++) {
        span element;
        outcome found = next_element(&at, value->end, &element);
        if (found != FOUND) return found;
        if (i == index) {
            *value = element;
            return FOUND;
        }
    }
}

/* Follow a path (engine/expr.h). */
static outcome follow(span *value, const char *path, size_t size)
{
    const char *end = path + size;
    while (path < end) {
        char kind = *path++;
        uint32_t number;
        if ((size_t)(end - path) < sizeof number) return BROKEN;
        memcpy(&number, path, sizeof number);
        path += sizeof number;
        if (kind == 'n' && number > (size_t)(end - path)) return BROKEN;
        outcome found = kind == 'n' ? find_member(value, path, number) : find_element(value, number);
        if (found != FOUND) return found;
        if (kind == 'n') path += number;
    }
    return FOUND;
}

/* ---- Values ---- */

/* Resolve the escapes of canonical JSON; the result is never longer. Returns its size, SIZE_MAX when broken. */
static size_t unescape(span text, char *out)
{
    static const char letters[] = "\"\\bfnrt", meanings[] = "\"\\\b\f\n\r\t";
    size_t n = 0;
    for (const char *at = text.at; at < text.end; at++) {
        if (*at != '\\') {
            out[n++] = *at;
            continue;
        }
        if (++at >= text.end) return SIZE_MAX;
        const char *letter = strchr(letters, *at);
        if (*at && letter) {
            out[n++] = meanings[letter - letters];
            continue;
        }
        /* \u00xx, of a control character */
        if (*at != 'u' || text.end - at < 5) return SIZE_MAX;
        char digits[5] = {at[1], at[2], at[3], at[4]}, *behind;
        unsigned long c = strtoul(digits, &behind, 16);
        if (behind != digits + 4 || c == 0 || c >= 0x20) return SIZE_MAX;
        out[n++] = (char)c;
        at += 4;
    }
    return n;
}

static void give_string(sqlite3_context *context, span value, int wanted)
{
    span text = {value.at + 1, value.end - 1};
    if (!wanted) return;
    size_t size = (size_t)(text.end - text.at);
    if (!memchr(text.at, '\\', size)) {
        sqlite3_result_text64(context, text.at, size, SQLITE_TRANSIENT, SQLITE_UTF8);
        return;
    }
    char *copy = sqlite3_malloc64(size + 1);
    size_t n = copy ? unescape(text, copy) : 0;
    if (!copy) {
        sqlite3_result_error_nomem(context);
    } else if (n == SIZE_MAX) {
        sqlite3_free(copy);
        sqlite3_result_error(context, "a payload has a string that is not canonical", -1);
    } else {
        sqlite3_result_text64(context, copy, n, sqlite3_free, SQLITE_UTF8);
    }
}

/* Numbers with up to 15 digits and a small exponent are exact this way, and that is nearly all of them; the rest is
 * left to strtod, whose decimal point is that of the locale. */
static double real_value(span value)
{
    static const double powers[] = {1,    1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    uint64_t digits = 0;
    int n = 0, behind_point = 0, point = 0;
    const char *at = value.at;
    int negative = at < value.end && *at == '-';
    for (at += negative; at < value.end && n <= 15; at++) {
        if (*at == '.') {
            point = 1;
        } else if (*at >= '0' && *at <= '9') {
            digits = digits * 10 + (uint64_t)(*at - '0');
            n += digits > 0;
            behind_point += point;
        } else {
            break;
        }
    }
    if (at == value.end && n <= 15 && behind_point <= 22) {
        double result = (double)digits / powers[behind_point];
        return negative ? -result : result;
    }
    char copy[64];
    size_t size = (size_t)(value.end - value.at);
    if (size >= sizeof copy) size = sizeof copy - 1; /* canonical reals have at most 24 characters */
    memcpy(copy, value.at, size);
    copy[size] = 0;
    char *dot = strchr(copy, '.');
    const char *locales = localeconv()->decimal_point;
    if (dot && locales[0] && !locales[1]) *dot = locales[0];
    return strtod(copy, NULL);
}

/* 1: an integer, in *integer; 0: a real, in *real. */
static int read_number(span value, int64_t *integer, double *real)
{
    const char *at = value.at;
    int negative = *at == '-';
    int64_t n = 0; /* negative all the way: its range reaches one farther */
    for (at += negative; at < value.end && *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_sub_overflow(n, *at - '0', &n)) break;
    if (at < value.end || value.end - value.at == negative || (n == INT64_MIN && !negative)) {
        *real = real_value(value);
        return 0;
    }
    *integer = negative ? n : -n;
    return 1;
}

static void give_number(sqlite3_context *context, span value)
{
    int64_t integer;
    double real;
    if (read_number(value, &integer, &real))
        sqlite3_result_int64(context, integer);
    else
        sqlite3_result_double(context, real);
}

static int is(span value, const char *word)
{
    size_t size = strlen(word);
    return (size_t)(value.end - value.at) == size && memcmp(value.at, word, size) == 0;
}

/* Give a value to SQLite if it is of a kind wanted; else NULL, which is a result's first state. */
static void give(sqlite3_context *context, span value, char kinds)
{
    char first = value.at < value.end ? *value.at : 0;
    if (kinds == 'e') {
        sqlite3_result_int(context, 1);
    } else if (first == '"') {
        give_string(context, value, strchr("*sc", kinds) != NULL);
    } else if (first == '-' || (first >= '0' && first <= '9')) {
        if (strchr("*nc", kinds)) give_number(context, value);
    } else if (first == '{' || first == '[') {
        if (kinds == '*')
            sqlite3_result_blob64(context, value.at, (size_t)(value.end - value.at), SQLITE_TRANSIENT);
    } else if (is(value, "true") || is(value, "false")) {
        if (strchr("*b", kinds)) sqlite3_result_blob(context, &yes_and_no[first == 't'], 1, SQLITE_STATIC);
    } else if (!is(value, "null")) {
        sqlite3_result_error(context, "a payload is not canonical JSON", -1);
    }
}

/* ---- The functions ---- */

/* Follow the path of the first two arguments. Returns 0 when there is no value, with the result set on error. */
static int find(sqlite3_context *context, sqlite3_value **arguments, span *value)
{
    if (sqlite3_value_type(arguments[0]) != SQLITE_TEXT || sqlite3_value_type(arguments[1]) != SQLITE_BLOB) {
        sqlite3_result_error(context, "no payload and path", -1);
        return 0;
    }
    value->at = (const char *)sqlite3_value_text(arguments[0]);
    if (!value->at) {
        sqlite3_result_error_nomem(context);
        return 0;
    }
    value->end = value->at + sqlite3_value_bytes(arguments[0]);
    const char *path = sqlite3_value_blob(arguments[1]);
    outcome found = follow(value, path, (size_t)sqlite3_value_bytes(arguments[1]));
    if (found == BROKEN) sqlite3_result_error(context, "a payload is not canonical JSON", -1);
    return found == FOUND;
}

static void get(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    span value;
    const char *kinds = (const char *)sqlite3_value_text(arguments[2]);
    if (find(context, arguments, &value)) give(context, value, kinds && *kinds ? *kinds : '*');
}

static void length(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    span value, element;
    if (!find(context, arguments, &value) || *value.at != '[') return;
    const char *at = value.at + 1;
    int64_t count = 0;
    outcome found;
    while ((found = next_element(&at, value.end, &element)) == FOUND) count++;
    if (found == BROKEN)
        sqlite3_result_error(context, "a payload is not canonical JSON", -1);
    else
        sqlite3_result_int64(context, count);
}

/* Numbers as SQLite compares them: exactly, whatever mixture of integers and reals. */
static int same_number(double real, int64_t integer)
{
    return real >= -0x1p63 && real < 0x1p63 && (double)integer == real && (int64_t)real == integer;
}

static int number_is(span element, sqlite3_value *wanted)
{
    int64_t integer;
    double real;
    if (*element.at != '-' && (*element.at < '0' || *element.at > '9')) return 0;
    int whole = read_number(element, &integer, &real);
    if (sqlite3_value_type(wanted) == SQLITE_INTEGER)
        return whole ? integer == sqlite3_value_int64(wanted)
                     : same_number(real, sqlite3_value_int64(wanted));
    return whole ? same_number(sqlite3_value_double(wanted), integer) : real == sqlite3_value_double(wanted);
}

static int string_is(sqlite3_context *context, span element, sqlite3_value *wanted)
{
    if (*element.at != '"') return 0;
    span text = {element.at + 1, element.end - 1};
    const char *other = (const char *)sqlite3_value_text(wanted);
    size_t size = (size_t)sqlite3_value_bytes(wanted), n = (size_t)(text.end - text.at);
    if (!memchr(text.at, '\\', n)) return n == size && memcmp(text.at, other, size) == 0;
    char *copy = sqlite3_malloc64(n + 1);
    if (!copy) {
        sqlite3_result_error_nomem(context);
        return 0;
    }
    int same = unescape(text, copy) == size && memcmp(copy, other, size) == 0;
    sqlite3_free(copy);
    return same;
}

static int element_is(sqlite3_context *context, span element, sqlite3_value *wanted)
{
    switch (sqlite3_value_type(wanted)) {
    case SQLITE_BLOB: return is(element, *(const char *)sqlite3_value_blob(wanted) ? "true" : "false");
    case SQLITE_TEXT: return string_is(context, element, wanted);
    default: return number_is(element, wanted);
    }
}

static void contains(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    span value, element;
    if (!find(context, arguments, &value) || is(value, "null")) return;
    sqlite3_result_int(context, 0);
    if (*value.at != '[') return;
    const char *at = value.at + 1;
    outcome found;
    while ((found = next_element(&at, value.end, &element)) == FOUND) {
        if (!element_is(context, element, arguments[2])) continue;
        sqlite3_result_int(context, 1);
        return;
    }
    if (found == BROKEN) sqlite3_result_error(context, "a payload is not canonical JSON", -1);
}

/* Behind the character that begins here. */
static const char *next_character(const char *at, const char *end)
{
    do at++;
    while (at < end && (*at & 0xc0) == 0x80);
    return at;
}

/* A pattern's % is first taken to stand for nothing; where the rest then fails, the last % takes a character more. An
 * earlier % never need be taken up again: the later one can make good whatever it could. */
static int matches(span text, span pattern)
{
    const char *t = text.at, *p = pattern.at, *again_text = NULL, *again_pattern = NULL;
    while (t < text.end) {
        if (p < pattern.end && *p == '%') {
            again_pattern = ++p;
            again_text = t;
            continue;
        }
        if (p < pattern.end && *p == '_') {
            t = next_character(t, text.end);
            p++;
            continue;
        }
        const char *literal = p < pattern.end && *p == '\\' && p + 1 < pattern.end ? p + 1 : p;
        if (literal < pattern.end && *literal == *t) {
            p = literal + 1;
            t++;
            continue;
        }
        if (!again_pattern) return 0;
        p = again_pattern;
        t = again_text = next_character(again_text, text.end);
    }
    while (p < pattern.end && *p == '%') p++;
    return p == pattern.end;
}

static void like(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    span spans[2];
    for (int i = 0; i < 2; i++) {
        if (sqlite3_value_type(arguments[i]) != SQLITE_TEXT) return;
        spans[i].at = (const char *)sqlite3_value_text(arguments[i]);
        spans[i].end = spans[i].at + sqlite3_value_bytes(arguments[i]);
    }
    sqlite3_result_int(context, matches(spans[0], spans[1]));
}

static void mod(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    if (sqlite3_value_type(arguments[0]) != SQLITE_INTEGER ||
        sqlite3_value_type(arguments[1]) != SQLITE_INTEGER)
        return;
    int64_t a = sqlite3_value_int64(arguments[0]), b = sqlite3_value_int64(arguments[1]);
    if (b == 0) return;
    sqlite3_result_int64(context, b == -1 ? 0 : a % b); /* INT64_MIN % -1 overflows */
}

/* ---- Values of declared fields ---- */

/* A value as it is indexed; text has its escapes still. */
typedef struct typed {
    enum { AN_INTEGER, A_REAL, A_TEXT, A_BOOL, A_POINT } is;
    int64_t integer;
    double real;
    span text;
    unsigned char point[KI_POINT_BYTES];
} typed;

static int is_number_text(span value)
{
    return *value.at == '-' || (*value.at >= '0' && *value.at <= '9');
}

static int member_number(span object, const char *name, double *number)
{
    int64_t integer = 0;
    if (find_member(&object, name, strlen(name)) != FOUND || object.at >= object.end ||
        !is_number_text(object))
        return 0;
    if (read_number(object, &integer, number)) *number = (double)integer;
    return 1;
}

/* {"lat": degrees, "lon": degrees}; further members do no harm. */
static int read_point(span value, typed *out)
{
    ki_point p = {0, 0};
    if (!member_number(value, "lat", &p.lat) || !member_number(value, "lon", &p.lon)) return 0;
    if (!(p.lat >= -90 && p.lat <= 90 && p.lon >= -180 && p.lon <= 180)) return 0;
    ki_point_pack(p, out->point);
    out->is = A_POINT;
    return 1;
}

static int read_time(span value, typed *out)
{
    double fraction;
    if (!ki_timestamp_parse(value.at + 1, (size_t)(value.end - value.at) - 2, &out->integer, &fraction))
        return 0;
    out->is = fraction > 0 ? A_REAL : AN_INTEGER;
    out->real = (double)out->integer + fraction;
    return 1;
}

static int read_typed(span value, kith_field_kind kind, typed *out)
{
    char first = *value.at;
    if (is_number_text(value)) {
        out->is = read_number(value, &out->integer, &out->real) ? AN_INTEGER : A_REAL;
        return kind == KITH_FIELD_FLOAT || kind == KITH_FIELD_TIME ||
               (kind == KITH_FIELD_INT && out->is == AN_INTEGER);
    }
    if (first == '"' && kind == KITH_FIELD_TIME) return read_time(value, out);
    if (first == '"') {
        out->is = A_TEXT;
        out->text = value;
        return kind == KITH_FIELD_TEXT;
    }
    if (first == 't' || first == 'f') {
        out->is = A_BOOL;
        out->integer = first == 't';
        return kind == KITH_FIELD_BOOL;
    }
    return first == '{' && kind == KITH_FIELD_GEO && read_point(value, out);
}

static ki_fit fit(span value, const void *path, size_t path_size, kith_field_kind kind, typed *out)
{
    outcome found = follow(&value, path, path_size);
    if (found == BROKEN || (found == FOUND && value.at >= value.end)) return KI_FIT_BROKEN;
    if (found == MISSING || *value.at == 'n') return KI_FIT_NOTHING;
    return read_typed(value, kind, out) ? KI_FIT_GOOD : KI_FIT_WRONG;
}

ki_fit ki_payload_fit(const void *payload, size_t size, const void *path, size_t path_size,
                      kith_field_kind kind)
{
    typed ignored;
    const char *text = payload;
    return fit((span){text, text + size}, path, path_size, kind, &ignored);
}

int ki_payload_value(const void *payload, size_t size, const void *path, size_t path_size, const char **value,
                     size_t *value_size)
{
    const char *text = payload;
    span found = {text, text + size};
    if (follow(&found, path, path_size) != FOUND || found.at >= found.end || *found.at == 'n') return 0;
    *value = found.at;
    *value_size = (size_t)(found.end - found.at);
    return 1;
}

/* fit of the three arguments of kith_field and kith_fits; what is broken is an error of the SQL. */
static ki_fit fit_arguments(sqlite3_context *context, sqlite3_value **arguments, typed *out)
{
    span value = {(const char *)sqlite3_value_text(arguments[0]), NULL};
    if (!value.at) {
        sqlite3_result_error_nomem(context);
        return KI_FIT_BROKEN;
    }
    value.end = value.at + sqlite3_value_bytes(arguments[0]);
    const void *path = sqlite3_value_blob(arguments[1]);
    ki_fit found = fit(value, path, (size_t)sqlite3_value_bytes(arguments[1]),
                       (kith_field_kind)sqlite3_value_int(arguments[2]), out);
    if (found == KI_FIT_BROKEN) sqlite3_result_error(context, "a payload is not canonical JSON", -1);
    return found;
}

static void field(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    typed value;
    if (fit_arguments(context, arguments, &value) != KI_FIT_GOOD) return;
    switch (value.is) {
    case AN_INTEGER: sqlite3_result_int64(context, value.integer); break;
    case A_REAL: sqlite3_result_double(context, value.real); break;
    case A_TEXT: give_string(context, value.text, 1); break;
    case A_BOOL: sqlite3_result_blob(context, &yes_and_no[value.integer], 1, SQLITE_STATIC); break;
    case A_POINT: sqlite3_result_blob(context, value.point, KI_POINT_BYTES, SQLITE_TRANSIENT); break;
    }
}

static void fits(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    typed value;
    ki_fit found = fit_arguments(context, arguments, &value);
    if (found != KI_FIT_BROKEN) sqlite3_result_int(context, found != KI_FIT_WRONG);
}

static int point_argument(sqlite3_value *argument, ki_point *p)
{
    if (sqlite3_value_type(argument) != SQLITE_BLOB || sqlite3_value_bytes(argument) != KI_POINT_BYTES)
        return 0;
    *p = ki_point_unpack(sqlite3_value_blob(argument));
    return 1;
}

static void distance(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    ki_point p;
    if (!point_argument(arguments[0], &p)) return;
    ki_point from = {sqlite3_value_double(arguments[1]), sqlite3_value_double(arguments[2])};
    sqlite3_result_double(context, ki_point_distance(p, from));
}

static void within(sqlite3_context *context, int n, sqlite3_value **arguments)
{
    (void)n;
    ki_point p;
    if (!point_argument(arguments[0], &p)) return;
    ki_box box = {sqlite3_value_double(arguments[1]), sqlite3_value_double(arguments[2]),
                  sqlite3_value_double(arguments[3]), sqlite3_value_double(arguments[4])};
    sqlite3_result_int(context, ki_box_has(box, p));
}

int ki_payload_functions(sqlite3 *db)
{
    static const struct {
        const char *name;
        int arguments;
        void (*call)(sqlite3_context *, int, sqlite3_value **);
    } functions[] = {
        {"kith_get", 3, get},   {"kith_contains", 3, contains}, {"kith_length", 2, length},
        {"kith_like", 2, like}, {"kith_mod", 2, mod},           {"kith_field", 3, field},
        {"kith_fits", 3, fits}, {"kith_distance", 3, distance}, {"kith_within", 5, within},
    };
    int rc = SQLITE_OK;
    /* DIRECTONLY: the schema of a file cannot call them. */
    for (size_t i = 0; i < sizeof functions / sizeof *functions && rc == SQLITE_OK; i++)
        rc = sqlite3_create_function_v2(db, functions[i].name, functions[i].arguments,
                                        SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_DIRECTONLY, NULL,
                                        functions[i].call, NULL, NULL, NULL);
    return rc;
}
