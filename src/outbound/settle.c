/*
 * The end of an attempt, or of a part of it: bounces, and the record in the queue. What one site has taken is recorded while another is
 * still under way.
 */
#include "base/codec.h"
#include "base/log.h"
#include "outbound/deliver_internal.h"
#include "outbound/dsn.h"

#define DSN_RCPTS        1000             /* that one DSN tells of; more would make it larger than senders take */
#define DETAILS_MEMORY   (16 * 1024 * 1024)   /* the record of a message with its recipients, to look at */
#define TELL_TOGETHER_NS (3 * NS_PER_S)  /* what the sender may hear of waits so long for each other, to be told in one DSN */

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

bool settle_must_return(const struct envelope *env, int64_t now_wall_ns)
{
    return (env->by_mode & ~ENVELOPE_BY_TRACE) == 'R' && retry_is_late(env, now_wall_ns);
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
    bool others = at->part_count > 1;                             /* who may want to hear of it when their turn comes */
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

/* The earliest of: the retry of what was deferred, what was not tried, and, of a message that was not due, what was not looked at. */
static int64_t next_due(const struct attempt *at, int64_t now_wall_ns)
{
    int64_t now = clock_mono_ns(), next = TASK_FOREVER;
    if (at->deferred)
        next = at->retry_ns;
    if (at->deferred && at->not_before_ns != TASK_FOREVER && at->not_before_ns > next) {
        int64_t end = now + retry_end(at->conf, &at->c->env) - now_wall_ns;
        next = at->not_before_ns < end || end < now ? at->not_before_ns : end;
    }
    if (at->open > 0 && at->context->stopping)
        next = now;
    if (at->open > 0 && at->again_ns < next)
        next = at->again_ns;
    if (!at->due && at->c->due_ns < next)
        next = at->c->due_ns;
    return next < now ? now : next;
}

static int64_t look_at_date(struct steady_date *date)
{
    int64_t now = clock_wall_ns(), jump = steady_date_look(date, now, clock_mono_ns());
    if (jump != 0)
        log_event(LOG_WARN, "date-jumped", LOG_I64("seconds", jump / NS_PER_S), LOG_Z("text", "what waits is not given up for that"));
    return now;
}

int64_t settle_until_end(const struct attempt *at)
{
    const struct envelope *env = &at->c->env;
    (void)look_at_date(&at->context->date);
    return retry_end(at->conf, env) - steady_date_for(&at->context->date, retry_begin(env));
}

static void note_retry(struct attempt *at, const struct outcome *o)
{
    const struct envelope *env = &at->c->env;
    int64_t now = clock_wall_ns(), next = retry_next(at->conf, env, env->rcpts[o->rcpt].addr.domain, at->c->attempts + 1, now);
    int64_t next_ns = clock_mono_ns() + next - now;
    if (!at->deferred || next_ns < at->retry_ns)
        at->retry_ns = next_ns;
    at->deferred = true;
}

/* Awaits. */
static void settle(struct attempt *at, struct outcome *outcomes, size_t count, bool last)
{
    struct claim *c = at->c;
    int64_t now = look_at_date(&at->context->date);
    uint64_t id = c->id;
    if (settle_must_return(&c->env, now))
        expire(outcomes, count, "5.4.7");
    else if (settle_until_end(at) <= 0)
        expire(outcomes, count, "4.4.7");
    for (size_t i = 0; i < count; i += DSN_RCPTS)
        tell_sender(at, outcomes + i, count - i < DSN_RCPTS ? count - i : DSN_RCPTS, now);
    for (size_t i = 0; i < count; i++)
        if (outcomes[i].state == RCPT_PENDING)
            note_retry(at, &outcomes[i]);
    /* Of a part, it counts after a crash only: those that were under way are tried at once. The date may have jumped since. */
    now = clock_wall_ns();
    int64_t due = last ? next_due(at, now) : TASK_FOREVER;
    int64_t due_wall = due == TASK_FOREVER ? now : now + due - clock_mono_ns();
    int r = last ? queue_settle(c, outcomes, count, due_wall) : queue_settle_part(c, outcomes, count, due_wall);
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

/* What was delivered is recorded at once: it must not be delivered again, whatever becomes of us while others are tried. */
int64_t settle_known(struct attempt *at)
{
    if (at->first_known_ns == 0 || at->open == 0)
        return TASK_FOREVER;                                  /* or the end is near, and will do */
    bool all = clock_mono_ns() >= at->first_known_ns + TELL_TOGETHER_NS;
    task_shield_begin();
    size_t count = take_known(at, all, at->settling);
    if (count > 0)
        settle(at, at->settling, count, false);
    task_shield_end();
    if (count > 0)
        return 0;                                             /* wakes that came meanwhile were taken for the disk's */
    return at->first_known_ns == 0 ? TASK_FOREVER : at->first_known_ns + TELL_TOGETHER_NS;
}

static bool has_pending(const struct outcome *outcomes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (outcomes[i].state == RCPT_PENDING)
            return true;
    return false;
}

void settle_last(struct attempt *at)
{
    for (size_t i = 0; i < at->count; i++)                    /* in a part that was cut short, some are known too */
        if (at->stages[i] == STAGE_OPEN && outcome_is_set(&at->outcomes[i])) {
            at->stages[i] = STAGE_KNOWN;
            at->open--;
        }
    size_t count = at->count == 0 ? 0 : take_known(at, true, at->settling);
    int64_t now = clock_mono_ns(), next = next_due(at, clock_wall_ns());
    bool waits = at->open > 0 && !at->deferred && !has_pending(at->settling, count);
    /* Nothing is deferred, and others wait for their turn here: that is an affair of ours, which the next start need not know. */
    if (count > 0 && waits)
        settle(at, at->settling, count, false);
    if (waits || (count == 0 && !at->settled))
        queue_postpone(at->c, next == TASK_FOREVER ? 0 : next - now);
    else
        settle(at, at->settling, count, true);
    at->c = NULL;
}
