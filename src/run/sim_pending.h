/*
 * What is on stable storage at one point of a history, and what is pending: done, but not yet made durable by a sync.
 *
 * The rules, those of a careful file system that does no favours:
 *
 *  - A sector of 512 bytes holds what it held at its last sync, or what any write since then made of it; each sector for
 *    itself, so writes come in any order and torn. A sync covers the writes before it began.
 *  - Size and reservation are at any one of their states since the last sync, whatever the sectors do; what they uncover
 *    and no sector filled is zeros. A truncation comes whole: with it no older sector behind its cut returns, without it
 *    nothing newer of the file.
 *  - Syncing a file says nothing of its name. Changes of names become durable by syncing their directory, and come in their
 *    order in each directory, while those of two directories are independent. A rename between two comes in both or in none;
 *    it is made durable by syncing the directory to which it goes (and by syncing the other only if a later change of the same
 *    name there needs it).
 *  - A failed sync forgets what it should have saved: no later sync makes it durable unless the sector or name is written anew, yet by
 *    chance it may be there after the crash.
 */
#ifndef RUN_SIM_PENDING_H
#define RUN_SIM_PENDING_H

#include "run/sim_history.h"

struct pending {
    struct sim_disk       *durable;  /* owned */
    uint64_t               epoch;    /* grows when durable changes: with what is kept, it tells images apart */
    struct pending_file  **files;    /* owned; by ino */
    size_t                 file_count, file_capacity;
    struct pending_change *changes;  /* of names; owned; in the order of the history */
    size_t                 change_count, change_capacity;
};

void pending_init(struct pending *p, const struct sim_disk *base);
void pending_free(struct pending *p);

void pending_names(struct pending *p, uint64_t op, const struct history_change *changes, unsigned count);

/* State of a file after an operation on it: `count` sectors from `first`, as they are now (data is borrowed for the life of p). */
struct pending_write {
    uint32_t             ino;
    bool                 cut;        /* a truncation to size */
    uint64_t             first, count;
    const unsigned char *data;
    uint64_t             size, reserved;
    int64_t              mtime_ns;
};
void pending_write(struct pending *p, uint64_t op, const struct pending_write *w);

void pending_sync(struct pending *p, uint64_t op, uint32_t ino, uint64_t began, bool failed);

/* A copy of what is durable, and of what is pending as much as seed says: 0 nothing, 1 everything, else by chance. */
struct sim_disk *pending_crash(const struct pending *p, uint64_t seed, uint64_t chance, uint64_t *out_survivors);

#endif
