/*
 * Channels; the contract is in channel.h.
 *
 * A ring under a mutex, and two lists of those who wait. Whoever makes room or brings an item wakes the one that waits
 * longest and takes it off its list; if that one gives up at the same moment (timed out, cancelled), it passes the wake on,
 * so none is lost. Wakes are given under the mutex: a waiter takes it before it goes, so it cannot have ended by then.
 */
#include "run/channel.h"
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct waiter {
    struct task   *task;
    struct waiter *next, *previous;
    bool           listed, chosen;
};

struct waiters {
    struct waiter *first, *last;
};

struct channel {
    pthread_mutex_t lock;
    struct waiters  senders, receivers;
    bool            closed;
    size_t          capacity, count, at;             /* at: of the oldest item */
    void           *items[];
};

/* Not inline: gcc would warn of the address of a local left in a list, not seeing that waiters_wait never returns before it is out again. */
static __attribute__((noinline)) void waiters_add(struct waiters *list, struct waiter *w)
{
    w->listed = true;
    w->next = NULL;
    w->previous = list->last;
    if (list->last != NULL)
        list->last->next = w;
    else
        list->first = w;
    list->last = w;
}

static void waiters_remove(struct waiters *list, struct waiter *w)
{
    if (w->previous != NULL)
        w->previous->next = w->next;
    else
        list->first = w->next;
    if (w->next != NULL)
        w->next->previous = w->previous;
    else
        list->last = w->previous;
    w->listed = false;
}

static void waiters_wake_one(struct waiters *list)
{
    struct waiter *w = list->first;
    if (w == NULL)
        return;
    waiters_remove(list, w);
    w->chosen = true;
    task_wake(w->task);
}

/* Awaits being chosen, without the lock but for the list. */
static int waiters_wait(struct channel *c, struct waiters *list, int64_t deadline_ns)
{
    struct waiter w = { .task = task_self() };
    waiters_add(list, &w);
    int r = 0;
    while (r == 0 && !w.chosen) {
        (void)pthread_mutex_unlock(&c->lock);
        r = task_park(deadline_ns);
        (void)pthread_mutex_lock(&c->lock);
    }
    if (w.listed)
        waiters_remove(list, &w);
    else if (r < 0)
        waiters_wake_one(list);
    return r;
}

struct channel *channel_new(size_t capacity)
{
    size_t bytes;
    assert(capacity > 0);
    if (__builtin_mul_overflow(capacity, sizeof(void *), &bytes) || __builtin_add_overflow(bytes, sizeof(struct channel), &bytes))
        return NULL;
    struct channel *c = calloc(1, bytes);
    if (c == NULL)
        return NULL;
    c->capacity = capacity;
    (void)pthread_mutex_init(&c->lock, NULL);
    return c;
}

void channel_free(struct channel *c)
{
    if (c == NULL)
        return;
    assert(c->senders.first == NULL && c->receivers.first == NULL);
    (void)pthread_mutex_destroy(&c->lock);
    free(c);
}

/* Under the lock. */
static int channel_put(struct channel *c, void *item)
{
    if (c->closed)
        return -EPIPE;
    if (c->count == c->capacity)
        return -EAGAIN;
    c->items[(c->at + c->count++) % c->capacity] = item;
    waiters_wake_one(&c->receivers);
    return 0;
}

/* Under the lock. */
static int channel_take(struct channel *c, void **out_item)
{
    if (c->count == 0)
        return c->closed ? -EPIPE : -EAGAIN;
    *out_item = c->items[c->at];
    c->at = (c->at + 1) % c->capacity;
    c->count--;
    waiters_wake_one(&c->senders);
    return 0;
}

int channel_try_send(struct channel *c, void *item)
{
    (void)pthread_mutex_lock(&c->lock);
    int r = channel_put(c, item);
    (void)pthread_mutex_unlock(&c->lock);
    return r;
}

int channel_send(struct channel *c, void *item, int64_t deadline_ns)
{
    int r = task_stop_check();
    if (r < 0)
        return r;
    (void)pthread_mutex_lock(&c->lock);
    while ((r = channel_put(c, item)) == -EAGAIN) {
        r = waiters_wait(c, &c->senders, deadline_ns);
        if (r < 0)
            break;
    }
    (void)pthread_mutex_unlock(&c->lock);
    return r;
}

int channel_recv(struct channel *c, void **out_item, int64_t deadline_ns)
{
    int r = task_stop_check();
    if (r < 0)
        return r;
    (void)pthread_mutex_lock(&c->lock);
    while ((r = channel_take(c, out_item)) == -EAGAIN) {
        r = waiters_wait(c, &c->receivers, deadline_ns);
        if (r < 0)
            break;
    }
    (void)pthread_mutex_unlock(&c->lock);
    return r;
}

void channel_close(struct channel *c)
{
    (void)pthread_mutex_lock(&c->lock);
    c->closed = true;
    while (c->senders.first != NULL)
        waiters_wake_one(&c->senders);
    while (c->receivers.first != NULL)
        waiters_wake_one(&c->receivers);
    (void)pthread_mutex_unlock(&c->lock);
}
