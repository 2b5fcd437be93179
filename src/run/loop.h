/*
 * Loops: one thread each, that runs ready tasks, then timers, then waits in epoll (or, in the simulated world, moves the
 * virtual clock to the next event).
 *
 * A program calls loop_run() once from its first thread; it returns when every task on every loop has ended. A
 * turn that takes longer than 50 ms is logged with the name of the task that ran.
 */
#ifndef RUN_LOOP_H
#define RUN_LOOP_H

#include "run/task.h"

struct loop;

#define LOOPS_MAX 64

/* Run first(arg) as a task on loop 0 of `loops` loops (0: one per core that this process may use). Returns 0, or a
 * negative errno if the loops could not be made. Not reentrant; may be called again after it returned. */
int loop_run(unsigned loops, task_fn *first, void *arg);

unsigned     loop_cores(void);                   /* so many loops stand for 0: known before they run */
unsigned     loop_count(void);
unsigned     loop_index(void);                   /* of the calling loop thread */
/* Start a task on another loop. 0, -EAGAIN at the limit of messages in flight, -ENOMEM. From any loop thread. */
int          loop_start_on(unsigned index, const char *name, task_fn *fn, void *arg);
unsigned     loop_tasks(void);                   /* live tasks on the calling loop */

/* Awaits readiness of a descriptor (EPOLLIN, EPOLLOUT), after a read or write said EAGAIN; it may also return when there is nothing, so
 * try and come back. One task may wait for each direction. The descriptor is registered edge-triggered at the first wait;
 * loop_fd_forget, when nobody waits, before close(2). For run/ only; others use run/net.h. */
struct loop_fd {
    int          fd;
    bool         registered, readable, writable;
    struct task *reader, *writer;
    struct loop *loop;                           /* on which it is registered; all waits and loop_fd_forget happen there */
};
void loop_fd_init(struct loop_fd *f, int fd);
int  loop_fd_wait_readable(struct loop_fd *f, int64_t deadline_ns);
int  loop_fd_wait_writable(struct loop_fd *f, int64_t deadline_ns);
void loop_fd_forget(struct loop_fd *f);

/* A signal as something to wait for: blocks signo in all threads, and the task is woken when it comes. Call from loop 0's
 * first task before others start. loop_signal_wait awaits and gives the signal number, or a negative errno. */
int loop_signals(const int *signos, unsigned count);
int loop_signal_wait(int64_t deadline_ns);

#endif
