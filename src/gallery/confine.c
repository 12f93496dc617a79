#include "gallery/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"

#define KEPT_FD 3
#define OPEN_FILES 32 /* a decoder needs its socket and the picture; a font or colour table here and there */

/* Address sanitizers map terabytes of shadow memory: a bound on the address space means nothing to them. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SHADOW_MEMORY 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SHADOW_MEMORY 1
#endif
#endif
#ifndef SHADOW_MEMORY
#define SHADOW_MEMORY 0
#endif

int ki_confine_child(pid_t parent, int *keep)
{
    if (parent) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) return 0; /* it died before the line above */
    }

    for (int sig = 1; sig < NSIG; sig++)
        if (sig != SIGKILL && sig != SIGSTOP) signal(sig, SIG_DFL);
    /* A key on the terminal goes to the parent, which decides what becomes of its children. */
    signal(SIGINT, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);

    if (*keep != KEPT_FD) {
        if (dup2(*keep, KEPT_FD) < 0) return 0;
        close(*keep);
        *keep = KEPT_FD;
    }
    fcntl(KEPT_FD, F_SETFD, FD_CLOEXEC);
    close_range(KEPT_FD + 1, ~0u, 0);
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nowhere < 0) return 0;
    dup2(nowhere, STDIN_FILENO);
    dup2(nowhere, STDOUT_FILENO);
    if (!getenv("KITH_DECODER_STDERR")) dup2(nowhere, STDERR_FILENO);
    close(nowhere);
    return 1;
}

/* Bytes of address space that the process has now. */
static uint64_t address_space(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file) return 0;
    if (fscanf(file, "%llu", &pages) != 1) pages = 0;
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int limit(int resource, rlim_t value)
{
    struct rlimit now;
    if (getrlimit(resource, &now) != 0) return -1;
    if (now.rlim_max < value) value = now.rlim_max;
    return setrlimit(resource, &(struct rlimit){.rlim_cur = value, .rlim_max = value});
}

kith_status ki_confine_limits(const ki_confinement *confinement, kith_error *err)
{
    /* When memory runs out on the machine, the kernel should take a decoder and not its parent. */
    FILE *file = fopen("/proc/self/oom_score_adj", "we");
    if (file) {
        fputs("1000", file);
        fclose(file);
    }
    if (!SHADOW_MEMORY && limit(RLIMIT_AS, (rlim_t)(address_space() + confinement->memory)) != 0)
        return ki_fail_errno(err, errno, "a decoder's memory cannot be limited");
    if (limit(RLIMIT_CORE, 0) != 0 || limit(RLIMIT_FSIZE, 0) != 0 || limit(RLIMIT_NOFILE, OPEN_FILES) != 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return ki_fail_errno(err, errno, "a decoder cannot be confined");
    prctl(PR_SET_DUMPABLE, 0);
    return KITH_OK;
}

void ki_confine_cpu(double seconds)
{
    struct timespec used;
    struct rlimit bound;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) != 0 || getrlimit(RLIMIT_CPU, &bound) != 0) return;
    double until = ceil((double)used.tv_sec + (double)used.tv_nsec * 1e-9 + seconds);
    if (bound.rlim_max == RLIM_INFINITY || until < (double)bound.rlim_max) bound.rlim_cur = (rlim_t)until;
    setrlimit(RLIMIT_CPU, &bound);
}
