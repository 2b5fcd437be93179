/*
 * nightmail debug intruder: what somebody would try who runs code of his own in the worker. Only in a debug build (make DEBUG=1).
 *
 *     nightmail debug intruder DOOR PATH serve -c FILE
 *
 * The server starts as ever; when its worker is ready, the worker tries the door, once, and logs `intruder door=... open=yes|no error=...`; at
 * some doors the sandbox ends it first, which the supervisor logs (worker-forbidden). PATH is what that door is about, or "-". Runs in the
 * worker, on loop 0, with everything that the worker has: it asks the kernel and nobody else.
 */
#include "admin/cli.h"
#include "admin/commands.h"
#include "admin/serve_internal.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <unistd.h>

static const char *path;                 /* what the door is about */

/* Each gives 0 or more if the door is open, -1 with errno if it is shut. */
static long try_read(void)
{
    char byte;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    return fd < 0 ? -1 : read(fd, &byte, 1);
}

static long try_write(void) { return open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600); }
static long try_list(void) { return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC); }

/* Into a directory that may be read. */
static long try_link(void)
{
    char to[4096];

    snprintf(to, sizeof to, "%s.link", path);
    char *mail = strstr(to, "/mail/");
    if (mail == NULL)
        return 0;
    strcpy(mail, "/journal/link");
    return link(path, to);
}

static long try_setuid_file(void)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    return fd < 0 ? -1 : fchmod(fd, 04755);
}

static long try_memory(void)
{
    char name[64];

    snprintf(name, sizeof name, "/proc/%d/mem", getppid());
    return open(name, O_RDWR | O_CLOEXEC);
}

static long try_exec(void)
{
    char *const argv[] = { (char[]){ "true" }, NULL };
    return execve("/bin/true", argv, environ);
}

static long try_connect(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    long r = fd < 0 ? -1 : connect(fd, (const struct sockaddr *)&at, sizeof at);
    return r < 0 && errno == ECONNREFUSED ? 0 : r;       /* we came as far as that */
}

static long try_bind(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    return fd < 0 ? -1 : bind(fd, (const struct sockaddr *)&at, sizeof at);
}

static long try_listen(void) { return listen(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), 1); }
static long try_packet(void) { return socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0); }
static long try_netlink(void) { return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0); }
static long try_fork(void) { return fork(); }
static long try_ptrace(void) { return ptrace(PTRACE_ATTACH, getppid(), NULL, NULL); }
static long try_kill(void) { return kill(getppid(), 0); }
static long try_setuid(void) { return setuid(0); }
static long try_bpf(void) { return syscall(SYS_bpf, 0, NULL, 0); }
static long try_mount(void) { return mount("none", "/mnt", "tmpfs", 0, NULL); }
static long try_unshare(void) { return unshare(CLONE_NEWUSER); }
static long try_io_uring(void) { return syscall(SYS_io_uring_setup, 1, NULL); }
static long try_keyring(void) { return syscall(SYS_keyctl, 0, 0, 0, 0, 0); }
static long try_dumpable(void) { return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); }
static long try_handler(void) { return sigaction(SIGSYS, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL); }
static long try_limit(void) { return setrlimit(RLIMIT_CORE, &(struct rlimit){ RLIM_INFINITY, RLIM_INFINITY }); }

static long try_code(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? -1 : 0;
}

static long try_own_code(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? -1 : mprotect(p, 4096, PROT_READ | PROT_EXEC);
}

static const struct door {
    const char *name;
    long (*enter)(void);
} doors[] = {
    { "read", try_read }, { "write", try_write }, { "list", try_list }, { "link", try_link }, { "setuid-file", try_setuid_file },
    { "memory", try_memory }, { "exec", try_exec }, { "connect", try_connect }, { "bind", try_bind }, { "listen", try_listen },
    { "packet", try_packet }, { "netlink", try_netlink }, { "fork", try_fork }, { "ptrace", try_ptrace }, { "kill", try_kill },
    { "setuid", try_setuid }, { "bpf", try_bpf }, { "mount", try_mount }, { "unshare", try_unshare }, { "io_uring", try_io_uring },
    { "keyring", try_keyring }, { "dumpable", try_dumpable }, { "handler", try_handler }, { "limit", try_limit }, { "code", try_code },
    { "own-code", try_own_code },
};

static const struct door *chosen;

static void intrude(void)
{
    errno = 0;
    long r = chosen->enter();
    int error = errno;
    log_event(LOG_WARN, "intruder", LOG_Z("door", chosen->name), LOG_Z("open", r < 0 ? "no" : "yes"), LOG_Z("error", r < 0 ? strerrorname_np(error) : ""));
}

int cmd_debug(int argc, char **argv)
{
    for (size_t i = 0; argc > 4 && i < sizeof doors / sizeof doors[0]; i++)
        if (strcmp(doors[i].name, argv[2]) == 0)
            chosen = &doors[i];
    if (chosen == NULL || strcmp(argv[1], "intruder") != 0) {
        fputs("usage: nightmail debug intruder DOOR PATH serve -c FILE\n", stderr);
        return EX_USAGE;
    }
    path = argv[3];
    serve_intruder = intrude;
    return cmd_serve(argc - 4, argv + 4);
}
