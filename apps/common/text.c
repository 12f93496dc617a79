#include "text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for n bytes more; 0 when there is none. */
static int reserve(text *t, size_t n)
{
    if (t->failed) return 0;
    if (t->room - t->size >= n) return 1;
    size_t room = t->room < 512 ? 512 : 2 * t->room;
    if (room - t->size < n) room = t->size + n;
    char *bytes = n <= SIZE_MAX / 4 ? realloc(t->bytes, room) : NULL;
    if (!bytes) {
        t->failed = 1;
        return 0;
    }
    t->bytes = bytes;
    t->room = room;
    return 1;
}

void text_add(text *t, const char *bytes, size_t size)
{
    if (!reserve(t, size)) return;
    memcpy(t->bytes + t->size, bytes, size);
    t->size += size;
}

void text_put(text *t, const char *words)
{
    text_add(t, words, strlen(words));
}

void text_int(text *t, int64_t value)
{
    char digits[24], *at = digits + sizeof digits;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (value < 0) *--at = '-';
    text_add(t, at, (size_t)(digits + sizeof digits - at));
}

/* A number as "%.9g" prints it, in less time: nine digits are a whole number once it is multiplied by a power of ten, which is
 * exact, as is the way back to its digits. Where the product, off by half a unit of its last place, does not tell which way to
 * round, and for what %g writes with an exponent, printf does it. The length; `to` has room for 40. */
static size_t nine_digits(double value, char *to)
{
    static const double powers[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12};
    enum { DIGITS = 9, MOST = sizeof powers / sizeof *powers };
    double size = fabs(value), scaled = 0;
    size_t power = 0;
    while (power < MOST && (scaled = size * powers[power]) < 1e8) power++;
    uint64_t whole = scaled < 1e9 ? (uint64_t)scaled : 0;
    double rest = scaled - (double)whole;
    if (power == MOST || !(scaled < 1e9) || fabs(rest - 0.5) < 1e-6 || whole + 1 >= 1000000000)
        return (size_t)snprintf(to, 40, "%.9g", isfinite(value) ? value : 0.0);
    whole += rest > 0.5;
    char digits[MOST + 2];
    size_t n = 0, skip = 0, used = 0;
    for (; n < DIGITS || n <= power; n++, whole /= 10)
        digits[n] = (char)('0' + whole % 10); /* the last first */
    while (skip < power && digits[skip] == '0') skip++;
    if (value < 0) to[used++] = '-';
    while (n > skip) {
        if (n == power) to[used++] = '.';
        to[used++] = digits[--n];
    }
    return used;
}

void text_double(text *t, double value)
{
    char digits[40];
    text_add(t, digits, nine_digits(value, digits));
}

void text_float(text *t, float value)
{
    text_double(t, (double)value);
}

void text_floats(text *t, const float *x, size_t n)
{
    text_add(t, "[", 1);
    for (size_t i = 0; i < n; i++) {
        if (i > 0) text_add(t, ",", 1);
        text_float(t, x[i]);
    }
    text_add(t, "]", 1);
}

/* Bytes of the character of UTF-8 at s, 0 when it is none. */
static size_t character(const unsigned char *s)
{
    size_t n = s[0] < 0x80                   ? 1
               : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
               : (s[0] & 0xf0) == 0xe0       ? 3
               : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                             : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if (n == 3 && ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f))) return 0;
    if (n == 4 && ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))) return 0;
    return n;
}

void text_string(text *t, const char *s)
{
    text_add(t, "\"", 1);
    for (const unsigned char *c = (const unsigned char *)s; *c;) {
        size_t n = character(c);
        char escaped[8];
        if (n == 0)
            text_put(t, "\\ufffd");
        else if (*c == '"' || *c == '\\' || *c < 0x20)
            text_add(t, escaped,
                     (size_t)snprintf(escaped, sizeof escaped, *c < 0x20 ? "\\u%04x" : "\\%c", *c));
        else
            text_add(t, (const char *)c, n);
        c += n ? n : 1;
    }
    text_add(t, "\"", 1);
}

void text_clear(text *t)
{
    free(t->bytes);
    *t = (text){0};
}
