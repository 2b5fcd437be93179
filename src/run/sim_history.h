/*
 * The history of a simulated disk: its numbered operations, and the images that a power cut could leave behind.
 *
 * sim_disk.c performs an operation on the live image and adds it here; nothing here fails or decides about errors.
 */
#ifndef RUN_SIM_HISTORY_H
#define RUN_SIM_HISTORY_H

#include "run/sim_image.h"

/* base: what is on stable storage at the start; copied. Without `keeps`, operations are only counted, and there are no images. */
struct sim_history *history_new(const struct sim_disk *base, bool keeps);
struct sim_history *history_ref(struct sim_history *h);                    /* sim_history_free takes one away */

/* A name (of a directory) comes to stand for an inode, or for nothing (0). */
struct history_change {
    uint32_t    dir;
    const char *name;                /* image_name() */
    uint32_t    ino;
};
/* CREATE, MKDIR, LINK, UNLINK: one change; RENAME: the name that goes, then the one that comes. */
void history_add_names(struct sim_history *h, enum sim_op op, const struct history_change *changes, unsigned count);
/* WRITE, TRUNCATE, ALLOCATE, after they were done to the live image: n bytes at offset are as they stand there, and so are size
 * and reservation. For TRUNCATE, n and offset are nothing and cut is true. */
void history_add_write(struct sim_history *h, enum sim_op op, const struct sim_disk *live, uint32_t ino, uint64_t offset, size_t n,
                       bool cut);
/* SYNC, DATASYNC, at their end: they cover the operations before `began`. */
void history_add_sync(struct sim_history *h, enum sim_op op, uint32_t ino, uint64_t began, bool failed);
/* An operation that failed and changed nothing. */
void history_add_failed(struct sim_history *h, enum sim_op op);
/* A bit turned on the medium itself: no sync is needed for it to stay. Counts as a WRITE. */
void history_add_flip(struct sim_history *h, uint32_t ino, uint64_t offset, unsigned bit);

#endif
