/*
 * What task.c, loop.c and loop_fd.c know of each other: the insides of a task and of a loop. Nobody else includes this.
 */
#ifndef RUN_TASK_INTERNAL_H
#define RUN_TASK_INTERNAL_H

#include "base/heap.h"
#include "run/context.h"
#include "run/loop.h"
#include "run/loop_internal.h"
#include "run/stack.h"
#include "run/task.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

enum task_state {
    TASK_ARRIVING,                   /* started from another loop, on its way to its own */
    TASK_READY,                      /* in the ready list */
    TASK_RUNNING,
    TASK_PARKED,
    TASK_ENDED,                      /* its function returned */
};

extern _Thread_local uint64_t task_thread_about;     /* what the job on this thread is about */

/* All fields but the remote ones belong to the loop's thread. tools/gdb reads name, state, context and the list. */
struct task {
    struct context     context;
    const char        *name;         /* borrowed: a literal, as the next */
    uint64_t           about;        /* task_about */
    const char        *note;         /* task_note; NULL: nothing */
    task_fn           *fn;
    void              *arg;
    void              *owner;        /* handed on to those it starts */
    struct loop       *loop;
    enum task_state    state;
    unsigned           shields;
    bool               woken;        /* a wake that no park has consumed */
    bool               canceled;
    struct stack       stack;
    struct task       *next, *previous;              /* all tasks of the loop */
    struct task       *ready_next;                   /* the ready list; in timers_expire, the list of those due */
    struct heap_node   timer;                        /* in the loop's heap while parked with a deadline */
    uint64_t           timer_order;                  /* equal deadlines expire in the order of parking */
    struct task_group *group;                        /* NULL: none */
    struct task       *group_next, *group_previous;
    struct task       *remote_next;                  /* the loop's list of wakes from other threads */
    atomic_bool        remote_queued;                /* in that list, so at most once */
};

struct loop {
    unsigned                  index;
    struct context            context;               /* of the thread itself, between tasks */
    struct task              *current;               /* NULL between tasks */
    struct task              *ready_first, *ready_last;
    struct task              *tasks;
    unsigned                  task_count;
    struct heap               timers;
    uint64_t                  timer_order;
    struct stack_cache        stacks;
    const struct loop_driver *driver;                /* NULL in the real world */
    int                       epoll, wakeup;         /* an epoll and, in it, an eventfd; -1 if driven */
    pthread_t                 thread;                /* of all but loop 0 */
    int64_t                   turn_began_ns, slow_logged_ns;
    const sigset_t           *signals_to_block;      /* loop_signals asks the loop's own thread */
    sigset_t                  signals_before;

    /* Touched by other threads. */
    _Atomic(struct task *)    remote;                /* a stack of tasks to wake or to adopt */
    atomic_bool               asleep;                /* a push must write to wakeup; the one who takes it back writes */
    atomic_uint               starts_in_flight;
};

extern _Thread_local struct loop *loop_here;         /* of the calling thread; NULL on others */

/* task.c */
extern atomic_uint tasks_live;                       /* of all loops; at 0 they stop */
int  task_new(struct loop *home, struct stack_cache *stacks, const char *name, task_fn *fn, void *arg, struct task **out);
void task_discard(struct task *t, struct stack_cache *stacks);   /* one that never ran, or is abandoned */
void task_adopt(struct task *t);                     /* new on the calling loop: listed and ready */
void task_reap(struct task *t);                      /* ended: all but what a wake in flight still touches */
void task_received(struct task *t);                  /* taken out of the remote list: adopt, wake or free */
void task_cancel(struct task *t);
void task_expired(struct task *t);                   /* its deadline passed */

/* loop.c */
void loop_push_remote(struct loop *l, struct task *t);
void loop_wake_all(void);

/* loop_fd.c */
void loop_fd_event(struct loop_fd *f, uint32_t events);
void loop_signals_end(void);                         /* on loop 0's thread, after the last task */

#endif
