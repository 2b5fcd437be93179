/*
 * Outbound: takes what is due from the queue, and sees that whoever's turn comes is tried (deliver.h).
 */
#include "outbound/outbound.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "outbound/deliver.h"
#include "outbound/refusal_table.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAUSE_NS      (100 * NS_PER_MS)  /* after a failure of ours (no memory, an unreadable record) before the next try */
#define REST_MAX_NS   (30 * NS_PER_S)    /* of a dead site, before its first probe */
#define IDLE_NS       (5 * NS_PER_S)     /* so long a message waits for its turn in our hands */
#define SITES_MAX     20000
#define SITE_WAITING  1000               /* parts of messages that wait for a site, not parked */
#define WAITING_MAX   20000              /* likewise, in all */

struct outbound {
    struct queue          *queue;
    struct deliver_context context;
    struct refusal_table  *table;
    struct conf           *configured;           /* what the line was configured by; counted */
    struct task_group      tasks;                /* the scheduler, the timer */
};

static struct outbound *running;         /* to be looked at */

/* -- settings -------------------------------------------------------------------------------------------------------------- */

/* A dead site rests no longer before its first probe than the configuration lets a message wait for its second try. */
static struct schedule_settings settings_of(const struct conf *conf)
{
    int64_t retry = conf->retry.count > 0 ? conf->retry.delays_ns[0] : 0;
    return (struct schedule_settings){ .sites_max = SITES_MAX, .site_messages_max = SITE_WAITING, .messages_max = WAITING_MAX,
                                       .inside_max = conf->deliveries_max,
                                       .pace = { .connections_max = conf->site_connections_max, .rest_ns = retry < REST_MAX_NS ? retry : REST_MAX_NS } };
}

/* A fault in the operator's table was told by `nightmail config check`; what is right in it counts all the same. */
static struct refusal_table *read_table(const struct conf *conf)
{
    CLEANUP_BUF struct buf error;
    buf_init(&error, 4096);
    struct refusal_table *table = refusal_table_new(conf->refusals_file, conf->refusals_text, &error);
    if (error.n > 0)
        log_event(LOG_WARN, "refusals-file", LOG_STR("text", str_trim(buf_str(&error))));
    return table;
}

/* After a reload. Without memory the table of before stays. */
static void configure(struct outbound *o, struct conf *conf)
{
    struct schedule_settings settings = settings_of(conf);
    struct refusal_table *before = o->table, *table = read_table(conf);
    if (table != NULL) {
        o->table = table;
        o->context.refusals = &table->refusals;
        destinations_forget(&o->context.destinations);
    }
    schedule_configure(line_schedule(o->context.line), &settings, o->context.refusals);
    if (table != NULL)
        refusal_table_free(before);
    conf_unref(o->configured);
    o->configured = conf_ref(conf);
}

static void configure_if_reloaded(struct outbound *o)
{
    struct conf *conf = conf_current();
    if (conf != o->configured)
        configure(o, conf);
    conf_unref(conf);
}

/* -- the two tasks ----------------------------------------------------------------------------------------------------------- */

static void scheduler_task(void *arg)
{
    struct outbound *o = arg;
    while (!task_canceled()) {
        struct claim *c;
        int r = queue_claim(o->queue, TASK_FOREVER, &c);
        if (r == -ECANCELED)
            return;
        if (r < 0) {
            log_event(LOG_ERROR, "claim-failed", LOG_I64("errno", -r));
            (void)task_sleep(PAUSE_NS);
            continue;
        }
        configure_if_reloaded(o);
        deliver_due(&o->context, c);
        (void)task_yield();                                   /* it begins now, not behind a backlog of claims; a cancellation shows above */
    }
}

/* For turns that come with time only: a site's pace, a rest that ends. */
static void timer_task(void *arg)
{
    struct deliver_context *context = &((struct outbound *)arg)->context;
    context->timer = task_self();
    while (!task_canceled()) {
        deliver_pump(context);
        size_t idle = deliver_give_back(context, IDLE_NS);
        int64_t until = idle > 0 ? task_deadline_in(NS_PER_S) : TASK_FOREVER;
        (void)task_park(context->ask_ns < until ? context->ask_ns : until);
    }
    context->timer = NULL;
}

/* -- from the start to the end ------------------------------------------------------------------------------------------------ */

static void free_outbound(struct outbound *o)
{
    sites_free(o->context.sites);
    local_free(o->context.local);
    client_tls_free(o->context.tls);
    line_free(o->context.line);
    destinations_free(&o->context.destinations);
    map_u64_free(&o->context.attempts);
    refusal_table_free(o->table);
    conf_unref(o->configured);
    free(o);
}

static int fill(struct outbound *o)
{
    struct deliver_context *context = &o->context;
    o->configured = conf_current();
    struct schedule_settings settings = settings_of(o->configured);
    o->table = read_table(o->configured);
    if (o->table == NULL)
        return -ENOMEM;
    context->queue = o->queue;
    context->refusals = &o->table->refusals;
    context->ask_ns = TASK_FOREVER;
    steady_date_init(&context->date, clock_wall_ns(), clock_mono_ns());
    context->sites = sites_new();
    context->local = local_new();
    context->tls = client_tls_new();
    context->line = line_new(&settings, context->refusals);
    return context->sites == NULL || context->local == NULL || context->tls == NULL || context->line == NULL ? -ENOMEM : 0;
}

static int start_tasks(struct outbound *o)
{
    int r = task_group_start(&o->tasks, "scheduler", scheduler_task, o);
    if (r == 0)
        r = task_group_start(&o->tasks, "schedule timer", timer_task, o);
    if (r < 0) {
        task_group_cancel(&o->tasks);
        (void)task_group_wait(&o->tasks, TASK_FOREVER);
    }
    return r;
}

int outbound_start(struct queue *q, struct outbound **out)
{
    struct outbound *o = calloc(1, sizeof(*o));
    if (o == NULL)
        return -ENOMEM;
    o->queue = q;
    task_group_init(&o->tasks);
    task_group_init(&o->context.tasks);
    destinations_init(&o->context.destinations);
    map_u64_init(&o->context.attempts);
    int r = fill(o);
    if (r == 0)
        r = start_tasks(o);
    if (r < 0) {
        free_outbound(o);
        return r;
    }
    running = o;
    *out = o;
    return 0;
}

void outbound_stop(struct outbound *o, int64_t deadline_ns)
{
    if (running == o)
        running = NULL;
    o->context.stopping = true;
    task_group_cancel(&o->tasks);
    (void)task_group_wait(&o->tasks, TASK_FOREVER);
    (void)deliver_give_back(&o->context, 0);
    (void)task_group_wait(&o->context.tasks, deadline_ns);
    task_group_cancel(&o->context.tasks);
    (void)task_group_wait(&o->context.tasks, TASK_FOREVER);
    free_outbound(o);
}

/* -- to be looked at ----------------------------------------------------------------------------------------------------------- */

static void copy_words(char *out, size_t size, struct str s)
{
    s = str_head(s, size - 1);
    if (s.n > 0)
        memcpy(out, s.p, s.n);
    out[s.n] = '\0';
}

static void fill_site(struct outbound_site *out, const struct schedule_view *v)
{
    const struct pace *p = v->pace;
    int64_t now = clock_mono_ns();
    bool rests = p->rest_until_ns > now;
    *out = (struct outbound_site){ .inside = p->inside, .inside_max = (uint32_t)(p->together.value / 1000), .waiting = v->waiting,
                                   .parked = v->parked, .ipv4 = pace_wants_ipv4(p, now), .rests_ns = rests ? p->rest_until_ns - now : 0 };
    out->state = v->dead ? OUTBOUND_SITE_DEAD : !p->proven ? OUTBOUND_SITE_NEW : rests ? OUTBOUND_SITE_RESTS : OUTBOUND_SITE_WELL;
    out->per_hour = p->rated ? (uint32_t)(p->rate.value * 3600 / 1000) : 0;
    copy_words(out->site, sizeof out->site, str_trim(v->site));
}

bool outbound_each_site(size_t *cursor, struct outbound_site *out)
{
    struct schedule_view v;
    struct outcome words;
    struct arena a;
    if (running == NULL || !schedule_each(line_schedule(running->context.line), cursor, &v))
        return false;
    fill_site(out, &v);
    arena_init(&a, 4096);
    if (site_has_words(running->context.sites, v.site)) {
        site_words(running->context.sites, v.site, &a, &words);
        copy_words(out->words, sizeof out->words, words.text);
    }
    arena_reset(&a);
    return true;
}
