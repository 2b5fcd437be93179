/*
 * The scheduler: takes what is due, as many at a time as the configuration allows, and starts a delivery task for each.
 */
#include "outbound/outbound.h"
#include "base/clock.h"
#include "base/log.h"
#include "outbound/deliver.h"
#include <errno.h>
#include <stdlib.h>

#define PAUSE_NS (100 * NS_PER_MS)       /* after a failure of ours (no memory, an unreadable record) before the next try */

struct outbound {
    struct queue          *queue;
    struct deliver_context context;
    struct task_group      scheduler;
    struct task_group      deliveries;
    struct task           *scheduler_waits;      /* for a delivery to end; NULL */
};

struct delivery {
    struct outbound *o;
    struct claim    *claim;
};

static void delivery_task(void *arg)
{
    struct delivery d = *(struct delivery *)arg;
    free(arg);
    deliver_message(&d.o->context, d.claim);
    if (d.o->scheduler_waits != NULL)
        task_wake(d.o->scheduler_waits);
}

static void start_delivery(struct outbound *o, struct claim *c)
{
    struct delivery *d = malloc(sizeof(*d));
    if (d != NULL) {
        *d = (struct delivery){ o, c };
        if (task_group_start(&o->deliveries, "delivery", delivery_task, d) == 0)
            return;
        free(d);
    }
    queue_unclaim(c);
    (void)task_sleep(PAUSE_NS);
}

static bool is_full(const struct outbound *o)
{
    struct conf *conf = conf_current();
    bool full = o->deliveries.count >= conf->deliveries_max;
    conf_unref(conf);
    return full;
}

static int wait_for_room(struct outbound *o)
{
    int r = 0;
    o->scheduler_waits = task_self();
    while (r == 0 && is_full(o))
        r = task_park(TASK_FOREVER);
    o->scheduler_waits = NULL;
    return r;
}

static void scheduler_task(void *arg)
{
    struct outbound *o = arg;
    while (wait_for_room(o) == 0) {
        struct claim *c;
        int r = queue_claim(o->queue, TASK_FOREVER, &c);
        if (r == -ECANCELED)
            return;
        if (r < 0) {
            log_event(LOG_ERROR, "claim-failed", LOG_I64("errno", -r));
            (void)task_sleep(PAUSE_NS);
            continue;
        }
        start_delivery(o, c);
        (void)task_yield();                                   /* it begins now, not behind a backlog of claims; a cancellation shows above */
    }
}

static void free_outbound(struct outbound *o)
{
    sites_free(o->context.sites);
    local_free(o->context.local);
    client_tls_free(o->context.tls);
    free(o);
}

int outbound_start(struct queue *q, struct outbound **out)
{
    struct outbound *o = calloc(1, sizeof(*o));
    if (o == NULL)
        return -ENOMEM;
    o->queue = q;
    task_group_init(&o->scheduler);
    task_group_init(&o->deliveries);
    o->context.sites = sites_new();
    o->context.local = local_new();
    steady_date_init(&o->context.date, clock_wall_ns(), clock_mono_ns());
    o->context.tls = client_tls_new();
    if (o->context.sites == NULL || o->context.local == NULL || o->context.tls == NULL) {
        free_outbound(o);
        return -ENOMEM;
    }
    int r = task_group_start(&o->scheduler, "scheduler", scheduler_task, o);
    if (r < 0) {
        free_outbound(o);
        return r;
    }
    *out = o;
    return 0;
}

void outbound_stop(struct outbound *o, int64_t deadline_ns)
{
    task_group_cancel(&o->scheduler);
    (void)task_group_wait(&o->scheduler, TASK_FOREVER);
    (void)task_group_wait(&o->deliveries, deadline_ns);
    task_group_cancel(&o->deliveries);
    (void)task_group_wait(&o->deliveries, TASK_FOREVER);
    free_outbound(o);
}
