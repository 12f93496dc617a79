/* Decimal numbers, read and printed the same in every locale.
 *
 * Most numbers have at most 15 digits and a small exponent: mantissa and power of ten are then exact doubles, and
 * one division or multiplication gives the correctly rounded double (Clinger, "How to read floating point numbers
 * accurately", 1990, section 3). The others go through strtod. The double is then rounded to float32: the double
 * rounding may miss the nearest float by one in the last place for texts of more than 9 digits, never for those
 * that ki_text_print wrote. */
#include "dataset/dataset_internal.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXACT_MANTISSA ((uint64_t)1 << 53)
#define EXACT_POWER 22 /* 10^22 is the largest power of ten that is a double */
#define MAX_TEXT 120   /* a longer number is no number of ours */

static const double powers[EXACT_POWER + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                               1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                               1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

typedef struct decimal {
    int negative;
    uint64_t mantissa; /* the digits without the point; exact when !long_digits */
    int exponent;      /* of ten */
    int long_digits;   /* there are more than the mantissa holds */
    size_t point;      /* the place of the point, plus 1; 0: there is none */
} decimal;

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void add_digit(decimal *d, char c)
{
    if (d->mantissa >= EXACT_MANTISSA / 10)
        d->long_digits = 1;
    else
        d->mantissa = d->mantissa * 10 + (uint64_t)(c - '0');
}

/* [+-] digits [. digits] [eE [+-] digits], at least one digit in the mantissa. 1 when all of the text is that. */
static int scan(const char *text, size_t length, decimal *d)
{
    size_t i = 0, digits = 0;
    *d = (decimal){.negative = length > 0 && text[0] == '-'};
    if (length > 0 && (text[0] == '-' || text[0] == '+')) i++;
    for (; i < length && is_digit(text[i]); i++, digits++) add_digit(d, text[i]);
    if (i < length && text[i] == '.') {
        d->point = i + 1;
        for (i++; i < length && is_digit(text[i]); i++, digits++) {
            add_digit(d, text[i]);
            d->exponent--;
        }
    }
    if (digits == 0) return 0;
    if (i == length) return 1;
    if (text[i] != 'e' && text[i] != 'E') return 0;
    int sign = 1, exponent = 0;
    if (++i < length && (text[i] == '-' || text[i] == '+')) sign = text[i++] == '-' ? -1 : 1;
    if (i == length) return 0;
    for (; i < length && is_digit(text[i]); i++)
        if (exponent < 100000) exponent = exponent * 10 + (text[i] - '0');
    d->exponent += sign * exponent;
    return i == length;
}

/* strtod, which wants the point of the locale in place of ours. */
static double by_strtod(const char *text, size_t length, const decimal *d)
{
    char copy[MAX_TEXT + 16];
    const char *point = localeconv()->decimal_point;
    size_t before = d->point ? d->point - 1 : length;
    int used = snprintf(copy, sizeof copy, "%.*s%s%.*s", (int)before, text, d->point ? point : "",
                        (int)(length - before - (d->point != 0)), text + before + (d->point != 0));
    return used > 0 && (size_t)used < sizeof copy ? strtod(copy, NULL) : NAN;
}

int ki_text_parse(const char *text, size_t length, float *value)
{
    decimal d;
    double found;
    if (length > MAX_TEXT || !scan(text, length, &d)) return 0;
    if (!d.long_digits && d.exponent >= -EXACT_POWER && d.exponent <= EXACT_POWER) {
        found = (double)d.mantissa;
        found = d.exponent < 0 ? found / powers[-d.exponent] : found * powers[d.exponent];
        if (d.negative) found = -found;
    } else {
        found = by_strtod(text, length, &d);
    }
    if (!(fabs(found) <= 3.4028235677973366e38))
        return 0; /* halfway from the largest float to the next power */
    *value = (float)found;
    return isfinite(*value) != 0;
}

/* snprintf's number with the locale's point made a '.'. */
static size_t print_digits(float value, int digits, char text[32])
{
    char raw[64];
    size_t used = 0;
    snprintf(raw, sizeof raw, "%.*g", digits, (double)value);
    int in_point = 0;
    for (const char *at = raw; *at && used < 31; at++) {
        int plain = is_digit(*at) || *at == '-' || *at == '+' || *at == 'e';
        if (plain || !in_point) text[used++] = plain ? *at : '.';
        in_point = !plain;
    }
    text[used] = 0;
    return used;
}

/* Whole numbers below a million, which descriptors and counts are made of, without snprintf. */
static size_t print_whole(float value, char text[32])
{
    char digits[8];
    size_t n = 0, used = 0;
    unsigned rest = (unsigned)fabsf(value);
    do digits[n++] = (char)('0' + rest % 10);
    while (rest /= 10);
    if (value < 0) text[used++] = '-';
    while (n > 0) text[used++] = digits[--n];
    text[used] = 0;
    return used;
}

size_t ki_text_print(float value, char text[32])
{
    if (fabsf(value) < 1e6f && value == truncf(value) && !(value == 0 && signbit(value)))
        return print_whole(value, text);
    for (int digits = 6; digits < 9; digits++) {
        float back;
        size_t used = print_digits(value, digits, text);
        if (ki_text_parse(text, used, &back) && back == value) return used;
    }
    return print_digits(value, 9, text);
}
