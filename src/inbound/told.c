/*
 * XCLIENT and XFORWARD, as Postfix documents them. Runs in the worker, in the session's task.
 *
 * Who may say so is decided by the address of the connection, never by one that XCLIENT told us.
 */
#include "inbound/told.h"
#include "base/log.h"
#include "inbound/session_internal.h"
#include "policy/access.h"
#include "smtp/xclient.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(XCLIENT_TEXT_MAX < SESSION_HELO_MAX, "what XCLIENT says of HELO fits");

static bool is_listed(const struct session *s, const struct ip_range *networks, size_t count)
{
    uint8_t ip[16];
    size_t len = s->client.local || s->client.unknown ? 0 : net_addr_ip(&s->client.addr, ip);

    for (size_t i = 0; len > 0 && i < count; i++)
        if (ip_range_has(&networks[i], ip, len))
            return true;
    return false;
}

bool told_offers_xclient(const struct session *s) { return is_listed(s, s->conf->xclient_networks, s->conf->xclient_network_count); }
bool told_offers_xforward(const struct session *s) { return is_listed(s, s->conf->xforward_networks, s->conf->xforward_network_count); }

static struct told *told_of(struct session *s)
{
    if (s->told == NULL)
        s->told = calloc(1, sizeof *s->told);
    return s->told;
}

static void keep(char *field, size_t size, struct str text)
{
    assert(text.n < size);
    if (text.n > 0)
        memcpy(field, text.p, text.n);
    field[text.n] = '\0';
}

#define KEEP(field, text) keep(field, sizeof(field), text)

static struct reply refuse(struct session *s, enum smtp_parse result, struct str culprit)
{
    switch (result) {
    case SMTP_UNKNOWN_PARAMETER: return session_reply(s, 501, "5.5.4", "Unknown attribute %" STR_FMT, STR_ARG(culprit));
    case SMTP_BAD_PARAMETER: return session_reply(s, 501, "5.5.4", "I cannot read the value of %" STR_FMT, STR_ARG(culprit));
    case SMTP_DUPLICATE_PARAMETER: return session_reply(s, 501, "5.5.4", "%" STR_FMT " stands there twice", STR_ARG(culprit));
    case SMTP_BAD_SYNTAX: return reply(501, "5.5.4", "I cannot read that; write NAME=value, with the value in xtext");
    case SMTP_OK:
    case SMTP_BAD_ADDRESS:
    case SMTP_NEEDS_UTF8:
    case SMTP_NO_MEMORY: break;
    }
    return reply(451, "4.3.0", "No memory for that now");
}

/* -- XCLIENT --------------------------------------------------------------------------------------------------------------- */

static void take_address(struct session *s, const struct xclient_ip *told)
{
    struct net_addr addr;

    if (told->len > 0)
        net_addr_from_ip(told->ip, told->len, 0, &addr);
    session_know_client(s, told->len > 0 ? &addr : NULL);
}

/* What the session knows of a client begins anew; what is not said stays as it is, but for the greeting. */
static void begin_again(struct session *s, const struct xclient_args *args)
{
    told_end_transaction(s);
    if (args->seen & (XCLIENT_NAME | XCLIENT_ADDR))
        KEEP(s->told->name, args->name);
    if (args->seen & XCLIENT_ADDR)
        take_address(s, &args->addr);
    session_forget_login(s);             /* the proxy's own is not its client's */
    KEEP(s->login, args->login);
    s->authenticated = args->login.n > 0;
    session_guard_login(s);
    KEEP(s->helo, args->helo);           /* with a name it has said hello; else it will */
    s->esmtp = args->esmtp;
    transaction_reset(&s->transaction);  /* and with it the strings of args */
}

struct reply told_on_xclient(struct session *s, struct str args)
{
    struct xclient_args told;
    struct str culprit = STR("");
    char connection[NET_ADDR_TEXT_MAX];

    enum smtp_parse result = smtp_parse_xclient(&s->transaction.arena, args, &told, &culprit);
    if (result != SMTP_OK)
        return refuse(s, result, culprit);
    if (told.login.n > KEEPER_LOGIN_MAX)
        return refuse(s, SMTP_BAD_PARAMETER, STR("LOGIN"));
    if (told_of(s) == NULL)
        return session_farewell(s, 421, "4.3.0", "No memory for that now");
    log_event(LOG_INFO, "xclient", LOG_Z("connection", net_addr_format_ip(&s->client.addr, connection)), LOG_STR("args", args));
    begin_again(s, &told);
    return session_greeting(s);
}

struct str told_name(const struct session *s) { return s->told == NULL ? STR("") : str_of(s->told->name); }

/* -- XFORWARD -------------------------------------------------------------------------------------------------------------- */

/* Several of them add up. */
static void remember(struct told *t, const struct xclient_args *args)
{
    char ip[NET_ADDR_TEXT_MAX] = "";
    struct net_addr addr;

    t->forwarded = true;
    if (args->addr.len > 0) {
        net_addr_from_ip(args->addr.ip, args->addr.len, 0, &addr);
        net_addr_format_ip(&addr, ip);
    }
    if (args->seen & XCLIENT_NAME)
        KEEP(t->orig_name, args->name);
    if (args->seen & XCLIENT_ADDR)
        KEEP(t->orig_ip, str_of(ip));
    if (args->seen & XCLIENT_HELO)
        KEEP(t->orig_helo, args->helo);
    if (args->seen & XCLIENT_IDENT)
        KEEP(t->orig_ident, args->ident);
}

struct reply told_on_xforward(struct session *s, struct str args)
{
    struct xclient_args told;
    struct str culprit = STR("");

    enum smtp_parse result = smtp_parse_xforward(&s->transaction.arena, args, &told, &culprit);
    if (result != SMTP_OK)
        return refuse(s, result, culprit);
    if (told_of(s) == NULL)
        return reply(451, "4.3.0", "No memory for that now");
    remember(s->told, &told);
    return reply(250, "2.0.0", "Noted");
}

void told_log_origin(const struct session *s)
{
    const struct told *t = s->told;

    if (t == NULL || !t->forwarded)
        return;
    log_event(LOG_INFO, "origin", LOG_Z("id", s->transaction.id), LOG_Z("client", t->orig_ip), LOG_Z("name", t->orig_name), LOG_Z("helo", t->orig_helo),
              LOG_Z("ident", t->orig_ident));
}

void told_end_transaction(struct session *s)
{
    struct told *t = s->told;

    if (t == NULL || !t->forwarded)
        return;
    t->forwarded = false;
    t->orig_name[0] = t->orig_helo[0] = t->orig_ident[0] = t->orig_ip[0] = '\0';
}
