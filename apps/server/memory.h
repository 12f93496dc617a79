/* memory.h - what is free in the C library's heap goes back to the system. Any number of threads. */
#ifndef KITH_SERVER_MEMORY_H
#define KITH_SERVER_MEMORY_H

/* Once, before there are other threads: bound what is kept of memory that is free. */
void memory_bound(void);

/* At the end of what took much, a job or an import: give all of it back. */
void memory_give_back(void);

#endif
