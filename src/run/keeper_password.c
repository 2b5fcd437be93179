/*
 * The keeper's accounts: passwords and SCRAM proofs, checked behind run/keeper.h.
 *
 * The file is read into a snapshot that is counted; a question takes the one in force and keeps it while it waits. At most once a
 * second a question looks whether the file has changed. Hashing runs in a pool of its own with a bounded queue, so that a
 * flood of wrong passwords ends in KEEPER_BUSY and not in a server that waits.
 *
 * What an attacker could measure: a login that is not there is checked against another's hash, so it takes as long; its SCRAM salt
 * is made from its name with the key in the file (!salt), so it is always the same. A right password is remembered
 * for five minutes as a keyed hash, the account's own hash with it: a changed password is forgotten at once.
 *
 * The lock spans only the copy of a pointer and looks into a table; nothing waits in it. Runs in the keeper, which is this process.
 */
#include "base/cleanup.h"
#include "base/log.h"
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
#define LOOK_EVERY_NS     NS_PER_S
#define CACHE_SLOTS       4096               /* of successful checks; a newer one in the same place forgets the older */
#define CACHE_LIFE_NS     (300 * NS_PER_S)
#define INVENTED_SALT_LEN 16

/* What a password is hashed with when no account has a hash that crypt(3) knows: one of the preferred kind, of nobody. */
#define NOBODYS_HASH "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$tnSYvahCwPBHKZUspmcxMfb0.WiB9W.zEaKlOBL35rC"

struct file_mark {
    uint64_t size, mtime_ns;
};

struct cached {
    uint8_t sum[DIGEST_SHA256_LEN];
    int64_t until_ns;
};

static struct keeper {
    struct offload  *checks, *looks;         /* owned */
    pthread_mutex_t  lock;                   /* of what follows */
    struct accounts *accounts;               /* counted; NULL: no file */
    char            *path;                   /* owned; NULL: none */
    struct file_mark mark;                   /* of the file when it was last read, or when that was tried */
    bool             alarmed;                /* and in vain: said */
    int64_t          looked_ns;
    uint8_t          cache_key[DIGEST_SHA256_LEN], salt_key[DIGEST_SHA256_LEN];
    struct cached    cache[CACHE_SLOTS];
} *keeper;

/* -- snapshots of the file ---------------------------------------------------------------------------------------------- */

static struct accounts *take_accounts(void)
{
    pthread_mutex_lock(&keeper->lock);
    struct accounts *a = keeper->accounts;
    if (a != NULL)
        a->refs++;
    pthread_mutex_unlock(&keeper->lock);
    return a;
}

static void give_back(struct accounts *a)
{
    if (a == NULL)
        return;
    pthread_mutex_lock(&keeper->lock);
    bool last = --a->refs == 0;
    pthread_mutex_unlock(&keeper->lock);
    if (last)
        accounts_free(a);
}

/* What was read from a file, with the file's name; a may be NULL for none. Takes both. With only_again, a look's: not if the configuration
 * has named another file meanwhile. */
static void put_in_force(struct accounts *a, char *path, const struct file_mark *mark, bool only_again)
{
    if (a != NULL)
        a->refs = 1;
    pthread_mutex_lock(&keeper->lock);
    bool late = only_again && (keeper->path == NULL || strcmp(keeper->path, path) != 0);
    struct accounts *unused = late ? a : keeper->accounts;
    char *unused_path = late ? path : keeper->path;
    if (!late) {
        keeper->accounts = a;
        keeper->path = path;
        keeper->mark = *mark;
        keeper->alarmed = false;
        if (a != NULL && a->salt_key.n > 0)
            digest_hmac(a->salt_key, STR("nightmail: invented salts"), keeper->salt_key);
    }
    pthread_mutex_unlock(&keeper->lock);
    free(unused_path);
    give_back(unused);
}

/* BLOCKS. The mark is taken before the text: a change in between is seen at the next look. *out_mark is always set. */
static int read_accounts(const char *path, struct accounts **out, struct file_mark *out_mark, char error[256])
{
    CLEANUP_BUF struct buf text = { .p = NULL };
    struct file_info info = { .size = 0 };

    int r = file_info_path(path, &info);
    *out_mark = (struct file_mark){ .size = info.size, .mtime_ns = info.mtime_ns };
    buf_init(&text, ACCOUNTS_FILE_MAX + 1);
    if (r == 0)
        r = file_read_whole(path, ACCOUNTS_FILE_MAX, &text);
    if (r < 0) {
        snprintf(error, 256, "%s: %s", path, strerror(-r));
        return r;
    }
    r = accounts_parse(buf_str(&text), path, out, error);
    if (text.n > 0)
        explicit_bzero(text.p, text.n);
    return r;
}

/* -- looking whether it has changed -------------------------------------------------------------------------------------- */

/* The path to look at; NULL: there is none, or memory is out, and the next look is soon. changed: not as it was read. */
static char *path_to_look_at(struct file_mark *out_mark, bool *out_alarmed)
{
    pthread_mutex_lock(&keeper->lock);
    char *path = keeper->path == NULL ? NULL : strdup(keeper->path);
    *out_mark = keeper->mark;
    *out_alarmed = keeper->alarmed;
    pthread_mutex_unlock(&keeper->lock);
    return path;
}

/* What was known stays in force; said once for each state of the file. */
static void sound_alarm(const struct file_mark *mark, const char *error)
{
    pthread_mutex_lock(&keeper->lock);
    keeper->mark = *mark;
    keeper->alarmed = true;
    pthread_mutex_unlock(&keeper->lock);
    log_event(LOG_ERROR, "accounts-unreadable", LOG_Z("error", error), LOG_Z("text", "the logins known before stay in force"));
}

/* A job, and only one at a time. */
static void look(void *arg)
{
    struct file_info info = { .size = 0 };
    struct file_mark before, now;
    struct accounts *a;
    bool alarmed;
    char error[256];
    char *path = path_to_look_at(&before, &alarmed);

    (void)arg;
    if (path == NULL)
        return;
    int r = file_info_path(path, &info);
    if (info.size == before.size && info.mtime_ns == before.mtime_ns && (r == 0 || alarmed)) {
        free(path);
        return;
    }
    if (read_accounts(path, &a, &now, error) < 0) {
        sound_alarm(&now, error);
        free(path);
        return;
    }
    log_event(LOG_INFO, "accounts-read", LOG_Z("file", path), LOG_U64("logins", a->count), LOG_U64("verifiers", a->scram_count));
    put_in_force(a, path, &now, true);
}

/* Whether the last look is a second old; then the caller sees to one. */
static bool look_is_due(void)
{
    int64_t now = clock_mono_ns();

    pthread_mutex_lock(&keeper->lock);
    bool due = now - keeper->looked_ns >= LOOK_EVERY_NS;
    if (due)
        keeper->looked_ns = now;
    pthread_mutex_unlock(&keeper->lock);
    return due;
}

/* Awaits a look where one is due. A pool too busy to look is no reason to refuse anybody. */
static void look_at_times(void)
{
    if (look_is_due())
        (void)offload_run(keeper->looks, look, NULL);
}

/* -- start and stop ------------------------------------------------------------------------------------------------------ */

/* Reads what the options name and puts it in force. */
static int take_options(const struct keeper_options *o, char error[256])
{
    struct accounts *a = NULL;
    struct file_mark mark = { .size = 0 };
    char *path = NULL;

    if (o->accounts_file != NULL && o->accounts_file[0] != '\0') {
        int r = read_accounts(o->accounts_file, &a, &mark, error);
        if (r < 0)
            return r;
        path = strdup(o->accounts_file);
        if (path == NULL) {
            accounts_free(a);
            snprintf(error, 256, "no memory");
            return -ENOMEM;
        }
    }
    put_in_force(a, path, &mark, false);
    return 0;
}

int keeper_start(const struct keeper_options *options, char out_error[256])
{
    assert(keeper == NULL);
    keeper = calloc(1, sizeof *keeper);
    if (keeper == NULL) {
        snprintf(out_error, 256, "no memory");
        return -ENOMEM;
    }
    (void)pthread_mutex_init(&keeper->lock, NULL);
    clock_random(keeper->cache_key, sizeof keeper->cache_key);
    clock_random(keeper->salt_key, sizeof keeper->salt_key);     /* until a file says better */
    keeper->looked_ns = clock_mono_ns();
    int r = take_options(options, out_error);
    if (r == 0) {
        keeper->looks = offload_new("keeper", 1, LOOKS_WAITING);
        keeper->checks = offload_new("passwords", options->checks_at_a_time > 0 ? options->checks_at_a_time : CHECKS_AT_A_TIME,
                                     options->checks_waiting_max > 0 ? options->checks_waiting_max : CHECKS_WAITING);
        if (keeper->looks == NULL || keeper->checks == NULL) {
            snprintf(out_error, 256, "no threads for checking passwords");
            r = -ENOMEM;
        }
    }
    if (r < 0)
        keeper_stop();
    return r;
}

int keeper_reload(const struct keeper_options *options, char out_error[256])
{
    assert(keeper != NULL);
    return take_options(options, out_error);
}

void keeper_stop(void)
{
    if (keeper == NULL)
        return;
    offload_free(keeper->checks);
    offload_free(keeper->looks);
    if (keeper->accounts != NULL)
        give_back(keeper->accounts);
    free(keeper->path);
    (void)pthread_mutex_destroy(&keeper->lock);
    explicit_bzero(keeper, sizeof *keeper);
    free(keeper);
    keeper = NULL;
}

/* -- passwords ------------------------------------------------------------------------------------------------------------ */

/* A number that is always the same for a name, and that nobody outside can work out. */
static uint64_t number_of(struct str login)
{
    uint8_t sum[DIGEST_SHA256_LEN];
    uint64_t n;
    char lower[KEEPER_LOGIN_MAX];
    size_t length = login.n < sizeof lower ? login.n : sizeof lower;

    for (size_t i = 0; i < length; i++)
        lower[i] = char_lower(login.p[i]);
    digest_hmac((struct str){ (const char *)keeper->cache_key, sizeof keeper->cache_key }, (struct str){ lower, length }, sum);
    memcpy(&n, sum, sizeof n);
    return n;
}

/* For a login that is not there, or is locked: the hash of another, so that it costs what a login costs. */
static const char *stand_in(const struct accounts *a, struct str login)
{
    if (a == NULL || a->count == 0)
        return NOBODYS_HASH;
    const char *hash = a->list[number_of(login) % a->count]->hash;
    return keeper_crypt_knows(hash) ? hash : NOBODYS_HASH;
}

/* Of an account's own hash and the password, with a key of this process. */
static void cache_sum(const struct account *a, struct str password, uint8_t out[DIGEST_SHA256_LEN])
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

/* Awaits. a: the account, or NULL where there is none that can be right; the work is the same. */
static enum keeper_verdict check_hash(const struct accounts *all, const struct account *a, struct str login, struct str password)
{
    struct check check = { .password = password, .hash = a != NULL ? a->hash : stand_in(all, login) };
    uint8_t sum[DIGEST_SHA256_LEN];

    if (a != NULL) {
        cache_sum(a, password, sum);
        if (was_right(sum))
            return KEEPER_YES;
    }
    if (offload_run(keeper->checks, run_check, &check) < 0)
        return KEEPER_BUSY;
    if (a == NULL || !check.right)
        return KEEPER_NO;
    remember(sum);
    return KEEPER_YES;
}

enum keeper_verdict keeper_check_password(struct str login, struct str password, char out_login[KEEPER_LOGIN_MAX + 1])
{
    if (keeper == NULL)
        return KEEPER_TROUBLE;
    look_at_times();
    struct accounts *all = take_accounts();
    if (all == NULL)
        return KEEPER_TROUBLE;
    const struct account *a = accounts_find(all, login);
    if (a != NULL && (!keeper_crypt_knows(a->hash) || password.n > KEEPER_PASSWORD_MAX))
        a = NULL;
    /* A password that no crypt(3) takes is hashed as the empty one, for the time it takes. */
    enum keeper_verdict verdict = check_hash(all, a, login, password.n > KEEPER_PASSWORD_MAX ? STR("") : password);
    if (verdict == KEEPER_YES)
        memcpy(out_login, a->login, strlen(a->login) + 1);
    give_back(all);
    return verdict;
}

/* -- SCRAM ----------------------------------------------------------------------------------------------------------------- */

bool keeper_has_scram(void)
{
    if (keeper == NULL)
        return false;
    if (look_is_due())
        (void)offload_post(keeper->looks, look, NULL);       /* whoever asks next knows more */
    pthread_mutex_lock(&keeper->lock);
    bool has = keeper->accounts != NULL && keeper->accounts->scram_count > 0;
    pthread_mutex_unlock(&keeper->lock);
    return has;
}

/* As the file's first verifier has them: where all were made alike, nothing tells an invented one. */
static void invent(const struct accounts *all, struct str login, struct keeper_scram *out)
{
    char lower[KEEPER_LOGIN_MAX];
    uint8_t sum[DIGEST_SHA256_LEN];
    size_t n = login.n < sizeof lower ? login.n : sizeof lower, i = 0;

    *out = (struct keeper_scram){ .salt_n = INVENTED_SALT_LEN, .iterations = ACCOUNTS_ITERATIONS };
    while (i < all->count && !all->list[i]->has_scram)
        i++;
    if (i < all->count) {
        out->iterations = all->list[i]->scram.iterations;
        out->salt_n = all->list[i]->scram.salt_n;
    }
    for (size_t k = 0; k < n; k++)
        lower[k] = char_lower(login.p[k]);
    pthread_mutex_lock(&keeper->lock);
    struct str key = { (const char *)keeper->salt_key, sizeof keeper->salt_key };
    digest_hmac(key, (struct str){ lower, n }, sum);
    memcpy(out->salt, sum, sizeof sum);
    digest_hmac(key, (struct str){ (const char *)sum, sizeof sum }, out->salt + sizeof sum);   /* for longer salts */
    pthread_mutex_unlock(&keeper->lock);
    _Static_assert(KEEPER_SALT_MAX == 2 * DIGEST_SHA256_LEN, "filled by the two");
}

static const struct account *find_verifier(const struct accounts *all, struct str login)
{
    const struct account *a = accounts_find(all, login);
    return a != NULL && a->has_scram && keeper_crypt_knows(a->hash) ? a : NULL;      /* a locked password locks the verifier too */
}

enum keeper_verdict keeper_scram_parameters(struct str login, struct keeper_scram *out)
{
    if (keeper == NULL)
        return KEEPER_TROUBLE;
    look_at_times();
    struct accounts *all = take_accounts();
    if (all == NULL)
        return KEEPER_TROUBLE;
    const struct account *a = find_verifier(all, login);
    struct keeper_scram invented;
    invent(all, login, &invented);
    *out = a != NULL ? a->scram : invented;
    give_back(all);
    return KEEPER_YES;
}

enum keeper_verdict keeper_scram_check(struct str login, struct str auth_message, const uint8_t proof[DIGEST_SHA256_LEN],
                                       uint8_t out_signature[DIGEST_SHA256_LEN], char out_login[KEEPER_LOGIN_MAX + 1])
{
    static const struct scram_keys nobodys;      /* no password is known that gives these */
    uint8_t signature[DIGEST_SHA256_LEN];
    struct accounts *all = keeper == NULL ? NULL : take_accounts();

    if (all == NULL)
        return KEEPER_TROUBLE;
    const struct account *a = find_verifier(all, login);
    bool right = scram_check(a != NULL ? &a->keys : &nobodys, auth_message, proof, signature);
    if (right && a != NULL) {
        memcpy(out_signature, signature, sizeof signature);
        memcpy(out_login, a->login, strlen(a->login) + 1);
    }
    give_back(all);
    return right && a != NULL ? KEEPER_YES : KEEPER_NO;
}
