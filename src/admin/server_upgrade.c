/*
 * nightmail serve, an upgrade: the supervisor's child becomes a worker of the program that is on the disk now, and when that serves the supervisor
 * becomes that program too. Nothing is closed in between but what the new ones do not know.
 *
 * Runs in the supervisor, and in a worker before its loops.
 */
#include "admin/control.h"
#include "admin/handover.h"
#include "admin/serve_internal.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "run/inherit.h"
#include "run/loop.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sysexits.h>
#include <unistd.h>

#define LINE_MAX_SIZE (16 * (HANDOVER_SOCKETS_MAX + 32))

static struct handover_aide describe_aide(const struct aide *a)
{
    return (struct handover_aide){ .door = a->door, .other_door = a->other_door, .callers = a->callers, .leash = a->leash, .pid = a->pid };
}

/* A worker has no end but the callers'. */
static struct handover_aide without_ours(struct handover_aide a)
{
    return (struct handover_aide){ .door = -1, .other_door = -1, .callers = a.callers, .leash = -1 };
}

static void take_aide(struct aide *a, const struct handover_aide *h)
{
    const int fds[] = { a->door = (int)h->door, a->other_door = (int)h->other_door, a->callers = (int)h->callers, a->leash = (int)h->leash };

    a->pid = (pid_t)h->pid;
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        (void)inherit_take(fds[i]);              /* -1: none */
}

static void describe(const struct server *s, struct handover *out)
{
    *out = (struct handover){
        .link = -1, .lock = s->lock, .control = s->control_socket != NULL ? net_listener_fd(s->control_socket) : -1,
        .keeper = describe_aide(&s->keeper), .lookup = describe_aide(&s->lookup),
        .owner.link = -1, .leaving.link = -1,
    };
    if (s->sockets != NULL)
        out->socket_count = inbound_fds(s->sockets, out->sockets, HANDOVER_SOCKETS_MAX);
}

/* Comes back on an error. */
static int become_program(const struct server *s, const struct handover *h)
{
    char name[] = "nightmail", verb[] = "serve", option[] = "-c";
    CLEANUP_FREE char *path = strdup(s->path);
    char *const argv[] = { name, verb, option, path, NULL };
    static int fds[HANDOVER_SOCKETS_MAX + 16];
    CLEANUP_BUF struct buf line;

    buf_init(&line, LINE_MAX_SIZE);
    handover_put(&line, h);
    buf_put_u8(&line, 0);
    if (path == NULL || !buf_ok(&line))
        return -ENOMEM;
    return s->program == NULL ? -ENOENT
                              : inherit_exec(s->program, argv, HANDOVER_VARIABLE, line.p, fds, handover_fds(h, fds, sizeof fds / sizeof fds[0]));
}

int server_exec_worker(struct server *s, const struct worker_start *how)
{
    static struct handover h;

    describe(s, &h);
    h.is_worker = 1;
    h.link = how->link;
    h.crashes = how->crashes;
    h.beside = how->beside;
    h.keeper = without_ours(h.keeper);
    h.lookup = without_ours(h.lookup);
    int r = become_program(s, &h);
    return serve_fail(s, EX_OSERR, s->program != NULL ? s->program : "program", strerror(-r)), s->code;
}

void server_become(void *arg, const struct supervised_worker *owner, const struct supervised_worker *leaving)
{
    static struct handover h;
    const struct server *s = arg;

    describe(s, &h);
    h.owner = *owner;
    h.leaving = *leaving;
    int r = become_program(s, &h);
    log_event(LOG_ERROR, "not-upgraded", LOG_Z("error", strerror(-r)), LOG_Z("text", "the new worker serves, under the supervisor that was"));
}

bool server_was_handed(struct handover *out)
{
    const char *line = getenv(HANDOVER_VARIABLE);
    bool handed = line != NULL && handover_get(line, out);

    (void)unsetenv(HANDOVER_VARIABLE);
    return handed;
}

static int take_sockets(struct server *s, const struct handover *h)
{
    struct inbound_sockets *given;
    char error[256] = "no memory";

    int r = inbound_adopt(s->conf, loop_cores(), h->sockets, h->socket_count, &given);
    if (r < 0)
        return serve_fail(s, EX_OSERR, "inbound", strerror(-r));
    r = inbound_bind(s->conf, loop_cores(), given, &s->sockets, error);
    if (r < 0) {
        inbound_unbind(given);
        return serve_fail(s, EX_OSERR, "inbound", error);
    }
    inbound_unbind_beside(given, s->sockets);
    return 0;
}

int server_take_on(struct server *s, const struct handover *h, struct worker_start *how)
{
    static const struct suspects none;

    *how = (struct worker_start){ .crashes = (unsigned)h->crashes, .prepared = true, .beside = h->beside != 0, .link = (int)h->link, .suspects = &none };
    s->lock = (int)h->lock;
    take_aide(&s->keeper, &h->keeper);
    take_aide(&s->lookup, &h->lookup);
    int fds[] = { (int)h->link, s->lock, h->owner.link, h->leaving.link };
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        (void)inherit_take(fds[i]);              /* -1: none */
    if (h->control >= 0 && net_listener_adopt((int)h->control, &s->control_socket) < 0)
        return serve_fail(s, EX_OSERR, "control", "it does not listen");
    /* A program with capabilities loses it at its start. */
    if (h->is_worker && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() == 1))
        return serve_fail(s, EX_OSERR, "supervisor", "it is gone");
    return take_sockets(s, h);
}
