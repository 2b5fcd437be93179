/*
 * URLs of endpoints (RFC 3986, as much of it as they need). Pure.
 */
#include "base/url.h"
#include <string.h>

#define HOST_MAX 253

static bool is_among(char c, const char *more) { return char_is_alnum(c) || (c != '\0' && strchr(more, c) != NULL); }

static bool all_among(struct str text, const char *more)
{
    for (size_t i = 0; i < text.n; i++)
        if (!is_among(text.p[i], more))
            return false;
    return text.n > 0;
}

static bool is_dotted_quad(struct str host)
{
    struct str part;
    uint64_t n;

    for (unsigned i = 0; i < 4; i++) {
        bool more = str_cut(host, '.', &part, &host);
        if (more != (i < 3) || !str_to_u64(part, 255, &n) || (part.n > 1 && part.p[0] == '0'))
            return false;
    }
    return true;
}

static bool is_name(struct str host)
{
    struct str label, rest = host;

    if (host.n > HOST_MAX)
        return false;
    do {
        bool more = str_cut(rest, '.', &label, &rest);
        if (!all_among(label, "-_") || label.n > 63 || (more && rest.n == 0))
            return false;
    } while (rest.n > 0);
    return char_is_alpha(label.p[0]);
}

/* "[ip6]" or a name or an address, and what stands behind it. */
static bool cut_host(struct str authority, struct url *u, struct str *out_port, bool *out_has_port)
{
    if (authority.n > 0 && authority.p[0] == '[') {
        if (!str_cut(str_from(authority, 1), ']', &u->host, out_port) || !all_among(u->host, ":.") || u->host.n > 45)
            return false;
        *out_has_port = out_port->n > 0;
        u->is_ip6 = true;
        if (*out_has_port && out_port->p[0] != ':')
            return false;
        *out_port = str_from(*out_port, *out_has_port);
        return true;
    }
    *out_has_port = str_cut(authority, ':', &u->host, out_port);
    u->is_ip4 = is_dotted_quad(u->host);
    return u->is_ip4 || is_name(u->host);
}

bool url_parse(struct str text, struct url *out)
{
    struct url u = { .tls = str_starts_nocase(text, STR("https://")) };
    struct str port;
    bool has_port;
    uint64_t number;

    if (text.n > URL_MAX || (!u.tls && !str_starts_nocase(text, STR("http://"))))
        return false;
    struct str rest = str_from(text, u.tls ? 8 : 7);
    size_t n = 0;
    while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?')
        n++;
    if (n < rest.n && !all_among(str_from(rest, n), "-._~:/?[]@!$&'()*+,;=%"))
        return false;
    if (!cut_host(str_head(rest, n), &u, &port, &has_port))
        return false;
    if (has_port && (!str_to_u64(port, 65535, &number) || number == 0))
        return false;
    u.port = has_port ? (uint16_t)number : u.tls ? 443 : 80;
    *out = u;
    return true;
}

bool url_is_loopback(const struct url *u)
{
    if (u->is_ip6)
        return str_eq(u->host, STR("::1"));
    return u->is_ip4 ? str_starts(u->host, STR("127.")) : str_eq_nocase(u->host, STR("localhost"));
}

bool url_is_private(const struct url *u) { return u->tls || url_is_loopback(u); }

void url_put_encoded(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (is_among(text.p[i], "-._~"))
            buf_put_char(out, text.p[i]);
        else
            buf_printf(out, "%%%02X", (unsigned char)text.p[i]);
    }
}
