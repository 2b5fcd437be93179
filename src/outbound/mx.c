/*
 * MX lookup: see mx.h.
 *
 * Preference order, equals shuffled (RFC 5321, 5.1); without MX the domain's own address (implicit MX); "." means that the
 * domain takes no mail (RFC 7505). We never go to ourselves or to anything less preferred than ourselves.
 */
#include "outbound/mx.h"
#include "base/clock.h"
#include "mail/domain.h"
#include "run/dns.h"
#include <errno.h>
#include <stdlib.h>

#define DNS_WAIT_NS (30 * NS_PER_S)

struct host {
    uint16_t   preference;
    uint64_t   shuffle;
    struct str name;
};

static enum mx_status fail(struct outcome *out, enum rcpt_state state, const char *status, const char *text)
{
    *out = outcome_of_ours(state, status, text);
    return MX_FAILED;
}

static enum mx_status dns_error(int r, struct outcome *out)
{
    if (r == -ECANCELED)
        return MX_CANCELED;
    return fail(out, RCPT_PENDING, "4.4.3", "the domain name system gave no answer in time");
}

/* -- addresses of one host --------------------------------------------------------------------------------------------- */

/* Awaits; appends what it finds. A negative errno only for those that end the whole lookup; *out_unsure when an answer could not be had. */
static int add_addresses(struct arena *a, struct str host, enum dns_type type, uint16_t port, struct mx_list *list, bool *out_unsure)
{
    struct dns_answer answer;
    int r = dns_query(a, host, type, task_deadline_in(DNS_WAIT_NS), &answer);
    if (r == -ETIMEDOUT)
        *out_unsure = true;
    if (r < 0)
        return r == -ETIMEDOUT ? 0 : r;
    switch (answer.status) {
    case DNS_FOUND: break;
    case DNS_NO_DATA: case DNS_NO_NAME: return 0;
    case DNS_SERVFAIL: case DNS_BOGUS:
        *out_unsure = true;
        return 0;
    }
    for (size_t i = 0; i < answer.count && list->count < MX_ADDRESSES_MAX; i++) {
        struct mx_address *item = &list->items[list->count++];
        net_addr_from_ip(answer.records[i].ip, type == DNS_A ? 4 : 16, port, &item->addr);
        item->host = host;
    }
    return 0;
}

static int add_host(struct arena *a, struct str host, uint16_t port, struct mx_list *list, bool *out_unsure)
{
    int r = add_addresses(a, host, DNS_AAAA, port, list, out_unsure);
    return r < 0 ? r : add_addresses(a, host, DNS_A, port, list, out_unsure);
}

static enum mx_status resolve_hosts(struct arena *a, const struct host *hosts, size_t count, uint16_t port, struct mx_list *list,
                                    struct outcome *out_failure)
{
    bool unsure = false;
    list->count = 0;
    list->items = arena_array(a, MX_ADDRESSES_MAX, sizeof(*list->items));
    if (list->items == NULL)
        return fail(out_failure, RCPT_PENDING, "4.3.0", "out of memory");
    for (size_t i = 0; i < count && i < MX_HOSTS_MAX; i++) {
        int r = add_host(a, hosts[i].name, port, list, &unsure);
        if (r < 0)
            return dns_error(r, out_failure);
    }
    if (list->count > 0)
        return MX_FOUND;
    if (unsure)
        return fail(out_failure, RCPT_PENDING, "4.4.3", "the addresses of the domain's mail servers cannot be found now");
    return fail(out_failure, RCPT_BOUNCED, "5.4.4", "none of the domain's mail servers has an address");
}

/* -- destinations -------------------------------------------------------------------------------------------------------- */

static enum mx_status literal(struct arena *a, struct str text, uint16_t port, struct mx_list *list, struct outcome *out_failure)
{
    list->items = arena_array(a, 1, sizeof(*list->items));
    if (list->items == NULL)
        return fail(out_failure, RCPT_PENDING, "4.3.0", "out of memory");
    if (!net_addr_parse(domain_literal_ip(text), port, &list->items[0].addr))
        return fail(out_failure, RCPT_BOUNCED, "5.1.2", "the domain is no address that one can connect to");
    net_addr_set_port(&list->items[0].addr, port);
    list->items[0].host = text;
    list->count = 1;
    return MX_FOUND;
}

static int by_preference(const void *pa, const void *pb)
{
    const struct host *a = pa, *b = pb;
    if (a->preference != b->preference)
        return a->preference < b->preference ? -1 : 1;
    return a->shuffle < b->shuffle ? -1 : a->shuffle > b->shuffle;
}

/* Cut the sorted list before ourselves: an equally or less preferred server would only give it back to us (RFC 5321, 5.1). */
static size_t before_ourselves(const struct conf *conf, const struct host *hosts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!str_eq_nocase(hosts[i].name, str_of(conf->hostname)))
            continue;
        size_t keep = 0;
        while (hosts[keep].preference < hosts[i].preference)
            keep++;
        return keep;
    }
    return count;
}

static enum mx_status by_records(struct arena *a, const struct conf *conf, const struct dns_answer *answer, struct mx_list *list,
                                 struct outcome *out_failure)
{
    if (answer->count == 1 && answer->records[0].name.n == 0)
        return fail(out_failure, RCPT_BOUNCED, "5.1.10", "the domain accepts no mail (null MX)");   /* RFC 7505, 4.2 */
    struct host *hosts = arena_array(a, answer->count, sizeof(*hosts));
    if (hosts == NULL)
        return fail(out_failure, RCPT_PENDING, "4.3.0", "out of memory");
    size_t count = 0;
    for (size_t i = 0; i < answer->count; i++)
        if (answer->records[i].name.n > 0)
            hosts[count++] = (struct host){ answer->records[i].preference, clock_random_u64(), answer->records[i].name };
    qsort(hosts, count, sizeof(*hosts), by_preference);
    count = before_ourselves(conf, hosts, count);
    if (count == 0)
        return fail(out_failure, RCPT_BOUNCED, "5.4.6", "the domain's mail comes to this server, which does not know it as its own");
    return resolve_hosts(a, hosts, count, conf->smtp_port, list, out_failure);
}

static enum mx_status by_domain(struct arena *a, const struct conf *conf, struct str domain, struct mx_list *list,
                                struct outcome *out_failure)
{
    struct dns_answer answer;
    int r = dns_query(a, domain, DNS_MX, task_deadline_in(DNS_WAIT_NS), &answer);
    if (r < 0)
        return dns_error(r, out_failure);
    switch (answer.status) {
    case DNS_FOUND: return by_records(a, conf, &answer, list, out_failure);
    case DNS_NO_DATA: {                                       /* implicit MX: the domain itself (RFC 5321, 5.1) */
        if (str_eq_nocase(domain, str_of(conf->hostname)))
            return fail(out_failure, RCPT_BOUNCED, "5.4.6", "the domain is this server, which does not know it as its own");
        struct host self = { .name = domain };
        enum mx_status status = resolve_hosts(a, &self, 1, conf->smtp_port, list, out_failure);
        if (status == MX_FAILED && out_failure->state == RCPT_BOUNCED)
            return fail(out_failure, RCPT_BOUNCED, "5.4.4", "the domain has neither a mail server nor an address");
        return status;
    }
    case DNS_NO_NAME:  return fail(out_failure, RCPT_BOUNCED, "5.1.2", "the domain does not exist");
    case DNS_BOGUS:    return fail(out_failure, RCPT_PENDING, "4.7.0", "the domain's DNS answers fail DNSSEC validation");
    case DNS_SERVFAIL: break;
    }
    return fail(out_failure, RCPT_PENDING, "4.4.3", "the domain's mail servers cannot be found now");
}

enum mx_status mx_lookup(struct arena *a, const struct conf *conf, const struct route *route, struct mx_list *out,
                         struct outcome *out_failure)
{
    if (route->kind == ROUTE_HOST) {
        struct host host = { .name = route->host };
        if (domain_is_literal(route->host))
            return literal(a, route->host, route->port, out, out_failure);
        enum mx_status status = resolve_hosts(a, &host, 1, route->port, out, out_failure);
        if (status == MX_FAILED)                              /* a mistake in our configuration, say, is no reason to bounce the world's mail */
            out_failure->state = RCPT_PENDING, out_failure->status = STR("4.4.4");
        return status;
    }
    if (domain_is_literal(route->domain))
        return literal(a, route->domain, conf->smtp_port, out, out_failure);
    return by_domain(a, conf, route->domain, out, out_failure);
}
