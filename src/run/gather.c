/*
 * Gathered work; the contract is in gather.h.
 *
 * A list under a mutex. An item is marked done, and its task woken, under that mutex, which the task takes before it goes on: so neither the
 * task nor what stands on its stack is gone while the helper still touches it.
 */
#include "run/gather.h"
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define TURNS_MIN 2u
#define LATE_NS   NS_PER_S               /* who waits for so long begins a further turn, or tries again where the pool had no room */

/* On the waiting task's stack. */
struct waiter {
    void          *item;
    struct task   *task;
    bool           done;
    struct waiter *next;
};

struct gather {
    struct offload *pool;
    gather_fn      *fn;
    unsigned        turns_max;
    int64_t         wait_ns;
    pthread_mutex_t lock;                /* around all that follows */
    struct waiter  *first, **end;        /* for a turn */
    unsigned        waiting, turns;
    int64_t         mean_ns;             /* a running mean of the waits */
};

struct gather *gather_new(struct offload *pool, gather_fn *fn, unsigned turns_max, int64_t wait_ns)
{
    struct gather *g = calloc(1, sizeof *g);

    assert(turns_max >= TURNS_MIN && wait_ns > 0);
    if (g == NULL)
        return NULL;
    *g = (struct gather){ .pool = pool, .fn = fn, .turns_max = turns_max, .wait_ns = wait_ns };
    g->end = &g->first;
    (void)pthread_mutex_init(&g->lock, NULL);
    return g;
}

void gather_free(struct gather *g)
{
    if (g == NULL)
        return;
    assert(g->first == NULL && g->turns == 0);
    (void)pthread_mutex_destroy(&g->lock);
    free(g);
}

/* ---- turns, on helper threads ---- */

static unsigned turns_allowed(const struct gather *g)
{
    int64_t n = TURNS_MIN + g->mean_ns / g->wait_ns;
    return n < g->turns_max ? (unsigned)n : g->turns_max;
}

/* What one turn takes leaves their share to those that may still begin. The lock is held. */
static unsigned share(const struct gather *g)
{
    unsigned allowed = turns_allowed(g), others = allowed > g->turns ? allowed - g->turns : 0;
    unsigned n = (g->waiting + others) / (others + 1);

    return n < GATHER_MAX ? n : GATHER_MAX;
}

/* How many; with none, the turn is over. */
static size_t take(struct gather *g, struct waiter *taken[GATHER_MAX])
{
    size_t count = 0;

    (void)pthread_mutex_lock(&g->lock);
    for (unsigned n = share(g); count < n; count++) {
        taken[count] = g->first;
        g->first = g->first->next;
    }
    if (g->first == NULL)
        g->end = &g->first;
    g->waiting -= (unsigned)count;
    g->turns -= count == 0;
    (void)pthread_mutex_unlock(&g->lock);
    return count;
}

static void give_back(struct gather *g, struct waiter *taken[], size_t count, int64_t wait_ns)
{
    (void)pthread_mutex_lock(&g->lock);
    g->mean_ns = (3 * g->mean_ns + wait_ns) / 4;
    for (size_t i = 0; i < count; i++) {
        taken[i]->done = true;
        task_wake(taken[i]->task);
    }
    (void)pthread_mutex_unlock(&g->lock);
}

static void turns(void *arg)
{
    struct gather *g = arg;
    struct waiter *taken[GATHER_MAX];
    void *items[GATHER_MAX];
    size_t count;

    while ((count = take(g, taken)) > 0) {
        for (size_t i = 0; i < count; i++)
            items[i] = taken[i]->item;
        give_back(g, taken, count, g->fn(items, count));
    }
}

/* ---- in the tasks ---- */

/* late: those under way are stuck, perhaps, and one more helps who waits for another disk than they. */
static void begin_turn(struct gather *g, bool late)
{
    (void)pthread_mutex_lock(&g->lock);
    bool post = g->waiting > 0 && g->turns < (late ? g->turns_max : turns_allowed(g));
    g->turns += post;
    (void)pthread_mutex_unlock(&g->lock);
    if (!post || offload_post(g->pool, turns, g) == 0)
        return;
    (void)pthread_mutex_lock(&g->lock);
    g->turns--;
    (void)pthread_mutex_unlock(&g->lock);
}

static bool is_done(struct gather *g, const struct waiter *w)
{
    (void)pthread_mutex_lock(&g->lock);
    bool done = w->done;
    (void)pthread_mutex_unlock(&g->lock);
    return done;
}

void gather_run(struct gather *g, void *item)
{
    struct waiter w = { .item = item, .task = task_self() };

    assert(w.task != NULL);
    (void)pthread_mutex_lock(&g->lock);
    *g->end = &w;                        /* analyze autoVariables: out of the list again before this function returns */
    g->end = &w.next;
    g->waiting++;
    (void)pthread_mutex_unlock(&g->lock);
    begin_turn(g, false);
    task_shield_begin();
    while (!is_done(g, &w))
        if (task_park(task_deadline_in(LATE_NS)) == -ETIMEDOUT)
            begin_turn(g, true);
    task_shield_end();
}
