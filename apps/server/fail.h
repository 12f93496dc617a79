/* fail.h - how the server's files fill an error. */
#ifndef KITH_SERVER_FAIL_H
#define KITH_SERVER_FAIL_H

#include <kith/status.h>

/* Set *err (may be NULL) to a code and a message; returns the code. */
kith_status server_fail(kith_error *err, kith_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
