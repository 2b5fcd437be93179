/*
 * A session: one client's connection, from the greeting to the end, as straight-line code.
 *
 * Read a line, look its verb up in a table, call the handler, write the reply; again. Replies to pipelined commands leave
 * in one piece. Whatever comes in, every command gets exactly one reply, and client and server stay in step. (In LMTP the text of a
 * message gets one for each of its recipients.)
 */
#ifndef INBOUND_SESSION_H
#define INBOUND_SESSION_H

#include "conf/conf.h"
#include "inbound/submit.h"
#include "policy/limit.h"
#include "queue/queue.h"
#include "run/offload.h"
#include "run/stream.h"

/* What the sessions of one loop share. */
struct session_shared {
    struct queue        *queue;
    struct offload      *files;              /* looks for mailboxes */
    struct submit_limit *submit;
    struct rate         *rates;              /* of logins */
    struct limits       *limits;             /* of clients; NULL: none */
    struct certificates *certificates;
    _Atomic int64_t     *not_kept_said_ns;   /* log_is_news() of mail that cannot be kept */
    int64_t              stop_deadline_ns;   /* TASK_FOREVER until the server stops; then no session waits beyond it */
};

struct session_client {
    struct net_addr addr;
    enum conf_tls   tls;                     /* of the listener it came to */
    struct conf_terms terms;                 /* likewise */
    bool            unknown;                 /* a proxy brought it and did not say who it is; addr is the proxy's */
    bool            local;                   /* came by a Unix socket: the submit socket, or one of LMTP */
    unsigned        uid;                     /* then: who it is */
};

/* Holds the whole conversation; returns when it is over. Closes the stream. Awaits. */
void session_run(struct session_shared *shared, struct stream *stream, const struct session_client *client);

#endif
