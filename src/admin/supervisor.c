/*
 * The supervisor; see supervisor.h. One thread that waits for signals, of which the end of its worker is one.
 */
#include "admin/supervisor.h"
#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#define CALM_NS      (60 * NS_PER_S)         /* a worker that lived as long has crashed for the first time */
#define PAUSE_MIN_NS (100 * NS_PER_MS)
#define PAUSE_MAX_NS (30 * NS_PER_S)

struct supervisor {
    const struct supervised *job;
    pid_t                    worker;
    int64_t                  started_ns;     /* the worker */
    unsigned                 crashes;        /* in all */
    unsigned                 in_a_row;
    bool                     stopping;
};

static void signals_of(sigset_t *out)
{
    static const int ours[] = { SIGTERM, SIGINT, SIGHUP, SIGCHLD };

    (void)sigemptyset(out);
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        (void)sigaddset(out, ours[i]);
}

void supervisor_begin(void)
{
    sigset_t set;

    /* Whoever started us may ignore it, and then no end of a child would be told. */
    (void)signal(SIGCHLD, SIG_DFL);
    signals_of(&set);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
}

int supervisor_sleep(int64_t ns)
{
    int64_t deadline = clock_mono_ns() + ns;
    sigset_t set;

    signals_of(&set);
    for (int64_t left; (left = deadline - clock_mono_ns()) > 0;) {
        struct timespec at_most = { .tv_sec = left / NS_PER_S, .tv_nsec = left % NS_PER_S };
        int signo = sigtimedwait(&set, NULL, &at_most);
        if (signo == SIGTERM || signo == SIGINT)
            return signo;
    }
    return 0;
}

/* -- the worker -------------------------------------------------------------------------------------------------------------- */

/* In the new process. SIGTERM, SIGINT and SIGHUP stay blocked: what comes before the loops ask for signals is not lost. */
static bool become_worker(pid_t parent)
{
    sigset_t child;

    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return false;
    if (getppid() != parent)                     /* it has died before that call */
        return false;
    (void)sigemptyset(&child);
    (void)sigaddset(&child, SIGCHLD);
    (void)sigprocmask(SIG_UNBLOCK, &child, NULL);
    return true;
}

/* True in the worker, with its exit code. */
static bool start_worker(struct supervisor *s, int *out_code)
{
    pid_t self = getpid();
    pid_t pid = fork();

    if (pid == 0) {
        *out_code = become_worker(self) ? s->job->work(s->job->arg, s->crashes) : EX_OSERR;
        return true;
    }
    s->worker = pid;
    s->started_ns = clock_mono_ns();
    if (pid < 0)
        log_event(LOG_ERROR, "worker-not-started", LOG_Z("error", strerror(errno)));
    return false;
}

/* -- signals ------------------------------------------------------------------------------------------------------------------- */

static void stop_by(struct supervisor *s, int signo)
{
    if (!s->stopping)
        s->job->stopping(s->job->arg);
    s->stopping = true;
    (void)kill(s->worker, signo);
}

/* Waits until the worker has ended, and hands on what comes meanwhile. Its status. */
static int attend(struct supervisor *s)
{
    sigset_t set;
    int status;

    signals_of(&set);
    while (waitpid(s->worker, &status, WNOHANG) != s->worker) {
        s->job->child_ended(s->job->arg);
        switch (sigwaitinfo(&set, NULL)) {
        case SIGTERM:
            stop_by(s, SIGTERM);
            break;
        case SIGINT:
            stop_by(s, SIGINT);
            break;
        case SIGHUP:
            (void)kill(s->worker, SIGHUP);
            break;
        }
    }
    return status;
}

/* -- crashes ------------------------------------------------------------------------------------------------------------------- */

/* The first time at once; then 100 ms, and twice as long each time. */
static int64_t pause_ns(unsigned in_a_row)
{
    int64_t ns = PAUSE_MIN_NS;

    if (in_a_row < 2)
        return 0;
    for (unsigned i = 2; i < in_a_row && ns < PAUSE_MAX_NS; i++)
        ns *= 2;
    return ns < PAUSE_MAX_NS ? ns : PAUSE_MAX_NS;
}

/* Sleeps. False: told to stop. */
static bool recover(struct supervisor *s, int signo)
{
    int64_t lived_ns = clock_mono_ns() - s->started_ns;

    s->crashes++;
    s->in_a_row = lived_ns < CALM_NS ? s->in_a_row + 1 : 1;
    int64_t pause = s->stopping ? 0 : pause_ns(s->in_a_row);
    log_event(LOG_ERROR, "worker-crashed", LOG_I64("signal", signo), LOG_Z("text", strsignal(signo)), LOG_I64("pid", s->worker),
              LOG_I64("lived-ms", lived_ns / NS_PER_MS), LOG_U64("crashes", s->crashes), LOG_I64("restart-in-ms", pause / NS_PER_MS));
    return !s->stopping && supervisor_sleep(pause) == 0;
}

/* There was no memory, or no room for a process: the end at the start; later another try, after the longest pause. Sleeps. False: the end. */
static bool wait_for_room(const struct supervisor *s, int *out_code)
{
    *out_code = s->crashes == 0 ? EX_OSERR : EX_OK;
    return s->crashes > 0 && supervisor_sleep(PAUSE_MAX_NS) == 0;
}

/* False: the worker has none to follow it. */
static bool wait_for_end(struct supervisor *s, int *out_code)
{
    int status = attend(s);

    if (WIFEXITED(status)) {
        *out_code = WEXITSTATUS(status);
        return false;
    }
    *out_code = s->stopping ? EX_SOFTWARE : EX_OK;
    return recover(s, WTERMSIG(status));
}

int supervisor_run(const struct supervised *job)
{
    struct supervisor s = { .job = job };
    int code;

    for (;;) {
        if (start_worker(&s, &code))
            return code;
        if (s.worker < 0 ? !wait_for_room(&s, &code) : !wait_for_end(&s, &code))
            return code;
    }
}
