/*
 * Levels of TLS by domain: see tls_level.h. Pure.
 */
#include "conf/tls_level.h"
#include "mail/domain.h"

bool tls_level_key(struct conf *c, struct str name, struct str *out, struct buf *why)
{
    bool below = name.n > 0 && name.p[0] == '.';
    struct str domain;

    if (!domain_to_ascii(&c->arena, below ? str_from(name, 1) : name, &domain)) {
        buf_put_z(why, "does not begin with a domain, or with a dot and a domain");
        return false;
    }
    struct str key = below ? str_printf(&c->arena, ".%" STR_FMT, STR_ARG(domain)) : domain;
    if (key.p == NULL) {
        buf_put_z(why, "no memory");
        return false;
    }
    *out = key;
    return true;
}

const char *tls_level_word(enum conf_client_tls level)
{
    switch (level) {
    case CONF_CLIENT_TLS_NONE:    return "none";
    case CONF_CLIENT_TLS_MAY:     return "may";
    case CONF_CLIENT_TLS_ENCRYPT: return "encrypt";
    case CONF_CLIENT_TLS_VERIFY:  return "verify";
    case CONF_CLIENT_TLS_SECURE:  return "secure";
    }
    return "";
}

/* NULL: by no entry. A domain has at most 127 labels. */
static const void *find(const struct map_str *map, struct str domain)
{
    const void *entry = map->used > 0 ? map_str_get(map, domain) : NULL;

    for (ssize_t dot; entry == NULL && map->used > 0 && (dot = str_find(domain, '.')) >= 0; domain = str_from(domain, (size_t)dot + 1))
        entry = map_str_get(map, str_from(domain, (size_t)dot));
    return entry;
}

const struct conf_retry *conf_retry_of(const struct conf *c, struct str domain)
{
    const struct conf_retry *retry = find(&c->retry_by_domain, domain);

    return retry != NULL ? retry : &c->retry;
}

static const enum conf_client_tls *entry_of(const struct conf *c, struct str domain) { return find(&c->outbound_tls_by_domain, domain); }

bool tls_level_is_named(const struct conf *c, struct str domain) { return entry_of(c, domain) != NULL; }

enum conf_client_tls tls_level_of(const struct conf *c, struct str domain)
{
    const enum conf_client_tls *level = entry_of(c, domain);

    return level != NULL ? *level : c->outbound_tls;
}
