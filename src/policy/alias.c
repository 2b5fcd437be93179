/*
 * One step of an address on its way: lookups in the order that alias.h promises. Pure.
 */
#include "policy/alias.h"
#include "policy/access.h"

static bool is_local(const struct conf *c, struct str domain) { return map_str_get(&c->local_domains, domain) != NULL; }

bool alias_is_ours(const struct conf *c, const struct address *addr)
{
    return addr->domain.n == 0 || is_local(c, addr->domain) || map_str_get(&c->virtual_domains, addr->domain) != NULL ||
           map_str_get(&c->relay_domains, addr->domain) != NULL;
}

/* With the domain; then without, which is good for every local domain. */
static const struct conf_alias *lookup(const struct conf *c, struct str local, struct str domain)
{
    const struct conf_alias *found = domain.n > 0 ? access_lookup(&c->aliases, local, domain) : NULL;

    if (found == NULL && (domain.n == 0 || is_local(c, domain)))
        found = access_lookup(&c->aliases, local, STR(""));
    return found;
}

/* For postmaster the option says more than an /etc/aliases that came with the system, and less than the address spelt out. */
static const struct conf_alias *postmaster(const struct conf *c, const struct address *addr)
{
    const struct conf_alias *found = access_lookup(&c->aliases, addr->local, addr->domain);
    bool here = addr->domain.n == 0 || map_str_get(&c->relay_domains, addr->domain) == NULL;

    if (addr->domain.n > 0 && found != NULL)
        return found;
    return here && c->postmaster_alias != NULL ? c->postmaster_alias : lookup(c, addr->local, addr->domain);
}

const struct conf_alias *alias_of(const struct conf *c, const struct address *addr)
{
    struct str user;

    if (!alias_is_ours(c, addr))
        return NULL;
    if (address_is_postmaster(addr))
        return postmaster(c, addr);
    const struct conf_alias *found = lookup(c, addr->local, addr->domain);
    if (found != NULL || access_is_route(addr->local) || !access_split_detail(c, addr->local, &user))
        return found;
    if (c->have_users_file && is_local(c, addr->domain) && access_user(c, addr).n == addr->local.n)
        return NULL;
    return lookup(c, user, addr->domain);
}

const struct conf_alias *alias_catch_all(const struct conf *c, const struct address *addr)
{
    if (addr->domain.n == 0 || access_is_route(addr->local))
        return NULL;
    return access_lookup(&c->aliases, STR(""), addr->domain);
}

static struct str home(const struct conf *c)
{
    struct str domain = str_of(c->hostname);
    size_t cursor = 0;
    void *value;

    if (is_local(c, domain))
        return domain;
    return c->local_domains.used == 1 && map_str_next(&c->local_domains, &cursor, &domain, &value) ? domain : STR("");
}

/* A user, or an alias by another than the one that leads here. */
static bool is_known(const struct conf *c, const struct conf_alias *alias, const struct address *addr)
{
    const struct conf_alias *next = alias_of(c, addr);

    return (next != NULL && next != alias) || access_rcpt(c, true, addr) != ACCESS_UNKNOWN_USER;
}

struct address alias_target(const struct conf *c, const struct conf_alias *alias, const struct conf_target *target, const struct address *of)
{
    struct address addr = target->addr;

    if (addr.domain.n > 0)
        return addr;
    addr.domain = is_local(c, of->domain) ? of->domain : STR("");
    struct str ours = addr.domain.n > 0 && is_known(c, alias, &addr) ? STR("") : home(c);
    if (ours.n > 0)
        addr.domain = ours;
    return addr;
}

const struct conf_alias *alias_rewrite(const struct map_str *table, const struct address *addr, struct address *out)
{
    if (table->used == 0 || addr->domain.n == 0)
        return NULL;
    const struct conf_alias *found = access_lookup(table, addr->local, addr->domain);
    if (found == NULL && !access_is_route(addr->local))
        found = access_lookup(table, STR(""), addr->domain);
    if (found == NULL)
        return NULL;
    struct address target = found->targets[0].addr;
    if (target.local.n == 0) {
        target = *addr;
        target.domain = found->targets[0].addr.domain;
    }
    *out = target;
    return found;
}
