/*
 * Contexts: the machine's side of a task, and the switch between two of them.
 *
 * Two backends behind one interface: a switch of stacks in a dozen instructions (x86-64, arm64), and, with
 * TASKS_THREADS=1, a thread per context that hand one baton on, so that only one of a loop's runs at a time: every
 * debugger and helgrind understand that one. Both tell ASan or TSan, where built in, what they do.
 *
 * A loop's thread has a context too (context_adopt), and every switch goes from it or to it.
 */
#ifndef RUN_CONTEXT_H
#define RUN_CONTEXT_H

#include "run/stack.h"

#ifdef TASKS_THREADS
#include <pthread.h>
#include <semaphore.h>
#endif

struct context;
/* What runs in a context. Its result is the context to switch to when it has ended. */
typedef struct context *context_fn(void *arg);

struct context {
#ifdef TASKS_THREADS
    pthread_t   thread;
    sem_t       baton;
    context_fn *fn;
    void       *arg;
#else
    void       *sp;                  /* while switched away; tools/gdb reads it and knows what context.c pushed */
#endif
    const void *stack_low;           /* the bounds, for ASan */
    size_t      stack_size;
    void       *asan_fake_stack;
    void       *tsan_fiber;
};

/* The calling thread's own. Undone by context_free on the same thread. */
void context_adopt(struct context *c);

/* On s, which stays the caller's, fn(arg) begins at the first switch to it. 0, or -EAGAIN without a thread. */
int  context_init(struct context *c, const char *name, const struct stack *s, context_fn *fn, void *arg);

void context_switch(struct context *from, struct context *to);   /* from is the running one; returns when switched back */

/* After its fn ended, or before the first switch to it. */
void context_free(struct context *c);

#endif
