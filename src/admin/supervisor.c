/*
 * The supervisor; see supervisor.h. One thread that waits for signals, of which the end of a worker is one, and for workers' words.
 *
 * There are at most two workers at a time, in these parts:
 *
 *     owner      has the queue, or is about to take it; there is always one, but in the pause after crashes
 *     coming     of another generation: prepares itself while the owner serves; becomes the owner when that one has let go
 *     leaving    was the owner: drains its sessions, and ends
 *
 * Runs in the supervisor.
 */
#include "admin/supervisor.h"
#include "admin/sandbox.h"
#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#define CALM_NS      (60 * NS_PER_S)         /* a worker that lived as long has crashed for the first time */
#define PAUSE_MIN_NS (100 * NS_PER_MS)
#define PAUSE_MAX_NS (30 * NS_PER_S)
#define ABORT_NS     (5 * NS_PER_S)          /* for the report of one that hangs; then SIGKILL */
#define PREPARE_NS   (60 * NS_PER_S)         /* for a worker of another generation to do what it can without the queue */
#define OVERSLEPT_NS (500 * NS_PER_MS)
#define NEVER        INT64_MAX

enum plan { PLAN_NONE, PLAN_RELOAD, PLAN_UPGRADE };

struct supervisor {
    const struct supervised *job;
    int                      signals;
    struct supervised_worker owner, coming, leaving;
    enum plan                plan;           /* what coming, or an owner that is not ready yet, is for */
    enum plan                wanted;         /* next, when the one that leaves has gone */
    bool                     served;         /* some worker was ready once */
    bool                     stopping;
    bool                     in_worker, ended;
    int                      code;
    int64_t                  start_ns;       /* when the next owner starts; NEVER: there is one */
    unsigned                 crashes;        /* in all */
    unsigned                 in_a_row;
    struct suspects          suspects;
};

static void signals_of(sigset_t *out)
{
    static const int ours[] = { SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGUSR1, SIGUSR2 };

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

/* -- a worker ---------------------------------------------------------------------------------------------------------------- */

/* In the new process. What it shall be told stays blocked until its loops ask for it, so that nothing is lost. */
static bool become_worker(const struct supervisor *s, pid_t parent)
{
    sigset_t child;

    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return false;
    if (getppid() != parent)                     /* it has died before that call */
        return false;
    link_close(s->signals);
    link_close(s->owner.link);
    link_close(s->leaving.link);
    (void)sigemptyset(&child);
    (void)sigaddset(&child, SIGCHLD);
    (void)sigprocmask(SIG_UNBLOCK, &child, NULL);
    return true;
}

static int work(struct supervisor *s, pid_t parent, struct worker_start *how)
{
    s->in_worker = true;
    return become_worker(s, parent) ? s->job->work(s->job->arg, how) : EX_OSERR;
}

/* False: there was no room for a process. In the worker, s->in_worker is true afterwards, and s->code its exit code. */
static bool start_worker(struct supervisor *s, struct supervised_worker *out, bool prepared)
{
    struct worker_start how = { .crashes = s->crashes, .prepared = prepared, .upgrade = prepared && s->plan == PLAN_UPGRADE,
                                .beside = s->leaving.pid != 0, .suspects = &s->suspects };
    int link[2];
    pid_t self = getpid();

    int r = link_new(link);
    pid_t pid = r < 0 ? r : fork();
    if (pid == 0) {
        link_close(link[0]);
        how.link = link[1];
        s->code = work(s, self, &how);
        return true;
    }
    if (pid < 0)
        log_event(LOG_ERROR, "worker-not-started", LOG_Z("error", strerror(r < 0 ? -r : errno)));
    if (r == 0)
        link_close(link[1]);
    if (r == 0 && pid < 0)
        link_close(link[0]);
    if (pid > 0)
        *out = (struct supervised_worker){ .pid = pid, .link = link[0], .started_ns = clock_mono_ns(), .heard_ns = clock_mono_ns() };
    return pid > 0;
}

static void tell(const struct supervised_worker *w, int signo)
{
    if (w->pid > 0)
        (void)kill(w->pid, signo);
}

/* There was no memory, or no room for a process: the end at the start; later another try, after the longest pause. */
static void start_owner(struct supervisor *s)
{
    s->start_ns = NEVER;
    s->plan = PLAN_NONE;
    if (start_worker(s, &s->owner, false))
        return;
    s->start_ns = clock_mono_ns() + PAUSE_MAX_NS;
    s->code = EX_OSERR;
    s->ended = !s->served;
}

/* -- generations --------------------------------------------------------------------------------------------------------------- */

static void begin_generation(struct supervisor *s, enum plan plan)
{
    s->wanted = PLAN_NONE;
    if (s->stopping)
        return;
    if (s->coming.pid != 0 || s->leaving.pid != 0 || !s->owner.ready || s->plan != PLAN_NONE) {
        s->wanted = plan;                        /* when this one is over */
        log_event(LOG_INFO, "generation-waits");
        return;
    }
    if (!s->job->prepare(s->job->arg)) {
        s->job->ready(s->job->arg);              /* with what it has */
        return;
    }
    s->plan = plan;
    if (!start_worker(s, &s->coming, true)) {
        s->plan = PLAN_NONE;
        s->job->settle(s->job->arg, false);
    }
}

static void begin_wanted(struct supervisor *s)
{
    if (s->wanted != PLAN_NONE && s->coming.pid == 0 && s->leaving.pid == 0 && s->owner.ready && s->plan == PLAN_NONE)
        begin_generation(s, s->wanted);
}

static void promote(struct supervisor *s)
{
    s->owner = s->coming;
    s->owner.ready = false;
    s->coming = (struct supervised_worker){ .link = -1 };
    tell(&s->owner, SUPERVISOR_TAKE);
}

/* Things are as they were before it. */
static void fail_generation(struct supervisor *s, const char *why)
{
    log_event(LOG_ERROR, "generation-failed", LOG_Z("text", why));
    s->plan = PLAN_NONE;
    s->job->settle(s->job->arg, false);
    if (!s->stopping)
        s->job->ready(s->job->arg);
}

static void on_let_go(struct supervisor *s)
{
    s->leaving = s->owner;
    s->owner = (struct supervised_worker){ .link = -1 };
    if (s->coming.pid != 0)
        promote(s);
    else if (!s->stopping)
        start_owner(s);                          /* the one that should have followed has failed meanwhile */
}

/* Its end is the end of the plan. */
static void on_kept(struct supervisor *s)
{
    tell(&s->coming, SIGTERM);
}

static void on_ready(struct supervisor *s)
{
    bool first = !s->owner.ready;
    enum plan plan = s->plan;

    s->owner.ready = s->served = true;
    s->job->ready(s->job->arg);
    if (!first)
        return;
    tell(&s->leaving, SUPERVISOR_DRAIN);
    if (plan == PLAN_NONE || s->coming.pid != 0)
        return;
    s->plan = PLAN_NONE;
    s->job->settle(s->job->arg, true);
    log_event(LOG_INFO, "generation", LOG_I64("pid", s->owner.pid), LOG_I64("before", s->leaving.pid));
    if (plan == PLAN_UPGRADE && !s->stopping)
        s->job->become(s->job->arg, &s->owner, &s->leaving);
}

/* -- words ------------------------------------------------------------------------------------------------------------------------ */

static void suspect(struct supervisor *s, uint64_t id)
{
    struct suspects *all = &s->suspects;

    for (unsigned i = 0; i < SUPERVISOR_SUSPECTS; i++) {
        if (all->list[i].id == id) {
            all->list[i].crashes++;
            return;
        }
    }
    all->list[all->next].id = id;
    all->list[all->next].crashes = 1;
    all->next = (all->next + 1) % SUPERVISOR_SUSPECTS;
}

/* The worker says so itself, in its last moment, and may lie: it is a number for the log. */
static void say_forbidden(const struct supervised_worker *w, uint64_t number)
{
    char name[32];

    sandbox_call_name((int)number, name);
    log_event(LOG_ERROR, "worker-forbidden", LOG_Z("call", name), LOG_U64("number", number), LOG_I64("pid", w->pid),
              LOG_Z("text", "its sandbox ends the worker: an intruder, or a fault of ours"));
}

static void on_word(struct supervisor *s, struct supervised_worker *w, const struct link_message *m)
{
    bool owner = w == &s->owner;

    switch (m->word) {
    case LINK_PREPARED:
        if (w == &s->coming) {
            w->ready = true;
            tell(&s->owner, SUPERVISOR_HAND_OVER);
        }
        break;
    case LINK_READY:      if (owner) on_ready(s); break;
    case LINK_LET_GO:     if (owner) on_let_go(s); break;
    case LINK_KEPT:       if (owner) on_kept(s); break;
    case LINK_GENERATION: if (owner) begin_generation(s, PLAN_RELOAD); break;
    case LINK_UPGRADE:    if (owner) begin_generation(s, PLAN_UPGRADE); break;
    case LINK_CRASHED:    suspect(s, m->about); break;
    case LINK_FORBIDDEN:  say_forbidden(w, m->about); break;
    case LINK_BEAT:       if (owner) s->job->beat(s->job->arg); break;
    }
}

/* What it says may make it another one: so it is looked up by its pipe again each time. */
static void listen_to(struct supervisor *s, int link)
{
    struct supervised_worker *all[] = { &s->owner, &s->coming, &s->leaving };
    struct link_message m;

    while (!s->in_worker && link_hear(link, &m)) {
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
            if (all[i]->pid != 0 && all[i]->link == link) {
                all[i]->heard_ns = clock_mono_ns();
                on_word(s, all[i], &m);
                break;
            }
        }
    }
    if (s->in_worker)
        return;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i]->pid != 0 && all[i]->link == link && link_is_over(link))
            all[i]->silent = true;
}

/* -- ends ------------------------------------------------------------------------------------------------------------------------- */

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

/* Gives how long to wait for the next one. */
static int64_t say_crashed(struct supervisor *s, const struct supervised_worker *w, int status, bool follows)
{
    int64_t lived_ns = clock_mono_ns() - w->started_ns;

    s->crashes++;
    s->in_a_row = lived_ns < CALM_NS ? s->in_a_row + 1 : 1;
    int64_t pause = follows ? pause_ns(s->in_a_row) : 0;
    if (WIFEXITED(status))
        log_event(LOG_ERROR, "worker-failed", LOG_I64("code", WEXITSTATUS(status)), LOG_I64("pid", w->pid),
                  LOG_I64("lived-ms", lived_ns / NS_PER_MS), LOG_I64("restart-in-ms", pause / NS_PER_MS));
    else
        log_event(LOG_ERROR, "worker-crashed", LOG_I64("signal", WTERMSIG(status)), LOG_Z("text", strsignal(WTERMSIG(status))), LOG_I64("pid", w->pid),
                  LOG_I64("lived-ms", lived_ns / NS_PER_MS), LOG_U64("crashes", s->crashes), LOG_I64("restart-in-ms", pause / NS_PER_MS));
    return pause;
}

static void on_owner_end(struct supervisor *s, const struct supervised_worker *w, int status)
{
    bool crashed = !WIFEXITED(status), fine = WIFEXITED(status) && WEXITSTATUS(status) == EX_OK;
    bool new = s->plan != PLAN_NONE && s->coming.pid == 0;       /* of a generation that was not ready yet */

    if (s->stopping || fine || (!crashed && !s->served)) {
        if (crashed)
            (void)say_crashed(s, w, status, false);
        s->code = crashed ? EX_SOFTWARE : WEXITSTATUS(status);
        s->ended = !s->stopping;
        return;
    }
    int64_t pause = say_crashed(s, w, status, s->coming.pid == 0);
    if (s->coming.pid != 0) {
        promote(s);
        return;
    }
    if (new)
        fail_generation(s, "it could not take over: back to the one before");
    s->start_ns = clock_mono_ns() + (new ? 0 : pause);
}

static struct supervised_worker *find(struct supervisor *s, pid_t pid)
{
    if (s->owner.pid == pid)
        return &s->owner;
    return s->coming.pid == pid ? &s->coming : &s->leaving;
}

static void on_end(struct supervisor *s, pid_t pid, int status)
{
    listen_to(s, find(s, pid)->link);            /* its last words; they may change what it is */
    if (s->in_worker)
        return;
    struct supervised_worker *w = find(s, pid), gone = *w;
    *w = (struct supervised_worker){ .link = -1 };
    link_close(gone.link);
    if (w == &s->owner) {
        on_owner_end(s, &gone, status);
    } else if (w == &s->coming) {
        fail_generation(s, "it could not start: the one before goes on");
    } else {
        if (!WIFEXITED(status))
            (void)say_crashed(s, &gone, status, false);
        tell(&s->owner, SUPERVISOR_TAKE_LEFT);
    }
}

/* One end may make another one what it was not: so they are looked through until none has ended. */
static bool reap_one(struct supervisor *s)
{
    const pid_t pids[] = { s->owner.pid, s->coming.pid, s->leaving.pid };
    int status;

    for (size_t i = 0; i < sizeof pids / sizeof pids[0]; i++) {
        if (pids[i] > 0 && waitpid(pids[i], &status, WNOHANG) == pids[i]) {
            on_end(s, pids[i], status);
            return !s->in_worker;
        }
    }
    return false;
}

static void reap(struct supervisor *s)
{
    while (reap_one(s))
        continue;
    if (!s->in_worker)
        s->job->child_ended(s->job->arg);
}

/* -- signals and times ------------------------------------------------------------------------------------------------------------- */

static void stop_by(struct supervisor *s, int signo)
{
    if (!s->stopping)
        s->job->stopping(s->job->arg);
    s->stopping = true;
    s->start_ns = NEVER;
    tell(&s->owner, signo);
    tell(&s->coming, signo);
    tell(&s->leaving, signo);
}

static void on_signal(struct supervisor *s, int signo)
{
    switch (signo) {
    case SIGTERM:
    case SIGINT:
        stop_by(s, signo);
        break;
    case SIGHUP:
        s->job->reloading(s->job->arg);
        tell(&s->owner, SIGHUP);
        break;
    case SIGUSR2:
        begin_generation(s, PLAN_UPGRADE);
        break;
    case SIGCHLD:
        reap(s);
        break;
    }
}

/* A worker whose loops do not turn: it says what it does (crash.h), and if it cannot even do that, it goes without. The next time. */
static int64_t check_hang(const struct supervisor *s, struct supervised_worker *w)
{
    if (w->pid == 0 || !w->ready || s->job->hang_ns == 0 || w->hangs == 2)
        return NEVER;
    int64_t deadline = w->heard_ns + s->job->hang_ns + (w->hangs == 1 ? ABORT_NS : 0), now = clock_mono_ns();
    if (now < deadline)
        return deadline;
    w->hangs++;
    log_event(LOG_ERROR, "worker-hangs", LOG_I64("pid", w->pid), LOG_I64("silent-ms", (now - w->heard_ns) / NS_PER_MS));
    tell(w, w->hangs == 1 ? SIGABRT : SIGKILL);
    return w->hangs == 1 ? now + ABORT_NS : NEVER;
}

/* One that does not come to say that it is prepared shall not keep others from coming. The next time. */
static int64_t check_prepared(const struct supervisor *s)
{
    if (s->coming.pid == 0 || s->coming.ready)
        return NEVER;
    int64_t deadline = s->coming.started_ns + PREPARE_NS;
    if (clock_mono_ns() < deadline)
        return deadline;
    tell(&s->coming, SIGKILL);
    return NEVER;
}

static int64_t next_time(struct supervisor *s)
{
    int64_t owner = check_hang(s, &s->owner), leaving = check_hang(s, &s->leaving), coming = check_prepared(s);
    int64_t next = owner < leaving ? owner : leaving;
    next = coming < next ? coming : next;
    return s->start_ns < next ? s->start_ns : next;
}

/* We were stopped ourselves, with the workers perhaps (a backup does that, and whoever suspends a machine): their silence says nothing. */
static void forgive(struct supervisor *s)
{
    s->owner.heard_ns = s->leaving.heard_ns = clock_mono_ns();
}

static void turn(struct supervisor *s)
{
    const int fds[] = { s->signals, s->owner.silent ? -1 : s->owner.link, s->coming.silent ? -1 : s->coming.link,
                        s->leaving.silent ? -1 : s->leaving.link };
    int64_t deadline = next_time(s);

    link_wait(fds, sizeof fds / sizeof fds[0], deadline);
    if (deadline != NEVER && clock_mono_ns() > deadline + OVERSLEPT_NS)
        forgive(s);
    for (int signo; !s->in_worker && (signo = link_signal(s->signals)) != 0;)
        on_signal(s, signo);
    for (size_t i = 1; i < sizeof fds / sizeof fds[0]; i++)
        listen_to(s, fds[i]);
    if (!s->in_worker && s->start_ns <= clock_mono_ns() && !s->stopping && !s->ended)
        start_owner(s);
    if (!s->in_worker)
        begin_wanted(s);
}

static bool is_over(const struct supervisor *s)
{
    bool alone = s->owner.pid == 0 && s->coming.pid == 0 && s->leaving.pid == 0;
    return s->in_worker || (alone && (s->stopping || s->ended));
}

/* Not told to stop, but the one that has the say has ended for good. */
static void end_others(struct supervisor *s)
{
    if (s->ended && !s->stopping && !s->in_worker)
        stop_by(s, SIGTERM);
}

static int run(struct supervisor *s, const struct supervised_worker *owner, const struct supervised_worker *leaving)
{
    sigset_t set;

    signals_of(&set);
    s->signals = link_signals(&set);
    if (s->signals < 0)
        return EX_OSERR;
    if (owner != NULL) {
        s->owner = *owner;
        if (leaving != NULL)
            s->leaving = *leaving;
        s->owner.ready = s->leaving.ready = s->served = true;
        s->owner.heard_ns = s->leaving.heard_ns = s->owner.started_ns = s->leaving.started_ns = clock_mono_ns();
        reap(s);                                 /* who ended while nobody listened */
    } else {
        start_owner(s);
    }
    while (!is_over(s)) {
        turn(s);
        end_others(s);
    }
    if (!s->in_worker)
        link_close(s->signals);
    return s->code;
}

int supervisor_run(const struct supervised *job, const struct supervised_worker *owner, const struct supervised_worker *leaving)
{
    static struct supervisor s;                  /* one in a process; on the stack gcc's -fanalyzer takes its zeros for nothing */

    s.job = job;
    s.owner.link = s.coming.link = s.leaving.link = -1;
    s.start_ns = NEVER;
    return run(&s, owner, leaving);
}
