/*
 * The directories of a Maildir: opening them, and making them so that they last.
 *
 * All of it BLOCKS: it runs on helper threads.
 */
#ifndef OUTBOUND_MAILDIR_H
#define OUTBOUND_MAILDIR_H

#include "base/map.h"

/* Directories that we made and whose name could not be synced: a later sync proves nothing about them (the kernel may have forgotten what
 * it should have saved), so they are named once more before they are trusted. */
struct maildir_doubts {
    struct map_str paths; /* keys owned */
};
void maildir_doubts_init(struct maildir_doubts *d);
void maildir_doubts_free(struct maildir_doubts *d);

struct maildir_path {
    const char *path;
    size_t      base; /* length of its part that the operator wrote: links in it are followed, beneath it they are not */
};

/* A handle of the Maildir. -ENOENT: it is not there, or not whole. */
int maildir_open(const struct maildir_path *p);

/* Makes what is missing of it; with `parents`, also the Maildir itself and what is above it. 0: all of it is durable. At most one call at a
 * time with the same doubts, and nobody has delivered to that Maildir before. *out_absent: the Maildir is not there and was not to be made. */
int maildir_make(struct maildir_doubts *d, const struct maildir_path *p, bool parents, bool *out_absent);

/* A subdirectory that was there and is gone, because somebody tidied up, is made again. */
int maildir_open_sub(int maildir, const char *name);

#endif
