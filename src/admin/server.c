/*
 * nightmail serve, the supervisor's part: reads the configuration, takes the lock and the listening sockets, and has workers run
 * (supervisor.h); for another generation of them it does the first and the last again. Runs in the supervisor.
 */
#include "admin/cli.h"
#include "admin/commands.h"
#include "admin/control.h"
#include "admin/keeper_process.h"
#include "admin/handover.h"
#include "admin/lookup_process.h"
#include "admin/serve_internal.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "run/file.h"
#include "run/inherit.h"
#include "run/line.h"
#include "run/loop.h"
#include "run/notify.h"
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#define LOCK_WAIT_NS   (3 * NS_PER_S)         /* the worker of a server that was killed may still be at its last write */
#define LOCK_LOOK_NS   (25 * NS_PER_MS)

static void usage(FILE *to)
{
    fputs("usage: nightmail serve [-c FILE]\n\n"
          "Runs the mail server in the foreground; its log goes to standard error.\n\n"
          "  -c, --config FILE   default: $NIGHTMAIL_CONF, else " CLI_DEFAULT_CONF "\n\n"
          "SIGTERM stops it, SIGHUP makes it read its configuration again.\n"
          "Exit: 0 stopped, 64 wrong use, 70 a crash while stopping, 71 the system said no, 75 another server runs, 78 the configuration is wrong\n", to);
}

static int load(struct server *s)
{
    CLEANUP_BUF struct buf error;

    buf_init(&error, SERVE_ERRORS_MAX);
    if (cli_load_conf(s->path, &s->conf, &error) == 0)
        return EX_OK;
    (void)fwrite(error.p, 1, error.n, stderr); /* lines */
    return EX_CONFIG;
}

/* Sleeps while another server has it, for a moment. */
static int take_lock(struct server *s)
{
    char error[256];
    struct queue_options options = serve_queue_options(s->conf);
    int64_t deadline = clock_mono_ns() + LOCK_WAIT_NS;
    int r;

    while ((r = queue_lock_dir(&options, &s->lock, error)) == -EWOULDBLOCK && clock_mono_ns() < deadline)
        if (supervisor_sleep(LOCK_LOOK_NS) != 0)
            break;
    return r < 0 ? serve_fail(s, r == -EWOULDBLOCK ? EX_TEMPFAIL : EX_OSERR, "queue", error) : 0;
}

/* Who the worker is to be, and that the data directory is his, which may be made here. */
static int take_data_dir(struct server *s)
{
    char error[256];
    bool made = !sandbox_path_exists(s->conf->data_dir);

    if (s->conf->sandbox && sandbox_find_user(s->conf, &s->user, error) < 0)
        return serve_fail(s, EX_CONFIG, "sandbox", error);
    if (take_lock(s) < 0)
        return -1;
    return sandbox_own(s->conf->data_dir, &s->user, made, error) < 0 ? serve_fail(s, EX_CONFIG, "sandbox", error) : 0;
}

/* What the service manager has opened for us. Nothing, NULL, is what most have. */
static int adopt_given(struct server *s, struct inbound_sockets **out)
{
    static int fds[1024];
    size_t n = notify_sockets();

    *out = NULL;
    for (size_t i = 0; i < n; i++)
        fds[i] = INHERIT_FIRST + (int)i;
    return n == 0 ? 0 : inbound_adopt(s->conf, loop_cores(), fds, n, out);
}

static int take_sockets(struct server *s)
{
    struct inbound_sockets *given;
    char error[256] = "no memory";

    int r = adopt_given(s, &given);
    if (r == 0)
        r = inbound_bind(s->conf, loop_cores(), given, &s->sockets, error);
    if (r == 0 && given != NULL)
        inbound_unbind_beside(given, s->sockets);
    if (r < 0)
        return serve_fail(s, r == -EINVAL ? EX_CONFIG : EX_OSERR, "inbound", error);
    if (s->conf->control_socket[0] != '\0')
        r = control_bind(s->conf->control_socket, s->conf->control_group, &s->control_socket);
    return r < 0 ? serve_fail(s, EX_OSERR, s->conf->control_socket, strerror(-r)) : 0;
}

/* While we hold a socket too, the kernel goes on taking connections for it, which nobody would greet. */
static void give_up_sockets(void *arg)
{
    struct server *s = arg;

    notify_stopping();
    if (s->sockets != NULL && s->sockets_before != NULL)
        inbound_unbind_beside(s->sockets_before, s->sockets);
    s->sockets_before = NULL;
    inbound_unbind(s->sockets);
    s->sockets = NULL;
}

/* -- generations ------------------------------------------------------------------------------------------------------------------ */

/* The control socket, if it is another one. */
static int prepare_control(struct server *s, const struct conf *c)
{
    struct net_listener *listener = NULL;
    int r = 0;

    if (strcmp(c->control_socket, s->conf->control_socket) == 0 && strcmp(c->control_group, s->conf->control_group) == 0)
        return 0;
    if (strcmp(c->control_socket, s->conf->control_socket) == 0)
        return -EBUSY;                           /* another group for the same place: not while somebody listens there */
    if (c->control_socket[0] != '\0')
        r = control_bind(c->control_socket, c->control_group, &listener);
    if (r < 0)
        return r;
    s->control_before = s->control_socket;
    s->control_socket = listener;
    return 0;
}

static void settle_control(struct server *s, const struct conf *before, bool taken)
{
    struct net_listener *go = taken ? s->control_before : s->control_socket;

    if (strcmp(before->control_socket, s->conf->control_socket) == 0)
        return;
    if (!taken)
        s->control_socket = s->control_before;
    s->control_before = NULL;
    if (go != NULL)
        net_listener_close(go);
}

/* The file again, and the sockets that it asks for; what is there already is shared. */
static bool prepare(void *arg)
{
    struct server *s = arg;
    CLEANUP_BUF struct buf errors;
    struct conf *c;
    struct inbound_sockets *sockets;
    char error[256];

    buf_init(&errors, SERVE_ERRORS_MAX);
    if (cli_load_conf(s->path, &c, &errors) < 0) {
        serve_say_refused(buf_str(&errors));
        return false;
    }
    int r = strcmp(c->data_dir, s->conf->data_dir) == 0 ? 0 : -EINVAL;
    snprintf(error, sizeof error, "data_dir is another one: a running server does not move");
    if (r == 0)
        r = inbound_bind(c, s->sockets->loops, s->sockets, &sockets, error);
    if (r < 0) {
        serve_say_refused(str_of(error));
        conf_unref(c);
        return false;
    }
    r = prepare_control(s, c);
    if (r < 0) {
        serve_say_refused(str_of(strerror(-r)));
        inbound_unbind_beside(sockets, s->sockets);
        conf_unref(c);
        return false;
    }
    s->conf_before = s->conf;
    s->sockets_before = s->sockets;
    s->conf = c;
    s->sockets = sockets;
    return true;
}

static void settle(void *arg, bool taken)
{
    struct server *s = arg;
    struct conf *new_conf = s->conf;
    struct inbound_sockets *new_sockets = s->sockets;

    settle_control(s, s->conf_before, taken);
    if (!taken)
        s->conf = s->conf_before;
    if (new_sockets != NULL) {                   /* NULL: told to stop meanwhile, and all are given up */
        s->sockets = taken ? new_sockets : s->sockets_before;
        inbound_unbind_beside(taken ? s->sockets_before : new_sockets, s->sockets);
    }
    ((struct keeper_process *)s->keeper.arg)->conf = ((struct lookup_process *)s->lookup.arg)->conf = s->conf;
    conf_unref(taken ? s->conf_before : new_conf);
    s->conf_before = NULL;
    s->sockets_before = NULL;
}

/* What the fork has given it besides: those sockets go when the supervisor says so, and their paths too. */
static void drop_before(struct server *s)
{
    struct inbound_sockets *before = s->sockets_before;

    for (size_t i = 0; before != NULL && i < before->bound_count; i++)
        net_listener_disown(before->bound[i].socket);
    inbound_unbind(before);
    conf_unref(s->conf_before);
    s->sockets_before = NULL;
    s->conf_before = NULL;
    if (s->control_before != NULL) {
        net_listener_disown(s->control_before);
        net_listener_close(s->control_before);
    }
    s->control_before = NULL;
    if (s->control_socket != NULL)
        net_listener_disown(s->control_socket);
}

static int work(void *arg, const struct worker_start *how)
{
    drop_before(arg);
    return how->upgrade ? server_exec_worker(arg, how) : serve_work(arg, how);
}

static void say_serving(void *arg)
{
    (void)arg;
    notify_ready("serving");
}

/* Only while a worker's loops turn. */
static void say_alive(void *arg)
{
    (void)arg;
    notify_alive();
}

/* -- aides ------------------------------------------------------------------------------------------------------------------------ */

static void look_after_aides(void *arg)
{
    struct server *s = arg;

    aide_look(&s->lookup);
    aide_look(&s->keeper);
}

/* Before the worker reads the file again: lookup starts with the first configuration that needs it. If it does not, or that file is wrong,
 * the worker refuses it. */
static void start_what_is_needed(void *arg)
{
    struct server *s = arg;
    struct lookup_process *p = s->lookup.arg;
    char error[256];
    struct conf *c;
    int code;

    if (s->lookup.started_ns != 0 || aide_load_conf(s->path, &c, error) < 0)
        return;
    p->conf = c;
    if (lookup_process_needed(c))
        (void)aide_start(&s->lookup, &code);
    p->conf = s->conf;
    conf_unref(c);
}

static void begin_reload(void *arg)
{
    notify_reloading();
    start_what_is_needed(arg);
}

/* Another generation reads the file as well. */
static bool prepare_with_aides(void *arg)
{
    start_what_is_needed(arg);
    return prepare(arg);
}

/* Lookup's second door is the keeper's: the supervisor gives each its end, and the worker has neither. */
static int make_doors(struct server *s)
{
    int r = aide_make_door(&s->keeper) && aide_make_door(&s->lookup) ? line_door_new(&s->keeper.other_door, &s->lookup.other_door) : -EMFILE;
    return r < 0 ? serve_fail(s, EX_OSERR, "doors", strerror(-r)) : 0;
}

static void describe_aides(struct server *s, struct keeper_process *keeper, struct lookup_process *lookup)
{
    *keeper = (struct keeper_process){ .path = s->path, .conf = s->conf, .lookup = s->keeper.other_door };
    *lookup = (struct lookup_process){ .path = s->path, .conf = s->conf, .keeper_door = s->lookup.other_door };
    s->keeper.arg = keeper;
    s->lookup.arg = lookup;
}

/* The keeper may ask lookup. */
static int start_aides(struct server *s)
{
    if (lookup_process_needed(s->conf) && aide_start(&s->lookup, &s->code) < 0)
        return -1;
    return aide_start(&s->keeper, &s->code);
}

static void stop_aides(struct server *s)
{
    aide_stop(&s->keeper);
    aide_stop(&s->lookup);
}

/* -- the whole -------------------------------------------------------------------------------------------------------------------- */

static int supervise(struct server *s, const struct handover *h)
{
    const struct supervised job = { .work = work, .prepare = prepare_with_aides, .settle = settle, .become = server_become, .ready = say_serving,
                                    .reloading = begin_reload, .beat = say_alive, .stopping = give_up_sockets,
                                    .child_ended = look_after_aides, .hang_ns = s->conf->hang_time_ns, .arg = s };

    int code = supervisor_run(&job, h != NULL ? &h->owner : NULL, h != NULL ? &h->leaving : NULL);
    stop_aides(s);
    return code;
}

static int run(struct server *s)
{
    struct keeper_process keeper;
    struct lookup_process lookup;

    supervisor_begin();
    if (take_data_dir(s) < 0 || take_sockets(s) < 0 || make_doors(s) < 0)
        return s->code;
    describe_aides(s, &keeper, &lookup);
    if (start_aides(s) < 0) {
        stop_aides(s);
        return s->code;
    }
    return supervise(s, NULL);
}

/* What the program before us has handed on. */
static int resume(struct server *s, const struct handover *h)
{
    struct keeper_process keeper;
    struct lookup_process lookup;
    struct worker_start how;

    supervisor_begin();
    if (server_take_on(s, h, &how) < 0)
        return s->code;
    describe_aides(s, &keeper, &lookup);
    if (h->is_worker)
        return serve_work(s, &how);
    if (s->lookup.pid > 0 || lookup_process_needed(s->conf))
        aide_again(&s->lookup);
    aide_again(&s->keeper);
    return supervise(s, h);
}

int cmd_serve(int argc, char **argv)
{
    static const struct option options[] = { { "config", required_argument, NULL, 'c' }, { "help", no_argument, NULL, 'h' }, { 0 } };
    struct server s = {
        .code = EX_OK,
        .lock = -1,
        .keeper = { .name = "keeper", .work = keeper_process, .other_door = -1, .door = -1, .callers = -1, .leash = -1 },
        .lookup = { .name = "lookup", .work = lookup_process, .other_door = -1, .door = -1, .callers = -1, .leash = -1 },
    };
    static char program[4096];
    static struct handover h;
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
    s.program = inherit_program(program, sizeof program);
    bool handed = server_was_handed(&h);
    int code = load(&s);
    /* The new worker has read it a moment ago; and there is nobody else to look after it. */
    while (code != EX_OK && handed && !h.is_worker && supervisor_sleep(NS_PER_S) == 0)
        code = load(&s);
    if (code != EX_OK)
        return code;
    log_level_set(s.conf->log_level);
    code = handed ? resume(&s, &h) : run(&s);
    inbound_unbind(s.sockets);
    if (s.control_socket != NULL)
        net_listener_close(s.control_socket);    /* not before: operators may want to look at what takes so long to stop */
    (void)file_close(s.lock);
    conf_unref(s.conf);
    return code;
}
