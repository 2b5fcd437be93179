/*
 * The worker's sandbox: a process that can be broken into without loss.
 *
 *     identity   own user, no other groups, no capabilities, no_new_privs, not dumpable, no core
 *     files      Landlock: what admin/rights.h says, and nothing can be executed
 *     network    Landlock from ABI 4 on: TCP to the ports of the rights, and no bind
 *     calls      seccomp: the table in admin/sandbox_calls.c; any other call ends the process
 *
 * Landlock is best effort: what the running kernel cannot enforce is said at the start. The rest is had, or the server does not start.
 * All of it holds for threads that are started later: so it comes before them, and after what only the supervisor may open.
 */
#ifndef ADMIN_SANDBOX_H
#define ADMIN_SANDBOX_H

#include "admin/rights.h"

struct sandbox_user {
    bool     change;                     /* we are root, and it is another */
    unsigned uid, gid;
    char     name[64];
    char     home[256];                  /* "" unknown */
};

/* Who the worker is to be. -EINVAL with the reason in words: the user of the configuration does not exist, or we may not become it. */
int sandbox_find_user(const struct conf *c, struct sandbox_user *out, char error[256]);

/* Before the data directory is touched: whether it is there; and after: it is the user's. made: it was not there before. */
bool sandbox_path_exists(const char *path);
int  sandbox_own(const char *data_dir, const struct sandbox_user *u, bool made, char error[256]);

/* In the worker, with one thread. BLOCKS. Negative errno with the reason in words. The first becomes the user, for good; in between
 * whatever the user may open can still be opened, and nothing more after the second, which logs what the kernel cannot enforce. */
int  sandbox_become(const struct sandbox_user *u, char error[256]);
int  sandbox_close(const struct rights *r, const struct sandbox_user *u, char error[256]);

/* The name of a system call; "unknown". */
void sandbox_call_name(int number, char out[32]);

#endif
