/*
 * Delivery: takes what is due from the queue and brings it to mailboxes and other servers.
 *
 * All of outbound/ runs on the loop that called outbound_start, in the worker; so its structures need no locks.
 */
#ifndef OUTBOUND_OUTBOUND_H
#define OUTBOUND_OUTBOUND_H

#include "queue/queue.h"
#include "run/task.h"

struct outbound;

/* Starts the scheduler. Settings are those of conf_current() at each delivery's start. -ENOMEM, -EAGAIN. */
int outbound_start(struct queue *q, struct outbound **out);

/* No new delivery begins; those under way may finish until the deadline, then they are cancelled (their messages stay in the queue).
 * Awaits the end of all, then frees. */
void outbound_stop(struct outbound *o, int64_t deadline_ns);

#endif
