/*
 * nightmail serve: the configuration read again. A file that does not check leaves the running one in force; one that asks for what only a
 * process has that starts with it (sockets, the resolver) is taken by another worker (supervisor.h). Runs in the worker.
 */
#include "admin/cli.h"
#include "admin/lookup_process.h"
#include "admin/serve_internal.h"
#include "base/log.h"
#include "lookup/far.h"
#include "run/keeper.h"
#include "run/offload.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A list that is NULL-ended, as the configuration has them. */
static bool lists_eq(const char *const *a, const char *const *b)
{
    size_t i = 0;

    while (a[i] != NULL && b[i] != NULL && strcmp(a[i], b[i]) == 0)
        i++;
    return a[i] == NULL && b[i] == NULL;
}

bool serve_listeners_eq(const struct conf *a, const struct conf *b)
{
    bool eq = a->listener_count == b->listener_count;

    for (size_t i = 0; eq && i < a->listener_count; i++)
        eq = str_eq(a->listeners[i].address, b->listeners[i].address) && a->listeners[i].tls == b->listeners[i].tls &&
             a->listeners[i].terms.service == b->listeners[i].terms.service &&
             a->listeners[i].terms.auth_allow_cleartext == b->listeners[i].terms.auth_allow_cleartext &&
             a->listeners[i].terms.hide_client == b->listeners[i].terms.hide_client &&
             a->listeners[i].terms.proxy_protocol == b->listeners[i].terms.proxy_protocol &&
             a->listeners[i].terms.extensions_off == b->listeners[i].terms.extensions_off;
    return eq;
}

/* What is used at the start only is another worker's to use. */
static bool needs_generation(const struct conf *started, const struct conf *now)
{
    bool needed = false;
    const struct { const char *option; bool same; } fixed[] = {
        { "user", strcmp(started->user, now->user) == 0 },
        { "sandbox", started->sandbox == now->sandbox },
        { "listen", serve_listeners_eq(started, now) },
        { "control_socket", strcmp(started->control_socket, now->control_socket) == 0 },
        { "control_group", strcmp(started->control_group, now->control_group) == 0 },
        { "submit_socket", strcmp(started->submit_socket, now->submit_socket) == 0 },
        { "password_checks_max", started->password_checks_max == now->password_checks_max },
        { "password_checks_waiting_max", started->password_checks_waiting_max == now->password_checks_waiting_max },
        { "oauth_checks_max", started->oauth_checks_max == now->oauth_checks_max },
        { "oauth_checks_waiting_max", started->oauth_checks_waiting_max == now->oauth_checks_waiting_max },
        { "segment_size", started->segment_size == now->segment_size },
        { "disk_free_min", started->disk_free_min == now->disk_free_min },
        { "dns_forwarders", lists_eq(started->dns_forwarders, now->dns_forwarders) },
        { "dns_zone_files", lists_eq(started->dns_zone_files, now->dns_zone_files) },
        { "dns_trust_anchor", strcmp(started->dns_trust_anchor, now->dns_trust_anchor) == 0 },
        { "resolv_conf", strcmp(started->resolv_conf, now->resolv_conf) == 0 },
    };

    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
        if (!fixed[i].same) {
            log_event(LOG_INFO, "reload-by-generation", LOG_Z("option", fixed[i].option), LOG_Z("text", "another worker takes over with it"));
            needed = true;
        }
    return needed;
}

/* A sandbox never gets wider. Without memory another worker is a good answer too. */
static bool is_beyond(const struct rights *have, const struct conf *now)
{
    struct rights wanted;
    char why[256] = "no memory";

    if (have->count == 0)
        return false;
    bool beyond = rights_of(now, have->home, &wanted) < 0 || !rights_cover(have, &wanted, why);
    rights_free(&wanted);
    if (beyond)
        log_event(LOG_INFO, "reload-by-generation", LOG_Z("option", "sandbox"), LOG_Z("text", why));
    return beyond;
}

struct reload {
    const char        *path;
    const struct rights *rights;         /* of the sandbox */
    const struct conf *started;
    struct conf       *conf;
    struct buf         error;
    bool               had_lookup;       /* the configuration in force needs it */
    bool               by_another;       /* worker */
    int                result;
};

/* Last of all the others' part: what is refused must leave nothing in force. They read the same file, and what that names. */
static int take_over(struct reload *r, char error[256])
{
    if (strcmp(r->conf->data_dir, r->started->data_dir) != 0) {
        snprintf(error, 256, "data_dir is another one: a running server does not move");
        return -EINVAL;
    }
    r->by_another = needs_generation(r->started, r->conf) || is_beyond(r->rights, r->conf);
    if (r->by_another)
        return 0;
    bool lookup = r->had_lookup || lookup_process_needed(r->conf);
    int result = lookup ? lookup_far_check(error) : 0;
    if (result == 0)
        result = keeper_reload(NULL, error);
    return result == 0 && lookup ? lookup_far_reload(error) : result;
}

static void say_beyond(struct str errors);

static void load_again(void *arg)
{
    struct reload *r = arg;
    char error[256];

    r->conf = NULL;
    r->result = cli_load_conf(r->path, &r->conf, &r->error);
    if (r->result == -EACCES && r->rights->count > 0) {
        say_beyond(buf_str(&r->error));
        r->by_another = true;            /* and if it is the file's mode, the supervisor will say so */
        r->result = 0;
    }
    if (r->result < 0 || r->conf == NULL)
        return;
    r->result = take_over(r, error);
    if (r->result == 0)
        return;
    buf_put_z(&r->error, error);
    conf_unref(r->conf);
}

static void say_beyond(struct str errors)
{
    struct str line, rest;

    str_cut(errors, '\n', &line, &rest);
    log_event(LOG_INFO, "reload-by-generation", LOG_Z("option", "sandbox"), LOG_STR("text", line));
}

void serve_say_refused(struct str errors)
{
    struct str line;

    while (errors.n > 0) {
        str_cut(errors, '\n', &line, &errors);
        log_event(LOG_ERROR, "reload-refused", LOG_STR("error", line));
    }
}

static void put_in_force(struct server *s, struct conf *c)
{
    log_level_set(c->log_level);
    conf_set_current(c);
    inbound_reload_certificates(s->inbound);
    log_event(LOG_INFO, "reloaded", LOG_Z("file", s->path));
}

void serve_reload(struct server *s)
{
    struct offload *helper = offload_new("reload", 1, 1);
    struct conf *before = conf_current();
    struct reload r = { .path = s->path, .rights = &s->rights, .started = s->conf, .had_lookup = lookup_process_needed(before), .result = -ENOMEM };

    conf_unref(before);
    buf_init(&r.error, SERVE_ERRORS_MAX);
    bool loaded = helper != NULL && offload_run(helper, load_again, &r) == 0 && r.result == 0;
    if (!loaded)
        serve_say_refused(r.error.n > 0 ? buf_str(&r.error) : STR("no memory"));
    else if (r.by_another)
        conf_unref(r.conf);
    else
        put_in_force(s, r.conf);
    link_say(s->how.link, r.by_another ? LINK_GENERATION : LINK_READY, 0);
    buf_free(&r.error);
    if (helper != NULL)
        offload_free(helper);
}
