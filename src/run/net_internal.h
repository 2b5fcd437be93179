/*
 * What stands behind run/net.h: the kernel's sockets (net.c) or another network, such as the simulated world's (sim_net.c).
 *
 * The contract of each operation is that of the function of the same name in run/net.h. An implementation's listener begins
 * with struct net_listener, whose ops it sets; its streams are made with stream_new() over a transport of its own.
 */
#ifndef RUN_NET_INTERNAL_H
#define RUN_NET_INTERNAL_H

#include "run/net.h"

struct net_ops {
    int  (*listen)(const struct net_addr *at, bool share, struct net_listener **out);
    int  (*listen_unix)(const char *path, unsigned mode, struct net_listener **out);
    void (*listener_addr)(const struct net_listener *l, struct net_addr *out);
    int  (*accept)(struct net_listener *l, int64_t deadline_ns, struct stream **out, struct net_addr *out_peer);
    void (*listener_close)(struct net_listener *l);
    int  (*connect)(const struct net_addr *to, const struct net_addr *from, int64_t deadline_ns, struct stream **out);
    int  (*connect_unix)(const char *path, int64_t deadline_ns, struct stream **out);
};

struct net_listener {
    const struct net_ops *ops;       /* accept, addr and close go here, whatever net_replace() says meanwhile */
};

/* Put another network in place for the whole process; NULL restores the kernel's. */
void net_replace(const struct net_ops *ops);

#endif
