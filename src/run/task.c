/*
 * Tasks: their life, parking and waking, cancellation, groups. The contract is in task.h.
 *
 * Every switch goes from a task to its loop or back, so that the loop's code alone decides who runs next. All of a task
 * belongs to its loop's thread; a wake from another thread only puts the task into the loop's remote list.
 */
#include "run/task_internal.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* 100,000 sessions and as many deliveries; the stacks' address space (256 KiB each) ends at half a billion. */
#define TASKS_MAX_DEFAULT 250000

atomic_uint           tasks_live;
static atomic_uint    tasks_max;                     /* 0: not asked for yet */
_Thread_local struct loop *loop_here;

static unsigned tasks_limit(void)
{
    unsigned max = atomic_load_explicit(&tasks_max, memory_order_relaxed);
    if (max == 0) {
        task_limit_set(TASKS_MAX_DEFAULT);
        max = atomic_load_explicit(&tasks_max, memory_order_relaxed);
    }
    return max;
}

void task_limit_set(unsigned max)
{
    unsigned possible = stack_count_max();
    assert(max > 0);
    atomic_store_explicit(&tasks_max, max < possible ? max : possible, memory_order_relaxed);
}

/* The last thing on a task's own stack. */
static struct context *task_main(void *arg)
{
    struct task *t = arg;
    loop_here = t->loop;                             /* a thread of its own with TASKS=threads; no change otherwise */
    t->fn(t->arg);
    assert(t->shields == 0);
    t->state = TASK_ENDED;
    return &t->loop->context;
}

int task_new(struct loop *home, struct stack_cache *stacks, const char *name, task_fn *fn, void *arg, struct task **out)
{
    if (atomic_fetch_add(&tasks_live, 1) >= tasks_limit()) {
        atomic_fetch_sub(&tasks_live, 1);
        return -EAGAIN;
    }
    int          r = -ENOMEM;
    struct task *t = calloc(1, sizeof *t);
    if (t != NULL)
        r = stack_take(stacks, &t->stack);
    if (r == 0) {
        r = context_init(&t->context, name, &t->stack, task_main, t);
        if (r < 0)
            stack_give(stacks, &t->stack);
    }
    if (r < 0) {
        free(t);
        atomic_fetch_sub(&tasks_live, 1);
        return r;
    }
    t->name = name;
    t->fn = fn;
    t->arg = arg;
    t->owner = task_self() != NULL ? task_self()->owner : NULL;
    t->about = task_self() != NULL ? task_self()->about : 0;
    t->loop = home;
    t->state = TASK_ARRIVING;
    heap_node_init(&t->timer);
    *out = t;
    return 0;
}

void task_discard(struct task *t, struct stack_cache *stacks)
{
    context_free(&t->context);
    stack_give(stacks, &t->stack);
    free(t);
    atomic_fetch_sub(&tasks_live, 1);
}

static void task_make_ready(struct task *t)
{
    struct loop *l = t->loop;
    t->state = TASK_READY;
    t->ready_next = NULL;
    if (l->ready_last == NULL)
        l->ready_first = t;
    else
        l->ready_last->ready_next = t;
    l->ready_last = t;
}

void task_adopt(struct task *t)
{
    struct loop *l = t->loop;
    t->next = l->tasks;
    t->previous = NULL;
    if (l->tasks != NULL)
        l->tasks->previous = t;
    l->tasks = t;
    l->task_count++;
    task_make_ready(t);
}

int task_start(const char *name, task_fn *fn, void *arg)
{
    return task_group_start(NULL, name, fn, arg);
}

struct task *task_self(void)
{
    return loop_here == NULL ? NULL : loop_here->current;
}

/* For what only a task may call. */
static struct task *running(void)
{
    struct task *t = task_self();
    assert(t != NULL);
    return t;
}

const char *task_name(const struct task *t)
{
    return t->name;
}

void *task_owner(void)
{
    return running()->owner;
}

void task_owner_set(void *owner)
{
    running()->owner = owner;
}

void task_note(const char *note)
{
    running()->note = note;
}

_Thread_local uint64_t task_thread_about;

void task_about(uint64_t id)
{
    running()->about = id;
}

void task_job_about(uint64_t id)
{
    task_thread_about = id;
}

uint64_t task_is_about(void)
{
    const struct task *t = loop_here != NULL ? loop_here->current : NULL;
    return t != NULL ? t->about : task_thread_about;
}

void task_trim_stack(void)
{
    stack_trim(&running()->stack);
}

/*
 * Parking and waking.
 */

static bool task_must_stop(const struct task *t)
{
    return t->canceled && t->shields == 0;          /* analyze analyzer-null-dereference: only tasks park */
}

static void task_switch_out(struct task *t)
{
    context_switch(&t->context, &t->loop->context);
}

/* Without memory for a timer, a park becomes a turn of the loop: the caller looks at its condition and comes back. */
static int task_park_without_timer(struct task *t, int64_t deadline_ns)
{
    int r = task_yield();
    if (r == 0 && !t->woken && clock_mono_ns() >= deadline_ns)
        return -ETIMEDOUT;
    t->woken = false;
    return r;
}

int task_park(int64_t deadline_ns)
{
    struct task *t = task_self();
    assert(t != NULL);
    if (task_must_stop(t))
        return -ECANCELED;
    if (!t->woken) {
        t->timer_order = t->loop->timer_order++;
        if (deadline_ns != TASK_FOREVER && heap_push(&t->loop->timers, &t->timer, deadline_ns) < 0)
            return task_park_without_timer(t, deadline_ns);
        t->state = TASK_PARKED;
        task_switch_out(t);
        if (task_must_stop(t))
            return -ECANCELED;
    }
    if (!t->woken)
        return -ETIMEDOUT;
    t->woken = false;
    return 0;
}

static void task_unpark(struct task *t)
{
    if (t->state != TASK_PARKED)
        return;
    heap_remove(&t->loop->timers, &t->timer);
    task_make_ready(t);
}

void task_expired(struct task *t)
{
    task_unpark(t);
}

static void task_wake_here(struct task *t)
{
    t->woken = true;
    task_unpark(t);
}

void task_wake(struct task *t)
{
    if (t->loop == loop_here)
        task_wake_here(t);
    else if (!atomic_exchange(&t->remote_queued, true))
        loop_push_remote(t->loop, t);
}

void task_received(struct task *t)
{
    /* Taken back before the wake is acted on: one that comes now is queued again. */
    atomic_exchange(&t->remote_queued, false);
    switch (t->state) {
    case TASK_ARRIVING:
        atomic_fetch_sub(&t->loop->starts_in_flight, 1);
        task_adopt(t);
        break;
    case TASK_READY:
    case TASK_RUNNING:
    case TASK_PARKED:
        task_wake_here(t);
        break;
    case TASK_ENDED:
        free(t);
        break;
    }
}

int task_yield(void)
{
    struct task *t = task_self();
    assert(t != NULL);
    if (task_must_stop(t))
        return -ECANCELED;
    task_make_ready(t);
    task_switch_out(t);
    return task_must_stop(t) ? -ECANCELED : 0;
}

int64_t task_deadline_in(int64_t ns)
{
    int64_t deadline_ns;
    return __builtin_add_overflow(clock_mono_ns(), ns, &deadline_ns) ? TASK_FOREVER : deadline_ns;
}

int task_sleep_until(int64_t deadline_ns)
{
    int r;
    do                                               /* a wake is not meant for a sleeper, whose time it does not change */
        r = task_park(deadline_ns);
    while (r == 0);
    return r == -ETIMEDOUT ? 0 : r;
}

int task_sleep(int64_t ns)
{
    return task_sleep_until(task_deadline_in(ns));
}

/*
 * Cancellation.
 */

bool task_canceled(void)
{
    return running()->canceled;
}

void task_shield_begin(void)
{
    running()->shields++;
}

void task_shield_end(void)
{
    assert(running()->shields > 0);
    running()->shields--;
}

int task_stop_check(void)
{
    return task_must_stop(task_self()) ? -ECANCELED : 0;
}

void task_cancel(struct task *t)
{
    t->canceled = true;
    if (t->shields == 0)
        task_unpark(t);
}

/*
 * Groups.
 */

void task_group_init(struct task_group *g)
{
    *g = (struct task_group){ .count = 0 };
}

static void task_group_join(struct task_group *g, struct task *t)
{
    assert(g->members == NULL || g->members->loop == t->loop);
    t->group = g;
    t->group_next = g->members;
    if (g->members != NULL)
        g->members->group_previous = t;
    g->members = t;
    g->count++;
}

static void task_group_leave(struct task *t)
{
    struct task_group *g = t->group;
    if (t->group_previous != NULL)
        t->group_previous->group_next = t->group_next;
    else
        g->members = t->group_next;
    if (t->group_next != NULL)
        t->group_next->group_previous = t->group_previous;
    if (--g->count == 0 && g->waiter != NULL)
        task_wake(g->waiter);
}

int task_group_start(struct task_group *g, const char *name, task_fn *fn, void *arg)
{
    struct loop *l = loop_here;
    struct task *t;
    assert(l != NULL);
    if (g != NULL && g->canceled)
        return -ECANCELED;
    int r = task_new(l, &l->stacks, name, fn, arg, &t);
    if (r < 0)
        return r;
    if (g != NULL)
        task_group_join(g, t);
    task_adopt(t);
    return 0;
}

void task_group_cancel(struct task_group *g)
{
    g->canceled = true;
    for (struct task *t = g->members; t != NULL; t = t->group_next)
        task_cancel(t);
}

int task_group_wait(struct task_group *g, int64_t deadline_ns)
{
    int r = 0;
    task_shield_begin();
    while (g->count > 0 && r == 0) {
        assert(g->waiter == NULL);
        g->waiter = task_self();
        r = task_park(deadline_ns);
        g->waiter = NULL;
    }
    task_shield_end();
    return g->count == 0 ? 0 : r;
}

void task_reap(struct task *t)
{
    struct loop *l = t->loop;
    if (t->group != NULL)
        task_group_leave(t);
    if (t->previous != NULL)
        t->previous->next = t->next;
    else
        l->tasks = t->next;
    if (t->next != NULL)
        t->next->previous = t->previous;
    l->task_count--;
    context_free(&t->context);
    stack_give(&l->stacks, &t->stack);
    /* A wake that came when it no longer waited may still stand in the remote list; task_received frees it then. */
    if (!atomic_load(&t->remote_queued))
        free(t);
    if (atomic_fetch_sub(&tasks_live, 1) == 1)
        loop_wake_all();
}
