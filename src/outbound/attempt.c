/*
 * An attempt: one message in our hands. Its recipients are grouped by route, each group is a part that stands in line for its site, and is
 * tried in a task of its own when its turn comes. See deliver.h.
 *
 * While a message waits for its first turn, its claim is kept for some seconds, then given back: it need not be read again in the usual case,
 * and is in nobody's way in the other.
 */
#include "base/codec.h"
#include "base/log.h"
#include "outbound/deliver_internal.h"

#define MEMORY_PAUSE_NS (1 * NS_PER_S)
#define PAUSE_NS        (100 * NS_PER_MS)        /* after a failure of ours, before the next try */
#define BULK_RCPTS      100              /* a message to so many is no letter */

/* -- attempts ----------------------------------------------------------------------------------------------------------------- */

static struct attempt *attempt_new(struct deliver_context *context, uint64_t id)
{
    struct attempt *at = calloc(1, sizeof *at);
    if (at == NULL)
        return NULL;
    *at = (struct attempt){ .context = context, .id = id, .again_ns = TASK_FOREVER, .not_before_ns = TASK_FOREVER };
    at->begun_end = &at->begun;
    at->conf = conf_current();
    task_group_init(&at->group);
    return at;
}

static void attempt_free(struct attempt *at)
{
    conf_unref(at->conf);
    free(at);
}

static void unregister(struct attempt *at)
{
    if (map_u64_get(&at->context->attempts, at->id) == at)
        (void)map_u64_remove(&at->context->attempts, at->id);
}

static void put_off(struct deliver_context *context, struct ticket *t)
{
    struct schedule_result not_tried = { .kind = SCHEDULE_NOT_TRIED };
    (void)line_end(context->line, t, &not_tried, clock_mono_ns());
}

static struct ticket *take_begun(struct attempt *at)
{
    struct ticket *t = at->begun;
    if (t == NULL)
        return NULL;
    at->begun = t->next;
    if (at->begun == NULL)
        at->begun_end = &at->begun;
    return t;
}

static void push_begun(struct attempt *at, struct ticket *t)
{
    t->next = NULL;
    *at->begun_end = t;
    at->begun_end = &t->next;
    if (at->runner != NULL)
        task_wake(at->runner);
}

static void put_off_all(struct attempt *at)
{
    for (struct ticket *t; (t = take_begun(at)) != NULL;)
        put_off(at->context, t);
}

/* -- its parts ---------------------------------------------------------------------------------------------------------------- */

static int by_route(const void *pa, const void *pb)
{
    const struct target *a = pa, *b = pb;
    int r = route_cmp(&a->route, &b->route);
    if (r != 0)
        return r;
    return a->outcome->rcpt < b->outcome->rcpt ? -1 : a->outcome->rcpt > b->outcome->rcpt;
}

static int list_targets(struct attempt *at)
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
    assert(at->targets != NULL);
    if (at->count > 1)
        qsort(at->targets, at->count, sizeof(*at->targets), by_route);
    for (size_t i = 0; i < at->count; i++)
        at->by_route[i] = at->targets[i].outcome;
    return 0;
}

static bool begins_part(const struct attempt *at, size_t i)
{
    return i == 0 || route_cmp(&at->targets[i - 1].route, &at->targets[i].route) != 0;
}

static int by_hash(const void *pa, const void *pb)
{
    const struct part *a = pa, *b = pb;
    return a->hash < b->hash ? -1 : a->hash > b->hash;
}

static int list_parts(struct attempt *at)
{
    size_t most = 0;
    int r = list_targets(at);
    if (r < 0)
        return r;
    for (size_t i = 0; i < at->count; i++)
        most += begins_part(at, i);
    at->parts = arena_array(&at->c->arena, most, sizeof(*at->parts));
    if (at->parts == NULL && most > 0)
        return -ENOMEM;
    for (size_t i = 0; i < at->count; i++) {
        struct part *p = &at->parts[at->part_count];
        if (begins_part(at, i)) {
            *p = (struct part){ .attempt = at, .route = at->targets[i].route, .outcomes = at->by_route + i };
            p->hash = destination_route_hash(&p->route);
            at->part_count++;
        }
        at->parts[at->part_count - 1].count++;
    }
    if (at->part_count > 1 && at->parts != NULL)
        qsort(at->parts, at->part_count, sizeof(*at->parts), by_hash);
    return 0;
}

static enum stage stage_of(const struct part *p)
{
    return p->attempt->stages[p->outcomes[0] - p->attempt->outcomes];
}

static struct part *part_of(const struct attempt *at, const struct ticket *t)
{
    struct part wanted = { .hash = t->route };
    if (at->part_count == 0)
        return NULL;
    return bsearch(&wanted, at->parts, at->part_count, sizeof(*at->parts), by_hash);
}

bool attempt_knows(const struct part *p) { return stage_of(p) != STAGE_OPEN; }

void attempt_made_known(struct part *p)
{
    struct attempt *at = p->attempt;
    assert(!attempt_knows(p));
    for (size_t i = 0; i < p->count; i++)
        at->stages[p->outcomes[i] - at->outcomes] = STAGE_KNOWN;
    at->open -= p->count;
    if (at->first_known_ns == 0)
        at->first_known_ns = clock_mono_ns();
    if (at->runner != NULL)
        task_wake(at->runner);
}

static void give(struct part *p, const struct outcome *o)
{
    for (size_t i = 0; i < p->count; i++)
        outcome_assign(p->outcomes[i], o);
    attempt_made_known(p);
}

/* -- into the line ------------------------------------------------------------------------------------------------------------ */

/* Who sends, for taking turns: the login, else the sender's domain. */
static uint64_t sender_of(const struct envelope *env)
{
    return map_str_hash(env->login.n > 0 ? env->login : env->sender.domain);
}

static enum turns_band band_of(const struct envelope *env)
{
    if (env->priority != 0)
        return env->priority > 0 ? TURNS_URGENT : TURNS_BULK;
    return env->rcpt_count >= BULK_RCPTS ? TURNS_BULK : TURNS_NORMAL;
}

/* Come again by then; and by the times at which the sender must hear of it. */
static void come_again(struct attempt *at, int64_t again_ns)
{
    int64_t now = clock_mono_ns(), to_end = settle_until_end(at);
    int64_t to_late = at->c->env.deliver_by_ns == 0 ? 0 : at->c->env.deliver_by_ns - clock_wall_ns();
    if (to_end > 0 && again_ns > now + to_end)
        again_ns = now + to_end;
    if (to_late > 0 && again_ns > now + to_late)
        again_ns = now + to_late;
    if (again_ns < at->again_ns)
        at->again_ns = again_ns;
}

void attempt_offer(struct part *p)
{
    struct attempt *at = p->attempt;
    struct deliver_context *context = at->context;
    const struct envelope *env = &at->c->env;
    int64_t now = clock_mono_ns(), again;
    struct destination to;
    struct outcome words;

    destination_of(&context->destinations, at->conf, &p->route, env, now, &to);
    if (at->c->urged)
        schedule_urge(line_schedule(context->line), to.site, now);
    struct line_offer o = { .id = at->id, .route = p->hash, .sender = sender_of(env), .site = to.site, .provider = to.provider,
                            .band = band_of(env), .cost = schedule_cost(at->c->body_size), .fixed = to.local };
    switch (line_offer(context->line, &o, now, &again)) {
    case LINE_WAITS: case LINE_PARKED: case LINE_CROWDED:
        come_again(at, again);
        break;
    case LINE_DEAD:
        site_words(context->sites, to.site, &at->c->arena, &words);
        give(p, &words);
        break;
    }
}

/* Its sender is to hear that it waits, or that it waited in vain. */
static bool has_waited_long(const struct attempt *at)
{
    const struct envelope *env = &at->c->env;
    int64_t now = clock_wall_ns(), warning = at->conf->delay_warning_ns;
    return settle_until_end(at) <= 0 || retry_is_late(env, now) || (warning > 0 && now >= retry_begin(env) + warning);
}

/* After the offers: those whose turn has not come, of a message that has waited for long, have that as their outcome. */
static void tell_who_waits(struct attempt *at)
{
    struct outcome waits = outcome_of_ours(RCPT_PENDING, "4.4.5", "waits for its turn at the destination");
    if (!has_waited_long(at))
        return;
    for (const struct ticket *t = at->begun; t != NULL; t = t->next) {
        struct part *p = part_of(at, t);
        if (p != NULL)
            p->begun = true;
    }
    for (size_t i = 0; i < at->part_count; i++)
        if (!at->parts[i].begun && stage_of(&at->parts[i]) == STAGE_OPEN)
            give(&at->parts[i], &waits);
}

/* -- the run of an attempt ------------------------------------------------------------------------------------------------------ */

static void part_task(void *arg)
{
    task_about(((struct part *)arg)->attempt->id);
    part_run(arg);
}

/* Awaits, if it is the only part there is. */
static void start_part(struct attempt *at, struct ticket *t)
{
    struct part *p = part_of(at, t);
    if (p == NULL || p->ticket != NULL || stage_of(p) != STAGE_OPEN) {
        put_off(at->context, t);
        return;
    }
    p->ticket = t;
    if (at->part_count == 1) {
        part_run(p);
    } else if (task_group_start(&at->group, "deliver part", part_task, p) < 0) {
        p->ticket = NULL;
        put_off(at->context, t);
        at->again_ns = task_deadline_in(PAUSE_NS);
    }
}

/* Side by side: a slow site holds up no other, nor the record of what became there. */
static void run(struct attempt *at)
{
    at->runner = task_self();
    while (!task_canceled()) {
        for (struct ticket *t; !task_canceled() && (t = take_begun(at)) != NULL;)
            start_part(at, t);
        if (at->group.count == 0 && at->begun == NULL)
            break;
        (void)task_park(settle_known(at));
    }
    if (task_canceled()) {
        task_group_cancel(&at->group);
        at->again_ns = clock_mono_ns();
    }
    (void)task_group_wait(&at->group, TASK_FOREVER);
}

static void log_trouble(const struct attempt *at, const char *event, int error)
{
    char id[CODEC_ID_LEN + 1];
    codec_id_format(at->id, id);
    log_event(LOG_ERROR, event, LOG_Z("id", id), LOG_I64("errno", -error));
}

/* Awaits. Its turn has come, and it is in the queue. Or not: what became of it meanwhile is no affair of ours. */
static bool fetch(struct attempt *at)
{
    if (at->c != NULL)
        return true;
    if (queue_claim_waiting(at->context->queue, at->id, &at->c) < 0) {
        at->c = NULL;
        return false;
    }
    int r = list_parts(at);
    if (r == 0)
        return true;
    log_trouble(at, "delivery-without-memory", r);
    queue_postpone(at->c, MEMORY_PAUSE_NS);
    at->c = NULL;
    return false;
}

static void begin(struct deliver_context *context, struct ticket *t);

static void attempt_task(void *arg)
{
    struct attempt *at = arg;
    struct deliver_context *context = at->context;
    task_about(at->id);
    if (fetch(at)) {
        run(at);
        task_shield_begin();                                  /* what happened is recorded, stopping or not */
        settle_last(at);
        task_shield_end();
        unregister(at);
        at->runner = NULL;
        for (struct ticket *t; (t = take_begun(at)) != NULL;)
            begin(context, t);                                /* its turn came while the rest was being recorded */
    } else {
        unregister(at);
        put_off_all(at);
    }
    attempt_free(at);
    deliver_pump(context);
}

/* -- whose turn has come ---------------------------------------------------------------------------------------------------------- */

static void leave_idle(struct attempt *at)
{
    struct deliver_context *context = at->context;
    if (at->idle_since_ns == 0)
        return;
    *(at->idle_prev == NULL ? &context->idle_first : &at->idle_prev->idle_next) = at->idle_next;
    *(at->idle_next == NULL ? &context->idle_last : &at->idle_next->idle_prev) = at->idle_prev;
    at->idle_since_ns = 0;
    context->idle_count--;
}

static void enter_idle(struct attempt *at)
{
    struct deliver_context *context = at->context;
    at->idle_since_ns = clock_mono_ns();
    at->idle_prev = context->idle_last;
    at->idle_next = NULL;
    *(context->idle_last == NULL ? &context->idle_first : &context->idle_last->idle_next) = at;
    context->idle_last = at;
    if (context->idle_count++ == 0 && context->timer != NULL)
        task_wake(context->timer);
}

static void give_back(struct attempt *at)
{
    int64_t now = clock_mono_ns();
    leave_idle(at);
    unregister(at);
    put_off_all(at);
    if (at->c != NULL)
        queue_postpone(at->c, at->context->stopping || at->again_ns < now ? 0 : at->again_ns - now);
    attempt_free(at);
}

size_t deliver_give_back(struct deliver_context *context, int64_t waited_ns)
{
    int64_t now = clock_mono_ns();
    while (context->idle_first != NULL && now - context->idle_first->idle_since_ns >= waited_ns)
        give_back(context->idle_first);
    return context->idle_count;
}

static void start(struct attempt *at)
{
    leave_idle(at);
    if (task_group_start(&at->context->tasks, "delivery", attempt_task, at) == 0)
        return;
    at->again_ns = task_deadline_in(PAUSE_NS);
    give_back(at);
}

static void begin(struct deliver_context *context, struct ticket *t)
{
    struct attempt *at = map_u64_get(&context->attempts, t->id);
    if (at != NULL) {
        push_begun(at, t);
        if (at->idle_since_ns != 0)
            start(at);
        return;
    }
    at = attempt_new(context, t->id);
    if (at == NULL || map_u64_put(&context->attempts, at->id, at) < 0) {
        if (at != NULL)
            attempt_free(at);
        put_off(context, t);
        return;
    }
    push_begun(at, t);
    start(at);
}

void deliver_pump(struct deliver_context *context)
{
    struct ticket *t;
    int64_t ask_ns = TASK_FOREVER;
    while (!context->stopping && (t = line_next(context->line, clock_mono_ns(), &ask_ns)) != NULL)
        begin(context, t);
    if (ask_ns < context->ask_ns && context->timer != NULL)
        task_wake(context->timer);
    context->ask_ns = ask_ns;
}

/* -- a message that is due ---------------------------------------------------------------------------------------------------------- */

static void return_all(struct attempt *at)
{
    struct outcome o = outcome_of_ours(RCPT_BOUNCED, "5.4.7", "not delivered within the time that its sender has set");
    for (size_t i = 0; i < at->part_count; i++)
        give(&at->parts[i], &o);
}


/* Another attempt has begun to fetch it, which will be in vain: its tickets are ours. */
static void take_over(struct attempt *at)
{
    struct attempt *other = map_u64_get(&at->context->attempts, at->id);
    if (other == NULL)
        return;
    assert(other->c == NULL);
    for (struct ticket *t; (t = take_begun(other)) != NULL;)
        push_begun(at, t);
}

static void offer_all(struct attempt *at)
{
    for (size_t i = 0; i < at->part_count; i++)
        attempt_offer(&at->parts[i]);
    deliver_pump(at->context);
    tell_who_waits(at);
}

static void run_or_wait(struct attempt *at)
{
    if (at->begun != NULL || at->first_known_ns != 0)
        start(at);
    else if (at->context->idle_count < at->conf->deliveries_max)
        enter_idle(at);
    else
        give_back(at);
}

void deliver_due(struct deliver_context *context, struct claim *c)
{
    struct attempt *at = attempt_new(context, c->id);
    if (at == NULL) {
        queue_postpone(c, MEMORY_PAUSE_NS);
        return;
    }
    at->c = c;
    at->due = true;
    task_about(at->id);
    int r = list_parts(at);
    if (r == 0) {
        take_over(at);
        r = map_u64_put(&context->attempts, at->id, at);
    }
    if (r < 0) {
        log_trouble(at, "delivery-without-memory", r);
        at->again_ns = task_deadline_in(MEMORY_PAUSE_NS);
        give_back(at);
        task_about(0);
        return;
    }
    if (settle_must_return(&c->env, clock_wall_ns()))
        return_all(at);
    else
        offer_all(at);
    run_or_wait(at);
    task_about(0);
}
