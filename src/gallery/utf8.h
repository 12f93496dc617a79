/* utf8.h - is it UTF-8? File names need not be. */
#ifndef KI_GALLERY_UTF8_H
#define KI_GALLERY_UTF8_H

#include <stddef.h>

/* The length of the valid UTF-8 sequence at text[0..size) (RFC 3629: shortest form, no surrogates, up to
 * U+10FFFF), 0 when there is none. */
size_t ki_utf8_length(const char *text, size_t size);

/* Whether all of a zero-terminated text is valid. */
int ki_utf8_valid(const char *text);

/* A copy (malloc) in which each byte that is not part of valid UTF-8 is U+FFFD; NULL without memory. */
char *ki_utf8_clean(const char *text);

#endif
