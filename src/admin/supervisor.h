/*
 * The supervisor: starts a worker by fork, hands signals on to it, starts another one when it crashes or hangs, and lets one follow
 * another without a gap when an operator asks for it.
 *
 * What the supervisor has opened before (listening sockets, the lock on the data directory) the worker has too, and it stays open when
 * the worker ends. The supervisor has one thread, and touches no mail. docs/processes.md tells the whole.
 */
#ifndef ADMIN_SUPERVISOR_H
#define ADMIN_SUPERVISOR_H

#include "run/link.h"
#include <stddef.h>
#include <sys/types.h>

#define SUPERVISOR_SUSPECTS 16

/* What the supervisor tells a worker, by signals: */
#define SUPERVISOR_HAND_OVER  SIGUSR1    /* to the owner of the queue: let go of it */
#define SUPERVISOR_TAKE       SIGUSR1    /* to one that waits: it is yours */
#define SUPERVISOR_DRAIN      SIGUSR2    /* to one that has let go: take no more sessions, and end when yours have */
#define SUPERVISOR_TAKE_LEFT  SIGUSR2    /* to the owner: the one that drained has ended */

/* Messages during whose delivery workers crashed. */
struct suspects {
    struct {
        uint64_t id;
        unsigned crashes;
    } list[SUPERVISOR_SUSPECTS];
    unsigned next;                       /* which one gives way */
};

/* How a worker starts. */
struct worker_start {
    unsigned               crashes;      /* of those before it */
    bool                   prepared;     /* of a new generation: it prepares, says so, and waits for SUPERVISOR_TAKE */
    bool                   beside;       /* another one drains */
    bool                   upgrade;      /* prepared, and of the program as it is on the disk now */
    int                    link;         /* its voice */
    const struct suspects *suspects;
};

struct supervised_worker {
    pid_t   pid;                         /* 0: none */
    int     link;                        /* owned; its words */
    int64_t started_ns, heard_ns;
    int     hangs;                       /* 1: it was told to report on itself, 2: it was killed */
    bool    silent;                      /* it has closed its end: only its end is to come */
    bool    ready;                       /* it serves; of one that waits for the queue: it is prepared */
};

struct supervised {
    /* The worker: in a process of its own. What it returns is that process's exit code. */
    int  (*work)(void *arg, const struct worker_start *how);
    /* In the supervisor, before a worker of another generation starts: reads the configuration, and takes its sockets. False: there will
     * be none, and it has said why. */
    bool (*prepare)(void *arg);
    /* What prepare has put in place stays (taken), or goes. */
    void (*settle)(void *arg, bool taken);
    /* A worker of the program on the disk serves: become its supervisor. Returns if that cannot be. */
    void (*become)(void *arg, const struct supervised_worker *owner, const struct supervised_worker *leaving);
    /* How things stand, for whoever started us. */
    void (*ready)(void *arg);
    void (*reloading)(void *arg);
    void (*beat)(void *arg);
    /* When it is told to stop and before the worker hears of it. */
    void (*stopping)(void *arg);
    /* When a child may have ended that is no worker. */
    void (*child_ended)(void *arg);
    int64_t hang_ns;                     /* silence of a worker after which it is ended; 0: for ever */
    void  *arg;
};

/* What a worker crashes on so often is held. */
#define SUPERVISOR_CRASHES_MAX 3

/* Its signals wait from here on, in this process and in those that it forks, until somebody asks for them. */
void supervisor_begin(void);

/* Sleeps. The signal that came meanwhile (SIGTERM, SIGINT; SIGHUP is let go), or 0. */
int  supervisor_sleep(int64_t ns);

/*
 * Runs workers until one ends by itself, or was told to; the exit code. Returns in the worker too, with what work() returned: the caller
 * then does the same in both. owner and leaving: workers that are there already; NULL: none.
 *
 * A first worker that ends with an exit code before it was ready has said why, and so the server ends; so it does when one ends with 0. One
 * that was ended by a signal has crashed: another one starts, at once the first time, after a growing pause when it goes on; likewise when a later
 * one fails its start. Ends with EX_SOFTWARE if a worker crashes while it stops.
 */
int  supervisor_run(const struct supervised *s, const struct supervised_worker *owner, const struct supervised_worker *leaving);

#endif
