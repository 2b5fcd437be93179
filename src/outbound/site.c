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

#define REAP_EVERY_NS    (1 * NS_PER_S)
#define WORDS_MAX        300
#define BY_DATA_NS       (3600 * NS_PER_S)
#define BY_DATA_CROWDED_NS (60 * NS_PER_S)   /* for those who are at it now: it may not be forgotten before they come again */

struct site {
    struct sites  *sites;
    struct str     key;                  /* into key_bytes */
    unsigned       inside;
    struct client *idle;                 /* newest first */
    int64_t        idle_for_ns;
    int64_t        words_until_ns;       /* monotonic; 0: none */
    int64_t        by_data_until_ns;     /* monotonic; 0: BDAT where it is offered */
    char           text[WORDS_MAX], remote[WORDS_MAX];
    char           key_bytes[];
};

struct sites {
    struct map_str    by_key;
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

static struct site *find_or_add(struct sites *s, struct str key)
{
    struct site *site = map_str_get(&s->by_key, key);
    if (site != NULL)
        return site;
    site = calloc(1, sizeof(*site) + key.n);
    if (site == NULL)
        return NULL;
    memcpy(site->key_bytes, key.p, key.n);
    site->key = (struct str){ site->key_bytes, key.n };
    site->sites = s;
    if (map_str_put(&s->by_key, site->key, site) < 0) {
        free(site);
        return NULL;
    }
    return site;
}

static void forget_if_unused(struct site *site)
{
    int64_t now = clock_mono_ns();
    if (site->inside > 0 || site->idle != NULL || site->words_until_ns > now || site->by_data_until_ns > now)
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

/* One pass: collects what is too old (no waiting), forgets sites that nobody needs, then closes. Gives whether any site is left:
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
        assert(site->inside == 0);
        close_list(site->idle);
        free(site);
    }
    map_str_free(&s->by_key);
    free(s);
}

/* -- in and out ---------------------------------------------------------------------------------------------------------- */

int site_enter(struct sites *s, struct str key, const struct conf *conf, struct site **out, struct client **out_client)
{
    struct site *site = find_or_add(s, key);
    if (site == NULL)
        return -ENOMEM;
    site->idle_for_ns = conf->connection_idle_ns;
    site->inside++;
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
    forget_if_unused(site);
}

/* -- its words ------------------------------------------------------------------------------------------------------------- */

bool site_has_words(const struct sites *s, struct str key)
{
    const struct site *site = map_str_get(&s->by_key, key);
    return site != NULL && site->words_until_ns > clock_mono_ns();
}

void site_words(const struct sites *s, struct str key, struct arena *a, struct outcome *out)
{
    const struct site *site = map_str_get(&s->by_key, key);
    *out = outcome_of_ours(RCPT_PENDING, "4.4.1", "the destination did not answer a moment ago");
    if (site == NULL || site->words_until_ns <= clock_mono_ns())
        return;
    struct str text = str_copy(a, str_of(site->text)), remote = str_copy(a, str_of(site->remote));
    if (text.p != NULL && remote.p != NULL && text.n > 0)
        out->text = text, out->remote = remote;
}

static void keep_words(char out[WORDS_MAX], struct str words)
{
    struct str s = str_head(words, WORDS_MAX - 1);
    if (s.n > 0)
        memcpy(out, s.p, s.n);
    out[s.n] = '\0';
}

void site_keep_words(struct site *site, const struct outcome *why, int64_t for_ns)
{
    if (site->sites->by_key.used > SITES_WORDS_MAX)
        return;
    site->words_until_ns = task_deadline_in(for_ns);
    (void)start_reaper(site->sites);                          /* if not: it is forgotten when the next one starts */
    keep_words(site->text, why->text);
    keep_words(site->remote, why->remote);
}

/* -- without BDAT -------------------------------------------------------------------------------------------------------- */

void site_set_by_data(struct site *site)
{
    bool crowded = site->sites->by_key.used > SITES_WORDS_MAX;
    site->by_data_until_ns = task_deadline_in(crowded ? BY_DATA_CROWDED_NS : BY_DATA_NS);
    (void)start_reaper(site->sites);                          /* if not: it is forgotten when the next one starts */
}

bool site_is_by_data(const struct site *site) { return site->by_data_until_ns > clock_mono_ns(); }
