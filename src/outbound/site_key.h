/*
 * The name of a site: the address that we send from, and the fingerprint of the servers that receive. Pure.
 *
 * A thousand domains at one provider have one limit there, so what counts is who receives for them: the set of their MX hosts, in whatever
 * order and case, or the provider's name where the table of refusals knows them (some give each customer hosts of its own).
 */
#ifndef OUTBOUND_SITE_KEY_H
#define OUTBOUND_SITE_KEY_H

#include "outbound/refusal.h"

#define SITE_KEY_HOSTS_MAX 64                    /* looked at */
#define SITE_KEY_LEN_MAX   400

/* Appends "192.0.2.1 provider:google", or "192.0.2.1 mx:mx1.b.example+1:" and 32 hexadecimal digits. At least one host. */
void site_key_put(struct buf *out, struct str source, const struct refusal_provider *provider, const struct str *hosts, size_t count);

#endif
