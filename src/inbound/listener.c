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

/* What a session has taken. */
struct admission {
    bool                counted;             /* by client; false: free of it */
    struct limit_client who;                 /* then */
};

struct session_start {
    struct listener      *listener;
    struct stream        *stream;            /* owned until the session takes it */
    struct session_client client;
    struct admission      admission;
};

/* -- limits ------------------------------------------------------------------------------------------------------------ */

static bool take(unsigned *counter, unsigned max)
{
    if (__atomic_add_fetch(counter, 1, __ATOMIC_RELAXED) <= max)
        return true;
    __atomic_sub_fetch(counter, 1, __ATOMIC_RELAXED);
    return false;
}

static void give_back(struct session_limit *l, const struct admission *a)
{
    __atomic_sub_fetch(&l->total, 1, __ATOMIC_RELAXED);
    if (!a->counted)
        return;
    __atomic_sub_fetch(&l->by_client[a->who.own.slot[0]], 1, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&l->by_network[a->who.network.slot[0]], 1, __ATOMIC_RELAXED);
}

/* Why its past keeps a client out; NULL: it does not. */
static const char *check_past(struct session_limit *l, const struct conf *c, const struct limit_client *who)
{
    if (!limit_take(l->limits, c, LIMIT_CONNECTIONS, who))
        return "Too many connections from your address; try again later";
    if (limit_is_spent(l->limits, c, LIMIT_ERRORS, who) || limit_is_spent(l->limits, c, LIMIT_UNKNOWN_USERS, who))
        return "Too many errors from your address; try again later";
    return NULL;
}

/* Takes a session of its client and one of its network. */
static bool take_session(struct session_limit *l, const struct conf *c, const struct limit_client *who)
{
    uint64_t network_max = (uint64_t)c->sessions_per_client_max * c->client_network_factor;
    unsigned *own = &l->by_client[who->own.slot[0]];

    if (!take(own, c->sessions_per_client_max))
        return false;
    if (take(&l->by_network[who->network.slot[0]], network_max == 0 || network_max > UINT32_MAX ? UINT32_MAX : (unsigned)network_max))
        return true;
    __atomic_sub_fetch(own, 1, __ATOMIC_RELAXED);
    return false;
}

/* NULL: welcome. Otherwise why not, and nothing is taken but a connection of the client's. */
static const char *admit_client(struct session_limit *l, const struct conf *c, const struct session_client *client, struct admission *out)
{
    uint8_t ip[16];
    size_t len = net_addr_ip(&client->addr, ip);

    *out = (struct admission){ .counted = false };
    if (client->local || (!client->unknown && access_is_trusted(c, ip, len)))
        return NULL;
    limit_find_client(l->limits, ip, len, &out->who);
    const char *why = client->unknown ? NULL : check_past(l, c, &out->who);
    if (why != NULL)
        return why;
    out->counted = take_session(l, c, &out->who);
    return out->counted ? NULL : "Too many sessions from your address; try again later";
}

/* Likewise. Who stands behind a proxy is admitted when the proxy has said who it is. */
static const char *admit(struct session_limit *l, const struct conf *c, const struct session_client *client, struct admission *out)
{
    bool proxy = client->terms.proxy_protocol;

    if (proxy && !proxy_is_listed(c, &client->addr))
        return "Only proxies may come here";
    if (!take(&l->total, c->sessions_max))
        return "Too many sessions; try again later";
    *out = (struct admission){ .counted = false };
    const char *why = proxy ? NULL : admit_client(l, c, client, out);
    if (why != NULL)
        give_back(l, out);
    return why;
}

/* -- sessions ------------------------------------------------------------------------------------------------------------ */

static void refuse(struct listener *l, struct stream *stream, const struct session_client *client, const struct conf *c, const char *why);

/* Awaits the proxy's header. False: there is no session. */
static bool meet_behind_proxy(struct session_start *start)
{
    if (proxy_meet(start->stream, &start->client) < 0)
        return false;
    struct conf *c = conf_current();
    const char *why = admit_client(start->listener->limit, c, &start->client, &start->admission);
    if (why != NULL)
        refuse(start->listener, start->stream, &start->client, c, why);
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
    give_back(start.listener->limit, &start.admission);
}

/* A flood shall not become one of the log. */
static bool is_worth_a_line(struct session_limit *l, const struct conf *c, const struct session_client *client)
{
    struct limit_client who;
    uint8_t ip[16];

    if (client->local)
        return true;
    limit_find_client(l->limits, ip, net_addr_ip(&client->addr, ip), &who);
    return limit_take(l->limits, c, LIMIT_LOG_LINES, &who);
}

/* RFC 5321, 3.1: instead of the greeting. Awaits, but hardly ever. */
static void refuse(struct listener *l, struct stream *stream, const struct session_client *client, const struct conf *c, const char *why)
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
    if (is_worth_a_line(l->limit, c, client))
        log_event(LOG_WARN, "session-refused", LOG_Z("client", client->local ? "local" : net_addr_format_ip(&client->addr, ip)), LOG_Z("text", why));
}

/* Hands the stream to a session task. False: it is still the caller's. */
static bool start_session(struct listener *l, struct stream *stream, const struct session_client *client, const struct admission *admission)
{
    struct session_start *start = malloc(sizeof *start);

    if (start == NULL)
        return false;
    *start = (struct session_start){ .listener = l, .stream = stream, .client = *client, .admission = *admission };
    if (task_group_start(l->sessions, "session", run_session, start) == 0)
        return true;
    free(start);
    return false;
}

static void welcome(struct listener *l, struct stream *stream, struct session_client *client)
{
    struct conf *c = conf_current();
    struct admission admission = { .counted = false };
    const char *why = NULL;

    if (l->local && stream_peer_uid(stream, &client->uid) < 0)
        why = "I cannot see who you are";
    if (why == NULL)
        why = admit(l->limit, c, client, &admission);
    if (why == NULL && !start_session(l, stream, client, &admission)) {
        give_back(l->limit, &admission);
        why = "No room for another session; try again later";
    }
    if (why != NULL) {
        refuse(l, stream, client, c, why);
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
            if (log_is_news(&l->limit->paused_said_ns))
                log_event(LOG_ERROR, "accept-paused", LOG_Z("error", strerror(-r)));
            if (task_sleep(PAUSE_NS) < 0)
                return;
            continue;
        }
        welcome(l, stream, &client);
    }
}
