/*
 * Maildirs: see maildir.h.
 *
 * They are made from the top to the bottom, each name synced before anything is put into the directory, and cur/ last. So a Maildir that has
 * its cur/ is durable, whoever made it, and a delivery needs to look for nothing more. And a directory with something in it is
 * durable too, while an empty one may be the work of somebody who died, or whose sync failed; after a failed sync another one proves
 * nothing (the kernel may have forgotten what it should have saved), so an empty directory is named once more before it is used.
 *
 * Runs in the worker, on helper threads.
 */
#include "outbound/maildir.h"
#include "base/cleanup.h"
#include "run/file.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PATH_MAX_LEN 1024
#define NAME_MAX_LEN 256

/* -- names --------------------------------------------------------------------------------------------------------------- */

static int stop_at_first(void *arg, const char *name)
{
    (void)arg, (void)name;
    return 1;
}

/* 1, 0, or a negative errno. */
static int is_empty(int dir, const char *name)
{
    CLEANUP_FILE int sub = file_open_dir_at(dir, name);
    int r = sub < 0 ? sub : file_list(sub, stop_at_first, NULL);
    return r < 0 ? r : r == 0;
}

/* It is empty, so nobody misses it in between. */
static int name_again(int dir, const char *name)
{
    char aside[NAME_MAX_LEN + 8];
    snprintf(aside, sizeof(aside), "%s.new", name);
    int r = file_rename_at(dir, name, dir, aside);
    if (r == -EBUSY || r == -EACCES || r == -EPERM) /* where a file system is mounted, or others rule: not of our making */
        return 0;
    return r < 0 ? r : file_rename_at(dir, aside, dir, name);
}

/* dir/name: there, and its name durable. */
static int make_one(int dir, const char *name)
{
    int r = file_mkdir_at(dir, name);
    if (r == -EEXIST) {
        int empty = is_empty(dir, name);
        if (empty <= 0)
            return empty;
        r = name_again(dir, name);
    }
    return r < 0 ? r : file_sync(dir);
}

/* Opens the path beneath dir, which stays the caller's, part by part from offset `at` on, making what is missing if asked. The path has no
 * "." and ".." parts behind the operator's: route_mailbox sees to that. */
static int walk(int dir, const char *path, size_t at, bool make)
{
    char part[NAME_MAX_LEN];
    int here = file_open_dir_at(dir, ".");
    while (here >= 0) {
        at += strspn(path + at, "/");
        size_t n = strcspn(path + at, "/");
        if (n == 0)
            return here;
        int next = n < sizeof(part) ? 0 : -ENAMETOOLONG;
        snprintf(part, sizeof(part), "%.*s", (int)n, path + at);
        if (next == 0 && make)
            next = make_one(here, part);
        if (next == 0)
            next = file_open_dir_at(here, part);
        (void)file_close(here);
        here = next;
        at += n;
    }
    return here;
}

/* -- Maildirs ------------------------------------------------------------------------------------------------------------ */

static int base_of(const struct maildir_path *p, char out[PATH_MAX_LEN])
{
    if (p->base >= PATH_MAX_LEN)
        return -ENAMETOOLONG;
    memcpy(out, p->path, p->base);
    out[p->base] = '\0';
    if (p->base == 0)
        strcpy(out, ".");
    return 0;
}

int maildir_open(const struct maildir_path *p)
{
    char base[PATH_MAX_LEN];
    struct file_info info;
    int r = base_of(p, base);
    if (r < 0)
        return r;
    CLEANUP_FILE int dir = file_open_dir(base);
    int maildir = dir < 0 ? dir : walk(dir, p->path, p->base, false);
    r = maildir < 0 ? maildir : file_info_at(maildir, "cur", &info);
    if (r >= 0)
        return maildir;
    (void)file_close(maildir);
    return r;
}

/* The operator's part, which may hold links where it exists; we make it only if it is not there, and trust it only if it holds something. */
static int make_base(const char *base)
{
    int dir = file_open_dir(base);
    if (dir >= 0 && is_empty(dir, ".") == 0)
        return dir;
    if (dir < 0 && dir != -ENOENT)
        return dir;
    CLEANUP_FILE int top = file_open_dir(base[0] == '/' ? "/" : ".");
    int made = top < 0 ? top : walk(top, base, 0, true);
    if (made >= 0 || dir < 0 || made == -EIO || made == -ENOSPC) {
        (void)file_close(dir);
        return made;
    }
    return dir; /* there is a link in it: the operator's own */
}

int maildir_make_base(const struct maildir_path *p)
{
    char base[PATH_MAX_LEN];
    int r = base_of(p, base);
    int dir = r < 0 ? r : make_base(base);
    if (dir < 0)
        return dir;
    (void)file_close(dir);
    return 0;
}

static int make_subs(int maildir)
{
    int r = make_one(maildir, "tmp");
    if (r == 0)
        r = make_one(maildir, "new");
    return r < 0 ? r : make_one(maildir, "cur"); /* last: it says that the rest is there */
}

/* Somebody else has made it meanwhile, and mail may be in it: nothing of it may be renamed any more, not even for a moment, because should the
 * sync after that fail, who knows under which name the next start finds that mail. */
static bool is_whole(const struct maildir_path *p)
{
    CLEANUP_FILE int maildir = maildir_open(p);
    return maildir >= 0;
}

int maildir_make(const struct maildir_path *p, bool parents, bool *out_absent)
{
    char base[PATH_MAX_LEN];
    int r = base_of(p, base);
    if (r < 0)
        return r;
    if (is_whole(p))
        return 0;
    CLEANUP_FILE int dir = parents ? make_base(base) : file_open_dir(base);
    if (dir < 0)
        return dir;
    CLEANUP_FILE int maildir = walk(dir, p->path, p->base, parents);
    if (maildir >= 0)
        return make_subs(maildir);
    *out_absent = maildir == -ENOENT || maildir == -ENOTDIR;
    return maildir;
}

int maildir_open_sub(int maildir, const char *name)
{
    int sub = file_open_dir_at(maildir, name);
    if (sub != -ENOENT)
        return sub;
    int r = make_one(maildir, name);
    return r < 0 ? r : file_open_dir_at(maildir, name);
}
