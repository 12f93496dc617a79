/* tokens.c - token files, and the comparison of tokens. Hashes and random bytes are GnuTLS's. */
#include "tokens.h"

#include "../common/fail.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

static int digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

static const char *const roles[] = {[ROLE_READ] = "read", [ROLE_WRITE] = "write", [ROLE_ADMIN] = "admin"};

role role_of(const char *word)
{
    for (role r = ROLE_READ; r <= ROLE_ADMIN; r++)
        if (strcmp(word, roles[r]) == 0) return r;
    return ROLE_NONE;
}

/* "read <64 digits>", perhaps with a comment: 1; 0 for an empty line; -1 for anything else. */
static int parse_line(char *line, token *t)
{
    line[strcspn(line, "#\r\n")] = 0;
    char word[8], digits[2 * TOKEN_HASH + 2], rest[2];
    int fields = sscanf(line, "%7s %65s %1s", word, digits, rest);
    if (fields <= 0) return 0;
    t->role = role_of(word);
    if (fields != 2 || t->role == ROLE_NONE || strlen(digits) != 2 * TOKEN_HASH) return -1;
    for (size_t i = 0; i < TOKEN_HASH; i++) {
        int high = digit(digits[2 * i]), low = digit(digits[2 * i + 1]);
        if (high < 0 || low < 0) return -1;
        t->hash[i] = (unsigned char)(high << 4 | low);
    }
    return 1;
}

static kith_status read_lines(FILE *file, const char *path, tokens *t, kith_error *err)
{
    char line[512];
    for (size_t number = 1; fgets(line, sizeof line, file); number++) {
        token one;
        int kind = strchr(line, '\n') || feof(file) ? parse_line(line, &one) : -1;
        if (kind < 0)
            return common_fail(
                err, KITH_INVALID, "%s: line %zu: %s", path, number,
                "not of the form `ROLE SHA256-IN-HEXADECIMAL`, ROLE one of read, write, admin");
        if (kind == 0) continue;
        token *more = realloc(t->list, (t->n + 1) * sizeof *more);
        if (!more) return common_fail(err, KITH_NOMEM, "%s: %s", path, "out of memory");
        t->list = more;
        t->list[t->n++] = one;
    }
    if (ferror(file)) return common_fail(err, KITH_IO, "%s: %s", path, strerror(errno));
    return t->n > 0 ? KITH_OK : common_fail(err, KITH_INVALID, "%s: %s", path, "no token in it");
}

kith_status tokens_load(const char *path, tokens *out, kith_error *err)
{
    *out = (tokens){0};
    FILE *file = fopen(path, "re");
    if (!file) return common_fail(err, KITH_IO, "%s: %s", path, strerror(errno));
    kith_status status = read_lines(file, path, out, err);
    fclose(file);
    if (status != KITH_OK) tokens_clear(out);
    return status;
}

void tokens_clear(tokens *t)
{
    free(t->list);
    *t = (tokens){0};
}

role tokens_role(const tokens *t, const char *text, size_t size)
{
    unsigned char hash[TOKEN_HASH];
    unsigned found = ROLE_NONE;
    if (gnutls_hash_fast(GNUTLS_DIG_SHA256, text, size, hash) != 0) return ROLE_NONE;
    for (size_t i = 0; i < t->n; i++) {
        unsigned same = gnutls_memcmp(hash, t->list[i].hash, TOKEN_HASH) == 0;
        unsigned r = same * (unsigned)t->list[i].role;
        found = r > found ? r : found;
    }
    return (role)found;
}

static void to_hex(const unsigned char *bytes, size_t n, char *out)
{
    for (size_t i = 0; i < n; i++) snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

kith_status tokens_make(role what, char secret[33], char line[80], kith_error *err)
{
    unsigned char random[16], hash[TOKEN_HASH];
    char digits[2 * TOKEN_HASH + 1];
    if (gnutls_rnd(GNUTLS_RND_KEY, random, sizeof random) != 0)
        return common_fail(err, KITH_INTERNAL, "the system has no random numbers");
    to_hex(random, sizeof random, secret);
    if (gnutls_hash_fast(GNUTLS_DIG_SHA256, secret, 32, hash) != 0)
        return common_fail(err, KITH_INTERNAL, "SHA-256 is not available");
    to_hex(hash, sizeof hash, digits);
    snprintf(line, 80, "%s %s", roles[what], digits);
    return KITH_OK;
}
