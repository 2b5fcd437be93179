/*
 * How much TLS a destination is asked for, by its domain: outbound_tls_by_domain, and for all others outbound_tls. Pure.
 */
#ifndef CONF_TLS_LEVEL_H
#define CONF_TLS_LEVEL_H

#include "conf/conf.h"

/* "b.example" or ".b.example", for whatever is below it, as the map's key. False with a reason in why. */
bool tls_level_key(struct conf *c, struct str name, struct str *out, struct buf *why);

/* What is said of the domain itself, or else of the nearest above it. domain is in the form of the maps, or an address literal. */
enum conf_client_tls tls_level_of(const struct conf *c, struct str domain);

/* Does an entry of outbound_tls_by_domain say it? */
bool tls_level_is_named(const struct conf *c, struct str domain);

const char *tls_level_word(enum conf_client_tls level);      /* as the configuration says it */

#endif
