/*
 * The simulated network behind run/net.h: listeners and connections by address within one process. Test code only; one thread.
 *
 * It keeps what TCP promises and nothing more: bytes of one direction come in their order, in pieces of any size, after a latency of
 * their own; so connections overtake each other, bytes of one do not. An end that is closed with bytes unread, or to which
 * bytes come after it was closed, resets the connection; bytes that had come can still be read after a reset, those under way are lost.
 *
 * Whoever connects without saying from where comes from 127.0.0.1 or ::1 to a loopback address, and from 198.51.100.1 or
 * 2001:db8:ffff::1 to any other. Nobody listens where nobody listens: refused. Unix sockets have names of their own, not on the disk.
 */
#include "run/net_internal.h"
#include "run/sim_internal.h"
#include "run/stream.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PIPE_CAPACITY   (64 * 1024)              /* bytes of one direction sent and not read */
#define BACKLOG_MAX     4096
#define SYN_RETRY_NS    NS_PER_S                 /* to a listener whose backlog is full */
#define UNIX_LATENCY_NS (10 * NS_PER_US)
#define PORT_FIRST      32768u

/* What flows into an end. */
struct pipe {
    unsigned char *bytes;                        /* owned */
    size_t         start, count, capacity;       /* count: sent and not read */
    size_t         arrived;                      /* of them: can be read */
    int64_t        last_ns;                      /* when the last of it arrives; nothing overtakes it */
    bool           end_sent, end_arrived;
};

struct end {
    struct transport base;
    struct link     *link;
    struct task     *reader, *writer;
    struct net_addr  local, peer;
    struct pipe      in;
    bool             closed;
    bool             reset;
};

struct link {
    struct end ends[2];                          /* of the client, of the server */
    uint64_t   number;
    unsigned   refs;                             /* open ends and deliveries under way */
    bool       is_unix;
};

struct listener {
    struct net_listener base;
    struct net_addr     at;
    char               *path;                    /* owned; NULL: not a Unix socket */
    bool                share;
    struct task        *acceptor;
    struct end        **queue;                   /* owned */
    size_t              count, capacity;
    struct listener    *next;
};

static struct {
    bool              on;
    struct sim_options options;
    struct sim_chance chance;
    struct listener  *listeners;
    uint64_t          links;
    unsigned          port_next;
    unsigned          uid;
    sim_refuse_fn    *refuse;
    void             *refuse_arg;
    uint64_t          carried, cut_at;
} net;

static void wake(struct task *t)
{
    if (t != NULL && net.on)
        task_wake(t);
}

static int64_t latency(bool is_unix)
{
    int64_t low = is_unix ? 0 : net.options.latency_min_ns, high = is_unix ? UNIX_LATENCY_NS : net.options.latency_max_ns;
    return high <= low ? low : low + (int64_t)sim_chance_below(&net.chance, (uint64_t)(high - low) + 1);
}

/* With split: now and then only a part. */
static size_t some_of(size_t n)
{
    if (!net.options.split || n < 2 || sim_chance_below(&net.chance, 3) != 0)
        return n;
    return 1 + sim_chance_below(&net.chance, n - 1);
}

/* ---- links ---- */

static const struct transport_ops end_ops;

static struct link *link_new(const struct net_addr *client, const struct net_addr *server, bool is_unix)
{
    struct link *l = sim_alloc(sizeof *l);
    l->number = ++net.links;
    l->refs = 2;
    l->is_unix = is_unix;
    for (unsigned i = 0; i < 2; i++) {
        l->ends[i].base.ops = &end_ops;
        l->ends[i].link = l;
        l->ends[i].local = i == 0 ? *client : *server;
        l->ends[i].peer = i == 0 ? *server : *client;
    }
    return l;
}

static void link_unref(struct link *l)
{
    if (--l->refs > 0)
        return;
    for (unsigned i = 0; i < 2; i++)
        free(l->ends[i].in.bytes);
    free(l);
}

static struct end *other(struct end *e)
{
    return &e->link->ends[e == &e->link->ends[0]];
}

/* Something on its way to an end: bytes (how many), or the end of them, or a reset. */
struct delivery {
    struct end *to;
    enum { DELIVER_BYTES, DELIVER_END, DELIVER_RESET } kind;
    size_t      n;
};

static void deliver(void *arg);

static void send_on(struct end *to, int kind, size_t n)
{
    struct delivery *d = sim_alloc(sizeof *d);
    int64_t when = sim_now() + latency(to->link->is_unix);
    if (when < to->in.last_ns)
        when = to->in.last_ns;
    to->in.last_ns = when;
    to->link->refs++;
    d->to = to;
    d->kind = kind;
    d->n = n;
    sim_at(when, deliver, d);
}

static void end_reset(struct end *e)
{
    e->reset = true;
    e->in.count = e->in.arrived;                 /* what was under way is lost */
    wake(e->reader);
    wake(e->writer);
}

static void bytes_arrive(struct end *to, size_t n)
{
    uint64_t left = net.cut_at - net.carried;
    bool cut = net.cut_at != UINT64_MAX && n > 0 && left <= n;
    if (cut)
        n = left;
    net.carried += n;
    to->in.arrived += n;
    wake(to->reader);
    if (!cut)
        return;
    net.cut_at = UINT64_MAX;
    end_reset(to);
    end_reset(other(to));
}

static void deliver(void *arg)
{
    struct delivery d = *(struct delivery *)arg;
    struct end *to = d.to;
    free(arg);
    sim_trace(SIM_TRACE_BYTES, to->link->number << 8 | (uint64_t)d.kind << 1 | (uint64_t)(to == &to->link->ends[1]), d.n);
    if (to->reset) {
        /* nothing comes any more */
    } else if (d.kind == DELIVER_RESET) {
        end_reset(to);
    } else if (to->closed) {
        to->reset = true;
        if (d.kind == DELIVER_BYTES && !other(to)->closed)
            send_on(other(to), DELIVER_RESET, 0);
    } else if (d.kind == DELIVER_BYTES) {
        bytes_arrive(to, d.n);
    } else {
        to->in.end_arrived = true;
        wake(to->reader);
    }
    link_unref(to->link);
}

/* ---- an end as a transport ---- */

static ssize_t on_read(struct transport *t, void *p, size_t n)
{
    struct end *e = (struct end *)t;
    if (n > e->in.arrived)
        n = e->in.arrived;
    if (e->in.arrived == 0)
        return e->in.end_arrived ? 0 : e->reset ? -ECONNRESET : -EAGAIN;
    n = some_of(n);
    memcpy(p, e->in.bytes + e->in.start, n);
    e->in.start += n;
    e->in.count -= n;
    e->in.arrived -= n;
    if (e->in.count == 0)
        e->in.start = 0;
    wake(other(e)->writer);
    return (ssize_t)n;
}

static void pipe_append(struct pipe *in, const void *p, size_t n)
{
    if (in->start > 0) {
        memmove(in->bytes, in->bytes + in->start, in->count);
        in->start = 0;
    }
    if (in->count + n > in->capacity) {
        in->capacity = in->count + n < 1024 ? 1024 : (in->count + n) * 2 < PIPE_CAPACITY ? (in->count + n) * 2 : PIPE_CAPACITY;
        in->bytes = sim_resize(in->bytes, in->capacity);
    }
    memcpy(in->bytes + in->count, p, n);
    in->count += n;
}

static ssize_t on_write(struct transport *t, const void *p, size_t n)
{
    struct end *e = (struct end *)t, *to = other(e);
    if (e->reset || to->in.end_sent)
        return -EPIPE;
    size_t room = PIPE_CAPACITY - to->in.count;
    if (room == 0)
        return -EAGAIN;
    n = some_of(n < room ? n : room);
    pipe_append(&to->in, p, n);
    for (size_t left = n, part; left > 0; left -= part) {
        part = some_of(left);
        send_on(to, DELIVER_BYTES, part);
    }
    return (ssize_t)n;
}

static bool is_readable(const struct end *e)
{
    return e->in.arrived > 0 || e->in.end_arrived || e->reset;
}

static int on_wait_readable(struct transport *t, int64_t deadline_ns)
{
    struct end *e = (struct end *)t;
    int r = 0;
    e->reader = task_self();
    while (r == 0 && !is_readable(e))
        r = task_park(deadline_ns);
    e->reader = NULL;
    return r;
}

static int on_wait_writable(struct transport *t, int64_t deadline_ns)
{
    struct end *e = (struct end *)t;
    int r = 0;
    e->writer = task_self();
    while (r == 0 && !e->reset && other(e)->in.count == PIPE_CAPACITY)
        r = task_park(deadline_ns);
    e->writer = NULL;
    return r;
}

static int on_shut_write(struct transport *t)
{
    struct end *to = other((struct end *)t);
    if (!to->in.end_sent && !((struct end *)t)->reset) {
        to->in.end_sent = true;
        send_on(to, DELIVER_END, 0);
    }
    return 0;
}

static void on_close(struct transport *t)
{
    struct end *e = (struct end *)t;
    assert(!e->closed);
    e->closed = true;
    sim_trace(SIM_TRACE_CLOSE, e->link->number, e->in.arrived);
    if (e->in.arrived > 0 && !e->reset)
        send_on(other(e), DELIVER_RESET, 0);
    else
        (void)on_shut_write(t);
    link_unref(e->link);
}

static void on_local(struct transport *t, struct net_addr *out)
{
    *out = ((struct end *)t)->local;
}

static void on_peer(struct transport *t, struct net_addr *out)
{
    *out = ((struct end *)t)->peer;
}

static int on_peer_uid(struct transport *t, unsigned *out_uid)
{
    if (!((struct end *)t)->link->is_unix)
        return -ENOTSOCK;
    *out_uid = net.uid;
    return 0;
}

static const struct transport_ops end_ops = {
    .read = on_read,
    .write = on_write,
    .wait_readable = on_wait_readable,
    .wait_writable = on_wait_writable,
    .shut_write = on_shut_write,
    .close = on_close,
    .local = on_local,
    .peer = on_peer,
    .peer_uid = on_peer_uid,
};

/* ---- listeners ---- */

static bool ip_is_any(const struct net_addr *a)
{
    uint8_t ip[16], zeros[16] = { 0 };
    return memcmp(ip, zeros, net_addr_ip(a, ip)) == 0;   /* analyze uninitvar: net_addr_ip() fills it first */
}

static bool listens_at(const struct listener *l, const struct net_addr *to)
{
    if (l->path != NULL || l->at.any.sa_family != to->any.sa_family || net_addr_port(&l->at) != net_addr_port(to))
        return false;
    return ip_is_any(&l->at) || net_addr_eq(&l->at, to);
}

/* One of those that share the address; NULL: nobody. */
static struct listener *listener_for(const struct net_addr *to)
{
    struct listener *found = NULL;
    unsigned count = 0;
    for (struct listener *l = net.listeners; l != NULL; l = l->next)
        if (listens_at(l, to) && sim_chance_below(&net.chance, ++count) == 0)
            found = l;
    return found;
}

static struct listener *listener_unix(const char *path)
{
    struct listener *l = net.listeners;
    while (l != NULL && (l->path == NULL || strcmp(l->path, path) != 0))
        l = l->next;
    return l;
}

static uint16_t port_pick(void)
{
    uint16_t port = (uint16_t)(PORT_FIRST + net.port_next++ % (65536 - PORT_FIRST));
    return port;
}

static struct listener *listener_new(const struct net_ops *ops)
{
    struct listener *l = sim_alloc(sizeof *l), **last = &net.listeners;
    l->base.ops = ops;
    while (*last != NULL)
        last = &(*last)->next;
    *last = l;
    return l;
}

static const struct net_ops sim_net_ops;

static int on_listen(const struct net_addr *at, bool share, struct net_listener **out)
{
    if (at->any.sa_family != AF_INET && at->any.sa_family != AF_INET6)
        return -EAFNOSUPPORT;
    struct net_addr where = *at;
    if (net_addr_port(at) == 0)
        net_addr_set_port(&where, port_pick());
    for (const struct listener *l = net.listeners; l != NULL; l = l->next)
        if ((listens_at(l, &where) || (ip_is_any(&where) && l->path == NULL && l->at.any.sa_family == where.any.sa_family &&
                                       net_addr_port(&l->at) == net_addr_port(&where))) && !(share && l->share))
            return -EADDRINUSE;
    struct listener *l = listener_new(&sim_net_ops);
    l->at = where;
    l->share = share;
    *out = &l->base;
    return 0;
}

static int on_listen_unix(const char *path, unsigned mode, struct net_listener **out)
{
    (void)mode;
    if (*path == '\0')
        return -ENOENT;
    if (listener_unix(path) != NULL)
        return -EADDRINUSE;
    struct listener *l = listener_new(&sim_net_ops);
    l->at.any.sa_family = AF_UNIX;
    l->path = sim_alloc(strlen(path) + 1);
    strcpy(l->path, path);
    *out = &l->base;
    return 0;
}

static void on_listener_addr(const struct net_listener *l, struct net_addr *out)
{
    *out = ((const struct listener *)l)->at;
}

static int on_accept(struct net_listener *base, int64_t deadline_ns, struct stream **out, struct net_addr *out_peer)
{
    struct listener *l = (struct listener *)base;
    while (l->count == 0) {
        l->acceptor = task_self();
        int r = task_park(deadline_ns);
        l->acceptor = NULL;
        if (r < 0 && l->count == 0)
            return r;
    }
    struct end *e = l->queue[0];
    memmove(l->queue, l->queue + 1, --l->count * sizeof(struct end *));
    struct net_addr peer = e->peer;
    struct stream *s = stream_new(&e->base);
    if (s == NULL)
        return -ENOMEM;
    *out = s;
    if (out_peer != NULL)
        *out_peer = peer;
    return 0;
}

static void on_listener_close(struct net_listener *base)
{
    struct listener *l = (struct listener *)base, **at = &net.listeners;
    while (*at != NULL && *at != l)
        at = &(*at)->next;
    if (*at != NULL)
        *at = l->next;
    for (size_t i = 0; i < l->count; i++) {
        send_on(other(l->queue[i]), DELIVER_RESET, 0);
        on_close(&l->queue[i]->base);
    }
    free(l->queue);
    free(l->path);
    free(l);
}

/* ---- connecting ---- */

/* On its way there and back; shared by the task that waits and by the event. */
struct attempt {
    struct task    *task;                        /* NULL: has given up */
    struct net_addr to, from;
    char           *path;                        /* owned; NULL: not a Unix socket */
    struct end     *client;
    int             result;
    bool            done;
};

static void attempt_free(struct attempt *a)
{
    free(a->path);
    free(a);
}

static void attempt_returns(void *arg)
{
    struct attempt *a = arg;
    a->done = true;
    if (a->task != NULL && net.on) {
        task_wake(a->task);
        return;
    }
    if (a->client != NULL)
        on_close(&a->client->base);
    attempt_free(a);
}

static void attempt_arrives(void *arg)
{
    struct attempt *a = arg;
    struct listener *l = a->path != NULL ? listener_unix(a->path) : listener_for(&a->to);
    bool refused = a->path == NULL && net.refuse != NULL && net.refuse(net.refuse_arg, &a->from, &a->to);
    bool gone = a->task == NULL || !net.on;
    if (!gone && !refused && l != NULL && l->count == BACKLOG_MAX) {
        sim_at(sim_now() + SYN_RETRY_NS, attempt_arrives, a);
        return;
    }
    a->result = l != NULL && !refused ? 0 : a->path != NULL ? -ENOENT : -ECONNREFUSED;
    sim_trace(SIM_TRACE_CONNECT, net.links, (uint64_t)net_addr_port(&a->to) << 8 | (uint64_t)-a->result);
    if (a->result == 0 && !gone) {
        struct link *link = link_new(&a->from, &a->to, a->path != NULL);
        a->client = &link->ends[0];
        SIM_GROW(l->queue, l->count, l->capacity);
        l->queue[l->count++] = &link->ends[1];
        wake(l->acceptor);
    }
    sim_at(sim_now() + latency(a->path != NULL), attempt_returns, a);
}

/* Awaits the attempt, which is given up with the caller's error. */
static int attempt_run(struct attempt *a, int64_t deadline_ns, struct stream **out)
{
    int r = 0;
    a->task = task_self();
    sim_at(sim_now() + latency(a->path != NULL), attempt_arrives, a);
    while (!a->done && r == 0)
        r = task_park(deadline_ns);
    if (!a->done) {
        a->task = NULL;                          /* the event frees it */
        return r;
    }
    r = a->result;
    struct end *client = a->client;
    attempt_free(a);
    if (r < 0)
        return r;
    struct stream *s = stream_new(&client->base);
    if (s == NULL)
        return -ENOMEM;
    *out = s;
    return 0;
}

static void source_default(const struct net_addr *to, struct net_addr *out)
{
    bool v4 = to->any.sa_family == AF_INET;
    const char *from = net_addr_is_loopback(to) ? (v4 ? "127.0.0.1" : "::1") : v4 ? "198.51.100.1" : "2001:db8:ffff::1";
    bool ok = net_addr_parse(str_of(from), 0, out);
    assert(ok);
    (void)ok;
}

static int on_connect(const struct net_addr *to, const struct net_addr *from, int64_t deadline_ns, struct stream **out)
{
    struct net_addr source;
    if (to->any.sa_family != AF_INET && to->any.sa_family != AF_INET6)
        return -EAFNOSUPPORT;
    if (from == NULL)
        source_default(to, &source);
    else
        source = *from;
    if (source.any.sa_family != to->any.sa_family)
        return -EAFNOSUPPORT;
    if (net_addr_port(&source) == 0)
        net_addr_set_port(&source, port_pick());
    struct attempt *a = sim_alloc(sizeof *a);
    a->to = *to;
    a->from = source;
    return attempt_run(a, deadline_ns, out);
}

static int on_connect_unix(const char *path, int64_t deadline_ns, struct stream **out)
{
    struct attempt *a = sim_alloc(sizeof *a);
    a->to.any.sa_family = a->from.any.sa_family = AF_UNIX;
    a->path = sim_alloc(strlen(path) + 1);
    strcpy(a->path, path);
    return attempt_run(a, deadline_ns, out);
}

static const struct net_ops sim_net_ops = {
    .listen = on_listen,
    .listen_unix = on_listen_unix,
    .listener_addr = on_listener_addr,
    .accept = on_accept,
    .listener_close = on_listener_close,
    .connect = on_connect,
    .connect_unix = on_connect_unix,
};

/* ---- the world's side ---- */

void sim_net_begin(const struct sim_options *options)
{
    memset(&net, 0, sizeof net);
    net.on = true;
    net.options = *options;
    net.chance.state = sim_mix(options->seed, 4);
    net.uid = 1000;
    net.cut_at = UINT64_MAX;
    net_replace(&sim_net_ops);
}

void sim_net_end(void)
{
    net.on = false;                              /* what is still under way finds nobody */
    net.listeners = NULL;
    net_replace(NULL);
}

void sim_net_refuse(sim_refuse_fn *fn, void *arg)
{
    net.refuse = fn;
    net.refuse_arg = arg;
}

void sim_net_cut_after(uint64_t bytes)
{
    net.cut_at = bytes > UINT64_MAX - net.carried ? UINT64_MAX : net.carried + bytes;
}

uint64_t sim_net_bytes(void)
{
    return net.carried;
}

void sim_net_uid(unsigned uid)
{
    net.uid = uid;
}
