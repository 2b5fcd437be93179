/*
 * A preload by which a test sets the date of the server that it is loaded into, and makes its files read-only.
 *
 * As a file system does that has stopped by itself (errors=remount-ro), also for files that are open; the kernel refuses to do that to a
 * healthy one. Standard output and standard error are written to all the same. The monotonic clock is never moved: the kernel's is not.
 *
 * EXHAUSTION     the file through which the test speaks, of struct shared
 *
 * Stands alone: it uses nothing of the tree.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct shared {
    int64_t  seconds;                            /* added to the date */
    uint64_t read_only;
};

static struct shared  none;
static struct shared *shared = &none;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("EXHAUSTION");
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return;
    void *p = mmap(NULL, sizeof *shared, PROT_READ, MAP_SHARED, fd, 0);
    shared = p == MAP_FAILED ? &none : p;
    (void)close(fd);
}

static void *next_of(const char *name) { return dlsym(RTLD_NEXT, name); }

/* -- the date ------------------------------------------------------------------------------------------------------------------- */

static int64_t added(void) { return __atomic_load_n(&shared->seconds, __ATOMIC_RELAXED); }

int clock_gettime(clockid_t id, struct timespec *t)
{
    int (*next)(clockid_t, struct timespec *) = next_of("clock_gettime");
    int r = next(id, t);
    if (r == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        t->tv_sec += added();
    return r;
}

int gettimeofday(struct timeval *t, void *zone)
{
    int (*next)(struct timeval *, void *) = next_of("gettimeofday");
    int r = next(t, zone);
    if (r == 0)
        t->tv_sec += added();
    return r;
}

time_t time(time_t *out)
{
    time_t (*next)(time_t *) = next_of("time");
    time_t t = next(NULL) + added();
    if (out != NULL)
        *out = t;
    return t;
}

/* -- files ---------------------------------------------------------------------------------------------------------------------- */

static bool refused(void)
{
    if (__atomic_load_n(&shared->read_only, __ATOMIC_RELAXED) == 0)
        return false;
    errno = EROFS;
    return true;
}

static bool refused_to(int fd)
{
    struct stat info;
    return fd > STDERR_FILENO && fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && refused();
}

ssize_t write(int fd, const void *p, size_t n)
{
    ssize_t (*next)(int, const void *, size_t) = next_of("write");
    return refused_to(fd) ? -1 : next(fd, p, n);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    ssize_t (*next)(int, const void *, size_t, off_t) = next_of("pwrite");
    return refused() ? -1 : next(fd, p, n, at);
}

int fdatasync(int fd)
{
    int (*next)(int) = next_of("fdatasync");
    return refused() ? -1 : next(fd);
}

int fsync(int fd)
{
    int (*next)(int) = next_of("fsync");
    return refused() ? -1 : next(fd);
}

int fallocate(int fd, int mode, off_t from, off_t n)
{
    int (*next)(int, int, off_t, off_t) = next_of("fallocate");
    return refused() ? -1 : next(fd, mode, from, n);
}

int ftruncate(int fd, off_t n)
{
    int (*next)(int, off_t) = next_of("ftruncate");
    return refused() ? -1 : next(fd, n);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    int (*next)(int, const char *, int, const char *) = next_of("renameat");
    return refused() ? -1 : next(from_dir, from, to_dir, to);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    int (*next)(int, const char *, int, const char *, int) = next_of("linkat");
    return refused() ? -1 : next(from_dir, from, to_dir, to, flags);
}

int unlinkat(int dir, const char *name, int flags)
{
    int (*next)(int, const char *, int) = next_of("unlinkat");
    return refused() ? -1 : next(dir, name, flags);
}

int mkdirat(int dir, const char *name, mode_t mode)
{
    int (*next)(int, const char *, mode_t) = next_of("mkdirat");
    return refused() ? -1 : next(dir, name, mode);
}

static bool writes(uint64_t flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT) != 0; }

/* The server opens by openat2(2), which has no function of its own. */
long syscall(long number, ...)
{
    long (*next)(long, ...) = next_of("syscall");
    va_list list;
    long a[6];

    va_start(list, number);
    for (unsigned i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_openat2 && writes(((const struct open_how *)a[2])->flags) && refused())
        return -1;
    return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
