/* tokens.h - who may ask: bearer tokens, of which only the SHA-256 is kept. A token file has a line each:
 *
 *     read  9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08     # comment
 */
#ifndef KITH_SERVER_TOKENS_H
#define KITH_SERVER_TOKENS_H

#include <stddef.h>

#include <kith/status.h>

#define TOKEN_HASH 32

typedef struct tokens {
    unsigned char (*hashes)[TOKEN_HASH];
    size_t n;
} tokens;

/* Errors:   KITH_IO; KITH_INVALID naming the line; a file without a token is KITH_INVALID, too. */
kith_status tokens_load(const char *path, tokens *out, kith_error *err);
void tokens_clear(tokens *t);

/* Whether text[size] is a known token; takes as long for any wrong one. */
int tokens_know(const tokens *t, const char *text, size_t size);

/* A new token of 32 hexadecimal digits, and its line. */
kith_status tokens_make(char token[33], char line[80], kith_error *err);

#endif
