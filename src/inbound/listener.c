/*
 * Accepting: each connection becomes a session, or hears 421 when there are too many.
 *
 * When descriptors or memory run out, accepting pauses and says so; sessions that end make room again. Runs in the worker.
 */
#include "inbound/listener.h"
#include "inbound/proxy.h"
#include "base/log.h"
#include "base/metrics.h"
#include "conf/conf.h"
#include "policy/access.h"
#include "smtp/reply.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAUSE_NS        (1 * NS_PER_S)
#define REFUSAL_WAIT_NS (100 * NS_PER_MS)    /* a new socket takes a line at once; this is for the one that does not */
#define NO_COUNTER      SESSION_LIMIT_COUNTERS

struct session_start {
    struct listener      *listener;
    struct stream        *stream;            /* owned until the session takes it */
    struct session_client client;
    unsigned              counter;           /* of its client; NO_COUNTER: free of it */
};

/* -- limits ------------------------------------------------------------------------------------------------------------ */

void session_limit_init(struct session_limit *l)
{
    memset(l, 0, sizeof *l);
    clock_random(l->key, sizeof l->key);
}

static unsigned counter_of(const struct session_limit *l, const struct net_addr *addr)
{
    uint8_t key_and_ip[sizeof l->key + 16], hash[DIGEST_SHA256_LEN];

    memcpy(key_and_ip, l->key, sizeof l->key);
    size_t n = net_addr_ip(addr, key_and_ip + sizeof l->key);
    size_t network = n == 16 ? 8 : n;        /* whoever has one IPv6 address has its /64 */
    digest_sha256((struct str){ (const char *)key_and_ip, sizeof l->key + network }, hash);
    return (hash[0] | (unsigned)hash[1] << 8) % SESSION_LIMIT_COUNTERS;
}

static bool take(unsigned *counter, unsigned max)
{
    if (__atomic_add_fetch(counter, 1, __ATOMIC_RELAXED) <= max)
        return true;
    __atomic_sub_fetch(counter, 1, __ATOMIC_RELAXED);
    return false;
}

static void give_back(struct session_limit *l, unsigned counter)
{
    __atomic_sub_fetch(&l->total, 1, __ATOMIC_RELAXED);
    if (counter != NO_COUNTER)
        __atomic_sub_fetch(&l->by_client[counter], 1, __ATOMIC_RELAXED);
}

/* NULL: welcome. Otherwise why not, and nothing is taken. */
static const char *admit_client(struct session_limit *l, const struct conf *c, const struct session_client *client, unsigned *out_counter)
{
    uint8_t ip[16];
    size_t len = net_addr_ip(&client->addr, ip);

    *out_counter = NO_COUNTER;
    if (client->local || (!client->unknown && access_is_trusted(c, ip, len)))
        return NULL;
    unsigned counter = counter_of(l, &client->addr);
    if (!take(&l->by_client[counter], c->sessions_per_client_max))
        return "Too many sessions from your address; try again later";
    *out_counter = counter;
    return NULL;
}

/* Likewise. Who stands behind a proxy is admitted when the proxy has said who it is. */
static const char *admit(struct session_limit *l, const struct conf *c, const struct session_client *client, unsigned *out_counter)
{
    bool proxy = client->terms.proxy_protocol;

    if (proxy && !proxy_is_listed(c, &client->addr))
        return "Only proxies may come here";
    if (!take(&l->total, c->sessions_max))
        return "Too many sessions; try again later";
    *out_counter = NO_COUNTER;
    const char *why = proxy ? NULL : admit_client(l, c, client, out_counter);
    if (why != NULL)
        give_back(l, NO_COUNTER);
    return why;
}

/* -- sessions ------------------------------------------------------------------------------------------------------------ */

static void refuse(struct stream *stream, const struct session_client *client, const struct conf *c, const char *why);

/* Awaits the proxy's header. False: there is no session. */
static bool meet_behind_proxy(struct session_start *start)
{
    if (proxy_meet(start->stream, &start->client) < 0)
        return false;
    struct conf *c = conf_current();
    const char *why = admit_client(start->listener->limit, c, &start->client, &start->counter);
    if (why != NULL)
        refuse(start->stream, &start->client, c, why);
    conf_unref(c);
    return why == NULL;
}

static void run_session(void *arg)
{
    struct session_start start = *(struct session_start *)arg;

    free(arg);
    metric_add(METRIC_sessions_open, 1);
    metric_add(METRIC_sessions_total, 1);
    if (!start.client.terms.proxy_protocol || meet_behind_proxy(&start))
        session_run(start.listener->shared, start.stream, &start.client);
    else
        stream_close(start.stream);
    metric_add(METRIC_sessions_open, -1);
    give_back(start.listener->limit, start.counter);
}

/* RFC 5321, 3.1: instead of the greeting. Awaits, but hardly ever. */
static void refuse(struct stream *stream, const struct session_client *client, const struct conf *c, const char *why)
{
    char text[512], bytes[1024], ip[NET_ADDR_TEXT_MAX];
    struct buf out;

    snprintf(text, sizeof text, "%s %s", c->hostname, why);
    struct reply r = reply(421, "4.3.2", text);
    buf_init_fixed(&out, bytes, sizeof bytes);
    reply_put(&out, &r);
    if (client->tls != CONF_TLS_IMPLICIT && stream_put(stream, buf_str(&out)) == 0)   /* a handshake for a 421 is what it is short of */
        (void)stream_flush(stream, task_deadline_in(REFUSAL_WAIT_NS));   /* politeness; the refusal stands without it */
    metric_add(METRIC_sessions_refused, 1);
    log_event(LOG_WARN, "session-refused", LOG_Z("client", client->local ? "local" : net_addr_format_ip(&client->addr, ip)), LOG_Z("text", why));
}

/* Hands the stream to a session task. False: it is still the caller's. */
static bool start_session(struct listener *l, struct stream *stream, const struct session_client *client, unsigned counter)
{
    struct session_start *start = malloc(sizeof *start);

    if (start == NULL)
        return false;
    *start = (struct session_start){ .listener = l, .stream = stream, .client = *client, .counter = counter };
    if (task_group_start(l->sessions, "session", run_session, start) == 0)
        return true;
    free(start);
    return false;
}

static void welcome(struct listener *l, struct stream *stream, struct session_client *client)
{
    struct conf *c = conf_current();
    unsigned counter = NO_COUNTER;
    const char *why = NULL;

    if (l->local && stream_peer_uid(stream, &client->uid) < 0)
        why = "I cannot see who you are";
    if (why == NULL)
        why = admit(l->limit, c, client, &counter);
    if (why == NULL && !start_session(l, stream, client, counter)) {
        give_back(l->limit, counter);
        why = "No room for another session; try again later";
    }
    if (why != NULL) {
        refuse(stream, client, c, why);
        stream_close(stream);
    }
    conf_unref(c);
}

void listener_run(void *arg)
{
    struct listener *l = arg;

    for (;;) {
        struct stream *stream;
        struct session_client client = { .local = l->local, .tls = l->tls, .terms = l->terms };
        int r = net_accept(l->socket, TASK_FOREVER, &stream, &client.addr);
        if (r == -ECANCELED)
            return;
        if (r < 0) {     /* no descriptors, no memory: waiting connections stay in the kernel's queue */
            log_event(LOG_ERROR, "accept-paused", LOG_Z("error", strerror(-r)));
            if (task_sleep(PAUSE_NS) < 0)
                return;
            continue;
        }
        welcome(l, stream, &client);
    }
}
