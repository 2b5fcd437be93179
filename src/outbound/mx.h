/*
 * The servers of a destination: MX records and their addresses, in the order to try (RFC 5321, 5.1).
 */
#ifndef OUTBOUND_MX_H
#define OUTBOUND_MX_H

#include "base/arena.h"
#include "conf/conf.h"
#include "outbound/outcome.h"
#include "policy/route.h"
#include "run/net.h"

#define MX_HOSTS_MAX     20              /* of a destination; further ones are not tried */
#define MX_ADDRESSES_MAX 32              /* of all its hosts together */

struct mx_address {
    struct net_addr addr;
    struct str      host;
};

struct mx_list {
    struct mx_address *items;            /* in the arena; in the order to try */
    size_t             count;
    bool               secure;           /* the names of the hosts are the domain's for sure: by DNSSEC, or by our own configuration */
};

enum mx_status {
    MX_FOUND,
    MX_FAILED,                           /* *out_failure: no such domain, null MX, we ourselves (for good); or DNS cannot say now (deferred) */
    MX_CANCELED,
};

/* Awaits DNS. route is MX (a domain or an address literal), HOST or LMTP. */
enum mx_status mx_lookup(struct arena *a, const struct conf *conf, const struct route *route, struct mx_list *out,
                         struct outcome *out_failure);

#endif
