/*
 * Offload: work that would block a loop (fsync, file delivery, RSA, password hashes) runs on helper threads; in the
 * simulated world, as events in virtual time.
 */
#ifndef RUN_OFFLOAD_H
#define RUN_OFFLOAD_H

#include "run/task.h"

struct offload;                                                                 /* a pool of threads with a queue */

/* threads and queue_max bound the pool. NULL without memory or threads. */
struct offload *offload_new(const char *name, unsigned threads, unsigned queue_max);
void            offload_free(struct offload *o);                                /* waits (blocking) for running jobs; no new ones may come */

/* Awaits until fn(arg) has run on a helper thread. Because arg is usually on the caller's stack, it returns only when fn
 * is done, whatever the caller's cancellation: 0, or -EAGAIN (fn not run) when the queue is full. */
int offload_run(struct offload *o, void (*fn)(void *arg), void *arg);

/* The same without waiting: fn runs once some time later and tells who wants to know by task_wake(). -EAGAIN if full. From any thread. */
int offload_post(struct offload *o, void (*fn)(void *arg), void *arg);

/* BLOCKS for so long: in a job. */
void offload_pause(int64_t ns);

#endif
