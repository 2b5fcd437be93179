/*
 * A leash: how the supervisor and a process that it has forked know of each other, without a word but one.
 *
 * A pair of sockets, an end for each. The child says that it is ready; and it ends when nobody holds the other end any more. Signals do not
 * end it: a service manager sends those to all processes at once, and who serves the worker must not go before it.
 */
#ifndef RUN_LEASH_H
#define RUN_LEASH_H

#include <stddef.h>
#include <stdint.h>

/* Closed with the process, or by leash_close. -1 is none. */
int  leash_new(int *out_ours, int *out_childs);
void leash_close(int *end);

/* In the supervisor: BLOCKS until the child is ready, 0; or has ended, -EPIPE. */
int  leash_wait_ready(int ours);

/* In the child. leash_sleep BLOCKS, for as long or until it is let go: -EPIPE. leash_await awaits: 0 let go, -ETIMEDOUT, -ECANCELED. */
void leash_say_ready(int childs);
int  leash_sleep(int childs, int64_t ns);
int  leash_await(int childs, int64_t deadline_ns);

/* Closes all descriptors but standard input, output, error and these. */
void leash_keep_only(const int *fds, size_t n);

#endif
