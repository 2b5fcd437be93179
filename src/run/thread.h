/*
 * Threads of this process, all started here: named, and with signals blocked, so that those come to loop 0's thread alone.
 */
#ifndef RUN_THREAD_H
#define RUN_THREAD_H

#include <pthread.h>

struct stack;

/* s: the stack to run on, or NULL for one of the system's. 0 or -EAGAIN. */
int thread_start(pthread_t *out, const char *name, const struct stack *s, void *(*fn)(void *arg), void *arg);

#endif
