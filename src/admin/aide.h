/*
 * Aides: processes that the supervisor starts before the worker, which serve it (the keeper, lookup), and starts again when they end.
 *
 * An aide answers at a door (run/line.h) that the supervisor has made and keeps: so a worker that follows another one finds the same
 * aide, and an aide that follows another one the same worker. It has none of the supervisor's descriptors but its side of the door,
 * its leash (run/leash.h), and those that it is given. Runs in the supervisor.
 */
#ifndef ADMIN_AIDE_H
#define ADMIN_AIDE_H

#include "conf/conf.h"
#include <stdint.h>
#include <sys/types.h>

struct aide {
    const char *name;                    /* of the process too: at most 15 bytes */
    /* The aide: what it returns is its process's exit code. leash: it says ready on it, and ends when that is let go. crashes: of those before. */
    int       (*work)(void *arg, int door, int leash, unsigned crashes);
    void       *arg;
    int         other_door;              /* an end of another one, that it is given too: owned; -1: none */

    int         door, callers;           /* the two ends of its own: owned */
    int         leash;                   /* the supervisor's end; owned */
    pid_t       pid;                     /* 0: none */
    unsigned    crashes, in_a_row;
    int64_t     started_ns;              /* 0: never */
};

/* Makes its door, so that others can be given an end of it. False: there are no descriptors. */
bool aide_make_door(struct aide *a);

/* BLOCKS until it is ready: 0. -1: *out_code is the exit code to end with; it has been said why. */
int  aide_start(struct aide *a, int *out_code);

/* An aide of the program that we were: another one of ours follows it at the same door. BLOCKS until it has ended. */
void aide_again(struct aide *a);

/* Starts it again if it has ended: after SIGCHLD. */
void aide_look(struct aide *a);

/* BLOCKS until it has ended. Nothing if it was not started, or left. */
void aide_stop(struct aide *a);

/* In another process than the supervisor: closes what is the supervisor's and the aide's. The callers' end stays. */
void aide_leave(struct aide *a);

/* For the aides: the file as it is now. On an error the first line of what is wrong: the worker reads the same file, and says all of it. */
int  aide_load_conf(const char *path, struct conf **out, char error[256]);

#endif
