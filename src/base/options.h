/* options.h - reading the caller's option structs, which begin with struct_size and only grow at their end. */
#ifndef KI_BASE_OPTIONS_H
#define KI_BASE_OPTIONS_H

#include <string.h>

#include "base/error.h"

/* Copy the caller's options over `own`, which holds the defaults: a caller built against an older header gives fewer
 * bytes, and the rest keeps its default; one built against a newer header may give more, if what is beyond is zero.
 * name: of the argument, for the message. given NULL: the defaults stand. */
static inline kith_status ki_options_read(void *own, size_t own_size, const void *given, const char *name,
                                          kith_error *err)
{
    size_t size;
    if (!given) return KITH_OK;
    memcpy(&size, given, sizeof size);
    if (size < sizeof size || size > 4096)
        return ki_fail(err, KITH_INVALID, "%s.struct_size is %zu: fill the struct by its _init function",
                       name, size);
    for (size_t i = own_size; i < size; i++)
        if (((const char *)given)[i] != 0)
            return ki_fail(err, KITH_UNSUPPORTED, "%s sets an option that this version does not know", name);
    memcpy(own, given, size < own_size ? size : own_size);
    memcpy(own, &own_size, sizeof own_size);
    return KITH_OK;
}

#endif
