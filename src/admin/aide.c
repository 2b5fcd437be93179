/*
 * Aides; the contract is in aide.h. Runs in the supervisor; in the aide until its work begins.
 */
#include "admin/aide.h"
#include "admin/cli.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "run/leash.h"
#include "run/line.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#define ERRORS_MAX   (64 * 1024)
#define CALM_NS      (60 * NS_PER_S)     /* one that lived as long has ended for the first time */
#define PAUSE_MIN_NS (100 * NS_PER_MS)
#define PAUSE_MAX_NS (30 * NS_PER_S)

/* At once the first time; then 100 ms, and twice as long each time. */
static int64_t pause_ns(unsigned in_a_row)
{
    int64_t ns = PAUSE_MIN_NS;

    if (in_a_row < 2)
        return 0;
    for (unsigned i = 2; i < in_a_row && ns < PAUSE_MAX_NS; i++)
        ns *= 2;
    return ns < PAUSE_MAX_NS ? ns : PAUSE_MAX_NS;
}

/* In the new process. Its pause is spent here, so that the supervisor has nothing to wait for. */
static int become(struct aide *a, int leash, pid_t parent, int64_t pause)
{
    const int kept[] = { a->door, leash, a->other_door };

    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        return EX_OSERR;
    (void)prctl(PR_SET_NAME, a->name);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
#ifndef SAN_ADDRESS                      /* whose search for leaks reads the process as a debugger does */
    (void)prctl(PR_SET_DUMPABLE, 0);     /* neither in a core file nor by a debugger of the same user */
#endif
    leash_keep_only(kept, sizeof kept / sizeof kept[0]);
    return leash_sleep(leash, pause) < 0 ? EX_OK : a->work(a->arg, a->door, leash, a->crashes);
}

static int fork_aide(struct aide *a, int64_t pause)
{
    pid_t self = getpid();
    int leash = -1;

    int r = leash_new(&a->leash, &leash);
    if (r < 0)
        return r;
    pid_t pid = fork();
    if (pid == 0)
        exit(become(a, leash, self, pause));
    leash_close(&leash);
    if (pid < 0) {
        r = -errno;
        leash_close(&a->leash);
        return r;
    }
    a->pid = pid;
    a->started_ns = clock_mono_ns();
    return 0;
}

static int say_not_started(const struct aide *a, int error, int *out_code)
{
    log_event(LOG_ERROR, "start-failed", LOG_Z("part", a->name), LOG_Z("error", strerror(-error)));
    *out_code = EX_OSERR;
    return -1;
}

bool aide_make_door(struct aide *a) { return line_door_new(&a->callers, &a->door) == 0; }

int aide_start(struct aide *a, int *out_code)
{
    int status = 0;

    int r = a->door < 0 ? -EMFILE : fork_aide(a, 0);
    if (r < 0)
        return say_not_started(a, r, out_code);
    if (leash_wait_ready(a->leash) == 0)
        return 0;
    (void)waitpid(a->pid, &status, 0);
    leash_close(&a->leash);
    a->pid = 0;
    a->started_ns = 0;
    if (!WIFEXITED(status) || WEXITSTATUS(status) == EX_OK)
        return say_not_started(a, -EPIPE, out_code);
    *out_code = WEXITSTATUS(status);     /* it has said why */
    return -1;
}

/* It has ended; another one starts, after a pause if it has become a habit. Where there is no room for a process now, at the next look. */
static void start_again(struct aide *a, int status)
{
    int64_t lived_ns = clock_mono_ns() - a->started_ns;

    a->crashes++;
    a->in_a_row = lived_ns < CALM_NS ? a->in_a_row + 1 : 1;
    int64_t pause = pause_ns(a->in_a_row);
    log_event(LOG_ERROR, "aide-crashed", LOG_Z("name", a->name), LOG_I64("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0),
              LOG_I64("exit", WIFEXITED(status) ? WEXITSTATUS(status) : 0), LOG_I64("pid", a->pid), LOG_I64("lived-ms", lived_ns / NS_PER_MS),
              LOG_U64("crashes", a->crashes), LOG_I64("restart-in-ms", pause / NS_PER_MS));
    leash_close(&a->leash);
    a->pid = 0;
    int r = fork_aide(a, pause);
    if (r < 0)
        log_event(LOG_ERROR, "aide-not-started", LOG_Z("name", a->name), LOG_Z("error", strerror(-r)));
}

void aide_again(struct aide *a)
{
    leash_close(&a->leash);
    if (a->pid > 0)
        (void)waitpid(a->pid, NULL, 0);
    a->pid = 0;
    int r = fork_aide(a, 0);
    if (r < 0)
        log_event(LOG_ERROR, "aide-not-started", LOG_Z("name", a->name), LOG_Z("error", strerror(-r)));
}

void aide_look(struct aide *a)
{
    int status = 0;

    if (a->started_ns == 0)
        return;
    if (a->pid == 0)
        (void)fork_aide(a, PAUSE_MAX_NS);
    else if (waitpid(a->pid, &status, WNOHANG) == a->pid)
        start_again(a, status);
}

void aide_stop(struct aide *a)
{
    leash_close(&a->leash);
    if (a->pid > 0)
        (void)waitpid(a->pid, NULL, 0);
    a->pid = 0;
    aide_leave(a);
    line_door_close(&a->callers);
}

void aide_leave(struct aide *a)
{
    a->pid = 0;
    leash_close(&a->leash);
    line_door_close(&a->door);
    line_door_close(&a->other_door);
}

int aide_load_conf(const char *path, struct conf **out, char error[256])
{
    CLEANUP_BUF struct buf errors;
    struct str line, rest;

    buf_init(&errors, ERRORS_MAX);
    int r = cli_load_conf(path, out, &errors);
    if (r == 0)
        return 0;
    str_cut(buf_str(&errors), '\n', &line, &rest);
    snprintf(error, 256, "%.*s", (int)(line.n < 255 ? line.n : 255), line.p == NULL ? "" : line.p);
    return r;
}
