/*
 * Who is behind a proxy: the header of the PROXY protocol in front of a session.
 */
#ifndef INBOUND_PROXY_H
#define INBOUND_PROXY_H

#include "inbound/session.h"

/* True if the proxy at this address is one of those that the configuration lists. */
bool proxy_is_listed(const struct conf *c, const struct net_addr *proxy);

/* Awaits the header, not for long. 0: client is who stands behind the proxy, and nothing behind the header was read. Negative: it did not come,
 * or cannot be believed; it was logged. */
int  proxy_meet(struct stream *stream, struct session_client *client);

#endif
