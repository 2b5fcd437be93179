/*
 * One attempt: recipients are grouped by route, each group goes its way in one transaction, and what became of it is settled while the
 * others are still under way: a slow server holds back no record of what another has taken. See deliver.h.
 */
#include "outbound/deliver.h"
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/log.h"
#include "outbound/connect.h"
#include "outbound/dsn.h"
#include "outbound/retry.h"
#include "policy/route.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define PARTS_AT_A_TIME 20               /* routes of one message tried side by side */
#define DETAILS_MEMORY  (16 * 1024 * 1024)   /* the record of a message with its recipients, to look at */
#define MEMORY_PAUSE_NS (1 * NS_PER_S)
#define CROWDED_PAUSE_NS (10 * NS_PER_S)
#define TELL_TOGETHER_NS (3 * NS_PER_S)  /* what the sender may hear of waits so long for each other, to be told in one DSN */

/* A pending recipient. */
struct target {
    struct route    route;
    struct outcome *outcome;
};

/* How far it is. */
enum stage { STAGE_OPEN, STAGE_KNOWN, STAGE_SETTLED };

struct attempt {
    struct deliver_context *context;
    struct claim           *c;
    struct conf            *conf;
    struct outcome         *outcomes;    /* one per pending recipient */
    struct target          *targets;     /* likewise, by route */
    struct outcome        **by_route;    /* those of the targets */
    size_t                  count;
    size_t                  routes;      /* different ones */
    size_t                  begun;       /* of the targets: parts were made of so many */
    enum stage             *stages;      /* of the outcomes */
    struct outcome         *settling;    /* copies of those that go into one record */
    size_t                  open;        /* so many are */
    int64_t                 first_known_ns;   /* of those that are known and not settled; 0: there are none */
    struct task            *settler;     /* waits for outcomes; NULL */
    bool                    settled;     /* some are */
    bool                    asked_late, tell_delay, tell_late;   /* once for the whole attempt */
    bool                    crowded;     /* a site would not even let us wait */
};

/* The recipients of one route. */
struct part {
    struct attempt   *attempt;
    struct route      route;
    struct outcome  **outcomes;          /* of by_route */
    size_t            count;
};

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
static struct client *send_to(struct part *p, struct site *site, struct client *client)
{
    for (bool again = true; again;) {
        struct client_mail mail = { .claim = p->attempt->c, .outcomes = p->outcomes, .count = keep_untold(p) };
        struct connect w = { .tls = p->attempt->context->tls, .conf = p->attempt->conf, .route = &p->route, .site = site, .mail = &mail };
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

static void deliver_remote(struct part *p)
{
    struct attempt *at = p->attempt;
    struct site *site;
    struct client *client;
    int r = site_enter(at->context->sites, &p->route, at->conf, &site, &client);
    if (r == -ENOMEM) {
        struct outcome o = outcome_of_ours(RCPT_PENDING, "4.3.0", "out of memory");
        give_all(p, &o);
    }
    at->crowded |= r == -EBUSY;
    if (r < 0)
        return;
    client = send_to(p, site, client);
    site_leave(site, client);
}

static void deliver_local(struct part *p)
{
    struct attempt *at = p->attempt;
    for (size_t i = 0; i < p->count && !task_canceled(); i++) {
        struct outcome o = local_deliver(at->context->local, at->conf, at->c, p->outcomes[i]->rcpt);
        outcome_assign(p->outcomes[i], &o);
    }
}

static void deliver_part(struct part *p)
{
    switch (p->route.kind) {
    case ROUTE_LOCAL: deliver_local(p); return;
    case ROUTE_MX: case ROUTE_HOST: case ROUTE_HOP: case ROUTE_LMTP: case ROUTE_LMTP_UNIX: deliver_remote(p); return;
    }
}

/* -- grouping ---------------------------------------------------------------------------------------------------------------- */

static int by_route(const void *pa, const void *pb)
{
    const struct target *a = pa, *b = pb;
    int r = route_cmp(&a->route, &b->route);
    if (r != 0)
        return r;
    return a->outcome->rcpt < b->outcome->rcpt ? -1 : a->outcome->rcpt > b->outcome->rcpt;
}

static int list_pending(struct attempt *at)
{
    struct claim *c = at->c;
    at->outcomes = arena_array(&c->arena, c->env.rcpt_count, sizeof(*at->outcomes));
    at->targets = arena_array(&c->arena, c->env.rcpt_count, sizeof(*at->targets));
    at->by_route = arena_array(&c->arena, c->env.rcpt_count, sizeof(*at->by_route));
    at->stages = arena_array(&c->arena, c->env.rcpt_count, sizeof(*at->stages));
    at->settling = arena_array(&c->arena, c->env.rcpt_count, sizeof(*at->settling));
    if (arena_failed(&c->arena))
        return -ENOMEM;
    for (uint32_t i = 0; i < c->env.rcpt_count; i++) {
        if (c->states[i] != RCPT_PENDING)
            continue;
        struct target *t = &at->targets[at->count];
        int r = route_for_recipient(&c->arena, at->conf, &c->env.rcpts[i], &t->route);
        if (r < 0)
            return r;
        t->outcome = &at->outcomes[at->count++];
        t->outcome->rcpt = i;
    }
    at->open = at->count;
    qsort(at->targets, at->count, sizeof(*at->targets), by_route);
    for (size_t i = 0; i < at->count; i++) {
        at->by_route[i] = at->targets[i].outcome;
        at->routes += i == 0 || route_cmp(&at->targets[i - 1].route, &at->targets[i].route) != 0;
    }
    return 0;
}

/* The next part that nobody has begun; false when there is none. */
static bool next_part(struct attempt *at, struct part *out)
{
    size_t first = at->begun, end = first;
    while (end < at->count && route_cmp(&at->targets[first].route, &at->targets[end].route) == 0)
        end++;
    if (end == first)
        return false;
    *out = (struct part){ .attempt = at, .route = at->targets[first].route, .outcomes = at->by_route + first, .count = end - first };
    at->begun = end;
    return true;
}

/* -- the end of an attempt ----------------------------------------------------------------------------------------------------- */

static const char *event_of(enum rcpt_state state)
{
    switch (state) {
    case RCPT_PENDING:   return "deferred";
    case RCPT_DELIVERED: return "delivered";
    case RCPT_BOUNCED:   return "bounced";
    case RCPT_FAILED:    return "failed";
    case RCPT_DISCARDED: return "discarded";
    }
    return "";
}

void deliver_log(const struct claim *c, const struct outcome *o, uint64_t dsn_id)
{
    if (!log_level_on(LOG_INFO))
        return;
    char id[CODEC_ID_LEN + 1], dsn[CODEC_ID_LEN + 1] = "";
    char to_bytes[400];
    struct buf to;
    codec_id_format(c->id, id);
    if (dsn_id != 0 && o->state == RCPT_BOUNCED)
        codec_id_format(dsn_id, dsn);
    buf_init_fixed(&to, to_bytes, sizeof(to_bytes));
    address_put(&to, &c->env.rcpts[o->rcpt].addr);
    log_event(LOG_INFO, event_of(o->state), LOG_Z("id", id), LOG_STR("to", buf_str(&to)), LOG_STR("remote", o->remote),
              LOG_STR("status", o->status), LOG_STR("text", o->text), LOG_U64("attempt", c->attempts + 1), LOG_Z("dsn", dsn));
}

/* The text stays that of the last answer. RFC 3463: 4.4.7, delivery time expired; 5.4.7, the sender's own (RFC 2852, 4.1.3). */
static void expire(struct outcome *outcomes, size_t count, const char *status)
{
    for (size_t i = 0; i < count; i++) {
        struct outcome *o = &outcomes[i];
        if (o->state != RCPT_PENDING)
            continue;
        o->state = RCPT_BOUNCED;
        o->status = str_of(status);
    }
}

static bool must_be_returned(const struct envelope *env, int64_t now_wall_ns)
{
    return (env->by_mode & ~ENVELOPE_BY_TRACE) == 'R' && retry_is_late(env, now_wall_ns);
}

/* Delivered too late is worse than not at all: nothing is tried any more. */
static void return_all(struct attempt *at)
{
    struct outcome o = outcome_of_ours(RCPT_BOUNCED, "5.4.7", "not delivered within the time that its sender has set");
    for (size_t i = 0; i < at->count; i++)
        outcome_assign(&at->outcomes[i], &o);
}

static void log_trouble(uint64_t message, const char *event, int error)
{
    char id[CODEC_ID_LEN + 1];
    codec_id_format(message, id);
    log_event(LOG_ERROR, event, LOG_Z("id", id), LOG_I64("errno", -error));
}

/* Awaits. Is this the first attempt after that time? The one before it left a record. */
static bool is_first_since(const struct attempt *at, int64_t limit, int64_t now_wall_ns)
{
    const struct claim *c = at->c;
    struct arena arena;
    struct queue_details details;

    if (now_wall_ns < limit)
        return false;
    if (c->attempts == 0)
        return true;
    arena_init(&arena, DETAILS_MEMORY);
    bool first = queue_show(c->queue, c->id, &arena, &details) == 0 && details.changed_wall_ns < limit;
    arena_reset(&arena);
    return first;
}

static bool is_first_since_warning(const struct attempt *at, int64_t now_wall_ns)
{
    int64_t delay = at->conf->delay_warning_ns;
    return delay > 0 && is_first_since(at, retry_begin(&at->c->env) + delay, now_wall_ns);
}

/* A time that was over when the message came has been told by those before us (RFC 2852, 4.1.4). */
static bool is_first_since_late(const struct attempt *at, int64_t now_wall_ns)
{
    const struct envelope *env = &at->c->env;
    return retry_is_late(env, now_wall_ns) && env->deliver_by_ns > retry_begin(env) && is_first_since(at, env->deliver_by_ns, now_wall_ns);
}

/* Awaits: looks at the record before this attempt leaves one. */
static void ask_late(struct attempt *at, const struct dsn *dsn, int64_t now_wall_ns)
{
    if (at->asked_late)
        return;
    bool others = at->routes > 1;                             /* who may want to hear of it when their turn comes */
    at->tell_delay = (others || dsn_wants_delay(dsn)) && is_first_since_warning(at, now_wall_ns);
    at->tell_late = (others || dsn_wants_late(dsn)) && is_first_since_late(at, now_wall_ns);
    at->asked_late = true;
}

/* Awaits. Without its DSN on disk a failure is not told yet: it stays pending and is tried again. */
static void tell_sender(struct attempt *at, struct outcome *outcomes, size_t count, int64_t now_wall_ns)
{
    struct dsn dsn = { .conf = at->conf, .claim = at->c, .outcomes = outcomes, .count = count, .now_wall_ns = now_wall_ns };
    ask_late(at, &dsn, now_wall_ns);
    dsn.tell_delay = at->tell_delay && dsn_wants_delay(&dsn);
    dsn.tell_late = at->tell_late && dsn_wants_late(&dsn);
    uint64_t dsn_id;
    int r = dsn_send(&dsn, &dsn_id);
    if (r < 0)
        log_trouble(at->c->id, "dsn-not-kept", r);
    for (size_t i = 0; i < count; i++) {
        if (r < 0 && outcomes[i].state == RCPT_BOUNCED)
            outcomes[i].state = RCPT_PENDING;
        deliver_log(at->c, &outcomes[i], dsn_id);
    }
}

static int64_t look_at_date(struct steady_date *date)
{
    int64_t now = clock_wall_ns(), jump = steady_date_look(date, now, clock_mono_ns());
    if (jump != 0)
        log_event(LOG_WARN, "date-jumped", LOG_I64("seconds", jump / NS_PER_S), LOG_Z("text", "what waits is not given up for that"));
    return now;
}

/* Awaits. The last of an attempt gives the claim back. */
static void settle(struct attempt *at, struct outcome *outcomes, size_t count, bool last)
{
    struct claim *c = at->c;
    int64_t now = look_at_date(&at->context->date);
    uint64_t id = c->id;
    if (must_be_returned(&c->env, now))
        expire(outcomes, count, "5.4.7");
    else if (retry_is_over(at->conf, &c->env, steady_date_for(&at->context->date, retry_begin(&c->env))))
        expire(outcomes, count, "4.4.7");
    for (size_t i = 0; i < count; i += DSN_RCPTS)
        tell_sender(at, outcomes + i, count - i < DSN_RCPTS ? count - i : DSN_RCPTS, now);
    int64_t due = retry_next(at->conf, &c->env, c->attempts + 1, clock_wall_ns());      /* it may have jumped since */
    int r = last ? queue_settle(c, outcomes, count, due) : queue_settle_part(c, outcomes, count, due);
    if (r < 0 && r != -ECANCELED)
        log_trouble(id, "settle-not-durable", r);
    at->settled = true;
}

static bool is_told(const struct attempt *at, const struct outcome *o)
{
    return o->state != RCPT_DELIVERED || (at->c->env.rcpts[o->rcpt].notify & NOTIFY_SUCCESS);
}

/* Those that are known and not settled, without those that the sender may hear of unless all are asked for, copied to out and settled from
 * now on. */
static size_t take_known(struct attempt *at, bool all, struct outcome *out)
{
    size_t count = 0;
    bool left = false;
    for (size_t i = 0; i < at->count; i++) {
        const struct outcome *o = &at->outcomes[i];
        if (at->stages[i] != STAGE_KNOWN || !outcome_is_set(o))
            continue;
        if (!all && is_told(at, o)) {
            left = true;
            continue;
        }
        at->stages[i] = STAGE_SETTLED;
        out[count++] = *o;
    }
    if (!left)
        at->first_known_ns = 0;
    return count;
}

/* Awaits. What was delivered is recorded at once: it must not be delivered again, whatever becomes of us while others are tried. Gives the
 * time by which to look again. */
static int64_t settle_known(struct attempt *at)
{
    if (at->first_known_ns == 0 || at->open == 0)
        return TASK_FOREVER;                                  /* or the end is near, and will do */
    bool all = clock_mono_ns() >= at->first_known_ns + TELL_TOGETHER_NS;
    task_shield_begin();
    size_t count = take_known(at, all, at->settling);
    if (count > 0)
        settle(at, at->settling, count, false);
    task_shield_end();
    return at->first_known_ns == 0 ? TASK_FOREVER : at->first_known_ns + TELL_TOGETHER_NS;
}

static void make_known(struct part *p)
{
    struct attempt *at = p->attempt;
    for (size_t i = 0; i < p->count; i++)
        at->stages[p->outcomes[i] - at->outcomes] = STAGE_KNOWN;
    at->open -= p->count;
    if (at->first_known_ns == 0)
        at->first_known_ns = clock_mono_ns();
    if (at->settler != NULL)
        task_wake(at->settler);
}

static void parts_task(void *arg)
{
    struct attempt *at = arg;
    struct part p;
    while (!task_canceled() && next_part(at, &p)) {
        deliver_part(&p);
        if (!task_canceled())
            make_known(&p);
    }
}

/* Side by side: a dead destination of one recipient does not hold up the others, nor the record of what became of them. */
static void try_all(struct attempt *at)
{
    struct task_group group;
    if (at->routes < 2) {
        parts_task(at);
        return;
    }
    task_group_init(&group);
    for (size_t i = 0; i < PARTS_AT_A_TIME && i < at->routes; i++)
        if (task_group_start(&group, "deliver parts", parts_task, at) < 0)
            break;
    if (group.count == 0)
        parts_task(at);
    at->settler = task_self();
    while (group.count > 0 && !task_canceled())
        (void)task_park(settle_known(at));
    at->settler = NULL;
    if (task_canceled())
        task_group_cancel(&group);
    (void)task_group_wait(&group, TASK_FOREVER);
}

static void conclude(struct attempt *at)
{
    for (size_t i = 0; i < at->count; i++)                    /* in a part that was cut short, some are known too */
        if (at->stages[i] == STAGE_OPEN)
            at->stages[i] = STAGE_KNOWN;
    size_t count = at->count == 0 ? 0 : take_known(at, true, at->settling);
    if (count == 0 && !at->settled)
        queue_postpone(at->c, at->crowded ? CROWDED_PAUSE_NS : 0);
    else
        settle(at, at->settling, count, true);
}

void deliver_message(struct deliver_context *context, struct claim *c)
{
    struct attempt at = { .context = context, .c = c, .conf = conf_current() };
    struct conf *conf = at.conf;
    task_about(c->id);
    int r = list_pending(&at);
    if (r == 0 && must_be_returned(&c->env, clock_wall_ns())) {
        return_all(&at);
    } else if (r == 0) {
        try_all(&at);
    } else {
        log_trouble(c->id, "delivery-without-memory", r);
        (void)task_sleep(MEMORY_PAUSE_NS);                    /* it is due again at once */
    }
    task_shield_begin();                                      /* what happened is recorded, stopping or not */
    conclude(&at);
    task_shield_end();
    task_about(0);
    conf_unref(conf);
}
