#include "fail.h"

#include <stdarg.h>
#include <stdio.h>

kith_status common_fail(kith_error *err, kith_status code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (err) {
        *err = (kith_error){.code = code};
        vsnprintf(err->message, sizeof err->message, format, args);
    }
    va_end(args);
    return code;
}

kith_status common_fail_nomem(kith_error *err)
{
    return common_fail(err, KITH_NOMEM, "out of memory");
}
