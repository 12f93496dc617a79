/* api.h - how symbols are exported. Included by every public header; nothing to call here. */
#ifndef KITH_API_H
#define KITH_API_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define KITH_API __attribute__((visibility("default")))
#else
#define KITH_API
#endif

#endif
