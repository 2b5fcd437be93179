/*
 * What the worker may reach of the machine: a table computed from the configuration, which admin/sandbox.c has the kernel enforce.
 *
 * Pure: paths are as the configuration has them, and nothing is looked at. What the keeper and lookup read is none of it. Runs in the worker.
 */
#ifndef ADMIN_RIGHTS_H
#define ADMIN_RIGHTS_H

#include "base/arena.h"
#include "conf/conf.h"

enum right_to {
    RIGHT_READ,                          /* this file, or all beneath this directory */
    RIGHT_DELIVER,                       /* beneath this directory: list, make, write, move, remove; not read */
    RIGHT_KEEP,                          /* likewise, and read */
};

struct right {
    const char   *path;
    enum right_to to;
    enum { RIGHT_ALONE, RIGHT_REPLACED, RIGHT_RENEWED } with;   /* its folder: not; if no secret is there; in any case */
};

struct rights {
    struct arena  arena;
    const char   *home;
    struct right *items;
    size_t        count, room;
    const char  **secrets;               /* files that the worker may not read, wherever they stand */
    size_t        secret_count;
    uint16_t     *ports;                 /* where TCP connections may go; each once */
    size_t        port_count, port_room;
    bool          source;                /* connections may have a source address */
};

/* home: of the user, kept as it is; "" none. -ENOMEM; rights_free in any case. */
int  rights_of(const struct conf *c, const char *home, struct rights *out);
void rights_free(struct rights *r);

/* The folder that a file stands in; empty if that is one of the system's, or the user's home, with who knows what beneath. Whether a secret
 * is beneath it the caller knows. */
struct str rights_folder(const char *path, const char *home);
bool rights_hold_secret(const struct rights *r, struct str folder);

/* Whether TCP connections may go to it. */
bool rights_have_port(const struct rights *have, uint16_t port);

/* Whether `have` is enough for `wanted`; if not, why says which path or port is the first that is missing. */
bool rights_cover(const struct rights *have, const struct rights *wanted, char why[256]);

#endif
