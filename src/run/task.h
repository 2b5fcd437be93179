/*
 * Tasks: straight-line code that waits where it says it waits.
 *
 * A task has its own guarded stack and is pinned for life to the loop on which it was started. There is one way to wait,
 * task_park(), and everything that awaits is built on it. An await returns 0, -ETIMEDOUT (its deadline passed) or
 * -ECANCELED (the task was cancelled; every further await says so again at once), and its caller returns on that,
 * releasing what it owns. No task is ever freed unfinished.
 *
 * Deadlines are absolute, in clock_mono_ns() time; TASK_FOREVER never passes.
 */
#ifndef RUN_TASK_H
#define RUN_TASK_H

#include "base/clock.h"
#include <stdbool.h>
#include <stdint.h>

#define TASK_FOREVER INT64_MAX
#define TASK_STACK_SIZE (256 * 1024)     /* bytes of address space, guard page excluded; touched pages only are real */

struct task;
typedef void task_fn(void *arg);

/* Start fn(arg) as a task on the calling loop; it first runs on a later turn. name must outlive the task (a literal).
 * 0, -ENOMEM, or -EAGAIN at the limit of tasks. */
int task_start(const char *name, task_fn *fn, void *arg);

struct task *task_self(void);            /* NULL outside a task */
const char  *task_name(const struct task *t);

/* What the calling task is at, for the report of a crash: a literal, with nothing of anybody's in it. NULL: nothing. */
void task_note(const char *note);
/* Likewise the message that it is busy with, and the tasks that it starts, and the jobs that it awaits of offload; 0: none. */
void task_about(uint64_t id);
void task_job_about(uint64_t id);                /* in a job that is for several: the one that it has in hand */
uint64_t task_is_about(void);                    /* of the calling task, or the calling job */

/* A pointer that a task hands on to every task it starts: whose task it is, where several servers share one process (the tests of whole
 * worlds). NULL at first. */
void *task_owner(void);
void  task_owner_set(void *owner);

/* Awaits a task_wake(). Wakes are remembered: one that came before the park ends it at once, several count as one. So
 * callers loop: while (!condition) { r = task_park(deadline); if (r < 0) return r; } */
int task_park(int64_t deadline_ns);

/* Wake a task that may be parked. From any thread, as long as the task is known not to have ended. */
void task_wake(struct task *t);

int     task_sleep_until(int64_t deadline_ns);   /* awaits; 0 when the time has come */
int     task_sleep(int64_t ns);                  /* awaits */
int     task_yield(void);                        /* lets the others of this loop run once; awaits */
int64_t task_deadline_in(int64_t ns);            /* now + ns, saturating at TASK_FOREVER */

/* Gives the pages of the caller's stack that it does not use now back to the system: before a long wait, after something deep. */
void task_trim_stack(void);

/* At most max tasks at a time on all loops (and no more than the system has mappings for their stacks): beyond it, starts fail
 * with -EAGAIN. 250,000 at first. */
void task_limit_set(unsigned max);

/* Cancellation. Between task_shield_begin and task_shield_end a task's awaits ignore it (to say 421, to put something in
 * order); shields nest and are short, with deadlines of their own. */
bool task_canceled(void);                        /* shields not considered */
int  task_stop_check(void);                      /* what an await would say at once: -ECANCELED, or 0; for awaits that may not need to park */
void task_shield_begin(void);
void task_shield_end(void);

/*
 * Groups: the tasks that belong to one owner (a listener's sessions, a server). All members are on the group's loop, the
 * one it was initialised on; all functions are called there. A group outlives its members: group_wait before free.
 */
struct task_group {
    struct task *members;                        /* intrusive list, in task.c */
    unsigned     count;
    struct task *waiter;
    bool         canceled;                       /* later starts fail with -ECANCELED */
};

void task_group_init(struct task_group *g);
int  task_group_start(struct task_group *g, const char *name, task_fn *fn, void *arg);
void task_group_cancel(struct task_group *g);    /* every member and every later one; returns at once */
int  task_group_wait(struct task_group *g, int64_t deadline_ns);   /* awaits until the group is empty; ignores the caller's own cancellation */

#endif
