/* characters.h - what a character of a normalised text is to the tokeniser. */
#ifndef KI_TEXT_CHARACTERS_H
#define KI_TEXT_CHARACTERS_H

#include <stddef.h>
#include <stdint.h>

typedef enum ki_character {
    KI_SEPARATOR, /* spaces, punctuation, symbols, controls */
    KI_LETTER,    /* letters and digits of scripts with spaces */
    KI_SYLLABLE,  /* letters of scripts without: a token each */
    KI_MARK       /* belongs to what it follows */
} ki_character;

/* The kind and the length in bytes of the character at text[size], size >= 1, of valid UTF-8. A byte that is no
 * UTF-8 is a separator of one byte. */
ki_character ki_character_at(const char *text, size_t size, size_t *length);

#endif
