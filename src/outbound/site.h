/*
 * Sites: what we know of a destination, the slots we allow ourselves there, and the connections kept open to it.
 *
 * A site is named by its route. A delivery enters it (waiting for a slot), uses a connection, and leaves it; the connection stays for the
 * next one for a while. To a site where no connection was made yet one delivery goes ahead, and the others follow when it has one; a site to
 * which nothing could connect is down for a time: one probe is enough.
 */
#ifndef OUTBOUND_SITE_H
#define OUTBOUND_SITE_H

#include "outbound/client.h"
#include "outbound/outcome.h"
#include "policy/route.h"

#define SITES_DOWN_MAX 20000             /* dead ones remembered (1 KiB each); with more, each delivery finds out for itself */

struct sites;
struct site;

struct sites *sites_new(void);                                /* NULL without memory */
void          sites_free(struct sites *s);                    /* closes idle connections; awaits shortly; nobody may be inside */
size_t        sites_count(const struct sites *s);             /* known now: in use, with a kept connection, or down */

/* Awaits a slot. *out_client: a connection that was kept and made under this configuration, or NULL. 0, -ECANCELED, -ENOMEM; -EBUSY: many
 * wait already and this site has not answered anybody yet; come back later, and leave the room to deliveries that get somewhere. */
int  site_enter(struct sites *s, const struct route *route, const struct conf *conf, struct site **out, struct client **out_client);
/* Gives the slot back, and the connection for others to use if it is good for more. Awaits shortly when it closes one. c may be NULL. */
void site_leave(struct site *site, struct client *c);

/* True, with the outcome of the probe, while the site is down. */
bool site_is_down(const struct site *site, struct arena *a, struct outcome *out);
void site_set_down(struct site *site, const struct outcome *why, int64_t for_ns);
void site_set_up(struct site *site);

/* A server there offered BDAT and does not know it: for an hour its texts go by DATA; for a minute, if there are too many sites. */
void site_set_by_data(struct site *site);
bool site_is_by_data(const struct site *site);

#endif
