/*
 * Where a recipient's mail goes next. Pure.
 */
#ifndef POLICY_ROUTE_H
#define POLICY_ROUTE_H

#include "base/arena.h"
#include "conf/conf.h"
#include "mail/envelope.h"

enum route_kind { ROUTE_LOCAL, ROUTE_LMTP, ROUTE_LMTP_UNIX, ROUTE_MX, ROUTE_HOST, ROUTE_HOP };

/* Strings are in the arena or the configuration's own. */
struct route {
    enum route_kind kind;
    struct str      domain;              /* MX: the domain to look up, or an address literal */
    struct str      host;                /* HOST, HOP, LMTP: name or literal of the relay host, of where an operator sends it, of the server of our mailboxes */
    uint16_t        port;
    const char     *path;                /* LMTP_UNIX: of its socket */
};

bool route_is_lmtp(const struct route *r);

int  route_for(struct arena *a, const struct conf *c, const struct address *rcpt, struct route *out);   /* -ENOMEM */
/* Likewise, unless an operator has said where this one goes. */
int  route_for_recipient(struct arena *a, const struct conf *c, const struct recipient *rcpt, struct route *out);
int  route_cmp(const struct route *a, const struct route *b);      /* an order; 0: they share one transaction and one connection */

/* The Maildir of a local recipient: conf->mailbox with {domain} and {user} (policy/access.h) filled in. Letters, digits and _ - + = and inner dots of the
 * local part stand as they are (lower case), all else as %XX, so that no address can climb out of its directory. -EINVAL for an empty part. */
int  route_mailbox(struct arena *a, const struct conf *c, const struct address *rcpt, const char **out);

#endif
