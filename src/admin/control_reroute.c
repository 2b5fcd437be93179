/*
 * "queue.reroute" of the control socket: other recipients, or another way to them. With a filter only those recipients of a message are
 * meant who fulfil it; with an id, all that are pending.
 */
#include "admin/control.h"
#include "admin/control_internal.h"
#include "admin/rights.h"
#include "base/map.h"
#include "conf/conf.h"
#include <errno.h>
#include <string.h>

#define MEMORY_MAX (64 * 1024 * 1024)

struct reroute {
    struct str     via;                           /* .p is NULL: they go the way they went; empty: the usual one */
    struct address to;                            /* null: to whom they went */
    bool           any_local;                     /* "*@domain": the local part stays */
};

static struct str text_of(const json_t *request, const char *key)
{
    const json_t *value = json_object_get(request, key);
    return (struct str){ json_string_value(value), json_string_length(value) };
}

/* In the arena. NULL, or what is wrong. */
static const char *read_wish(struct arena *a, const json_t *request, struct reroute *out)
{
    struct str via = text_of(request, "via"), to = text_of(request, "to");

    if (via.p == NULL && to.p == NULL)
        return "it says neither where to nor to whom";
    if (via.n > 0 && (via.n > ENVELOPE_NEXT_HOP_MAX || !conf_is_next_hop(a, via)))
        return "the next hop is not \"host\", \"host:port\", \"[ip]\" or \"[ip]:port\"";
    if (to.p != NULL && !address_parse_with(a, to, ADDRESS_UTF8, &out->to))
        return "the recipient is no address";
    out->via = via.n > 0 ? str_lower(a, via) : via;
    out->any_local = str_eq(out->to.local, STR("*"));
    return NULL;
}

/* A port behind the sandbox's walls would only be found out by each delivery. */
static bool is_reachable(struct str via)
{
    struct rights rights;
    ssize_t colon = str_find_last(via, ':');
    uint64_t port;

    if (via.n == 0 || colon < str_find_last(via, ']') || colon < 0 || !str_to_u64(str_from(via, (size_t)colon + 1), 65535, &port))
        return true;                              /* the usual one */
    struct conf *c = conf_current();
    bool reachable = !c->sandbox || (rights_of(c, "", &rights) == 0 && rights_have_port(&rights, (uint16_t)port));
    if (c->sandbox)
        rights_free(&rights);
    conf_unref(c);
    return reachable;
}

json_t *control_reroute_check(const json_t *request)
{
    struct reroute how = { 0 };
    struct arena arena;

    arena_init(&arena, 64 * 1024);
    const char *wrong = read_wish(&arena, request, &how);
    if (wrong == NULL && !is_reachable(how.via))
        wrong = "the server may not connect to that port: add it to reroute_ports";
    arena_reset(&arena);
    return wrong != NULL ? control_refuse(str_of(wrong)) : NULL;
}

/* Awaits. Which recipients are meant, in the arena. */
static int find_meant(struct queue *q, uint64_t id, const struct control_wish *wish, struct arena *a, bool **out)
{
    struct queue_details d;
    int r = queue_show(q, id, a, &d);

    if (r < 0)
        return r;
    bool *meant = arena_array(a, d.env.rcpt_count, sizeof *meant);
    if (meant == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < d.env.rcpt_count; i++)
        meant[i] = wish->filter == NULL || filter_match_rcpt(wish->filter, &d, i, wish->now_wall_ns);
    *out = meant;
    return 0;
}

/* The address that the sender knows stays known; a promise about the mailbox of old is none about another (RFC 7293). */
static int set_address(struct claim *c, struct recipient *rcpt, const struct reroute *how)
{
    struct str local = how->any_local ? rcpt->addr.local : how->to.local;
    struct address to;

    if (!address_of_parts(str_copy(&c->arena, local), str_copy(&c->arena, how->to.domain), &to))
        return -ENOMEM;                           /* both parts were good */
    if (to.utf8 && !c->env.smtputf8)
        return -EPROTOTYPE;
    if (address_eq(&to, &rcpt->addr))
        return 0;
    if (address_is_null(&rcpt->rewritten_from))
        rcpt->rewritten_from = rcpt->addr;
    rcpt->addr = to;
    rcpt->rrvs_ns = 0;
    return 0;
}

static int change_recipient(struct claim *c, struct recipient *rcpt, const struct reroute *how)
{
    if (how->via.p != NULL)
        rcpt->next_hop = str_copy(&c->arena, how->via);
    int r = address_is_null(&how->to) ? 0 : set_address(c, rcpt, how);
    return arena_failed(&c->arena) ? -ENOMEM : r;
}

/* Ends those of the pending recipients, the meant or the others, whose address is there already, and adds the others'. */
static int end_doubles(struct claim *c, const bool *meant, bool which, struct map_str *there)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < c->env.rcpt_count; i++) {
        if (meant[i] != which || c->states[i] != RCPT_PENDING)
            continue;
        struct str key = address_key(&c->arena, &c->env.rcpts[i].addr);
        if (key.p == NULL)
            return -ENOMEM;
        if (map_str_get(there, key) == NULL)
            r = map_str_put(there, key, c);
        else if (which)
            c->states[i] = RCPT_DISCARDED;
    }
    return r;
}

/* One copy is enough for an address, however many led to it. */
static int keep_one_each(struct claim *c, const bool *meant)
{
    struct map_str there;

    map_str_init(&there);
    int r = end_doubles(c, meant, false, &there);
    if (r == 0)
        r = end_doubles(c, meant, true, &there);
    map_str_free(&there);
    return r;
}

/* *out_some: was there anybody left to be changed? */
static int change_recipients(struct claim *c, const bool *meant, const struct reroute *how, bool *out_some)
{
    *out_some = false;
    for (size_t i = 0; i < c->env.rcpt_count; i++) {
        if (!meant[i] || c->states[i] != RCPT_PENDING)
            continue;
        int r = change_recipient(c, &c->env.rcpts[i], how);
        if (r < 0)
            return r;
        *out_some = true;
    }
    return address_is_null(&how->to) ? 0 : keep_one_each(c, meant);
}

/* Awaits; gives the claim back. */
static int reroute_claimed(struct claim *c, const bool *meant, const struct reroute *how)
{
    bool some;
    int r = change_recipients(c, meant, how, &some);

    if (r == 0 && some)
        return queue_reroute(c, &c->env, c->states);
    queue_give_back(c);
    return r;
}

int control_reroute(struct queue *q, uint64_t id, const struct control_wish *wish)
{
    struct reroute how = { 0 };
    struct arena arena;
    struct claim *c;
    bool *meant;

    arena_init(&arena, MEMORY_MAX);
    int r = read_wish(&arena, wish->request, &how) == NULL ? find_meant(q, id, wish, &arena, &meant) : -ENOMEM;
    if (r == 0)
        r = queue_claim_one(q, id, &c);
    if (r == 0)
        r = reroute_claimed(c, meant, &how);
    arena_reset(&arena);
    return r;
}
