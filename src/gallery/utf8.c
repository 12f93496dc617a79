#include "gallery/utf8.h"

#include <stdlib.h>
#include <string.h>

size_t ki_utf8_length(const char *text, size_t size)
{
    const unsigned char *s = (const unsigned char *)text;
    if (size == 0) return 0;
    if (s[0] < 0x80) return 1;
    size_t n = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
               : s[0] >= 0xe0 && s[0] <= 0xef ? 3
               : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                              : 0;
    if (n == 0 || n > size) return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    /* The second byte decides over long forms, surrogates and what lies beyond U+10FFFF. */
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

int ki_utf8_valid(const char *text)
{
    size_t size = strlen(text);
    while (size > 0) {
        size_t n = ki_utf8_length(text, size);
        if (n == 0) return 0;
        text += n;
        size -= n;
    }
    return 1;
}

char *ki_utf8_clean(const char *text)
{
    size_t size = strlen(text);
    char *clean = malloc(3 * size + 1), *out = clean;
    if (!clean) return NULL;
    while (size > 0) {
        size_t n = ki_utf8_length(text, size);
        if (n) {
            memcpy(out, text, n);
            out += n;
        } else {
            memcpy(out, "\xef\xbf\xbd", 3);
            out += 3;
            n = 1;
        }
        text += n;
        size -= n;
    }
    *out = 0;
    return clean;
}
