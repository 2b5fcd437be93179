/*
 * Threads; see thread.h.
 */
#include "run/thread.h"
#include "run/stack.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* A fault must stop the process wherever it happens, and a profiler's clock ticks in every thread. */
static void signals_to_block(sigset_t *set)
{
    static const int open[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS, SIGPROF };
    (void)sigfillset(set);
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++)
        (void)sigdelset(set, open[i]);
}

int thread_start(pthread_t *out, const char *name, const struct stack *s, void *(*fn)(void *arg), void *arg)
{
    pthread_attr_t attr;
    sigset_t       blocked;
    char           short_name[16] = "";          /* the kernel keeps no more */

    snprintf(short_name, sizeof short_name, "%.15s", name);
    signals_to_block(&blocked);
    if (pthread_attr_init(&attr) != 0)
        return -EAGAIN;
    int r = pthread_attr_setsigmask_np(&attr, &blocked);
    if (r == 0 && s != NULL)
        r = pthread_attr_setstack(&attr, s->low, s->size);
    pthread_t thread;
    if (r == 0)
        r = pthread_create(&thread, &attr, fn, arg);
    (void)pthread_attr_destroy(&attr);
    if (r != 0)
        return -EAGAIN;
    (void)pthread_setname_np(thread, short_name);
    *out = thread;
    return 0;
}
