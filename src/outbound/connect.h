/*
 * Connecting to a destination: the first of its servers that answers and offers what the message cannot do without.
 *
 * That is REQUIRETLS under a certificate that is right (RFC 8689, 4.2.1), and SMTPUTF8 for what has no ASCII form (RFC 6531, 3.2). A server
 * without it is passed over for the next; the message is refused when all have been asked.
 */
#ifndef OUTBOUND_CONNECT_H
#define OUTBOUND_CONNECT_H

#include "outbound/client.h"
#include "outbound/destination.h"
#include "outbound/site.h"
#include "policy/route.h"

struct connect {
    struct client_tls     *tls;          /* NULL: connections stay plain */
    struct conf           *conf;
    const struct route    *route;
    struct site           *site;
    bool                   ipv4_first;   /* our IPv6 address is not liked there */
    bool                  *unreached;    /* set when none of its servers could be had, whatever the message asks for */
    struct destinations   *destinations; /* learns what servers a domain has now */
    const struct refusals *const *refusals;      /* those in force now: a reload may come while we wait */
    const struct client_mail *mail;      /* what is to be sent, and to whom */
};

/* Awaits a connection. NULL with *out_failure set, or unset when cancelled. */
struct client *connect_open(const struct connect *w, struct outcome *out_failure);

/* Awaits. May this one, kept from another message, carry this message? */
bool connect_suits(const struct connect *w, const struct client *c);

#endif
