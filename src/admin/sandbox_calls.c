/*
 * Seccomp: the system calls of the worker, as a table. Any other ends the process; the handler of run/crash.c says which it was. Runs in
 * the worker.
 *
 * The table was made from what the tests use (strace), and from what glibc and the libraries do in their place on another machine. Some calls
 * depend on an argument: they stand in the second table. Where a library is known to try what is not for the worker, and to live with an error,
 * the call fails instead.
 */
#include "admin/sandbox_internal.h"
#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *const free_calls[] = {
    /* files that are open */
    "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2", "close", "close_range", "lseek", "fcntl",
    "fstat", "newfstatat", "statx", "lstat", "stat", "fstatfs", "statfs", "fsync", "fdatasync", "sync_file_range", "ftruncate", "fallocate",
    "fadvise64", "getdents64", "dup", "flock",
    /* files by their names, as Landlock allows */
    "open", "openat", "openat2", "access", "faccessat", "faccessat2", "readlink", "readlinkat", "getcwd", "mkdir", "mkdirat", "unlink", "unlinkat",
    "rename", "renameat", "renameat2", "link", "linkat",
    /* network; who may listen does so before */
    "connect", "bind", "accept", "accept4", "getsockname", "getpeername", "getsockopt", "setsockopt", "sendto", "sendmsg", "sendmmsg", "recvfrom",
    "recvmsg", "recvmmsg", "shutdown",
    /* waiting */
    "poll", "ppoll", "select", "pselect6", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd2", "pipe2", "signalfd4",
    "timerfd_create", "timerfd_settime", "nanosleep", "clock_nanosleep", "restart_syscall",
    /* time, chance, who we are */
    "clock_gettime", "clock_getres", "gettimeofday", "time", "getrandom", "getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid",
    "getresuid", "getresgid", "getgroups", "uname", "sysinfo", "getrusage", "times", "getrlimit",
    /* memory */
    "munmap", "mremap", "madvise", "brk", "mlock", "mlock2", "munlock", "mincore", "msync", "membarrier", "memfd_create",
    /* threads and signals */
    "futex", "futex_waitv", "set_robust_list", "get_robust_list", "rseq", "set_tid_address", "sched_yield", "sched_getaffinity", "exit", "exit_group",
    "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "rt_sigpending", "rt_sigsuspend", "sigaltstack", "alarm", "setitimer",
};

/* Those that are tried, and done without. */
static const struct {
    const char *call;
    int         error;
} refused_calls[] = {
    { "clone3", ENOSYS },                        /* its flags are in memory, where no filter sees them: glibc then calls clone */
    { "chmod", EPERM }, { "fchmod", EPERM }, { "fchmodat", EPERM },      /* a new file gets a mode; a setuid one is none of ours */
    { "chown", EPERM }, { "fchown", EPERM }, { "fchownat", EPERM }, { "lchown", EPERM },
};

/* Where (argument & mask) == value: allowed, or failing with this error. Without any such rule it is as if the call did not stand here. */
struct rule {
    const char *call;
    int         error;
    unsigned    argument;
    uint64_t    mask, value;
};

#define WHOLE      UINT64_MAX
#define HALF       UINT64_C(0xffffffff)
#define NEW_SPACES ((uint64_t)(unsigned)(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET))

static const struct rule rules[] = {
    { "clone",      0,            0, CLONE_THREAD | CLONE_VM | CLONE_UNTRACED | NEW_SPACES, CLONE_THREAD | CLONE_VM },   /* no processes */
    { "mmap",       0,            2, PROT_EXEC, 0 },
    { "mmap",       EACCES,       2, PROT_EXEC, PROT_EXEC },
    { "mprotect",   0,            2, PROT_EXEC, 0 },
    { "mprotect",   EACCES,       2, PROT_EXEC, PROT_EXEC },
    { "socket",     0,            0, HALF, AF_INET },
    { "socket",     0,            0, HALF, AF_INET6 },
    { "socket",     0,            0, HALF, AF_UNIX },
    { "socket",     EAFNOSUPPORT, 0, HALF, AF_NETLINK },         /* getaddrinfo asks which addresses there are, and does without */
    { "socketpair", 0,            0, HALF, AF_UNIX },
    { "prctl",      0,            0, HALF, PR_SET_NAME },
    { "prctl",      0,            0, HALF, PR_GET_NAME },
    { "prctl",      EINVAL,       0, HALF, 0x53564d41 },         /* PR_SET_VMA: newer glibcs name their memory, where they can */
    { "ioctl",      0,            1, HALF, TCGETS },             /* isatty */
    { "ioctl",      0,            1, HALF, FIONREAD },
    { "ioctl",      0,            1, HALF, FIONBIO },
    { "prlimit64",  0,            2, WHOLE, 0 },                 /* to be told, not to set */
};

/* -- the filter ------------------------------------------------------------------------------------------------------------------- */

/* A call that this machine's architecture has not is none to be allowed. */
static int allow_all(scmp_filter_ctx f, const char *const *names, size_t count)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < count; i++) {
        int number = seccomp_syscall_resolve_name(names[i]);
        if (number != __NR_SCMP_ERROR)
            r = seccomp_rule_add(f, SCMP_ACT_ALLOW, number, 0);
    }
    return r;
}

static int add_rule(scmp_filter_ctx f, const struct rule *rule)
{
    uint32_t action = rule->error == 0 ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO((unsigned)rule->error);
    int number = seccomp_syscall_resolve_name(rule->call);

    return number == __NR_SCMP_ERROR ? 0 : seccomp_rule_add(f, action, number, 1, SCMP_CMP(rule->argument, SCMP_CMP_MASKED_EQ, rule->mask, rule->value));
}

/* Signals go to ourselves alone, as abort() sends them; and SIGSYS stays the crash report's. */
static int add_limited(scmp_filter_ctx f)
{
    int r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_CMP(0, SCMP_CMP_EQ, (scmp_datum_t)getpid()));

    if (r == 0)
        r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(rt_sigaction), 1, SCMP_CMP(0, SCMP_CMP_NE, SIGSYS));
    for (size_t i = 0; r == 0 && i < sizeof rules / sizeof rules[0]; i++)
        r = add_rule(f, &rules[i]);
    return r;
}

static int refuse_all(scmp_filter_ctx f)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < sizeof refused_calls / sizeof refused_calls[0]; i++) {
        int number = seccomp_syscall_resolve_name(refused_calls[i].call);
        if (number != __NR_SCMP_ERROR)
            r = seccomp_rule_add(f, SCMP_ACT_ERRNO((unsigned)refused_calls[i].error), number, 0);
    }
    return r;
}

int calls_enforce(char error[256])
{
    if (SANITIZED)
        return 0;                                /* the runtime has calls of its own, and looks for leaks from a process of its own */
    /* A trap and not a kill: the handler says which call it was and then lets the process die. Whoever blocks the signal dies at once. */
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_TRAP);
    int r = f == NULL ? -ENOMEM : seccomp_attr_set(f, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

    if (r == 0)
        r = allow_all(f, free_calls, sizeof free_calls / sizeof free_calls[0]);
    if (r == 0)
        r = add_limited(f);
    if (r == 0)
        r = refuse_all(f);
    if (r == 0)
        r = seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2);    /* a tree: each call passes through it */
    if (r == 0)
        r = seccomp_load(f);
    seccomp_release(f);
    if (r < 0)
        snprintf(error, 256, "seccomp: %s", strerror(-r));
    return r;
}

void sandbox_call_name(int number, char out[32])
{
    char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);

    snprintf(out, 32, "%s", name != NULL ? name : "unknown");
    free(name);
}
