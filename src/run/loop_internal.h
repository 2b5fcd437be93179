/*
 * What the neighbours in run/ need of loops and offload beyond loop.h and offload.h: the two seams behind which the
 * simulated world stands.
 *
 * A driven loop is one loop on the calling thread whose wait for events is replaced. Nothing in it reads real time or
 * orders by addresses: the same driver and the same program give the same order of task switches. In it loop_count() is 1,
 * loop_index() 0, loop_start_on(0, ...) is task_start(), signals never come, loop_fd_* may not be called, and the watchdog is off.
 */
#ifndef RUN_LOOP_INTERNAL_H
#define RUN_LOOP_INTERNAL_H

#include "run/task.h"

struct loop_driver {
    /* Called outside any task when none is ready. Moves the clock (clock_replace) and runs one event, which may call
     * task_wake(), task_start() and the like; or, when nothing comes before it, moves the clock to next_deadline_ns (the
     * earliest deadline of a parked task, TASK_FOREVER if there is none). It need not do more than one step: it is called again.
     * Timers are looked at after each call; equal deadlines expire in the order in which their tasks parked.
     *
     * < 0 (-EDEADLK: every task waits forever) stops the run. The first time, every task is cancelled and the run goes on, so
     * that tasks put in order what they own; the second time, those that are left are abandoned (logged by name; what
     * they own leaks). Either way loop_run_driven returns the first error. */
    int  (*wait)(void *self, int64_t next_deadline_ns);
    void  *self;
};

/* loop_run(1, first, arg) with the driver in place of epoll. */
int  loop_run_driven(const struct loop_driver *driver, task_fn *first, void *arg);
bool loop_is_driven(void);                       /* asked on any thread while loop_run_driven runs */

struct offload_driver {
    /* Have fn(arg) called once, later, from loop_driver.wait, outside any task; pool_name for the trace. 0, or -EAGAIN (fn not called). */
    int  (*post)(void *self, void (*fn)(void *arg), void *arg, const char *pool_name);
    void (*pause)(void *self, int64_t ns);           /* what is called from here waits so long */
    void  *self;
};

/* Put before offload_new() is called: pools made while a driver is in place have no threads and post to it, within their
 * queue_max. A pool keeps the driver that it was made with. NULL: threads again. */
void offload_replace(const struct offload_driver *driver);

#endif
