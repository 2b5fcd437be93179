/*
 * Destinations; see destination.h. All on outbound's loop.
 */
#include "outbound/destination.h"
#include "base/clock.h"
#include "conf/tls_level.h"
#include "mail/domain.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define KNOWN_NS (1800 * NS_PER_S)
#define BY_NAME  "dns:"

struct known {
    int64_t                        until_ns;
    const struct refusal_provider *provider;
    size_t                         domain_n, key_n;
    char                           bytes[];      /* the domain, lower case, then the site's key without the source */
};

void destinations_init(struct destinations *d) { map_str_init(&d->by_domain); }

void destinations_forget(struct destinations *d)
{
    size_t cursor = 0;
    struct str domain;
    void *value;

    while (map_str_next(&d->by_domain, &cursor, &domain, &value)) {
        (void)map_str_remove(&d->by_domain, domain);
        free(value);
    }
}

void destinations_free(struct destinations *d)
{
    destinations_forget(d);
    map_str_free(&d->by_domain);
}

/* A domain as the map has it. */
static struct str lower(struct str domain, char out[256])
{
    domain = str_head(domain, 255);
    for (size_t i = 0; i < domain.n; i++)
        out[i] = char_lower(domain.p[i]);
    return (struct str){ out, domain.n };
}

static struct known *find(const struct destinations *d, struct str domain)
{
    char memory[256];
    return map_str_get(&d->by_domain, lower(domain, memory));
}

/* Mail that asks for another kind of connection does not share the fate of the rest: where TLS does not work for the one, the other goes. */
static void put_terms(struct buf *out, const struct conf *conf, const struct route *route, const struct envelope *env)
{
    bool named = tls_level_is_named(conf, route->domain);
    char memory[256];
    struct str domain = lower(route->domain, memory);

    if (named)
        buf_printf(out, " tls=%s:%" STR_FMT, tls_level_word(tls_level_of(conf, route->domain)), STR_ARG(domain));
    else if (env->tls_optional && !env->requiretls)
        buf_put_z(out, " tls-optional");
}

static void put_by_domain(struct buf *out, const struct destinations *d, const struct conf *conf, const struct route *route,
                          const struct envelope *env, int64_t now_ns, struct destination *to)
{
    const struct known *k = find(d, route->domain);
    char memory[256];

    if (domain_is_literal(route->domain)) {
        site_key_put(out, str_of(conf->source_address), NULL, &route->domain, 1);
    } else if (k == NULL || k->until_ns <= now_ns) {
        to->by_name = true;
        buf_printf(out, BY_NAME "%" STR_FMT, STR_ARG(lower(route->domain, memory)));
        return;
    } else {
        to->provider = k->provider;
        buf_put_z(out, conf->source_address);
        buf_put_str(out, (struct str){ k->bytes + k->domain_n, k->key_n });
    }
    put_terms(out, conf, route, env);
}

void destination_of(const struct destinations *d, const struct conf *conf, const struct route *route, const struct envelope *env,
                    int64_t now_ns, struct destination *out)
{
    struct buf key;

    buf_init_fixed(&key, out->memory, sizeof out->memory);
    out->provider = NULL;
    out->by_name = false;
    out->local = route->kind == ROUTE_LOCAL;
    switch (route->kind) {
    case ROUTE_LOCAL:     buf_put_z(&key, "local"); break;
    case ROUTE_LMTP_UNIX: buf_printf(&key, "lmtp:unix:%s", route->path); break;
    case ROUTE_LMTP:      buf_printf(&key, "lmtp:%" STR_FMT ":%u", STR_ARG(route->host), route->port); break;
    case ROUTE_HOST:      buf_printf(&key, "%s host:%" STR_FMT ":%u", conf->source_address, STR_ARG(route->host), route->port); break;
    case ROUTE_HOP:       buf_printf(&key, "%s hop:%" STR_FMT ":%u", conf->source_address, STR_ARG(route->host), route->port); break;
    case ROUTE_MX:        put_by_domain(&key, d, conf, route, env, now_ns, out); break;
    }
    assert(buf_ok(&key));                                     /* a domain has at most 255 octets, a socket's path 107 */
    out->site = buf_str(&key);
}

bool destination_is_by_name(struct str site) { return str_starts(site, STR(BY_NAME)); }

/* -- what was found out ------------------------------------------------------------------------------------------------------ */

static size_t hosts_of(const struct mx_list *list, struct str hosts[MX_ADDRESSES_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < list->count; i++)
        if (n == 0 || !str_eq_nocase(hosts[n - 1], list->items[i].host))
            hosts[n++] = list->items[i].host;
    return n;
}

void destinations_unlearn(struct destinations *d, const struct route *route)
{
    char memory[256];
    free(map_str_remove(&d->by_domain, lower(route->domain, memory)));
}

void destinations_learn(struct destinations *d, const struct route *route, const struct refusals *refusals, const struct mx_list *list,
                        int64_t now_ns)
{
    struct str hosts[MX_ADDRESSES_MAX];
    char memory[SITE_KEY_LEN_MAX], domain_memory[256];
    struct buf key;
    struct str domain = lower(route->domain, domain_memory);

    destinations_unlearn(d, route);
    if (list->count == 0 || domain_is_literal(domain))
        return;
    if (d->by_domain.used >= DESTINATIONS_MAX)
        destinations_forget(d);
    size_t count = hosts_of(list, hosts);
    const struct refusal_provider *provider = refusal_provider_of(refusals, hosts, count);
    buf_init_fixed(&key, memory, sizeof memory);
    site_key_put(&key, STR(""), provider, hosts, count);
    assert(buf_ok(&key));
    struct known *k = malloc(sizeof *k + domain.n + key.n);
    if (k == NULL)
        return;
    *k = (struct known){ .until_ns = now_ns + KNOWN_NS, .provider = provider, .domain_n = domain.n, .key_n = key.n };
    memcpy(k->bytes, domain.p, domain.n);
    memcpy(k->bytes + domain.n, key.p, key.n);
    if (map_str_put(&d->by_domain, (struct str){ k->bytes, k->domain_n }, k) < 0)
        free(k);
}

/* -- routes ------------------------------------------------------------------------------------------------------------------ */

uint64_t destination_route_hash(const struct route *route)
{
    char memory[DESTINATION_KEY_MAX];
    struct buf text;

    buf_init_fixed(&text, memory, sizeof memory);
    buf_printf(&text, "%d:%u:%s:%" STR_FMT ":%" STR_FMT, route->kind, route->port, route->path == NULL ? "" : route->path,
               STR_ARG(route->domain), STR_ARG(route->host));
    assert(buf_ok(&text));
    return map_str_hash(buf_str(&text));
}
