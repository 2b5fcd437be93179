/*
 * Lookup's process; see lookup_process.h. It speaks with databases and with HTTPS endpoints, and reads what they answer: nothing that it holds
 * is a private key or anybody's mail.
 *
 * What stands in the configuration of DNS holds from its start on, as in the worker.
 */
#include "admin/lookup_process.h"
#include "admin/aide.h"
#include "admin/resolver.h"
#include "base/log.h"
#include "lookup/serve.h"
#include "run/crash.h"
#include "run/dns.h"
#include "run/leash.h"
#include "run/loop.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

struct looking {
    const struct lookup_process *process;
    struct lookup_server        *server;     /* owned */
    int                          door, leash;
    int                          code;
};

bool lookup_process_needed(const struct conf *c)
{
    return c->has_oauth || c->relay_host_oauth_token_url[0] != '\0' || (c->has_accounts && c->accounts_file[0] == '\0');
}

static int load(void *arg, struct conf **out, char error[256])
{
    const struct looking *l = arg;
    return aide_load_conf(l->process->path, out, error);
}

/* A door that is no good: another process may find it better. */
static void end_if_broken(int r)
{
    if (r == -ECANCELED)
        return;
    log_event(LOG_ERROR, "lookup-failed", LOG_Z("error", strerror(-r)));
    exit(EX_OSERR);
}

static void answer_worker(void *arg)
{
    const struct looking *l = arg;
    end_if_broken(lookup_serve_worker(l->server, l->door));
}

static void answer_keeper(void *arg)
{
    const struct looking *l = arg;
    end_if_broken(lookup_serve_keeper(l->server, l->process->keeper_door));
}

static void serve(struct looking *l)
{
    struct task_group group;

    task_group_init(&group);
    if (task_group_start(&group, "lookup", answer_worker, l) < 0 || task_group_start(&group, "lookup", answer_keeper, l) < 0)
        l->code = EX_OSERR;
    if (l->code == EX_OK) {
        leash_say_ready(l->leash);
        (void)leash_await(l->leash, TASK_FOREVER);
    }
    task_group_cancel(&group);
    (void)task_group_wait(&group, TASK_FOREVER);
}

static void look_up(void *arg)
{
    struct looking *l = arg;
    const struct lookup_options options = { .load = load, .arg = l };
    struct conf *c = conf_current();
    const char *part = "dns";
    char error[256];

    int r = resolver_start(c, error);
    bool dns = r == 0;
    conf_unref(c);
    if (r == 0) {
        part = "accounts";
        r = lookup_server_start(&options, &l->server, error);
    }
    if (r < 0) {
        log_event(LOG_ERROR, "start-failed", LOG_Z("part", part), LOG_Z("error", error));
        l->code = r == -ENOMEM ? EX_OSERR : EX_CONFIG;
    } else {
        serve(l);
    }
    lookup_server_stop(l->server);
    if (dns)
        dns_stop();
}

int lookup_process(void *arg, int door, int leash, unsigned crashes)
{
    const struct lookup_process *p = arg;
    struct looking l = { .process = p, .door = door, .leash = leash, .code = EX_OK };
    char error[256];
    struct conf *c;

    crash_report_begin(-1);
    if (crashes == 0 || load(&l, &c, error) < 0)
        c = conf_ref(p->conf);
    log_level_set(c->log_level);
    conf_set_current(c);
    int r = loop_run(1, look_up, &l);
    conf_set_current(NULL);
    return r < 0 ? EX_OSERR : l.code;
}
