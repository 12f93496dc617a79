/* text.h - a text that grows, mostly JSON that is written as it comes. Want of memory is remembered: add without asking,
 * ask once at the end. */
#ifndef KITH_COMMON_TEXT_H
#define KITH_COMMON_TEXT_H

#include <stddef.h>
#include <stdint.h>

typedef struct text {
    char *bytes; /* not 0-terminated */
    size_t size, room;
    int failed;
} text;

void text_add(text *t, const char *bytes, size_t size);
void text_put(text *t, const char *words); /* 0-terminated */
void text_int(text *t, int64_t value);
void text_float(text *t, float value);    /* enough digits to get it back; 0 for what is not finite */
void text_double(text *t, double value);  /* nine digits */
void text_string(text *t, const char *s); /* quoted as JSON; what is not UTF-8 becomes U+FFFD */

/* [x,..] */
void text_floats(text *t, const float *x, size_t n);

void text_clear(text *t);

#endif
