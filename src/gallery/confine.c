#include "gallery/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <seccomp.h>
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

/* Address sanitizers map terabytes of shadow memory, so that a bound on the address space means nothing to them; and they
 * open files and start a process when they have something to say. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
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

/* ---- System calls ---- */

/* What a decoder needs once it has started: to read files that it holds, to answer, memory, threads, time. No call here
 * opens a file, makes a socket, starts a program or reaches another process. */
static const int allowed[] = {
    SCMP_SYS(read),           SCMP_SYS(readv),
    SCMP_SYS(pread64),        SCMP_SYS(lseek),
    SCMP_SYS(fstat),          SCMP_SYS(newfstatat), /* that is what glibc's fstat calls */
    SCMP_SYS(write),          SCMP_SYS(writev),
    SCMP_SYS(close),          SCMP_SYS(recvmsg),
    SCMP_SYS(recvfrom),       SCMP_SYS(sendmsg),
    SCMP_SYS(sendto),         SCMP_SYS(poll),
    SCMP_SYS(ppoll),          SCMP_SYS(mmap),
    SCMP_SYS(munmap),         SCMP_SYS(mremap),
    SCMP_SYS(mprotect), /* with execution: libvips compiles its loops by Orc */
    SCMP_SYS(madvise),        SCMP_SYS(brk),
    SCMP_SYS(membarrier),     SCMP_SYS(futex),
    SCMP_SYS(rseq),           SCMP_SYS(set_robust_list),
    SCMP_SYS(sched_yield),    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(getcpu),         SCMP_SYS(getpid),
    SCMP_SYS(getppid),        SCMP_SYS(gettid),
    SCMP_SYS(getrusage),      SCMP_SYS(getrlimit),
    SCMP_SYS(sysinfo),        SCMP_SYS(uname),
    SCMP_SYS(times),          SCMP_SYS(getrandom),
    SCMP_SYS(clock_gettime),  SCMP_SYS(clock_getres),
    SCMP_SYS(gettimeofday),   SCMP_SYS(time),
    SCMP_SYS(nanosleep),      SCMP_SYS(clock_nanosleep),
    SCMP_SYS(pause),          SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),    SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),           SCMP_SYS(exit_group)};

static int allow_calls(scmp_filter_ctx filter)
{
    int code = 0;
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed && code == 0; i++)
        code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    /* Threads, but no processes. clone3 hides its flags behind a pointer; without it glibc takes clone. */
    if (code == 0) code = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (code == 0)
        code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                                SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
    /* Nothing of fcntl that makes the kernel send signals (F_SETOWN, O_ASYNC): they would reach other processes. */
    static const int commands[] = {F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC};
    for (size_t i = 0; i < sizeof commands / sizeof *commands && code == 0; i++)
        code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
                                SCMP_A1(SCMP_CMP_EQ, (scmp_datum_t)commands[i], 0));
    /* Signals and limits for itself; the name of a thread. */
    if (code == 0)
        code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                                SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
    if (code == 0)
        code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1, SCMP_A0(SCMP_CMP_EQ, 0, 0));
    if (code == 0)
        code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
                                SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME, 0));
    return code;
}

/* From now on every other call fails with EPERM: a library that wants more than it needs goes on without. */
static kith_status forbid_calls(kith_error *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!filter) return ki_fail(err, KITH_NOMEM, "out of memory");
    int code = allow_calls(filter);
    if (code == 0) code = seccomp_load(filter);
    seccomp_release(filter);
    return code == 0 ? KITH_OK : ki_fail_errno(err, -code, "a decoder's system calls cannot be confined");
}

kith_status ki_confine_limits(const ki_confinement *confinement, kith_error *err)
{
    /* When memory runs out on the machine, the kernel should take a decoder and not its parent. */
    FILE *file = fopen("/proc/self/oom_score_adj", "we");
    if (file) {
        fputs("1000", file);
        fclose(file);
    }
    if (!SANITIZED && limit(RLIMIT_AS, (rlim_t)(address_space() + confinement->memory)) != 0)
        return ki_fail_errno(err, errno, "a decoder's memory cannot be limited");
    if (limit(RLIMIT_CORE, 0) != 0 || limit(RLIMIT_FSIZE, 0) != 0 || limit(RLIMIT_NOFILE, OPEN_FILES) != 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return ki_fail_errno(err, errno, "a decoder cannot be confined");
    prctl(PR_SET_DUMPABLE, 0);
    return SANITIZED ? KITH_OK : forbid_calls(err);
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
