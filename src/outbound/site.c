/*
 * Sites: see site.h. All on one loop.
 */
#include "outbound/site.h"
#include "base/buf.h"
#include "base/map.h"
#include "base/metrics.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SITE_KEY_MAX     320
#define REAP_EVERY_NS    (1 * NS_PER_S)
#define DOWN_TEXT_MAX    300
#define BY_DATA_NS       (3600 * NS_PER_S)
#define BY_DATA_CROWDED_NS (60 * NS_PER_S)   /* for those who are at it now: it may not be forgotten before they come again */
#define CROWD_FRACTION   4               /* of all deliveries, so many may wait before sites that are not proven get no further ones */

struct waiter {
    struct task   *task;
    bool           admitted;
    struct waiter *next;
};

struct site {
    struct sites  *sites;
    struct str     key;                  /* into key_bytes */
    unsigned       inside;               /* slots taken */
    unsigned       slots;                /* as the configuration said last */
    bool           proven;               /* a connection was made, and none has failed since */
    struct waiter *first, **last;        /* in order of arrival; they live on their tasks' stacks */
    struct client *idle;                 /* newest first */
    int64_t        idle_for_ns;
    int64_t        down_until_ns;        /* monotonic; 0: up */
    int64_t        by_data_until_ns;     /* monotonic; 0: BDAT where it is offered */
    char           down_text[DOWN_TEXT_MAX], down_remote[DOWN_TEXT_MAX];
    char           key_bytes[SITE_KEY_MAX];
};

struct sites {
    struct map_str    by_key;
    unsigned          waiting;           /* for a slot, at all sites */
    struct task_group reaper;
    bool              reaping;
};

/* -- the table ----------------------------------------------------------------------------------------------------------- */

struct sites *sites_new(void)
{
    struct sites *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return NULL;
    map_str_init(&s->by_key);
    task_group_init(&s->reaper);
    return s;
}

static void put_key(struct buf *out, const struct route *route)
{
    switch (route->kind) {
    case ROUTE_LOCAL: assert(!"a Maildir has no site"); break;
    case ROUTE_LMTP_UNIX: buf_printf(out, "lmtp:unix:%s", route->path); break;
    case ROUTE_LMTP:  buf_printf(out, "lmtp:%" STR_FMT ":%u", STR_ARG(route->host), route->port); break;
    case ROUTE_MX:    buf_printf(out, "mx:%" STR_FMT, STR_ARG(route->domain)); break;
    case ROUTE_HOP:   buf_printf(out, "hop:%" STR_FMT ":%u", STR_ARG(route->host), route->port); break;
    case ROUTE_HOST:  buf_printf(out, "host:%" STR_FMT ":%u", STR_ARG(route->host), route->port); break;
    }
}

static struct site *find_or_add(struct sites *s, const struct route *route)
{
    char text[SITE_KEY_MAX];
    struct buf key;
    buf_init_fixed(&key, text, sizeof(text));
    put_key(&key, route);
    assert(buf_ok(&key));                                     /* a domain has at most 255 octets */
    struct site *site = map_str_get(&s->by_key, buf_str(&key));
    if (site != NULL)
        return site;
    site = calloc(1, sizeof(*site));
    if (site == NULL)
        return NULL;
    memcpy(site->key_bytes, text, key.n);
    site->key = (struct str){ site->key_bytes, key.n };
    site->sites = s;
    site->last = &site->first;
    if (map_str_put(&s->by_key, site->key, site) < 0) {
        free(site);
        return NULL;
    }
    return site;
}

static void forget_if_unused(struct site *site)
{
    int64_t now = clock_mono_ns();
    if (site->inside > 0 || site->first != NULL || site->idle != NULL || site->down_until_ns > now || site->by_data_until_ns > now)
        return;
    (void)map_str_remove(&site->sites->by_key, site->key);
    free(site);
}

size_t sites_count(const struct sites *s)
{
    return s->by_key.used;
}

/* -- idle connections ---------------------------------------------------------------------------------------------------- */

/* Take away those idle since before limit_ns: they are at the end, for the newest stands first. */
static struct client *cut_idle(struct site *site, int64_t limit_ns)
{
    struct client **at = &site->idle;
    while (*at != NULL && (*at)->idle_since_ns > limit_ns)
        at = &(*at)->next;
    struct client *old = *at;
    *at = NULL;
    return old;
}

static void close_list(struct client *c)
{
    while (c != NULL) {
        struct client *next = c->next;
        client_close(c);                                      /* awaits */
        c = next;
    }
}

/* One pass: collects what is too old (no waiting), forgets sites that are down no more, then closes. Gives whether any site is left:
 * asked at the end, for others go on while connections are closed. */
static bool reap(struct sites *s)
{
    struct client *old = NULL;
    size_t cursor = 0;
    struct str key;
    void *value;
    int64_t now = clock_mono_ns();
    while (map_str_next(&s->by_key, &cursor, &key, &value)) {
        struct site *site = value;
        struct client *cut = cut_idle(site, now - site->idle_for_ns), **end = &cut;
        while (*end != NULL)
            end = &(*end)->next;
        *end = old;
        old = cut;
        forget_if_unused(site);
    }
    close_list(old);
    return s->by_key.used > 0;
}

static void reaper_task(void *arg)
{
    struct sites *s = arg;
    while (task_sleep(REAP_EVERY_NS) == 0 && reap(s))
        ;
    s->reaping = false;
}

static bool start_reaper(struct sites *s)
{
    if (!s->reaping)
        s->reaping = task_group_start(&s->reaper, "site reaper", reaper_task, s) == 0;
    return s->reaping;
}

static void keep_idle(struct site *site, struct client *c)
{
    if (!start_reaper(site->sites)) {
        client_close(c);                                      /* nobody would close it later */
        return;
    }
    c->idle_since_ns = clock_mono_ns();
    c->next = site->idle;
    site->idle = c;
}

/* The newest kept connection that still lives, and was made under the same configuration: another one may ask for more TLS, another login
 * or another source address. Awaits when it closes others. */
static struct client *take_idle(struct site *site, const struct conf *conf)
{
    while (site->idle != NULL) {
        struct client *c = site->idle;
        site->idle = c->next;
        c->next = NULL;
        bool alive = client_is_alive(c);
        if (alive && c->conf == conf) {
            metric_add(METRIC_connections_out_reused, 1);
            return c;
        }
        c->usable = alive;
        client_close(c);
    }
    return NULL;
}

void sites_free(struct sites *s)
{
    if (s == NULL)
        return;
    task_group_cancel(&s->reaper);
    (void)task_group_wait(&s->reaper, TASK_FOREVER);
    size_t cursor = 0;
    struct str key;
    void *value;
    while (map_str_next(&s->by_key, &cursor, &key, &value)) {
        struct site *site = value;
        assert(site->inside == 0 && site->first == NULL);
        close_list(site->idle);
        free(site);
    }
    map_str_free(&s->by_key);
    free(s);
}

/* -- slots --------------------------------------------------------------------------------------------------------------- */

/* One goes ahead to a site of which we know nothing, or nothing good: the others learn from it. */
static bool has_slot(const struct site *site)
{
    return site->inside < (site->proven ? site->slots : 1);
}

static void admit_waiters(struct site *site)
{
    while (site->first != NULL && has_slot(site)) {
        struct waiter *w = site->first;
        site->first = w->next;
        if (site->first == NULL)
            site->last = &site->first;
        site->inside++;
        w->admitted = true;
        task_wake(w->task);
    }
}

static void leave_queue(struct site *site, struct waiter *w)
{
    struct waiter **at = &site->first;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    if (site->last == &w->next)
        site->last = at;
}

static int wait_for_slot(struct site *site)
{
    if (has_slot(site)) {
        site->inside++;
        return 0;
    }
    struct waiter w = { .task = task_self() };
    *site->last = &w;                    /* analyze autoVariables: unlinked before this function returns */
    site->last = &w.next;
    site->sites->waiting++;
    int r = 0;
    while (!w.admitted && r == 0)
        r = task_park(TASK_FOREVER);
    site->sites->waiting--;
    if (w.admitted)
        return 0;                                             /* a cancellation shows at the next await; the slot is ours to give back */
    leave_queue(site, &w);
    return r;
}

int site_enter(struct sites *s, const struct route *route, const struct conf *conf, struct site **out, struct client **out_client)
{
    struct site *site = find_or_add(s, route);
    if (site == NULL)
        return -ENOMEM;
    site->slots = conf->site_connections_max;
    site->idle_for_ns = conf->connection_idle_ns;
    bool crowded = !site->proven && s->waiting >= conf->deliveries_max / CROWD_FRACTION;
    int r = crowded && !has_slot(site) ? -EBUSY : wait_for_slot(site);
    if (r < 0) {
        forget_if_unused(site);
        return r;
    }
    *out = site;
    *out_client = take_idle(site, conf);
    return 0;
}

void site_leave(struct site *site, struct client *c)
{
    if (c != NULL && client_is_good(c) && !task_canceled())
        keep_idle(site, c);
    else
        client_close(c);
    site->inside--;
    admit_waiters(site);
    forget_if_unused(site);
}

/* -- down and up --------------------------------------------------------------------------------------------------------- */

bool site_is_down(const struct site *site, struct arena *a, struct outcome *out)
{
    if (site->down_until_ns <= clock_mono_ns())
        return false;
    *out = outcome_of_ours(RCPT_PENDING, "4.4.1", "the destination did not answer a moment ago");
    struct str text = str_copy(a, str_of(site->down_text)), remote = str_copy(a, str_of(site->down_remote));
    if (text.p != NULL && remote.p != NULL)
        out->text = text, out->remote = remote;
    return true;
}

static void keep_words(char out[DOWN_TEXT_MAX], struct str words)
{
    struct str s = str_head(words, DOWN_TEXT_MAX - 1);
    if (s.n > 0)
        memcpy(out, s.p, s.n);
    out[s.n] = '\0';
}

void site_set_down(struct site *site, const struct outcome *why, int64_t for_ns)
{
    site->proven = false;
    if (site->sites->by_key.used > SITES_DOWN_MAX)
        return;
    site->down_until_ns = task_deadline_in(for_ns);
    (void)start_reaper(site->sites);                          /* if not: it is forgotten when the next one starts */
    keep_words(site->down_text, why->text);
    keep_words(site->down_remote, why->remote);
}

void site_set_up(struct site *site)
{
    site->down_until_ns = 0;
    site->proven = true;
    admit_waiters(site);
}

/* -- without BDAT -------------------------------------------------------------------------------------------------------- */

void site_set_by_data(struct site *site)
{
    bool crowded = site->sites->by_key.used > SITES_DOWN_MAX;
    site->by_data_until_ns = task_deadline_in(crowded ? BY_DATA_CROWDED_NS : BY_DATA_NS);
    (void)start_reaper(site->sites);                          /* if not: it is forgotten when the next one starts */
}

bool site_is_by_data(const struct site *site) { return site->by_data_until_ns > clock_mono_ns(); }
