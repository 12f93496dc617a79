/* timestamp.h - moments as text (RFC 3339) and as seconds since 1970 in UTC. */
#ifndef KI_ENGINE_TIMESTAMP_H
#define KI_ENGINE_TIMESTAMP_H

#include <stddef.h>
#include <stdint.h>

/* 2024-05-01, 2024-05-01T12:30Z, 2024-05-01 12:30:00.25+02:00; without a zone: UTC. Seconds, and the fraction of a
 * second (0..1) after them. Returns 0 when it is no such text. */
int ki_timestamp_parse(const char *text, size_t size, int64_t *seconds, double *fraction);

#endif
