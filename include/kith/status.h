/* status.h - what every call answers.
 *
 * Every function that can fail returns a kith_status and takes, as its last argument, an optional
 * kith_error that the caller owns. There is no thread-local and no global error state.
 */
#ifndef KITH_STATUS_H
#define KITH_STATUS_H

#include <kith/api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(NAME, number, text). The numbers are ABI: they never change, new ones are added at the end. */
#define KITH_STATUS_MAP(X)                            \
    X(OK, 0, "success")                               \
    X(INVALID, 1, "invalid argument")                 \
    X(NOMEM, 2, "out of memory")                      \
    X(IO, 3, "input/output error")                    \
    X(FORMAT, 4, "not a file of the expected format") \
    X(CORRUPT, 5, "damaged file")                     \
    X(VERSION, 6, "file of an unsupported version")   \
    X(UNSUPPORTED, 7, "not supported")                \
    X(NOTFOUND, 8, "not found")                       \
    X(EXISTS, 9, "already exists")                    \
    X(BUSY, 10, "in use by another writer")           \
    X(READONLY, 11, "read-only")                      \
    X(CANCELLED, 12, "cancelled")                     \
    X(UNTRAINED, 13, "not trained")                   \
    X(INTERNAL, 14, "internal error")

typedef enum kith_status {
#define KITH_STATUS_ENUM(name, number, text) KITH_##name = number,
    KITH_STATUS_MAP(KITH_STATUS_ENUM)
#undef KITH_STATUS_ENUM
} kith_status;

/* Why a call failed. `message` names the argument, its value and its range; it has no line break. */
typedef struct kith_error {
    kith_status code;
    int sys_errno; /* errno of the system call that failed, 0 where there was none */
    char message[500];
} kith_error;

/* The text of a status ("out of memory"), never NULL, static. */
KITH_API const char *kith_status_text(kith_status status);

/* The name of a status ("KITH_NOMEM"), never NULL, static. */
KITH_API const char *kith_status_name(kith_status status);

#ifdef __cplusplus
}
#endif
#endif
