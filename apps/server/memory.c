#include "memory.h"

/* A job works on a thread of its own, so in whichever arena of malloc that thread is given, 8 a processor, and glibc keeps what is
 * freed there: each arena in turn would come to hold as much as the largest job took. malloc_trim does not look at the ends of
 * arenas but the first, and the library raises the bounds from which a block is mapped, and what is free at an end given back,
 * to the largest block that was ever freed (up to 32 MB, and twice that); so these are set. Ten indexes of 20,000 x 32-d took 85 MB to 137,
 * with malloc_trim after each 53 to 80; with both they leave what there was. */
#ifdef __linux__
#include <malloc.h>
#endif

enum {
    LARGE_BLOCK = 1 << 20
}; /* bytes, arbitrary: what a search takes for itself is less, what a job takes is more */

void memory_bound(void)
{
#ifdef __GLIBC__
    (void)mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK);
    (void)mallopt(M_TRIM_THRESHOLD, LARGE_BLOCK);
#endif
}

void memory_give_back(void)
{
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
}
