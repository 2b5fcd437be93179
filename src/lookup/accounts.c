/*
 * The source over a database; the contract is in accounts.h.
 *
 * As many threads as connections: a job takes whichever connection is free, and there always is one. A connection found broken is opened
 * again once within the same question, since a server that was started anew leaves all of them broken. What the log says of
 * a database that is away, it says once. Runs in lookup.
 */
#include "lookup/accounts.h"
#include "base/clock.h"
#include "base/log.h"
#include "lookup/database.h"
#include "run/offload.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BACKOFF_FIRST_NS (250 * NS_PER_MS)
#define BACKOFF_MAX_NS   (8 * NS_PER_S)

struct slot {
    atomic_bool taken;                   /* whoever sets it has the connection */
    void       *connection;              /* NULL: to be opened */
};

struct source {
    struct keeper_source    base;
    const struct database  *database;
    struct database_options options;     /* its strings are ours */
    struct offload         *pool;        /* of slot_count threads */
    atomic_bool             has_scram, down;
    atomic_llong            retry_ns, backoff_ns;    /* not before; 0: it was there */
    unsigned                slot_count;
    struct slot             slots[];
};

static struct source *of(struct keeper_source *s) { return (struct source *)(void *)s; }

/* -- connections ------------------------------------------------------------------------------------------------------------ */

static struct slot *take_slot(struct source *s)
{
    for (unsigned i = 0; i < s->slot_count; i++)
        if (!atomic_exchange(&s->slots[i].taken, true))
            return &s->slots[i];
    assert(false);                       /* one for each thread */
    return NULL;
}

static void close_slot(const struct source *s, struct slot *slot)
{
    if (slot->connection != NULL)
        s->database->close(slot->connection);
    slot->connection = NULL;
}

/* Opened in vain: the next try comes later, each time twice as late. */
static void back_off(struct source *s)
{
    int64_t wait = atomic_load(&s->backoff_ns);

    wait = wait == 0 ? BACKOFF_FIRST_NS : wait * 2 > BACKOFF_MAX_NS ? BACKOFF_MAX_NS : wait * 2;
    atomic_store(&s->backoff_ns, wait);
    atomic_store(&s->retry_ns, clock_mono_ns() + wait);
}

static int open_slot(struct source *s, struct slot *slot, int64_t deadline_ns, char error[DATABASE_ERROR_MAX])
{
    bool has_scram;

    if (clock_mono_ns() < atomic_load(&s->retry_ns)) {
        snprintf(error, DATABASE_ERROR_MAX, "not tried again yet");
        return -EAGAIN;
    }
    int r = s->database->open(&s->options, deadline_ns, &slot->connection, &has_scram, error);
    if (r < 0) {
        back_off(s);
        return r;
    }
    atomic_store(&s->has_scram, has_scram);
    atomic_store(&s->backoff_ns, 0);
    return 0;
}

/* -- a question -------------------------------------------------------------------------------------------------------------- */

struct question {
    struct source        *source;
    char                  login[KEEPER_LOGIN_MAX + 1];
    int64_t               deadline_ns;
    struct keeper_record *record;
    enum keeper_found     found;
};

/* An old connection gets half the time, so that a new one can be tried if it is as good as dead. */
static int ask(struct source *s, struct slot *slot, struct question *q, bool *out_found, char error[DATABASE_ERROR_MAX])
{
    bool old = slot->connection != NULL;
    int64_t now = clock_mono_ns();

    int r = old ? s->database->ask(slot->connection, q->login, now + (q->deadline_ns - now) / 2, out_found, q->record, error) : -ENOTCONN;
    if (r < 0)
        close_slot(s, slot);
    if (r != -ENOTCONN && !(old && r == -ETIMEDOUT))
        return r;
    r = open_slot(s, slot, q->deadline_ns, error);
    if (r == 0)
        r = s->database->ask(slot->connection, q->login, q->deadline_ns, out_found, q->record, error);
    if (r < 0)
        close_slot(s, slot);
    return r;
}

static void say(struct source *s, const struct question *q, int r, const char *error)
{
    if (r == -EBADMSG)
        log_event(LOG_ERROR, "account-unusable", LOG_Z("login", q->login), LOG_Z("error", error));
    else if (r < 0 && !atomic_exchange(&s->down, true))
        log_event(LOG_ERROR, "accounts-unreachable", LOG_Z("error", error), LOG_Z("text", "logins get 454 until the database answers"));
    else if (r == 0 && atomic_exchange(&s->down, false))
        log_event(LOG_INFO, "accounts-reachable", LOG_Z("text", "the database answers again"));
}

/* A job. */
static void answer(void *arg)
{
    struct question *q = arg;
    struct source *s = q->source;
    struct slot *slot = take_slot(s);
    char error[DATABASE_ERROR_MAX] = "";
    bool found = false;
    int r = -ETIMEDOUT;

    if (clock_mono_ns() < q->deadline_ns)
        r = ask(s, slot, q, &found, error);
    else
        snprintf(error, sizeof error, "too many questions are waiting");
    atomic_store(&slot->taken, false);
    say(s, q, r, error);
    q->found = r < 0 ? KEEPER_FIND_FAILED : found ? KEEPER_FOUND : KEEPER_NOT_FOUND;
}

static enum keeper_found find(struct keeper_source *source, struct str login, struct keeper_record *out)
{
    struct source *s = of(source);
    struct question q = { .source = s, .deadline_ns = clock_mono_ns() + s->options.timeout_ns, .record = out };

    /* The keeper has seen to this; a text that ends elsewhere for the database than for us would be another login. */
    assert(login.n < sizeof q.login && memchr(login.p, '\0', login.n) == NULL);
    for (size_t i = 0; i < login.n; i++)
        q.login[i] = char_lower(login.p[i]);
    return offload_run(s->pool, answer, &q) < 0 ? KEEPER_FIND_LATER : q.found;
}

/* -- the source ---------------------------------------------------------------------------------------------------------------- */

static bool has_scram(struct keeper_source *source) { return atomic_load(&of(source)->has_scram); }

static void source_free(struct keeper_source *source)
{
    struct source *s = of(source);

    offload_free(s->pool);
    for (unsigned i = 0; i < s->slot_count; i++)
        close_slot(s, &s->slots[i]);
    free((char *)(uintptr_t)s->options.where);
    free((char *)(uintptr_t)s->options.password_file);
    free((char *)(uintptr_t)s->options.query);
    free(s);
}

static const struct keeper_source_ops ops = { .find = find, .has_scram = has_scram, .free = source_free };

/* False without memory or threads. */
static bool take_options(struct source *s, const struct conf *c)
{
    s->options.where = strdup(s->database == &database_sqlite ? c->accounts_sqlite : c->accounts_pgsql);
    s->options.query = strdup(c->accounts_query);
    s->options.timeout_ns = c->accounts_query_timeout_ns;
    if (c->accounts_pgsql_password_file != NULL)
        s->options.password_file = strdup(c->accounts_pgsql_password_file);
    s->pool = offload_new("accounts", s->slot_count, c->accounts_waiting_max);
    return s->options.where != NULL && s->options.query != NULL && s->pool != NULL &&
           (s->options.password_file != NULL) == (c->accounts_pgsql_password_file != NULL);
}

int lookup_accounts_new(const struct conf *conf, struct keeper_source **out, char error[256])
{
    bool sqlite = conf->accounts_sqlite[0] != '\0';

    if (!sqlite && conf->accounts_pgsql[0] == '\0') {
        snprintf(error, 256, "no database is named");
        return -EINVAL;
    }
    struct source *s = calloc(1, sizeof *s + conf->accounts_connections_max * sizeof s->slots[0]);
    if (s == NULL) {
        snprintf(error, 256, "no memory");
        return -ENOMEM;
    }
    s->base.ops = &ops;
    atomic_init(&s->base.refs, 1);
    s->database = sqlite ? &database_sqlite : &database_pgsql;
    s->slot_count = conf->accounts_connections_max;
    if (!take_options(s, conf)) {
        snprintf(error, 256, "no memory or threads for asking the database");
        source_free(&s->base);
        return -ENOMEM;
    }
    *out = &s->base;
    return 0;
}

int lookup_accounts_check(struct keeper_source *source, char error[256])
{
    struct source *s = of(source);
    struct slot *slot = take_slot(s);

    _Static_assert(DATABASE_ERROR_MAX == 256, "the same");
    int r = open_slot(s, slot, clock_mono_ns() + s->options.timeout_ns, error);
    atomic_store(&slot->taken, false);
    return r;
}
