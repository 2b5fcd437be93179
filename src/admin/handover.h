/*
 * What a server hands on to another version of itself across execve: descriptors and processes, as a line of numbers in the environment.
 *
 * Once to the new worker, which serves beside the old one; and then, when that serves, by the supervisor to itself.
 */
#ifndef ADMIN_HANDOVER_H
#define ADMIN_HANDOVER_H

#include "admin/supervisor.h"
#include "base/buf.h"

#define HANDOVER_VARIABLE    "NIGHTMAIL_HANDOVER"
#define HANDOVER_VERSION     2               /* of the line: a program that reads another one does not start, and the one before goes on */
#define HANDOVER_SOCKETS_MAX 1024

struct handover_aide {
    long door, other_door, callers, leash, pid;
};

struct handover {
    long   is_worker;
    long   link, crashes, beside;            /* a worker's: struct worker_start */
    long   lock, control;                    /* descriptors; -1: none, as all others */
    struct handover_aide keeper, lookup;
    struct supervised_worker owner, leaving; /* a supervisor's */
    size_t socket_count;
    int    sockets[HANDOVER_SOCKETS_MAX];    /* that listen, in the order of their listeners and loops */
};

void handover_put(struct buf *out, const struct handover *h);
/* False: it is no such line. */
bool handover_get(const char *text, struct handover *out);
/* All the descriptors in it. */
size_t handover_fds(const struct handover *h, int *out, size_t max);

#endif
