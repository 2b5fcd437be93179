/*
 * The simulated world: its time, its events, its chance, its helper threads and its trace. Test code only; one thread.
 *
 * Time stands still while anything runs, and jumps to the next event or deadline when nothing does (a driven loop, see
 * run/loop_internal.h). Events at one instant come in the order in which they were made.
 *
 * An offload job begins some microseconds after it was posted, on a context of its own, as a thread would. In
 * sim_spend() (a sync of the disk) it is switched away from and comes back when the time is over; tasks, the network and other
 * jobs go on meanwhile. So what is appended during a sync is really appended during it. A job that holds a lock over a
 * sync and meets a task that wants it stands still for good, as there is one thread: in the real world that would block a loop.
 *
 * With NIGHTMAIL_SIM_TRACE set in the environment, every step of the trace is printed to standard error, to be compared.
 */
#include "run/sim.h"

#include "base/clock.h"
#include "run/context.h"
#include "run/loop_internal.h"
#include "run/sim_internal.h"
#include "run/stack.h"
#include "run/task_internal.h"
#include "run/tls_internal.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define START_MONO_NS      (INT64_C(1000) * NS_PER_S)
#define START_WALL_NS      (INT64_C(1767225600) * NS_PER_S)       /* 2026-01-01T00:00:00Z */
#define JOB_DELAY_MAX_NS   (INT64_C(20) * NS_PER_US)

struct event {
    int64_t  when_ns;
    uint64_t sequence;
    void   (*fn)(void *arg);
    void    *arg;
};

/* A helper thread: a context that runs one job after another. */
struct worker {
    struct context context;
    struct loop   *loop;
    struct stack   stack;
    void         (*fn)(void *arg);               /* NULL: none; when entered so, it ends */
    void          *arg;
    struct worker *next;                         /* of the idle ones */
};

struct job {
    void (*fn)(void *arg);
    void  *arg;
};

static struct {
    bool              active;
    struct sim_options options;
    int64_t           now_ns;
    struct event     *events;                    /* a binary heap by time and sequence */
    size_t            event_count, event_capacity;
    uint64_t          sequence;
    uint64_t          step;
    uint64_t          hash;
    bool              trace_shown;
    struct sim_chance workload, random, delay;
    struct context    outside;                   /* the loop's own, from which jobs are entered */
    struct worker    *running, *idle;
    struct stack_cache stacks;
    size_t            jobs;                      /* posted and not ended */
} world;

/* ---- memory and chance ---- */

void *sim_alloc_raw(size_t n)
{
    void *p = malloc(n ? n : 1);
    if (p == NULL)
        abort();                                 /* nothing that is tested here is our own memory */
    return p;
}

void *sim_alloc(size_t n)
{
    return memset(sim_alloc_raw(n), 0, n);
}

void *sim_resize(void *p, size_t n)
{
    p = realloc(p, n ? n : 1);
    if (p == NULL)
        abort();
    return p;
}

static uint64_t scramble(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

uint64_t sim_chance_next(struct sim_chance *c)
{
    return scramble(c->state += 0x9e3779b97f4a7c15);
}

uint64_t sim_chance_below(struct sim_chance *c, uint64_t bound)
{
    assert(bound > 0);
    return (uint64_t)((unsigned __int128)sim_chance_next(c) * bound >> 64);
}

uint64_t sim_mix(uint64_t hash, uint64_t value)
{
    return scramble((hash + 0x9e3779b97f4a7c15) ^ scramble(value + 0x632be59bd9b4e019));
}

uint64_t sim_random(void)
{
    return sim_chance_next(&world.workload);
}

uint64_t sim_random_below(uint64_t bound)
{
    return sim_chance_below(&world.workload, bound);
}

/* ---- trace ---- */

void sim_trace(enum sim_trace_kind kind, uint64_t a, uint64_t b)
{
    world.hash = sim_mix(sim_mix(sim_mix(world.hash, (uint64_t)world.now_ns), (uint64_t)kind << 56 ^ a), b);
    if (world.trace_shown)
        (void)fprintf(stderr, "sim %lld.%09lld kind=%d a=%llx b=%llx\n", (long long)(world.now_ns / NS_PER_S),
                      (long long)(world.now_ns % NS_PER_S), (int)kind, (unsigned long long)a, (unsigned long long)b);
}

uint64_t sim_trace_hash(void)
{
    return world.hash;
}

uint64_t sim_step(void)
{
    return world.step;
}

/* ---- time and events ---- */

int64_t sim_now(void)
{
    return world.now_ns;
}

int64_t sim_wall(void)
{
    return (world.options.start_wall_ns ? world.options.start_wall_ns : START_WALL_NS) + (world.now_ns - START_MONO_NS);
}

static bool event_before(const struct event *a, const struct event *b)
{
    return a->when_ns != b->when_ns ? a->when_ns < b->when_ns : a->sequence < b->sequence;
}

void sim_at(int64_t when_ns, void (*fn)(void *arg), void *arg)
{
    SIM_GROW(world.events, world.event_count, world.event_capacity);
    struct event e = { when_ns, world.sequence++, fn, arg };
    size_t at = world.event_count++;
    for (; at > 0 && event_before(&e, &world.events[(at - 1) / 2]); at = (at - 1) / 2)
        world.events[at] = world.events[(at - 1) / 2];
    world.events[at] = e;
}

static struct event event_pop(void)
{
    struct event first = world.events[0], last = world.events[--world.event_count];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < world.event_count) {
        if (child + 1 < world.event_count && event_before(&world.events[child + 1], &world.events[child]))
            child++;
        if (!event_before(&world.events[child], &last))
            break;
        world.events[at] = world.events[child];
        at = child;
    }
    world.events[at] = last;
    return first;
}

static void move_clock(int64_t to_ns)
{
    if (to_ns > world.now_ns)                    /* else a blocked loop comes late to it */
        world.now_ns = to_ns;
}

static void event_run(void)
{
    struct event e = event_pop();
    move_clock(e.when_ns);
    world.step++;
    sim_trace(SIM_TRACE_EVENT, e.sequence, 0);
    e.fn(e.arg);
}

static int on_wait(void *self, int64_t next_deadline_ns)
{
    (void)self;
    if (world.event_count > 0 && world.events[0].when_ns <= next_deadline_ns) {
        event_run();
        return 0;
    }
    if (next_deadline_ns == TASK_FOREVER)
        return -EDEADLK;
    move_clock(next_deadline_ns);
    world.step++;
    sim_trace(SIM_TRACE_DEADLINE, 0, 0);
    return 0;
}

/* ---- helper threads ---- */

static struct context *worker_main(void *arg)
{
    struct worker *w = arg;
    loop_here = w->loop;                         /* with a thread per context, this is another: it wakes tasks as the loop's own would */
    while (w->fn != NULL) {
        w->fn(w->arg);
        w->fn = NULL;
        context_switch(&w->context, &world.outside);
    }
    return &world.outside;
}

/* Until the job ends or spends time. */
static void worker_enter(struct worker *w)
{
    assert(world.running == NULL);
    world.running = w;
    context_switch(&world.outside, &w->context);
    world.running = NULL;
    if (w->fn != NULL)
        return;
    world.jobs--;
    w->next = world.idle;
    world.idle = w;
}

static void worker_continue(void *arg)
{
    worker_enter(arg);
}

static struct worker *worker_new(void)
{
    struct worker *w = sim_alloc(sizeof *w);
    w->loop = loop_here;
    if (stack_take(&world.stacks, &w->stack) < 0 || context_init(&w->context, "sim offload", &w->stack, worker_main, w) < 0)
        abort();
    return w;
}

static void workers_end(void)
{
    for (struct worker *w; (w = world.idle) != NULL;) {
        world.idle = w->next;
        context_switch(&world.outside, &w->context);
        context_free(&w->context);
        stack_give(&world.stacks, &w->stack);
        free(w);
    }
}

static void job_begin(void *arg)
{
    struct job *job = arg;
    struct worker *w = world.idle;
    if (w != NULL)
        world.idle = w->next;
    else
        w = worker_new();
    w->fn = job->fn;
    w->arg = job->arg;
    free(job);
    worker_enter(w);
}

static int on_post(void *self, void (*fn)(void *arg), void *arg, const char *pool_name)
{
    (void)self;
    struct job *job = sim_alloc(sizeof *job);
    *job = (struct job){ fn, arg };
    world.jobs++;
    sim_trace(SIM_TRACE_OFFLOAD, world.jobs, strlen(pool_name));
    sim_at(world.now_ns + 1 + (int64_t)sim_chance_below(&world.delay, JOB_DELAY_MAX_NS), job_begin, job);
    return 0;
}

void sim_spend(int64_t ns)
{
    struct worker *w = world.running;
    if (ns <= 0)
        return;
    if (w == NULL) {
        move_clock(world.now_ns + ns);
        return;
    }
    sim_at(world.now_ns + ns, worker_continue, w);
    context_switch(&w->context, &world.outside);
}

/* ---- the world ---- */

static int64_t on_mono_ns(void *self)
{
    (void)self;
    return world.now_ns;
}

static int64_t on_wall_ns(void *self)
{
    (void)self;
    return sim_wall();
}

static void on_random(void *self, void *out, size_t n)
{
    (void)self;
    for (unsigned char *p = out; n > 0;) {
        uint64_t value = sim_chance_next(&world.random);
        size_t part = n < sizeof value ? n : sizeof value;
        for (size_t i = 0; i < part; i++)        /* the same bytes on every machine */
            p[i] = (unsigned char)(value >> 8 * i);
        p += part, n -= part;
    }
}

static uint64_t tls_random(void)
{
    return sim_chance_next(&world.random);
}

static const struct clock_source sim_clock = { .mono_ns = on_mono_ns, .wall_ns = on_wall_ns, .random = on_random };
static void on_pause(void *self, int64_t ns)
{
    (void)self;
    sim_spend(ns);
}

static const struct offload_driver sim_offload = { .post = on_post, .pause = on_pause };
static const struct loop_driver sim_loop = { .wait = on_wait };

void sim_begin(const struct sim_options *options)
{
    assert(!world.active);
    memset(&world, 0, sizeof world);
    world.active = true;
    world.options = *options;
    world.now_ns = START_MONO_NS;
    world.trace_shown = getenv("NIGHTMAIL_SIM_TRACE") != NULL;
    world.workload.state = sim_mix(options->seed, 1);
    world.random.state = sim_mix(options->seed, 2);
    world.delay.state = sim_mix(options->seed, 3);
    clock_replace(&sim_clock);
    offload_replace(&sim_offload);
    sim_disk_begin(options);
    sim_net_begin(options);
    sim_dns_begin(options);
    sim_tls_begin(tls_random);
}

int sim_run(task_fn *first, void *arg)
{
    assert(world.active);
    context_adopt(&world.outside);
    int r = loop_run_driven(&sim_loop, first, arg);
    while (world.jobs > 0)                       /* posted jobs end also when no task waits for them */
        event_run();
    workers_end();
    context_free(&world.outside);
    return r;
}

void sim_end(void)
{
    assert(world.active && world.jobs == 0);     /* a job posted outside of sim_run has nobody who runs it */
    sim_tls_end();
    sim_dns_end();
    sim_net_end();
    while (world.event_count > 0)                /* those left only give their memory back */
        event_run();
    sim_disk_end();
    offload_replace(NULL);
    clock_replace(NULL);
    stack_cache_free(&world.stacks);
    free(world.events);
    memset(&world, 0, sizeof world);
}

bool sim_active(void)
{
    return world.active;
}
