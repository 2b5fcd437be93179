/*
 * Buckets in tables: see limit.h. A bucket is the instant up to which what was taken is paid for by time; it may be a window ahead of now. Each
 * has a place in every row, and the least of them counts: another one is ahead of it by what somebody else took.
 */
#include "policy/limit.h"
#include "base/clock.h"
#include "base/digest.h"
#include <stdlib.h>
#include <string.h>

#define MINUTE_NS (60 * NS_PER_S)
#define HOUR_NS   (60 * MINUTE_NS)
#define DAY_NS    (24 * HOUR_NS)
#define KEY_MAX   512                    /* of what is hashed: a login, an address and a word more */

/* Of the tables, one for each kind, and one of who has logged in from where. */
#define ACQUAINTED LIMIT_KINDS
#define TABLES     (LIMIT_KINDS + 1)

struct limits {
    uint8_t secret[16];
    int64_t paid_until_ns[TABLES][LIMIT_ROWS][LIMIT_SLOTS];   /* atomic. 8 MiB, of which only touched pages are real */
};

struct allowance {
    uint32_t amount;                     /* in a window; 0: as much as one likes */
    int64_t  window_ns;
};

struct limits *limits_new(void)
{
    struct limits *l = calloc(1, sizeof *l);

    if (l != NULL)
        clock_random(l->secret, sizeof l->secret);
    return l;
}

void limits_free(struct limits *l) { free(l); }

/* -- places --------------------------------------------------------------------------------------------------------------------- */

/* word parts what is alike: a network and an address, a login and an address. */
static struct limit_key place(const struct limits *l, char word, struct str a, struct str b)
{
    char bytes[KEY_MAX];
    uint8_t hash[DIGEST_SHA256_LEN];
    struct limit_key key;
    struct buf text;

    buf_init_fixed(&text, bytes, sizeof bytes);
    buf_put(&text, l->secret, sizeof l->secret);
    buf_put_char(&text, word);
    buf_put_str(&text, b);
    for (size_t i = 0; i < a.n && text.n < sizeof bytes; i++)
        buf_put_char(&text, char_lower(a.p[i]));
    digest_sha256(buf_str(&text), hash);
    for (size_t i = 0; i < LIMIT_ROWS; i++)
        memcpy(&key.slot[i], hash + i * sizeof key.slot[i], sizeof key.slot[i]);
    return key;
}

static struct str client_bytes(const uint8_t *ip, size_t len) { return (struct str){ (const char *)ip, len == 16 ? 8 : len }; }

void limit_find_client(const struct limits *l, const uint8_t *ip, size_t len, struct limit_client *out)
{
    struct str network = { (const char *)ip, len == 16 ? 6 : len == 4 ? 3 : len };

    out->own = place(l, 'c', STR(""), client_bytes(ip, len));
    out->network = place(l, 'n', STR(""), network);
}

/* -- buckets -------------------------------------------------------------------------------------------------------------------- */

static int64_t paid_until(const struct limits *l, unsigned table, const struct limit_key *key)
{
    int64_t least = INT64_MAX;

    for (size_t i = 0; i < LIMIT_ROWS; i++) {
        int64_t at = __atomic_load_n(&l->paid_until_ns[table][i][key->slot[i]], __ATOMIC_RELAXED);
        least = at < least ? at : least;
    }
    return least;
}

/* Two at the same instant may pay once; a limit is no account. */
static void pay_until(struct limits *l, unsigned table, const struct limit_key *key, int64_t until_ns)
{
    for (size_t i = 0; i < LIMIT_ROWS; i++) {
        int64_t *at = &l->paid_until_ns[table][i][key->slot[i]];
        if (__atomic_load_n(at, __ATOMIC_RELAXED) < until_ns)
            __atomic_store_n(at, until_ns, __ATOMIC_RELAXED);
    }
}

static struct allowance allowance_of(const struct conf *c, enum limit_kind kind)
{
    switch (kind) {
    case LIMIT_CONNECTIONS: return (struct allowance){ c->client_connections_per_minute, MINUTE_NS };
    case LIMIT_ERRORS: return (struct allowance){ c->client_errors_per_hour, HOUR_NS };
    case LIMIT_UNKNOWN_USERS: return (struct allowance){ c->client_unknown_users_per_hour, HOUR_NS };
    case LIMIT_MESSAGES: return (struct allowance){ c->client_messages_per_hour, HOUR_NS };
    case LIMIT_LOGIN_FAILURES: return (struct allowance){ c->client_login_failures_per_hour, HOUR_NS };
    case LIMIT_GUESSES: return (struct allowance){ c->login_failures_per_hour, HOUR_NS };
    case LIMIT_LOG_LINES: return (struct allowance){ LIMIT_LOG_LINES_PER_HOUR, HOUR_NS };
    case LIMIT_KINDS: break;
    }
    return (struct allowance){ 0, HOUR_NS };
}

static struct allowance network_allowance(const struct conf *c, enum limit_kind kind)
{
    struct allowance a = allowance_of(c, kind);

    if (__builtin_mul_overflow(a.amount, c->client_network_factor, &a.amount))
        a.amount = UINT32_MAX;
    return a;
}

static int64_t price_of(const struct allowance *a) { return a->window_ns / a->amount; }

static bool has_one(const struct limits *l, unsigned table, const struct limit_key *key, const struct allowance *a, int64_t now)
{
    int64_t paid = paid_until(l, table, key);

    return a->amount == 0 || (paid > now ? paid : now) + price_of(a) <= now + a->window_ns;
}

static void take_one(struct limits *l, unsigned table, const struct limit_key *key, const struct allowance *a, int64_t now)
{
    int64_t paid = paid_until(l, table, key);

    if (a->amount > 0)
        pay_until(l, table, key, (paid > now ? paid : now) + price_of(a));
}

static uint32_t count_used(const struct limits *l, unsigned table, const struct limit_key *key, const struct allowance *a)
{
    int64_t ahead = a->amount > 0 ? paid_until(l, table, key) - clock_mono_ns() : 0;

    return ahead <= 0 ? 0 : (uint32_t)((ahead + price_of(a) - 1) / price_of(a));
}

/* -- clients -------------------------------------------------------------------------------------------------------------------- */

bool limit_is_spent(const struct limits *l, const struct conf *c, enum limit_kind kind, const struct limit_client *who)
{
    struct allowance own = allowance_of(c, kind), network = network_allowance(c, kind);
    int64_t now = clock_mono_ns();

    return !has_one(l, kind, &who->own, &own, now) || !has_one(l, kind, &who->network, &network, now);
}

bool limit_take(struct limits *l, const struct conf *c, enum limit_kind kind, const struct limit_client *who)
{
    struct allowance own = allowance_of(c, kind), network = network_allowance(c, kind);
    int64_t now = clock_mono_ns();

    if (!has_one(l, kind, &who->own, &own, now) || !has_one(l, kind, &who->network, &network, now))
        return false;
    take_one(l, kind, &who->own, &own, now);
    take_one(l, kind, &who->network, &network, now);
    return true;
}

uint32_t limit_used(const struct limits *l, const struct conf *c, enum limit_kind kind, const struct limit_client *who)
{
    struct allowance own = allowance_of(c, kind);

    return count_used(l, kind, &who->own, &own);
}

/* -- logins --------------------------------------------------------------------------------------------------------------------- */

static struct limit_key place_of_login(const struct limits *l, struct str login) { return place(l, 'l', login, STR("")); }

void limit_login_failed(struct limits *l, const struct conf *c, struct str login)
{
    struct allowance a = allowance_of(c, LIMIT_GUESSES);
    struct limit_key key = place_of_login(l, login);
    int64_t now = clock_mono_ns();

    if (has_one(l, LIMIT_GUESSES, &key, &a, now))
        take_one(l, LIMIT_GUESSES, &key, &a, now);
}

void limit_login_worked(struct limits *l, struct str login, const uint8_t *ip, size_t len)
{
    struct limit_key key = place(l, 'a', login, client_bytes(ip, len));

    pay_until(l, ACQUAINTED, &key, clock_mono_ns() + LIMIT_ACQUAINTED_DAYS * DAY_NS);
}

bool limit_login_blocked(const struct limits *l, const struct conf *c, struct str login, const uint8_t *ip, size_t len)
{
    struct allowance a = allowance_of(c, LIMIT_GUESSES);
    struct limit_key key = place_of_login(l, login), acquainted = place(l, 'a', login, client_bytes(ip, len));
    int64_t now = clock_mono_ns();

    return !has_one(l, LIMIT_GUESSES, &key, &a, now) && paid_until(l, ACQUAINTED, &acquainted) <= now;
}

uint32_t limit_login_failures(const struct limits *l, const struct conf *c, struct str login)
{
    struct allowance a = allowance_of(c, LIMIT_GUESSES);
    struct limit_key key = place_of_login(l, login);

    return count_used(l, LIMIT_GUESSES, &key, &a);
}
