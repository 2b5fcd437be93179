/*
 * Maildirs: see maildir.h.
 *
 * They are made from the top to the bottom, each name synced before the next is made, and cur/ last. So a Maildir that has its
 * cur/ is durable, names and all, whoever made it, and a delivery needs to look for nothing more; one that has not may be the work of
 * somebody who is still at it, or died, or met an error, and goes through maildir_make.
 *
 * Runs in the worker, on helper threads.
 */
#include "outbound/maildir.h"
#include "base/cleanup.h"
#include "run/file.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_MAX_LEN 1024
#define NAME_MAX_LEN 256
#define DOUBTS_MAX   10000 /* beyond, a disk that fails so often is trusted no less */

/* -- doubts -------------------------------------------------------------------------------------------------------------- */

void maildir_doubts_init(struct maildir_doubts *d)
{
    map_str_init(&d->paths);
}

void maildir_doubts_free(struct maildir_doubts *d)
{
    size_t cursor = 0;
    struct str key;
    void *value;
    while (map_str_next(&d->paths, &cursor, &key, &value))
        free(value);
    map_str_free(&d->paths);
}

static bool is_doubtful(const struct maildir_doubts *d, struct str path)
{
    return map_str_get(&d->paths, path) != NULL;
}

static void forget_doubt(struct maildir_doubts *d, struct str path)
{
    free(map_str_remove(&d->paths, path));
}

static void add_doubt(struct maildir_doubts *d, struct str path)
{
    if (is_doubtful(d, path) || d->paths.used >= DOUBTS_MAX)
        return;
    char *copy = strndup(path.p, path.n);
    if (copy != NULL && map_str_put(&d->paths, (struct str){ copy, path.n }, copy) < 0)
        free(copy);
}

/* -- names --------------------------------------------------------------------------------------------------------------- */

/* Nobody has delivered into it yet, so nobody misses it in between. */
static int name_again(int dir, const char *name)
{
    char aside[NAME_MAX_LEN + 8];
    snprintf(aside, sizeof(aside), "%s.new", name);
    int r = file_rename_at(dir, name, dir, aside);
    return r < 0 ? r : file_rename_at(dir, aside, dir, name);
}

/* dir/name, whose whole path is `path`: there, and its name durable. */
static int make_one(struct maildir_doubts *d, int dir, const char *name, struct str path)
{
    int r = file_mkdir_at(dir, name);
    bool ours = r == 0 || is_doubtful(d, path);
    if (r == -EEXIST)
        r = ours ? name_again(dir, name) : 0;
    if (r == 0)
        r = file_sync(dir);
    if (r == 0)
        forget_doubt(d, path);
    else if (ours)
        add_doubt(d, path);
    return r;
}

/* Opens the path beneath dir, which stays the caller's, part by part from offset `at` on; makes each part if d is not NULL. The path has no
 * "." and ".." parts behind the operator's: route_mailbox sees to that. */
static int walk(struct maildir_doubts *d, int dir, const char *path, size_t at)
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
        if (next == 0 && d != NULL)
            next = make_one(d, here, part, (struct str){ path, at + n });
        if (next == 0)
            next = file_open_dir_at(here, part);
        (void)file_close(here);
        here = next;
        at += n;
    }
    return here;
}

/* -- Maildirs ------------------------------------------------------------------------------------------------------------ */

static int open_base(const struct maildir_path *p, char base[PATH_MAX_LEN])
{
    if (p->base >= PATH_MAX_LEN)
        return -ENAMETOOLONG;
    memcpy(base, p->path, p->base);
    base[p->base] = '\0';
    return file_open_dir(p->base == 0 ? "." : base);
}

static int make_base(struct maildir_doubts *d, const char *base)
{
    CLEANUP_FILE int top = file_open_dir(base[0] == '/' ? "/" : ".");
    return top < 0 ? top : walk(d, top, base, 0);
}

/* A part of the operator's that we made, and about which we know nothing good. */
static bool base_is_doubtful(const struct maildir_doubts *d, const struct maildir_path *p)
{
    size_t cursor = 0;
    struct str key;
    void *value;
    while (map_str_next(&d->paths, &cursor, &key, &value))
        if (key.n <= p->base && memcmp(key.p, p->path, key.n) == 0)
            return true;
    return false;
}

int maildir_open(const struct maildir_path *p)
{
    char base[PATH_MAX_LEN];
    struct file_info info;
    CLEANUP_FILE int dir = open_base(p, base);
    int maildir = dir < 0 ? dir : walk(NULL, dir, p->path, p->base);
    int r = maildir < 0 ? maildir : file_info_at(maildir, "cur", &info);
    if (r >= 0)
        return maildir;
    (void)file_close(maildir);
    return r;
}

static int make_subs(struct maildir_doubts *d, int maildir, const char *path)
{
    static const char *const names[] = { "tmp", "new", "cur" }; /* cur last: it says that the rest is there */
    char whole[PATH_MAX_LEN];
    int r = 0;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && r == 0; i++) {
        int n = snprintf(whole, sizeof(whole), "%s/%s", path, names[i]);
        r = n < PATH_MAX_LEN ? make_one(d, maildir, names[i], (struct str){ whole, (size_t)n }) : -ENAMETOOLONG;
    }
    return r;
}

int maildir_make(struct maildir_doubts *d, const struct maildir_path *p, bool parents, bool *out_absent)
{
    char base[PATH_MAX_LEN];
    int opened = open_base(p, base);
    if (parents && (opened == -ENOENT || (opened >= 0 && base_is_doubtful(d, p)))) {
        (void)file_close(opened);
        opened = make_base(d, base);
    }
    CLEANUP_FILE int dir = opened;
    if (dir < 0)
        return dir;
    CLEANUP_FILE int maildir = walk(parents ? d : NULL, dir, p->path, p->base);
    if (maildir < 0) {
        *out_absent = maildir == -ENOENT || maildir == -ENOTDIR;
        return maildir;
    }
    return make_subs(d, maildir, p->path);
}

int maildir_open_sub(int maildir, const char *name)
{
    int sub = file_open_dir_at(maildir, name);
    if (sub != -ENOENT)
        return sub;
    int r = file_mkdir_at(maildir, name);
    if (r == 0 || r == -EEXIST)
        r = file_sync(maildir);
    return r < 0 ? r : file_open_dir_at(maildir, name);
}
