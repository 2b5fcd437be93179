/*
 * Destinations: from a route to the site that it belongs to.
 *
 * A domain's site is that of its MX hosts, which its first delivery finds out: until then the domain is a site by itself, by name, where one
 * goes ahead. What was found out is remembered for a while. Nothing here waits.
 */
#ifndef OUTBOUND_DESTINATION_H
#define OUTBOUND_DESTINATION_H

#include "conf/conf.h"
#include "mail/envelope.h"
#include "outbound/mx.h"
#include "outbound/site_key.h"
#include "policy/route.h"

#define DESTINATION_KEY_MAX 1024
#define DESTINATIONS_MAX    50000        /* domains remembered; with more, all are forgotten and found out again */

struct destinations {
    struct map_str by_domain;            /* owned */
};

/* Where one message goes by a route. */
struct destination {
    struct str                     site; /* its key, in memory */
    const struct refusal_provider *provider;     /* or NULL */
    bool                           by_name;      /* the servers are not known yet */
    bool                           local;        /* a Maildir */
    char                           memory[DESTINATION_KEY_MAX];
};

void destinations_init(struct destinations *d);
void destinations_free(struct destinations *d);
void destinations_forget(struct destinations *d);             /* all of them: providers are called otherwise, say */

void destination_of(const struct destinations *d, const struct conf *conf, const struct route *route, const struct envelope *env,
                    int64_t now_ns, struct destination *out);
bool destination_is_by_name(struct str site);
/* The servers of an MX route, found just now. Without memory they are not remembered, and found out once more. */
void destinations_learn(struct destinations *d, const struct route *route, const struct refusals *refusals, const struct mx_list *list,
                        int64_t now_ns);
void destinations_unlearn(struct destinations *d, const struct route *route);

uint64_t destination_route_hash(const struct route *route);   /* equal for those that route_cmp calls equal */

#endif
