/*
 * nightmail serve: the server. The supervisor reads the configuration, takes the lock and the listening sockets, and forks a worker.
 * That brings its parts up in the order in which they need each other, waits for a signal, and takes them down the other way
 * round: nothing comes in any more before delivery stops, and the queue closes last.
 *
 * SIGTERM, SIGINT: stop, with the grace period. SIGHUP: read the configuration again; a file that does not check leaves
 * the running one in force. Runs in the supervisor (at the end of this file) and in the worker (all the rest).
 */
#include "admin/aide.h"
#include "admin/cli.h"
#include "admin/commands.h"
#include "admin/control.h"
#include "admin/keeper_process.h"
#include "admin/supervisor.h"
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/log.h"
#include "conf/conf.h"
#include "inbound/inbound.h"
#include "lookup/relay_token.h"
#include "lookup/token_check.h"
#include "outbound/outbound.h"
#include "queue/queue.h"
#include "run/crash.h"
#include "run/dns.h"
#include "run/file.h"
#include "run/keeper.h"
#include "run/loop.h"
#include "run/net.h"
#include "run/offload.h"
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <sysexits.h>

#define ERRORS_MAX     (64 * 1024)
#define ADDRESSES_MAX  1024
#define LOCK_WAIT_NS   (3 * NS_PER_S)         /* the worker of a server that was killed may still be at its last write */
#define LOCK_LOOK_NS   (25 * NS_PER_MS)
#define BODY_MAX       (UINT64_C(4) << 30)   /* inbound holds message_size_max, which a reload may change; DSNs have their own limit */

struct server {
    const char      *path;
    struct conf     *conf;               /* counted; as it was at the start */
    struct queue    *queue;
    struct outbound *outbound;
    struct control  *control;
    struct inbound  *inbound;
    struct inbound_sockets *sockets;     /* owned; NULL once they are given up */
    struct net_listener *control_socket; /* owned; NULL: none, or control has it */
    int              lock;               /* the data directory's; owned, -1: none */
    bool             reload_first;       /* before it is ready */
    unsigned         crashes;            /* of the workers before */
    struct aide      keeper;
    bool             dns;
    int              code;
};

static void usage(FILE *to)
{
    fputs("usage: nightmail serve [-c FILE]\n\n"
          "Runs the mail server in the foreground; its log goes to standard error.\n\n"
          "  -c, --config FILE   default: $NIGHTMAIL_CONF, else " CLI_DEFAULT_CONF "\n\n"
          "SIGTERM stops it, SIGHUP makes it read its configuration again.\n"
          "Exit: 0 stopped, 64 wrong use, 70 a crash while stopping, 71 the system said no, 75 another server runs, 78 the configuration is wrong\n", to);
}

static int fail(struct server *s, int code, const char *what, const char *error)
{
    log_event(LOG_ERROR, "start-failed", LOG_Z("part", what), LOG_Z("error", error));
    s->code = code;
    return -1;
}

/* -- up -------------------------------------------------------------------------------------------------------------------- */

static int start_dns(struct server *s)
{
    char error[256];
    struct dns_options options = {
        .forwarders = s->conf->dns_forwarders,
        .zone_files = s->conf->dns_zone_files,
        .trust_anchor_file = s->conf->dns_trust_anchor[0] != '\0' ? s->conf->dns_trust_anchor : NULL,
        .resolv_conf = s->conf->resolv_conf[0] != '\0' ? s->conf->resolv_conf : NULL,
    };

    if (dns_start(&options, error) < 0)
        return fail(s, EX_CONFIG, "dns", error);
    s->dns = true;
    return 0;
}

static int start_keeper(struct server *s)
{
    char error[256];

    int r = keeper_connect(s->keeper.callers, error);
    if (r == 0 && s->crashes > 0 && keeper_reload(NULL, error) < 0)     /* we have read the file again: so does it */
        log_event(LOG_ERROR, "reload-refused", LOG_Z("part", "keeper"), LOG_Z("error", error));
    return r < 0 ? fail(s, EX_OSERR, "keeper", error) : 0;
}

static int start_tokens(struct server *s)
{
    int r = lookup_tokens_start(s->conf);
    if (r == 0)
        r = lookup_relay_token_start(s->conf);
    return r < 0 ? fail(s, EX_OSERR, "oauth", strerror(-r)) : 0;
}

static struct queue_options queue_options_of(const struct conf *c)
{
    return (struct queue_options){
        .dir = c->data_dir,
        .segment_size = c->segment_size,
        .free_floor = c->disk_free_min,
        .message_size_max = BODY_MAX,
        .unsafe_file_system = c->unsafe_file_system,
        .locked = true,
    };
}

static int start_queue(struct server *s)
{
    char error[256];
    struct queue_recovery found;
    struct queue_options options = queue_options_of(s->conf);

    int r = queue_open(&options, &s->queue, &found, error);
    if (r < 0)
        return fail(s, EX_OSERR, "queue", error);
    log_event(LOG_INFO, "recovered", LOG_U64("messages", found.messages), LOG_U64("segments", found.segments), LOG_U64("sidecars", found.sidecars),
              LOG_U64("records", found.records),
              LOG_U64("torn-tails", found.torn_tails), LOG_U64("bad-records", found.bad_records), LOG_U64("abandoned", found.abandoned),
              LOG_U64("orphan-bodies", found.orphan_bodies));
    return 0;
}

/* A directory that was there is its owner's to open. */
static void check_submit(const struct server *s)
{
    char path[4096];
    struct str whole = str_of(s->conf->submit_socket);
    struct file_info info;
    ssize_t slash = str_find_last(whole, '/');

    if (slash <= 0 || slash >= (ssize_t)sizeof path)
        return;
    memcpy(path, whole.p, (size_t)slash);
    path[slash] = '\0';
    CLEANUP_FILE int dir = file_open_dir(path);
    if (dir >= 0 && file_info(dir, &info) == 0 && !info.passable)
        log_event(LOG_WARN, "submit-closed", LOG_Z("dir", path),
                  LOG_Z("text", "other users cannot reach the submit socket in it: chmod o+x, or set submit_socket to another place"));
}

static int start_parts(struct server *s)
{
    char error[256];
    int r;

    if (start_keeper(s) < 0 || start_dns(s) < 0 || start_tokens(s) < 0 || start_queue(s) < 0)
        return -1;
    if ((r = outbound_start(s->queue, &s->outbound)) < 0)
        return fail(s, EX_OSERR, "outbound", strerror(-r));
    if (s->control_socket != NULL && (r = control_start(s->control_socket, s->queue, &s->control)) < 0)
        return fail(s, EX_OSERR, "control", strerror(-r));
    s->control_socket = NULL;
    if ((r = inbound_start_on(s->queue, s->sockets, &s->inbound, error)) < 0)
        return fail(s, r == -EINVAL ? EX_CONFIG : EX_OSERR, "inbound", error);   /* -EINVAL: what a certificate's file holds */
    check_submit(s);
    return 0;
}

static void say_ready(const struct server *s)
{
    char addresses[ADDRESSES_MAX], paths[ADDRESSES_MAX], one[NET_ADDR_TEXT_MAX];
    struct net_addr addr;
    struct buf list, sockets;                                     /* the latter LMTP's */

    buf_init_fixed(&list, addresses, sizeof addresses);
    buf_init_fixed(&sockets, paths, sizeof paths);
    for (size_t i = 0; i < inbound_listeners(s->inbound); i++) {
        inbound_address(s->inbound, i, &addr);
        buf_put_z(&list, i > 0 ? "," : "");
        buf_put_z(&list, net_addr_format(&addr, one));
    }
    for (size_t i = 0; i < s->conf->listener_count; i++)
        if (s->conf->listeners[i].path != NULL)
            buf_printf(&sockets, "%s%s", sockets.n > 0 ? "," : "", s->conf->listeners[i].path);
    log_event(LOG_INFO, "ready", LOG_Z("version", NIGHTMAIL_VERSION), LOG_Z("host", s->conf->hostname), LOG_STR("listen", buf_str(&list)),
              LOG_STR("sockets", buf_str(&sockets)),
              LOG_U64("loops", loop_count()));
}

/* -- down ------------------------------------------------------------------------------------------------------------------ */

static void stop_parts(struct server *s)
{
    int64_t deadline = task_deadline_in(s->conf->shutdown_grace_ns);

    inbound_stop(s->inbound);
    control_stop(s->control);
    if (s->outbound != NULL)
        outbound_stop(s->outbound, deadline);
    if (s->queue != NULL)
        queue_close(s->queue);
    lookup_tokens_stop();
    lookup_relay_token_stop();
    if (s->dns)
        dns_stop();
    keeper_stop();
}

/* -- reload ---------------------------------------------------------------------------------------------------------------- */

/* A list that is NULL-ended, as the configuration has them. */
static bool lists_eq(const char *const *a, const char *const *b)
{
    size_t i = 0;

    while (a[i] != NULL && b[i] != NULL && strcmp(a[i], b[i]) == 0)
        i++;
    return a[i] == NULL && b[i] == NULL;
}

static bool listeners_eq(const struct conf *a, const struct conf *b)
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

/* What is used at the start only stays as it is until the next one; that must not pass in silence. */
static void say_what_waits(const struct conf *started, const struct conf *now)
{
    const struct { const char *option; bool same; } fixed[] = {
        { "listen", listeners_eq(started, now) },
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
        if (!fixed[i].same)
            log_event(LOG_WARN, "reload-waits", LOG_Z("option", fixed[i].option), LOG_Z("text", "its new value holds from the next start on"));
}

struct reload {
    const char  *path;
    const char  *data_dir;               /* of the start */
    struct conf *conf;
    struct buf   error;
    int          result;
};

/* Last of all the keeper's part: what is refused must leave nothing in force. It reads the same file, and what that names. */
static int take_over(const struct reload *r, char error[256])
{
    if (strcmp(r->conf->data_dir, r->data_dir) != 0) {
        snprintf(error, 256, "data_dir is another one: a running server does not move");
        return -EINVAL;
    }
    return keeper_reload(NULL, error);
}

static void load_again(void *arg)
{
    struct reload *r = arg;
    char error[256];

    r->result = cli_load_conf(r->path, &r->conf, &r->error);
    if (r->result < 0)
        return;
    r->result = take_over(r, error);
    if (r->result == 0)
        return;
    buf_put_z(&r->error, error);
    conf_unref(r->conf);
}

static void say_refused(struct str errors)
{
    struct str line;

    while (errors.n > 0) {
        str_cut(errors, '\n', &line, &errors);
        log_event(LOG_ERROR, "reload-refused", LOG_STR("error", line));
    }
}

static void reload(struct server *s)
{
    struct offload *helper = offload_new("reload", 1, 1);
    struct reload r = { .path = s->path, .data_dir = s->conf->data_dir, .result = -ENOMEM };

    buf_init(&r.error, ERRORS_MAX);
    bool loaded = helper != NULL && offload_run(helper, load_again, &r) == 0 && r.result == 0;
    if (loaded) {
        say_what_waits(s->conf, r.conf);
        log_level_set(r.conf->log_level);
        if (lookup_tokens_start(r.conf) < 0 || lookup_relay_token_start(r.conf) < 0)
            log_event(LOG_ERROR, "oauth-unavailable", LOG_Z("text", "no memory or threads: logins by token get 454, mail for the relay host waits"));
        conf_set_current(r.conf);
        inbound_reload_certificates(s->inbound);
        log_event(LOG_INFO, "reloaded", LOG_Z("file", s->path));
    } else {
        say_refused(r.error.n > 0 ? buf_str(&r.error) : STR("no memory"));
    }
    buf_free(&r.error);
    if (helper != NULL)
        offload_free(helper);
}

/* -- the whole --------------------------------------------------------------------------------------------------------------- */

static void wait_for_end(struct server *s)
{
    for (;;) {
        int signo = loop_signal_wait(TASK_FOREVER);
        if (signo == SIGHUP) {
            reload(s);
            continue;
        }
        log_event(LOG_INFO, "stopping", LOG_I64("signal", signo));
        return;
    }
}

static void serve(void *arg)
{
    static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
    struct server *s = arg;

    int r = loop_signals(signals, sizeof signals / sizeof signals[0]);
    if (r < 0)
        fail(s, EX_OSERR, "signals", strerror(-r));
    else if (start_parts(s) == 0) {
        if (s->reload_first)
            reload(s);
        say_ready(s);
        wait_for_end(s);
    }
    stop_parts(s);
    if (s->code == EX_OK)
        log_event(LOG_INFO, "stopped");
}

/* What the sockets and the lock were taken for. */
static bool places_eq(const struct conf *a, const struct conf *b)
{
    return strcmp(a->data_dir, b->data_dir) == 0 && strcmp(a->submit_socket, b->submit_socket) == 0 && listeners_eq(a, b);
}

/* A worker that follows a crashed one starts with the file as it is now: the one of the start may name what has gone since. Where it
 * asks for other sockets it is taken as by SIGHUP; where it does not check, the one of the start has to do. */
static void read_again(struct server *s)
{
    CLEANUP_BUF struct buf error;
    struct conf *c;

    buf_init(&error, ERRORS_MAX);
    if (cli_load_conf(s->path, &c, &error) < 0) {
        say_refused(buf_str(&error));
        return;
    }
    s->reload_first = !places_eq(s->conf, c);
    conf_unref(s->reload_first ? c : s->conf);
    if (!s->reload_first)
        s->conf = c;
}

/* The worker. */
static int work(void *arg, unsigned crashes)
{
    struct server *s = arg;

    aide_leave(&s->keeper);
    s->crashes = crashes;
    if (crashes > 0)
        read_again(s);
    log_level_set(s->conf->log_level);
    crash_report_begin();
    conf_set_current(conf_ref(s->conf));
    int r = loop_run(s->sockets->loops, serve, s);
    conf_set_current(NULL);
    return r < 0 ? cli_fail("serve", EX_OSERR, "cannot start: %s", strerror(-r)) : s->code;
}

/* -- the supervisor ------------------------------------------------------------------------------------------------------------ */

static int load(struct server *s)
{
    CLEANUP_BUF struct buf error;

    buf_init(&error, ERRORS_MAX);
    if (cli_load_conf(s->path, &s->conf, &error) == 0)
        return EX_OK;
    (void)fwrite(error.p, 1, error.n, stderr); /* lines */
    return EX_CONFIG;
}

/* Sleeps while another server has it, for a moment. */
static int take_lock(struct server *s)
{
    char error[256];
    struct queue_options options = queue_options_of(s->conf);
    int64_t deadline = clock_mono_ns() + LOCK_WAIT_NS;
    int r;

    while ((r = queue_lock_dir(&options, &s->lock, error)) == -EWOULDBLOCK && clock_mono_ns() < deadline)
        if (supervisor_sleep(LOCK_LOOK_NS) != 0)
            break;
    return r < 0 ? fail(s, r == -EWOULDBLOCK ? EX_TEMPFAIL : EX_OSERR, "queue", error) : 0;
}

static int take_sockets(struct server *s)
{
    char error[256];

    int r = inbound_bind(s->conf, loop_cores(), &s->sockets, error);
    if (r < 0)
        return fail(s, r == -EINVAL ? EX_CONFIG : EX_OSERR, "inbound", error);
    if (s->conf->control_socket[0] != '\0')
        r = control_bind(s->conf->control_socket, s->conf->control_group, &s->control_socket);
    return r < 0 ? fail(s, EX_OSERR, s->conf->control_socket, strerror(-r)) : 0;
}

/* While we hold a socket too, the kernel goes on taking connections for it, which nobody would greet. */
static void give_up_sockets(void *arg)
{
    struct server *s = arg;

    inbound_unbind(s->sockets);
    s->sockets = NULL;
}

static void look_after_aides(void *arg)
{
    struct server *s = arg;
    aide_look(&s->keeper);
}

static int run(struct server *s)
{
    const struct supervised job = { .work = work, .stopping = give_up_sockets, .child_ended = look_after_aides, .arg = s };
    struct keeper_process keeper = { .path = s->path, .conf = s->conf };

    s->keeper.arg = &keeper;
    supervisor_begin();
    if (take_lock(s) < 0 || take_sockets(s) < 0 || aide_start(&s->keeper, &s->code) < 0)
        return s->code;
    int code = supervisor_run(&job);
    aide_stop(&s->keeper);
    return code;
}

int cmd_serve(int argc, char **argv)
{
    static const struct option options[] = { { "config", required_argument, NULL, 'c' }, { "help", no_argument, NULL, 'h' }, { 0 } };
    struct server s = {
        .code = EX_OK,
        .lock = -1,
        .keeper = { .name = "keeper", .work = keeper_process, .other_door = -1, .door = -1, .callers = -1, .leash = -1 },
    };
    const char *given = NULL;

    for (int c; (c = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        switch (c) {
        case 'c': given = optarg; break;
        case 'h': usage(stdout); return EX_OK;
        case '?': return cli_usage_error("serve");
        }
    }
    if (optind != argc)
        return cli_usage_error("serve");
    s.path = cli_conf_path(given);
    int code = load(&s);
    if (code != EX_OK)
        return code;
    log_level_set(s.conf->log_level);
    code = run(&s);
    give_up_sockets(&s);
    if (s.control_socket != NULL)
        net_listener_close(s.control_socket);    /* not before: operators may want to look at what takes so long to stop */
    (void)file_close(s.lock);
    conf_unref(s.conf);
    return code;
}
