/*
 * Channels: bounded queues of pointers between tasks, of one loop or of several.
 */
#ifndef RUN_CHANNEL_H
#define RUN_CHANNEL_H

#include "run/task.h"
#include <stddef.h>

struct channel;

struct channel *channel_new(size_t capacity);                                   /* NULL without memory */
void            channel_free(struct channel *c);                                /* no task may be waiting in it */
int             channel_send(struct channel *c, void *item, int64_t deadline_ns);   /* awaits room; -EPIPE after close */
int             channel_try_send(struct channel *c, void *item);                /* -EAGAIN if full; from any thread */
int             channel_recv(struct channel *c, void **out_item, int64_t deadline_ns);  /* awaits; -EPIPE when closed and empty */
void            channel_close(struct channel *c);                               /* wakes all; what is in it can still be received */

#endif
