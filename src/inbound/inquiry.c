/*
 * EXPN (RFC 5321, 3.5) and ETRN (RFC 1985). Runs in the worker, in the session's task.
 *
 * The names behind an alias are for logins and trusted clients. ETRN is for listed clients and relay domains, so often an hour; it
 * looks through the queue, so far and so long as is named here.
 */
#include "inbound/inquiry.h"
#include "base/rate.h"
#include "inbound/extension.h"
#include "inbound/session_internal.h"
#include "mail/domain.h"
#include "policy/alias.h"

#define ETRN_PER_HOUR  60                /* of one client */
#define ETRN_PAGE      100               /* messages listed at a time */
#define ETRN_LOOK_MAX  20000             /* messages looked at */
#define ETRN_LOOK_NS   (30 * NS_PER_S)   /* clients wait so long for a reply at least (RFC 5321, 4.5.3.2) */
#define DETAILS_MEMORY (16 * 1024 * 1024)

/* -- EXPN -------------------------------------------------------------------------------------------------------------------- */

bool inquiry_offers_expn(const struct session *s) { return (s->trusted || s->authenticated) && !session_is_lmtp(s); }

/* A line for each, as far as the reply holds them. False: it does not. */
static bool put_targets(const struct session *s, const struct conf_alias *alias, const struct address *of, struct buf *out, bool *out_utf8)
{
    *out_utf8 = false;
    for (size_t i = 0; i < alias->target_count; i++) {
        struct address target = alias_target(s->conf, alias, &alias->targets[i], of);
        *out_utf8 |= target.utf8;
        buf_put_z(out, i == 0 ? "" : "\n");
        address_put_path(out, &target);
    }
    buf_put_char(out, '\0');
    return buf_ok(out) && alias->target_count < REPLY_LINES_MAX;
}

/* "staff SMTPUTF8" (RFC 6531, 3.7.4.2) */
static bool take_utf8(struct str *args)
{
    ssize_t space = str_find_last(*args, ' ');

    if (space < 0 || !str_eq_nocase(str_from(*args, (size_t)space + 1), STR("SMTPUTF8")))
        return false;
    *args = str_trim(str_head(*args, (size_t)space));
    return true;
}

struct reply inquiry_on_expn(struct session *s, struct str args)
{
    bool asked = extension_offered(s, EXTENSION_SMTPUTF8) && take_utf8(&args), utf8;
    struct address addr;
    struct buf text;
    bool brackets = args.n > 2 && args.p[0] == '<' && args.p[args.n - 1] == '>';

    args = brackets ? str_head(str_from(args, 1), args.n - 2) : args;
    if (!address_parse_with(&s->transaction.arena, args, asked ? ADDRESS_BARE | ADDRESS_UTF8 : ADDRESS_BARE, &addr))
        return reply(501, "5.5.4", "Expand what? An address, or a name");
    const struct conf_alias *alias = alias_of(s->conf, &addr);
    if (alias == NULL)
        return reply(550, "5.1.1", "That is no alias here");
    buf_init_fixed(&text, s->text, sizeof s->text);
    if (!put_targets(s, alias, &addr, &text, &utf8))
        return reply(252, "2.1.5", "They are too many to tell; send mail and I will try");
    if (utf8 && !asked)
        return reply(553, "5.6.8", "Some of them are not ASCII; say SMTPUTF8 behind the name");
    return (struct reply){ .code = 250, .enhanced = "2.1.5", .text = s->text, .utf8 = utf8 };
}

/* -- ETRN -------------------------------------------------------------------------------------------------------------------- */

bool inquiry_offers_etrn(const struct session *s)
{
    uint8_t ip[16];
    size_t len = s->client.local || s->client.unknown || session_is_lmtp(s) ? 0 : net_addr_ip(&s->client.addr, ip);

    for (size_t i = 0; len > 0 && i < s->conf->etrn_network_count; i++)
        if (ip_range_has(&s->conf->etrn_networks[i], ip, len))
            return true;
    return false;
}

struct walk {
    struct queue *queue;
    struct str    domain;
    bool          below;                 /* "@domain": and its subdomains */
    int64_t       deadline_ns;
    unsigned      looked, started;
};

static bool is_for(const struct walk *w, const struct queue_details *d)
{
    for (size_t i = 0; i < d->env.rcpt_count; i++) {
        struct str domain = d->env.rcpts[i].addr.domain;
        if (d->states[i] == RCPT_PENDING && (w->below ? domain_in(domain, w->domain) : str_eq(domain, w->domain)))
            return true;
    }
    return false;
}

/* Awaits. What its sender wants to have held stays so (RFC 4865). */
static void start_if_for(struct walk *w, uint64_t id)
{
    struct queue_details details;
    struct arena arena;

    arena_init(&arena, DETAILS_MEMORY);
    if (queue_show(w->queue, id, &arena, &details) == 0 && details.env.hold_until_ns <= clock_wall_ns() && is_for(w, &details))
        w->started += queue_retry(w->queue, id) == 0;
    arena_reset(&arena);
}

/* Awaits. True: all were looked at. */
static bool start_all(struct walk *w)
{
    struct queue_item items[ETRN_PAGE];
    uint64_t after = 0;
    size_t n;

    while ((n = queue_list(w->queue, after, items, ETRN_PAGE)) > 0) {
        for (size_t i = 0; i < n; i++) {
            if (w->looked++ >= ETRN_LOOK_MAX || clock_mono_ns() >= w->deadline_ns || task_canceled())
                return false;
            if (items[i].state == MESSAGE_WAITING)
                start_if_for(w, items[i].id);
        }
        after = items[n - 1].id;
    }
    return true;
}

static bool may_ask(struct session *s)
{
    char bytes[NET_ADDR_TEXT_MAX + 2];
    struct buf name;

    buf_init_fixed(&name, bytes, sizeof bytes);
    buf_printf(&name, "e%s", s->client_ip);
    return rate_take(s->shared->rates, buf_str(&name), 1, ETRN_PER_HOUR);
}

struct reply inquiry_on_etrn(struct session *s, struct str args)
{
    struct walk w = { .queue = s->shared->queue, .below = args.n > 0 && args.p[0] == '@', .deadline_ns = task_deadline_in(ETRN_LOOK_NS) };

    if (args.n > 0 && args.p[0] == '#')
        return reply(459, "4.5.0", "There are no queues of that kind here; name a domain");
    if (!domain_to_ascii(&s->transaction.arena, w.below ? str_from(args, 1) : args, &w.domain))
        return reply(501, "5.5.4", "Send what? A domain, or @ and a domain");
    if (map_str_get(&s->conf->relay_domains, w.domain) == NULL)
        return reply(459, "4.7.1", "That is no domain we keep mail for");
    if (!may_ask(s))
        return reply(458, "4.7.1", "You have asked often enough in this hour");
    bool all = start_all(&w);
    if (w.started == 0)
        return all ? reply(251, "2.0.0", "No mail waits for it") : reply(458, "4.3.2", "The queue is too long to look through now");
    return session_reply(s, 253, "2.0.0", "%u pending messages for it are being sent%s", w.started, all ? "" : ", and there may be more");
}
