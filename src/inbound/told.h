/*
 * What others told us of a client: a proxy by XCLIENT, a filter by XFORWARD. Allowed to those whom the configuration lists.
 */
#ifndef INBOUND_TOLD_H
#define INBOUND_TOLD_H

#include "inbound/session.h"
#include "smtp/reply.h"

struct session;

/* Few sessions have one. */
struct told {
    char name[256];                      /* the client's verified host name; "" if unknown */
    bool forwarded;                      /* the rest is of the next message, for the log, until its transaction ends */
    char orig_name[256], orig_helo[256], orig_ident[256], orig_ip[NET_ADDR_TEXT_MAX];
};

bool         told_offers_xclient(const struct session *s);
bool         told_offers_xforward(const struct session *s);
struct reply told_on_xclient(struct session *s, struct str args);
struct reply told_on_xforward(struct session *s, struct str args);

struct str   told_name(const struct session *s);         /* the client's host name, for the trace; empty if unknown */
void         told_log_origin(const struct session *s);   /* of the message that was accepted, if a filter told us */
void         told_end_transaction(struct session *s);

#endif
