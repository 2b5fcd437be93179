/*
 * Deliveries as text. Pure.
 */
#include "conf/delivery.h"
#include "conf/ip_range.h"
#include "conf/option.h"
#include "mail/domain.h"
#include <string.h>

#define LMTP      "lmtp:"
#define LMTP_UNIX "lmtp:unix:"

static bool say(struct buf *why, const char *text)
{
    buf_put_z(why, text);
    return false;
}

static bool parse_socket(struct conf *c, struct str path, struct conf_delivery *out, struct buf *why)
{
    const char *absolute = option_path(c, path);

    if (absolute == NULL)
        return say(why, "no memory");
    if (path.n == 0 || strlen(absolute) > CONF_SOCKET_PATH_MAX)
        return say(why, "has no path that a socket can have: 1 to 107 characters");
    *out = (struct conf_delivery){ .kind = CONF_DELIVERY_LMTP_UNIX, .host = STR(""), .path = absolute };
    return true;
}

/* "[192.0.2.1]" or "[2001:db8::1]", with what stands behind it in *rest. */
static bool cut_literal(struct str text, struct str *host, struct str *rest)
{
    struct ip_range range;
    struct str ip;

    if (!str_cut(str_from(text, 1), ']', &ip, rest) || str_find(ip, '/') >= 0)
        return false;
    *host = str_head(text, ip.n + 2);
    return ip_range_parse(str_starts_nocase(ip, STR("IPv6:")) ? str_from(ip, 5) : ip, &range);
}

/* An address without brackets would be looked up as a name. */
static bool cut_name(struct conf *c, struct str text, struct str *host, struct str *rest)
{
    struct ip_range range;
    ssize_t colon = str_find(text, ':');

    *host = colon < 0 ? text : str_head(text, (size_t)colon);
    *rest = str_from(text, host->n);
    return !ip_range_parse(*host, &range) && domain_to_ascii(&c->arena, *host, host);
}

static bool parse_host(struct conf *c, struct str text, struct conf_delivery *out, struct buf *why)
{
    struct str host, rest;
    uint64_t port = CONF_LMTP_PORT;
    bool ok = text.n > 0 && (text.p[0] == '[' ? cut_literal(text, &host, &rest) : cut_name(c, text, &host, &rest));

    if (ok && rest.n > 0)
        ok = rest.p[0] == ':' && str_to_u64(str_from(rest, 1), 65535, &port) && port > 0;
    if (!ok)
        return say(why, "is not \"lmtp:host:port\", \"lmtp:[ip]:port\" or \"lmtp:unix:/path\"");
    if (port == 25)
        return say(why, "has the port of SMTP, where LMTP must not be spoken (RFC 2033, 5)");
    host = str_copy(&c->arena, host);
    if (host.p == NULL)
        return say(why, "no memory");
    *out = (struct conf_delivery){ .kind = CONF_DELIVERY_LMTP, .host = host, .port = (uint16_t)port };
    return true;
}

bool delivery_parse(struct conf *c, struct str text, struct conf_delivery *out, struct buf *why)
{
    if (str_eq(text, STR("maildir"))) {
        *out = (struct conf_delivery){ .kind = CONF_DELIVERY_MAILDIR, .host = STR("") };
        return true;
    }
    if (str_starts(text, STR(LMTP_UNIX)))
        return parse_socket(c, str_from(text, sizeof LMTP_UNIX - 1), out, why);
    if (str_starts(text, STR(LMTP)))
        return parse_host(c, str_from(text, sizeof LMTP - 1), out, why);
    return say(why, "is neither \"maildir\" nor \"lmtp:host:port\" nor \"lmtp:unix:/path\"");
}

const struct conf_delivery *delivery_of(const struct conf *c, struct str domain)
{
    const struct conf_delivery *own = map_str_get(&c->local_delivery_by_domain, domain);

    return own != NULL ? own : &c->local_delivery;
}

void delivery_put(struct buf *out, const struct conf_delivery *d)
{
    switch (d->kind) {
    case CONF_DELIVERY_MAILDIR:   buf_put_z(out, "maildir"); break;
    case CONF_DELIVERY_LMTP:      buf_printf(out, LMTP "%" STR_FMT ":%u", STR_ARG(d->host), d->port); break;
    case CONF_DELIVERY_LMTP_UNIX: buf_printf(out, LMTP_UNIX "%s", d->path); break;
    }
}
