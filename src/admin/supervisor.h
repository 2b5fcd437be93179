/*
 * The supervisor: starts a worker by fork, hands signals on to it, and starts another one when it crashes.
 *
 * What the supervisor has opened before (listening sockets, the lock on the data directory) the worker has too, and it stays open when
 * the worker ends. The supervisor has one thread, and touches no mail. docs/processes.md tells the whole.
 */
#ifndef ADMIN_SUPERVISOR_H
#define ADMIN_SUPERVISOR_H

#include <stdint.h>

struct supervised {
    /* The worker: in a process of its own. What it returns is that process's exit code. crashes: of those before it. */
    int  (*work)(void *arg, unsigned crashes);
    /* In the supervisor, when it is told to stop and before the worker hears of it. */
    void (*stopping)(void *arg);
    /* In the supervisor, when a child may have ended that is not the worker. */
    void (*child_ended)(void *arg);
    void  *arg;
};

/* SIGTERM, SIGINT and SIGHUP wait from here on, in this process and in those that it forks, until somebody asks for them. */
void supervisor_begin(void);

/* Sleeps. The signal that came meanwhile (SIGTERM, SIGINT; SIGHUP is let go), or 0. */
int  supervisor_sleep(int64_t ns);

/*
 * Runs workers until one ends by itself, or was told to; the exit code. Returns in the worker too, with what work() returned: the caller
 * then does the same in both.
 *
 * A worker that ends with an exit code has said why, and so the server ends. One that was ended by a signal has crashed: another one
 * starts, at once the first time, after a growing pause when it goes on. Ends with EX_SOFTWARE if a worker crashes while it stops.
 */
int  supervisor_run(const struct supervised *s);

#endif
