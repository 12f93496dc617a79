/* writers.h - what tests ask of kith_writers (kith/writers.h). */
#ifndef KI_ENGINE_WRITERS_H
#define KI_ENGINE_WRITERS_H

#include <kith/writers.h>

/* How long a group takes more members after its first was made; 20 ms from the creation on. Before the first call of
 * kith_writers_write. */
void ki_writers_set_group_ns(kith_writers *writers, uint64_t ns);

#endif
