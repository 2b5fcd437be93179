/*
 * A listener: one socket on one loop, and the sessions that come from it.
 */
#ifndef INBOUND_LISTENER_H
#define INBOUND_LISTENER_H

#include "base/digest.h"
#include "inbound/session.h"
#include "run/net.h"

/*
 * How many sessions there are, over all loops, in all, for each client and for the network around it. Counters are found as
 * policy/limit.h finds its buckets, so they need no lock and no memory that grows; two clients share one by chance once in
 * 65,536, and nobody can arrange it.
 */
struct session_limit {
    unsigned       total;                        /* atomic, as are the next */
    unsigned       by_client[LIMIT_SLOTS], by_network[LIMIT_SLOTS];
    struct limits *limits;                       /* what else a client is counted for */
    _Atomic int64_t paused_said_ns;              /* log_is_news() */
};

struct listener {
    struct net_listener   *socket;               /* owned */
    bool                   local;                /* a Unix socket */
    enum conf_tls          tls;
    struct conf_terms      terms;
    struct session_shared *shared;
    struct session_limit  *limit;
    struct task_group     *sessions;             /* of this loop */
};

/* A task: accepts until cancelled. arg is a struct listener. Awaits. */
void listener_run(void *arg);

#endif
