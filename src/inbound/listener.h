/*
 * A listener: one socket on one loop, and the sessions that come from it.
 */
#ifndef INBOUND_LISTENER_H
#define INBOUND_LISTENER_H

#include "base/digest.h"
#include "inbound/session.h"
#include "run/net.h"

/*
 * How many sessions there are, over all loops, in all and for each client. Counters are found by a keyed hash of the
 * client's address (IPv6: its /64), so they need no lock and no memory that grows; two clients share one by chance once in
 * 65,536, and nobody can arrange it.
 */
#define SESSION_LIMIT_COUNTERS 65536

struct session_limit {
    unsigned total;                              /* atomic, as are the next */
    unsigned by_client[SESSION_LIMIT_COUNTERS];
    uint8_t  key[16];
};

void session_limit_init(struct session_limit *l);

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
