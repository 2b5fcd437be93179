/*
 * The network: addresses and ranges, the front that dispatches, and the kernel's sockets behind it.
 *
 * Sockets are non-blocking; a try comes first, then the wait (loop.h is edge-triggered). A connection belongs to the loop on
 * which it first waited.
 */
#include "run/net.h"

#include "run/loop.h"
#include "run/net_internal.h"
#include "run/stream.h"
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define NET_BACKLOG       4096       /* the kernel cuts it to net.core.somaxconn */
#define NET_ACCEPT_TURNS  32         /* connections taken without letting others run */
#define NET_UNIX_RETRY_NS (10 * NS_PER_MS)

/* Addresses. */

static bool text_z(struct str text, char out[NET_ADDR_TEXT_MAX])
{
    if (text.n == 0 || text.n >= NET_ADDR_TEXT_MAX || memchr(text.p, '\0', text.n) != NULL)
        return false;
    memcpy(out, text.p, text.n);
    out[text.n] = '\0';
    return true;
}

/* The number of bytes: 4, 16, or 0 if it is no address. */
static size_t ip_parse(struct str text, uint8_t out[16])
{
    char z[NET_ADDR_TEXT_MAX];

    if (!text_z(text, z))
        return 0;
    if (inet_pton(AF_INET, z, out) == 1)
        return 4;
    return inet_pton(AF_INET6, z, out) == 1 ? 16 : 0;
}

bool net_addr_parse(struct str text, uint16_t default_port, struct net_addr *out)
{
    struct str host = text, port = STR("");
    bool       has_port = false;
    ssize_t    colon = str_find_last(text, ':');
    uint64_t   number = default_port;
    uint8_t    ip[16];

    if (text.n > 0 && text.p[0] == '[') {
        if (!str_cut(str_from(text, 1), ']', &host, &port) || str_find(host, ':') < 0)
            return false;
        has_port = port.n > 0;
        if (has_port && port.p[0] != ':')
            return false;
        port = str_from(port, 1);
    } else if (colon >= 0 && str_find(text, ':') == colon) {   /* more than one is IPv6 without a port */
        has_port = str_cut(text, ':', &host, &port);
    }
    if (has_port && !str_to_u64(port, UINT16_MAX, &number))
        return false;

    size_t n = ip_parse(host, ip);
    if (n == 0)
        return false;
    net_addr_from_ip(ip, n, (uint16_t)number, out);
    return true;
}

void net_addr_from_ip(const void *ip, size_t n, uint16_t port, struct net_addr *out)
{
    assert(n == 4 || n == 16);
    *out = (struct net_addr){ 0 };
    if (n == 4) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(port);
        memcpy(&out->v4.sin_addr, ip, 4);
    } else {
        out->v6.sin6_family = AF_INET6;
        out->v6.sin6_port = htons(port);
        memcpy(&out->v6.sin6_addr, ip, 16);
    }
}

/* 0 for an address that is none (a Unix socket's, a pipe's). */
size_t net_addr_ip(const struct net_addr *a, uint8_t out[16])
{
    if (a->any.sa_family == AF_INET) {
        memcpy(out, &a->v4.sin_addr, 4);
        return 4;
    }
    if (a->any.sa_family != AF_INET6)
        return 0;
    if (IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr)) {
        memcpy(out, a->v6.sin6_addr.s6_addr + 12, 4);
        return 4;
    }
    memcpy(out, &a->v6.sin6_addr, 16);
    return 16;
}

uint16_t net_addr_port(const struct net_addr *a)
{
    if (a->any.sa_family == AF_INET)
        return ntohs(a->v4.sin_port);
    return a->any.sa_family == AF_INET6 ? ntohs(a->v6.sin6_port) : 0;
}

void net_addr_set_port(struct net_addr *a, uint16_t port)
{
    if (a->any.sa_family == AF_INET)
        a->v4.sin_port = htons(port);
    else if (a->any.sa_family == AF_INET6)
        a->v6.sin6_port = htons(port);
}

const char *net_addr_format_ip(const struct net_addr *a, char out[NET_ADDR_TEXT_MAX])
{
    uint8_t ip[16];
    size_t  n = net_addr_ip(a, ip);

    if (n == 0)
        strcpy(out, a->any.sa_family == AF_UNIX ? "unix" : "none");
    else
        (void)inet_ntop(n == 4 ? AF_INET : AF_INET6, ip, out, NET_ADDR_TEXT_MAX);
    return out;
}

const char *net_addr_format(const struct net_addr *a, char out[NET_ADDR_TEXT_MAX])
{
    char    ip_text[NET_ADDR_TEXT_MAX];
    uint8_t ip[16];
    size_t  n = net_addr_ip(a, ip);

    (void)net_addr_format_ip(a, ip_text);
    if (n == 0)
        strcpy(out, ip_text);
    else
        (void)snprintf(out, NET_ADDR_TEXT_MAX, n == 4 ? "%.46s:%u" : "[%.46s]:%u", ip_text, net_addr_port(a));
    return out;
}

bool net_addr_eq(const struct net_addr *a, const struct net_addr *b)
{
    uint8_t ip_a[16], ip_b[16];
    size_t  n = net_addr_ip(a, ip_a);

    return n > 0 && n == net_addr_ip(b, ip_b) && memcmp(ip_a, ip_b, n) == 0 && net_addr_port(a) == net_addr_port(b);
}

bool net_addr_is_loopback(const struct net_addr *a)
{
    static const uint8_t v6_loopback[16] = { [15] = 1 };
    uint8_t              ip[16];
    size_t               n = net_addr_ip(a, ip);

    return n == 4 ? ip[0] == 127 : n == 16 && memcmp(ip, v6_loopback, 16) == 0;
}

/* The front. */

static const struct net_ops kernel_ops;
static const struct net_ops *network = &kernel_ops;

void net_replace(const struct net_ops *ops)
{
    network = ops != NULL ? ops : &kernel_ops;
}

int net_listen(const struct net_addr *at, bool share, struct net_listener **out)
{
    return network->listen(at, share, out);
}

int net_listen_unix(const char *path, unsigned mode, struct net_listener **out)
{
    return network->listen_unix(path, mode, out);
}

void net_listener_addr(const struct net_listener *l, struct net_addr *out)
{
    l->ops->listener_addr(l, out);
}

int net_accept(struct net_listener *l, int64_t deadline_ns, struct stream **out, struct net_addr *out_peer)
{
    return l->ops->accept(l, deadline_ns, out, out_peer);
}

void net_listener_close(struct net_listener *l)
{
    if (l != NULL)
        l->ops->listener_close(l);
}

int net_connect(const struct net_addr *to, const struct net_addr *from, int64_t deadline_ns, struct stream **out)
{
    return network->connect(to, from, deadline_ns, out);
}

int net_connect_unix(const char *path, int64_t deadline_ns, struct stream **out)
{
    return network->connect_unix(path, deadline_ns, out);
}

/* A connection of the kernel's. */

/* Of the 128 bytes of a net_addr an idle session should not keep two. */
union small_addr {
    struct sockaddr     any;
    struct sockaddr_in  v4;
    struct sockaddr_in6 v6;
};

struct socket_transport {
    struct transport base;
    struct loop_fd   fd;
    union small_addr local, peer;    /* as they were at the start: a reset connection does not tell any more */
};

static ssize_t socket_read(struct transport *t, void *p, size_t n)
{
    struct socket_transport *s = (struct socket_transport *)t;
    ssize_t                  r;

    do
        r = recv(s->fd.fd, p, n, 0);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

static ssize_t socket_write(struct transport *t, const void *p, size_t n)
{
    struct socket_transport *s = (struct socket_transport *)t;
    ssize_t                  r;

    do
        r = send(s->fd.fd, p, n, MSG_NOSIGNAL);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

static int socket_wait_readable(struct transport *t, int64_t deadline_ns)
{
    return loop_fd_wait_readable(&((struct socket_transport *)t)->fd, deadline_ns);
}

static int socket_wait_writable(struct transport *t, int64_t deadline_ns)
{
    return loop_fd_wait_writable(&((struct socket_transport *)t)->fd, deadline_ns);
}

/* -ENOTCONN: the peer has reset the connection already. Reading tells what there is to tell. */
static int socket_shut_write(struct transport *t)
{
    struct socket_transport *s = (struct socket_transport *)t;

    return shutdown(s->fd.fd, SHUT_WR) < 0 && errno != ENOTCONN ? -errno : 0;
}

static void socket_close(struct transport *t)
{
    struct socket_transport *s = (struct socket_transport *)t;

    loop_fd_forget(&s->fd);
    (void)close(s->fd.fd);
    free(s);
}

static void socket_local(struct transport *t, struct net_addr *out)
{
    *out = (struct net_addr){ 0 };
    memcpy(out, &((struct socket_transport *)t)->local, sizeof(union small_addr));
}

static void socket_peer(struct transport *t, struct net_addr *out)
{
    *out = (struct net_addr){ 0 };
    memcpy(out, &((struct socket_transport *)t)->peer, sizeof(union small_addr));
}

static int socket_peer_uid(struct transport *t, unsigned *out_uid)
{
    struct socket_transport *s = (struct socket_transport *)t;
    struct ucred             who;
    socklen_t                n = sizeof who;

    if (s->local.any.sa_family != AF_UNIX)
        return -ENOTSOCK;
    if (getsockopt(s->fd.fd, SOL_SOCKET, SO_PEERCRED, &who, &n) < 0)
        return -errno;
    *out_uid = who.uid;
    return 0;
}

static const struct transport_ops socket_ops = {
    .read = socket_read,
    .write = socket_write,
    .wait_readable = socket_wait_readable,
    .wait_writable = socket_wait_writable,
    .shut_write = socket_shut_write,
    .close = socket_close,
    .local = socket_local,
    .peer = socket_peer,
    .peer_uid = socket_peer_uid,
};

static union small_addr addr_shorten(const struct net_addr *a)
{
    union small_addr s = { 0 };

    if (a->any.sa_family == AF_UNIX)
        s.any.sa_family = AF_UNIX;   /* without the path: nobody asks */
    else
        memcpy(&s, a, sizeof s);
    return s;
}

static struct socket_transport *socket_new(int fd)
{
    struct socket_transport *s = calloc(1, sizeof *s);

    if (s == NULL) {
        (void)close(fd);
        return NULL;
    }
    s->base.ops = &socket_ops;
    loop_fd_init(&s->fd, fd);
    return s;
}

/* A connected socket becomes a stream. Replies go out at once: our buffering decides what makes a segment, not Nagle's. */
static int stream_from_socket(struct socket_transport *s, const struct net_addr *peer, struct stream **out)
{
    struct net_addr local = { 0 };
    socklen_t       n = sizeof local.storage;
    int             on = 1;

    if (getsockname(s->fd.fd, &local.any, &n) < 0)
        local.any.sa_family = peer->any.sa_family;
    if (peer->any.sa_family != AF_UNIX)
        (void)setsockopt(s->fd.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    s->local = addr_shorten(&local);
    s->peer = addr_shorten(peer);

    struct stream *stream = stream_new(&s->base);
    if (stream == NULL)
        return -ENOMEM;
    *out = stream;
    return 0;
}

/* Listening. */

struct socket_listener {
    struct net_listener base;
    struct loop_fd      fd;
    unsigned            turns;
    char               *path;        /* of a Unix socket; owned */
    dev_t               device;      /* and which file it was, so that a successor's is left alone */
    ino_t               inode;
};

static socklen_t addr_size(const struct net_addr *a)
{
    return a->any.sa_family == AF_INET ? sizeof a->v4 : sizeof a->v6;
}

static int socket_open(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    return fd < 0 ? -errno : fd;
}

static int bind_tcp(int fd, const struct net_addr *at, bool share)
{
    int on = 1;

    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
        return -errno;
    if (share && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0)
        return -errno;
    /* "::" is IPv6 only: whoever wants both says both, and no address then appears in two forms. */
    if (at->any.sa_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) < 0)
        return -errno;
    return bind(fd, &at->any, addr_size(at)) < 0 ? -errno : 0;
}

static int listener_new(int fd, const char *path, struct net_listener **out)
{
    struct socket_listener *l = calloc(1, sizeof *l);

    if (l == NULL)
        return -ENOMEM;
    if (path != NULL) {
        struct stat st;

        l->path = strdup(path);
        if (l->path == NULL || lstat(path, &st) < 0) {
            int r = l->path == NULL ? -ENOMEM : -errno;
            free(l->path);
            free(l);
            return r;
        }
        l->device = st.st_dev;
        l->inode = st.st_ino;
    }
    l->base.ops = &kernel_ops;
    loop_fd_init(&l->fd, fd);
    *out = &l->base;
    return 0;
}

static int kernel_listen(const struct net_addr *at, bool share, struct net_listener **out)
{
    if (at->any.sa_family != AF_INET && at->any.sa_family != AF_INET6)
        return -EAFNOSUPPORT;
    int fd = socket_open(at->any.sa_family);
    if (fd < 0)
        return fd;

    int r = bind_tcp(fd, at, share);
    if (r == 0 && listen(fd, NET_BACKLOG) < 0)
        r = -errno;
    if (r == 0)
        r = listener_new(fd, NULL, out);
    if (r < 0)
        (void)close(fd);
    return r;
}

static int unix_addr(const char *path, struct sockaddr_un *out)
{
    *out = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof out->sun_path)
        return -ENAMETOOLONG;
    strcpy(out->sun_path, path);
    return *path == '\0' ? -ENOENT : 0;
}

/* 0 if nobody answers behind the socket that is in the way and it is gone now; -EADDRINUSE if somebody does. */
static int remove_stale(const struct sockaddr_un *at)
{
    struct stat st;

    if (lstat(at->sun_path, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(st.st_mode))
        return -EADDRINUSE;   /* a file of somebody's: connect would say ECONNREFUSED for it too */

    /* Of the wrong type, so that a live listener answers EPROTOTYPE and sees no connection. */
    int probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (probe < 0)
        return -errno;
    bool dead = connect(probe, (const struct sockaddr *)at, sizeof *at) < 0 && errno == ECONNREFUSED;
    (void)close(probe);
    if (!dead)
        return -EADDRINUSE;
    return unlink(at->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

/* The mode of the socket before bind is the most that the file gets, so that it is never open to more than asked for;
 * chmod then puts back what the umask took away. */
static int bind_unix(int fd, const struct sockaddr_un *at, unsigned mode)
{
    if (fchmod(fd, mode) < 0)
        return -errno;
    if (bind(fd, (const struct sockaddr *)at, sizeof *at) < 0) {
        if (errno != EADDRINUSE)
            return -errno;
        int r = remove_stale(at);
        if (r < 0)
            return r;
        if (bind(fd, (const struct sockaddr *)at, sizeof *at) < 0)
            return -errno;
    }
    return chmod(at->sun_path, mode) < 0 ? -errno : 0;
}

static int kernel_listen_unix(const char *path, unsigned mode, struct net_listener **out)
{
    struct sockaddr_un at;
    int                r = unix_addr(path, &at);

    if (r < 0)
        return r;
    int fd = socket_open(AF_UNIX);
    if (fd < 0)
        return fd;
    r = bind_unix(fd, &at, mode);
    if (r == 0 && listen(fd, NET_BACKLOG) < 0)
        r = -errno;
    if (r == 0)
        r = listener_new(fd, path, out);
    if (r < 0)
        (void)close(fd);
    return r;
}

static void kernel_listener_addr(const struct net_listener *l, struct net_addr *out)
{
    struct net_addr a = { 0 };
    socklen_t       n = sizeof a.storage;

    (void)getsockname(((const struct socket_listener *)l)->fd.fd, &a.any, &n);
    *out = a;
}

int net_listener_share(const struct net_listener *base, struct net_listener **out)
{
    const struct socket_listener *l = (const struct socket_listener *)base;

    if (base->ops != &kernel_ops)
        return -EOPNOTSUPP;
    int fd = fcntl(l->fd.fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int r = listener_new(fd, l->path, out);
    if (r < 0)
        (void)close(fd);
    return r;
}

void net_listener_disown(struct net_listener *base)
{
    struct socket_listener *l = (struct socket_listener *)base;

    if (base->ops != &kernel_ops)
        return;
    free(l->path);
    l->path = NULL;
}

int net_listener_adopt(int fd, struct net_listener **out)
{
    int       listens = 0;
    socklen_t n = sizeof listens;

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &n) < 0)
        return -errno;
    if (!listens)
        return -EINVAL;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    return listener_new(fd, NULL, out);
}

int net_listener_fd(const struct net_listener *base)
{
    return base->ops == &kernel_ops ? ((const struct socket_listener *)base)->fd.fd : -EOPNOTSUPP;
}

const char *net_listener_path(const struct net_listener *l, char *out, size_t size)
{
    struct net_addr           a;
    const struct sockaddr_un *at = (const struct sockaddr_un *)&a.storage;

    net_listener_addr(l, &a);
    if (a.any.sa_family != AF_UNIX || at->sun_path[0] == '\0')
        return NULL;
    snprintf(out, size, "%.*s", (int)sizeof at->sun_path, at->sun_path);
    return out;
}

static void kernel_listener_close(struct net_listener *base)
{
    struct socket_listener *l = (struct socket_listener *)base;
    struct stat             st;

    loop_fd_forget(&l->fd);
    (void)close(l->fd.fd);
    if (l->path != NULL && lstat(l->path, &st) == 0 && st.st_dev == l->device && st.st_ino == l->inode)
        (void)unlink(l->path);
    free(l->path);
    free(l);
}

/* accept(2): "treat them like EAGAIN by retrying": they are the new connection's, not the listener's. */
static bool accept_is_transient(int error)
{
    switch (error) {
    case ECONNABORTED:
    case EINTR:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
    case EPERM:                      /* a firewall rule forbids it */
        return true;
    }
    return false;
}

/* Awaits the descriptor of a connection. */
static int accept_one(struct socket_listener *l, int64_t deadline_ns, struct net_addr *out_peer)
{
    for (;;) {
        socklen_t n = sizeof out_peer->storage;

        /* Under a flood there is always one more; the sessions that were begun need their turn. */
        if (l->turns++ >= NET_ACCEPT_TURNS) {
            l->turns = 0;
            int r = task_yield();
            if (r < 0)
                return r;
            if (clock_mono_ns() >= deadline_ns)
                return -ETIMEDOUT;
        }
        *out_peer = (struct net_addr){ 0 };
        int fd = accept4(l->fd.fd, &out_peer->any, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            return fd;
        if (accept_is_transient(errno))
            continue;
        if (errno != EAGAIN)
            return -errno;
        l->turns = 0;
        int r = loop_fd_wait_readable(&l->fd, deadline_ns);
        if (r < 0)
            return r;
    }
}

static int kernel_accept(struct net_listener *base, int64_t deadline_ns, struct stream **out, struct net_addr *out_peer)
{
    struct net_addr peer;
    int             fd = accept_one((struct socket_listener *)base, deadline_ns, &peer);

    if (fd < 0)
        return fd;
    if (peer.any.sa_family == AF_UNSPEC)
        peer.any.sa_family = AF_UNIX;   /* an unnamed peer */
    struct socket_transport *s = socket_new(fd);
    int r = s == NULL ? -ENOMEM : stream_from_socket(s, &peer, out);
    if (r == 0 && out_peer != NULL)
        *out_peer = peer;
    return r;
}

/* Connecting. */

static int bind_from(int fd, const struct net_addr *from)
{
    int on = 1;

    /* The kernel then chooses the port at connect, for this destination: 28,000 for each, not for all together. */
    if (net_addr_port(from) == 0)
        (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    return bind(fd, &from->any, addr_size(from)) < 0 ? -errno : 0;
}

static int await_connected(struct socket_transport *s, int64_t deadline_ns)
{
    for (;;) {
        int r = loop_fd_wait_writable(&s->fd, deadline_ns);
        if (r < 0)
            return r;

        int       error = 0;
        socklen_t n = sizeof error;
        if (getsockopt(s->fd.fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
            return -errno;
        if (error != 0)
            return -error;
        struct net_addr peer;
        n = sizeof peer.storage;
        if (getpeername(s->fd.fd, &peer.any, &n) == 0)
            return 0;   /* else it was woken for nothing: still connecting */
        if (errno != ENOTCONN)
            return -errno;
    }
}

static int kernel_connect(const struct net_addr *to, const struct net_addr *from, int64_t deadline_ns, struct stream **out)
{
    if (to->any.sa_family != AF_INET && to->any.sa_family != AF_INET6)
        return -EAFNOSUPPORT;
    int fd = socket_open(to->any.sa_family);
    if (fd < 0)
        return fd;
    struct socket_transport *s = socket_new(fd);
    if (s == NULL)
        return -ENOMEM;

    int r = from != NULL ? bind_from(fd, from) : 0;
    if (r == 0 && connect(fd, &to->any, addr_size(to)) < 0)
        r = errno == EINPROGRESS || errno == EINTR ? await_connected(s, deadline_ns) : -errno;
    if (r < 0) {
        socket_close(&s->base);
        return r;
    }
    return stream_from_socket(s, to, out);
}

/* A Unix socket connects at once, or its backlog is full: that cannot be waited for, only tried again. */
static int kernel_connect_unix(const char *path, int64_t deadline_ns, struct stream **out)
{
    struct net_addr    peer = { .any.sa_family = AF_UNIX };
    struct sockaddr_un to;
    int                r = unix_addr(path, &to);

    if (r < 0)
        return r;
    int fd = socket_open(AF_UNIX);
    if (fd < 0)
        return fd;
    struct socket_transport *s = socket_new(fd);
    if (s == NULL)
        return -ENOMEM;

    while ((r = connect(fd, (const struct sockaddr *)&to, sizeof to) < 0 ? -errno : 0) == -EAGAIN || r == -EINTR) {
        int64_t now = clock_mono_ns();

        r = now >= deadline_ns ? -ETIMEDOUT
                               : task_sleep_until(now + NET_UNIX_RETRY_NS < deadline_ns ? now + NET_UNIX_RETRY_NS : deadline_ns);
        if (r < 0)
            break;
    }
    if (r < 0) {
        socket_close(&s->base);
        return r;
    }
    return stream_from_socket(s, &peer, out);
}

static const struct net_ops kernel_ops = {
    .listen = kernel_listen,
    .listen_unix = kernel_listen_unix,
    .listener_addr = kernel_listener_addr,
    .accept = kernel_accept,
    .listener_close = kernel_listener_close,
    .connect = kernel_connect,
    .connect_unix = kernel_connect_unix,
};
