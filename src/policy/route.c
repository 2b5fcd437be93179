/*
 * Routes: ours to a Maildir or by LMTP, the relay host, or by MX; and the path of a Maildir. Pure.
 */
#include "policy/route.h"
#include "mail/local_part.h"
#include "policy/access.h"
#include <errno.h>
#include <string.h>

#define MAILBOX_PATH_MAX 4096            /* PATH_MAX of Linux */

/* "host", "host:port", "[ip]", "[ip]:port"; without a port the one where other servers listen. */
static int host_route(struct arena *a, const struct conf *c, enum route_kind kind, struct str host, struct route *out)
{
    struct str rest = STR("");
    struct route r = { .kind = kind, .port = c->smtp_port };
    uint64_t port;

    if (host.p[0] == '[') {
        struct str inside;
        str_cut(host, ']', &inside, &rest);
        host = str_head(host, inside.n + 1);
        rest = rest.n > 0 && rest.p[0] == ':' ? str_from(rest, 1) : rest;
    } else {
        str_cut(host, ':', &host, &rest);
    }
    if (str_to_u64(rest, 65535, &port))
        r.port = (uint16_t)port;
    r.host = str_copy(a, host);
    r.domain = STR("");
    if (r.host.p == NULL)
        return -ENOMEM;
    *out = r;
    return 0;
}

static struct str domain_of(const struct conf *c, const struct address *rcpt);

/* All mail for one LMTP server is one route, whatever the domain. */
static int local_route(struct arena *a, const struct conf *c, const struct address *rcpt, struct route *out)
{
    const struct conf_delivery *d = delivery_of(c, domain_of(c, rcpt));
    struct route r = { .kind = ROUTE_LOCAL, .domain = STR(""), .host = STR(""), .port = c->smtp_port };

    switch (d->kind) {
    case CONF_DELIVERY_MAILDIR:
        r.domain = str_copy(a, rcpt->domain);
        if (r.domain.p == NULL)
            return -ENOMEM;
        break;
    case CONF_DELIVERY_LMTP:
        r.kind = ROUTE_LMTP;
        r.host = d->host;
        r.port = d->port;
        break;
    case CONF_DELIVERY_LMTP_UNIX:
        r.kind = ROUTE_LMTP_UNIX;
        r.path = d->path;
        break;
    }
    *out = r;
    return 0;
}

bool route_is_lmtp(const struct route *r)
{
    return r->kind == ROUTE_LMTP || r->kind == ROUTE_LMTP_UNIX;
}

int route_for(struct arena *a, const struct conf *c, const struct address *rcpt, struct route *out)
{
    /* Without a domain it is <postmaster> or a local name of ours. */
    bool ours = rcpt->domain.n == 0 || map_str_get(&c->local_domains, rcpt->domain) != NULL;

    if (ours)
        return local_route(a, c, rcpt, out);
    if (c->relay_host[0] != '\0')
        return host_route(a, c, ROUTE_HOST, str_of(c->relay_host), out);
    struct str domain = str_copy(a, rcpt->domain);
    if (domain.p == NULL && rcpt->domain.n > 0)
        return -ENOMEM;
    *out = (struct route){ .kind = ROUTE_MX, .domain = domain, .host = STR(""), .port = c->smtp_port };
    return 0;
}

int route_for_recipient(struct arena *a, const struct conf *c, const struct recipient *rcpt, struct route *out)
{
    return rcpt->next_hop.n > 0 ? host_route(a, c, ROUTE_HOP, rcpt->next_hop, out) : route_for(a, c, &rcpt->addr, out);
}

int route_cmp(const struct route *a, const struct route *b)
{
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    if (a->port != b->port)
        return a->port < b->port ? -1 : 1;
    int by_domain = str_cmp(a->domain, b->domain);
    if (by_domain != 0)
        return by_domain;
    if (a->kind == ROUTE_LMTP_UNIX)
        return strcmp(a->path, b->path);
    return str_cmp(a->host, b->host);
}

/* -- the Maildir ------------------------------------------------------------------------------------------------------- */

static bool stands_as_it_is(struct str part, size_t i)
{
    char c = part.p[i];

    if (c == '.')        /* inside only: "." and ".." and hidden names must not come out */
        return i > 0 && i + 1 < part.n;
    return char_is_alnum(c) || c == '_' || c == '-' || c == '+' || c == '=';
}

static void put_part(struct buf *out, struct str part)
{
    for (size_t i = 0; i < part.n; i++) {
        if (stands_as_it_is(part, i))
            buf_put_char(out, char_lower(part.p[i]));
        else
            buf_printf(out, "%%%02X", (unsigned char)part.p[i]);
    }
}

/* Bare <postmaster> lives in the domain that is ours by name, or else in the first: a map has no first, so the smallest. */
static struct str domain_of(const struct conf *c, const struct address *rcpt)
{
    struct str name, best = str_of(c->hostname);
    size_t cursor = 0;
    void *value;

    if (rcpt->domain.n > 0)
        return rcpt->domain;
    if (map_str_get(&c->local_domains, best) != NULL || c->local_domains.used == 0)
        return best;
    for (best = STR(""); map_str_next(&c->local_domains, &cursor, &name, &value);)
        if (best.n == 0 || str_cmp(name, best) < 0)
            best = name;
    return best;
}

int route_mailbox(struct arena *a, const struct conf *c, const struct address *rcpt, const char **out)
{
    char path_bytes[MAILBOX_PATH_MAX];
    struct buf path;
    char user_bytes[LOCAL_PART_KEY_MAX];
    struct buf user;
    struct str rest = str_of(c->mailbox), domain = domain_of(c, rcpt);

    if (rcpt->local.n == 0 || domain.n == 0)
        return -EINVAL;
    buf_init_fixed(&path, path_bytes, sizeof path_bytes);
    buf_init_fixed(&user, user_bytes, sizeof user_bytes);
    local_part_put_key(&user, access_user(c, rcpt));
    while (rest.n > 0) {
        if (str_starts(rest, STR("{user}"))) {
            put_part(&path, buf_str(&user));
            rest = str_from(rest, 6);
        } else if (str_starts(rest, STR("{domain}"))) {
            put_part(&path, domain);
            rest = str_from(rest, 8);
        } else {
            buf_put_char(&path, rest.p[0]);
            rest = str_from(rest, 1);
        }
    }
    if (!buf_ok(&path) || !buf_ok(&user))
        return -EINVAL;
    const char *z = str_z(a, buf_str(&path));
    if (z == NULL)
        return -ENOMEM;
    *out = z;
    return 0;
}
