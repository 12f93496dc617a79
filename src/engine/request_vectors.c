#include "engine/request_vectors.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

#define KEY "\"vector\""

/* ---- Numbers ---- */

enum {
    MOST_DIGITS = 19,         /* that 64 bits hold */
    MOST_INTEGER_DIGITS = 18, /* of a number that is whole: what is longer the library may refuse */
    EXACT_POWER = 22          /* 10^22 is the largest power of ten that is a double */
};

static const double powers[EXACT_POWER + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                               1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                               1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

typedef struct decimal {
    uint64_t mantissa; /* the first MOST_DIGITS digits that count */
    int digits;        /* how many these are */
    int power;         /* of ten, by which it is multiplied */
} decimal;

/* Digits from `at` on. The place behind them. */
static const char *take_digits(const char *at, const char *end, int after_point, decimal *d)
{
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        if (d->digits < MOST_DIGITS) {
            d->mantissa = 10 * d->mantissa + (uint64_t)(*at - '0');
            d->digits += d->mantissa > 0;
            d->power -= after_point;
        } else {
            d->power += !after_point;
        }
    }
    return at;
}

/* [eE] [+-] digits, of which there is one at least. NULL: it is something else. */
static const char *take_power(const char *at, const char *end, decimal *d)
{
    int power = 0, negative = ++at < end && *at == '-';
    if (at < end && (*at == '-' || *at == '+')) at++;
    const char *first = at;
    for (; at < end && *at >= '0' && *at <= '9'; at++)
        if (power < 10000) power = 10 * power + *at - '0';
    d->power += negative ? -power : power;
    return at > first ? at : NULL;
}

/* The float nearest to a decimal; 0 when it takes more care than this.
 *
 * Mantissa, power and quotient are each off by half a unit of a double's last place at the most (Clinger, "How to read floating
 * point numbers accurately", 1990, section 3, has the case in which none is), what was cut off by less. So the double found is within
 * 4 units of the right one, and both become the same float unless the half between two floats is as near: that, and floats that
 * are not normal, are left to others. */
static int to_float(const decimal *d, int negative, float *value)
{
    enum { BELOW = 29, NEAR = 8 }; /* bits that a double has and a float has not */
    double x = (double)d->mantissa;
    int power = d->power;
    if (power < -EXACT_POWER) {
        x /= powers[EXACT_POWER];
        power += EXACT_POWER;
    }
    if (d->mantissa == 0) power = 0;
    if (power < -EXACT_POWER || power > EXACT_POWER) return 0;
    x = power < 0 ? x / powers[-power] : x * powers[power];
    if (x != 0 && (x < 1.2e-38 || x > 3.4e38)) return 0;
    uint64_t bits, half = (uint64_t)1 << (BELOW - 1), mask = ((uint64_t)1 << BELOW) - 1;
    memcpy(&bits, &x, sizeof bits);
    int64_t off = (int64_t)(bits & mask) - (int64_t)half;
    if (off >= -NEAR && off <= NEAR) return 0;
    *value = (float)(negative ? -x : x);
    return 1;
}

/* A number of JSON. The place behind it; NULL: none, or one that is not read here. */
static const char *take_number(const char *at, const char *end, float *value)
{
    decimal d = {0};
    int negative = at < end && *at == '-';
    at += negative;
    if (at == end || *at < '0' || *at > '9') return NULL;
    const char *first = at;
    at = take_digits(at, end, 0, &d);
    if (*first == '0' && at - first > 1) return NULL;
    if (at == end || (*at != '.' && *at != 'e' && *at != 'E')) {
        if (at - first > MOST_INTEGER_DIGITS) return NULL;
        /* Whole numbers have no -0. */
        *value = (float)(double)(negative ? -(int64_t)d.mantissa : (int64_t)d.mantissa);
        return at;
    }
    if (*at == '.') {
        first = ++at;
        at = take_digits(at, end, 1, &d);
        if (at == first) return NULL;
    }
    if (at < end && (*at == 'e' || *at == 'E')) at = take_power(at, end, &d);
    return at && to_float(&d, negative, value) ? at : NULL;
}

/* ---- Arrays, and the text around them ---- */

static const char *skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
    return at;
}

/* The place behind an array of numbers, which are added to those there are; NULL: it is something else. */
static const char *take_array(const char *at, const char *end, ki_request_vectors *v)
{
    size_t begin = v->n ? v->ends[v->n - 1] : 0, used = begin;
    if (at == end || *at != '[' || v->n == KITH_COLLECTION_MAX_FUSED) return NULL;
    do {
        at = take_number(skip_space(at + 1, end), end, &v->x[used]);
        if (!at || ++used - begin > KITH_COLLECTION_MAX_DIM) return NULL;
        at = skip_space(at, end);
    } while (at < end && *at == ',');
    if (at == end || *at != ']') return NULL;
    v->ends[v->n++] = used;
    return at + 1;
}

/* The place behind a string that begins at `at`; NULL: it does not end. */
static const char *skip_string(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++)
        if (*at == '\\' && ++at == end) return NULL;
    return at < end ? at + 1 : NULL;
}

/* Copy the text without the arrays. 0: it is to be left as it is. Nothing gets longer: an array has three bytes at least. */
static int lift(const char *text, size_t size, ki_request_vectors *v)
{
    const char *end = text + size, *next;
    char *to = v->text;
    for (const char *at = text; at < end; at = next) {
        next = *at == '"' ? skip_string(at, end) : at + 1;
        if (!next) return 0;
        memcpy(to, at, (size_t)(next - at));
        to += next - at;
        if (*at != '"') continue;
        const char *colon = skip_space(next, end);
        if (colon == end || *colon != ':') continue;
        /* A name that is written with escapes may be this one, too. */
        if (memchr(at, '\\', (size_t)(next - at))) return 0;
        if ((size_t)(next - at) != strlen(KEY) || memcmp(at, KEY, strlen(KEY)) != 0) continue;
        next = take_array(skip_space(colon + 1, end), end, v);
        if (!next) return 0;
        to += snprintf(to, 4, ":%u", (unsigned)(v->n - 1) & 63u);
    }
    v->size = (size_t)(to - v->text);
    return 1;
}

kith_status ki_request_vectors_read(const char *text, size_t size, const kith_allocator *allocator,
                                    ki_request_vectors *v, kith_error *err)
{
    *v = (ki_request_vectors){0};
    if (!memmem(text, size, KEY, strlen(KEY))) return KITH_OK;
    v->text = ki_alloc(allocator, size + 4, 1);
    v->x = ki_alloc(allocator, size / 2 + 1,
                    sizeof *v->x); /* a component is a digit and what stands behind it */
    if (!v->text || !v->x) return ki_fail_nomem(err, size);
    if (!lift(text, size, v)) v->n = 0;
    return KITH_OK;
}

const float *ki_request_vectors_at(const ki_request_vectors *v, int64_t place, size_t *dim)
{
    *dim = 0;
    if (place < 0 || (size_t)place >= v->n) return NULL;
    size_t begin = place > 0 ? v->ends[place - 1] : 0;
    *dim = v->ends[place] - begin;
    return v->x + begin;
}

void ki_request_vectors_clear(ki_request_vectors *v, const kith_allocator *allocator)
{
    ki_free(allocator, v->text);
    ki_free(allocator, v->x);
    *v = (ki_request_vectors){0};
}
