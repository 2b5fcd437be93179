/*
 * What an address is another name for: one step, by the tables of the snapshot. Pure. The whole way is policy/expand.h's.
 */
#ifndef POLICY_ALIAS_H
#define POLICY_ALIAS_H

#include "conf/conf.h"
#include "mail/address.h"

/* The alias of an address at a domain we serve, or NULL. In this order: user+detail@domain, user+detail, user@domain, user; those without a
 * domain only at local domains, and the last two not where user+detail is listed as a user. Of postmaster: postmaster@domain, the option of
 * that name, postmaster. */
const struct conf_alias *alias_of(const struct conf *c, const struct address *addr);

/* The alias "@domain", for an address that is nobody's; NULL: none. */
const struct conf_alias *alias_catch_all(const struct conf *c, const struct address *addr);

/* A target of `of`'s alias as an address, made of views. A local name is one of the domain it was asked at, if that is local and the name known
 * there (without users_file every name is); else of our own: hostname, or the only local domain; it stays without domain where neither tells. */
struct address alias_target(const struct conf *c, const struct conf_alias *alias, const struct conf_target *target, const struct address *of);

/* c->recipient_rewrites or c->sender_rewrites: the rewriting of an address, by itself or by "@domain", or NULL, *out untouched. *out is
 * made of views. What looks like a route is never moved to another domain as a whole. */
const struct conf_alias *alias_rewrite(const struct map_str *table, const struct address *addr, struct address *out);

/* Local, virtual or backup domain, or <postmaster> without one. */
bool alias_is_ours(const struct conf *c, const struct address *addr);

#endif
