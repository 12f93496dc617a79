#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *kith_status_text(kith_status status)
{
    switch (status) {
#define KI_TEXT(name, number, text) \
    case KITH_##name: return text;
        KITH_STATUS_MAP(KI_TEXT)
#undef KI_TEXT
    }
    return "unknown status";
}

const char *kith_status_name(kith_status status)
{
    switch (status) {
#define KI_NAME(name, number, text) \
    case KITH_##name: return "KITH_" #name;
        KITH_STATUS_MAP(KI_NAME)
#undef KI_NAME
    }
    return "KITH_?";
}

/* A message is one line: it goes to a terminal or into a log as it is, and it may quote foreign text. */
static void flatten(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) *text = '?';
}

kith_status ki_fail(kith_error *err, kith_status code, const char *fmt, ...)
{
    if (!err) return code;
    err->code = code;
    err->sys_errno = 0;
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, args);
    va_end(args);
    flatten(err->message);
    return code;
}

kith_status ki_fail_errno(kith_error *err, int sys_errno, const char *fmt, ...)
{
    kith_status code = sys_errno == ENOMEM ? KITH_NOMEM : KITH_IO;
    if (sys_errno == ENOENT) code = KITH_NOTFOUND;
    if (sys_errno == EROFS) code = KITH_READONLY;
    if (!err) return code;
    err->code = code;
    err->sys_errno = sys_errno;
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, args);
    va_end(args);
    size_t used = strlen(err->message);
    char text[128];
    const char *said = strerror_r(sys_errno, text, sizeof text); /* the GNU one: returns the text */
    snprintf(err->message + used, sizeof err->message - used, ": %s", said);
    flatten(err->message);
    return code;
}

kith_status ki_fail_nomem(kith_error *err, size_t bytes)
{
    return ki_fail(err, KITH_NOMEM, "out of memory: %zu bytes could not be had", bytes);
}

void ki_error_clear(kith_error *err)
{
    if (err) *err = (kith_error){.code = KITH_OK};
}

void ki_error_prefix(kith_error *err, const char *fmt, ...)
{
    if (!err) return;
    char rest[sizeof err->message];
    memcpy(rest, err->message, sizeof rest);
    va_list args;
    va_start(args, fmt);
    int used = vsnprintf(err->message, sizeof err->message, fmt, args);
    va_end(args);
    if (used < 0 || (size_t)used + 3 > sizeof err->message) return;
    size_t room = sizeof err->message - (size_t)used - 3, length = strlen(rest);
    char *at = err->message + used;
    if (length > room) length = room; /* what does not fit is cut off */
    memcpy(at, ": ", 2);
    memcpy(at + 2, rest, length);
    at[2 + length] = 0;
    flatten(err->message);
}
