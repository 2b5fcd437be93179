/*
 * The sockets that inbound listens on: bound before the loops run, so that a supervisor can hold them while workers come and go.
 *
 * A process that is forked has them too, and accepts from them; a connection that comes while nobody does waits in the kernel.
 */
#ifndef INBOUND_SOCKETS_H
#define INBOUND_SOCKETS_H

#include "conf/conf.h"
#include "run/net.h"

struct inbound_bound {
    const struct conf_listener *listener;    /* of the configuration they were bound for; NULL: the submit socket */
    unsigned                    loop;        /* who accepts */
    struct net_listener        *socket;      /* owned, until inbound_start_on takes it */
    bool                        shared;      /* with the sockets bound before: only one of the two may remove its path */
};

struct inbound_sockets {
    struct conf          *conf;              /* counted */
    unsigned              loops;
    struct inbound_bound *bound;             /* owned, as the next */
    size_t                bound_count;
    struct net_addr      *addresses;         /* of the configured listeners that have one */
    size_t                address_count;
};

/* Binds every address of the configuration for so many loops, and listens. What `before` (NULL: none) has is shared with it, not bound anew.
 * On error nothing does, and error says which address and why. */
int  inbound_bind(struct conf *c, unsigned loops, struct inbound_sockets *before, struct inbound_sockets **out, char error[256]);
/* Takes over sockets that listen already, from a service manager or from the server that we were: each belongs to the first listener that has its
 * address (a port 0: any) and is not complete; the k-th of a listener is loop k's, and the only one is all loops'. What fits none stays the
 * caller's, with a word in the log. Then hand it to inbound_bind as `before`. -ENOMEM and the like. */
int  inbound_adopt(struct conf *c, unsigned loops, const int *fds, size_t n, struct inbound_sockets **out);
/* The descriptors of them all, in order; how many. */
size_t inbound_fds(const struct inbound_sockets *s, int *out, size_t max);
/* One of two that share: `go` is closed, `stay` has from then on what was shared for itself. */
void inbound_unbind_beside(struct inbound_sockets *go, struct inbound_sockets *stay);
void inbound_unbind(struct inbound_sockets *s);                      /* those that are left are closed; NULL is fine */

#endif
