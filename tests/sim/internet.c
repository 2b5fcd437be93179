/*
 * The real line, schedule and table against a virtual clock and a model of the Internet.
 *
 *     internet [--messages N] [--seed N]
 *
 * 10,000 domains at servers that have limits, greylists, outages and latencies: a provider that throttles by text, and takes twice as much
 * after some time; one that counts connections; a large one that bears much; greylisters; dead ones; some that are down for a while. A bulk
 * sender fills the queue, fifty others send much, and one now and then sends a single message: a password reset, say.
 *
 * What is asserted stands in `judge`. The same seed gives the same story.
 */
#include "base/clock.h"
#include "outbound/line.h"
#include "outbound/refusal_table.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DOMAINS       10000
#define MEDIUMS       50
#define BULK          MEDIUMS
#define SINGLE        (MEDIUMS + 1)
#define SENDERS       (MEDIUMS + 2)
#define FLIGHTS_MAX   2000                       /* deliveries at a time */
#define MINUTE        (60 * NS_PER_S)
#define HOUR          (60 * MINUTE)
#define EXPIRE        (12 * HOUR)
#define BULK_IN       (10 * MINUTE)              /* the bulk sender hands over all of its own */
#define LEARNT        (20 * MINUTE)
#define MORE_AT       (60 * MINUTE)              /* the throttling provider takes twice as much from then on */
#define MORE_LEARNT   (85 * MINUTE)
#define OUTAGE_FROM   (5 * MINUTE)
#define OUTAGE_TO     (2 * HOUR)

/* -- the Internet ----------------------------------------------------------------------------------------------------------- */

enum kind { LARGE, THROTTLE, COUNTER, GREY, DEAD, OUTAGE, ORDINARY, KINDS };

static const struct {
    const char *name;
    unsigned    domains, servers;                /* so many domains share so many servers */
    unsigned    share;                           /* of all messages, in thousandths */
    int64_t     latency_ms;
    unsigned    connections;                     /* 0: as many as come */
    double      rate, burst;                     /* a second; 0: any */
} kinds[KINDS] = {
    [LARGE]    = { "large",    2500, 1,    280, 150, 0,  0,  0   },
    [THROTTLE] = { "throttle", 1500, 1,    230, 300, 0,  30, 300 },
    [COUNTER]  = { "counter",  500,  1,    60,  800, 12, 0,  0   },
    [GREY]     = { "grey",     600,  600,  60,  400, 10, 0,  0   },
    [DEAD]     = { "dead",     200,  200,  20,  1,   0,  0,  0   },
    [OUTAGE]   = { "outage",   200,  200,  20,  300, 10, 0,  0   },
    [ORDINARY] = { "ordinary", 4500, 4500, 330, 300, 8,  0,  0   },
};

struct server {
    enum kind kind;
    unsigned  inside;
    double    tokens, rate;
    int64_t   filled_ns;
    char      key[40];
};

enum state { WAITING, LINED, FLYING, DELIVERED, EXPIRED };

struct message {
    struct heap_node     due;
    int64_t              came_ns, first_try_ns, grey_since_ns;
    uint32_t             server;
    uint16_t             sender, attempts;
    uint8_t              state;
};

struct flight {
    struct heap_node       node;
    struct message        *message;
    struct ticket         *ticket;
    struct schedule_result result;
    bool                   counted;              /* inside its server */
    struct flight         *next_free;
};

struct window {
    uint64_t attempts, refused, delivered;
};

struct world {
    uint64_t          random;
    int64_t           now;
    struct line      *line;
    struct refusal_table *table;
    struct heap       due, flights;
    struct message   *messages;
    size_t            count, done, in_flight;
    struct server    *servers;
    size_t            server_count;
    uint32_t         *domain_server;             /* by kind, one after another */
    struct flight     pool[FLIGHTS_MAX], *free;
    struct window     all[KINDS], learnt[KINDS], before_more, after_more;
    uint64_t          turns_at_throttle[SENDERS];    /* while all have some waiting there */
    uint64_t          offers, dead_attempts;
    size_t            line_most, sites_most;
    int64_t           single_worst[KINDS], single_sum[KINDS];
    uint64_t          single_count[KINDS];
    double            counter_seconds;           /* connections there, over the time in which it is busy */
    int64_t           counter_at_ns;
};

static uint64_t next_random(struct world *w)
{
    uint64_t x = w->random += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static uint64_t below(struct world *w, uint64_t bound) { return next_random(w) % bound; }

static bool has_token(struct world *w, struct server *s)
{
    if (kinds[s->kind].rate == 0)
        return true;
    double rate = s->rate * (w->now >= MORE_AT ? 2 : 1);
    s->tokens += rate * (double)(w->now - s->filled_ns) / (double)NS_PER_S;
    s->filled_ns = w->now;
    if (s->tokens > kinds[s->kind].burst)
        s->tokens = kinds[s->kind].burst;
    if (s->tokens < 1)
        return false;
    s->tokens--;
    return true;
}

static struct schedule_result refused(unsigned code, const char *status, const char *text)
{
    return (struct schedule_result){ SCHEDULE_REFUSED, code, str_of(status), str_of(text) };
}

static bool is_out(const struct world *w, const struct server *s)
{
    return s->kind == DEAD || (s->kind == OUTAGE && w->now >= OUTAGE_FROM && w->now < OUTAGE_TO);
}

static struct schedule_result ask_grey(struct world *w, struct message *m)
{
    if (m->grey_since_ns == 0)
        m->grey_since_ns = w->now;
    if (w->now - m->grey_since_ns < 4 * MINUTE)
        return refused(450, "4.2.0", "Recipient address rejected: Greylisted, see postgrey.example");
    return (struct schedule_result){ .kind = SCHEDULE_TAKEN };
}

/* What the server will say, and after how long. */
static struct schedule_result ask(struct world *w, struct server *s, struct message *m, bool *counted, int64_t *takes)
{
    *counted = false;
    *takes = kinds[s->kind].latency_ms * NS_PER_MS * (int64_t)(50 + below(w, 100)) / 100;
    if (is_out(w, s)) {
        *takes = 30 * NS_PER_S;
        return (struct schedule_result){ .kind = SCHEDULE_UNREACHED };
    }
    if (s->kind == ORDINARY && m->server % 20 == 0 && below(w, 2) == 0)
        *takes += 30 * NS_PER_S;                              /* the first of its two servers does not answer, the second does */
    if (kinds[s->kind].connections > 0 && s->inside >= kinds[s->kind].connections)
        return refused(421, "4.7.0", "mx.counter.example: too many connections from your address");
    *counted = true;
    s->inside++;
    if (!has_token(w, s))
        return refused(451, "4.7.1", "Messages from 192.0.2.1 are rate limited.\r\nPlease try again in 30 seconds");
    return s->kind == GREY ? ask_grey(w, m) : (struct schedule_result){ .kind = SCHEDULE_TAKEN };
}

/* -- the queue's index ------------------------------------------------------------------------------------------------------ */

static struct message *of_ticket(struct world *w, const struct ticket *t) { return &w->messages[t->id - 1]; }

static void make_due(struct world *w, struct message *m, int64_t due_ns)
{
    int r = heap_push(&w->due, &m->due, due_ns);
    assert(r == 0);
    (void)r;
}

static int64_t retry_at(struct world *w, const struct message *m, int64_t not_before)
{
    static const int64_t minutes[] = { 1, 5, 15, 30, 60, 120 };
    size_t n = m->attempts < 6 ? (m->attempts > 0 ? m->attempts - 1u : 0) : 5;
    int64_t at = w->now + minutes[n] * MINUTE * (int64_t)(90 + below(w, 21)) / 100;
    return at > not_before ? at : not_before;
}

/* What attempt.c does with a message that is due. */
static void offer(struct world *w, struct message *m)
{
    struct line_offer o = { .id = (uint64_t)(m - w->messages) + 1, .sender = m->sender, .site = str_of(w->servers[m->server].key), .band = TURNS_NORMAL,
                            .cost = schedule_cost(10000) };
    int64_t again = 0;

    heap_remove(&w->due, &m->due);
    if (w->now - m->came_ns >= EXPIRE) {
        m->state = EXPIRED;
        w->done++;
        return;
    }
    w->offers++;
    m->state = LINED;
    switch (line_offer(w->line, &o, w->now, &again)) {
    case LINE_WAITS: case LINE_PARKED: case LINE_CROWDED:
        break;
    case LINE_DEAD:                                           /* that is its outcome, as long as it is not called */
        m->attempts++;
        again = retry_at(w, m, 0);
        break;
    }
    make_due(w, m, again);
}

static void offer_due(struct world *w)
{
    struct heap_node *top;

    while ((top = heap_top(&w->due)) != NULL && top->key <= w->now)
        offer(w, CONTAINER_OF(top, struct message, due));
}

/* -- deliveries ------------------------------------------------------------------------------------------------------------- */

static void count_attempt(struct world *w, const struct message *m, enum kind kind, bool no)
{
    struct window *windows[] = { &w->all[kind], w->now >= LEARNT ? &w->learnt[kind] : NULL };

    for (size_t i = 0; i < 2; i++) {
        if (windows[i] == NULL)
            continue;
        windows[i]->attempts++;
        windows[i]->refused += no;
    }
    w->dead_attempts += kind == DEAD;
    if (kind == THROTTLE && w->now >= 2 * MINUTE && w->now < BULK_IN)
        w->turns_at_throttle[m->sender]++;
}

/* Once everything is learnt, and while the bulk sender's mail still waits at the throttling provider. */
static void count_single(struct world *w, const struct message *m, enum kind kind)
{
    int64_t delay = w->now - m->came_ns;

    if (m->came_ns < LEARNT)
        return;
    w->single_count[kind]++;
    w->single_sum[kind] += delay;
    if (delay > w->single_worst[kind])
        w->single_worst[kind] = delay;
}

/* So that its mean can be told. */
static void count_connections(struct world *w)
{
    const struct server *s = &w->servers[COUNTER];

    if (w->counter_at_ns >= LEARNT && w->counter_at_ns < MORE_AT)
        w->counter_seconds += (double)s->inside * (double)(w->now - w->counter_at_ns) / (double)NS_PER_S;
    w->counter_at_ns = w->now;
}

static void fly(struct world *w, struct ticket *t)
{
    struct message *m = of_ticket(w, t);
    struct server *s = &w->servers[m->server];
    struct flight *f = w->free;
    int64_t takes;

    w->free = f->next_free;
    w->in_flight++;
    if (s->kind == COUNTER)
        count_connections(w);
    f->message = m;
    f->ticket = t;
    heap_remove(&w->due, &m->due);
    f->result = ask(w, s, m, &f->counted, &takes);
    m->state = FLYING;
    if (m->attempts++ == 0 && m->sender == SINGLE)
        count_single(w, m, s->kind);
    /* Greylisting is no refusal that haste provoked. */
    count_attempt(w, m, s->kind, f->result.kind == SCHEDULE_REFUSED && s->kind != GREY);
    if (heap_push(&w->flights, &f->node, w->now + takes) < 0)
        abort();
}

static bool is_over(const struct message *m) { return m->state == DELIVERED || m->state == EXPIRED; }

static void begin_deliveries(struct world *w, int64_t *ask_again)
{
    struct schedule_result not_tried = { .kind = SCHEDULE_NOT_TRIED };
    struct ticket *t;

    while ((t = line_next(w->line, w->now, ask_again)) != NULL) {
        if (is_over(of_ticket(w, t)))
            (void)line_end(w->line, t, &not_tried, w->now);   /* it has left the queue meanwhile */
        else
            fly(w, t);
    }
}

static void land(struct world *w, struct flight *f)
{
    struct message *m = f->message;
    struct server *s = &w->servers[m->server];

    if (s->kind == COUNTER)
        count_connections(w);
    s->inside -= f->counted;
    int64_t not_before = line_end(w->line, f->ticket, &f->result, w->now);
    if (f->result.kind == SCHEDULE_TAKEN) {
        m->state = DELIVERED;
        w->done++;
        w->all[s->kind].delivered++;
        if (s->kind == THROTTLE && w->now >= LEARNT && w->now < MORE_AT)
            w->before_more.delivered++;
        if (s->kind == THROTTLE && w->now >= MORE_LEARNT && w->now < MORE_LEARNT + 10 * MINUTE)
            w->after_more.delivered++;
    } else {
        m->state = WAITING;
        make_due(w, m, retry_at(w, m, not_before));
    }
    f->next_free = w->free;
    w->free = f;
    w->in_flight--;
}

static void land_all(struct world *w)
{
    struct heap_node *top;

    while ((top = heap_top(&w->flights)) != NULL && top->key <= w->now) {
        (void)heap_pop(&w->flights);
        land(w, CONTAINER_OF(top, struct flight, node));
    }
}

static int64_t sooner(int64_t at, const struct heap *h)
{
    const struct heap_node *top = heap_top(h);
    return top != NULL && top->key < at ? top->key : at;
}

static void run(struct world *w)
{
    const struct schedule *schedule = line_schedule(w->line);
    while (w->done < w->count) {
        int64_t ask_again;
        land_all(w);
        offer_due(w);
        begin_deliveries(w, &ask_again);
        if (schedule_count(schedule) > w->line_most)
            w->line_most = schedule_count(schedule);
        if (schedule_sites(schedule) > w->sites_most)
            w->sites_most = schedule_sites(schedule);
        int64_t next = sooner(sooner(ask_again, &w->due), &w->flights);
        assert(next != PACE_NEVER || w->done == w->count);    /* nothing is ever stuck */
        if (w->done < w->count)
            w->now = next > w->now ? next : w->now + 1;
    }
}

/* -- a world ---------------------------------------------------------------------------------------------------------------- */

static void make_servers(struct world *w)
{
    uint32_t domain = 0;

    w->servers = calloc(DOMAINS, sizeof *w->servers);
    w->domain_server = calloc(DOMAINS, sizeof *w->domain_server);
    if (w->servers == NULL || w->domain_server == NULL)
        abort();
    for (unsigned k = 0; k < KINDS; k++) {
        for (unsigned i = 0; i < kinds[k].servers; i++) {
            struct server *s = &w->servers[w->server_count + i];
            *s = (struct server){ .kind = (enum kind)k, .tokens = kinds[k].burst, .rate = kinds[k].rate };
            (void)snprintf(s->key, sizeof s->key, "192.0.2.1 mx:%s%u", kinds[k].name, i);
        }
        for (unsigned i = 0; i < kinds[k].domains; i++)
            w->domain_server[domain++] = (uint32_t)w->server_count + i % kinds[k].servers;
        w->server_count += kinds[k].servers;
    }
    assert(domain == DOMAINS && w->servers[COUNTER].kind == COUNTER);
}

/* A domain of a kind by its share, and within the kind any. */
static uint32_t choose_server(struct world *w)
{
    uint64_t at = below(w, 1000), first = 0;

    for (unsigned k = 0;; k++) {
        if (at < kinds[k].share || k == KINDS - 1)
            return w->domain_server[first + below(w, kinds[k].domains)];
        at -= kinds[k].share;
        first += kinds[k].domains;
    }
}

static void make_messages(struct world *w)
{
    size_t medium = w->count * 15 / 100, single = 5000;

    w->messages = calloc(w->count, sizeof *w->messages);
    if (w->messages == NULL)
        abort();
    for (size_t i = 0; i < w->count; i++) {
        struct message *m = &w->messages[i];
        heap_node_init(&m->due);
        m->server = choose_server(w);
        m->sender = (uint16_t)(i < single ? SINGLE : i < single + medium ? i % MEDIUMS : BULK);
        m->came_ns = 1 + (int64_t)below(w, (uint64_t)(m->sender == SINGLE ? HOUR : m->sender == BULK ? BULK_IN : NS_PER_S));
        make_due(w, m, m->came_ns);
    }
}

static struct world *make_world(uint64_t seed, size_t count)
{
    static const struct schedule_settings settings = { .sites_max = 8000, .site_messages_max = 1000, .messages_max = 20000, .inside_max = FLIGHTS_MAX,
                                                       .pace = { .connections_max = 50 } };
    struct world *w = calloc(1, sizeof *w);

    if (w == NULL)
        abort();
    w->random = seed;
    w->count = count;
    heap_init(&w->due);
    heap_init(&w->flights);
    for (size_t i = 0; i < FLIGHTS_MAX; i++) {
        heap_node_init(&w->pool[i].node);
        w->pool[i].next_free = w->free;
        w->free = &w->pool[i];
    }
    struct buf error;
    buf_init(&error, 4096);
    w->table = refusal_table_new("", STR(""), &error);
    buf_free(&error);
    if (w->table == NULL)
        abort();
    make_servers(w);
    make_messages(w);
    w->line = line_new(&settings, &w->table->refusals);
    if (w->line == NULL)
        abort();
    return w;
}

static void end_world(struct world *w)
{
    line_free(w->line);
    heap_free(&w->due);
    heap_free(&w->flights);
    refusal_table_free(w->table);
    free(w->messages);
    free(w->servers);
    free(w->domain_server);
    free(w);
}

/* -- the judgement ---------------------------------------------------------------------------------------------------------- */

static unsigned passed, failed;

static void expect(bool good, const char *what, double value, double limit)
{
    printf("%-6s %-78s %10.3f  (%g)\n", good ? "ok" : "FAILED", what, value, limit);
    passed += good;
    failed += !good;
}

static void at_most(const char *what, double value, double limit) { expect(value <= limit, what, value, limit); }
static void at_least(const char *what, double value, double limit) { expect(value >= limit, what, value, limit); }

static double share(uint64_t a, uint64_t b) { return b == 0 ? 0 : (double)a / (double)b; }

/* Jain's index: 1 if all have the same, 1/n if one has all. */
static double fairness(const uint64_t *counts, size_t n)
{
    double sum = 0, squares = 0;

    for (size_t i = 0; i < n; i++) {
        sum += (double)counts[i];
        squares += (double)counts[i] * (double)counts[i];
    }
    return squares == 0 ? 0 : sum * sum / ((double)n * squares);
}

static double single_mean(const struct world *w, enum kind kind)
{
    return share((uint64_t)w->single_sum[kind], w->single_count[kind]) / (double)NS_PER_S;
}

static void judge_ends(const struct world *w)
{
    uint64_t lost = 0;

    for (size_t i = 0; i < w->count; i++)
        lost += w->messages[i].state != (w->servers[w->messages[i].server].kind == DEAD ? EXPIRED : DELIVERED);
    at_most("messages that did not end as they should", (double)lost, 0);
    at_most("messages in the schedule at a time", (double)w->line_most, 20000 + 4 * 8000);
    at_most("sites remembered at a time", (double)w->sites_most, 8000);
    at_most("offers a message", share(w->offers, w->count), 4);
}

static void judge(const struct world *w)
{
    judge_ends(w);
    at_most("throttling provider: refusals provoked, once learnt", share(w->learnt[THROTTLE].refused, w->learnt[THROTTLE].attempts), 0.01);
    at_most("throttling provider: refusals provoked, in all", share(w->all[THROTTLE].refused, w->all[THROTTLE].attempts), 0.02);
    at_least("convergence: of what it takes, it got", (double)w->before_more.delivered / (30.0 * (MORE_AT - LEARNT) / NS_PER_S), 0.8);
    at_least("healing: of twice as much, 25 minutes after it took that, it got", (double)w->after_more.delivered / (60.0 * 600), 0.8);
    at_most("counting provider: refusals provoked, once learnt", share(w->learnt[COUNTER].refused, w->learnt[COUNTER].attempts), 0.01);
    at_least("counting provider: of its connections, used", w->counter_seconds / (12.0 * (MORE_AT - LEARNT) / NS_PER_S), 0.8);
    at_most("ordinary servers: refusals provoked, in all", share(w->all[ORDINARY].refused, w->all[ORDINARY].attempts), 0.02);
    at_most("dead servers: attempts at each in 12 hours", (double)w->dead_attempts / kinds[DEAD].servers, 40);
    at_least("fairness between 51 senders at the throttling provider (Jain)", fairness(w->turns_at_throttle, BULK + 1), 0.95);
    at_most("a single message waits at the throttling provider: mean seconds", single_mean(w, THROTTLE), 5);
    at_most("a single message waits at the large provider: worst second", (double)w->single_worst[LARGE] / 1e9, 5);
}

static void show(const struct world *w)
{
    printf("%-10s %10s %10s %10s %12s\n", "kind", "attempts", "refused", "delivered", "single, mean");
    for (unsigned k = 0; k < KINDS; k++)
        printf("%-10s %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10.2f s\n", kinds[k].name, w->all[k].attempts, w->all[k].refused,
               w->all[k].delivered, single_mean(w, (enum kind)k));
    printf("%.1f hours of virtual time\n\n", (double)w->now / (double)HOUR);
}

static uint64_t number_of(const char *option)
{
    uint64_t n;
    if (option == NULL || !str_to_u64(str_of(option), 100000000, &n)) {
        fprintf(stderr, "usage: internet [--messages N] [--seed N]\n");
        exit(2);
    }
    return n;
}

int main(int argc, char **argv)
{
    uint64_t seed = 1, count = 1000000;

    for (int i = 1; i < argc; i += 2) {
        uint64_t n = number_of(argv[i + 1]);
        if (strcmp(argv[i], "--messages") == 0)
            count = n;
        else if (strcmp(argv[i], "--seed") == 0)
            seed = n;
        else
            (void)number_of(NULL);
    }
    struct world *w = make_world(seed, count);
    run(w);
    show(w);
    judge(w);
    end_world(w);
    printf("%u passed, %u failed\n", passed, failed);
    return failed > 0;
}
