/*
 * A preload for the bench: counts every sync a process asks for, and makes each take longer.
 *
 * A fast virtual disk hides what group commit is for; 5 ms more for each sync, on both sides, show it. The counts show that
 * both sides are durable. Syncs by open flags or by io_uring are not seen; neither side uses them.
 *
 * SLOW_SYNC_US     microseconds added to each sync (0)
 * SLOW_SYNC_COUNT  a file of SYNC_KINDS numbers of 64 bits, shared by all processes; counted there
 *
 * Stands alone: preloaded into Postfix's daemons as into ours, it uses nothing of the tree.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum sync_kind { SYNC_FSYNC, SYNC_FDATASYNC, SYNC_FILE_RANGE, SYNC_FS, SYNC_ALL, SYNC_KINDS };

static uint64_t *counts;
static long      added_us;

/* Before main, and so before any process gives up the right to open the file. */
__attribute__((constructor)) static void begin(void)
{
    const char *us = getenv("SLOW_SYNC_US"), *path = getenv("SLOW_SYNC_COUNT");

    added_us = us == NULL ? 0 : atol(us);
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *p = mmap(NULL, SYNC_KINDS * sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    counts = p == MAP_FAILED ? NULL : p;
    (void)close(fd);
}

static void note(enum sync_kind kind)
{
    int kept = errno;
    struct timespec left = { .tv_sec = added_us / 1000000, .tv_nsec = added_us % 1000000 * 1000 };

    if (counts != NULL)
        __atomic_fetch_add(&counts[kind], 1, __ATOMIC_RELAXED);
    while (added_us > 0 && nanosleep(&left, &left) < 0 && errno == EINTR)
        continue;
    errno = kept;
}

static void *next_of(const char *name) { return dlsym(RTLD_NEXT, name); }

int fsync(int fd)
{
    int (*next)(int) = next_of("fsync");
    note(SYNC_FSYNC);
    return next(fd);
}

int fdatasync(int fd)
{
    int (*next)(int) = next_of("fdatasync");
    note(SYNC_FDATASYNC);
    return next(fd);
}

int sync_file_range(int fd, off_t from, off_t n, unsigned flags)
{
    int (*next)(int, off_t, off_t, unsigned) = next_of("sync_file_range");
    if ((flags & (SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER)) != 0)    /* only starting is no sync */
        note(SYNC_FILE_RANGE);
    return next(fd, from, n, flags);
}

int syncfs(int fd)
{
    int (*next)(int) = next_of("syncfs");
    note(SYNC_FS);
    return next(fd);
}

void sync(void)
{
    void (*next)(void) = next_of("sync");
    note(SYNC_ALL);
    next();
}
