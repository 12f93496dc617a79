/* fail.h - how the programs' shared files fill an error. */
#ifndef KITH_COMMON_FAIL_H
#define KITH_COMMON_FAIL_H

#include <kith/status.h>

/* Set *err (may be NULL) to a code and a message; returns the code. */
kith_status common_fail(kith_error *err, kith_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* KITH_NOMEM. */
kith_status common_fail_nomem(kith_error *err);

#endif
