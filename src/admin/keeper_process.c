/*
 * The keeper's process; see keeper_process.h. It reads no byte of any mail, and has no socket but its lines.
 *
 * The one that follows a crashed keeper comes up with what it can: without the accounts if their file has become bad, since certificates
 * are used all the time; and it tries again.
 */
#include "admin/keeper_process.h"
#include "admin/aide.h"
#include "admin/secrets.h"
#include "base/log.h"
#include "lookup/far.h"
#include "run/crash.h"
#include "run/keeper_serve.h"
#include "run/leash.h"
#include "run/loop.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define AGAIN_NS   (5 * NS_PER_S)
#define KEYS_MAX   (KEEPER_KEYS_MAX / 2)

struct keeping {
    const struct keeper_process *process;
    int      door, leash;
    bool     again;                      /* after a crash */
    atomic_bool started;                 /* the accounts */
    size_t   keys_n;
    uint64_t keys[KEYS_MAX];             /* of the configuration in force, open all the time: a worker of before finds them again */
    int      code;
};

/* -- accounts --------------------------------------------------------------------------------------------------------------------------- */

/* Where the accounts are in a database lookup finds them. */
static int options_of(const struct conf *c, struct keeper_options *out, char error[256])
{
    struct keeper_source *source = NULL;
    bool database = c->has_accounts && c->accounts_file[0] == '\0';

    if (database && lookup_accounts_far(c->accounts_query_timeout_ns, &source) < 0) {
        snprintf(error, 256, "no memory");
        return -ENOMEM;
    }
    *out = (struct keeper_options){
        .accounts_file = c->accounts_file,
        .source = source,
        .salt_dir = database ? c->data_dir : NULL,
        .checks_at_a_time = c->password_checks_max,
        .checks_waiting_max = c->password_checks_waiting_max,
    };
    return 0;
}

/* BLOCKS. What was in force stays so on an error. */
static int take_accounts(struct keeping *k, const struct conf *c, char error[256])
{
    struct keeper_options options;

    int r = options_of(c, &options, error);
    if (r == 0)
        r = k->started ? keeper_reload(&options, error) : keeper_start(&options, error);
    k->started = k->started || r == 0;
    return r;
}

/* -- keys ---------------------------------------------------------------------------------------------------------------------------------- */

static void let_go(struct keeping *k)
{
    while (k->keys_n > 0)
        keeper_key_close(k->keys[--k->keys_n]);
}

/* BLOCKS. A key that cannot be read is the business of who needs it: the worker asks for each, and hears why. */
static void hold_keys(struct keeping *k, const struct conf *c)
{
    char bytes[KEEPER_PUBLIC_MAX], error[256];
    struct buf public;

    let_go(k);
    for (size_t i = 0; i < c->certificate_count && k->keys_n < KEYS_MAX; i++) {
        buf_init_fixed(&public, bytes, sizeof bytes);
        if (keeper_key_open(c->certificates[i].key_file, &k->keys[k->keys_n], &public, error) == 0)
            k->keys_n++;
    }
}

/* -- what the worker may ask for -------------------------------------------------------------------------------------------------------------- */

static bool may_sign_with(void *arg, struct str path)
{
    struct conf *c = conf_current();
    bool may = false;

    (void)arg;
    for (size_t i = 0; i < c->certificate_count && !may; i++)
        may = str_eq(path, str_of(c->certificates[i].key_file));
    conf_unref(c);
    return may;
}

static bool may_give(void *arg, struct str path)
{
    struct conf *c = conf_current();
    bool may = c->relay_host_password_file != NULL && str_eq(path, str_of(c->relay_host_password_file));

    (void)arg;
    conf_unref(c);
    return may;
}

/* -- reload ------------------------------------------------------------------------------------------------------------------------------------ */

/* On a helper thread. The keys first: whoever is asked for one by the new configuration has it. */
static int reload(void *arg, char error[256])
{
    struct keeping *k = arg;
    struct conf *c;

    int r = aide_load_conf(k->process->path, &c, error);
    if (r < 0)
        return r;
    r = k->started ? take_accounts(k, c, error) : 0;     /* stay() is at it */
    if (r < 0) {
        conf_unref(c);
        return r;
    }
    hold_keys(k, c);
    secrets_check(c);
    log_level_set(c->log_level);
    conf_set_current(c);
    return 0;
}

/* -- the process --------------------------------------------------------------------------------------------------------------------------------- */

static void answer(void *arg)
{
    struct keeping *k = arg;
    const struct keeper_rights rights = { .may_sign_with = may_sign_with, .may_give = may_give, .reload = reload, .arg = k };

    int r = keeper_serve(k->door, &rights);
    if (r == -ECANCELED)
        return;
    log_event(LOG_ERROR, "keeper-failed", LOG_Z("error", strerror(-r)));
    exit(EX_OSERR);                      /* another one starts */
}

/* Awaits the end. */
static void stay(struct keeping *k)
{
    char error[256];

    while (leash_await(k->leash, k->started ? TASK_FOREVER : task_deadline_in(AGAIN_NS)) == -ETIMEDOUT) {
        struct conf *c = conf_current();
        if (take_accounts(k, c, error) == 0)
            log_event(LOG_INFO, "accounts-readable", LOG_Z("text", "logins are checked again"));
        conf_unref(c);
    }
}

static void keep(void *arg)
{
    struct keeping *k = arg;
    struct conf *c = conf_current();
    struct task_group group;
    char error[256];

    secrets_check(c);
    snprintf(error, sizeof error, "no line to lookup");
    if (lookup_accounts_connect(k->process->lookup) < 0 || take_accounts(k, c, error) < 0) {
        log_event(LOG_ERROR, k->again ? "accounts-unreadable" : "start-failed", LOG_Z("part", "accounts"), LOG_Z("error", error));
        k->code = k->again ? EX_OK : EX_CONFIG;
    }
    hold_keys(k, c);
    conf_unref(c);
    task_group_init(&group);
    if (k->code == EX_OK && task_group_start(&group, "keeper", answer, k) < 0)
        k->code = EX_OSERR;
    if (k->code == EX_OK) {
        leash_say_ready(k->leash);
        stay(k);
    }
    task_group_cancel(&group);
    (void)task_group_wait(&group, TASK_FOREVER);
    keeper_stop();
    lookup_accounts_disconnect();
    let_go(k);
}

int keeper_process(void *arg, int door, int leash, unsigned crashes)
{
    const struct keeper_process *p = arg;
    struct keeping k = { .process = p, .door = door, .leash = leash, .again = crashes > 0, .code = EX_OK };
    char error[256];
    struct conf *c;

    crash_report_begin(-1);
    if (crashes == 0 || aide_load_conf(p->path, &c, error) < 0)
        c = conf_ref(p->conf);
    log_level_set(c->log_level);
    conf_set_current(c);
    int r = loop_run(1, keep, &k);
    conf_set_current(NULL);
    return r < 0 ? EX_OSERR : k.code;
}
