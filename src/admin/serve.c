/*
 * nightmail serve, the worker: brings the server's parts up in the order in which they need each other, waits for a signal, and takes them
 * down the other way round: nothing comes in any more before delivery stops, and the queue closes last.
 *
 * SIGTERM, SIGINT: stop, with the grace period. SIGHUP: read the configuration again (serve_reload.c). What the supervisor says by SIGUSR1
 * and SIGUSR2 is in supervisor.h: a worker of another generation prepares all but the queue, and takes that when the owner has let go.
 * Runs in the worker.
 */
#include "admin/cli.h"
#include "admin/control.h"
#include "admin/lookup_process.h"
#include "admin/resolver.h"
#include "admin/serve_internal.h"
#include "base/cleanup.h"
#include "base/codec.h"
#include "base/log.h"
#include "conf/conf.h"
#include "inbound/inbound.h"
#include "lookup/far.h"
#include "outbound/local.h"
#include "outbound/outbound.h"
#include "queue/queue.h"
#include "run/crash.h"
#include "run/dns.h"
#include "run/file.h"
#include "run/keeper.h"
#include "run/loop.h"
#include "run/net.h"
#include "run/notify.h"
#include "run/offload.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sysexits.h>

#define ADDRESSES_MAX  1024
#define BODY_MAX       (UINT64_C(4) << 30)   /* inbound holds message_size_max, which a reload may change; DSNs have their own limit */
#define LEFT_RETRY_NS  (5 * NS_PER_S)        /* for what a draining worker left and could not be taken */
#define BEATS          5                     /* in the silence after which a worker is held to hang */
#define BEAT_MIN_NS    (50 * NS_PER_MS)
#define BEAT_MAX_NS    (5 * NS_PER_S)

int serve_fail(struct server *s, int code, const char *what, const char *error)
{
    log_event(LOG_ERROR, "start-failed", LOG_Z("part", what), LOG_Z("error", error));
    s->code = code;
    return -1;
}

/* -- up -------------------------------------------------------------------------------------------------------------------- */

static int start_dns(struct server *s)
{
    char error[256];

    if (resolver_start(s->conf, error) < 0)
        return serve_fail(s, EX_CONFIG, "dns", error);
    s->dns = true;
    return 0;
}

/* What runs already reads the file again, as we have. A new generation needs its yes. */
static int have_read_again(struct server *s, const char *part, int (*reload)(char error[256]))
{
    char error[256];

    if ((s->how.crashes == 0 && !s->how.prepared) || reload(error) == 0)
        return 0;
    if (s->how.prepared)
        return serve_fail(s, EX_CONFIG, part, error);
    log_event(LOG_ERROR, "reload-refused", LOG_Z("part", part), LOG_Z("error", error));
    return 0;
}

static int reload_keeper(char error[256]) { return keeper_reload(NULL, error); }

static int start_keeper(struct server *s)
{
    char error[256];

    int r = keeper_connect(s->keeper.callers, error);
    return r < 0 ? serve_fail(s, EX_OSERR, "keeper", error) : have_read_again(s, "keeper", reload_keeper);
}

/* Before the keeper, which asks it. */
static int start_lookup(struct server *s)
{
    int r = lookup_connect(s->lookup.callers);
    if (r < 0)
        return serve_fail(s, EX_OSERR, "lookup", strerror(-r));
    return lookup_process_needed(s->conf) ? have_read_again(s, "lookup", lookup_far_reload) : 0;
}

struct queue_options serve_queue_options(const struct conf *c)
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
    struct queue_options options = serve_queue_options(s->conf);

    options.beside = s->how.beside || s->how.prepared;
    int r = queue_open(&options, &s->queue, &found, error);
    if (r < 0)
        return serve_fail(s, EX_OSERR, "queue", error);
    log_event(LOG_INFO, "recovered", LOG_U64("messages", found.messages), LOG_U64("segments", found.segments), LOG_U64("sidecars", found.sidecars),
              LOG_U64("records", found.records),
              LOG_U64("torn-tails", found.torn_tails), LOG_U64("bad-records", found.bad_records), LOG_U64("abandoned", found.abandoned),
              LOG_U64("orphan-bodies", found.orphan_bodies));
    return 0;
}

/* What a draining worker left. Awaits. False: some of it is still there. */
static bool take_left(struct server *s)
{
    size_t taken;

    int r = queue_take_over(s->queue, s->conf->data_dir, &taken);
    if (taken > 0 || (r < 0 && r != -EWOULDBLOCK))
        log_event(r < 0 ? LOG_ERROR : LOG_INFO, "taken-over", LOG_U64("messages", taken), LOG_Z("error", r < 0 ? strerror(-r) : ""));
    s->left = r < 0 && r != -EWOULDBLOCK;        /* -EWOULDBLOCK: it still drains; we are told of its end */
    return !s->left;
}

/* What worker after worker crashed on is put aside, for somebody to look at. Awaits. */
static void hold_suspects(struct server *s)
{
    const struct suspects *all = s->how.suspects;
    char id[CODEC_ID_LEN + 1];

    for (unsigned i = 0; all != NULL && i < SUPERVISOR_SUSPECTS; i++) {
        if (all->list[i].crashes < SUPERVISOR_CRASHES_MAX || queue_hold(s->queue, all->list[i].id) < 0)
            continue;
        codec_id_format(all->list[i].id, id);
        log_event(LOG_ERROR, "message-quarantined", LOG_Z("id", id), LOG_U64("crashes", all->list[i].crashes),
                  LOG_Z("text", "workers crashed while it was being delivered: it is held, see queue show and queue release"));
    }
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

/* What another worker may do too. */
static int prepare_parts(struct server *s)
{
    return start_lookup(s) < 0 || start_keeper(s) < 0 || start_dns(s) < 0 ? -1 : 0;
}

static int start_control(struct server *s)
{
    struct net_listener *listener;

    if (s->control_socket == NULL)
        return 0;
    int r = net_listener_share(s->control_socket, &listener);
    if (r < 0)
        return r;
    net_listener_disown(listener);
    r = control_start(listener, s->queue, s->how.link, &s->control);
    if (r < 0)
        net_listener_close(listener);
    return r;
}

/* Before the first delivery: what was left may be half ours already. */
static int own_queue(struct server *s)
{
    if (start_queue(s) < 0)
        return -1;
    if (!take_left(s))
        return serve_fail(s, EX_OSERR, "queue", "what a draining worker left cannot be taken over");
    hold_suspects(s);
    return 0;
}

static int start_parts(struct server *s)
{
    char error[256];
    int r;

    if (own_queue(s) < 0)
        return -1;
    if ((r = outbound_start(s->queue, &s->outbound)) < 0)
        return serve_fail(s, EX_OSERR, "outbound", strerror(-r));
    if ((r = start_control(s)) < 0)
        return serve_fail(s, EX_OSERR, "control", strerror(-r));
    if ((r = inbound_start_on(s->queue, s->sockets, &s->inbound, error)) < 0)
        return serve_fail(s, r == -EINVAL ? EX_CONFIG : EX_OSERR, "inbound", error);   /* -EINVAL: what a certificate's file holds */
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

/* A draining worker is told to stop: at once then. */
static void hurry(void *arg)
{
    struct server *s = arg;

    for (int signo; (signo = loop_signal_wait(TASK_FOREVER)) >= 0;)
        if ((signo == SIGTERM || signo == SIGINT) && s->inbound != NULL)
            inbound_hurry(s->inbound);
}

static void stop_inbound(struct server *s)
{
    struct task_group group;

    task_group_init(&group);
    if (s->handed && s->inbound != NULL)
        (void)task_group_start(&group, "hurry", hurry, s);   /* without it drain_time has to pass */
    inbound_stop(s->inbound);
    s->inbound = NULL;
    task_group_cancel(&group);
    (void)task_group_wait(&group, TASK_FOREVER);
}

static void stop_outbound(struct server *s)
{
    if (s->outbound != NULL)
        outbound_stop(s->outbound, task_deadline_in(s->conf->shutdown_grace_ns));
    s->outbound = NULL;
}

static void stop_parts(struct server *s)
{
    stop_inbound(s);
    control_stop(s->control);
    stop_outbound(s);
    if (s->queue != NULL)
        queue_close(s->queue);
    lookup_disconnect();
    if (s->dns)
        dns_stop();
    keeper_stop();
}

/* -- signals ----------------------------------------------------------------------------------------------------------------- */

/* Lets go of the queue; the sessions stay, and new ones come until another worker takes them. Awaits the deliveries. */
static void hand_over(struct server *s)
{
    char error[256];

    log_event(LOG_INFO, "handing-over");
    control_stop(s->control);
    s->control = NULL;
    stop_outbound(s);
    s->handed = queue_drain(s->queue, s->conf->data_dir, error) == 0;
    if (s->handed) {
        inbound_drain(s->inbound, s->conf->drain_time_ns);
        link_say(s->how.link, LINK_LET_GO, 0);
        return;
    }
    log_event(LOG_ERROR, "not-handed-over", LOG_Z("error", error));
    int r = outbound_start(s->queue, &s->outbound);
    if (r == 0)
        r = start_control(s);
    if (r < 0)
        log_event(LOG_ERROR, "not-resumed", LOG_Z("error", strerror(-r)));
    link_say(s->how.link, LINK_KEPT, 0);
}

static void say_stopping(int signo)
{
    log_event(LOG_INFO, "stopping", LOG_I64("signal", signo));
}

static void wait_for_end(struct server *s)
{
    for (;;) {
        int signo = loop_signal_wait(s->left ? task_deadline_in(LEFT_RETRY_NS) : TASK_FOREVER);
        if (signo == SIGTERM || signo == SIGINT || signo == -ECANCELED) {
            if (s->handed)
                inbound_hurry(s->inbound);
            say_stopping(signo);
            return;
        }
        if (signo == SUPERVISOR_DRAIN && s->handed) {
            log_event(LOG_INFO, "draining");
            return;
        }
        if (s->handed)
            continue;
        if (signo == SIGHUP)
            serve_reload(s);
        else if (signo == SUPERVISOR_HAND_OVER)
            hand_over(s);
        else
            (void)take_left(s);
    }
}

/* A worker of another generation: all that can fail has not. False: told to stop. */
static bool await_queue(struct server *s)
{
    if (!s->how.prepared)
        return true;
    link_say(s->how.link, LINK_PREPARED, 0);
    for (;;) {
        int signo = loop_signal_wait(TASK_FOREVER);
        if (signo == SUPERVISOR_TAKE)
            return true;
        if (signo == SIGTERM || signo == SIGINT || signo < 0)
            return false;
    }
}

/* -- the beat: all loops turn -------------------------------------------------------------------------------------------------- */

struct beat {
    struct task *task;
    unsigned     waiting;                /* loops that have not answered */
    int64_t      interval_ns;
    int          link;
};

static void beat_answer(void *arg)
{
    struct beat *b = arg;

    b->waiting--;
    task_wake(b->task);
}

static void beat_ask(void *arg)
{
    while (loop_start_on(0, "beat-answer", beat_answer, arg) < 0)
        (void)task_sleep(BEAT_MIN_NS);
}

static void beat_run(void *arg)
{
    struct beat *b = arg;

    b->task = task_self();
    do {
        task_shield_begin();
        for (unsigned i = 0; i < loop_count(); i++)
            b->waiting += loop_start_on(i, "beat", beat_ask, b) == 0;
        while (b->waiting > 0)
            (void)task_park(TASK_FOREVER);
        task_shield_end();
        link_say(b->link, LINK_BEAT, 0);
    } while (task_sleep(b->interval_ns) == 0);
}

static struct beat beat_of(const struct server *s)
{
    int64_t interval = s->conf->hang_time_ns / BEATS, watched = notify_watchdog_ns() / BEATS;

    if (interval == 0 || (watched > 0 && watched < interval))
        interval = watched;
    if (interval == 0 || interval > BEAT_MAX_NS)
        interval = BEAT_MAX_NS;
    return (struct beat){ .interval_ns = interval > BEAT_MIN_NS ? interval : BEAT_MIN_NS, .link = s->how.link };
}

/* -- all of it ------------------------------------------------------------------------------------------------------------------- */

#if defined DEBUG_BUILD
void (*serve_intruder)(void);

static void let_intruder_in(void)
{
    if (serve_intruder != NULL)
        serve_intruder();
}
#else
static void let_intruder_in(void) {}
#endif

static void serve(void *arg)
{
    static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2 };
    struct server *s = arg;
    struct beat beat = beat_of(s);
    struct task_group beating;

    task_group_init(&beating);
    int r = loop_signals(signals, sizeof signals / sizeof signals[0]);
    if (r < 0)
        serve_fail(s, EX_OSERR, "signals", strerror(-r));
    else if (task_group_start(&beating, "beats", beat_run, &beat) < 0)
        serve_fail(s, EX_OSERR, "beats", "no memory");
    else if (prepare_parts(s) == 0 && await_queue(s) && start_parts(s) == 0) {
        if (s->reload_first)
            serve_reload(s);
        say_ready(s);
        link_say(s->how.link, LINK_READY, 0);
        let_intruder_in();
        wait_for_end(s);
    }
    stop_parts(s);
    task_group_cancel(&beating);
    (void)task_group_wait(&beating, TASK_FOREVER);
    if (s->code == EX_OK)
        log_event(LOG_INFO, s->handed ? "drained" : "stopped");
}

/* What the sockets and the lock were taken for. */
static bool places_eq(const struct conf *a, const struct conf *b)
{
    return strcmp(a->data_dir, b->data_dir) == 0 && strcmp(a->submit_socket, b->submit_socket) == 0 && serve_listeners_eq(a, b);
}

/* A worker that follows a crashed one starts with the file as it is now: the one of the start may name what has gone since. Where it
 * asks for other sockets it is taken as by SIGHUP; where it does not check, the one of the start has to do. */
static void read_again(struct server *s)
{
    CLEANUP_BUF struct buf error;
    struct conf *c;

    buf_init(&error, SERVE_ERRORS_MAX);
    if (cli_load_conf(s->path, &c, &error) < 0) {
        serve_say_refused(buf_str(&error));
        return;
    }
    s->reload_first = !places_eq(s->conf, c);
    conf_unref(s->reload_first ? c : s->conf);
    if (!s->reload_first)
        s->conf = c;
}

/* -- the sandbox --------------------------------------------------------------------------------------------------------------- */

/* What has to be there before it closes. A mailbox that cannot be had is said when mail comes for it. */
static int make_dirs(const struct server *s, char error[256])
{
    struct queue_options options = serve_queue_options(s->conf);

    int r = local_prepare(s->conf);
    if (r < 0)
        log_event(LOG_WARN, "mailboxes-not-made", LOG_Z("mailbox", s->conf->mailbox), LOG_Z("error", strerror(-r)));
    return queue_make_dirs(&options, error);
}

/* Before there are threads. */
static int enter_sandbox(struct server *s)
{
    char error[256] = "no memory";

    int r = sandbox_find_user(s->conf, &s->user, error);
    if (r == 0)
        r = sandbox_become(&s->user, error);
    if (r == 0)
        r = make_dirs(s, error);
    if (r == 0)
        r = rights_of(s->conf, s->user.home, &s->rights);
    if (r == 0)
        r = sandbox_close(&s->rights, &s->user, error);
    return r < 0 ? serve_fail(s, EX_OSERR, "sandbox", error) : 0;
}

static int shut_in(struct server *s)
{
    if (s->conf->sandbox)
        return enter_sandbox(s);
    log_event(LOG_WARN, "sandbox-off", LOG_Z("text", "sandbox = no: for debugging only"));
    return 0;
}

int serve_work(struct server *s, const struct worker_start *how)
{
    aide_leave(&s->keeper);
    aide_leave(&s->lookup);
    s->how = *how;
    if (how->crashes > 0 && !how->prepared)
        read_again(s);
    log_level_set(s->conf->log_level);
    crash_report_begin(how->link);
    if (shut_in(s) < 0)
        return s->code;
    conf_set_current(conf_ref(s->conf));
    int r = loop_run(s->sockets->loops, serve, s);
    conf_set_current(NULL);
    rights_free(&s->rights);
    return r < 0 ? cli_fail("serve", EX_OSERR, "cannot start: %s", strerror(-r)) : s->code;
}
