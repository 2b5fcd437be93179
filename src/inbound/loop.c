/*
 * Mail that goes round: see loop.h. Runs in the worker, in the session's task.
 *
 * A mailbox writes Delivered-To above what it keeps (outbound/local.c), so only there it is proof; elsewhere it may be another server's, or
 * anybody's word about a mailbox that is not ours.
 */
#include "inbound/loop.h"
#include "mail/trace.h"
#include "policy/route.h"

#define ARENA_MAX 8192                   /* for one address and its route */

void loop_begin(struct loop *l)
{
    l->received.name = "received";
    l->delivered.name = "delivered-to";
    l->delivered.values = &l->mailboxes;
    buf_init(&l->mailboxes, LOOP_MAILBOXES_MAX);
}

void loop_free(struct loop *l) { buf_free(&l->mailboxes); }

struct reply loop_see(struct loop *l, const struct conf *c, struct str fields)
{
    field_watch(&l->received, fields);
    field_watch(&l->delivered, fields);
    if (l->received.count > c->received_max)         /* RFC 5321, 6.3 */
        return reply(554, "5.4.6", "A mail loop: this message has been through too many hosts");
    if (!buf_ok(&l->mailboxes))
        return reply(554, "5.4.6", "A mail loop: this message has been through too many mailboxes");
    return reply(0, NULL, NULL);
}

static bool is_our_mailbox(struct arena *a, const struct conf *c, const struct address *addr)
{
    struct route route;
    return route_for(a, c, addr, &route) == 0 && route.kind == ROUTE_LOCAL;
}

static bool had_it(struct arena *a, const struct conf *c, struct str value, const struct recipient *rcpts, size_t rcpt_count)
{
    struct address addr;

    if (!trace_parse_delivered_to(a, value, &addr))
        return false;
    for (size_t i = 0; i < rcpt_count; i++)
        if (address_eq(&addr, &rcpts[i].addr) && is_our_mailbox(a, c, &addr))
            return true;
    return false;
}

struct reply loop_of_mailboxes(const struct loop *l, const struct conf *c, const struct recipient *rcpts, size_t rcpt_count)
{
    struct arena a;
    struct str line, rest = buf_str(&l->mailboxes);
    bool had = false;

    arena_init(&a, ARENA_MAX);
    while (!had && rest.n > 0) {
        (void)str_cut(rest, '\n', &line, &rest);
        had = had_it(&a, c, line, rcpts, rcpt_count);
        arena_reset(&a);
    }
    return had ? reply(554, "5.4.6", "A mail loop: this message has been in that mailbox already") : reply(0, NULL, NULL);
}
