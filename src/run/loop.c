/*
 * Loops; the contract is in loop.h and, for the driven one, in loop_internal.h.
 *
 * A turn runs what is ready, up to a bound, then takes in wakes from other threads, looks at epoll and at the timers. The
 * thread sleeps in epoll only if nothing is ready. Wakes from other threads arrive in a list that anyone may push to; the
 * eventfd beside it is written only by the push that finds the loop (about to be) asleep, so a storm of wakes costs one write.
 */
#include "base/log.h"
#include "base/metrics.h"
#include "run/crash.h"
#include "run/task_internal.h"
#include "run/thread.h"
#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* Between two looks at epoll. A look costs about 300 ns, a switch 10: so a busy loop spends little on looking, and a descriptor waits little. */
#define RUNS_PER_TURN 64

#define EVENTS_PER_LOOK      256
#define STARTS_IN_FLIGHT_MAX 4096                /* to one loop from the others */
#define SLOW_NS              (50 * NS_PER_MS)
#define SLOW_LOG_EVERY_NS    NS_PER_S            /* and loop; the metric counts them all */

static struct loop *loops[LOOPS_MAX];            /* tools/gdb starts here */
static unsigned     loops_count;

/*
 * The watchdog. The coarse clock costs a fifth of the exact one and is good to 4 ms.
 */

static int64_t coarse_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void watchdog_saw(struct loop *l, int64_t now_ns, const char *name)
{
    int64_t took_ns = now_ns - l->turn_began_ns;
    if (took_ns <= SLOW_NS)
        return;
    metric_add(METRIC_loop_turns_slow, 1);
    if (l->slow_logged_ns != 0 && now_ns - l->slow_logged_ns < SLOW_LOG_EVERY_NS)
        return;
    l->slow_logged_ns = now_ns;
    log_event(LOG_WARN, "loop_turn_slow", LOG_Z("task", name), LOG_U64("loop", l->index), LOG_I64("ms", took_ns / NS_PER_MS));
}

/*
 * Running what is ready.
 */

static void loop_run_task(struct loop *l, struct task *t)
{
    const char *name = t->name;
    assert(t->state == TASK_READY);
    t->state = TASK_RUNNING;
    l->current = t;
    context_switch(&l->context, &t->context);
    l->current = NULL;
    if (l->signals_to_block != NULL) {
        (void)pthread_sigmask(SIG_BLOCK, l->signals_to_block, &l->signals_before);
        l->signals_to_block = NULL;
    }
    if (t->state == TASK_ENDED)
        task_reap(t);
    if (l->driver == NULL) {
        int64_t now_ns = coarse_ns();
        watchdog_saw(l, now_ns, name);
        l->turn_began_ns = now_ns;
    }
}

static void loop_run_ready(struct loop *l)
{
    for (unsigned runs = 0; runs < RUNS_PER_TURN && l->ready_first != NULL; runs++) {
        struct task *t = l->ready_first;
        l->ready_first = t->ready_next;
        if (l->ready_first == NULL)
            l->ready_last = NULL;
        loop_run_task(l, t);
    }
}

/*
 * Wakes from other threads.
 */

static void loop_rouse(struct loop *l)
{
    uint64_t one = 1;
    if (atomic_load(&l->asleep) && atomic_exchange(&l->asleep, false))
        (void)!write(l->wakeup, &one, sizeof one);   /* fails only if the count is full, and then it is readable */
}

void loop_push_remote(struct loop *l, struct task *t)
{
    struct task *first = atomic_load_explicit(&l->remote, memory_order_relaxed);
    do
        t->remote_next = first;
    while (!atomic_compare_exchange_weak(&l->remote, &first, t));
    loop_rouse(l);
}

void loop_wake_all(void)
{
    for (unsigned i = 0; i < loops_count; i++)
        if (loops[i]->driver == NULL)
            loop_rouse(loops[i]);
}

static void loop_take_remote(struct loop *l)
{
    if (atomic_load_explicit(&l->remote, memory_order_relaxed) == NULL)
        return;
    struct task *newest = atomic_exchange(&l->remote, NULL);
    struct task *oldest = NULL;
    while (newest != NULL) {                     /* pushed last, stands first */
        struct task *next = newest->remote_next;
        newest->remote_next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct task *next = oldest->remote_next; /* before task_received, which lets it be pushed again */
        task_received(oldest);
        oldest = next;
    }
}

/*
 * Timers.
 */

static struct task *due_merge(struct task *a, struct task *b)
{
    struct task  *first = NULL;
    struct task **end = &first;
    while (a != NULL && b != NULL) {
        struct task **smaller = a->timer.key < b->timer.key || (a->timer.key == b->timer.key && a->timer_order < b->timer_order) ? &a : &b;
        *end = *smaller;
        end = &(*smaller)->ready_next;
        *smaller = *end;
    }
    *end = a != NULL ? a : b;
    return first;
}

static struct task *due_sort(struct task *list, unsigned count)
{
    if (count < 2)
        return list;
    struct task *last = list;
    for (unsigned i = 1; i < count / 2; i++)
        last = last->ready_next;
    struct task *second = last->ready_next;
    last->ready_next = NULL;
    return due_merge(due_sort(list, count / 2), due_sort(second, count - count / 2));
}

/* The heap knows deadlines only; those that are equal come out of it in any order. */
static void timers_expire(struct loop *l, int64_t now_ns)
{
    struct task       *due = NULL;
    unsigned           count = 0;
    struct heap_node  *node;
    while ((node = heap_top(&l->timers)) != NULL && node->key <= now_ns) {
        struct task *t = CONTAINER_OF(heap_pop(&l->timers), struct task, timer);
        t->ready_next = due;
        due = t;
        count++;
    }
    due = due_sort(due, count);
    while (due != NULL) {
        struct task *next = due->ready_next;
        task_expired(due);
        due = next;
    }
}

static int64_t loop_next_deadline(const struct loop *l)
{
    struct heap_node *node = heap_top(&l->timers);
    return node == NULL ? TASK_FOREVER : node->key;
}

/*
 * Waiting.
 */

/* Rounded up, so that a deadline has passed when the wait ends. */
static int timeout_ms(int64_t deadline_ns)
{
    if (deadline_ns == TASK_FOREVER)
        return -1;
    int64_t now_ns = clock_mono_ns();
    if (deadline_ns <= now_ns)
        return 0;
    int64_t ms = (deadline_ns - now_ns - 1) / NS_PER_MS + 1;
    return ms < 60000 ? (int)ms : 60000;
}

/* Says that it will sleep, then looks once more: who pushes after that look sees `asleep` and writes to the eventfd. */
static int loop_sleep_for_ms(struct loop *l)
{
    if (l->ready_first != NULL)
        return 0;
    atomic_store(&l->asleep, true);
    if (atomic_load(&l->remote) != NULL || atomic_load(&tasks_live) == 0)
        return 0;
    return timeout_ms(loop_next_deadline(l));
}

static void loop_wait(struct loop *l)
{
    struct epoll_event events[EVENTS_PER_LOOK];
    int                count = epoll_wait(l->epoll, events, EVENTS_PER_LOOK, loop_sleep_for_ms(l));
    atomic_store_explicit(&l->asleep, false, memory_order_relaxed);
    l->turn_began_ns = coarse_ns();
    assert(count >= 0 || errno == EINTR);
    /* No task runs before all of them are handled, so no descriptor is forgotten while its event stands in this array. */
    for (int i = 0; i < count; i++)
        if (events[i].data.ptr != NULL)          /* NULL: the eventfd; edge-triggered, so nobody needs to read it */
            loop_fd_event(events[i].data.ptr, events[i].events);
    loop_take_remote(l);
    if (l->timers.count > 0)
        timers_expire(l, clock_mono_ns());
}

static void loop_live(struct loop *l)
{
    l->turn_began_ns = coarse_ns();
    while (atomic_load(&tasks_live) > 0) {
        loop_run_ready(l);
        loop_wait(l);
    }
}

/* On the loop's own thread. */
static void loop_enter(struct loop *l)
{
    loop_here = l;
    context_adopt(&l->context);
    crash_thread_begin();
}

static void loop_leave(struct loop *l)
{
    crash_thread_end();
    context_free(&l->context);
    loop_here = NULL;
}

static void *loop_thread(void *arg)
{
    struct loop *l = arg;
    loop_enter(l);
    loop_live(l);
    loop_leave(l);
    return NULL;
}

/*
 * Making and ending loops.
 */

static void loop_free(struct loop *l)
{
    assert(l != NULL);
    loop_take_remote(l);                         /* ended tasks whose last wake came late */
    assert(l->tasks == NULL);
    heap_free(&l->timers);
    stack_cache_free(&l->stacks);
    if (l->wakeup >= 0)
        (void)close(l->wakeup);
    if (l->epoll >= 0)
        (void)close(l->epoll);
    free(l);
}

static void loops_free(void)
{
    while (loops_count > 0) {
        loops_count--;
        loop_free(loops[loops_count]);
        loops[loops_count] = NULL;
    }
}

static int loop_open(struct loop *l)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.ptr = NULL };
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll < 0)
        return -errno;
    l->wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->wakeup < 0)
        return -errno;
    return epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->wakeup, &event) < 0 ? -errno : 0;
}

static int loop_new(const struct loop_driver *driver)
{
    struct loop *l = calloc(1, sizeof *l);
    if (l == NULL)
        return -ENOMEM;
    l->index = loops_count;
    l->epoll = l->wakeup = -1;
    l->driver = driver;
    heap_init(&l->timers);
    int r = driver == NULL ? loop_open(l) : 0;
    if (r < 0) {
        loop_free(l);
        return r;
    }
    loops[loops_count++] = l;
    return 0;
}

unsigned loop_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) < 0)
        return 1;                                /* more than CPU_SETSIZE of them: the caller may say how many it wants */
    unsigned count = (unsigned)CPU_COUNT(&set);
    return count < LOOPS_MAX ? count : LOOPS_MAX;
}

/* Loops, and the first task ready on loop 0. */
static int loops_new(unsigned count, const struct loop_driver *driver, task_fn *first, void *arg, struct task **out_first)
{
    int r = 0;
    assert(loops_count == 0 && loop_here == NULL);
    while (r == 0 && loops_count < count)
        r = loop_new(driver);
    if (r == 0)
        r = task_new(loops[0], &loops[0]->stacks, "main", first, arg, out_first);
    if (r < 0)
        loops_free();
    return r;
}

static int threads_start(unsigned *out_started)
{
    static const char *const names[] = { "loop", "loop1", "loop2", "loop3", "loop4", "loop5", "loop6", "loop7" };
    for (unsigned i = 1; i < loops_count; i++) {
        int r = thread_start(&loops[i]->thread, i < 8 ? names[i] : names[0], NULL, loop_thread, loops[i]);
        if (r < 0)
            return r;
        *out_started = i;
    }
    return 0;
}

int loop_run(unsigned count, task_fn *first, void *arg)
{
    struct task *first_task;
    unsigned     started = 0;
    if (count == 0)
        count = loop_cores();
    int r = loops_new(count < LOOPS_MAX ? count : LOOPS_MAX, NULL, first, arg, &first_task);
    if (r < 0)
        return r;
    loop_enter(loops[0]);
    r = threads_start(&started);
    if (r == 0) {
        task_adopt(first_task);
        loop_live(loops[0]);
    } else {
        task_discard(first_task, &loops[0]->stacks);
        loop_wake_all();
    }
    for (unsigned i = 1; i <= started; i++)
        (void)pthread_join(loops[i]->thread, NULL);
    loop_signals_end();
    loop_leave(loops[0]);
    loops_free();
    return r;
}

/*
 * The driven loop.
 */

static void loop_cancel_all(struct loop *l)
{
    for (struct task *t = l->tasks; t != NULL; t = t->next)
        task_cancel(t);
}

/* They wait for what will never come. With a thread each they cannot be ended at all, and stay until the process ends. */
static void loop_abandon(struct loop *l)
{
    while (l->tasks != NULL) {
        struct task *t = l->tasks;
        log_event(LOG_WARN, "task_abandoned", LOG_Z("task", t->name));
        l->tasks = t->next;
        heap_remove(&l->timers, &t->timer);
#ifdef TASKS_THREADS
        atomic_fetch_sub(&tasks_live, 1);
#else
        task_discard(t, &l->stacks);
#endif
    }
    l->ready_first = l->ready_last = NULL;
}

static int loop_live_driven(struct loop *l)
{
    int result = 0;
    while (atomic_load(&tasks_live) > 0) {
        loop_run_ready(l);
        timers_expire(l, clock_mono_ns());
        if (l->ready_first != NULL || atomic_load(&tasks_live) == 0)
            continue;
        int r = l->driver->wait(l->driver->self, loop_next_deadline(l));
        if (r >= 0)
            continue;
        if (result < 0)
            loop_abandon(l);
        else
            loop_cancel_all(l);
        result = result < 0 ? result : r;
    }
    return result;
}

int loop_run_driven(const struct loop_driver *driver, task_fn *first, void *arg)
{
    struct task *first_task;
    int          r = loops_new(1, driver, first, arg, &first_task);
    if (r < 0)
        return r;
    loop_enter(loops[0]);
    task_adopt(first_task);
    r = loop_live_driven(loops[0]);
    loop_leave(loops[0]);
    loops_free();
    return r;
}

bool loop_is_driven(void)
{
    return loops_count > 0 && loops[0]->driver != NULL;
}

/*
 * Asked by tasks.
 */

unsigned loop_count(void)
{
    return loops_count;
}

unsigned loop_index(void)
{
    return loop_here->index;
}

unsigned loop_tasks(void)
{
    return loop_here->task_count;
}

int loop_start_on(unsigned index, const char *name, task_fn *fn, void *arg)
{
    struct task *t;
    assert(index < loops_count && loop_here != NULL);
    struct loop *l = loops[index];
    if (l == loop_here)
        return task_start(name, fn, arg);
    if (atomic_fetch_add(&l->starts_in_flight, 1) >= STARTS_IN_FLIGHT_MAX) {
        atomic_fetch_sub(&l->starts_in_flight, 1);
        return -EAGAIN;
    }
    int r = task_new(l, &loop_here->stacks, name, fn, arg, &t);
    if (r < 0) {
        atomic_fetch_sub(&l->starts_in_flight, 1);
        return r;
    }
    atomic_store(&t->remote_queued, true);
    loop_push_remote(l, t);
    return 0;
}
