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

#define LOOKUP_NS (60 * NS_PER_S)        /* for all questions about one destination: twenty hosts, each slow, hold a delivery no longer */

struct host {
    uint16_t   preference;
    uint64_t   shuffle;
    struct str name;
};

struct lookup {
    struct arena   *a;
    uint16_t        port;
    int64_t         deadline_ns;
    bool            unsure;              /* an answer could not be had */
    struct mx_list *list;
    struct outcome *failure;
};

static enum mx_status fail(struct lookup *l, enum rcpt_state state, const char *status, const char *text)
{
    *l->failure = outcome_of_ours(state, status, text);
    return MX_FAILED;
}

static enum mx_status fail_without_memory(struct lookup *l)
{
    return fail(l, RCPT_PENDING, "4.3.0", "out of memory");
}

static enum mx_status dns_error(struct lookup *l, int r)
{
    if (r == -ECANCELED)
        return MX_CANCELED;
    return fail(l, RCPT_PENDING, "4.4.3", "the domain name system gave no answer in time");
}

/* -- addresses of one host --------------------------------------------------------------------------------------------- */

/* Awaits; appends what it finds. A negative errno only for those that end the whole lookup. */
static int add_addresses(struct lookup *l, struct str host, enum dns_type type)
{
    struct dns_answer answer;
    int r = dns_query(l->a, host, type, l->deadline_ns, &answer);
    l->unsure |= r == -ETIMEDOUT;
    if (r < 0)
        return r == -ETIMEDOUT ? 0 : r;
    switch (answer.status) {
    case DNS_FOUND: break;
    case DNS_NO_DATA: case DNS_NO_NAME: return 0;
    case DNS_SERVFAIL: case DNS_BOGUS:
        l->unsure = true;
        return 0;
    }
    for (size_t i = 0; i < answer.count && l->list->count < MX_ADDRESSES_MAX; i++) {
        struct mx_address *item = &l->list->items[l->list->count++];
        net_addr_from_ip(answer.records[i].ip, type == DNS_A ? 4 : 16, l->port, &item->addr);
        item->host = host;
    }
    return 0;
}

static int add_host(struct lookup *l, struct str host)
{
    int r = add_addresses(l, host, DNS_AAAA);
    return r < 0 ? r : add_addresses(l, host, DNS_A);
}

static enum mx_status resolve_hosts(struct lookup *l, const struct host *hosts, size_t count)
{
    l->list->count = 0;
    l->list->items = arena_array(l->a, MX_ADDRESSES_MAX, sizeof(*l->list->items));
    if (l->list->items == NULL)
        return fail_without_memory(l);
    for (size_t i = 0; i < count && i < MX_HOSTS_MAX && clock_mono_ns() < l->deadline_ns; i++) {
        int r = add_host(l, hosts[i].name);
        if (r < 0)
            return dns_error(l, r);
    }
    if (l->list->count > 0)
        return MX_FOUND;
    if (l->unsure)
        return fail(l, RCPT_PENDING, "4.4.3", "the addresses of the domain's mail servers cannot be found now");
    return fail(l, RCPT_BOUNCED, "5.4.4", "none of the domain's mail servers has an address");
}

/* -- destinations -------------------------------------------------------------------------------------------------------- */

static enum mx_status literal(struct lookup *l, struct str text)
{
    l->list->items = arena_array(l->a, 1, sizeof(*l->list->items));
    if (l->list->items == NULL)
        return fail_without_memory(l);
    if (!net_addr_parse(domain_literal_ip(text), l->port, &l->list->items[0].addr))
        return fail(l, RCPT_BOUNCED, "5.1.2", "the domain is no address that one can connect to");
    net_addr_set_port(&l->list->items[0].addr, l->port);
    l->list->items[0].host = text;
    l->list->count = 1;
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

static enum mx_status by_records(struct lookup *l, const struct conf *conf, const struct dns_answer *answer)
{
    struct host *hosts = arena_array(l->a, answer->count, sizeof(*hosts));
    if (hosts == NULL)
        return fail_without_memory(l);
    size_t count = 0;
    for (size_t i = 0; i < answer->count; i++)
        if (answer->records[i].name.n > 0)
            hosts[count++] = (struct host){ answer->records[i].preference, clock_random_u64(), answer->records[i].name };
    if (count == 0)                                           /* RFC 7505, 4.2 */
        return fail(l, RCPT_BOUNCED, "5.1.10", "the domain accepts no mail (null MX)");
    qsort(hosts, count, sizeof(*hosts), by_preference);
    count = before_ourselves(conf, hosts, count);
    if (count == 0)
        return fail(l, RCPT_BOUNCED, "5.4.6", "the domain's mail comes to this server, which does not know it as its own");
    return resolve_hosts(l, hosts, count);
}

/* Implicit MX: the domain itself (RFC 5321, 5.1). */
static enum mx_status by_address(struct lookup *l, const struct conf *conf, struct str domain)
{
    struct host self = { .name = domain };
    if (str_eq_nocase(domain, str_of(conf->hostname)))
        return fail(l, RCPT_BOUNCED, "5.4.6", "the domain is this server, which does not know it as its own");
    enum mx_status status = resolve_hosts(l, &self, 1);
    if (status == MX_FAILED && l->failure->state == RCPT_BOUNCED)
        return fail(l, RCPT_BOUNCED, "5.4.4", "the domain has neither a mail server nor an address");
    return status;
}

static enum mx_status by_domain(struct lookup *l, const struct conf *conf, struct str domain)
{
    struct dns_answer answer;
    int r = dns_query(l->a, domain, DNS_MX, l->deadline_ns, &answer);
    if (r < 0)
        return dns_error(l, r);
    l->list->secure = answer.secure;
    switch (answer.status) {
    case DNS_FOUND:    return by_records(l, conf, &answer);
    case DNS_NO_DATA:  return by_address(l, conf, domain);
    case DNS_NO_NAME:  return fail(l, RCPT_BOUNCED, "5.1.2", "the domain does not exist");
    case DNS_BOGUS:    return fail(l, RCPT_PENDING, "4.7.0", "the domain's DNS answers fail DNSSEC validation");
    case DNS_SERVFAIL: break;
    }
    return fail(l, RCPT_PENDING, "4.4.3", "the domain's mail servers cannot be found now");
}

static enum mx_status by_host(struct lookup *l, struct str name)
{
    struct host host = { .name = name };
    if (domain_is_literal(name))
        return literal(l, name);
    enum mx_status status = resolve_hosts(l, &host, 1);
    if (status == MX_FAILED)                                  /* a mistake in our configuration, say, is no reason to bounce the world's mail */
        l->failure->state = RCPT_PENDING, l->failure->status = STR("4.4.4");
    return status;
}

enum mx_status mx_lookup(struct arena *a, const struct conf *conf, const struct route *route, struct mx_list *out,
                         struct outcome *out_failure)
{
    struct lookup l = { .a = a, .port = conf->smtp_port, .deadline_ns = task_deadline_in(LOOKUP_NS), .list = out, .failure = out_failure };
    out->secure = false;
    if (route->kind != ROUTE_MX) {
        l.port = route->port;
        out->secure = true;
        return by_host(&l, route->host);
    }
    return domain_is_literal(route->domain) ? literal(&l, route->domain) : by_domain(&l, conf, route->domain);
}
