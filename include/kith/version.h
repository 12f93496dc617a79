/* version.h - which kith this is. */
#ifndef KITH_VERSION_H
#define KITH_VERSION_H

#include <kith/api.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KITH_VERSION_MAJOR 0
#define KITH_VERSION_MINOR 1
#define KITH_VERSION_PATCH 0
#define KITH_VERSION_STRING "0.1.0"

/* The version of the library that is linked, "MAJOR.MINOR.PATCH", static. */
KITH_API const char *kith_version(void);

#ifdef __cplusplus
}
#endif
#endif
