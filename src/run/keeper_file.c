/*
 * The password file as a source of accounts.
 *
 * The file is read into a snapshot that is counted; a question takes the one in force and keeps it while it is copied from. At most
 * once a second a question looks whether the file has changed; a file that cannot be read leaves in force what was known.
 *
 * The lock spans only the copy of a pointer; nothing waits in it. Runs in the keeper.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "run/file.h"
#include "run/keeper_internal.h"
#include "run/offload.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_EVERY_NS NS_PER_S

struct file_mark {
    uint64_t size, mtime_ns;
};

struct file_source {
    struct keeper_source base;
    struct offload      *looks;              /* the keeper's */
    pthread_mutex_t      lock;               /* of what follows */
    struct accounts     *accounts;           /* counted */
    struct file_mark     mark;               /* of the file when it was last read, or when that was tried */
    bool                 alarmed;            /* and in vain: said */
    int64_t              looked_ns;
    uint8_t              number_key[DIGEST_SHA256_LEN];
    char                 path[];
};

static struct file_source *of(struct keeper_source *s) { return (struct file_source *)(void *)s; }

/* -- snapshots of the file ---------------------------------------------------------------------------------------------- */

static struct accounts *take_accounts(struct file_source *s)
{
    pthread_mutex_lock(&s->lock);
    struct accounts *a = s->accounts;
    a->refs++;
    pthread_mutex_unlock(&s->lock);
    return a;
}

static void give_back(struct file_source *s, struct accounts *a)
{
    pthread_mutex_lock(&s->lock);
    bool last = --a->refs == 0;
    pthread_mutex_unlock(&s->lock);
    if (last)
        accounts_free(a);
}

/* Takes a. */
static void put_in_force(struct file_source *s, struct accounts *a, const struct file_mark *mark)
{
    a->refs = 1;
    pthread_mutex_lock(&s->lock);
    struct accounts *before = s->accounts;
    s->accounts = a;
    s->mark = *mark;
    s->alarmed = false;
    pthread_mutex_unlock(&s->lock);
    give_back(s, before);
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

/* What was known stays in force; said once for each state of the file. */
static void sound_alarm(struct file_source *s, const struct file_mark *mark, const char *error)
{
    pthread_mutex_lock(&s->lock);
    s->mark = *mark;
    s->alarmed = true;
    pthread_mutex_unlock(&s->lock);
    log_event(LOG_ERROR, "accounts-unreadable", LOG_Z("error", error), LOG_Z("text", "the logins known before stay in force"));
}

static bool has_changed(struct file_source *s)
{
    struct file_info info = { .size = 0 };

    int r = file_info_path(s->path, &info);
    pthread_mutex_lock(&s->lock);
    bool same = info.size == s->mark.size && info.mtime_ns == s->mark.mtime_ns && (r == 0 || s->alarmed);
    pthread_mutex_unlock(&s->lock);
    return !same;
}

/* A job, and only one at a time. */
static void look(void *arg)
{
    struct file_source *s = arg;
    struct file_mark now;
    struct accounts *a;
    char error[256];

    if (!has_changed(s))
        return;
    if (read_accounts(s->path, &a, &now, error) < 0) {
        sound_alarm(s, &now, error);
        return;
    }
    log_event(LOG_INFO, "accounts-read", LOG_Z("file", s->path), LOG_U64("logins", a->count), LOG_U64("verifiers", a->scram_count));
    put_in_force(s, a, &now);
}

/* A job that nobody awaits: it has a count of the source. */
static void look_alone(void *arg)
{
    look(arg);
    keeper_source_unref(arg);
}

/* Whether the last look is a second old; then the caller sees to one. */
static bool look_is_due(struct file_source *s)
{
    int64_t now = clock_mono_ns();

    pthread_mutex_lock(&s->lock);
    bool due = now - s->looked_ns >= LOOK_EVERY_NS;
    if (due)
        s->looked_ns = now;
    pthread_mutex_unlock(&s->lock);
    return due;
}

/* -- the source ----------------------------------------------------------------------------------------------------------- */

static void copy(const struct account *a, struct keeper_record *out)
{
    memset(out, 0, sizeof *out);
    memcpy(out->login, a->login, strlen(a->login));      /* accounts_parse has seen to the lengths */
    memcpy(out->hash, a->hash, strlen(a->hash));
    out->has_scram = a->has_scram;
    out->scram = a->scram;
    out->keys = a->keys;
}

static enum keeper_found find(struct keeper_source *source, struct str login, struct keeper_record *out)
{
    struct file_source *s = of(source);

    if (look_is_due(s))
        (void)offload_run(s->looks, look, s);            /* a pool too busy to look is no reason to refuse anybody */
    struct accounts *all = take_accounts(s);
    const struct account *a = accounts_find(all, login);
    if (a != NULL)
        copy(a, out);
    give_back(s, all);
    return a != NULL ? KEEPER_FOUND : KEEPER_NOT_FOUND;
}

/* A number that is always the same for a name, and that nobody outside can work out. */
static uint64_t number_of(const struct file_source *s, struct str login)
{
    uint8_t sum[DIGEST_SHA256_LEN];
    uint64_t n;

    keeper_login_sum(s->number_key, login, sum);
    memcpy(&n, sum, sizeof n);
    return n;
}

/* Any account's hash that can be checked: one of those that are locked would take another time. NULL: there is none. */
static const struct account *any_open(const struct accounts *all, uint64_t number)
{
    for (size_t i = 0; i < all->count; i++) {
        const struct account *a = all->list[(number % all->count + i) % all->count];
        if (keeper_crypt_knows(a->hash))
            return a;
    }
    return NULL;
}

/* A hash of one, and of verifiers the file's first: where all were made alike, nothing tells an invented one. */
static bool stand_in(struct keeper_source *source, struct str login, struct keeper_record *out)
{
    struct file_source *s = of(source);
    struct accounts *all = take_accounts(s);
    const struct account *other = any_open(all, number_of(s, login));
    size_t i = 0;

    if (other != NULL) {
        copy(other, out);
        while (i < all->count && !all->list[i]->has_scram)
            i++;
        out->has_scram = i < all->count;
        if (out->has_scram)
            out->scram = all->list[i]->scram;
    }
    give_back(s, all);
    return other != NULL;
}

static bool salt_key(struct keeper_source *source, uint8_t out[DIGEST_SHA256_LEN])
{
    struct file_source *s = of(source);
    struct accounts *all = take_accounts(s);
    bool has = all->salt_key.n > 0;

    if (has)
        digest_hmac(all->salt_key, STR("nightmail: invented salts"), out);
    give_back(s, all);
    return has;
}

static bool has_scram(struct keeper_source *source)
{
    struct file_source *s = of(source);

    if (look_is_due(s) && offload_post(s->looks, look_alone, keeper_source_ref(source)) < 0)
        keeper_source_unref(source);
    pthread_mutex_lock(&s->lock);
    bool has = s->accounts->scram_count > 0;             /* whoever asks next may know more */
    pthread_mutex_unlock(&s->lock);
    return has;
}

static void file_source_free(struct keeper_source *source)
{
    struct file_source *s = of(source);

    give_back(s, s->accounts);
    (void)pthread_mutex_destroy(&s->lock);
    explicit_bzero(s->number_key, sizeof s->number_key);
    free(s);
}

static const struct keeper_source_ops ops = {
    .find = find, .stand_in = stand_in, .salt_key = salt_key, .has_scram = has_scram, .free = file_source_free
};

int keeper_file_new(const char *path, struct offload *looks, struct keeper_source **out, char error[256])
{
    struct file_source *s;
    struct accounts *a;
    struct file_mark mark;
    size_t n = strlen(path) + 1;

    int r = read_accounts(path, &a, &mark, error);
    if (r < 0)
        return r;
    s = calloc(1, sizeof *s + n);
    if (s == NULL) {
        accounts_free(a);
        snprintf(error, 256, "no memory");
        return -ENOMEM;
    }
    a->refs = 1;
    s->base.ops = &ops;
    atomic_init(&s->base.refs, 1);
    s->looks = looks;
    (void)pthread_mutex_init(&s->lock, NULL);
    s->accounts = a;
    s->mark = mark;
    s->looked_ns = clock_mono_ns();
    clock_random(s->number_key, sizeof s->number_key);
    memcpy(s->path, path, n);
    *out = &s->base;
    return 0;
}
