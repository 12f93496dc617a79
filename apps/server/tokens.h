/* tokens.h - who may ask for what: bearer tokens, of which only the SHA-256 is kept. A token file has a line each, a role
 * and a hash; each role may do what those before it may:
 *
 *     read  9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08     # comment
 */
#ifndef KITH_SERVER_TOKENS_H
#define KITH_SERVER_TOKENS_H

#include <stddef.h>

#include <kith/status.h>

#define TOKEN_HASH 32

typedef enum role { ROLE_NONE, ROLE_READ, ROLE_WRITE, ROLE_ADMIN } role;

/* "read", "write", "admin"; ROLE_NONE for another word. */
role role_of(const char *word);

typedef struct token {
    unsigned char hash[TOKEN_HASH];
    role role;
} token;

typedef struct tokens {
    token *list;
    size_t n;
} tokens;

/* Errors:   KITH_IO; KITH_INVALID naming the line; a file without a token is KITH_INVALID, too. */
kith_status tokens_load(const char *path, tokens *out, kith_error *err);
void tokens_clear(tokens *t);

/* The role of the token text[size], ROLE_NONE for one that is not known; takes as long for any. */
role tokens_role(const tokens *t, const char *text, size_t size);

/* A new token of 32 hexadecimal digits, and its line. */
kith_status tokens_make(role what, char secret[33], char line[80], kith_error *err);

#endif
