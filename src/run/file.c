/*
 * The disk: the front that checks names and dispatches, and the real disk behind it.
 *
 * Names are opened beneath a directory without following links: by openat2(2), or, where the kernel or a seccomp filter does
 * not have it, component by component with O_NOFOLLOW. A handle of the real disk is the descriptor itself. Everything here
 * blocks and may be called from any thread.
 */
#include "run/file.h"

#include "base/buf.h"
#include "run/file_internal.h"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

static const struct file_ops real_disk;
static const struct file_ops *disk = &real_disk;

void file_replace(const struct file_ops *ops)
{
    disk = ops != NULL ? ops : &real_disk;
}

int file_name_check(const char *name)
{
    if (*name == '\0')
        return -ENOENT;
    if (*name == '/')
        return -EXDEV;
    for (const char *part = name; *part != '\0';) {
        const char *end = strchrnul(part, '/');

        if (end - part == 2 && part[0] == '.' && part[1] == '.')
            return -EXDEV;
        part = *end == '\0' ? end : end + 1;
    }
    return 0;
}

/* The front. */

int file_open_dir(const char *path)
{
    return disk->open_dir(path);
}

int file_open_dir_at(int dir, const char *name)
{
    int r = file_name_check(name);

    return r < 0 ? r : disk->open_dir_at(dir, name);
}

int file_open_at(int dir, const char *name, unsigned flags)
{
    assert(flags & (FILE_READ | FILE_WRITE));
    assert(!(flags & FILE_EXCLUSIVE) || (flags & FILE_CREATE));
    int r = file_name_check(name);

    return r < 0 ? r : disk->open_at(dir, name, flags);
}

int file_close(int file)
{
    return file < 0 ? 0 : disk->close(file);
}

int file_read_at(int file, void *p, size_t n, uint64_t offset, size_t *out_read)
{
    return disk->read_at(file, p, n, offset, out_read);
}

int file_write_at(int file, const void *p, size_t n, uint64_t offset)
{
    return disk->write_at(file, p, n, offset);
}

int file_append(int file, const void *p, size_t n)
{
    return disk->append(file, p, n);
}

int file_datasync(int file)
{
    return disk->datasync(file);
}

int file_sync(int file)
{
    return disk->sync(file);
}

int file_start_sync(int file)
{
    return disk->start_sync(file);
}

int file_allocate(int file, uint64_t size)
{
    return disk->allocate(file, size);
}

int file_truncate(int file, uint64_t size)
{
    return disk->truncate(file, size);
}

int file_info(int file, struct file_info *out)
{
    return disk->info(file, out);
}

int file_info_at(int dir, const char *name, struct file_info *out)
{
    int r = file_name_check(name);

    return r < 0 ? r : disk->info_at(dir, name, out);
}

int file_rename_at(int from_dir, const char *from, int to_dir, const char *to)
{
    int r = file_name_check(from);

    if (r == 0)
        r = file_name_check(to);
    return r < 0 ? r : disk->rename_at(from_dir, from, to_dir, to);
}

int file_link_at(int from_dir, const char *from, int to_dir, const char *to)
{
    int r = file_name_check(from);

    if (r == 0)
        r = file_name_check(to);
    return r < 0 ? r : disk->link_at(from_dir, from, to_dir, to);
}

int file_unlink_at(int dir, const char *name)
{
    int r = file_name_check(name);

    return r < 0 ? r : disk->unlink_at(dir, name);
}

int file_mkdir_at(int dir, const char *name)
{
    int r = file_name_check(name);

    return r < 0 ? r : disk->mkdir_at(dir, name);
}

int file_own_like(int file, int model)
{
    return disk->own_like(file, model);
}

int file_make_passable(int dir)
{
    return disk->make_passable(dir);
}

int file_list(int dir, int (*each)(void *arg, const char *name), void *arg)
{
    return disk->list(dir, each, arg);
}

int file_lock(int file)
{
    return disk->lock(file);
}

int file_system_of(int file, enum file_system *out, uint64_t *out_free_bytes)
{
    return disk->system_of(file, out, out_free_bytes);
}

/* Whole files. */

static int read_whole(int file, size_t max, struct buf *out)
{
    size_t before = out->n;
    int r = 0;

    for (;;) {
        size_t read = 0, have = out->n - before;
        size_t want = max - have < 16384 ? max - have + 1 : 16384; /* one more than allowed, to see whether there is more */
        char *room = buf_room(out, want);

        if (room == NULL)
            r = -ENOMEM;
        else
            r = file_read_at(file, room, want, have, &read);
        if (r < 0 || read == 0)
            break;
        if (have + read > max) {
            r = -EFBIG;
            break;
        }
        buf_added(out, read);
    }
    if (r < 0)
        buf_truncate(out, before);
    return r;
}

int file_read_whole(const char *path, size_t max, struct buf *out)
{
    CLEANUP_FILE int file = disk->open_path(path);

    return file < 0 ? file : read_whole(file, max, out);
}

int file_info_path(const char *path, struct file_info *out)
{
    CLEANUP_FILE int file = disk->open_path(path);

    return file < 0 ? file : file_info(file, out);
}

int file_read_whole_at(int dir, const char *name, size_t max, struct buf *out)
{
    CLEANUP_FILE int file = file_open_at(dir, name, FILE_READ);

    return file < 0 ? file : read_whole(file, max, out);
}

/* The real disk: opening. */

/* With O_DIRECTORY a link is "not a directory"; openat2 says -ELOOP, and so do we. */
static int open_error(int at, const char *name)
{
    int error = errno;
    struct stat st;

    if (error == ENOTDIR && fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
        error = ELOOP;
    return -error;
}

/* Without openat2: every component is opened by itself and none may be a link. */
static int open_walking(int dir, const char *name, int flags, mode_t mode)
{
    char part[NAME_MAX + 1];
    int at = dir;
    const char *end;
    int r;

    for (; (end = strchr(name, '/')) != NULL && end[strspn(end, "/")] != '\0'; name = end + strspn(end, "/")) {
        size_t n = (size_t)(end - name);

        if (n > NAME_MAX) {
            r = -ENAMETOOLONG;
            goto out;
        }
        memcpy(part, name, n);
        part[n] = '\0';
        int next = openat(at, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0) {
            r = open_error(at, part);
            goto out;
        }
        if (at != dir)
            (void)close(at);
        at = next;
    }
    r = openat(at, name, flags | O_NOFOLLOW, mode);
    if (r < 0)
        r = open_error(at, name);
out:
    if (at != dir)
        (void)close(at);
    return r;
}

static int open_beneath(int dir, const char *name, int flags)
{
    static atomic_bool no_openat2;
    mode_t mode = flags & O_CREAT ? 0600 : 0;
    struct open_how how = { .flags = (uint64_t)(flags | O_CLOEXEC), .mode = mode, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS };

    /* EAGAIN: something was renamed under our eyes. */
    for (unsigned tries = 0; tries < 16 && !atomic_load_explicit(&no_openat2, memory_order_relaxed); tries++) {
        int fd = (int)syscall(SYS_openat2, dir, name, &how, sizeof how);

        if (fd >= 0)
            return fd;
        if (errno == ENOSYS)
            atomic_store_explicit(&no_openat2, true, memory_order_relaxed);
        else if (errno == EPERM)
            break; /* a seccomp filter of a container, or really EPERM: openat will say */
        else if (errno != EINTR && errno != EAGAIN)
            return -errno;
    }
    return open_walking(dir, name, flags | O_CLOEXEC, mode);
}

static int real_open_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

static int real_open_dir_at(int dir, const char *name)
{
    return open_beneath(dir, name, O_RDONLY | O_DIRECTORY);
}

static int real_open_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    return fd < 0 ? -errno : fd;
}

/* Only regular files come out of this: whoever owns a mailbox could put a FIFO there, and opening that must not hang a helper. */
static int real_open_at(int dir, const char *name, unsigned flags)
{
    int how = flags & FILE_WRITE ? (flags & FILE_READ ? O_RDWR : O_WRONLY) : O_RDONLY;

    how |= O_NOCTTY | O_NONBLOCK;
    if (flags & FILE_CREATE)
        how |= O_CREAT;
    if (flags & FILE_EXCLUSIVE)
        how |= O_EXCL;
    if (flags & FILE_TRUNCATE)
        how |= O_TRUNC;
    if (flags & FILE_APPEND)
        how |= O_APPEND;

    int fd = open_beneath(dir, name, how);
    if (fd < 0 || (flags & FILE_EXCLUSIVE))
        return fd;

    struct stat st;
    int r = fstat(fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) ? 0 : S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    if (r < 0) {
        (void)close(fd);
        return r;
    }
    return fd;
}

/* After EINTR the descriptor is gone all the same (Linux); a second close could hit another thread's file. */
static int real_close(int file)
{
    return close(file) < 0 && errno != EINTR ? -errno : 0;
}

/* The real disk: bytes. */

static int real_read_at(int file, void *p, size_t n, uint64_t offset, size_t *out_read)
{
    size_t done = 0;

    while (done < n) {
        ssize_t got = pread(file, (char *)p + done, n - done, (off_t)(offset + done));

        /* A path that an operator named may be a pipe; it has no offsets, but is read in order anyway. */
        if (got < 0 && errno == ESPIPE)
            got = read(file, (char *)p + done, n - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    *out_read = done;
    return 0;
}

static int real_write_at(int file, const void *p, size_t n, uint64_t offset)
{
    for (size_t done = 0; done < n;) {
        ssize_t put = pwrite(file, (const char *)p + done, n - done, (off_t)(offset + done));

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -errno;
        done += (size_t)put;
    }
    return 0;
}

static int real_append(int file, const void *p, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t put = write(file, (const char *)p + done, n - done);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -errno;
        done += (size_t)put;
    }
    return 0;
}

/* A sync that was interrupted has not failed; one that failed is never tried again as if the pages were still there. */
static int real_datasync(int file)
{
    int r;

    do
        r = fdatasync(file);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static int real_sync(int file)
{
    int r;

    do
        r = fsync(file);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

/* A file system or a sandbox without it loses a little time, no more: the sync comes all the same. */
static int real_start_sync(int file)
{
    if (sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WRITE) == 0)
        return 0;
    return errno == EIO || errno == ENOSPC || errno == EDQUOT ? -errno : 0;
}

static int real_allocate(int file, uint64_t size)
{
    int r;

    do
        r = fallocate(file, 0, 0, (off_t)size);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static int real_truncate(int file, uint64_t size)
{
    int r;

    do
        r = ftruncate(file, (off_t)size);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static int real_lock(int file)
{
    int r;

    do
        r = flock(file, LOCK_EX | LOCK_NB);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static void info_from_stat(const struct stat *st, struct file_info *out)
{
    *out = (struct file_info){
        .size = (uint64_t)st->st_size,
        .mtime_ns = (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec,
        .is_dir = S_ISDIR(st->st_mode),
        .passable = S_ISDIR(st->st_mode) && (st->st_mode & S_IXOTH) != 0,
        .is_file = S_ISREG(st->st_mode),
        .open_to_all = S_ISREG(st->st_mode) && (st->st_mode & (S_IROTH | S_IWOTH)) != 0,
    };
}

static int real_info(int file, struct file_info *out)
{
    struct stat st;

    if (fstat(file, &st) < 0)
        return -errno;
    info_from_stat(&st, out);
    return 0;
}

static int real_system_of(int file, enum file_system *out, uint64_t *out_free_bytes)
{
    /* From linux/magic.h and the kernel's file systems; not all of them are in the header. */
    static const struct {
        uint32_t magic;
        enum file_system kind;
    } known[] = {
        {0x01021994,  FILE_SYSTEM_MEMORY }, /* tmpfs */
        { 0x858458f6, FILE_SYSTEM_MEMORY }, /* ramfs */
        { 0x00006969, FILE_SYSTEM_NETWORK}, /* nfs */
        { 0xff534d42, FILE_SYSTEM_NETWORK}, /* cifs */
        { 0xfe534d42, FILE_SYSTEM_NETWORK}, /* smb2 */
        { 0x0000517b, FILE_SYSTEM_NETWORK}, /* smb */
        { 0x01021997, FILE_SYSTEM_NETWORK}, /* 9p */
        { 0x65735546, FILE_SYSTEM_NETWORK}, /* fuse: sshfs, glusterfs; which of them cannot be told */
        { 0x00c36400, FILE_SYSTEM_NETWORK}, /* ceph */
        { 0x5346414f, FILE_SYSTEM_NETWORK}, /* afs */
    };
    struct statfs fs;

    if (fstatfs(file, &fs) < 0)
        return -errno;
    *out = FILE_SYSTEM_LOCAL;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if ((uint32_t)fs.f_type == known[i].magic)
            *out = known[i].kind;
    *out_free_bytes = (uint64_t)fs.f_bavail * (uint64_t)(fs.f_frsize > 0 ? fs.f_frsize : fs.f_bsize);
    return 0;
}

/* The real disk: names. The calls below follow links in the middle of a name, so the parent is opened beneath first. */

struct parent {
    int fd;
    bool owned;
    const char *last; /* points into the name */
};

static int parent_open(int dir, const char *name, struct parent *out)
{
    const char *slash = strrchr(name, '/');
    char path[PATH_MAX];

    if (slash == NULL) {
        *out = (struct parent){ .fd = dir, .last = name };
        return 0;
    }
    size_t n = (size_t)(slash - name);
    if (n >= sizeof path)
        return -ENAMETOOLONG;
    if (slash[1] == '\0')
        return -EINVAL;
    memcpy(path, name, n);
    path[n] = '\0';
    int fd = open_beneath(dir, path, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return fd;
    *out = (struct parent){ .fd = fd, .owned = true, .last = slash + 1 };
    return 0;
}

static void parent_close(struct parent *p)
{
    if (p->owned)
        (void)close(p->fd);
}

#define CLEANUP_PARENT __attribute__((cleanup(parent_close)))

static int real_info_at(int dir, const char *name, struct file_info *out)
{
    CLEANUP_PARENT struct parent at = { 0 };
    struct stat st;
    int r = parent_open(dir, name, &at);

    if (r < 0)
        return r;
    if (fstatat(at.fd, at.last, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    info_from_stat(&st, out);
    return 0;
}

static int real_rename_at(int from_dir, const char *from, int to_dir, const char *to)
{
    CLEANUP_PARENT struct parent a = { 0 }, b = { 0 };
    int r = parent_open(from_dir, from, &a);

    if (r == 0)
        r = parent_open(to_dir, to, &b);
    if (r < 0)
        return r;
    return renameat(a.fd, a.last, b.fd, b.last) < 0 ? -errno : 0;
}

static int real_link_at(int from_dir, const char *from, int to_dir, const char *to)
{
    CLEANUP_PARENT struct parent a = { 0 }, b = { 0 };
    int r = parent_open(from_dir, from, &a);

    if (r == 0)
        r = parent_open(to_dir, to, &b);
    if (r < 0)
        return r;
    return linkat(a.fd, a.last, b.fd, b.last, 0) < 0 ? -errno : 0;
}

static int real_unlink_at(int dir, const char *name)
{
    CLEANUP_PARENT struct parent at = { 0 };
    int r = parent_open(dir, name, &at);

    if (r < 0)
        return r;
    return unlinkat(at.fd, at.last, 0) < 0 ? -errno : 0;
}

static int real_mkdir_at(int dir, const char *name)
{
    CLEANUP_PARENT struct parent at = { 0 };
    int r = parent_open(dir, name, &at);

    if (r < 0)
        return r;
    return mkdirat(at.fd, at.last, 0700) < 0 ? -errno : 0;
}

static int real_own_like(int file, int model)
{
    struct stat st, now;

    if (fstat(model, &st) < 0 || fstat(file, &now) < 0)
        return -errno;
    if ((st.st_uid != now.st_uid || st.st_gid != now.st_gid) && fchown(file, st.st_uid, st.st_gid) < 0)
        return -errno;
    return S_ISREG(st.st_mode) && fchmod(file, (st.st_mode & 0640) | 0600) < 0 ? -errno : 0;
}

static int real_make_passable(int dir)
{
    return fchmod(dir, 0711) < 0 ? -errno : 0;
}

/* A descriptor of its own, so that two lists of one directory do not share a position. */
static int real_list(int dir, int (*each)(void *arg, const char *name), void *arg)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    DIR *d = fdopendir(fd);
    if (d == NULL) {
        int r = -errno;
        (void)close(fd);
        return r;
    }

    int r = 0;
    while (r == 0) {
        errno = 0;
        const struct dirent *entry = readdir(d);
        if (entry == NULL) {
            r = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            r = each(arg, entry->d_name);
    }
    (void)closedir(d);
    return r;
}

// clang-format off
static const struct file_ops real_disk = {
    .open_dir    = real_open_dir,
    .open_dir_at = real_open_dir_at,
    .open_at     = real_open_at,
    .open_path   = real_open_path,
    .close       = real_close,
    .read_at     = real_read_at,
    .write_at    = real_write_at,
    .append      = real_append,
    .datasync    = real_datasync,
    .sync        = real_sync,
    .start_sync  = real_start_sync,
    .allocate    = real_allocate,
    .truncate    = real_truncate,
    .info        = real_info,
    .info_at     = real_info_at,
    .rename_at   = real_rename_at,
    .link_at     = real_link_at,
    .unlink_at   = real_unlink_at,
    .mkdir_at    = real_mkdir_at,
    .make_passable = real_make_passable,
    .own_like = real_own_like,
    .list        = real_list,
    .lock        = real_lock,
    .system_of   = real_system_of,
};
// clang-format on
