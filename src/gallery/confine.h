/* confine.h - what a process gives up before it looks at bytes from outside. Linux. */
#ifndef KI_GALLERY_CONFINE_H
#define KI_GALLERY_CONFINE_H

#include <sys/types.h>

#include <kith/status.h>

typedef struct ki_confinement {
    uint64_t memory; /* bytes of address space beyond what the process has now */
} ki_confinement;

/* In a fresh child: die with `parent` (0: not so), forget the parent's signal handlers, close every file but
 * `keep` (which becomes file 3), read from and write to nowhere. Returns 0 when the parent is gone already.
 * KITH_DECODER_STDERR in the environment keeps stderr open, for those who look for a fault in a decoder. */
int ki_confine_child(pid_t parent, int *keep);

/* For good: no core files, no writing of files, a few open files, a bound on memory, no new privileges, and (libseccomp)
 * no system call but those to read what is open, to answer, for memory, threads and time: no file is opened, no socket
 * made, no process started. Builds with sanitizers have no bound on memory and calls. */
kith_status ki_confine_limits(const ki_confinement *confinement, kith_error *err);

/* The processor time the process may use from now on before SIGXCPU ends it, seconds. */
void ki_confine_cpu(double seconds);

#endif
