/*
 * A preload that makes one call fail: each allocation and each system call of the program that it is loaded into, one after another.
 *
 * A point is a call with the way to it: the function and a hash of the addresses on the stack. While the test has armed it, the first call
 * from a point that has not failed yet fails, once; the point is noted, and nothing fails until the next arming. So rounds go on until one
 * passes in which nothing was left to fail. Addresses must be the same in each run (no ASLR), since points are remembered over restarts.
 *
 * FAULTS         the file through which the test speaks, of struct shared; see tests/faults/faults.py, which knows its layout
 *
 * Stands alone: it uses nothing of the tree. What it wraps itself calls nothing wrapped while `inside`.
 */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH = 24, HASHED = 12, POINTS = 1 << 16, PROGRAM_MAX = 1 << 26 };

struct shared {
    _Atomic uint32_t armed;                      /* kinds that may fail now: bits of enum kind */
    _Atomic uint32_t failed;                     /* 1: since the arming one has */
    _Atomic uint64_t calls;                      /* of all kinds, while armed */
    uint32_t         depth;
    char             name[28];                   /* what failed, and from where */
    uint64_t         stack[DEPTH];
    _Atomic uint64_t points[POINTS];             /* a set by open addressing; 0: free */
};

enum kind { MEMORY = 1, FILES = 2, NETWORK = 4, OTHER = 8 };

static struct shared *shared;
static _Thread_local bool inside;

static void *next_of(const char *name)
{
    bool kept = inside;
    inside = true;
    void *p = dlsym(RTLD_NEXT, name);
    inside = kept;
    return p;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAULTS");
    int         fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    void       *stack[1];

    if (fd < 0)
        return;
    (void)backtrace(stack, 1);                   /* loads the unwinder now: later it would count */
    void *p = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    shared = p == MAP_FAILED ? NULL : p;
    (void)close(fd);
}

/* True if it was not there. */
static bool points_add(uint64_t hash)
{
    for (uint64_t i = hash; ; i++) {
        uint64_t there = 0;
        if (atomic_compare_exchange_strong(&shared->points[i % POINTS], &there, hash))
            return true;
        if (there == hash)
            return false;
    }
}

/*
 * libunbound's own thread is spared: when there is no memory for a question that comes down its pipe, it reads the next one from the middle
 * of this one (libunbound 1.17, tube_handle_listen), and answers nobody any more.
 */
static bool is_of_program(void *const *stack, int n)
{
    uintptr_t base = getauxval(AT_PHDR) & ~(uintptr_t)4095;

    for (int i = 0; i < n; i++)
        if ((uintptr_t)stack[i] - base < PROGRAM_MAX)
            return true;
    return false;
}

/* Leaves errno alone. */
static bool fails(const char *name, enum kind kind)
{
    void    *stack[DEPTH];
    uint64_t hash = 0xcbf29ce484222325;

    if (shared == NULL || inside || (shared->armed & kind) == 0)
        return false;
    int kept = errno;
    inside = true;
    shared->calls++;
    int n = backtrace(stack, DEPTH);
    for (int i = 1; i < n && i <= HASHED; i++)
        hash = (hash ^ (uintptr_t)stack[i]) * 0x100000001b3;
    hash |= 1;
    uint32_t zero = 0;
    bool     yes = shared->failed == 0 && is_of_program(stack, n) && points_add(hash);
    if (yes && atomic_compare_exchange_strong(&shared->failed, &zero, 1)) {
        (void)snprintf(shared->name, sizeof shared->name, "%s", name);
        for (int i = 0; i < n; i++)
            shared->stack[i] = (uintptr_t)stack[i];
        shared->depth = (uint32_t)n;
    } else {
        yes = false;
    }
    inside = false;
    errno = kept;
    return yes;
}

/*
 * Memory. While dlsym looks for malloc it may ask for some itself: that comes from here, and is never given back.
 */
static char   early[65536];
static size_t early_used;

static bool is_early(const void *p) { return (const char *)p >= early && (const char *)p < early + sizeof early; }

static void *early_take(size_t n)
{
    void *p = early + early_used;
    early_used += (n + 15) & ~(size_t)15;
    return early_used <= sizeof early ? p : NULL;
}

static void *(*next_malloc)(size_t);
static void *(*next_calloc)(size_t, size_t);
static void *(*next_realloc)(void *, size_t);
static void (*next_free)(void *);

static bool ready(void)
{
    static bool looking;

    if (next_free != NULL)
        return true;
    if (looking)
        return false;
    looking = true;
    next_malloc = next_of("malloc");
    next_calloc = next_of("calloc");
    next_realloc = next_of("realloc");
    next_free = next_of("free");
    return true;
}

static void *no_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

void *malloc(size_t n) { return !ready() ? early_take(n) : fails("malloc", MEMORY) ? no_memory() : next_malloc(n); }

void *calloc(size_t k, size_t n) { return !ready() ? early_take(k * n) : fails("calloc", MEMORY) ? no_memory() : next_calloc(k, n); }

void *realloc(void *p, size_t n)
{
    if (is_early(p))
        return memcpy(malloc(n), p, n);
    return !ready() ? early_take(n) : fails("realloc", MEMORY) ? no_memory() : next_realloc(p, n);
}

void *reallocarray(void *p, size_t k, size_t n)
{
    size_t size;
    return __builtin_mul_overflow(k, n, &size) ? no_memory() : realloc(p, size);
}

void free(void *p)
{
    if (p != NULL && !is_early(p) && ready())
        next_free(p);
}

/*
 * The rest: each is the same but for its arguments.
 */
#define FAILS(type, name, kind, error, parameters, arguments) \
    type name parameters                                      \
    {                                                         \
        static type(*next) parameters;                        \
        if (next == NULL)                                     \
            next = next_of(#name);                            \
        if (fails(#name, kind)) {                             \
            errno = error;                                    \
            return (type)-1;                                  \
        }                                                     \
        return next arguments;                                \
    }

FAILS(ssize_t, pread, FILES, EIO, (int fd, void *p, size_t n, off_t at), (fd, p, n, at))
FAILS(ssize_t, pwrite, FILES, ENOSPC, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at))
FAILS(int, fsync, FILES, EIO, (int fd), (fd))
FAILS(int, fdatasync, FILES, EIO, (int fd), (fd))
FAILS(int, fallocate, FILES, ENOSPC, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))
FAILS(int, ftruncate, FILES, EIO, (int fd, off_t n), (fd, n))
FAILS(int, renameat, FILES, ENOSPC, (int a, const char *from, int b, const char *to), (a, from, b, to))
FAILS(int, linkat, FILES, ENOSPC, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags))
FAILS(int, unlink, FILES, EIO, (const char *path), (path))
FAILS(int, unlinkat, FILES, EIO, (int dir, const char *path, int flags), (dir, path, flags))
FAILS(int, mkdirat, FILES, ENOSPC, (int dir, const char *path, mode_t mode), (dir, path, mode))
FAILS(int, fstat, FILES, EIO, (int fd, struct stat *out), (fd, out))
FAILS(int, fstatat, FILES, EIO, (int dir, const char *path, struct stat *out, int flags), (dir, path, out, flags))
FAILS(int, socket, NETWORK, EMFILE, (int domain, int type, int protocol), (domain, type, protocol))
FAILS(int, connect, NETWORK, ENETUNREACH, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n))
FAILS(int, bind, NETWORK, EADDRINUSE, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n))
FAILS(int, accept4, NETWORK, EMFILE, (int fd, struct sockaddr *a, socklen_t *n, int flags), (fd, a, n, flags))
FAILS(int, getsockname, NETWORK, ENOBUFS, (int fd, struct sockaddr *a, socklen_t *n), (fd, a, n))
FAILS(int, getpeername, NETWORK, ENOTCONN, (int fd, struct sockaddr *a, socklen_t *n), (fd, a, n))
FAILS(int, setsockopt, NETWORK, ENOMEM, (int fd, int level, int name, const void *p, socklen_t n), (fd, level, name, p, n))
FAILS(int, getsockopt, NETWORK, ENOBUFS, (int fd, int level, int name, void *p, socklen_t *n), (fd, level, name, p, n))
FAILS(int, shutdown, NETWORK, ENOTCONN, (int fd, int how), (fd, how))
FAILS(int, epoll_ctl, NETWORK, ENOMEM, (int ep, int op, int fd, struct epoll_event *e), (ep, op, fd, e))
FAILS(ssize_t, send, NETWORK, ECONNRESET, (int fd, const void *p, size_t n, int flags), (fd, p, n, flags))
FAILS(ssize_t, sendmsg, NETWORK, ECONNRESET, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
FAILS(ssize_t, recv, NETWORK, ECONNRESET, (int fd, void *p, size_t n, int flags), (fd, p, n, flags))
FAILS(void *, mmap, OTHER, ENOMEM, (void *at, size_t n, int prot, int flags, int fd, off_t offset), (at, n, prot, flags, fd, offset))
FAILS(int, madvise, OTHER, ENOMEM, (void *at, size_t n, int advice), (at, n, advice))
FAILS(int, mprotect, OTHER, ENOMEM, (void *at, size_t n, int prot), (at, n, prot))

/* Not of pipes, terminals and eventfds: none of them can be full of what we write, and none loses it. */
static bool is_file(int fd)
{
    struct stat st;
    int         kept = errno;
    bool        outer = inside;
    inside = true;
    bool yes = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    inside = outer;
    errno = kept;
    return yes;
}

ssize_t read(int fd, void *p, size_t n)
{
    ssize_t (*next)(int, void *, size_t) = next_of("read");
    if (!is_file(fd) || !fails("read", FILES))
        return next(fd, p, n);
    errno = EIO;
    return -1;
}

ssize_t write(int fd, const void *p, size_t n)
{
    ssize_t (*next)(int, const void *, size_t) = next_of("write");
    if (!is_file(fd) || !fails("write", FILES))
        return next(fd, p, n);
    errno = ENOSPC;
    return -1;
}

int pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = next_of("pthread_create");
    return fails("pthread_create", OTHER) ? EAGAIN : next(t, attr, fn, arg);
}

static mode_t mode_of(int flags, va_list more) { return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(more, mode_t) : 0; }

int open(const char *path, int flags, ...)
{
    int (*next)(const char *, int, ...) = next_of("open");
    va_list more;
    va_start(more, flags);
    mode_t mode = mode_of(flags, more);
    va_end(more);
    if (!fails("open", FILES))
        return next(path, flags, mode);
    errno = EMFILE;
    return -1;
}

int openat(int dir, const char *path, int flags, ...)
{
    int (*next)(int, const char *, int, ...) = next_of("openat");
    va_list more;
    va_start(more, flags);
    mode_t mode = mode_of(flags, more);
    va_end(more);
    if (!fails("openat", FILES))
        return next(dir, path, flags, mode);
    errno = EMFILE;
    return -1;
}
