/*
 * Threads; see thread.h.
 */
#include "run/thread.h"
#include "run/stack.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

/* A fault must stop the process wherever it happens, and a profiler's clock ticks in every thread. */
static void signals_to_block(sigset_t *set)
{
    static const int open[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS, SIGPROF };
    (void)sigfillset(set);
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++)
        (void)sigdelset(set, open[i]);
}

struct start {
    char  name[16];                              /* the kernel keeps no more */
    void *(*fn)(void *arg);
    void *arg;
};

/* A thread names itself: to name another one is to write a file in /proc, which the worker's sandbox has no place for. */
static void *begin(void *arg)
{
    struct start start = *(struct start *)arg;

    free(arg);
    (void)prctl(PR_SET_NAME, start.name);
    return start.fn(start.arg);
}

static int create(pthread_t *out, const struct stack *s, struct start *start)
{
    pthread_attr_t attr;
    sigset_t       blocked;

    signals_to_block(&blocked);
    if (pthread_attr_init(&attr) != 0)
        return -EAGAIN;
    int r = pthread_attr_setsigmask_np(&attr, &blocked);
    if (r == 0 && s != NULL)
        r = pthread_attr_setstack(&attr, s->low, s->size);
    pthread_t thread;
    if (r == 0)
        r = pthread_create(&thread, &attr, begin, start);
    (void)pthread_attr_destroy(&attr);
    if (r != 0)
        return -EAGAIN;
    *out = thread;
    return 0;
}

int thread_start(pthread_t *out, const char *name, const struct stack *s, void *(*fn)(void *arg), void *arg)
{
    struct start *start = calloc(1, sizeof *start);

    if (start == NULL)
        return -EAGAIN;
    snprintf(start->name, sizeof start->name, "%.15s", name);
    start->fn = fn;
    start->arg = arg;
    int r = create(out, s, start);
    if (r < 0)
        free(start);
    return r;
}
