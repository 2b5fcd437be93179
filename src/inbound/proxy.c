/*
 * The PROXY header of a connection. Runs in the worker, in the session's task, before the session.
 */
#include "inbound/proxy.h"
#include "base/log.h"
#include "smtp/proxy_wire.h"
#include <errno.h>
#include <string.h>

#define HEADER_WAIT_NS (5 * NS_PER_S)    /* a proxy says it at once; 3 s at least are asked for, for one lost packet */

bool proxy_is_listed(const struct conf *c, const struct net_addr *proxy)
{
    uint8_t ip[16];
    size_t len = net_addr_ip(proxy, ip);

    for (size_t i = 0; i < c->proxy_network_count; i++)
        if (ip_range_has(&c->proxy_networks[i], ip, len))
            return true;
    return false;
}

static int read_header(struct stream *stream, struct proxy_header *out)
{
    int64_t deadline = task_deadline_in(HEADER_WAIT_NS);
    size_t n = 0;

    for (;;) {
        switch (proxy_parse(stream_pending(stream), out, &n)) {
        case PROXY_DONE: stream_consume(stream, n); return 0;
        case PROXY_BAD: return -EBADMSG;
        case PROXY_MORE: break;
        }
        ssize_t got = stream_fill_at_most(stream, n, deadline);
        if (got <= 0)
            return got == 0 ? -EPIPE : (int)got;
    }
}

static const char *words_for(int error)
{
    switch (error) {
    case -EBADMSG: return "this is no PROXY header";
    case -ETIMEDOUT: return "no PROXY header came";
    case -EPIPE: return "closed before its PROXY header was complete";
    }
    return strerror(-error);
}

int proxy_meet(struct stream *stream, struct session_client *client)
{
    struct proxy_header header = { .local = false };
    char ip[NET_ADDR_TEXT_MAX];

    int r = read_header(stream, &header);
    if (r < 0) {
        if (r != -ECANCELED)
            log_event(LOG_WARN, "proxy-refused", LOG_Z("proxy", net_addr_format_ip(&client->addr, ip)), LOG_Z("text", words_for(r)));
        return r;
    }
    /* Without an address it is somebody whom the proxy does not know, or the proxy's own test: not one of ours, whatever the proxy is. */
    client->unknown = header.ip_len == 0;
    if (!client->unknown)
        net_addr_from_ip(header.client_ip, header.ip_len, header.client_port, &client->addr);
    return 0;
}
