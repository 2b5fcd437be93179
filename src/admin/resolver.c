/*
 * From the configuration's words to run/dns's; see resolver.h. Runs in the worker and in lookup.
 */
#include "admin/resolver.h"
#include "run/dns.h"

int resolver_start(const struct conf *c, char error[256])
{
    struct dns_options options = {
        .forwarders = c->dns_forwarders,
        .zone_files = c->dns_zone_files,
        .trust_anchor_file = c->dns_trust_anchor[0] != '\0' ? c->dns_trust_anchor : NULL,
        .resolv_conf = c->resolv_conf[0] != '\0' ? c->resolv_conf : NULL,
    };

    return dns_start(&options, error);
}
