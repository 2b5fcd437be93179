/*
 * The network: addresses, listening sockets and connections; the real one, or the simulated one of run/sim.h.
 */
#ifndef RUN_NET_H
#define RUN_NET_H

#include "base/str.h"
#include "run/task.h"
#include <netinet/in.h>
#include <sys/socket.h>

struct stream;

struct net_addr {
    union {
        struct sockaddr         any;
        struct sockaddr_in      v4;
        struct sockaddr_in6     v6;
        struct sockaddr_storage storage;
    };
};

#define NET_ADDR_TEXT_MAX 64
/* "192.0.2.1:25", "[2001:db8::1]:25", "192.0.2.1" (with the default port). False, out untouched, if it is none. */
bool     net_addr_parse(struct str text, uint16_t default_port, struct net_addr *out);
void     net_addr_from_ip(const void *ip, size_t n, uint16_t port, struct net_addr *out);   /* 4 or 16 bytes, network order */
size_t   net_addr_ip(const struct net_addr *a, uint8_t out[16]);       /* 4 or 16; an IPv4-mapped IPv6 address gives 4 */
uint16_t net_addr_port(const struct net_addr *a);
void     net_addr_set_port(struct net_addr *a, uint16_t port);
const char *net_addr_format(const struct net_addr *a, char out[NET_ADDR_TEXT_MAX]);         /* with port */
const char *net_addr_format_ip(const struct net_addr *a, char out[NET_ADDR_TEXT_MAX]);      /* without, no brackets */
bool     net_addr_eq(const struct net_addr *a, const struct net_addr *b);                   /* port included */
bool     net_addr_is_loopback(const struct net_addr *a);

struct net_listener;

/* Listen on an address (SO_REUSEADDR, and with share SO_REUSEPORT so that each loop has its own). Port 0 picks a free one;
 * "::" means IPv6 only. Returns at once. A listener is used and closed on one loop, as is a stream from its first wait on. */
int  net_listen(const struct net_addr *at, bool share, struct net_listener **out);
int  net_listen_unix(const char *path, unsigned mode, struct net_listener **out);           /* replaces a stale socket; -EADDRINUSE if alive */
void net_listener_addr(const struct net_listener *l, struct net_addr *out);                 /* where it listens really */
/* Awaits a connection. Transient errors of the network are retried inside; -EMFILE/-ENFILE/-ENOMEM are returned (wait, say so, go on). */
int  net_accept(struct net_listener *l, int64_t deadline_ns, struct stream **out, struct net_addr *out_peer);
void net_listener_close(struct net_listener *l);
/* Another handle on the same socket; the path of a Unix socket is removed by whoever closes first, unless it disowned it. */
int  net_listener_share(const struct net_listener *l, struct net_listener **out);
void net_listener_disown(struct net_listener *l);                      /* its path stays when it is closed */
/* A socket that listens already, which this process has from its parent; it is ours then. Its path is not. -ENOTSOCK, -EINVAL: it does not listen. */
int  net_listener_adopt(int fd, struct net_listener **out);
int  net_listener_fd(const struct net_listener *l);                    /* to hand on; negative if there is none */
const char *net_listener_path(const struct net_listener *l, char *out, size_t size);   /* of a Unix socket, as it is bound; NULL: none */

/* Await a connection. from (may be NULL) is the local address to bind. -ECONNREFUSED, -ETIMEDOUT, -ENETUNREACH, ... */
int  net_connect(const struct net_addr *to, const struct net_addr *from, int64_t deadline_ns, struct stream **out);
int  net_connect_unix(const char *path, int64_t deadline_ns, struct stream **out);

#endif
