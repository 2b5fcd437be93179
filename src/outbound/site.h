/*
 * Sites: the connections kept open to a destination, its last words, and that its text goes by DATA.
 *
 * A site is named by its key (destination.h). When one may be entered is the schedule's affair (line.h). A delivery enters it, uses a
 * connection, and leaves it; the connection stays for the next one for a while.
 */
#ifndef OUTBOUND_SITE_H
#define OUTBOUND_SITE_H

#include "outbound/client.h"
#include "outbound/outcome.h"
#include "policy/route.h"

#define SITES_WORDS_MAX 20000            /* sites whose words are remembered (1 KiB each) */

struct sites;
struct site;

struct sites *sites_new(void);                                /* NULL without memory */
void          sites_free(struct sites *s);                    /* closes idle connections; awaits shortly; nobody may be inside */
size_t        sites_count(const struct sites *s);             /* known now: in use, with a kept connection, or down */

/* *out_client: a connection that was kept and made under this configuration, or NULL. Awaits when it closes others. 0, -ENOMEM. */
int  site_enter(struct sites *s, struct str key, const struct conf *conf, struct site **out, struct client **out_client);
/* Gives the connection for others to use, if it is good for more. Awaits shortly when it closes one. c may be NULL. */
void site_leave(struct site *site, struct client *c);

/* What it said, or did not say, when it was tried in vain; kept so long. */
void site_keep_words(struct site *site, const struct outcome *why, int64_t for_ns);
bool site_has_words(const struct sites *s, struct str key);
/* The outcome of those who are not even tried there. */
void site_words(const struct sites *s, struct str key, struct arena *a, struct outcome *out);

/* A server there offered BDAT and does not know it: for an hour its texts go by DATA; for a minute, if there are too many sites. */
void site_set_by_data(struct site *site);
bool site_is_by_data(const struct site *site);

#endif
