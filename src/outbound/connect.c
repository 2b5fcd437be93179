/*
 * Connecting to a destination: see connect.h. Runs on outbound's loop.
 */
#include "outbound/connect.h"
#include "conf/tls_level.h"
#include "outbound/mx.h"
#include "outbound/text.h"
#include <assert.h>
#include <errno.h>

#define LOOKUP_MEMORY   (1024 * 1024)    /* for the answers about one destination */
#define HOSTS_TRIED_MAX 5                /* addresses of a destination tried in one attempt */
#define NO_VOUCHER      "the sender requires TLS on all the way, and nothing vouches for the names of the domain's mail servers (no DNSSEC)"
#define NO_PROMISE      "the sender requires TLS on all the way, and the server does not promise that (no REQUIRETLS)"

/* One way through the servers. */
struct search {
    const struct connect  *w;
    const struct mx_list  *list;         /* NULL: the socket on this machine */
    struct client_security security;
    bool                   strict;       /* REQUIRETLS, or not at all */
    struct outcome         unreached;    /* what kept us from asking one; unset: all were asked */
    struct str             unreached_host;
    struct outcome         lacking;      /* of the first that was asked and may not have the message; unset: none */
    struct client         *second_best;  /* owned: the first that lacks SMTPUTF8. What it cannot take, it is asked for each recipient */
};

static const struct envelope *envelope_of(const struct connect *w) { return &w->mail->claim->env; }

/* LMTP is the mailbox's door: there is no way behind it. */
static bool requires_tls(const struct connect *w) { return envelope_of(w)->requiretls && !route_is_lmtp(w->route); }

/* RFC 8689, 5: a bounce is not to be lost for want of REQUIRETLS at the next server. */
static bool insists_on_tls(const struct connect *w) { return requires_tls(w) && !envelope_of(w)->null_sender; }

/* "TLS-Required: No": the recipient's policy counts no more (RFC 8689, 4.2.2), nor what is asked of all the world. What the operator has
 * agreed with a domain or a relay host is not the sender's to give up. */
static bool is_tls_optional(const struct connect *w)
{
    const struct envelope *env = envelope_of(w);
    return env->tls_optional && !env->requiretls && w->route->kind == ROUTE_MX && !tls_level_is_named(w->conf, w->route->domain);
}

static struct client_security security_for(const struct connect *w, bool strict)
{
    struct client_security s = client_security_for(w->tls, w->conf, w->route);
    if (strict && s.level < CONF_CLIENT_TLS_VERIFY)
        s.level = CONF_CLIENT_TLS_VERIFY;
    if (is_tls_optional(w) && s.level > CONF_CLIENT_TLS_MAY)
        s.level = CONF_CLIENT_TLS_MAY;
    return s;
}

/* Awaits the header where that decides. A message that can be ASCII is left to the server that stands first. */
static bool needs_utf8(const struct connect *w)
{
    const struct envelope *env = envelope_of(w);
    bool ascii = true, any = env->sender.utf8;
    for (size_t i = 0; i < w->mail->count; i++)
        any |= env->rcpts[w->mail->outcomes[i]->rcpt].addr.utf8;
    if (!any && env->smtputf8 && text_header_is_ascii(w->mail->claim, &ascii) == 0)
        any = !ascii;
    return any;
}

static bool lacks_utf8(const struct connect *w, const struct client *c) { return !(c->extensions & CLIENT_SMTPUTF8) && needs_utf8(w); }

bool connect_suits(const struct connect *w, const struct client *c)
{
    bool strict = requires_tls(w);
    /* Of domains that share their servers one may have its names by DNSSEC and the other not. */
    bool for_us = strict || security_for(w, false).level >= CONF_CLIENT_TLS_VERIFY;
    if (for_us && c->made_for != destination_route_hash(w->route))
        return false;
    if (c->level < security_for(w, strict && !envelope_of(w)->null_sender).level || (strict && !client_keeps_private(c)))
        return false;
    return !lacks_utf8(w, c);
}

/* -- one server ------------------------------------------------------------------------------------------------------------- */

static void set_unreached(const struct connect *w, const struct outcome *failure)
{
    if (failure->state == RCPT_PENDING)
        *w->unreached = true;
}

/* Without a packet sent: we have no IPv6, or none to there. Such addresses must not use up the tries of those that could work. */
static bool is_no_way(int error)
{
    return error == -ENETUNREACH || error == -EAFNOSUPPORT || error == -EADDRNOTAVAIL;
}

static struct outcome loops_to_us(void)
{
    return outcome_of_ours(RCPT_BOUNCED, "5.4.6", "the destination is this server itself, which does not know the domain as its own");
}

static void note_lack(struct search *s, const struct outcome *why, struct str host)
{
    if (!outcome_is_set(&s->lacking))
        s->lacking = *why;
    if (outcome_is_set(&s->unreached) && str_eq_nocase(s->unreached_host, host))
        s->unreached = (struct outcome){ 0 };                 /* by another of its addresses it was */
}

/* No TLS, or none with that name: to a message that requires it the answer is final (RFC 8689, 4.2.1). */
static void note_failure(struct search *s, int error, struct outcome *why, struct str host)
{
    if (s->strict && (error == -EPROTONOSUPPORT || error == -EPROTO)) {
        why->state = RCPT_BOUNCED;
        why->status = STR("5.7.10");
        note_lack(s, why, host);
        return;
    }
    s->unreached = *why;
    s->unreached_host = host;
}

/* Awaits. Is it good for the message? If not, it is closed or kept as second best. */
static bool take(struct search *s, struct client *c, struct str host)
{
    struct outcome why = outcome_of_ours(RCPT_BOUNCED, "5.7.30", NO_PROMISE);
    why.remote = str_copy(&s->w->mail->claim->arena, str_of(c->remote));
    if (s->strict && !client_keeps_private(c)) {
        note_lack(s, &why, host);
        client_close(c);
        return false;
    }
    if (!lacks_utf8(s->w, c))
        return true;
    note_lack(s, &why, host);
    if (s->second_best == NULL)
        s->second_best = c;
    else
        client_close(c);
    return false;
}

/* -- all of them ------------------------------------------------------------------------------------------------------------ */

static bool was_asked(const struct search *s, struct str host)
{
    return s->second_best != NULL && str_starts_nocase(str_of(s->second_best->remote), host) && s->second_best->remote[host.n] == ' ';
}

static bool is_ipv6(const struct mx_address *a) { return a->addr.any.sa_family == AF_INET6; }

/* The i-th in the order to try: where our IPv6 address is not liked, those with IPv4 stand first. */
static const struct mx_address *item_of(const struct search *s, size_t i)
{
    size_t seen = 0;
    if (!s->w->ipv4_first)
        return &s->list->items[i];
    for (unsigned v6 = 0; v6 < 2; v6++)
        for (size_t k = 0; k < s->list->count; k++)
            if (is_ipv6(&s->list->items[k]) == (v6 == 1) && seen++ == i)
                return &s->list->items[k];
    assert(!"an item beyond the last");
    return &s->list->items[0];
}

static struct client *try_all(struct search *s)
{
    const struct connect *w = s->w;
    for (size_t i = 0, tried = 0; i < s->list->count && tried < HOSTS_TRIED_MAX; i++) {
        struct client *c;
        struct outcome reason;
        const struct mx_address *item = item_of(s, i);
        struct client_server server = { .addr = &item->addr, .host = item->host, .lmtp = route_is_lmtp(w->route),
                                        .security = &s->security, .vouched = s->list->secure, .by_data = site_is_by_data(w->site) };
        if (was_asked(s, server.host))
            continue;
        int r = client_open(&server, w->conf, &w->mail->claim->arena, &c, &reason);
        if (r == 0 && take(s, c, server.host))
            return c;
        if (task_canceled())
            return NULL;
        tried += !is_no_way(r);
        if (r == -ELOOP && i == 0)
            s->unreached = loops_to_us();
        if (r == -ELOOP)                                      /* beyond the first, we are its backup under another name: the better ones must come back */
            return NULL;
        if (r < 0)
            note_failure(s, r, &reason, server.host);
    }
    return NULL;
}

/* Awaits. As connect_open. One that was not asked may be the one that can: then it is too early to refuse. */
static struct client *search(struct search *s, struct outcome *out_failure)
{
    struct client *c = try_all(s);
    bool refuse = outcome_is_set(&s->lacking) && !outcome_is_set(&s->unreached);
    if (c == NULL && refuse && s->second_best != NULL && !task_canceled())
        return s->second_best;
    client_close(s->second_best);
    if (c == NULL && !task_canceled())
        *out_failure = refuse ? s->lacking : s->unreached;
    return c;
}

static struct client *open_one_of(const struct connect *w, const struct mx_list *list, struct outcome *out_failure)
{
    bool vouched = list->secure || client_security_for(w->tls, w->conf, w->route).level == CONF_CLIENT_TLS_SECURE;
    if (requires_tls(w) && vouched) {
        struct search strict = { .w = w, .list = list, .security = security_for(w, true), .strict = true };
        struct client *c = search(&strict, out_failure);
        if (c != NULL || insists_on_tls(w) || task_canceled())
            return c;
    } else if (insists_on_tls(w)) {
        *out_failure = outcome_of_ours(RCPT_BOUNCED, "5.7.30", NO_VOUCHER);
        return NULL;
    }
    struct search s = { .w = w, .list = list, .security = security_for(w, false) };
    struct client *c = search(&s, out_failure);
    if (c == NULL && !task_canceled() && !outcome_is_set(&s.lacking))
        set_unreached(w, out_failure);
    return c;
}

/* Likewise, to the one server on this machine. */
static struct client *open_socket(const struct connect *w, struct outcome *out_failure)
{
    struct client_server server = { .path = w->route->path, .host = str_of(w->conf->hostname), .lmtp = true, .by_data = site_is_by_data(w->site) };
    struct client *c;
    struct outcome failure;
    int r = client_open(&server, w->conf, &w->mail->claim->arena, &c, &failure);
    if (r == 0)
        return c;
    if (r == -ECANCELED)
        return NULL;
    set_unreached(w, &failure);
    *out_failure = failure;
    return NULL;
}

struct client *connect_open(const struct connect *w, struct outcome *out_failure)
{
    struct arena answers;
    struct mx_list list;
    struct client *c = NULL;

    *out_failure = (struct outcome){ 0 };
    if (w->route->kind == ROUTE_LMTP_UNIX)
        return open_socket(w, out_failure);
    arena_init(&answers, LOOKUP_MEMORY);                      /* not the claim's: a message may have a thousand destinations */
    switch (mx_lookup(&answers, w->conf, w->route, &list, out_failure)) {
    case MX_CANCELED:
        break;
    case MX_FAILED:
        if (w->route->kind == ROUTE_MX)                       /* one domain's DNS says nothing of the servers that it shares with others */
            destinations_unlearn(w->destinations, w->route);
        else
            set_unreached(w, out_failure);
        break;
    case MX_FOUND:
        if (w->route->kind == ROUTE_MX)
            destinations_learn(w->destinations, w->route, *w->refusals, &list, clock_mono_ns());
        c = open_one_of(w, &list, out_failure);
        break;
    }
    arena_reset(&answers);
    if (c != NULL)
        c->made_for = destination_route_hash(w->route);
    return c;
}
