/*
 * The keeper's accounts: passwords and SCRAM proofs, checked behind run/keeper.h.
 *
 * Each question asks the source (the password file, or a database) for the account first, so a login that goes is gone at once. Hashing
 * runs in a pool of its own with a bounded queue, so that a flood of wrong passwords ends in KEEPER_BUSY and not in a server that waits.
 *
 * What an attacker could measure: a login that is not there is checked against another's hash, so it takes as long; its SCRAM salt is
 * made from its name with a key that stays the same, so it is always the same. A right password is remembered for five minutes as a
 * keyed hash, the account's own hash with it: a changed password is forgotten at once.
 *
 * The lock spans only copies and looks into a table; nothing waits in it. Runs in the keeper.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "base/utf8.h"
#include "run/file.h"
#include "run/keeper_internal.h"
#include "run/offload.h"
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECKS_AT_A_TIME  2
#define CHECKS_WAITING    100
#define LOOKS_WAITING     1000
#define CACHE_SLOTS       4096               /* of successful checks; a newer one in the same place forgets the older */
#define CACHE_LIFE_NS     (300 * NS_PER_S)
#define INVENTED_SALT_LEN 16
#define SALT_FILE         "scram-salt"

/* What a password is hashed with when no account has a hash that crypt(3) knows: one of the preferred kind, of nobody. */
#define NOBODYS_HASH "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$tnSYvahCwPBHKZUspmcxMfb0.WiB9W.zEaKlOBL35rC"

struct cached {
    uint8_t sum[DIGEST_SHA256_LEN];
    int64_t until_ns;
};

static struct keeper {
    struct offload       *checks, *looks;    /* owned */
    pthread_mutex_t       lock;              /* of what follows */
    struct keeper_source *source;            /* counted; NULL: nobody can log in */
    struct keeper_record  seen;              /* hash and verifier of accounts found last, where the source has no stand-in */
    uint8_t               cache_key[DIGEST_SHA256_LEN], salt_key[DIGEST_SHA256_LEN];
    struct cached         cache[CACHE_SLOTS];
} *keeper;

/* -- the source ---------------------------------------------------------------------------------------------------------- */

static void put_in_force(struct keeper_source *s)
{
    pthread_mutex_lock(&keeper->lock);
    struct keeper_source *before = keeper->source;
    keeper->source = s;
    explicit_bzero(&keeper->seen, sizeof keeper->seen);
    pthread_mutex_unlock(&keeper->lock);
    keeper_source_unref(before);
}

static struct keeper_source *take_source(void)
{
    pthread_mutex_lock(&keeper->lock);
    struct keeper_source *s = keeper->source == NULL ? NULL : keeper_source_ref(keeper->source);
    pthread_mutex_unlock(&keeper->lock);
    return s;
}

static int take_options(const struct keeper_options *o, char error[256])
{
    struct keeper_source *s = o->source;

    if (s == NULL && o->accounts_file != NULL && o->accounts_file[0] != '\0') {
        int r = keeper_file_new(o->accounts_file, keeper->looks, &s, error);
        if (r < 0)
            return r;
    }
    put_in_force(s);
    return 0;
}

/* -- the key of invented salts ---------------------------------------------------------------------------------------------- */

/* Written beside itself and renamed: half a key is none. */
static int make_salt_key(int dir, struct buf *out)
{
    uint8_t key[DIGEST_SHA256_LEN];

    clock_random(key, sizeof key);
    CLEANUP_FILE int file = file_open_at(dir, SALT_FILE ".new", FILE_WRITE | FILE_CREATE | FILE_TRUNCATE);
    int r = file < 0 ? file : file_write_at(file, key, sizeof key, 0);
    if (r == 0)
        r = file_sync(file);
    if (r == 0)
        r = file_rename_at(dir, SALT_FILE ".new", dir, SALT_FILE);
    if (r == 0)
        r = file_sync(dir);
    buf_put(out, key, sizeof key);
    explicit_bzero(key, sizeof key);
    return r;
}

/* BLOCKS. The key in the folder, made at the first start. */
static int read_salt_key(const char *folder)
{
    char bytes[DIGEST_SHA256_LEN];
    struct buf text;

    buf_init_fixed(&text, bytes, sizeof bytes);
    CLEANUP_FILE int dir = file_open_dir(folder);
    CLEANUP_FILE int file = dir < 0 ? dir : file_open_at(dir, SALT_FILE, FILE_READ);
    int r = file < 0 ? file : file_read_at(file, bytes, sizeof bytes, 0, &text.n);
    if (r == -ENOENT && dir >= 0)
        r = make_salt_key(dir, &text);
    if (r == 0 && text.n < sizeof bytes)
        r = -EINVAL;
    if (r == 0)
        digest_hmac(buf_str(&text), STR("nightmail: invented salts"), keeper->salt_key);
    explicit_bzero(bytes, sizeof bytes);
    return r;
}

static void find_salt_key(const char *folder)
{
    if (folder == NULL)
        return;
    int r = read_salt_key(folder);
    if (r < 0)
        log_event(LOG_WARN, "salt-unstable", LOG_Z("folder", folder), LOG_Z("error", strerror(-r)),
                  LOG_Z("text", "SCRAM salts of logins that are not there will be others after the next start"));
}

/* -- start and stop ------------------------------------------------------------------------------------------------------ */

int keeper_near_start(const struct keeper_options *options, char out_error[256])
{
    assert(keeper == NULL);
    keeper = calloc(1, sizeof *keeper);
    if (keeper == NULL) {
        keeper_source_unref(options->source);
        snprintf(out_error, 256, "no memory");
        return -ENOMEM;
    }
    (void)pthread_mutex_init(&keeper->lock, NULL);
    clock_random(keeper->cache_key, sizeof keeper->cache_key);
    clock_random(keeper->salt_key, sizeof keeper->salt_key);     /* until a file says better */
    find_salt_key(options->salt_dir);
    keeper->looks = offload_new("keeper", 1, LOOKS_WAITING);
    keeper->checks = offload_new("passwords", options->checks_at_a_time > 0 ? options->checks_at_a_time : CHECKS_AT_A_TIME,
                                 options->checks_waiting_max > 0 ? options->checks_waiting_max : CHECKS_WAITING);
    int r = keeper->looks == NULL || keeper->checks == NULL ? -ENOMEM : 0;
    if (r < 0) {
        keeper_source_unref(options->source);
        snprintf(out_error, 256, "no threads for checking passwords");
    } else {
        r = take_options(options, out_error);
    }
    if (r < 0)
        keeper_near_stop();
    return r;
}

int keeper_near_reload(const struct keeper_options *options, char out_error[256])
{
    assert(keeper != NULL);
    return take_options(options, out_error);
}

void keeper_near_stop(void)
{
    if (keeper == NULL)
        return;
    offload_free(keeper->checks);
    offload_free(keeper->looks);
    keeper_source_unref(keeper->source);
    (void)pthread_mutex_destroy(&keeper->lock);
    explicit_bzero(keeper, sizeof *keeper);
    free(keeper);
    keeper = NULL;
}

/* -- accounts -------------------------------------------------------------------------------------------------------------- */

/* The names that a peer may ask a source about. */
static bool is_askable(struct str login) { return login.n > 0 && login.n <= KEEPER_LOGIN_MAX && accounts_login_valid(login) && utf8_valid(login); }

/* Where a source knows no stand-in: what was seen last. The hash and the verifier may be of two accounts. */
static void remember_kind(struct keeper_source *s, const struct keeper_record *a)
{
    if (s->ops->stand_in != NULL)
        return;
    pthread_mutex_lock(&keeper->lock);
    if (keeper_crypt_knows(a->hash))
        memcpy(keeper->seen.hash, a->hash, sizeof a->hash);
    if (a->has_scram) {
        keeper->seen.has_scram = true;
        keeper->seen.scram = a->scram;
    }
    pthread_mutex_unlock(&keeper->lock);
}

/* Always an answer: its hash is one that crypt(3) knows. */
static void stand_in(struct keeper_source *s, struct str login, struct keeper_record *out)
{
    memset(out, 0, sizeof *out);
    if (s->ops->stand_in != NULL) {
        (void)s->ops->stand_in(s, login, out);
    } else {
        pthread_mutex_lock(&keeper->lock);
        *out = keeper->seen;
        pthread_mutex_unlock(&keeper->lock);
    }
    if (!keeper_crypt_knows(out->hash))
        memcpy(out->hash, NOBODYS_HASH, sizeof NOBODYS_HASH);
}

/* Awaits. An account that is locked, its verifier too, is not found. */
static enum keeper_found find(struct keeper_source *s, struct str login, struct keeper_record *out)
{
    if (!is_askable(login))
        return KEEPER_NOT_FOUND;
    enum keeper_found found = s->ops->find(s, login, out);
    if (found != KEEPER_FOUND)
        return found;
    remember_kind(s, out);
    return keeper_crypt_knows(out->hash) ? KEEPER_FOUND : KEEPER_NOT_FOUND;
}

static void put_login(const struct keeper_record *a, char out[KEEPER_LOGIN_MAX + 1]) { memcpy(out, a->login, sizeof a->login); }

void keeper_login_sum(const uint8_t key[DIGEST_SHA256_LEN], struct str login, uint8_t out[DIGEST_SHA256_LEN])
{
    char lower[KEEPER_LOGIN_MAX];
    size_t n = login.n < sizeof lower ? login.n : sizeof lower;

    for (size_t i = 0; i < n; i++)
        lower[i] = char_lower(login.p[i]);
    digest_hmac((struct str){ (const char *)key, DIGEST_SHA256_LEN }, (struct str){ lower, n }, out);
}

/* -- passwords ------------------------------------------------------------------------------------------------------------ */

/* Of an account's own hash and the password, with a key of this process. */
static void cache_sum(const struct keeper_record *a, struct str password, uint8_t out[DIGEST_SHA256_LEN])
{
    char bytes[KEEPER_LOGIN_MAX + ACCOUNTS_HASH_MAX + KEEPER_PASSWORD_MAX + 3];
    struct buf b;

    buf_init_fixed(&b, bytes, sizeof bytes);
    buf_put(&b, a->login, strlen(a->login) + 1);
    buf_put(&b, a->hash, strlen(a->hash) + 1);
    buf_put_str(&b, password);
    assert(buf_ok(&b));
    digest_hmac((struct str){ (const char *)keeper->cache_key, sizeof keeper->cache_key }, buf_str(&b), out);
    explicit_bzero(bytes, b.n);
}

static struct cached *cache_slot(const uint8_t sum[DIGEST_SHA256_LEN])
{
    uint64_t n;

    memcpy(&n, sum, sizeof n);
    return &keeper->cache[n % CACHE_SLOTS];
}

static bool was_right(const uint8_t sum[DIGEST_SHA256_LEN])
{
    pthread_mutex_lock(&keeper->lock);
    const struct cached *slot = cache_slot(sum);
    bool right = slot->until_ns > clock_mono_ns() && digest_equal(slot->sum, sum, sizeof slot->sum);
    pthread_mutex_unlock(&keeper->lock);
    return right;
}

static void remember(const uint8_t sum[DIGEST_SHA256_LEN])
{
    pthread_mutex_lock(&keeper->lock);
    struct cached *slot = cache_slot(sum);
    memcpy(slot->sum, sum, sizeof slot->sum);
    slot->until_ns = clock_mono_ns() + CACHE_LIFE_NS;
    pthread_mutex_unlock(&keeper->lock);
}

struct check {
    struct str  password;
    const char *hash;
    bool        right;
};

static void run_check(void *arg)
{
    struct check *c = arg;
    c->right = keeper_crypt_check(c->password, c->hash);
}

/* Awaits. exists: a is the account, and not its stand-in; the work is the same. */
static enum keeper_verdict check_hash(const struct keeper_record *a, bool exists, struct str password)
{
    struct check check = { .password = password, .hash = a->hash };
    uint8_t sum[DIGEST_SHA256_LEN];

    if (exists) {
        cache_sum(a, password, sum);
        if (was_right(sum))
            return KEEPER_YES;
    }
    if (offload_run(keeper->checks, run_check, &check) < 0)
        return KEEPER_BUSY;
    if (!exists || !check.right)
        return KEEPER_NO;
    remember(sum);
    return KEEPER_YES;
}

static enum keeper_verdict check_password(struct keeper_source *s, struct str login, struct str password, struct keeper_record *a)
{
    bool too_long = password.n > KEEPER_PASSWORD_MAX, exists = false;

    switch (find(s, login, a)) {
    case KEEPER_FOUND: exists = !too_long; break;
    case KEEPER_NOT_FOUND: break;
    case KEEPER_FIND_LATER: return KEEPER_BUSY;
    case KEEPER_FIND_FAILED: return KEEPER_TROUBLE;
    }
    if (!exists)
        stand_in(s, login, a);
    /* A password that no crypt(3) takes is hashed as the empty one, for the time it takes. */
    return check_hash(a, exists, too_long ? STR("") : password);
}

enum keeper_verdict keeper_near_check_password(struct str login, struct str password, char out_login[KEEPER_LOGIN_MAX + 1])
{
    struct keeper_source *s = keeper == NULL ? NULL : take_source();
    struct keeper_record a;

    if (s == NULL)
        return KEEPER_TROUBLE;
    enum keeper_verdict verdict = check_password(s, login, password, &a);
    if (verdict == KEEPER_YES)
        put_login(&a, out_login);
    explicit_bzero(&a, sizeof a);
    keeper_source_unref(s);
    return verdict;
}

/* -- SCRAM ----------------------------------------------------------------------------------------------------------------- */

bool keeper_near_has_scram(void)
{
    struct keeper_source *s = keeper == NULL ? NULL : take_source();
    bool has = s != NULL && s->ops->has_scram(s);

    keeper_source_unref(s);
    return has;
}

/* With iterations and length as another verifier has them. */
static void invent(struct keeper_source *s, struct str login, struct keeper_scram *out)
{
    uint8_t key[DIGEST_SHA256_LEN], sum[DIGEST_SHA256_LEN];
    struct keeper_record other;

    *out = (struct keeper_scram){ .salt_n = INVENTED_SALT_LEN, .iterations = ACCOUNTS_ITERATIONS };
    stand_in(s, login, &other);
    if (other.has_scram) {
        out->iterations = other.scram.iterations;
        out->salt_n = other.scram.salt_n;
    }
    explicit_bzero(&other, sizeof other);
    if (s->ops->salt_key == NULL || !s->ops->salt_key(s, key))
        memcpy(key, keeper->salt_key, sizeof key);           /* nobody changes it after the start */
    keeper_login_sum(key, login, sum);
    memcpy(out->salt, sum, sizeof sum);
    digest_hmac((struct str){ (const char *)key, sizeof key }, (struct str){ (const char *)sum, sizeof sum }, out->salt + sizeof sum);
    explicit_bzero(key, sizeof key);
    _Static_assert(KEEPER_SALT_MAX == 2 * DIGEST_SHA256_LEN, "filled by the two");
}

/* Awaits. The account if it has a verifier; no means no such account. */
static enum keeper_verdict find_verifier(struct keeper_source *s, struct str login, struct keeper_record *out)
{
    switch (find(s, login, out)) {
    case KEEPER_FOUND: return out->has_scram ? KEEPER_YES : KEEPER_NO;
    case KEEPER_NOT_FOUND: return KEEPER_NO;
    case KEEPER_FIND_LATER: return KEEPER_BUSY;
    case KEEPER_FIND_FAILED: break;
    }
    return KEEPER_TROUBLE;
}

enum keeper_verdict keeper_near_scram_parameters(struct str login, struct keeper_scram *out)
{
    struct keeper_source *s = keeper == NULL ? NULL : take_source();
    struct keeper_scram invented;
    struct keeper_record a;

    if (s == NULL)
        return KEEPER_TROUBLE;
    enum keeper_verdict v = find_verifier(s, login, &a);
    if (v == KEEPER_YES || v == KEEPER_NO) {
        invent(s, login, &invented);                         /* for the time it takes, also if there is no need */
        *out = v == KEEPER_YES ? a.scram : invented;
        v = KEEPER_YES;
    }
    explicit_bzero(&a, sizeof a);
    keeper_source_unref(s);
    return v;
}

enum keeper_verdict keeper_near_scram_check(struct str login, struct str auth_message, const uint8_t proof[DIGEST_SHA256_LEN],
                                       uint8_t out_signature[DIGEST_SHA256_LEN], char out_login[KEEPER_LOGIN_MAX + 1])
{
    static const struct scram_keys nobodys;      /* no password is known that gives these */
    struct keeper_source *s = keeper == NULL ? NULL : take_source();
    uint8_t signature[DIGEST_SHA256_LEN];
    struct keeper_record a;

    if (s == NULL)
        return KEEPER_TROUBLE;
    enum keeper_verdict v = find_verifier(s, login, &a);
    bool right = scram_check(v == KEEPER_YES ? &a.keys : &nobodys, auth_message, proof, signature);
    if (v == KEEPER_YES && !right)
        v = KEEPER_NO;
    if (v == KEEPER_YES) {
        memcpy(out_signature, signature, sizeof signature);
        put_login(&a, out_login);
    }
    explicit_bzero(&a, sizeof a);
    keeper_source_unref(s);
    return v;
}
