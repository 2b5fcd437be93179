/*
 * One part of a message, when its turn has come: to the mailboxes, or in one transaction to a server of its site; and what that says of the
 * site. See deliver_internal.h.
 */
#include "base/log.h"
#include "outbound/connect.h"
#include "outbound/deliver_internal.h"

#define WORDS_KEPT_NS  (2 * 3600 * NS_PER_S)     /* of a dead site: longer than it rests */
#define LOOKUP_MEMORY  (1024 * 1024)
#define MEMORY_PAUSE_NS (1 * NS_PER_S)

/* -- to another server ----------------------------------------------------------------------------------------------------- */

static void give_all(const struct part *p, const struct outcome *o)
{
    for (size_t i = 0; i < p->count; i++)
        if (!outcome_is_set(p->outcomes[i]))
            outcome_assign(p->outcomes[i], o);
}

/* Those without an outcome, moved to the front of what the part has. */
static size_t keep_untold(struct part *p)
{
    size_t count = 0;
    for (size_t i = 0; i < p->count; i++) {
        struct outcome *o = p->outcomes[i];
        if (outcome_is_set(o))
            continue;
        p->outcomes[i] = p->outcomes[count];
        p->outcomes[count++] = o;
    }
    return count;
}

static bool wants_ipv4(const struct part *p)
{
    const struct pace *pace = schedule_pace(line_schedule(p->attempt->context->line), schedule_key(&p->ticket->item));
    return pace != NULL && pace_wants_ipv4(pace, clock_mono_ns());
}

static struct client *connect_part(const struct connect *w, const struct part *p)
{
    struct outcome failure;
    struct client *client = connect_open(w, &failure);
    if (client == NULL && outcome_is_set(&failure))
        give_all(p, &failure);
    return client;
}

/* Awaits. The connection, which may be another than the one given, or NULL. */
static struct client *send_on(struct part *p, struct connect *w, struct client_mail *mail, struct client *client)
{
    if (client != NULL && !connect_suits(w, client)) {
        client_close(client);                                 /* kept from a message that asked for less */
        client = NULL;
    }
    if (client == NULL)
        client = connect_part(w, p);
    while (client != NULL) {
        switch (client_send(client, mail)) {
        case CLIENT_SENT: case CLIENT_CANCELED: return client;
        case CLIENT_MORE: break;
        case CLIENT_STALE: assert(!client->usable); break;    /* the kept connection had ended: a new one cannot be stale */
        }
        if (client_is_good(client))
            continue;
        if (client->bdat_unknown)
            return client;
        client_close(client);
        client = connect_part(w, p);
    }
    return NULL;
}

/* Likewise. To a server that offers BDAT and does not know it the text goes once more, by DATA: such a one stands behind a firewall, say,
 * that changes what is said, and would refuse it for ever. */
static struct client *send_to(struct part *p, struct site *site, struct client *client, bool *unreached)
{
    struct deliver_context *context = p->attempt->context;
    for (bool again = true; again;) {
        struct client_mail mail = { .claim = p->attempt->c, .outcomes = p->outcomes, .count = keep_untold(p) };
        struct connect w = { .tls = context->tls, .conf = p->attempt->conf, .route = &p->route, .site = site, .mail = &mail, .unreached = unreached,
                             .destinations = &context->destinations, .refusals = &context->refusals, .ipv4_first = wants_ipv4(p) };
        client = send_on(p, &w, &mail, client);
        again = client != NULL && client->bdat_unknown && !task_canceled() && keep_untold(p) > 0;
        if (again) {
            log_event(LOG_WARN, "bdat-unknown", LOG_Z("remote", client->remote), LOG_Z("text", "once more by DATA"));
            site_set_by_data(site);
            client_close(client);
            client = NULL;
        }
    }
    return client;
}

/* -- what it says of the site ---------------------------------------------------------------------------------------------- */

/* The answer that says most of the site: a deferral before a refusal, and either before none. */
static const struct outcome *telling(const struct part *p)
{
    const struct outcome *best = NULL;
    for (size_t i = 0; i < p->count; i++) {
        const struct outcome *o = p->outcomes[i];
        if (o->state != RCPT_PENDING && o->state != RCPT_BOUNCED)
            continue;
        if (outcome_is_set(o) && (best == NULL || (best->state == RCPT_BOUNCED && o->state == RCPT_PENDING)))
            best = o;
    }
    return best;
}

static bool has_any(const struct part *p, enum rcpt_state state)
{
    for (size_t i = 0; i < p->count; i++)
        if (outcome_is_set(p->outcomes[i]) && p->outcomes[i]->state == state)
            return true;
    return false;
}

/* The server's words without the code and the status, as they are in the outcome. */
static struct str words_of(const struct outcome *o)
{
    return o->text.n > 4 ? str_from(o->text, 4) : o->text;
}

static struct schedule_result result_of(const struct part *p, bool unreached)
{
    const struct outcome *o = telling(p);
    if (o != NULL && o->code != 0)
        return (struct schedule_result){ SCHEDULE_REFUSED, o->code, o->status, words_of(o) };
    if (unreached)
        return (struct schedule_result){ .kind = SCHEDULE_UNREACHED };
    if (has_any(p, RCPT_DELIVERED))
        return (struct schedule_result){ .kind = SCHEDULE_TAKEN };
    /* It has a name, so it was there, and fell silent. */
    bool silent = o != NULL && o->state == RCPT_PENDING && o->remote.n > 0;
    return (struct schedule_result){ .kind = silent ? SCHEDULE_UNREACHED : SCHEDULE_NOT_TRIED };
}

/* -- its end ------------------------------------------------------------------------------------------------------------------ */

static void note_wait(struct attempt *at, int64_t until_ns)
{
    if (until_ns < at->not_before_ns)
        at->not_before_ns = until_ns;
}

static void end_ticket(struct part *p, const struct schedule_result *result)
{
    int64_t not_before = line_end(p->attempt->context->line, p->ticket, result, clock_mono_ns());
    if (result->kind == SCHEDULE_REFUSED || result->kind == SCHEDULE_UNREACHED)
        note_wait(p->attempt, not_before);
    p->ticket = NULL;
}

/* It moves the whole site to IPv4 for hours: whoever runs this server should give its address a name, or a better one. */
static void say_family(const struct part *p, const struct schedule_result *result)
{
    struct refusal_reply reply = { result->code, result->status, result->text, NULL };
    if (result->kind != SCHEDULE_REFUSED || wants_ipv4(p) || refusal_judge(p->attempt->context->refusals, &reply).kind != REFUSAL_FAMILY)
        return;
    log_event(LOG_WARN, "site-by-ipv4", LOG_STR("site", schedule_key(&p->ticket->item)), LOG_STR("text", result->text));
}

static void deliver_remote(struct part *p)
{
    struct deliver_context *context = p->attempt->context;
    struct schedule_result result = { .kind = SCHEDULE_NOT_TRIED };
    struct site *site;
    struct client *client;
    bool unreached = false;
    if (site_enter(context->sites, schedule_key(&p->ticket->item), p->attempt->conf, &site, &client) < 0) {
        struct outcome o = outcome_of_ours(RCPT_PENDING, "4.3.0", "out of memory");
        give_all(p, &o);
        end_ticket(p, &result);
        return;
    }
    client = send_to(p, site, client, &unreached);
    result = result_of(p, unreached);
    say_family(p, &result);
    if (telling(p) != NULL && telling(p)->state == RCPT_PENDING)
        site_keep_words(site, telling(p), WORDS_KEPT_NS);
    site_leave(site, client);
    end_ticket(p, &result);
}

/* -- a domain whose servers are not known yet ---------------------------------------------------------------------------------- */

/* Awaits. One asks, and the others of the domain wait for what it learns. */
static void look_up(struct part *p)
{
    struct attempt *at = p->attempt;
    struct deliver_context *context = at->context;
    struct schedule_result result = { .kind = SCHEDULE_TAKEN };
    struct outcome failure;
    struct arena answers;
    struct mx_list list;
    struct site *site;
    struct client *none;
    arena_init(&answers, LOOKUP_MEMORY);
    switch (mx_lookup(&answers, at->conf, &p->route, &list, &failure)) {
    case MX_CANCELED:
        result.kind = SCHEDULE_NOT_TRIED;
        break;
    case MX_FAILED:
        give_all(p, &failure);
        if (failure.state != RCPT_PENDING)
            break;
        result.kind = SCHEDULE_UNREACHED;
        if (site_enter(context->sites, schedule_key(&p->ticket->item), at->conf, &site, &none) == 0) {
            site_keep_words(site, &failure, WORDS_KEPT_NS);
            site_leave(site, none);
        }
        break;
    case MX_FOUND:
        destinations_learn(&context->destinations, &p->route, context->refusals, &list, clock_mono_ns());
        break;
    }
    arena_reset(&answers);
    end_ticket(p, &result);
}

/* Whether its servers are known now: then it stands in line for their site. */
static bool is_known(const struct part *p)
{
    struct destination to;
    const struct attempt *at = p->attempt;
    destination_of(&at->context->destinations, at->conf, &p->route, &at->c->env, clock_mono_ns(), &to);
    return !to.by_name;
}

static void deliver_by_name(struct part *p)
{
    struct schedule_result taken = { .kind = SCHEDULE_TAKEN };
    if (is_known(p))
        end_ticket(p, &taken);
    else
        look_up(p);
    if (!task_canceled() && !outcome_is_set(p->outcomes[0]))
        attempt_offer(p);
}

/* -- to mailboxes -------------------------------------------------------------------------------------------------------------- */

static void deliver_local(struct part *p)
{
    struct attempt *at = p->attempt;
    struct schedule_result taken = { .kind = SCHEDULE_TAKEN };
    for (size_t i = 0; i < p->count && !task_canceled(); i++) {
        struct outcome o = local_deliver(at->context->local, at->conf, at->c, p->outcomes[i]->rcpt);
        outcome_assign(p->outcomes[i], &o);
    }
    end_ticket(p, &taken);
}

void part_run(struct part *p)
{
    if (p->route.kind == ROUTE_LOCAL)
        deliver_local(p);
    else if (destination_is_by_name(schedule_key(&p->ticket->item)))
        deliver_by_name(p);
    else
        deliver_remote(p);
    if (task_canceled())
        p->attempt->again_ns = clock_mono_ns();
    else if (outcome_is_set(p->outcomes[0]) && !attempt_knows(p))         /* as it does if it went in line for a dead site */
        attempt_made_known(p);
    deliver_pump(p->attempt->context);
}
