/*
 * Landlock: files and TCP. The system calls are raw, since glibc has none for them, and the kernel's header of the machine that builds may
 * be older than the kernel that runs: so what each ABI brought stands here. Runs in the worker.
 *
 * A rule is about the file or directory that a path led to when the rule was made, and about all beneath it. A right that no rule gives is
 * closed, if it is among those that the ruleset handles; those are all that the running kernel knows.
 */
#include "admin/sandbox_internal.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule       445
#define SYS_landlock_restrict_self  446
#endif

#if defined SAN_COVERAGE
#define RUNTIME_MAY       RIGHT_KEEP     /* in a sanitized build */
#else
#define RUNTIME_MAY       RIGHT_READ
#endif

#define ABI_QUERY         1u
#define RULE_PATH_BENEATH 1
#define RULE_NET_PORT     2

#define FS_WRITE_FILE     (UINT64_C(1) << 1)
#define FS_READ_FILE      (UINT64_C(1) << 2)
#define FS_READ_DIR       (UINT64_C(1) << 3)
#define FS_REMOVE_FILE    (UINT64_C(1) << 5)
#define FS_MAKE_DIR       (UINT64_C(1) << 7)
#define FS_MAKE_REG       (UINT64_C(1) << 8)
#define FS_REFER          (UINT64_C(1) << 13)
#define FS_TRUNCATE       (UINT64_C(1) << 14)

#define NET_BIND_TCP      (UINT64_C(1) << 0)
#define NET_CONNECT_TCP   (UINT64_C(1) << 1)
#define SCOPES            (UINT64_C(3))          /* abstract Unix sockets, signals */

/* What is handled is all there is: executing, devices, FIFOs, links, sockets, ioctl too. The lowest bits, so many for each ABI. */
static const struct {
    unsigned fs_bits, net_bits;
    bool     scopes;
} abis[LANDLOCK_NEWEST + 1] = {
    { 0, 0, false }, { 13, 0, false }, { 14, 0, false }, { 15, 0, false }, { 15, 2, false }, { 16, 2, false }, { 16, 2, true }, { 16, 2, true },
};

struct ruleset_attr {
    uint64_t fs, net, scoped;
};

struct path_attr {
    uint64_t access;
    int32_t  parent;
} __attribute__((packed));

struct port_attr {
    uint64_t access, port;
};

/* ABI 1 refuses to move a file from a directory to another, which each delivery to a Maildir does. */
int landlock_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, ABI_QUERY);

    if (abi < 2)
        return 0;
    return abi > LANDLOCK_NEWEST ? LANDLOCK_NEWEST : (int)abi;
}

void landlock_put_lacks(int abi, struct buf *out)
{
    static const struct { int since; const char *what; } lacks[] = {
        { 2, "files" },
        { 3, "truncate" },
        { 4, "tcp-ports" },
        { 5, "ioctl" },
        { 6, "abstract-sockets" },
        { LANDLOCK_NEWEST + 1, "udp" },
        { LANDLOCK_NEWEST + 1, "unix-sockets" },
    };

    for (size_t i = 0; i < sizeof lacks / sizeof lacks[0]; i++)
        if (abi < lacks[i].since)
            buf_printf(out, "%s%s", out->n > 0 ? " " : "", lacks[i].what);
}

/* -- rules ----------------------------------------------------------------------------------------------------------------------- */

static uint64_t bits(unsigned n)
{
    return (UINT64_C(1) << n) - 1;
}

static uint64_t access_of(enum right_to to, bool is_dir)
{
    uint64_t deliver = FS_WRITE_FILE | FS_TRUNCATE | (is_dir ? FS_READ_DIR | FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG | FS_REFER : 0);

    switch (to) {                                /* of a file no rights of directories: the kernel refuses them */
    case RIGHT_READ:    return FS_READ_FILE | (is_dir ? FS_READ_DIR : 0);
    case RIGHT_DELIVER: return deliver;
    case RIGHT_KEEP:    return deliver | FS_READ_FILE;
    }
    return 0;
}

static int add_open(int ruleset, int abi, int fd, enum right_to to)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    struct path_attr attr = { .access = access_of(to, S_ISDIR(st.st_mode)) & bits(abis[abi].fs_bits), .parent = fd };
    return syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &attr, 0) < 0 ? -errno : 0;
}

static int add_path(int ruleset, int abi, const char *path, enum right_to to)
{
    int fd = open(path, O_PATH | O_CLOEXEC);

    if (fd < 0) {
        log_event(LOG_DEBUG, "sandbox-path-absent", LOG_Z("path", path), LOG_Z("error", strerror(errno)));
        return 0;                                /* there is nothing to be let to */
    }
    int r = add_open(ruleset, abi, fd, to);
    (void)close(fd);
    return r;
}

static int add_folder(int ruleset, int abi, const char *path, const struct right *right, const struct rights *all)
{
    struct str folder = rights_folder(path, all->home);
    char text[PATH_MAX];

    if (folder.n == 0 || folder.n >= sizeof text || (right->with == RIGHT_REPLACED && rights_hold_secret(all, folder)))
        return 0;
    memcpy(text, folder.p, folder.n);
    text[folder.n] = '\0';
    return add_path(ruleset, abi, text, RIGHT_READ);
}

/* Where a link leads now, and where its folder is: the next file may be there or here. */
static int add_right(int ruleset, int abi, const struct right *right, const struct rights *all)
{
    char real[PATH_MAX];

    int r = add_path(ruleset, abi, right->path, right->to);
    if (r == 0 && right->with != RIGHT_ALONE)
        r = add_folder(ruleset, abi, right->path, right, all);
    if (r == 0 && right->with != RIGHT_ALONE && realpath(right->path, real) != NULL)
        r = add_folder(ruleset, abi, real, right, all);
    return r;
}

static int add_port(int ruleset, uint64_t access, uint16_t port)
{
    struct port_attr attr = { .access = access, .port = port };

    return syscall(SYS_landlock_add_rule, ruleset, RULE_NET_PORT, &attr, 0) < 0 ? -errno : 0;
}

static int add_rules(int ruleset, int abi, const struct rights *r, const char **out_what)
{
    int result = 0;

    for (size_t i = 0; result == 0 && i < r->count; i++) {
        *out_what = r->items[i].path;
        result = add_right(ruleset, abi, &r->items[i], r);
    }
    *out_what = "ports";
    for (size_t i = 0; result == 0 && abis[abi].net_bits > 0 && i < r->port_count; i++)
        result = add_port(ruleset, NET_CONNECT_TCP, r->ports[i]);
    if (result == 0 && abis[abi].net_bits > 0 && r->source)
        result = add_port(ruleset, NET_BIND_TCP, 0);     /* of the kernel's choice: an address alone */
    return result;
}

/* Of the attributes a kernel reads as many as it knows. */
static size_t attr_size(int abi)
{
    if (abi >= 6)
        return sizeof(struct ruleset_attr);
    return abi >= 4 ? offsetof(struct ruleset_attr, scoped) : offsetof(struct ruleset_attr, net);
}

int landlock_enforce(int abi, const struct rights *r, char error[256])
{
    struct ruleset_attr attr = { .fs = bits(abis[abi].fs_bits), .net = bits(abis[abi].net_bits), .scoped = abis[abi].scopes ? SCOPES : 0 };
    const char *what = "ruleset";

    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, attr_size(abi), 0);
    int result = ruleset < 0 ? -errno : add_rules(ruleset, abi, r, &what);
    if (result == 0 && SANITIZED)
        result = add_path(ruleset, abi, "/", RUNTIME_MAY);
    if (result == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        result = -errno;
    if (ruleset >= 0)
        (void)close(ruleset);
    if (result < 0)
        snprintf(error, 256, "Landlock: %s: %s", what, strerror(-result));
    return result;
}
