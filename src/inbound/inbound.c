/*
 * Start and stop of all that comes in.
 *
 * Each loop has its own sockets on the same addresses (inbound/sockets.h), its own sessions, and nothing is shared between
 * loops but the queue, the counters of sessions and the snapshot of the configuration. What must be done on a loop is done
 * by a task started there; so no lock and no wake across threads is needed. Runs in the worker.
 */
#include "inbound/inbound.h"
#include "base/log.h"
#include "base/rate.h"
#include "conf/conf.h"
#include "inbound/certificates.h"
#include "inbound/listener.h"
#include "inbound/submission.h"
#include "run/loop.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILES_THREADS     2              /* they look for Maildirs: short reads of directories */
#define FILES_QUEUE_MAX   10000
#define START_RETRY_NS    (10 * NS_PER_MS)
#define DRAIN_LOOK_NS     (100 * NS_PER_MS)

struct inbound_loop {
    struct inbound       *in;
    struct session_shared shared;
    struct task_group     accepting, sessions;
    struct listener      *listeners;     /* owned */
    size_t                listener_count;
};

struct inbound {
    struct inbound_loop *loops;          /* owned */
    unsigned             loop_count;
    unsigned             running;        /* loops that are not stopped; only loop 0 looks at it and changes it */
    struct task         *stopper;
    int64_t              grace_ns;
    int64_t              drain_ns;
    bool                 draining;
    _Atomic bool         hurry;
    struct offload      *files;          /* owned */
    struct certificates *certificates;   /* owned */
    struct rate         *rates;          /* owned */
    struct limits       *limits;         /* owned */
    struct submit_limit  submit;         /* only loop 0's sessions: the submit socket is there */
    struct session_limit limit;
    _Atomic int64_t      not_kept_said_ns;
    struct net_addr     *addresses;      /* owned; of the configured listeners */
    size_t               address_count;
};

static void take_sockets(struct inbound *in, struct inbound_sockets *sockets);
static void start_on_loop(unsigned index, const char *name, task_fn *fn, void *arg);
static void begin_loop(void *arg);
static void end_loop(void *arg);
static void loop_ended(void *arg);

static void inbound_free(struct inbound *in)
{
    for (unsigned i = 0; i < in->loop_count; i++)
        /* analyze clang-analyzer-core.NullDereference: loop_count counts those that are there */
        free(in->loops[i].listeners);
    submit_limit_free(&in->submit);
    certificates_free(in->certificates);
    rate_free(in->rates);
    limits_free(in->limits);
    if (in->files != NULL)
        offload_free(in->files);
    free(in->loops);
    free(in->addresses);
    free(in);
}

static struct inbound *inbound_new(struct queue *q, const struct conf *c, size_t listeners_max)
{
    struct inbound *in = calloc(1, sizeof *in);

    if (in == NULL)
        return NULL;
    submit_limit_init(&in->submit);
    in->grace_ns = c->shutdown_grace_ns;
    in->files = offload_new("files", FILES_THREADS, FILES_QUEUE_MAX);
    in->rates = rate_new(SUBMISSION_NAMES_MAX);
    in->limits = in->limit.limits = limits_new();
    in->loops = calloc(loop_count(), sizeof *in->loops);
    bool ok = in->files != NULL && in->rates != NULL && in->limits != NULL && in->loops != NULL;
    for (unsigned i = 0; ok && i < loop_count(); i++) {
        struct inbound_loop *l = &in->loops[in->loop_count++];
        l->in = in;
        l->shared = (struct session_shared){ .queue = q, .files = in->files, .submit = &in->submit, .rates = in->rates,
                                              .limits = in->limits, .not_kept_said_ns = &in->not_kept_said_ns,
                                              .stop_deadline_ns = TASK_FOREVER };
        l->listeners = calloc(listeners_max, sizeof *l->listeners);
        ok = l->listeners != NULL;
    }
    if (ok)
        return in;
    inbound_free(in);
    return NULL;
}

static void close_sockets(struct inbound_loop *l)
{
    for (size_t i = 0; i < l->listener_count; i++) {
        if (l->in->draining)
            net_listener_disown(l->listeners[i].socket);
        net_listener_close(l->listeners[i].socket);
    }
    l->listener_count = 0;
}

/* The sockets are taken when nothing can fail any more. */
int inbound_start_on(struct queue *q, struct inbound_sockets *sockets, struct inbound **out, char error[256])
{
    struct conf *c = conf_current();
    struct inbound *in = inbound_new(q, c, sockets->conf->listener_count + 1);
    int r = -ENOMEM;

    assert(loop_index() == 0 && sockets->loops == loop_count());
    snprintf(error, 256, "no memory");
    if (in != NULL)
        r = certificates_new(c, in->files, &in->certificates, error);
    conf_unref(c);
    if (r < 0) {
        if (in != NULL)
            inbound_free(in);
        return r;
    }
    take_sockets(in, sockets);
    for (unsigned i = 0; i < in->loop_count; i++) {
        start_on_loop(i, "inbound", begin_loop, &in->loops[i]);
        in->running++;
    }
    *out = in;
    return 0;
}

int inbound_start(struct queue *q, struct inbound **out, char error[256])
{
    struct conf *c = conf_current();
    struct inbound_sockets *sockets;

    int r = inbound_bind(c, loop_count(), NULL, &sockets, error);
    conf_unref(c);
    if (r < 0)
        return r;
    r = inbound_start_on(q, sockets, out, error);
    inbound_unbind(sockets);
    return r;
}

/* -- sockets ------------------------------------------------------------------------------------------------------------ */

/* listener is NULL for the submit socket. */
static void add_listener(struct inbound_loop *l, struct net_listener *socket, const struct conf_listener *listener)
{
    l->shared.certificates = l->in->certificates;
    l->listeners[l->listener_count++] = (struct listener){
        .socket = socket, .local = listener == NULL || listener->path != NULL, .tls = listener != NULL ? listener->tls : CONF_TLS_NONE,
        .terms = listener != NULL ? listener->terms : (struct conf_terms){ .service = CONF_SERVICE_SMTP }, .shared = &l->shared, .limit = &l->in->limit, .sessions = &l->sessions,
    };
}

/* Hands each socket to its loop; from then on it is inbound's. */
static void take_sockets(struct inbound *in, struct inbound_sockets *sockets)
{
    for (size_t i = 0; i < sockets->bound_count; i++) {
        struct inbound_bound *b = &sockets->bound[i];
        add_listener(&in->loops[b->loop], b->socket, b->listener);
        b->socket = NULL;
    }
    in->addresses = sockets->addresses;
    in->address_count = sockets->address_count;
    sockets->addresses = NULL;
}

size_t inbound_listeners(const struct inbound *in) { return in->address_count; }

void inbound_address(const struct inbound *in, size_t index, struct net_addr *out)
{
    assert(index < in->address_count);
    *out = in->addresses[index];
}

/* -- on each loop ---------------------------------------------------------------------------------------------------------- */

/* A full queue of messages to a loop empties by itself: wait, and try again. Awaits, whatever the caller's cancellation. */
static void start_on_loop(unsigned index, const char *name, task_fn *fn, void *arg)
{
    task_shield_begin();
    while (loop_start_on(index, name, fn, arg) < 0)
        (void)task_sleep(START_RETRY_NS);
    task_shield_end();
}

static void begin_loop(void *arg)
{
    struct inbound_loop *l = arg;

    task_group_init(&l->accepting);
    task_group_init(&l->sessions);
    if (l == &l->in->loops[0] && task_group_start(&l->accepting, "certificates", certificates_watch, l->in->certificates) < 0)
        log_event(LOG_ERROR, "certificates-not-watched");
    for (size_t i = 0; i < l->listener_count; i++) {
        int r = task_group_start(&l->accepting, "listener", listener_run, &l->listeners[i]);
        if (r < 0)
            log_event(LOG_ERROR, "listener-not-started", LOG_Z("error", strerror(-r)));
    }
}

/* Awaits. Sessions go on as if nothing had happened. */
static void drain_loop(struct inbound_loop *l)
{
    int64_t deadline = task_deadline_in(l->in->drain_ns);

    while (l->in->draining && !l->in->hurry && clock_mono_ns() < deadline && l->sessions.count > 0)
        (void)task_group_wait(&l->sessions, task_deadline_in(DRAIN_LOOK_NS));
}

static void end_loop(void *arg)
{
    struct inbound_loop *l = arg;

    task_group_cancel(&l->accepting);
    (void)task_group_wait(&l->accepting, TASK_FOREVER);      /* without a deadline it ends with the group */
    close_sockets(l);
    drain_loop(l);
    l->shared.stop_deadline_ns = task_deadline_in(l->in->grace_ns);
    task_group_cancel(&l->sessions);
    (void)task_group_wait(&l->sessions, TASK_FOREVER);
    start_on_loop(0, "inbound-ended", loop_ended, l->in);
    /* From here on loop 0 may have freed all of it. */
}

static void loop_ended(void *arg)
{
    struct inbound *in = arg;

    in->running--;
    task_wake(in->stopper);
}

void inbound_reload_certificates(struct inbound *in)
{
    assert(loop_index() == 0);
    certificates_reload(in->certificates);
}

void inbound_drain(struct inbound *in, int64_t ns)
{
    in->drain_ns = ns;
    in->draining = true;
}

void inbound_hurry(struct inbound *in)
{
    in->hurry = true;
}

void inbound_stop(struct inbound *in)
{
    if (in == NULL)
        return;
    assert(loop_index() == 0);
    in->stopper = task_self();
    task_shield_begin();
    for (unsigned i = 0; i < in->loop_count; i++)
        start_on_loop(i, "inbound-end", end_loop, &in->loops[i]);
    while (in->running > 0)
        (void)task_park(TASK_FOREVER);
    task_shield_end();
    inbound_free(in);
}
