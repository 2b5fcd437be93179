/*
 * TLS of the connections we make: how much of it is asked for, the contexts, and the handshake.
 */
#ifndef OUTBOUND_CLIENT_TLS_H
#define OUTBOUND_CLIENT_TLS_H

#include "conf/conf.h"
#include "policy/route.h"
#include "run/stream.h"
#include "run/tls.h"

/* The contexts of all connections, with the sessions that servers gave to be taken up again. One loop. */
struct client_tls;
struct client_tls *client_tls_new(void);         /* NULL without memory */
void               client_tls_free(struct client_tls *t);      /* NULL is fine; no handshake may be under way */

/* What a connection must be. */
struct client_security {
    struct client_tls   *tls;            /* NULL: plain, whatever the level */
    enum conf_client_tls level;
    bool                 implicit;       /* TLS from the first byte, without STARTTLS (RFC 8314) */
    bool                 login;          /* as relay_host_user; nothing is sent without */
    struct str           domain;         /* of level secure: the certificate's, or above it; empty: the name that is connected to */
};
struct client_security client_security_for(struct client_tls *tls, const struct conf *conf, const struct route *route);

/* Awaits: the handshake on a stream on which nothing is pending. host is the name to show and, unless the level is secure and has a domain, to check ("[ip]" too).
 * Negative with the reason in words in error; the stream is good for nothing then. */
int client_tls_handshake(const struct client_security *s, struct stream *stream, const struct conf *conf, struct str host, const char *remote,
                         char error[256]);

#endif
