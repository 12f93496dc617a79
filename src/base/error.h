/* error.h - filling a kith_error and forwarding a status. */
#ifndef KI_BASE_ERROR_H
#define KI_BASE_ERROR_H

#include <kith/status.h>

#if defined(__GNUC__) || defined(__clang__)
#define KI_PRINTF(fmt_arg, first_arg) __attribute__((format(printf, fmt_arg, first_arg)))
#else
#define KI_PRINTF(fmt_arg, first_arg)
#endif

/* Fill err (may be NULL) and return code. The message names the argument, its value and its range. */
kith_status ki_fail(kith_error *err, kith_status code, const char *fmt, ...) KI_PRINTF(3, 4);

/* The same for a failed system call: the code comes from sys_errno (positive: ENOMEM, ENOENT and EROFS have
 * codes of their own, the rest is KITH_IO) and its text is appended. */
kith_status ki_fail_errno(kith_error *err, int sys_errno, const char *fmt, ...) KI_PRINTF(3, 4);

/* KITH_NOMEM, naming how many bytes were asked for. */
kith_status ki_fail_nomem(kith_error *err, size_t bytes);

/* Make err (may be NULL) say that nothing failed. */
void ki_error_clear(kith_error *err);

/* Put "prefix: " in front of err's message, so that it says which file or row it is about. */
void ki_error_prefix(kith_error *err, const char *fmt, ...) KI_PRINTF(2, 3);

/* Forward a failure to the caller. Only where nothing has to be cleaned up. */
#define KI_TRY(call)                                        \
    do {                                                    \
        kith_status ki_try_status = (call);                 \
        if (ki_try_status != KITH_OK) return ki_try_status; \
    } while (0)

#endif
