/*
 * How mail for local users is delivered: "maildir", "lmtp:host:port" or "lmtp:unix:/path" (RFC 2033). Pure.
 */
#ifndef CONF_DELIVERY_H
#define CONF_DELIVERY_H

#include "base/arena.h"
#include "base/buf.h"

#define CONF_LMTP_PORT 24                /* as registered for private mail systems, and as others do */

#define DELIVERY_TEXT_MAX 300            /* of delivery_put: a host name has at most 255 */

enum conf_delivery_kind { CONF_DELIVERY_MAILDIR, CONF_DELIVERY_LMTP, CONF_DELIVERY_LMTP_UNIX };

struct conf_delivery {
    enum conf_delivery_kind kind;
    struct str              host;        /* LMTP: a name, or an address literal in brackets */
    uint16_t                port;
    const char             *path;        /* LMTP_UNIX: absolute if the configuration's own path is */
};

struct conf;

/* False, *out untouched, with a reason in why. Strings are the snapshot's. */
bool delivery_parse(struct conf *c, struct str text, struct conf_delivery *out, struct buf *why);
const struct conf_delivery *delivery_of(const struct conf *c, struct str domain);   /* of a local domain */
void delivery_put(struct buf *out, const struct conf_delivery *d);       /* round trip */

#endif
