/*
 * What a worker and its supervisor say to each other: the worker by a pipe, a message of a few bytes each; the supervisor by signals.
 *
 * The supervisor has no loop: it waits here for its signals and all its pipes. Nothing here awaits.
 */
#ifndef RUN_LINK_H
#define RUN_LINK_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

enum link_word {
    LINK_PREPARED = 1,                   /* nothing more can fail but the queue: it waits to be told to take over */
    LINK_READY,                          /* it serves; again after each reload */
    LINK_BEAT,                           /* all its loops turn */
    LINK_LET_GO,                         /* the queue is free */
    LINK_KEPT,                           /* it could not be let go of */
    LINK_GENERATION,                     /* a reload asks for what only another worker can have */
    LINK_UPGRADE,                        /* an operator asks for one of the program as it is on the disk now */
    LINK_CRASHED,                        /* about: the message that was being delivered; sent by a process that is broken */
    LINK_FORBIDDEN,                      /* about: the system call that its sandbox ends it for; likewise */
};

struct link_message {
    uint64_t       about;
    enum link_word word;
};

int  link_new(int out[2]);                                   /* the supervisor's end, the worker's end; neither blocks */
void link_say(int fd, enum link_word word, uint64_t about);  /* whether it is heard or not; negative fds are ignored. Safe in a signal handler */
bool link_hear(int fd, struct link_message *out);            /* false: nothing, or nothing more */
bool link_is_over(int fd);                                   /* nothing more: whoever spoke has ended, or is about to */

int  link_signals(const sigset_t *set);                      /* a descriptor for signals that are blocked; negative errno */
int  link_signal(int fd);                                    /* the next one, 0: none */
void link_wait(const int *fds, unsigned count, int64_t deadline_ns);   /* until one of them has something; BLOCKS. Negative fds are ignored */
void link_close(int fd);

#endif
