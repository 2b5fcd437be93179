/*
 * The directories of a Maildir: opening them, and making them so that they last.
 *
 * All of it BLOCKS: it runs on helper threads.
 */
#ifndef OUTBOUND_MAILDIR_H
#define OUTBOUND_MAILDIR_H

#include <stdbool.h>
#include <stddef.h>

struct maildir_path {
    const char *path;
    size_t      base; /* length of its part that the operator wrote: links in it are followed, beneath it they are not */
};

/* A handle of the Maildir. -ENOENT: it is not there, or not whole. */
int maildir_open(const struct maildir_path *p);

/* The operator's part of the path, made if it is not there. */
int maildir_make_base(const struct maildir_path *p);

/* Makes what is missing of it; with `parents`, also the Maildir itself and what is above it. 0: all of it is durable. At most one call at a
 * time. *out_absent: the Maildir is not there and was not to be made. */
int maildir_make(const struct maildir_path *p, bool parents, bool *out_absent);

/* A subdirectory of a Maildir that was whole; if somebody tidied it away, it is made again. */
int maildir_open_sub(int maildir, const char *name);

#endif
